//! AWS Lambda: functions that are invoked by its API.
//!
//! ```yaml
//! targets:
//!   thumbnailer:
//!     lambda:
//!       function: thumbnailer             # or its ARN
//!       region: eu-west-1
//!       qualifier: prod                   # a version or an alias
//!       invocation: request-response      # event
//!       mode: structured                  # data
//! ```
//!
//! **A target** invokes the function for each delivery. Its payload is the event in the JSON format,
//! with the attributes `pointsmantask` and `pointsmanattempt`, or the event's data as JSON; the client
//! context, which a function that is waited for sees, holds `{ custom: { pointsman-task,
//! pointsman-attempt, pointsman-rule } }`.
//!
//! **Answered**: with `request-response` what the function returns is the answer, and a CloudEvent
//! in it goes back onto the bus; a function that fails has failed. With `event` Lambda has taken
//! the event into a queue of its own. See `aws/api/refusal.rs` for what other answers mean.

mod invoker;
mod target;
#[cfg(test)]
mod tests;

pub use target::LambdaTarget;
