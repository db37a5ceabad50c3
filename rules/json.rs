//! Values of raw JSON text, read in place without building anything.
//!
//! The text is trusted to be valid JSON (events are checked at the door) but never relied upon: on
//! anything else these functions find nothing. They do not recurse, so depth costs no stack.

use pointsman_schemas::AttributeValue;
use pointsman_schemas::json::{JsonString, elements, members};

use crate::number::Number;

/// A JSON value that is neither an object nor an array. Text is unescaped and is not checked to be
/// UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Text(&'a [u8]),
    Number(Number),
    Boolean(bool),
    Null,
}

impl<'a> From<AttributeValue<'a>> for Scalar<'a> {
    fn from(value: AttributeValue<'a>) -> Self {
        match value {
            AttributeValue::String(text) => Self::Text(text.as_bytes()),
            AttributeValue::Integer(number) => Self::Number(Number::Whole(number.into())),
            AttributeValue::Boolean(value) => Self::Boolean(value),
        }
    }
}

/// A member's key as it stands between its quotes.
#[derive(Clone, Copy)]
pub(crate) struct Key<'j> {
    pub(crate) raw: &'j [u8],
    pub(crate) escaped: bool,
}

impl Key<'_> {
    /// True where the key, unescaped, is this text.
    pub(crate) fn is(&self, text: &str) -> bool {
        let (mut rest, mut expected) = (self.raw, text.as_bytes());
        while self.escaped
            && let Some(at) = memchr::memchr(b'\\', rest)
        {
            let (plain, escape) = rest.split_at(at);
            let Some((character, length)) = escaped(escape) else {
                return false;
            };
            let behind = expected.strip_prefix(plain).and_then(|behind| {
                behind.strip_prefix(character.encode_utf8(&mut [0; 4]).as_bytes())
            });
            let Some(behind) = behind else { return false };
            (rest, expected) = (escape.get(length..).unwrap_or_default(), behind);
        }
        rest == expected
    }
}

/// A member's value by its key; of duplicate keys the last one counts.
pub(crate) fn member<'j>(json: &'j [u8], name: &str) -> Option<&'j [u8]> {
    let is_named = |key: JsonString<'_>| {
        let raw = key.inner.as_bytes();
        Key {
            raw,
            escaped: key.escaped,
        }
        .is(name)
    };
    let members = members(std::str::from_utf8(json).ok()?);
    let named = members.filter(|(key, _)| is_named(*key));
    named.last().map(|(_, value)| value.as_bytes())
}

/// An element by its index; a negative one counts from the end.
pub(crate) fn element(json: &[u8], index: i64) -> Option<&[u8]> {
    let json = std::str::from_utf8(json).ok()?;
    let from_start = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => elements(json)
            .count()
            .checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    elements(json).nth(from_start).map(str::as_bytes)
}

/// What stands between a string's quotes, and whether there are escapes in it.
pub(crate) fn between_quotes(json: &[u8]) -> Option<(&[u8], bool)> {
    let raw = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some((raw, memchr::memchr(b'\\', raw).is_some()))
}

/// A text without the whitespace around its value.
pub(crate) fn trim(json: &[u8]) -> &[u8] {
    json.trim_ascii()
}

/// Reads a scalar; the buffer takes a text that has escapes. None for objects, arrays and what is
/// no JSON.
pub(crate) fn scalar<'a>(json: &'a [u8], buffer: &'a mut Vec<u8>) -> Option<Scalar<'a>> {
    Some(match json.first()? {
        b'"' => {
            let (raw, escaped) = between_quotes(json)?;
            if escaped {
                buffer.clear();
                unescape(raw, buffer);
                Scalar::Text(buffer)
            } else {
                Scalar::Text(raw)
            }
        }
        b't' => Scalar::Boolean(true),
        b'f' => Scalar::Boolean(false),
        b'n' => Scalar::Null,
        _ => Scalar::Number(Number::parse(json)?),
    })
}

/// Appends what stands between a string's quotes, its escapes resolved (RFC 8259, section 7). Half
/// a surrogate pair becomes U+FFFD.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((character, length)) = escaped(escape) else {
            return;
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = escape.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Reads what a backslash begins: the character and how many bytes it took.
fn escaped(escape: &[u8]) -> Option<(char, usize)> {
    let short = match *escape.get(1)? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return Some(unicode_escape(escape)),
        other => char::from(other),
    };
    Some((short, 2))
}

