//! What sources hold to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_schemas::{Clock, Event, SystemClock};
use pointsman_test_brokers::{Fault, Proxy};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::source::BATCH_ROWS_MAX;
use super::*;
use crate::suite::{
    Log, SourceFixture, begin, bodies, hangs, next_within, parse_source, read_on, settle, sources,
    take,
};
use crate::{Arrival, Link, Message, OpenError, Source, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

const TABLE: &str = "CREATE TABLE outbox (id bigserial PRIMARY KEY, type text, subject text, \
                     payload jsonb, made timestamptz NOT NULL DEFAULT '2026-11-30T08:00:00+01:00')";

/// Settings of a source of the table.
fn outbox(url: &str, more: Value) -> Value {
    let outbox = json!({ "table": "outbox", "columns": { "time": "made" } });
    settings(url, json!({ "outbox": outbox, "every": "50ms" }), more)
}

struct Fixture {
    database: Database,
    written: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "postgres";

    fn settings(&self) -> Value {
        outbox(&self.database.server.url(), json!({}))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.written..self.written + count;
        self.written += count;
        insert(&self.database, numbers.clone());
        numbers
            .map(|number| format!("{{\"n\": {number}}}"))
            .collect()
    }

    fn identity(&self, event: &Event) -> String {
        String::from_utf8(event.data().unwrap().bytes().to_vec()).unwrap()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_ROWS_MAX
    }

    fn is_read_by_cursor(&self) -> bool {
        false
    }

    async fn unreadable(&mut self) -> Option<Bytes> {
        let row = "INSERT INTO outbox (payload) VALUES ('5') RETURNING id";
        let told = self.database.run(row);
        let id = told.lines().next().unwrap();
        let row = json!({ "time": "2026-11-30T07:00:00.000000Z", "type": null, "subject": null, "id": id, "data": "5" });
        Some(row.to_string().into())
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let of = |more: Value| outbox("postgres://u@h/d", more);
        let table = |more: Value| of(json!({ "outbox": with(json!({ "table": "t" }), more) }));
        vec![
            (of(json!({ "url": "postgres://u:hunter2@h" })), "url"),
            (of(json!({ "tls": { "key": "k" } })), "tls.key"),
            (of(json!({ "listen": "" })), "listen"),
            (of(json!({ "every": "1ms" })), "every"),
            (of(json!({ "prefetch": 255 })), "prefetch"),
            (table(json!({ "table": "" })), "outbox.table"),
            (table(json!({ "id": "" })), "outbox.id"),
            (table(json!({ "order_by": "" })), "outbox.order_by"),
            (table(json!({ "mark": "" })), "outbox.mark"),
            (
                table(json!({ "columns": { "Type": "t" } })),
                "outbox.columns.Type",
            ),
            (
                table(json!({ "columns": { "type": "" } })),
                "outbox.columns.type",
            ),
        ]
    }
}

/// Inserts rows, as one transaction.
fn insert(database: &Database, numbers: std::ops::Range<usize>) {
    database.run(&format!(
        "INSERT INTO outbox (type, subject, payload) SELECT 'order.paid', 's', \
         jsonb_build_object('n', n) FROM generate_series({}, {}) n",
        numbers.start,
        numbers.end - 1
    ));
}

async fn database() -> Database {
    let database = Database::new().await;
    database.run(TABLE);
    database
}

async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    begin(parse_source("postgres", settings).unwrap()).await
}

async fn opened(settings: &Value) -> Box<dyn Source> {
    open(settings).await.unwrap().0
}

fn left(database: &Database) -> String {
    database.run("SELECT count(*) FROM outbox")
}

async fn until_left(database: &Database, count: &str) {
    let until = Instant::now() + LONG;
    while left(database) != count {
        assert!(Instant::now() < until, "{} are left", left(database));
        sleep(Duration::from_millis(20)).await;
    }
}

fn of(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers
        .map(|number| format!("{{\"n\": {number}}}"))
        .collect()
}

fn event(message: &Message) -> &Event {
    match message.arrivals.first() {
        Some(Arrival::Event(event)) => event,
        other => panic!("no event: {other:?} {:?}", message.rejects),
    }
}

