//! HTTP: events come in by the CloudEvents binding, requests reach webhooks, and functions are
//! called.

pub(crate) mod client;
pub(crate) mod guard;
pub mod ingress;
pub mod listener;
pub(crate) mod names;
pub mod target;
mod wire;

pub use ingress::Ingress;
pub(crate) use listener::check_max_body;
pub use listener::{
    ADDRESS_PATTERN, Attachment, Handler, Limits, ListenSettings, Listener, Refusal, Request,
    Response, Routes,
};
pub use names::Names;
pub use target::HttpTarget;
