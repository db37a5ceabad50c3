//! Functions of Alibaba Cloud's Function Compute 3.0, called by its API.
//!
//! ```yaml
//! targets:
//!   thumbnails:
//!     function-compute:
//!       function: thumbnails
//!       qualifier: prod             # a version or an alias; LATEST unless it is given
//!       region: cn-hangzhou         # or endpoint
//!       invocation: async           # sync, the default
//! ```
//!
//! **Sent** is the event in the JSON format, or its data alone, as the bytes that the function is
//! given. A function sees no headers of the call, so that what the http target puts there are
//! extensions of the event: `pointsmantask`, `pointsmanattempt` and `pointsmanrule`.
//!
//! **Asynchronous** calls are delivered once Function Compute has taken them. They have the
//! delivery's id as that of the task, which Function Compute takes once alone.
//!
//! **Answered** by status and by `x-fc-error-type`: see `caller.rs`. A CloudEvent in the answer of a
//! synchronous call goes back onto the bus.

mod caller;
mod signature;
mod target;
#[cfg(test)]
mod tests;

pub use target::{FunctionComputeTarget, Invocation, Mode};
