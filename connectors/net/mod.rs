//! The way out: what connectors dial by, under the guard, with TLS, and the HTTP client.

pub(crate) mod answer;
pub(crate) mod classify;
pub(crate) mod client;
mod connection;
pub(crate) mod dial;
#[cfg(any(feature = "amqp", feature = "mqtt"))]
pub(crate) mod duplex;
pub(crate) mod explain;
pub(crate) mod fault;
pub(crate) mod guard;
mod http1;
#[cfg(any(feature = "postgres", feature = "smtp"))]
pub(crate) mod idle;
pub(crate) mod names;
#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "mysql-cdc",
    feature = "postgres-cdc",
    feature = "redis",
    feature = "rocketmq"
))]
pub(crate) mod server;
#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "postgres",
    feature = "redis",
    feature = "rocketmq"
))]
pub(crate) mod shared;
#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "mysql-cdc",
    feature = "postgres",
    feature = "postgres-cdc",
    feature = "redis",
    feature = "rocketmq",
    feature = "smtp"
))]
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod unanswered;
pub(crate) mod wire;

pub use client::{Answered, CallError, Client, unguarded, unguarded_http2};
pub use explain::root;
pub use names::Names;
pub use tls::Trust;
