//! HTTP: events come in by the CloudEvents binding and go out as calls of functions.

mod client;
mod guard;
pub mod target;

pub use target::HttpTarget;