#[tokio::test]
async fn it_conforms() {
    let database = database().await;
    let mut fixture = Fixture {
        database,
        written: 0,
    };
    sources(&mut fixture).await;
}

#[tokio::test]
async fn rows_are_deleted_once_they_are_stored_and_come_again_in_their_order_where_not() {
    let database = database().await;
    insert(&database, 0..600);
    let mut source = opened(&outbox(&database.server.url(), json!({}))).await;
    let mut first = take(&mut *source, 300).await;
    assert!(bodies(&first).starts_with(&of(0..300)), "in their order");
    let rest = first.split_off(10);
    assert_eq!(left(&database), "600", "none is stored");
    settle(first, &Verdict::Stored).await;
    until_left(&database, "590").await;
    settle(rest, &Verdict::Later(Duration::from_millis(10))).await;
    let again = take(&mut *source, 590).await;
    let mut bodies = bodies(&again);
    // What had come before it was given back stands in front.
    bodies.sort_by_key(|body| body[6..body.len() - 1].parse::<usize>().unwrap());
    assert_eq!(bodies, of(10..600));
    settle(again, &Verdict::Stored).await;
    until_left(&database, "0").await;
}

#[tokio::test]
async fn columns_are_attributes() {
    let database = Database::new().await;
    database.run(
        "CREATE TABLE debezium (id uuid PRIMARY KEY, aggregatetype text, aggregateid text, \
         type text, payload bytea, at timestamp, tenant int)",
    );
    database.run(
        "INSERT INTO debezium VALUES ('6f9619ff-8b86-d011-b42d-00c04fc964ff', 'order', '7', \
         'OrderPaid', '{\"a\":1}', '2026-11-30 08:00:00.5', 3)",
    );
    let columns = json!({ "subject": "aggregateid", "aggregatetype": "aggregatetype", "time": "at", "tenant": "tenant" });
    let table = json!({ "table": "public.debezium", "columns": columns });
    let given = outbox(&database.server.url(), json!({ "outbox": table }));
    let taken = take(&mut *opened(&given).await, 1).await;
    let found = event(&taken[0]);
    let mut text = Vec::new();
    pointsman_schemas::json::encode(found, &mut text);
    assert_eq!(
        serde_json::from_slice::<Value>(&text).unwrap(),
        json!({
            "specversion": "1.0", "id": "6f9619ff-8b86-d011-b42d-00c04fc964ff", "type": "OrderPaid",
            "source": "/postgres/orders", "subject": "7", "time": "2026-11-30T08:00:00.500000Z",
            "aggregatetype": "order", "tenant": "3", "datacontenttype": "application/json",
            "data": { "a": 1 },
        })
    );
}

#[tokio::test]
async fn rows_are_marked_where_they_are_not_to_be_deleted() {
    let database = database().await;
    for (column, of) in [("sent", "boolean"), ("sent_at", "timestamptz")] {
        database.run(&format!(
            "ALTER TABLE outbox ADD {column} {of}; TRUNCATE outbox"
        ));
        insert(&database, 0..3);
        let table = json!({ "table": "outbox", "mark": column });
        let mut source = opened(&outbox(&database.server.url(), json!({ "outbox": table }))).await;
        let mut taken = take(&mut *source, 3).await;
        let last = taken.split_off(2);
        settle(taken, &Verdict::Stored).await;
        let marked = || database.run(&format!("SELECT count({column}) FROM outbox"));
        let until = Instant::now() + LONG;
        while marked() != "2" {
            assert!(Instant::now() < until);
        }
        settle(last, &Verdict::Failed).await;
    }
}

#[tokio::test]
async fn a_notification_is_a_hint() {
    let database = database().await;
    let slow = json!({ "listen": "Outbox", "every": "10m" });
    let mut source = opened(&outbox(&database.server.url(), slow)).await;
    let none = next_within(&mut *source, Duration::from_millis(300)).await;
    assert!(none.is_none(), "{none:?}");
    insert(&database, 0..1);
    let none = next_within(&mut *source, Duration::from_millis(300)).await;
    assert!(none.is_none(), "nobody has said so: {none:?}");
    database.run("NOTIFY \"Outbox\"");
    assert_eq!(bodies(&take(&mut *source, 1).await), of(0..1));
}

