//! Against a server of MariaDB that the tests share, or MySQL (`POINTSMAN_MYSQL`).

mod broken;
mod source;

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::Event;
use pointsman_test_brokers::MysqlServer;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::suite::{Stored, next_within, parse_source, with};
use crate::{Arrival, Batch, Link, OpenError, Source, SourceError, SourceSettings};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// The server that all tests share that do not kill or change one.
async fn server() -> &'static MysqlServer {
    static SERVER: OnceCell<MysqlServer> = OnceCell::const_new();
    SERVER
        .get_or_init(|| MysqlServer::start(&["--binlog-row-metadata=FULL"]))
        .await
}

/// A database of its own with a table.
struct Shop<'s> {
    server: &'s MysqlServer,
    name: String,
}

impl<'s> Shop<'s> {
    fn new(server: &'s MysqlServer) -> Self {
        let name = format!("shop_{:x}", rand::random::<u64>());
        server.ask("", &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"));
        let shop = Self { server, name };
        shop.run("CREATE TABLE orders (id int PRIMARY KEY, note text)");
        shop
    }

    fn run(&self, sql: &str) -> String {
        self.server.ask(&self.name, sql)
    }

    /// Adds rows, in one transaction.
    fn add(&self, ids: std::ops::Range<usize>) {
        let rows: Vec<_> = ids.map(|id| format!("({id}, 'n{id}')")).collect();
        self.run(&format!("INSERT INTO orders VALUES {}", rows.join(", ")));
    }

    fn url(&self) -> String {
        format!(
            "mysql://root@127.0.0.1:{}/{}",
            self.server.port(),
            self.name
        )
    }

    /// Settings of a source that reads it, with others and without those that are null.
    fn settings(&self, more: Value) -> Value {
        with(json!({ "url": self.url(), "tables": ["orders"] }), more)
    }
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    parse_source("mysql-cdc", settings).unwrap()
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

/// The events of a batch.
fn events(batch: Batch) -> Vec<Arc<Event>> {
    let taken = batch.messages.into_iter().map(|mut message| {
        assert!(message.rejects.is_empty(), "{message:?}");
        match message.arrivals.pop() {
            Some(Arrival::Event(event)) => event,
            other => panic!("no event: {other:?}"),
        }
    });
    taken.collect()
}

/// The next so many events, which are stored.
async fn take(source: &mut dyn Source, stored: &mut Stored, count: usize) -> Vec<Arc<Event>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(events(batch(source, stored).await));
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

fn data(event: &Event) -> Value {
    event.data().unwrap().value().unwrap().clone()
}

/// What the events say: their kind, and the id of the row.
fn told(events: &[Arc<Event>]) -> Vec<(String, u64)> {
    let one = |event: &Arc<Event>| {
        let kind = event.ty().rsplit('.').next().unwrap().to_owned();
        (kind, data(event)["after"]["id"].as_u64().unwrap())
    };
    events.iter().map(one).collect()
}

async fn probed(settings: &Value) -> String {
    match source(settings).probe().await {
        Ok(told) => told,
        Err(error) => error.0.to_string(),
    }
}

/// What a source ends with that is open.
async fn ended(settings: &Value, stored: &Stored) -> SourceError {
    let (mut source, _) = open(settings, stored).await.unwrap();
    loop {
        if let Err(ended) = next_within(&mut *source, LONG).await.unwrap() {
            return ended;
        }
    }
}
