//! Amazon EventBridge: events put onto a bus.
//!
//! ```yaml
//! targets:
//!   central:
//!     eventbridge:
//!       bus: central              # or its ARN; the account's default one unless it is given
//!       region: eu-west-1
//!       source: com.example.shop  # the event's own unless it is given
//!       detail_type: <$.type>     # the default
//!       resources: ["<$.subject>"]
//!       mode: data                # structured
//! ```
//!
//! **A target** puts one entry for each delivery, those of a batch up to ten with one call. An
//! entry's detail is a JSON object: the event's data, and an event whose data is none is rejected,
//! or with `mode: structured` the whole event in the JSON format, with the attributes `pointsmantask`
//! and `pointsmanattempt`. See `aws/api/refusal.rs` for what an answer means.
//!
//! What a bus sends comes in through a queue that `sqs` reads, or by HTTP through a `webhook`.

mod putter;
mod target;
#[cfg(test)]
mod tests;

pub use target::EventbridgeTarget;
