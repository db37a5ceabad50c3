//! What targets hold to.

use std::time::Duration;

use pointsman_schemas::{Class, Outcome};
use pointsman_test_brokers::{Fault, Proxy};
use serde_json::json;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{AttemptError, TargetService, TargetSettings};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// Settings of a target that writes orders.
fn orders(url: &str, more: Value) -> Value {
    let columns = json!({ "id": "<$.id>", "kind": "order", "of": "<$.type>" });
    settings(url, json!({ "table": "orders", "columns": columns }), more)
}

/// A database with a table, and a server that never answers.
struct Fixture {
    database: Database,
    silent: Silent,
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "postgres";

    fn settings(&self) -> Value {
        orders(&self.database.server.url(), json!({}))
    }

    async fn received(&self) -> Vec<Received> {
        let rows = "SELECT coalesce(json_agg(json_build_array(id, kind, of) ORDER BY n), '[]') FROM orders";
        let rows: Vec<[String; 3]> = serde_json::from_str(&self.database.run(rows)).unwrap();
        let received = |[id, kind, of]: [String; 3]| {
            assert_eq!(kind, "order");
            Received {
                id: id.split_once('-').unwrap().1.to_owned(),
                texts: vec![id, of],
                trace: None,
            }
        };
        rows.into_iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        let url = format!("postgres://u@{}/d", self.silent.address());
        Some(orders(&url, json!({})))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let of = |more: Value| orders("postgres://u@h/d", more);
        let conflict = |columns: Value, action: &str| {
            of(json!({ "on_conflict": { "columns": columns, "do": action } }))
        };
        vec![
            (of(json!({ "url": "http://h" })), "url"),
            (of(json!({ "url": "postgres://u:hunter2@h" })), "url"),
            (
                of(json!({ "url": "postgres://h?sslmode=verify-ca" })),
                "url",
            ),
            (
                of(json!({ "url": "postgres://h?sslmode=disable", "tls": {} })),
                "tls",
            ),
            (of(json!({ "tls": { "key": "k" } })), "tls.key"),
            (of(json!({ "table": "" })), "table"),
            (of(json!({ "table": ".orders" })), "table"),
            (of(json!({ "columns": {} })), "columns"),
            (of(json!({ "columns": { "": "a" } })), "columns"),
            (conflict(json!(["no"]), "nothing"), "on_conflict.columns"),
            (conflict(json!([]), "update"), "on_conflict.columns"),
            (
                conflict(json!(["id", "kind", "of"]), "update"),
                "on_conflict.do",
            ),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let fixture = Fixture {
        database: Database::new().await,
        silent: Silent::start().await,
    };
    let table = "CREATE TABLE orders (n serial PRIMARY KEY, id text, kind text, of text)";
    fixture.database.run(table);
    targets(&fixture).await;
}

fn parsed(settings: &Value) -> Box<dyn TargetSettings> {
    parse("postgres", settings).unwrap()
}

async fn service(settings: &Value) -> TargetService {
    parsed(settings).open(context()).await.unwrap()
}

/// Has rows of these texts written by one attempt.
async fn send(service: &TargetService, rows: &[&[&str]]) -> Result<Vec<Outcome>, AttemptError> {
    let mut attempt = attempt(&vec!["e"; rows.len()], 0);
    for (delivery, texts) in attempt.deliveries.iter_mut().zip(rows) {
        delivery.texts = texts.iter().map(ToString::to_string).collect();
    }
    attempt.timeout = Duration::from_secs(5);
    service.clone().oneshot(attempt).await
}

async fn classes(service: &TargetService, rows: &[&[&str]]) -> Vec<Class> {
    match send(service, rows).await {
        Ok(outcomes) => outcomes.iter().map(|outcome| outcome.class).collect(),
        Err(error) => vec![error.class],
    }
}

/// The value of a column that is filled in.
fn filled(names: &[&str]) -> Value {
    let columns = names.iter().map(|name| (name.to_string(), "<$.id>".into()));
    Value::Object(columns.collect())
}

#[tokio::test]
async fn the_server_reads_each_value_as_its_column_has_it() {
    let database = Database::new().await;
    database.run("CREATE TYPE mood AS ENUM ('fine', 'bad')");
    database.run(
        "CREATE TABLE t (a jsonb, b timestamptz, c numeric(6,2), d bytea, e int[], f uuid, \
         g boolean, h mood, \"I \"\"j\" text, k text, l varchar(3))",
    );
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "I \"j", "k", "l"];
    let given = json!({ "table": "public.t", "columns": filled(&names) });
    let target = service(&settings(&database.server.url(), given, json!({}))).await;
    let row: &[&str] = &[
        r#"{"n": [1, "'"]}"#,
        "2026-11-30T07:45:00+01:00",
        "12.50",
        "\\x00ff",
        "{1,2}",
        "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "true",
        "fine",
        "'); DROP TABLE t; --",
        "\0",
        "",
    ];
    assert_eq!(classes(&target, &[row]).await, [Class::Delivered]);
    let found = database.run(
        "SELECT a->'n'->>1, b AT TIME ZONE 'UTC', c, d, e[2], f, g, h, \"I \"\"j\", k IS NULL, l = '' FROM t",
    );
    assert_eq!(
        found,
        "'|2026-11-30 06:45:00|12.50|\\x00ff|2|6f9619ff-8b86-d011-b42d-00c04fc964ff|t|fine|'); DROP TABLE t; --|t|t"
    );
    for (column, wrong) in [
        (0, "{"),
        (1, "soon"),
        (2, "123456"),
        (7, "so"),
        (10, "long"),
    ] {
        let mut row = row.to_vec();
        row[column] = wrong;
        let outcomes = send(&target, &[&row]).await.unwrap();
        let (class, message) = (outcomes[0].class, &outcomes[0].message);
        assert_eq!(class, Class::Rejected, "{column}: {message}");
        assert!(message.starts_with("22"), "{message}");
    }
}

#[tokio::test]
async fn of_an_attempt_each_row_has_its_outcome() {
    use Class::{Delivered, Failed, Rejected};
    let database = Database::new().await;
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text, \
         parent int REFERENCES t DEFERRABLE INITIALLY DEFERRED)",
    );
    let target = async |conflict: Value| {
        let columns = filled(&["id", "v", "parent"]);
        let given = json!({ "table": "t", "columns": columns, "on_conflict": conflict });
        service(&settings(&database.server.url(), given, json!({}))).await
    };
    let rows = |of: &str| {
        database.run(&format!(
            "SELECT string_agg(id || v, ' ' ORDER BY id) FROM {of}"
        ))
    };

    let strict = target(Value::Null).await;
    let three: [&[&str]; 3] = [&["1", "a", "\0"], &["2", "b", "1"], &["3", "c", "\0"]];
    assert_eq!(classes(&strict, &three).await, [Delivered; 3]);
    // One has no value of its column, one is there, and the parent of one is missing, which the
    // commit finds.
    let mixed: [&[&str]; 5] = [
        &["4", "d", "\0"],
        &["x", "e", "\0"],
        &["1", "f", "\0"],
        &["5", "g", "99"],
        &["6", "h", "4"],
    ];
    let expect = [Delivered, Rejected, Rejected, Failed, Delivered];
    assert_eq!(classes(&strict, &mixed).await, expect);
    let orphan: [&[&str]; 2] = [&["7", "i", "\0"], &["8", "j", "99"]];
    assert_eq!(classes(&strict, &orphan).await, [Delivered, Failed]);
    assert_eq!(rows("t"), "1a 2b 3c 4d 6h 7i");

    let lasting = target(json!({ "columns": ["id"], "do": "nothing" })).await;
    let twice: [&[&str]; 3] = [&["1", "z", "\0"], &["9", "k", "\0"], &["9", "l", "\0"]];
    assert_eq!(classes(&lasting, &twice).await, [Delivered; 3]);
    assert_eq!(rows("t WHERE id IN (1, 9)"), "1a 9k");
    assert_eq!(
        classes(&target(json!({ "do": "nothing" })).await, &twice).await,
        [Delivered; 3]
    );
    let latest = target(json!({ "columns": ["id"], "do": "update" })).await;
    assert_eq!(classes(&latest, &twice).await, [Delivered; 3]);
    assert_eq!(rows("t WHERE id IN (1, 9)"), "1z 9l");
}

