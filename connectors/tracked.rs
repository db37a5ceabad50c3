//! An event in the JSON format that names the task it goes out for, where no header can.

use pointsman_schemas::{AttributeValue, json};

use crate::Delivery;

/// The attribute of an event that names its task.
pub(crate) const TASK_ATTRIBUTE: &str = "pointsmantask";

/// The one that counts the attempts at it.
pub(crate) const ATTEMPT_ATTRIBUTE: &str = "pointsmanattempt";

/// Writes the event of a delivery behind what is in `out`.
pub(crate) fn encode(delivery: &Delivery, out: &mut Vec<u8>) {
    let (task, attempt) = (delivery.id.to_string(), delivery.attempt);
    let attempt = AttributeValue::Integer(attempt.try_into().unwrap_or(i32::MAX));
    let added = [
        (TASK_ATTRIBUTE, AttributeValue::String(&task)),
        (ATTEMPT_ATTRIBUTE, attempt),
    ];
    json::encode_with(&delivery.event, &added, out);
}
