//! The bus: everything with state. The binary in `main.rs` is its command line.

pub mod admin;
pub mod app;
pub mod commands;
pub mod config;
pub mod dispatcher;
pub mod intake;
pub mod output;
pub mod pipes;
pub mod router;
mod server;
pub mod telemetry;
