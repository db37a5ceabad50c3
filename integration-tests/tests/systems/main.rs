//! The bus between real outside systems: brokers and stores that are killed, cut off, slow and wrong. Apart from the other end-to-end tests,
//! since starting a broker takes the processor from whoever counts on a share of it.

mod nats;
mod object_storage;
mod rabbitmq;
