//! What the sources of changes in databases share: settings of a connection and its bytes, events
//! of rows, and the queue between what reads and the bus.

pub(crate) mod address;
pub(crate) mod change;
pub(crate) mod json;
pub(crate) mod reader;
#[cfg(test)]
pub(crate) mod suite;
pub(crate) mod wire;
