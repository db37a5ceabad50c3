//! The values of `ce-` headers: HTTP protocol binding 1.0.2, section 3.1.3.2.

use std::borrow::Cow;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::event::Event;

/// What is percent-encoded besides everything outside ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Encodes a text of an event; one that needs no escapes is not copied. There is always a value:
/// what is left is printable ASCII.
pub(super) fn encode(event: &Event, text: &str) -> Option<HeaderValue> {
    let is_plain = |byte| matches!(byte, 0x21..=0x7E) && byte != b'"' && byte != b'%';
    // Without an early end the compiler looks at many bytes at a time.
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return HeaderValue::from_maybe_shared(event.shared(text).into_bytes()).ok();
    }
    HeaderValue::try_from(utf8_percent_encode(text, ENCODED).to_string()).ok()
}

/// Decodes a value; the error says what the value should have been.
///
/// Older writers put texts into double quotes instead of encoding spaces, so these are taken off
/// first. What was never encoded, because it cannot be decoded or because what comes of it is not
/// `valid` for its attribute, is taken as it stands.
pub(super) fn decode(
    value: &[u8],
    valid: impl Fn(&str) -> bool,
) -> Result<Cow<'_, str>, &'static str> {
    if !value.contains(&b'%') && value.first() != Some(&b'"') {
        return utf8(value);
    }
    let decoded =
        unquote(value).and_then(|unquoted| String::from_utf8(percent_decode(&unquoted)?).ok());
    match decoded.filter(|decoded| valid(decoded)) {
        Some(decoded) => Ok(decoded.into()),
        None => utf8(value),
    }
}

fn utf8(value: &[u8]) -> Result<Cow<'_, str>, &'static str> {
    std::str::from_utf8(value)
        .map(Cow::Borrowed)
        .map_err(|_| "UTF-8")
}

/// None where a `%` is not followed by two hexadecimal digits.
fn percent_decode(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match byte {
            b'%' => {
                let (digits, behind) = rest.split_first_chunk::<2>()?;
                rest = behind;
                let digit = |byte: u8| {
                    char::from(byte)
                        .to_digit(16)
                        .and_then(|digit| u8::try_from(digit).ok())
                };
                digit(digits[0])? << 4 | digit(digits[1])?
            }
            byte => *byte,
        });
    }
    Some(decoded)
}

/// Takes off the quotes of a quoted-string: RFC 9110, section 5.6.4; none where it does not end at
/// the value's end. A quote inside a value that does not begin with one is plain text.
fn unquote(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some((b'"', quoted)) = value.split_first() else {
        return Some(Cow::Borrowed(value));
    };
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' if bytes.as_slice().is_empty() => return Some(Cow::Owned(text)),
            b'"' => return None,
            b'\\' => text.push(*bytes.next()?),
            byte => text.push(*byte),
        }
    }
}
