//! The conformance suite on stores that are exported and imported whenever they are opened again,
//! and what it cannot see.

mod bench;
mod content;
mod moved;
mod replays;
mod streams;
mod tenants;
