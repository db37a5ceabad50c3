//! HTTP: events come in by the CloudEvents binding, and functions are called;
//! so are chats.

mod chat;
pub mod ingress;
pub mod target;

pub use chat::{DiscordTarget, PagerdutyTarget, SlackTarget, TeamsTarget};
pub use ingress::{DELAY, Ingress, PREFER, TASK_ID_HEADER, WAIT_MAX};
pub use target::HttpTarget;
