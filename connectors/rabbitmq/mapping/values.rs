//! Values of AMQP's tables, as attributes and as JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lapin::types::AMQPValue;
use pointsman_schemas::ExtensionValue;
use serde_json::{Map, Value};

/// How deep tables are read.
const DEPTH_MAX: usize = 32;

/// Section 3.1.3.2; none of what an attribute cannot be.
pub(super) fn extension(value: &AMQPValue) -> Option<ExtensionValue> {
    let text = |text: String| Some(ExtensionValue::String(text.into()));
    match value {
        AMQPValue::Boolean(value) => Some((*value).into()),
        AMQPValue::LongString(value) => {
            text(std::str::from_utf8(value.as_bytes()).ok()?.to_owned())
        }
        AMQPValue::ShortString(value) => text(value.to_string()),
        AMQPValue::ByteArray(value) => text(BASE64_STANDARD.encode(value.as_slice())),
        AMQPValue::Timestamp(seconds) => text(rfc3339(*seconds)?),
        AMQPValue::Void => None,
        other => Some(i32::try_from(integer(other)?).ok()?.into()),
    }
}

/// Any whole number of AMQP.
pub(super) fn integer(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(number) => i64::from(*number),
        AMQPValue::ShortShortUInt(number) => i64::from(*number),
        AMQPValue::ShortInt(number) => i64::from(*number),
        AMQPValue::ShortUInt(number) => i64::from(*number),
        AMQPValue::LongInt(number) => i64::from(*number),
        AMQPValue::LongUInt(number) => i64::from(*number),
        AMQPValue::LongLongInt(number) => *number,
        _ => return None,
    })
}

/// A value of a table as JSON; what lies deeper than [`DEPTH_MAX`] is null.
pub(super) fn json(value: &AMQPValue) -> Value {
    tree(value, DEPTH_MAX)
}

fn tree(value: &AMQPValue, depth: usize) -> Value {
    match value {
        _ if depth == 0 => Value::Null,
        AMQPValue::Boolean(value) => Value::from(*value),
        AMQPValue::Float(number) => Value::from(*number),
        AMQPValue::Double(number) => Value::from(*number),
        AMQPValue::DecimalValue(number) => {
            Value::from(f64::from(number.value) / 10_f64.powi(i32::from(number.scale)))
        }
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).map_or_else(
            |_| Value::from(BASE64_STANDARD.encode(text.as_bytes())),
            Value::from,
        ),
        AMQPValue::ByteArray(bytes) => Value::from(BASE64_STANDARD.encode(bytes.as_slice())),
        AMQPValue::Timestamp(seconds) => {
            rfc3339(*seconds).map_or_else(|| Value::from(*seconds), Value::from)
        }
        AMQPValue::FieldArray(items) => items
            .as_slice()
            .iter()
            .map(|item| tree(item, depth - 1))
            .collect(),
        AMQPValue::FieldTable(table) => table
            .into_iter()
            .map(|(name, value)| (name.as_str().to_owned(), tree(value, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
        other => integer(other).map_or(Value::Null, Value::from),
    }
}

/// A time of AMQP, in seconds since 1970.
pub(super) fn rfc3339(seconds: u64) -> Option<String> {
    jiff::Timestamp::from_second(i64::try_from(seconds).ok()?)
        .ok()
        .map(|time| time.to_string())
}
