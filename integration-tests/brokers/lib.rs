//! The outside systems that the tests speak to: real servers, started here on free ports, with
//! their data in temporary folders, a [`proxy`] to put in front of them, and stand-ins for clouds
//! that cannot be started.
//!
//! Each can be killed, started again with what it had on disk, and is gone when its handle is
//! dropped. `./test` installs them, from Debian's packages onto PATH and from PyPI and Maven into the
//! build folder.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "the whole crate is a test, and says what it expects as bluntly as tests do"
)]

mod artemis;
mod journal;
mod kafka;
mod mns;
mod mqtt;
mod mysql;
mod nats;
mod object_storage;
mod port;
mod postgres;
pub mod proxy;
mod rabbitmq;
mod redis;
mod rocketmq;
mod server;
mod smtp;
mod stand_in;

pub use artemis::{ARTEMIS_LOGIN, ArtemisServer, ArtemisSettings};
pub use journal::JournalWriter;
pub use kafka::{KafkaListener, KafkaServer};
pub use mns::{MNS_KEYS, MnsMessage, MnsServer};
pub use mqtt::MqttServer;
pub use mysql::MysqlServer;
pub use nats::{NatsCluster, NatsRelease, NatsServer};
pub use object_storage::ObjectStore;
pub use port::free_port;
pub use postgres::{PostgresPair, PostgresServer};
pub use proxy::{Fault, Proxy};
pub use rabbitmq::RabbitServer;
pub use redis::RedisServer;
pub use rocketmq::{ROCKETMQ_KEYS, RocketmqServer, RocketmqSettings, rocketmq_send};
pub use server::{Server, kill};
pub use smtp::SmtpServer;
pub use stand_in::{Asked, StandIn, Told};
