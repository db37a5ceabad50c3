//! CloudEvents of systems whose messages are one document and nothing else: no headers, no media
//! type.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use memchr::memmem;
use pointsman_schemas::{InvalidEvent, json};
use serde_json::value::RawValue;

use crate::Delivery;

/// The attribute that only a CloudEvent has.
const VERSION: &str = "specversion";

/// The delivery's id, the same over all attempts.
pub(crate) const TASK: &str = "pointsmantask";

/// The number of the attempt.
pub(crate) const ATTEMPT: &str = "pointsmanattempt";

/// The rule that made the delivery.
pub(crate) const RULE: &str = "pointsmanrule";

/// Whether a document announces a CloudEvent in the JSON format, right or wrong: it is an object
/// with a `specversion`.
pub(crate) fn is_cloudevent(document: &[u8]) -> bool {
    if document.trim_ascii_start().first() != Some(&b'{')
        || memmem::find(document, VERSION.as_bytes()).is_none()
    {
        return false;
    }
    serde_json::from_slice::<HashMap<Cow<'_, str>, &RawValue>>(document)
        .is_ok_and(|members| members.contains_key(VERSION))
}

/// The event of a delivery in the JSON format. What headers say elsewhere are its extensions.
///
/// # Errors
/// The event has no room for these.
pub(crate) fn encode(delivery: &Delivery, rule: &str) -> Result<Bytes, InvalidEvent> {
    let event = delivery.event.as_ref().clone().into_builder();
    let event = event
        .attribute(TASK, delivery.id.to_string().as_str().into())
        .attribute(ATTEMPT, delivery.attempt.to_string().as_str().into())
        .attribute(RULE, rule.into())
        .build()?;
    let mut bytes = Vec::with_capacity(event.size_bytes());
    json::encode(&event, &mut bytes);
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_speaks_of_a_cloudevent_is_none() {
        for (document, expect) in [
            (r#"{"specversion":"1.0"}"#, true),
            ("\n {\"id\":7, \"specversion\": null}", true),
            (r#"{"text":"\"specversion\""}"#, false),
            (r#"{"nested":{"specversion":"1.0"}}"#, false),
            (r#"["specversion"]"#, false),
            ("{ \"specversion\" broken", false),
            ("", false),
        ] {
            assert_eq!(is_cloudevent(document.as_bytes()), expect, "{document}");
        }
    }
}
