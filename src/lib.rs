//! The bus: everything with state. The binary in `main.rs` is its command line.

pub mod admin;
pub mod intake;
pub mod journal;
mod server;
pub mod telemetry;
