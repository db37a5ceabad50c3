//! Against a server of MariaDB that the tests share, or MySQL (`POINTSMAN_MYSQL`).

mod broken;
mod source;

use std::time::Duration;

use pointsman_test_brokers::MysqlServer;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::cdc::suite::{self, LONG, batch, data, events, take, told};
use crate::suite::{Stored, next_within, parse_source, with};
use crate::{Link, OpenError, Source, SourceError, SourceSettings};

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
    suite::open(&*source(settings), stored).await
}

async fn probed(settings: &Value) -> String {
    suite::probed(&*source(settings)).await
}

/// What a source ends with that is open.
async fn ended(settings: &Value, stored: &Stored) -> SourceError {
    suite::ended(&*source(settings), stored).await
}
