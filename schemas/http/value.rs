//! The values of `ce-` headers: HTTP protocol binding 1.0.2, section 3.1.3.2.

use std::borrow::Cow;

use bytestring::ByteString;
use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What is percent-encoded besides everything outside ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Encodes a text; one that needs no escapes is not copied. There is always a value: what is left is printable ASCII.
pub(super) fn encode(text: &ByteString) -> Option<HeaderValue> {
    if text.bytes().all(|byte| matches!(byte, 0x21..=0x7E) && !matches!(byte, b'"' | b'%')) {
        return HeaderValue::from_maybe_shared(text.as_bytes().clone()).ok();
    }
    HeaderValue::try_from(utf8_percent_encode(text, ENCODED).to_string()).ok()
}

/// Decodes a value and puts it behind what is in `out`; the error says what the value should have been.
///
/// Older writers put texts into double quotes instead of encoding spaces, so these are taken off first.
pub(super) fn decode(value: &[u8], out: &mut String) -> Result<(), &'static str> {
    const EXPECTED: &str = "percent-encoded UTF-8";
    let unquoted = unquote(value)?;
    let mut rest = &*unquoted;
    if !rest.contains(&b'%') {
        out.push_str(std::str::from_utf8(rest).map_err(|_| EXPECTED)?);
        return Ok(());
    }
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match byte {
            b'%' => {
                let (digits, behind) = rest.split_first_chunk::<2>().ok_or(EXPECTED)?;
                rest = behind;
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(EXPECTED);
                digit(digits[0])? << 4 | digit(digits[1])?
            }
            byte => *byte,
        });
    }
    out.push_str(std::str::from_utf8(&decoded).map_err(|_| EXPECTED)?);
    Ok(())
}

/// Takes off the quotes of a quoted-string: RFC 9110, section 5.6.4. A quote inside a value that does not begin with one is plain text.
fn unquote(value: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    const EXPECTED: &str = "one quoted string, closed at its end";
    let Some((b'"', quoted)) = value.split_first() else { return Ok(Cow::Borrowed(value)) };
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match bytes.next().ok_or(EXPECTED)? {
            b'"' if bytes.as_slice().is_empty() => return Ok(Cow::Owned(text)),
            b'"' => return Err(EXPECTED),
            b'\\' => text.push(*bytes.next().ok_or(EXPECTED)?),
            byte => text.push(*byte),
        }
    }
}
