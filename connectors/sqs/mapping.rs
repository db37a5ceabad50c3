//! Messages to events.
//!
//! CloudEvents have no official binding for SQS. Here they travel as they do by Kafka and HTTP:
//!
//! - structured: the body is the event in the JSON format, and the message attribute `content-type`
//!   (or `ContentType`) is `application/cloudevents+json`;
//! - binary: each attribute is a message attribute `ce-<name>`, `content-type` the
//!   `datacontenttype`, and the body the data.
//!
//! What came through SNS without raw delivery has SNS's JSON around it, which is taken off first:
//! its `Message` counts as the body and its `MessageAttributes` as those of the message.

mod incoming;
mod sns;

pub(super) use incoming::Decoder;

/// What the message attributes of attributes begin with.
const PREFIX: &str = "ce-";

/// Where the media type of the data stands, or that of a whole event.
const CONTENT_TYPE: &str = "content-type";

#[cfg(test)]
mod tests;
