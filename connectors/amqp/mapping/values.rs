//! Values of AMQP as attributes and as JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pointsman_schemas::ExtensionValue;
use serde_json::{Map, Value as Json};

use crate::amqp::value::Value;

/// Section 3.1.3.2 of the binding; none of what an attribute cannot be.
pub(super) fn extension(value: &Value) -> Option<ExtensionValue> {
    match value {
        Value::Boolean(value) => Some((*value).into()),
        Value::Ubyte(_) | Value::Ushort(_) | Value::Uint(_) | Value::Ulong(_) | Value::Int(_) => {
            Some(integer(value)?.into())
        }
        Value::Null | Value::List(_) | Value::Map(_) | Value::Symbols(_) => None,
        Value::Described(described) => extension(&described.1),
        other => Some(ExtensionValue::String(text(other)?.into())),
    }
}

fn integer(value: &Value) -> Option<i32> {
    match value {
        Value::Int(number) => i32::try_from(*number).ok(),
        other => i32::try_from(other.as_u64()?).ok(),
    }
}

/// A value that one text stands for.
pub(super) fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) | Value::Symbol(text) => text.to_string(),
        Value::Binary(bytes) | Value::Decimal(bytes) => BASE64_STANDARD.encode(bytes),
        Value::Char(code) => char::from_u32(*code)?.to_string(),
        Value::Timestamp(milliseconds) => rfc3339(*milliseconds)?,
        Value::Uuid(bytes) => uuid(bytes),
        Value::Int(number) => number.to_string(),
        Value::Ubyte(_) | Value::Ushort(_) | Value::Uint(_) | Value::Ulong(_) => {
            value.as_u64()?.to_string()
        }
        _ => return None,
    })
}

/// A value as JSON, as far as JSON can say it: bytes in base64, the keys of maps as texts.
pub(super) fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Ubyte(_) | Value::Ushort(_) | Value::Uint(_) | Value::Ulong(_) => {
            value.as_u64().into()
        }
        // What is no number of JSON is null there.
        Value::Float(number) => (*number).into(),
        Value::List(values) => values.iter().map(json).collect(),
        Value::Symbols(texts) => texts.iter().map(|text| Json::from(&**text)).collect(),
        Value::Map(pairs) => map(pairs).into(),
        Value::Described(described) => json(&described.1),
        Value::Timestamp(milliseconds) => {
            rfc3339(*milliseconds).map_or_else(|| (*milliseconds).into(), Json::from)
        }
        other => text(other).into(),
    }
}

/// A map as JSON.
pub(super) fn map(pairs: &[(Value, Value)]) -> Map<String, Json> {
    let key = |key: &Value| text(key).unwrap_or_else(|| json(key).to_string());
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (key(name), json(value)))
        .collect()
}

pub(super) fn rfc3339(milliseconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(milliseconds).ok()?;
    Some(time.to_string())
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = hex::encode(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_as_json_and_as_attributes() {
        let uuid: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let string = |text: &str| Some(ExtensionValue::String(text.into()));
        let time = "2023-11-14T22:13:20.123Z";
        for (value, expect, attribute) in [
            (Value::Null, json!(null), None),
            (Value::Boolean(true), json!(true), Some(true.into())),
            (Value::Ubyte(7), json!(7), Some(7.into())),
            (Value::Ulong(1 << 40), json!(1_u64 << 40), None),
            (Value::Int(-7), json!(-7), Some((-7).into())),
            (Value::Float(1.5), json!(1.5), None),
            (Value::Float(f64::NAN), json!(null), None),
            (Value::Char(0xe4), json!("ä"), string("ä")),
            (
                Value::Timestamp(1_700_000_000_123),
                json!(time),
                string(time),
            ),
            (Value::Timestamp(i64::MAX), json!(i64::MAX), None),
            (
                Value::Uuid(uuid),
                json!("00010203-0405-0607-0809-0a0b0c0d0e0f"),
                string("00010203-0405-0607-0809-0a0b0c0d0e0f"),
            ),
            (
                Value::Binary(Bytes::from_static(b"\xff")),
                json!("/w=="),
                string("/w=="),
            ),
            (Value::symbol("s"), json!("s"), string("s")),
            (
                Value::List(vec![Value::Int(1), Value::Null]),
                json!([1, null]),
                None,
            ),
            (
                Value::Map(vec![
                    (Value::string("a"), Value::Boolean(false)),
                    (Value::Int(7), Value::Null),
                    (Value::Boolean(true), Value::Null),
                ]),
                json!({ "a": false, "7": null, "true": null }),
                None,
            ),
            (
                Value::described(1, Value::string("d")),
                json!("d"),
                string("d"),
            ),
        ] {
            assert_eq!(json(&value), expect, "{value:?}");
            assert_eq!(extension(&value), attribute, "{value:?}");
        }
    }
}