#[tokio::test]
async fn one_session_reads_a_table_at_a_time() {
    let database = database().await;
    insert(&database, 0..2);
    let given = outbox(&database.server.url(), json!({}));
    let mut first = opened(&given).await;
    let held = take(&mut *first, 2).await;
    let refused = open(&given).await.err().unwrap().0.to_string();
    assert!(
        refused.starts_with("outbox: another session reads"),
        "{refused}"
    );
    // Its source goes, and whoever stores what it handed over does not.
    drop(first);
    assert!(open(&given).await.is_err());
    settle(held, &Verdict::Stored).await;
    until_left(&database, "0").await;
    let until = Instant::now() + LONG;
    while open(&given).await.is_err() {
        assert!(Instant::now() < until);
    }
}

#[tokio::test]
async fn an_outage_passes_and_what_was_stored_meanwhile_does_not_come_again() {
    let mut database = database().await;
    insert(&database, 0..2);
    let proxy = Proxy::start(database.server.port());
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let (log, _in_force) = Log::capture();
    let given = outbox(&url, json!({}));
    let (mut source, link) = open(&given).await.unwrap();
    let held = take(&mut *source, 2).await;
    proxy.set(Fault::BlackHole);
    // It is given up after some tries, and remembered.
    settle(held, &Verdict::Stored).await;
    assert_eq!(left(&database), "2");
    hangs(&proxy, &link, &log, Duration::from_secs(1)).await;
    insert(&database, 2..3);
    let reopen = async || {
        let until = Instant::now() + LONG;
        loop {
            match open(&given).await {
                Ok((source, _)) => return source,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    read_on(source, reopen, "{\"n\": 2}").await;
    until_left(&database, "0").await;

    // A server that ends at once.
    let mut source = reopen().await;
    insert(&database, 3..5);
    let held = take(&mut *source, 2).await;
    database.server.kill();
    database.server.restart().await;
    settle(held, &Verdict::Stored).await;
    insert(&database, 5..6);
    read_on(source, reopen, "{\"n\": 5}").await;
    until_left(&database, "0").await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    let database = database().await;
    insert(&database, 0..3);
    database.run("CREATE TABLE loose (id int NOT NULL, type text)");
    database.run("CREATE VIEW seen AS SELECT * FROM outbox");
    database.run("CREATE ROLE reader LOGIN; GRANT SELECT ON outbox TO reader");
    database.run("CREATE ROLE stranger LOGIN");
    let here = database.server.url();
    for (url, more, expect) in [
        (&here, json!({}), "3 rows of outbox wait"),
        (
            &here,
            json!({ "table": "none" }),
            "outbox.table: there is no table none",
        ),
        (
            &here,
            json!({ "id": "no" }),
            "outbox.id: the table outbox has no column no",
        ),
        (
            &here,
            json!({ "table": "loose" }),
            "outbox.id: the column id is not the key",
        ),
        (
            &here,
            json!({ "table": "seen" }),
            "outbox.id: the column id is not the key",
        ),
        (
            &here,
            json!({ "columns": { "type": "no" } }),
            "outbox.columns: ",
        ),
        (&here, json!({ "order_by": "no" }), "outbox.order_by: "),
        (&here, json!({ "mark": "type" }), "outbox.mark: "),
        (
            &database.url_of("reader"),
            json!({}),
            "outbox.table: permission denied",
        ),
        (&database.url_of("stranger"), json!({}), "outbox.table: "),
    ] {
        let table = with(json!({ "table": "outbox" }), more);
        let given = outbox(url, json!({ "outbox": table }));
        let probed = parse_source("postgres", &given).unwrap().probe().await;
        let probed = probed.unwrap_or_else(|error| error.0.to_string());
        assert!(probed.contains(expect), "{given}: {probed}");
    }
}
