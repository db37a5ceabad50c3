//! HTTP: events come in by the CloudEvents binding, and functions are called.

pub mod ingress;
pub mod target;

pub use ingress::Ingress;
pub use target::HttpTarget;
