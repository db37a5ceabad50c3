//! The bus between real outside systems: brokers and stores that are killed, cut off, slow and
//! wrong. Apart from the other end-to-end tests, since starting a broker takes the processor from
//! whoever counts on a share of it.

#![expect(clippy::too_many_lines, reason = "a test may tell a long story")]

// Its tests are functions of their server and no `#[test]`s themselves: this says to clippy that
// they may unwrap.
#[cfg(test)]
mod amqp;
#[cfg(test)]
mod api;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod journald;
#[cfg(test)]
mod kafka;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mns;
#[cfg(test)]
mod mqtt;
#[cfg(test)]
mod mysql_cdc;
#[cfg(test)]
mod nats;
mod object_storage;
#[cfg(test)]
mod ops;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod postgres_cdc;
mod rabbitmq;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod rocketmq;
#[cfg(test)]
mod sqs;
#[cfg(test)]
mod syslog;
#[cfg(test)]
mod traces;
