//! What is read, from where on, and what is confirmed.

use std::sync::Arc;

use pointsman_schemas::{Clock, Event, SystemClock};

use super::super::wire::SYSTEM;
use super::*;
use crate::cdc::reader::BATCH_MESSAGES_MAX;
use crate::suite::{SourceFixture, sources};

struct Fixture {
    shop: Shop,
    added: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "postgres-cdc";

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
        ids.map(|id| format!("public.orders/{id}")).collect()
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
            (with(json!({ "url": "postgres://h" })), "url"),
            (with(json!({ "url": "postgres://u:hunter2@h/shop" })), "url"),
            (with(json!({ "url": "postgres://h/shop" })), "username"),
            (with(json!({ "tls": { "key": "k" } })), "tls.key"),
            (
                with(json!({ "url": "postgres://u@h/shop?sslmode=disable", "tls": {} })),
                "tls",
            ),
            (with(json!({ "tables": [] })), "tables"),
            (with(json!({ "tables": ["public."] })), "tables"),
            (
                with(json!({ "tables": ["orders", "public.orders"] })),
                "tables",
            ),
            (with(json!({ "slot": "My-Slot" })), "slot"),
            (with(json!({ "slot": "s".repeat(55) })), "slot"),
            (with(json!({ "publication": "o'clock" })), "publication"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let shop = Shop::new().await;
    shop.run("CREATE PUBLICATION s FOR TABLE orders");
    shop.run("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    let mut fixture = Fixture { shop, added: 0 };
    sources(&mut fixture).await;
}

#[tokio::test]
async fn changes_say_what_was_and_what_is() {
    let shop = Shop::new().await;
    shop.run(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN amount AS numeric; \
         CREATE TABLE \"Odd name\" (id bigint, part text, total amount, paid boolean, \
         at timestamptz, tags text[], moods mood[], doc jsonb, raw bytea, long text, \
         PRIMARY KEY (id, part)); ALTER TABLE \"Odd name\" ALTER long SET STORAGE EXTERNAL; \
         INSERT INTO \"Odd name\" VALUES (1, 'a/b', 12345678901234567890.10, true, \
         '2026-01-02 03:04:05.5+01', '{a,NULL}', '{sad}', '{\"a\": [1]}', '\\xff', \
         repeat('x', 9000))",
    );
    let settings = shop.settings(json!({ "tables": ["public.Odd name"] }));
    let mut stored = Stored::default();
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let read = take(&mut *source, &mut stored, 1).await.remove(0);
    assert_eq!(read.ty(), "com.pointsman.postgres.row.read");
    assert_eq!(read.source(), "/postgres/suite");
    assert_eq!(read.subject(), Some("public.Odd name/1,a%2Fb"));
    let raw = String::from_utf8(read.data().unwrap().bytes().to_vec()).unwrap();
    assert!(raw.contains("\"total\":12345678901234567890.10,"), "{raw}");
    let row = json!({
        "id": 1, "part": "a/b", "total": data(&read)["after"]["total"], "paid": true,
        "at": "2026-01-02T02:04:05.5Z", "tags": ["a", null], "moods": ["sad"],
        "doc": { "a": [1] }, "raw": "/w==", "long": "x".repeat(9000),
    });
    assert_eq!(data(&read)["after"], row);

    // The position behind the snapshot is told once all of it is.
    batch(&mut *source, &mut stored).await;
    let before_streaming = shop.run("SELECT txid_current()");
    shop.run("UPDATE \"Odd name\" SET paid = NULL");
    shop.run("UPDATE \"Odd name\" SET id = 2; INSERT INTO \"Odd name\" (id, part) VALUES (3, '')");
    shop.run("ALTER TABLE \"Odd name\" ADD more int[] DEFAULT '{{1,2}}'");
    shop.run("ALTER TABLE \"Odd name\" REPLICA IDENTITY FULL");
    shop.run("UPDATE \"Odd name\" SET paid = false WHERE id = 2");
    shop.run("DELETE FROM \"Odd name\" WHERE id = 2");
    shop.run("TRUNCATE \"Odd name\"");
    let changes = take(&mut *source, &mut stored, 6).await;
    let kinds: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change.ty().rsplit('.').next().unwrap(),
                change.subject().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("updated", "public.Odd name/1,a%2Fb"),
            ("updated", "public.Odd name/2,a%2Fb"),
            ("inserted", "public.Odd name/3,"),
            ("updated", "public.Odd name/2,a%2Fb"),
            ("deleted", "public.Odd name/2,a%2Fb"),
            ("truncated", "public.Odd name"),
        ]
    );
    let all: Vec<_> = changes.iter().map(|change| data(change)).collect();
    let mut without_long = with(row.clone(), json!({ "long": null }));
    without_long["paid"] = Value::Null;
    assert_eq!(all[0]["before"], Value::Null);
    assert_eq!(
        all[0]["after"], without_long,
        "what is not told is not null"
    );
    assert_eq!(all[0]["unchanged"], json!(["long"]));
    assert!(all[0]["transaction"].as_u64() > before_streaming.parse().ok());
    assert_eq!(all[1]["before"], json!({ "id": 1, "part": "a/b" }));
    for name in ["lsn", "transaction"] {
        assert_eq!(all[1][name], all[2][name], "one transaction");
        assert_ne!(all[0][name], all[1][name]);
    }
    assert_eq!(changes[1].time(), changes[2].time());
    let [first, second] = [1, 2].map(|index: usize| changes[index].id().to_owned());
    assert!(
        first.ends_with("-1") && second.ends_with("-2"),
        "{first} {second}"
    );
    // Old rows are told whole now, and so is what did not change.
    assert_eq!(all[3]["after"]["long"], row["long"]);
    assert_eq!(all[3]["after"]["more"], json!([[1, 2]]));
    assert_eq!(all[3]["before"]["paid"], Value::Null);
    assert_eq!(all[3].get("unchanged"), None);
    assert_eq!(all[4]["before"], all[3]["after"]);
    assert_eq!(
        (&all[4]["after"], &all[4]["op"]),
        (&Value::Null, &json!("d"))
    );
    assert_eq!(all[5]["op"], "t");
}

