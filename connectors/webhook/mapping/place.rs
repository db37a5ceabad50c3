//! What stands at a dotted path of a body: as text, or as it came.

use std::borrow::Cow;
use std::collections::HashMap;

use pointsman_schemas::Data;
use serde_json::Value;
use serde_json::value::RawValue;

/// The text at a dotted path: of a string itself, of a number or a boolean its JSON.
pub(super) fn text(body: &Value, path: &str) -> Option<String> {
    match path
        .split('.')
        .try_fold(body, |value, key| value.get(key))?
    {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(super) fn first_text(body: &Value, paths: &[&str]) -> Option<String> {
    paths.iter().find_map(|path| text(body, path))
}

pub(super) fn raw_at<'b>(text: &'b str, path: &str) -> Option<&'b RawValue> {
    let whole: &RawValue = serde_json::from_str(text).ok()?;
    path.split('.')
        .filter(|key| !key.is_empty())
        .try_fold(whole, |value, key| {
            serde_json::from_str::<HashMap<Cow<'b, str>, &'b RawValue>>(value.get())
                .ok()?
                .remove(key)
        })
}

/// The items of a list in the body as they came, long numbers included; the list itself has the
/// empty path.
pub(super) fn items<'b>(body: &'b [u8], path: &str) -> Option<Vec<&'b RawValue>> {
    let list = raw_at(std::str::from_utf8(body).ok()?, path)?;
    serde_json::from_str::<Vec<&RawValue>>(list.get())
        .ok()
        .filter(|items| !items.is_empty())
}

pub(super) fn json(value: &RawValue) -> Option<Data> {
    Data::json(value.get().to_owned().into()).ok()
}