/// Reads `\uXXXX` or a pair of them: the character and how many bytes it took.
fn unicode_escape(escape: &[u8]) -> (char, usize) {
    let unit = |at: usize| -> Option<u32> {
        let digits = escape.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |sum, digit| {
            Some(sum * 16 + char::from(*digit).to_digit(16)?)
        })
    };
    match unit(0) {
        Some(high @ 0xD800..=0xDBFF) => match unit(6) {
            Some(low @ 0xDC00..=0xDFFF) => (
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                    .unwrap_or(char::REPLACEMENT_CHARACTER),
                12,
            ),
            _ => (char::REPLACEMENT_CHARACTER, 6),
        },
        Some(code) => (
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
            6,
        ),
        None => (char::REPLACEMENT_CHARACTER, 2),
    }
}

/// Appends a text as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => &[
                b'\\',
                b'u',
                b'0',
                b'0',
                b'0' + (byte >> 4),
                b"0123456789abcdef"
                    .get(usize::from(byte & 15))
                    .copied()
                    .unwrap_or(b'0'),
            ],
            _ => continue,
        };
        out.extend_from_slice(text.as_bytes().get(from..at).unwrap_or_default());
        out.extend_from_slice(escape);
        from = at + 1;
    }
    out.extend_from_slice(text.as_bytes().get(from..).unwrap_or_default());
    out.push(b'"');
}

/// Appends a value's text without the whitespace between its tokens.
pub(crate) fn write_compact(json: &[u8], out: &mut Vec<u8>) {
    let (mut in_string, mut is_escaped) = (false, false);
    out.extend(json.iter().filter(|byte| {
        if in_string {
            in_string = is_escaped || **byte != b'"';
            is_escaped = !is_escaped && **byte == b'\\';
            return true;
        }
        in_string = **byte == b'"';
        !matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<i32>().prop_map(|eighths| (f64::from(eighths) / 8.0).into()),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::vec((".{0,4}", inner), 0..5).prop_map(|members| members
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_written(value in any_json(), name in ".{0,4}", index in -6..6_i64) {
            for text in [serde_json::to_vec(&value).unwrap(), serde_json::to_vec_pretty(&value).unwrap()] {
                let read = |found: Option<&[u8]>| found.map(|text| serde_json::from_slice::<serde_json::Value>(text).unwrap());
                for name in value.as_object().into_iter().flat_map(serde_json::Map::keys).chain([&name]) {
                    prop_assert_eq!(read(member(&text, name)), value.get(name).cloned());
                }
                let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let at = if index < 0 { list.len().wrapping_add_signed(index as isize) } else { index as usize };
                prop_assert_eq!(read(element(&text, index)), list.get(at).cloned());
                let mut buffer = Vec::new();
                if let Some(Scalar::Text(found)) = scalar(&text, &mut buffer) {
                    prop_assert_eq!(Some(std::str::from_utf8(found).unwrap()), value.as_str());
                }
                let mut compact = Vec::new();
                write_compact(&text, &mut compact);
                prop_assert_eq!(compact, serde_json::to_vec(&value).unwrap());
            }
        }

        #[test]
        fn a_text_is_written_as_serde_writes_it(text in ".*") {
            let mut out = Vec::new();
            write_string(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn what_is_no_json_is_survived(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ u0a1\xff".to_vec()), 0..40)) {
            let mut buffer = Vec::new();
            let _ = (member(&bytes, "a"), element(&bytes, -1), scalar(&bytes, &mut buffer));
            write_compact(&bytes, &mut buffer);
            unescape(&bytes, &mut buffer);
        }
    }

    #[test]
    fn members_and_elements() {
        let json =
            br#"{ "a" : 1, "b\"c": [ 1 , {"x":"]"}, [] ] , "a":2,"e\u0301\ud83d\ude00":null}"#;
        assert_eq!(member(json, "a"), Some(&b"2"[..]), "the last one counts");
        assert_eq!(member(json, "e\u{301}\u{1F600}"), Some(&b"null"[..]));
        let list = member(json, "b\"c").unwrap();
        assert_eq!(element(list, 1), Some(&br#"{"x":"]"}"#[..]));
        assert_eq!(element(list, -1), Some(&b"[]"[..]));
        assert_eq!(element(list, -4), None);
        assert_eq!(element(list, 3), None);
        assert_eq!(element(list, i64::MIN), None);
        assert_eq!(member(list, "a"), None);
    }
}
