//! Against a PostgreSQL server for each test.

mod broken;
mod source;

use std::time::Duration;

use pointsman_schemas::Event;
use pointsman_test_brokers::PostgresServer;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::suite::{Stored, next_within, parse_source, with};
use crate::{Acknowledgement, Arrival, Batch, Link, OpenError, Source, SourceSettings, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

const LOGICAL: &str = "wal_level = logical\nfsync = off";

/// A server with a table.
struct Shop(PostgresServer);

impl Shop {
    async fn new() -> Self {
        let shop = Self(PostgresServer::start(LOGICAL).await);
        shop.run("CREATE TABLE orders (id int PRIMARY KEY, note text)");
        shop
    }

    fn run(&self, sql: &str) -> String {
        self.0.ask(sql)
    }

    /// Adds rows, in one transaction.
    fn add(&self, ids: std::ops::Range<usize>) {
        let (first, last) = (ids.start, ids.end - 1);
        self.run(&format!(
            "INSERT INTO orders SELECT id, 'n' || id FROM generate_series({first}, {last}) id"
        ));
    }

    /// Settings of a source that reads it, with others and without those that are null.
    fn settings(&self, more: Value) -> Value {
        let settings = json!({ "url": self.0.url(), "tables": ["public.orders"], "slot": "s" });
        with(settings, more)
    }

    /// Where the slot stands, and where the log ends.
    fn lag(&self) -> u64 {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn) \
                   FROM pg_replication_slots WHERE slot_name = 's'";
        self.run(sql).parse().unwrap()
    }
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    parse_source("postgres-cdc", settings).unwrap()
}

/// Opens a source where it is stored that it stands.
async fn open(settings: &Value, stored: &Stored) -> Result<(Box<dyn Source>, Link), OpenError> {
    let context = stored.context();
    let link = context.link.clone();
    let opened = source(settings).open(context).await;
    opened.map(|source| (source, link))
}

/// The next batch; what it says of the position is stored.
async fn batch(source: &mut dyn Source, stored: &mut Stored) -> Batch {
    let batch = next_within(source, LONG).await.expect("something comes");
    let batch = batch.unwrap();
    stored.store(&batch);
    batch
}

/// The events of a batch, and their acknowledgements.
fn events(batch: Batch) -> (Vec<std::sync::Arc<Event>>, Vec<Acknowledgement>) {
    let taken = batch.messages.into_iter().map(|mut message| {
        assert!(message.rejects.is_empty(), "{message:?}");
        match message.arrivals.pop() {
            Some(Arrival::Event(event)) => (event, message.acknowledgement),
            other => panic!("no event: {other:?}"),
        }
    });
    taken.unzip()
}

/// The next so many events, which are stored.
async fn take(
    source: &mut dyn Source,
    stored: &mut Stored,
    count: usize,
) -> Vec<std::sync::Arc<Event>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let (events, acknowledgements) = events(batch(source, stored).await);
        taken.extend(events);
        for acknowledgement in acknowledgements {
            acknowledgement.send(Verdict::Stored).await;
        }
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

fn data(event: &Event) -> Value {
    event.data().unwrap().value().unwrap().clone()
}

/// What the events say: their kind, and the id of the row.
fn told(events: &[std::sync::Arc<Event>]) -> Vec<(String, u64)> {
    let one = |event: &std::sync::Arc<Event>| {
        let kind = event.ty().rsplit('.').next().unwrap().to_owned();
        (kind, data(event)["after"]["id"].as_u64().unwrap())
    };
    events.iter().map(one).collect()
}
