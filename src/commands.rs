//! What a user types: one module for each command.

pub mod check;
pub mod match_event;
pub mod schema;
pub mod test;
