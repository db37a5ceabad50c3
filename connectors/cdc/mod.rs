//! What the sources of changes in databases share: settings of a connection, events of rows, and
//! the queue between what reads and the bus.

pub(crate) mod address;
pub(crate) mod change;
pub(crate) mod json;
pub(crate) mod reader;