#[tokio::test]
async fn an_outcome_says_what_follows_and_a_probe_what_is_wrong() {
    let database = Database::new().await;
    database.run("CREATE TABLE orders (id text PRIMARY KEY, kind text, of text)");
    database.run("CREATE TABLE loose (id text, kind text, of text)");
    database.run("CREATE ROLE reader LOGIN");
    database.run("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0");
    let here = database.server.url();
    let nobody = format!(
        "postgres://u@127.0.0.1:{}/d",
        pointsman_test_brokers::free_port()
    );
    let upsert = json!({ "table": "loose", "on_conflict": { "columns": ["id"], "do": "update" } });
    for (url, more, class, told) in [
        (
            here.clone(),
            json!({}),
            Class::Delivered,
            "takes rows into orders",
        ),
        (
            here.clone(),
            json!({ "table": "none" }),
            Class::Unavailable,
            "table: ",
        ),
        (
            here.clone(),
            json!({ "columns": { "no": "<$.id>", "of": "<$.type>" } }),
            Class::Unavailable,
            "columns: ",
        ),
        (here.clone(), upsert, Class::Unavailable, "on_conflict: "),
        (
            database.url_of("reader"),
            json!({}),
            Class::Refused,
            "table: ",
        ),
        (
            database.url_of("stranger"),
            json!({}),
            Class::Refused,
            "password: ",
        ),
        (
            database.url_of("crowd"),
            json!({}),
            Class::Throttled,
            "url: ",
        ),
        (
            format!("{here}?sslmode=require"),
            json!({}),
            Class::Unavailable,
            "url: ",
        ),
        (nobody, json!({}), Class::Unavailable, "url: "),
    ] {
        let given = orders(&url, more);
        let target = service(&given).await;
        assert_eq!(classes(&target, &[&["1", "t"]]).await, [class], "{given}");
        let probed = parsed(&given).probe().await;
        let probed = probed.unwrap_or_else(|error| error.0.to_string());
        assert!(probed.contains(told), "{given}: {probed}");
    }
    assert_eq!(
        database.run("SELECT count(*) FROM orders"),
        "1",
        "a probe writes nothing"
    );

    // What is waited for comes.
    let early = service(&orders(&here, json!({ "table": "late" }))).await;
    assert_eq!(classes(&early, &[&["1", "t"]]).await, [Class::Unavailable]);
    database.run("CREATE TABLE late (id text, kind text, of text)");
    assert_eq!(classes(&early, &[&["1", "t"]]).await, [Class::Delivered]);
    // A statement was prepared for a table that is another now.
    database.run("DROP TABLE late; CREATE TABLE late (id int, kind text, of text)");
    while classes(&early, &[&["2", "t"]]).await != [Class::Delivered] {}
}

