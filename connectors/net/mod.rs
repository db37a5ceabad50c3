//! What connectors share to reach a server.

pub(crate) mod fault;
