//! Documents of JSON as MySQL stores them (`json_binary.h` in its source), as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::packed;
use super::table_map::code;
use super::take::{Take, Unreadable};
use crate::cdc::json::write_text;

/// How deep a document may be nested; MySQL takes none that is deeper than 100.
const DEPTH_MAX: usize = 110;

/// The kinds of values.
const SMALL_OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const SMALL_ARRAY: u8 = 2;
const LARGE_ARRAY: u8 = 3;
const LITERAL: u8 = 4;
const INT16: u8 = 5;
const UINT16: u8 = 6;
const INT32: u8 = 7;
const UINT32: u8 = 8;
const INT64: u8 = 9;
const UINT64: u8 = 10;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

/// A document's text.
///
/// # Errors
/// It is not as it should be.
pub(super) fn text(document: &[u8]) -> Result<String, Unreadable> {
    let mut out = String::with_capacity(document.len());
    let mut left = Take(document);
    match document.is_empty() {
        true => out.push_str("null"),
        false => value(left.u8()?, left.0, 0, &mut out)?,
    }
    Ok(out)
}

fn value(kind: u8, bytes: &[u8], depth: usize, out: &mut String) -> Result<(), Unreadable> {
    let mut left = Take(bytes);
    match kind {
        SMALL_OBJECT | LARGE_OBJECT | SMALL_ARRAY | LARGE_ARRAY if depth < DEPTH_MAX => {
            let is_object = matches!(kind, SMALL_OBJECT | LARGE_OBJECT);
            let width = if matches!(kind, SMALL_OBJECT | SMALL_ARRAY) {
                2
            } else {
                4
            };
            return Nested {
                bytes,
                width,
                depth,
            }
            .write(is_object, out);
        }
        LITERAL => out.push_str(match left.u8()? {
            0 => "null",
            1 => "true",
            2 => "false",
            _ => {
                return Err(Unreadable::unknown(
                    "a document of JSON has an unknown literal",
                ));
            }
        }),
        INT16 => out.push_str(&left.u16()?.cast_signed().to_string()),
        UINT16 => out.push_str(&left.u16()?.to_string()),
        INT32 => out.push_str(&left.u32()?.cast_signed().to_string()),
        UINT32 => out.push_str(&left.u32()?.to_string()),
        INT64 => out.push_str(&left.number(8)?.cast_signed().to_string()),
        UINT64 => out.push_str(&left.number(8)?.to_string()),
        DOUBLE => out.push_str(&format!("{:?}", f64::from_bits(left.number(8)?))),
        STRING => {
            let length = variable(&mut left)?;
            let text = left.long_bytes(length)?;
            write_text(&String::from_utf8_lossy(text), out);
        }
        OPAQUE => {
            let ty = left.u8()?;
            let length = variable(&mut left)?;
            opaque(ty, left.long_bytes(length)?, out)?;
        }
        _ => {
            return Err(Unreadable::unknown(
                "a document of JSON has a value of an unknown kind",
            ));
        }
    }
    Ok(())
}

/// A length: seven bits of each byte, the lowest first, and one that says whether more follow.
fn variable(left: &mut Take<'_>) -> Result<u64, Unreadable> {
    let mut length = 0;
    for place in 0..5 {
        let byte = left.u8()?;
        length |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err(Unreadable::unknown(
        "a document of JSON has a length that is too long",
    ))
}

/// Writes a value of a type of SQL.
fn opaque(ty: u8, bytes: &[u8], out: &mut String) -> Result<(), Unreadable> {
    match ty {
        code::DECIMAL => {
            let mut left = Take(bytes);
            let (precision, scale) = (left.u8()?, left.u8()?);
            out.push_str(&packed::decimal(left.rest(), precision, scale));
        }
        code::DATE => {
            let text = packed::datetime_in_json(bytes);
            write_text(text.split(' ').next().unwrap_or_default(), out);
        }
        code::TIME_OLD | code::TIME => write_text(&packed::time_in_json(bytes), out),
        code::DATETIME_OLD | code::DATETIME | code::TIMESTAMP_OLD | code::TIMESTAMP => {
            write_text(&packed::datetime_in_json(bytes), out);
        }
        _ => write_text(&STANDARD.encode(bytes), out),
    }
    Ok(())
}

/// An object or an array: how many values it has and how long it is, where each key is, where each
/// value is, and these.
struct Nested<'b> {
    bytes: &'b [u8],
    /// How many bytes a place has.
    width: usize,
    depth: usize,
}

impl Nested<'_> {
    fn write(&self, is_object: bool, out: &mut String) -> Result<(), Unreadable> {
        let mut left = Take(self.bytes);
        let count = left.number(self.width)?;
        let _length = left.number(self.width)?;
        let count = usize::try_from(count).map_err(|_| Unreadable::Short)?;
        let key_bytes = match is_object {
            true => count.checked_mul(self.width + 2).ok_or(Unreadable::Short)?,
            false => 0,
        };
        let mut keys = Take(left.bytes(key_bytes)?);
        out.push(if is_object { '{' } else { '[' });
        for index in 0..count {
            if index > 0 {
                out.push(',');
            }
            if is_object {
                let place = keys.number(self.width)?;
                let length = usize::from(keys.u16()?);
                let key = Take(self.at(place)?).bytes(length)?;
                write_text(&String::from_utf8_lossy(key), out);
                out.push(':');
            }
            let kind = left.u8()?;
            let inline = left.bytes(self.width)?;
            // What fits stands in the place of where it is.
            let fits = matches!(kind, LITERAL | INT16 | UINT16)
                || (self.width == 4 && matches!(kind, INT32 | UINT32));
            let bytes = match fits {
                true => inline,
                false => self.at(Take(inline).number(self.width)?)?,
            };
            value(kind, bytes, self.depth + 1, out)?;
        }
        out.push(if is_object { '}' } else { ']' });
        Ok(())
    }

    fn at(&self, place: u64) -> Result<&[u8], Unreadable> {
        let place = usize::try_from(place).map_err(|_| Unreadable::Short)?;
        self.bytes.get(place..).ok_or(Unreadable::Short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        // Written down as MySQL's own documentation of the format lays them out.
        for (hex, expect) in [
            ("", "null"),
            ("0400", "null"),
            ("05ffff", "-1"),
            ("0b000000000000f83f", "1.5"),
            ("0c026869", "\"hi\""),
            // {"a": 1, "b": [true, "x"]}
            (
                "00020020001200010013000100050100021400616202000c000401000c0a000178",
                "{\"a\":1,\"b\":[true,\"x\"]}",
            ),
            // 1.23 as a decimal.
            ("0ff60403028117", "1.23"),
        ] {
            let bytes = hex::decode(hex).unwrap();
            assert_eq!(text(&bytes).as_deref(), Ok(expect), "{hex}");
        }
        for broken in ["00ff", "0c7f61", "0dff", "0001000c00ff00010005"] {
            let bytes = hex::decode(broken).unwrap();
            assert!(text(&bytes).is_err(), "{broken}");
        }
        assert_eq!(text(b"\x0c\x7fa"), Err(Unreadable::Short));
    }
}