#[tokio::test]
async fn a_snapshot_that_is_broken_off_begins_again_and_changes_follow_it_once() {
    let shop = Shop::new().await;
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
    let expect: Vec<_> = (0..601).map(|id| ("read".to_owned(), id)).collect();
    assert_eq!(
        found, expect,
        "the whole of it as it is now, and no change that is in it"
    );
    batch(&mut *source, &mut stored).await;
    shop.add(601..602);
    let next = take(&mut *source, &mut stored, 1).await;
    assert_eq!(told(&next), [("inserted".to_owned(), 601)]);
    drop(source);
    shop.add(602..603);
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let next = take(&mut *source, &mut stored, 1).await;
    assert_eq!(
        told(&next),
        [("inserted".to_owned(), 602)],
        "and no snapshot any more"
    );
}

#[tokio::test]
async fn only_what_is_stored_is_confirmed_and_the_rest_comes_again_also_after_a_crash() {
    let mut shop = Shop::new().await;
    let settings = shop.settings(json!({ "snapshot": "never" }));
    let mut stored = Stored::default();
    let (mut source, link) = open(&settings, &stored).await.unwrap();
    batch(&mut *source, &mut stored).await;
    shop.add(0..600);
    let (first, acknowledgements) = events(batch(&mut *source, &mut stored).await);
    assert!(first.len() < 600, "in the middle of a transaction");
    for acknowledgement in acknowledgements {
        acknowledgement.send(Verdict::Stored).await;
    }
    // Handed over, and not stored.
    let second = next_within(&mut *source, LONG).await.unwrap().unwrap();
    let second = events(second).0;
    shop.0.kill();
    let ended = loop {
        if let Err(ended) = next_within(&mut *source, LONG).await.unwrap() {
            break ended;
        }
    };
    assert!(
        matches!(ended, crate::SourceError::Unavailable(_)),
        "{ended:?}"
    );
    drop(source);
    shop.0.restart().await;

    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let again = take(&mut *source, &mut stored, 600 - first.len()).await;
    let expect: Vec<_> = (first.len()..600)
        .map(|id| ("inserted".to_owned(), u64::try_from(id).unwrap()))
        .collect();
    assert_eq!(told(&again), expect, "what is stored does not come again");
    let ids = |events: &[Arc<Event>]| {
        events
            .iter()
            .map(|event| event.id().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(&again)[..second.len()],
        ids(&second),
        "with the ids that they had"
    );
    drop((source, link));

    let (mut source, link) = open(&settings, &stored).await.unwrap();
    shop.add(600..601);
    let held = batch(&mut *source, &mut stored).await;
    // What is written of other tables waits for what is not stored, and for no more.
    shop.run("CREATE TABLE other AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)");
    let none = next_within(&mut *source, Duration::from_secs(1)).await;
    assert!(none.is_none(), "{none:?}");
    assert!(shop.lag() > 1_000_000);
    for message in held.messages {
        message.acknowledgement.send(Verdict::Stored).await;
    }
    let until = Instant::now() + LONG;
    while shop.lag() > 100_000 {
        assert!(Instant::now() < until, "{} bytes are held back", shop.lag());
        sleep(Duration::from_millis(50)).await;
    }
    assert!(link.status().lag.is_some());
}

#[test]
fn the_settings_of_the_documentation() {
    for settings in [
        json!({ "url": "postgres://u@h/shop", "tables": ["orders"], "slot": "s" }),
        json!({
            "url": { "env": "DATABASE_URL" },
            "username": "app",
            "password": "hunter2",
            "tables": ["public.orders", "sales.Customers"],
            "slot": "pointsman_orders",
            "publication": "all_orders",
            "snapshot": "never",
            "failover": true,
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
        ("postgres://h/shop", Ok((5432, "shop", None))),
        (
            "postgresql://u@h:6/shop?sslmode=disable",
            Ok((6, "shop", Some(false))),
        ),
        (
            "postgres://h/shop?sslmode=require",
            Ok((5432, "shop", Some(true))),
        ),
        (
            "postgres://h/shop?sslmode=verify-full",
            Ok((5432, "shop", Some(true))),
        ),
        (
            "postgres://h/shop?sslmode=prefer",
            Err("of the URL's parameters only sslmode=disable, require and verify-full are known"),
        ),
        (
            "postgres://h",
            Err("the URL names no database: postgres://host/database"),
        ),
        ("mysql://h/shop", Err("the URL must begin with postgres://")),
        ("h/shop", Err("the URL cannot be read")),
    ] {
        let found = SYSTEM.parse(url);
        let found = found
            .as_ref()
            .map(|(parts, is_secure)| (parts.host.port, parts.path.as_str(), *is_secure));
        assert_eq!(found.map_err(String::as_str), expect, "{url}");
    }
}
