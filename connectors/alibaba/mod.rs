//! What connectors share that speak to Alibaba Cloud: the keys to an account, the address of a
//! service, and the envelope of a topic's messages.

mod endpoint;
mod envelope;
mod keys;

pub(crate) use endpoint::{Endpoint, check_endpoint, http, unreachable};
pub(crate) use envelope::{from_xml, is_envelope};
pub use keys::AccessKey;
#[cfg(feature = "rocketmq")]
pub(crate) use keys::Keys;
pub(crate) use keys::Signer;
