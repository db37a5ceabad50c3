//! What MNS puts around a message of a topic: the same for a queue that is subscribed to it and for
//! a webhook that it calls.

use serde_json::Value;

use crate::xml;

/// How many elements an envelope may have.
const ELEMENTS_MAX: usize = 100;

/// Whether fields are those of an envelope.
pub(crate) fn is_envelope(fields: &Value) -> bool {
    fields.get("Message").is_some_and(Value::is_string) && fields.get("TopicName").is_some()
}

/// The fields of an envelope in XML, by the names that one in JSON has; none where a body is
/// something else.
pub(crate) fn from_xml(body: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(body).ok()?;
    let root = xml::read(text, ELEMENTS_MAX)?;
    if root.name != "Notification" {
        return None;
    }
    Some(Value::Object(root.fields())).filter(is_envelope)
}
