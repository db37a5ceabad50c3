//! What is read, from where on, and in which form.

use std::sync::Arc;

use pointsman_schemas::{Clock, Event, SystemClock};

use super::super::wire::SYSTEM;
use super::*;
use crate::cdc::reader::BATCH_MESSAGES_MAX;
use crate::suite::{SourceFixture, sources};

struct Fixture {
    shop: Shop<'static>,
    added: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "mysql-cdc";

    fn settings(&self) -> Value {
        self.shop.settings(json!({ "snapshot": "never" }))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let ids = self.added..self.added + count;
        self.added += count;
        self.shop.add(ids.clone());
        let name = &self.shop.name;
        ids.map(|id| format!("{name}.orders/{id}")).collect()
    }

    fn identity(&self, event: &Event) -> String {
        event.subject().unwrap().to_owned()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.shop.settings(more);
        vec![
            (with(json!({ "url": "h/shop" })), "url"),
            (with(json!({ "url": "mysql://u@h/a/b" })), "url"),
            (with(json!({ "url": "mysql://u:hunter2@h/shop" })), "url"),
            (with(json!({ "url": "mysql://h/shop" })), "username"),
            (with(json!({ "tls": { "key": "k" } })), "tls.key"),
            (
                with(json!({ "url": "mysql://u@h/shop?ssl-mode=disabled", "tls": {} })),
                "tls",
            ),
            (with(json!({ "tables": [] })), "tables"),
            (with(json!({ "tables": ["shop."] })), "tables"),
            (with(json!({ "tables": ["[a"] })), "tables"),
            (with(json!({ "url": "mysql://u@h" })), "tables"),
            (with(json!({ "server_id": 0 })), "server_id"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let shop = Shop::new(server().await);
    // The suite's first position is the one that is stored before anything is.
    let mut fixture = Fixture { shop, added: 0 };
    sources(&mut fixture).await;
}

/// A column of each type, with a value, and what becomes of it.
fn types(is_mysql: bool) -> Vec<(&'static str, &'static str, Value)> {
    let mut all = vec![
        ("tiny tinyint", "-128", json!(-128)),
        ("tiny_u tinyint unsigned", "255", json!(255)),
        ("small_u smallint unsigned", "65535", json!(65535)),
        ("medium mediumint", "-8388608", json!(-8_388_608)),
        ("big bigint", "-9223372036854775808", json!(i64::MIN)),
        (
            "big_u bigint unsigned",
            "18446744073709551615",
            json!(u64::MAX),
        ),
        ("real4 float", "0.1", json!(0.1)),
        ("real8 double", "1e-5", json!(1e-5)),
        (
            "total decimal(30,4)",
            "-12345678901234567890.5",
            Value::Null,
        ),
        ("bits bit(10)", "b'1010101010'", json!(682)),
        ("made year", "2026", json!(2026)),
        ("day date", "'2026-01-02'", json!("2026-01-02")),
        ("took time(2)", "'-100:20:30.45'", json!("-100:20:30.45")),
        (
            "at datetime(3)",
            "'2026-01-02 03:04:05.678'",
            json!("2026-01-02T03:04:05.678"),
        ),
        (
            "never datetime",
            "'0000-00-00'",
            json!("0000-00-00 00:00:00"),
        ),
        (
            "seen timestamp(6) NULL",
            "'2026-01-02 03:04:05.000678'",
            json!("2026-01-02T03:04:05.000678Z"),
        ),
        (
            "name varchar(300) CHARACTER SET latin1",
            "'caf\u{e9}'",
            json!("caf\u{e9}"),
        ),
        ("code char(4)", "'ab'", json!("ab")),
        (
            "letter text",
            "'\u{1f600} \"q\" \\\\ \\n'",
            json!("\u{1f600} \"q\" \\ \n"),
        ),
        ("raw binary(4)", "x'ff00'", json!("/wAAAA==")),
        ("file blob", "x'deadbeef'", json!("3q2+7w==")),
        ("mood enum('sad','it''s')", "'it''s'", json!("it's")),
        ("tags set('a','b','c')", "'c,a'", json!(["a", "c"])),
        (
            "doc json",
            "'{\"a\": [1, 2.50, \"x\", null, true], \"b\": {}}'",
            json!({ "a": [1, 2.5, "x", null, true], "b": {} }),
        ),
        (
            "place point",
            "ST_GeomFromText('POINT(1 2)')",
            json!("AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA=="),
        ),
        ("nothing int", "NULL", Value::Null),
    ];
    if !is_mysql {
        let id = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        all.push((
            "own uuid",
            "'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'",
            json!(id),
        ));
        all.push(("host inet6", "'2001:db8::ff00'", json!("2001:db8::ff00")));
    }
    all
}

#[tokio::test]
async fn values_are_the_same_in_the_snapshot_and_in_the_log() {
    let shop = Shop::new(server().await);
    let types = types(shop.server.is_mysql());
    let column = |(column, ..): &(&str, &str, Value)| (*column).to_owned();
    let columns: Vec<_> = types.iter().map(column).collect();
    let values: Vec<_> = types.iter().map(|(_, value, _)| *value).collect();
    let values = values.join(", ");
    shop.run(&format!(
        "CREATE TABLE things (id int PRIMARY KEY, {})",
        columns.join(", ")
    ));
    let add = |id: usize| {
        shop.run(&format!(
            "SET sql_mode = ''; INSERT INTO things VALUES ({id}, {values})"
        ));
    };
    add(1);
    let settings = shop.settings(json!({ "tables": ["things"] }));
    let mut stored = Stored::default();
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let read = take(&mut *source, &mut stored, 1).await.remove(0);
    assert_eq!(read.ty(), "com.pointsman.mysql.row.read");
    assert_eq!(read.source(), "/mysql/suite");
    assert_eq!(read.subject(), Some(&*format!("{}.things/1", shop.name)));
    batch(&mut *source, &mut stored).await;
    add(2);
    let inserted = take(&mut *source, &mut stored, 1).await.remove(0);
    for event in [&read, &inserted] {
        let raw = String::from_utf8(event.data().unwrap().bytes().to_vec()).unwrap();
        assert!(
            raw.contains("\"total\":-12345678901234567890.5000,"),
            "{raw}"
        );
    }
    let (read, inserted) = (
        data(&read)["after"].clone(),
        data(&inserted)["after"].clone(),
    );
    for (column, _, expect) in &types {
        let name = column.split(' ').next().unwrap();
        assert_eq!(inserted[name], read[name], "{column}");
        if *expect != Value::Null {
            assert_eq!(inserted[name], *expect, "{column}");
        }
    }
    assert_eq!(inserted["nothing"], Value::Null);
    assert_eq!(inserted.as_object().unwrap().len(), types.len() + 1);
}

#[tokio::test]
async fn changes_say_what_was_and_what_is() {
    let shop = Shop::new(server().await);
    shop.run(
        "CREATE TABLE `Odd name` (id bigint, part varchar(9), paid boolean, PRIMARY KEY (id, part)); \
         CREATE TABLE other (id int); \
         INSERT INTO `Odd name` VALUES (1, 'a/b', true)",
    );
    let settings = shop.settings(json!({ "tables": ["Odd*"] }));
    let mut stored = Stored::default();
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    take(&mut *source, &mut stored, 1).await;
    batch(&mut *source, &mut stored).await;
    shop.run("UPDATE `Odd name` SET paid = NULL");
    shop.run(
        "START TRANSACTION; UPDATE `Odd name` SET id = 2; INSERT INTO other VALUES (7); \
         SAVEPOINT s; INSERT INTO `Odd name` VALUES (9, '', 0); ROLLBACK TO s; \
         INSERT INTO `Odd name` (id, part) VALUES (3, ''); COMMIT",
    );
    shop.run("ALTER TABLE `Odd name` RENAME COLUMN paid TO is_paid, ADD more int FIRST");
    shop.run("UPDATE `Odd name` SET more = 5 WHERE id = 2");
    shop.run("DELETE FROM `Odd name` WHERE id = 2");
    shop.run("TRUNCATE `Odd name`");
    let changes = take(&mut *source, &mut stored, 6).await;
    let kinds = changes.iter().map(|change| {
        let subject = change.subject().unwrap().strip_prefix(&shop.name).unwrap();
        (change.ty().rsplit('.').next().unwrap(), subject)
    });
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [
            ("updated", ".Odd name/1,a%2Fb"),
            ("updated", ".Odd name/2,a%2Fb"),
            ("inserted", ".Odd name/3,"),
            ("updated", ".Odd name/2,a%2Fb"),
            ("deleted", ".Odd name/2,a%2Fb"),
            ("truncated", ".Odd name"),
        ]
    );
    let all: Vec<_> = changes.iter().map(|change| data(change)).collect();
    assert_eq!(
        all[0]["before"],
        json!({ "id": 1, "part": "a/b", "paid": 1 })
    );
    assert_eq!(
        all[0]["after"],
        json!({ "id": 1, "part": "a/b", "paid": null })
    );
    assert_eq!(
        (&all[0]["database"], &all[0]["table"]),
        (&json!(shop.name), &json!("Odd name"))
    );
    for name in ["gtid", "transaction", "log"] {
        assert!(all[0][name].is_string(), "{name}");
        assert_eq!(all[1][name], all[2][name], "one transaction");
        assert_ne!(all[0][name], all[1][name]);
    }
    assert_eq!(changes[1].time(), changes[2].time());
    let [first, second] = [1, 2].map(|index: usize| changes[index].id().to_owned());
    // What was undone is not there, and what another table has in between is counted.
    assert!(
        first.ends_with("-1") && second.ends_with("-3"),
        "{first} {second}"
    );
    let changed = json!({ "more": 5, "id": 2, "part": "a/b", "is_paid": null });
    assert_eq!(all[3]["after"], changed);
    assert_eq!(
        (&all[4]["before"], &all[4]["after"]),
        (&changed, &Value::Null)
    );
    assert_eq!(
        (&all[5]["op"], &all[5]["after"]),
        (&json!("t"), &Value::Null)
    );
}

#[tokio::test]
async fn what_is_read_in_part_goes_on_where_it_was() {
    let shop = Shop::new(server().await);
    shop.add(0..600);
    let settings = shop.settings(json!({}));
    let mut stored = Stored::default();
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let (begun, _) = events(batch(&mut *source, &mut stored).await);
    assert!(!begun.is_empty() && begun.len() < 600);
    drop(source);
    shop.add(600..601);
    shop.run("UPDATE orders SET note = 'changed' WHERE id = 0");
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let read = take(&mut *source, &mut stored, 601).await;
    let mut found = told(&read);
    found.sort_unstable();
    let of = |kind: &str, ids: std::ops::Range<u64>| {
        ids.map(|id| (kind.to_owned(), id)).collect::<Vec<_>>()
    };
    assert_eq!(
        found,
        of("read", 0..601),
        "all of it anew, and no change that is in it"
    );
    batch(&mut *source, &mut stored).await;

    // A transaction that is longer than a batch.
    shop.add(1000..1900);
    let mut first = Vec::new();
    while first.is_empty() {
        (first, _) = events(batch(&mut *source, &mut stored).await);
    }
    let (unstored, _) = events(next_within(&mut *source, LONG).await.unwrap().unwrap());
    drop(source);
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let rest = take(&mut *source, &mut stored, 900 - first.len()).await;
    assert_eq!(
        told(&first),
        of("inserted", 1000..1000 + first.len() as u64)
    );
    assert_eq!(told(&rest), of("inserted", 1000 + first.len() as u64..1900));
    for (unstored, again) in unstored.iter().zip(&rest) {
        assert_eq!(unstored.id(), again.id(), "with the ids that they had");
    }
    drop(source);

    shop.add(2000..2001);
    let (mut source, link) = open(&settings, &stored).await.unwrap();
    let next = take(&mut *source, &mut stored, 1).await;
    assert_eq!(
        told(&next),
        of("inserted", 2000..2001),
        "and no snapshot any more"
    );
    let until = Instant::now() + LONG;
    while link.status().lag.is_none() {
        assert!(Instant::now() < until, "nobody says how far behind it is");
        sleep(Duration::from_millis(50)).await;
    }
}

/// MySQL alone can be without them.
#[tokio::test]
async fn without_gtids_the_position_is_a_place_in_a_file() {
    if !MysqlServer::has_mysql() {
        println!("there is no MySQL (POINTSMAN_MYSQL): nothing is tried");
        return;
    }
    let options = ["--binlog-row-metadata=FULL", "--gtid-mode=OFF"];
    let mut server = MysqlServer::start(&options).await;
    let shop = Shop::new(&server);
    shop.add(0..300);
    let (settings, name) = (shop.settings(json!({})), shop.name.clone());
    let probed = probed(&settings).await;
    assert!(probed.contains("without GTIDs"), "{probed}");
    let mut stored = Stored::default();
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let read = take(&mut *source, &mut stored, 300).await;
    assert_eq!(read[0].ty(), "com.pointsman.mysql.row.read");
    batch(&mut *source, &mut stored).await;

    // Longer than a batch, and broken off in the middle.
    shop.add(1000..1600);
    let mut first = Vec::new();
    while first.is_empty() {
        (first, _) = events(batch(&mut *source, &mut stored).await);
    }
    assert!(first.len() < 600);
    assert_eq!(data(&first[0]).get("gtid"), None);
    drop(source);
    server.restart().await;
    server.ask(&name, "INSERT INTO orders VALUES (2000, 'n')");
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let rest = take(&mut *source, &mut stored, 601 - first.len()).await;
    let found = told(&[first, rest].concat());
    let expect = (1000..1600)
        .chain([2000])
        .map(|id| ("inserted".to_owned(), id));
    assert_eq!(found, expect.collect::<Vec<_>>());
    drop(source);

    // Of another server the place says nothing.
    let other = MysqlServer::start(&options).await;
    let url = format!("mysql://root@127.0.0.1:{}/mysql", other.port());
    other.ask(
        "",
        &format!("CREATE DATABASE {name}; CREATE TABLE {name}.orders (id int)"),
    );
    let tables = json!([format!("{name}.orders")]);
    let elsewhere = with(settings, json!({ "url": url, "tables": tables }));
    let ended = ended(&elsewhere, &stored).await;
    assert!(
        matches!(&ended, SourceError::CursorMismatch(why) if why.contains("another server")),
        "{ended}"
    );
}

#[test]
fn the_settings_of_the_documentation() {
    for settings in [
        json!({ "url": "mysql://u@h/shop", "tables": ["orders"] }),
        json!({
            "url": { "env": "DATABASE_URL" },
            "username": "app",
            "password": "hunter2",
            "tables": ["shop.orders", "crm.customer_*"],
            "server_id": 4711,
            "snapshot": "never",
        }),
    ] {
        let source = source(&settings);
        assert_eq!(source.check(), [], "{settings}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}

#[test]
fn urls() {
    for (url, expect) in [
        ("mysql://h", Ok((3306, "", None))),
        (
            "mariadb://u@h:6/shop?ssl-mode=DISABLED",
            Ok((6, "shop", Some(false))),
        ),
        (
            "mysql://h/shop?ssl-mode=verify_identity",
            Ok((3306, "shop", Some(true))),
        ),
        (
            "mysql://h/shop?sslmode=require",
            Err("of the URL's parameters only ssl-mode="),
        ),
        ("postgres://h/shop", Err("the URL must begin with mysql://")),
    ] {
        let found = SYSTEM.parse(url);
        match (&found, expect) {
            (Ok((parts, is_secure)), Ok(expect)) => {
                assert_eq!(
                    (parts.host.port, parts.path.as_str(), *is_secure),
                    expect,
                    "{url}"
                );
            }
            (Err(error), Err(expect)) => assert!(error.starts_with(expect), "{url}: {error}"),
            _ => panic!("{url}: {found:?}"),
        }
    }
}
