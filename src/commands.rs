//! What a user types: one file per command.

pub mod bus_address;
pub mod check;
pub mod client;
pub mod dead;
pub mod diff;
pub mod difference;
pub mod error;
pub mod explain;
pub mod import;
pub mod init;
pub mod line;
pub mod listen;
pub mod manual;
pub mod match_event;
pub mod nodes;
pub mod replay;
pub mod rules;
pub mod run;
pub mod schema;
pub mod send;
pub mod store;
pub mod subscriptions;
pub mod tasks;
pub mod test;
pub mod timers;
