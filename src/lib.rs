//! The bus: everything with state. It is one program, so all of it is private but [`main`]; the
//! library is there so that integration tests build the same program once.

#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "a test may tell a long story")
)]

mod admin;
mod app;
mod aside;
mod background;
mod columns;
mod commands;
mod config;
mod console;
mod dispatcher;
mod intake;
mod nodes;
mod output;
mod peers;
mod pipes;
mod replay;
mod router;
mod server;
mod telemetry;
mod versions;
mod waiting;

pub use commands::line::main;
