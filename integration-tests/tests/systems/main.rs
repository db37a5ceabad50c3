//! The bus between real outside systems: brokers and stores that are killed, cut off, slow and wrong. Apart from the other end-to-end tests,
//! since starting a broker takes the processor from whoever counts on a share of it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests say bluntly what they expect")]

mod nats;
mod object_storage;
mod rabbitmq;
