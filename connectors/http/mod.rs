//! HTTP: events come in by the CloudEvents binding, and functions are called.

pub mod ingress;
pub mod target;

pub use ingress::{DELAY, Ingress, TASK_ID_HEADER};
pub use target::HttpTarget;
