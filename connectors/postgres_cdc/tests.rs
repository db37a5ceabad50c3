//! Against a PostgreSQL server for each test.

mod broken;
mod source;

use std::time::Duration;

use pointsman_test_brokers::PostgresServer;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cdc::suite::{self, LONG, batch, data, events, take, told};
use crate::suite::{Stored, next_within, parse_source, with};
use crate::{Link, OpenError, Source, SourceError, SourceSettings, Verdict};

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
    suite::open(&*source(settings), stored).await
}

async fn probed(settings: &Value) -> String {
    suite::probed(&*source(settings)).await
}

/// What a source ends with that is open.
async fn ended(settings: &Value, stored: &Stored) -> SourceError {
    suite::ended(&*source(settings), stored).await
}
