//! Raw JSON text read in place: which bytes a member or an element takes, without building
//! anything.
//!
//! The text is trusted to be valid JSON (events are checked at the door) but never relied upon: on
//! anything else these functions find nothing. They do not recurse, so depth costs no stack.

use pointsman_schemas::AttributeValue;

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

/// Where the whitespace from `at` on ends.
pub(crate) fn skip_whitespace(json: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = json.get(at) {
        at += 1;
    }
    at
}

/// From behind an opening quote: where the closing one stands, and whether there is a backslash
/// before it.
pub(crate) fn string_end(json: &[u8], mut at: usize) -> Option<(usize, bool)> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut escaped = false;
    loop {
        // Eight bytes at a time, as long as none of them is a quote or a backslash.
        while let Some(chunk) = json
            .get(at..at + 8)
            .and_then(|chunk| <[u8; 8]>::try_from(chunk).ok())
        {
            let word = u64::from_le_bytes(chunk);
            let (quote, backslash) = (word ^ (ONES * b'"' as u64), word ^ (ONES * b'\\' as u64));
            let found = (quote.wrapping_sub(ONES) & !quote
                | backslash.wrapping_sub(ONES) & !backslash)
                & HIGHS;
            if found != 0 {
                at += (found.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match json.get(at)? {
            b'"' => return Some((at, escaped)),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// From a value's first byte: where it ends.
pub(crate) fn value_end(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => string_end(json, at + 1).map(|(end, _)| end + 1),
        b'{' | b'[' => container_end(json, at),
        _ => {
            let rest = json.get(at..)?;
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))
                .unwrap_or(rest.len());
            (end > 0).then_some(at + end)
        }
    }
}

fn container_end(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match json.get(at)? {
            b'"' => at = string_end(json, at + 1)?.0 + 1,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
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

/// A walk over an object's members. After each key the caller passes the value, by
/// [`Members::skip`].
pub(crate) struct Members<'j> {
    json: &'j [u8],
    at: usize,
}

impl<'j> Members<'j> {
    /// From an object's opening brace.
    pub(crate) fn new(json: &'j [u8], at: usize) -> Option<Self> {
        (json.get(at) == Some(&b'{')).then_some(Self { json, at: at + 1 })
    }

    /// The next key, which leaves the walk at its value; `Some(None)` behind the closing brace,
    /// none where this is no JSON.
    pub(crate) fn next_key(&mut self) -> Option<Option<Key<'j>>> {
        self.at = skip_whitespace(self.json, self.at);
        if self.json.get(self.at) == Some(&b',') {
            self.at = skip_whitespace(self.json, self.at + 1);
        }
        match self.json.get(self.at)? {
            b'}' => {
                self.at += 1;
                Some(None)
            }
            b'"' => {
                let start = self.at + 1;
                let (end, escaped) = string_end(self.json, start)?;
                let colon = skip_whitespace(self.json, end + 1);
                if self.json.get(colon) != Some(&b':') {
                    return None;
                }
                self.at = skip_whitespace(self.json, colon + 1);
                Some(Some(Key {
                    raw: self.json.get(start..end)?,
                    escaped,
                }))
            }
            _ => None,
        }
    }

    /// Passes the value and gives its text.
    pub(crate) fn skip(&mut self) -> Option<&'j [u8]> {
        let start = self.at;
        self.at = value_end(self.json, start)?;
        self.json.get(start..self.at)
    }
}

/// The elements' texts of an array that begins at the first byte; none where this is no array.
pub(crate) fn elements(json: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = if json.first() == Some(&b'[') {
        1
    } else {
        json.len()
    };
    std::iter::from_fn(move || {
        at = skip_whitespace(json, at);
        if json.get(at) == Some(&b',') {
            at = skip_whitespace(json, at + 1);
        }
        if matches!(json.get(at), None | Some(b']')) {
            return None;
        }
        let start = at;
        at = value_end(json, start)?;
        json.get(start..at)
    })
}

/// A member's value by its key; of duplicate keys the last one counts.
pub(crate) fn member<'j>(json: &'j [u8], name: &str) -> Option<&'j [u8]> {
    let mut members = Members::new(json, 0)?;
    let mut found = None;
    while let Some(key) = members.next_key()? {
        let value = members.skip()?;
        if key.is(name) {
            found = Some(value);
        }
    }
    found
}

/// An element by its index; a negative one counts from the end.
pub(crate) fn element(json: &[u8], index: i64) -> Option<&[u8]> {
    let from_start = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => elements(json)
            .count()
            .checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    elements(json).nth(from_start)
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
            let (end, escaped) = string_end(json, 1)?;
            let raw = json.get(1..end)?;
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
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let end = match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {
                at += 1;
                continue;
            }
            b'"' => string_end(json, at + 1).map_or(json.len(), |(end, _)| end + 1),
            _ => at + 1,
        };
        out.extend_from_slice(json.get(at..end).unwrap_or_default());
        at = end;
    }
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

    /// Puts a value together again from what the walks find.
    fn rebuild(json: &[u8]) -> serde_json::Value {
        let mut buffer = Vec::new();
        match json[0] {
            b'[' => elements(json).map(rebuild).collect::<Vec<_>>().into(),
            b'{' => {
                let mut members = Members::new(json, 0).unwrap();
                let mut map = serde_json::Map::new();
                while let Some(key) = members.next_key().unwrap() {
                    let mut name = Vec::new();
                    unescape(key.raw, &mut name);
                    let name = String::from_utf8(name).unwrap();
                    assert!(key.is(&name) && !key.is(&format!("{name}x")));
                    map.insert(name, rebuild(members.skip().unwrap()));
                }
                map.into()
            }
            b'"' => match scalar(json, &mut buffer) {
                Some(Scalar::Text(text)) => std::str::from_utf8(text).unwrap().into(),
                other => panic!("{other:?}"),
            },
            _ => serde_json::from_slice(json).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn what_is_walked_is_what_was_written(value in any_json()) {
            for text in [serde_json::to_vec(&value).unwrap(), serde_json::to_vec_pretty(&value).unwrap()] {
                prop_assert_eq!(value_end(&text, 0), Some(text.len()));
                prop_assert_eq!(&rebuild(&text), &value);
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
            let _ = (value_end(&bytes, 0), member(&bytes, "a"), element(&bytes, -1), scalar(&bytes, &mut buffer));
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
