//! Values of MySQL and MariaDB, as JSON.
//!
//! | type | JSON |
//! |---|---|
//! | integers, `year`, `bit`, `float`, `double`, `decimal` | a number with all its digits |
//! | `json` | as it is |
//! | `timestamp` | RFC 3339 in UTC |
//! | `datetime` | the same without a zone |
//! | `binary`, `varbinary`, blobs, geometries, vectors | base64 |
//! | `set` | an array of texts |
//! | everything else | its text |

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::jsonb;
use super::kind::Kind;
use super::packed;
use super::table_map::{WireType, code};
use super::take::{Unreadable, big, bit, little};
use crate::cdc::json::{write_no_text, write_text, write_texts};

/// A value that is not null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// As JSON has it.
    Number(String),
    Text(String),
    /// A document.
    Json(String),
    Bytes(Bytes),
    /// What is to be a text and cannot be read as one.
    NoText(Bytes),
    Labels(Vec<String>),
}

impl Value {
    /// Writes it behind what is in `out`.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Number(text) | Self::Json(text) => out.push_str(text),
            Self::Text(text) => write_text(text, out),
            Self::Bytes(bytes) => write_text(&STANDARD.encode(bytes), out),
            Self::NoText(bytes) => write_no_text(bytes, out),
            Self::Labels(labels) => write_texts(labels.iter().map(String::as_str), out),
        }
    }

    /// As a part of a key.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Number(text) | Self::Json(text) | Self::Text(text) => text.clone(),
            Self::Bytes(bytes) | Self::NoText(bytes) => STANDARD.encode(bytes),
            Self::Labels(labels) => labels.join("+"),
        }
    }
}

/// A number as JSON has it, and as a text what is none.
fn number(text: &str) -> Value {
    let digits = text.strip_prefix('-').unwrap_or(text);
    match digits.starts_with(|c: char| c.is_ascii_digit()) {
        true => Value::Number(text.to_owned()),
        false => Value::Text(text.to_owned()),
    }
}

/// `2026-01-02 03:04:05` as RFC 3339 has it, with this zone; what is no date (`0000-00-00`) stays
/// as it is.
fn moment(text: &str, zone: &str) -> Value {
    let is_zero = |at: std::ops::Range<usize>| text.get(at).is_none_or(|part| part == "00");
    Value::Text(match is_zero(5..7) || is_zero(8..10) {
        true => text.to_owned(),
        false => format!("{}{zone}", text.replacen(' ', "T", 1)),
    })
}

fn float(value: f64, is_single: bool) -> Value {
    // The fewest digits that mean this number.
    match is_single {
        true => number(&format!("{:?}", value as f32)),
        false => number(&format!("{value:?}")),
    }
}

/// MariaDB has JSON as a text that is checked.
fn document(text: String) -> Value {
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(_) => Value::Json(text),
        Err(_) => Value::Text(text),
    }
}

/// The labels of a set, by its bits.
fn chosen(bytes: &[u8], labels: &[String]) -> Value {
    let own = labels.iter().enumerate();
    let own = own.filter(|(index, _)| bit(bytes, *index));
    Value::Labels(own.map(|(_, label)| label.clone()).collect())
}

