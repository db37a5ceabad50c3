//! Against a PostgreSQL server for each test.

mod source;
mod target;

use std::path::Path;

use pointsman_test_brokers::PostgresServer;
use serde_json::Value;

use crate::suite::with;

/// A server, and how it is asked.
struct Database {
    server: PostgresServer,
}

impl Database {
    async fn new() -> Self {
        Self {
            server: PostgresServer::start("").await,
        }
    }

    /// Has the server do something, in SQL.
    fn run(&self, statement: &str) -> String {
        self.server.ask(statement)
    }

    /// The URL of another user.
    fn url_of(&self, user: &str) -> String {
        format!(
            "postgres://{user}@127.0.0.1:{}/postgres",
            self.server.port()
        )
    }

    /// Has it speak TLS, by the tests' certificate, which is made out to 127.0.0.1 and `localhost`.
    async fn speak_tls(&mut self) {
        let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("net/tls");
        for (name, file) in [("server.crt", "leaf.pem"), ("server.key", "leaf.key")] {
            let path = self.server.data().join(name);
            std::fs::copy(certificates.join(file), path).unwrap();
            self.server.protect(name);
        }
        self.server.write_configuration("ssl = on");
        self.server.restart().await;
    }
}

/// Settings at a database, with others and without those that are null.
fn settings(url: &str, own: Value, more: Value) -> Value {
    with(with(serde_json::json!({ "url": url }), own), more)
}
