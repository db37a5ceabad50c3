//! What a user types: one file per command.

pub mod client;
pub mod dead;
pub mod error;
pub mod listen;
pub mod send;
