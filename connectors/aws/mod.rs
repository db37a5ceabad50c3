//! What connectors share that speak to AWS, or to what speaks like it: credentials, the SDK's
//! configuration, errors in words, queues, and calls without an SDK of their own.

mod access;
pub(crate) mod api;
#[cfg(any(feature = "eventbridge", feature = "lambda", feature = "sns"))]
pub(crate) mod arn;
mod error;
pub(crate) mod fifo;
mod keys;
mod message;
pub(crate) mod queue;
mod unreachable;

pub(crate) use access::{Access, check_url};
pub(crate) use error::explain;
pub use keys::KeyPair;
pub use message::Mode;
pub(crate) use message::Written;
pub(crate) use unreachable::unreachable;
