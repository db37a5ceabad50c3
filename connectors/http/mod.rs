//! HTTP: the listener that requests come in through, and what goes out by requests.

pub mod listener;

pub use listener::{Attachment, Handler, Limits, ListenSettings, Listener, Refusal, Request, Response, Routes};
