//! The bus end to end: a real process, its rule file, its store, and everything around it played by
//! the test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "tests say bluntly what they expect"
)]

mod batches;
mod calls;
mod commands;
mod console;
mod crash;
mod examples;
mod ingress;
mod later;
mod listeners;
mod operation;
mod ordered;
mod pipes;
mod push;
mod reload;
mod replay;
mod schemas;
mod secrets;
mod sources;
mod tap;
mod tasks;
mod waits;
