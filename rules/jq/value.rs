//! Values in and out.

use jaq_json::{Num, Val};
use serde_json::Value;

use super::{DEPTH_MAX, JqError};
use crate::json;
use crate::template::TEMPLATE_BYTES_MAX;

/// JSON as jaq sees it. Numbers past 64 bits are doubles.
pub(super) fn of_json(value: &Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(value) => Val::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Val::Num(Num::from_integral(whole)),
            (_, Some(whole)) => Val::Num(Num::from_integral(whole)),
            _ => Val::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Val::from(text.clone()),
        Value::Array(items) => items.iter().map(of_json).collect(),
        Value::Object(entries) => Val::obj(
            entries
                .iter()
                .map(|(key, value)| (Val::from(key.clone()), of_json(value)))
                .collect(),
        ),
    }
}

/// Appends a value as JSON. What is no number in JSON is null, as with jq.
pub(super) fn write(value: &Val, depth: usize, out: &mut Vec<u8>) -> Result<(), JqError> {
    if depth > DEPTH_MAX {
        return Err(JqError::Deep);
    }
    match value {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Val::Num(number) => write_number(number, out),
        Val::TStr(text) | Val::BStr(text) => {
            json::write_string(&String::from_utf8_lossy(text), out)
        }
        Val::Arr(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, depth + 1, out)?;
            }
            out.push(b']');
        }
        Val::Obj(entries) => {
            out.push(b'{');
            for (index, (key, item)) in entries.iter().enumerate() {
                let Val::TStr(key) = key else {
                    return Err(JqError::Key);
                };
                if index > 0 {
                    out.push(b',');
                }
                json::write_string(&String::from_utf8_lossy(key), out);
                out.push(b':');
                write(item, depth + 1, out)?;
            }
            out.push(b'}');
        }
    }
    if out.len() > TEMPLATE_BYTES_MAX {
        Err(JqError::TooLong)
    } else {
        Ok(())
    }
}

fn write_number(number: &Num, out: &mut Vec<u8>) {
    /// Past this not every whole number is a double.
    const EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;
    let double = match number {
        Num::Int(_) | Num::BigInt(_) => {
            return out.extend_from_slice(number.to_string().as_bytes());
        }
        Num::Float(double) => *double,
        Num::Dec(text) => text.parse().unwrap_or(f64::NAN),
    };
    if double.fract() == 0.0 && double.abs() < EXACT_DOUBLE {
        out.extend_from_slice((double as i64).to_string().as_bytes());
    } else {
        out.extend_from_slice(Value::from(double).to_string().as_bytes());
    }
}
