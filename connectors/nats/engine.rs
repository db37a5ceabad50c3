//! NATS as the engine of the log of many machines.

use std::time::Duration;

use async_nats::Client;
use pointsman_schemas::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::Auth;
use super::connection::{ConnectError, Connection, PING_EVERY, Tls};
use super::urls::Urls;
use crate::OpenError;

/// NATS JetStream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsEngine {
    /// Where the servers are.
    url: Urls,
    /// As whom to connect.
    #[schemars(extend("writeOnly" = true))]
    auth: Option<Auth>,
    /// How the connection is encrypted.
    tls: Option<Tls>,
    /// On how many servers the log lies; 3 by default.
    #[serde(default = "three")]
    #[schemars(extend("enum" = [1, 3, 5]))]
    replicas: u8,
}

fn three() -> u8 {
    3
}

impl NatsEngine {
    fn connection(&self, ping_every: Duration) -> Connection<'_> {
        Connection {
            ping_every,
            url: &self.url,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    /// What is wrong with the settings as they are written.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let replicas = (![1, 3, 5].contains(&self.replicas)).then(|| {
            Problem::new("a stream lies on 1, 3 or 5 servers")
                .help("write 3, where that many servers are there")
                .at("replicas")
        });
        let alone = (self.replicas == 1).then(|| {
            let what = "with one replica the log is lost with its server's disk, and the bus stops \
                        with the server";
            Problem::new(what)
                .help("write 3 where it matters")
                .at("replicas")
                .warn()
        });
        self.connection(PING_EVERY)
            .check()
            .chain(replicas)
            .chain(alone)
            .collect()
    }

    /// On how many servers the log lies.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas.into()
    }

    /// Connects; the client then connects again by itself, for ever. A server that says nothing any
    /// more is left for another one after about three times `ping_every`.
    ///
    /// # Errors
    /// No server lets us in, by its setting.
    pub async fn connect(&self, name: &str, ping_every: Duration) -> Result<Client, OpenError> {
        let connection = self.connection(ping_every);
        let connected = connection.connect(name, |_| {}).await;
        connected.map_err(|ConnectError { problem, .. }| problem)
    }
}
