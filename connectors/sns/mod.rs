//! Amazon SNS: messages published to a topic.
//!
//! ```yaml
//! targets:
//!   alarms:
//!     sns:
//!       topic: arn:aws:sns:eu-west-1:123456789012:alarms
//!       subject: "alarm: <$.subject>"
//!       mode: binary              # structured, data
//! ```
//!
//! **A target** publishes one message for each delivery, those of a batch up to ten with one call.
//! See `aws/message.rs` for how an event is written, and `aws/api/refusal.rs` for what an answer
//! means.
//!
//! What a topic sends by HTTPS comes in through a `webhook` with its signature `aws-sns`, and what
//! it sends to a queue by the source `sqs`.

mod publisher;
mod target;
#[cfg(test)]
mod tests;

pub use target::SnsTarget;
