//! What connectors share that speak to AWS, or to what speaks like it: credentials, the SDK's
//! configuration, errors in words, and the reading of queues.

mod access;
mod error;
mod keys;
pub(crate) mod queue;
mod unreachable;

pub(crate) use access::{Access, check_url};
pub(crate) use error::explain;
pub use keys::KeyPair;
pub(crate) use unreachable::unreachable;
