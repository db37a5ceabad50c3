//! Shapes that cross a border of Pointsman: between its crates, onto the wire, onto the disk.
//!
//! Nothing here does IO, knows a runtime or holds state. The crate stands at the bottom: everything
//! else imports it.

#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "a test may tell a long story")
)]

pub mod backoff;
pub mod cursor;
pub mod data;
pub mod delivery;
pub mod event;
pub mod http;
mod invalid;
pub mod json;
pub mod media_type;
pub mod name;
pub mod outcome;
pub mod problem;
pub mod reject;
mod scan;
pub mod schedule;
pub mod sdk;
pub mod setting;
pub mod suggest;
pub mod task_id;
pub mod template;
pub mod time;
pub mod trace;
pub mod yaml;

pub use backoff::Backoff;
pub use cursor::{Cursor, PositionChange, PositionRow};
pub use data::{Data, DataKind};
pub use delivery::{DeliveryId, Epoch, JournalId, Sequence, SubscriptionNumber};
pub use event::{AttributeValue, Event, EventBuilder, ExtensionValue, InvalidEvent};
pub use name::Name;
pub use outcome::{Class, Outcome, Replies, Unreadable};
pub use problem::{Problem, Segment};
pub use reject::Reject;
pub use setting::{Duplicates, Interval, Rate, Secret, Size, Text};
pub use template::{Placement, TemplateText};
pub use time::{Clock, SystemClock, Timestamp};
pub use trace::TraceContext;
