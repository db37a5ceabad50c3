//! HTTP: events come in by the CloudEvents binding, and functions are called.

pub mod ingress;
pub mod target;

pub use ingress::{DELAY, Ingress, PREFER, TASK_ID_HEADER, WAIT_MAX};
pub use target::HttpTarget;