#[tokio::test]
async fn sslmode_is_as_libpq_has_it_and_the_password_is_shown() {
    use Class::{Delivered, Refused, Unavailable};
    let mut database = Database::new().await;
    let port = database.server.port();
    database.run(
        "CREATE FUNCTION has_tls() RETURNS boolean LANGUAGE sql AS \
         'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'",
    );
    database.run("CREATE TABLE seen (n serial, id text, tls boolean DEFAULT has_tls())");
    database.run("CREATE ROLE bus LOGIN SUPERUSER PASSWORD 'secret'");
    let access = format!(
        "hostssl all bus 127.0.0.1/32 scram-sha-256\n{}",
        "host all postgres 127.0.0.1/32 trust\n"
    );
    std::fs::write(database.server.data().join("pg_hba.conf"), access).unwrap();
    database.speak_tls().await;
    let ca = json!({ "tls": { "ca": { "file": crate::net::tls::fixtures::ca() } } });
    let with_password = |password: &str| with(ca.clone(), json!({ "password": password }));
    let here =
        |mode: &str| format!("host=127.0.0.1 port={port} user=postgres dbname=postgres {mode}");
    let named = |mode: &str| {
        here(&format!("hostaddr=127.0.0.1 {mode}")).replace("host=127.0.0.1", "host=other.example")
    };
    let bus = here("").replace("user=postgres", "user=bus");
    for (url, more, class, has_tls) in [
        (here(""), json!({}), Delivered, "t"),
        (here("sslmode=disable"), json!({}), Delivered, "f"),
        (here("sslmode=require"), json!({}), Delivered, "t"),
        (here("sslmode=verify-full"), json!({}), Unavailable, ""),
        (here("sslmode=verify-full"), ca.clone(), Delivered, "t"),
        (here(""), ca.clone(), Delivered, "t"),
        (named(""), ca.clone(), Unavailable, ""),
        (named("sslmode=verify-ca"), ca.clone(), Delivered, "t"),
        (named("sslmode=require"), ca.clone(), Delivered, "t"),
        (bus.clone(), with_password("secret"), Delivered, "t"),
        (bus.clone(), with_password("hunter2"), Refused, ""),
    ] {
        let given = json!({ "table": "seen", "columns": filled(&["id"]) });
        let given = settings(&url, given, more);
        let outcomes = send(&service(&given).await, &[&["1"]]).await;
        let told = outcomes.map_or_else(|error| error.class, |outcomes| outcomes[0].class);
        assert_eq!(told, class, "{given}");
        if class == Delivered {
            let last = database.run("SELECT tls FROM seen ORDER BY n DESC LIMIT 1");
            assert_eq!(last, has_tls, "{given}");
        }
    }
}

