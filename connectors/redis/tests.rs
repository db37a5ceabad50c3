//! Against a Redis server for each test.

mod broken;
mod hand;
mod source;
mod target;

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::SystemClock;
use pointsman_test_brokers::RedisServer;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Value as Reply, cmd};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::suite::{begin, bodies, next_within, parse_source, settle, take, with};
use crate::{Arrival, Link, OpenError, Source, SourceSettings, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// A server with a stream that a group reads.
struct Stream {
    server: RedisServer,
    connection: MultiplexedConnection,
}

impl Stream {
    async fn new() -> Self {
        Self::of(RedisServer::start().await).await
    }

    async fn of(server: RedisServer) -> Self {
        let connection = connection(&server.url()).await;
        Self { server, connection }
    }

    /// Settings of a source that reads it, with others and without those that are null.
    fn settings(&self, more: Value) -> Value {
        let settings = json!({
            "url": self.server.url(),
            "stream": "orders",
            "group": "g",
            "start": "earliest",
        });
        with(settings, more)
    }

    /// Settings of a target that adds to it.
    fn target(&self, more: Value) -> Value {
        with(
            json!({ "url": self.server.url(), "stream": "orders" }),
            more,
        )
    }

    /// Has the server do something, in words.
    async fn run<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut command = cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        let mut connection = self.connection.clone();
        command.query_async(&mut connection).await.unwrap()
    }

    /// Adds an entry of one field, and returns its id.
    async fn add(&self, text: &str) -> String {
        let mut connection = self.connection.clone();
        let mut command = cmd("XADD");
        command.arg("orders").arg("*").arg("n").arg(text);
        command.query_async(&mut connection).await.unwrap()
    }

    /// How many entries are in somebody's hand.
    async fn pending(&self) -> usize {
        let pending: Vec<Reply> = self.run("XPENDING orders g - + 100000").await;
        pending.len()
    }

    /// How often the only entry in hand was handed out.
    async fn deliveries(&self) -> u64 {
        let pending: Vec<(String, String, u64, u64)> = self.run("XPENDING orders g - + 1").await;
        pending[0].3
    }

    async fn drained(&self) {
        let until = Instant::now() + LONG;
        while self.pending().await > 0 {
            assert!(Instant::now() < until, "{} are left", self.pending().await);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has all in hand be idle for so long, as after a time without anybody.
    async fn age(&self, by: Duration) {
        let pending: Vec<(String, String, u64, u64)> = self.run("XPENDING orders g - + 1000").await;
        for (id, consumer, _, count) in pending {
            let idle = by.as_millis();
            let command =
                format!("XCLAIM orders g {consumer} 0 {id} IDLE {idle} RETRYCOUNT {count} JUSTID");
            self.run::<Reply>(&command).await;
        }
    }
}

async fn connection(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    parse_source("redis", settings).unwrap()
}

async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    begin(source(settings)).await
}