impl Kind {
    /// The value that the log has in these bytes.
    ///
    /// # Errors
    /// It is not as it should be.
    pub(super) fn of_log(&self, ty: WireType, bytes: &Bytes) -> Result<Value, Unreadable> {
        let digits = ty.first;
        Ok(match self {
            Self::Integer { is_unsigned } => Value::Number(match is_unsigned {
                true => little(bytes).to_string(),
                false => signed(bytes).to_string(),
            }),
            Self::Float | Self::Double => match *bytes.as_ref() {
                [a, b, c, d] => float(f64::from(f32::from_le_bytes([a, b, c, d])), true),
                _ => float(f64::from_bits(little(bytes)), false),
            },
            Self::Decimal => Value::Number(packed::decimal(bytes, ty.first, ty.second)),
            Self::Bit => Value::Number(big(bytes).to_string()),
            Self::Year => Value::Number(match little(bytes) {
                0 => "0".to_owned(),
                year => (year + 1900).to_string(),
            }),
            Self::Date => Value::Text(packed::date(bytes)),
            Self::Time => Value::Text(match ty.code {
                code::TIME_OLD => packed::old_time(bytes),
                _ => packed::time(bytes, digits),
            }),
            Self::Datetime => match ty.code {
                code::DATETIME_OLD => moment(&packed::old_datetime(bytes), ""),
                _ => moment(&packed::datetime(bytes, digits), ""),
            },
            Self::Timestamp => match ty.code {
                code::TIMESTAMP_OLD => moment(&packed::moment(little(bytes)), "Z"),
                _ => moment(&packed::timestamp(bytes, digits), "Z"),
            },
            Self::Enum(labels) => match little(bytes) {
                // What was written that is none of them.
                0 => Value::Text(String::new()),
                number => {
                    let index = usize::try_from(number - 1).ok();
                    let label = index.and_then(|index| labels.get(index));
                    label.map_or_else(
                        || Value::Number(number.to_string()),
                        |label| Value::Text(label.clone()),
                    )
                }
            },
            Self::Set(labels) if labels.is_empty() => Value::Number(little(bytes).to_string()),
            Self::Set(labels) => chosen(bytes, labels),
            Self::Json => Value::Json(jsonb::text(bytes)?),
            // The zeros at the end of a text of a fixed length are not told.
            Self::Bytes if ty.code == code::STRING => Value::Bytes(padded(bytes, ty.length())),
            Self::Bytes => Value::Bytes(bytes.clone()),
            Self::Uuid => uuid(&padded(bytes, 16)),
            Self::Inet4 => address(&padded(bytes, 4)),
            Self::Inet6 => address(&padded(bytes, 16)),
            Self::Text(_) | Self::TextOfJson(_)
                if matches!(ty.code, code::BLOB_COMPRESSED | code::VARCHAR_COMPRESSED) =>
            {
                return Err(Unreadable::unknown("COMPRESSED columns are not known here"));
            }
            Self::Text(charset) | Self::TextOfJson(charset) => match charset.decode(bytes) {
                None => Value::NoText(bytes.clone()),
                Some(text) if matches!(self, Self::TextOfJson(_)) => document(text),
                Some(text) => Value::Text(text),
            },
        })
    }

    /// The value that a statement returns as these bytes, a text in UTF-8 unless it is no text.
    pub(super) fn of_statement(&self, bytes: &Bytes) -> Value {
        let text = match self {
            Self::Bit => return Value::Number(big(bytes).to_string()),
            Self::Bytes => return Value::Bytes(bytes.clone()),
            _ => str::from_utf8(bytes),
        };
        let Ok(text) = text else {
            return Value::NoText(bytes.clone());
        };
        match self {
            Self::Float | Self::Double => match text.parse() {
                Ok(value) => float(value, *self == Self::Float),
                Err(_) => Value::Text(text.to_owned()),
            },
            Self::Integer { .. } | Self::Decimal => number(text),
            // MariaDB writes a year of zero with all its digits.
            Self::Year => number(match text.trim_start_matches('0') {
                "" => "0",
                year => year,
            }),
            Self::Datetime => moment(text, ""),
            Self::Timestamp => moment(text, "Z"),
            Self::Set(_) => {
                let labels = text.split(',').filter(|label| !label.is_empty());
                Value::Labels(labels.map(ToOwned::to_owned).collect())
            }
            Self::Json => Value::Json(text.to_owned()),
            Self::TextOfJson(_) => document(text.to_owned()),
            _ => Value::Text(text.to_owned()),
        }
    }
}

/// A number that may be below zero.
fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len().min(8) as u32;
    let value = little(bytes).checked_shl(unused).unwrap_or_default();
    value.cast_signed() >> unused.min(63)
}

fn padded(bytes: &Bytes, length: usize) -> Bytes {
    match bytes.len() < length {
        true => {
            let mut padded = bytes.to_vec();
            padded.resize(length, 0);
            padded.into()
        }
        false => bytes.clone(),
    }
}

/// MariaDB stores most UUIDs with the parts that change least in front, and says by a bit of the
/// variant that it does.
fn uuid(stored: &[u8]) -> Value {
    let Ok([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]) = <[u8; 16]>::try_from(stored) else {
        return Value::NoText(Bytes::copy_from_slice(stored));
    };
    let is_swapped = g & 0x80 != 0 && i != 0;
    let told = match is_swapped {
        true => [m, n, o, p, k, l, i, j, g, h, a, b, c, d, e, f],
        false => [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p],
    };
    let mut text = hex::encode(told);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    Value::Text(text)
}

fn address(stored: &[u8]) -> Value {
    if let Ok(four) = <[u8; 4]>::try_from(stored) {
        return Value::Text(Ipv4Addr::from(four).to_string());
    }
    match <[u8; 16]>::try_from(stored) {
        Ok(sixteen) => Value::Text(Ipv6Addr::from(sixteen).to_string()),
        Err(_) => Value::NoText(Bytes::copy_from_slice(stored)),
    }
}