/// Sends until it is delivered, and returns how it went before that.
async fn until_delivered(target: &TargetService, id: &str) -> Vec<Class> {
    let (mut before, until) = (Vec::new(), Instant::now() + LONG);
    loop {
        match classes(target, &[&[id, "t"]]).await[..] {
            [Class::Delivered] => return before,
            ref others => before.extend(others),
        }
        assert!(Instant::now() < until, "{before:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_outage_passes() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE orders (id text, kind text, of text)");
    let proxy = Proxy::start(database.server.port());
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let target = service(&orders(&url, json!({}))).await;
    assert_eq!(until_delivered(&target, "1").await, []);

    proxy.set(Fault::BlackHole);
    assert_eq!(classes(&target, &[&["2", "t"]]).await, [Class::Failed]);
    assert_eq!(classes(&target, &[&["2", "t"]]).await, [Class::Unavailable]);
    proxy.set(Fault::None);
    assert_eq!(until_delivered(&target, "3").await, []);

    database.server.kill();
    let down = async || classes(&target, &[&["4", "t"]]).await;
    // Until it is known, what is sent may have arrived.
    while down().await != [Class::Unavailable] {}
    database.server.restart().await;
    let before = until_delivered(&target, "5").await;
    assert!(
        before.iter().all(|class| *class == Class::Unavailable),
        "{before:?}"
    );
    let found = database.run("SELECT string_agg(id, ' ' ORDER BY id) FROM orders WHERE id <> '2'");
    assert_eq!(found, "1 3 5");
}

#[tokio::test]
async fn rows_go_to_the_server_that_takes_writes() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE orders (id text, kind text, of text)");
    let standby = database.server.standby("second").await;
    let ports = (standby.port(), database.server.port());
    let alone = format!("postgres://postgres@127.0.0.1:{}/postgres", ports.0);
    let both = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres",
        ports.0, ports.1
    );
    let refused = send(&service(&orders(&alone, json!({}))).await, &[&["1", "t"]]).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.class, Class::Unavailable);
    assert!(refused.message.contains("it is a standby"), "{refused}");

    let target = service(&orders(&both, json!({}))).await;
    assert_eq!(until_delivered(&target, "1").await, []);
    let caught_up = || standby.ask("SELECT count(*) FROM orders") == "1";
    while !caught_up() {}
    database.server.kill();
    standby.promote();
    until_delivered(&target, "2").await;
    assert_eq!(
        standby.ask("SELECT string_agg(id, ' ' ORDER BY id) FROM orders"),
        "1 2"
    );
}
