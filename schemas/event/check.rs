//! What the attributes of an event may be.

use iri_string::types::UriReferenceStr;

use super::ATTRIBUTE_NAME_BYTES_MAX;

/// True for the names that an extension attribute may have.
pub(crate) fn is_attribute_name(name: &str) -> bool {
    (1..=ATTRIBUTE_NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && name != "data"
}

/// A text for a message: somebody else sent it, and it may be long.
pub(crate) fn shorten(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// True where an attribute of this name may have this value, as [`EventBuilder::build`] decides.
pub(crate) fn may_hold(name: &str, value: &str) -> bool {
    match name {
        "source" | "dataschema" => !value.is_empty() && is_uri_reference(value),
        "time" => is_rfc3339(value),
        "specversion" => value == "1.0",
        _ => is_string(value),
    }
}

/// True for the "String" of the CloudEvents type system: no control characters and no
/// noncharacters.
#[must_use]
pub fn is_string(text: &str) -> bool {
    // Without an early end, so that many bytes are looked at together.
    text.bytes().fold(true, |is_plain, byte| {
        is_plain & (0x20..0x7F).contains(&byte)
    }) || text.chars().all(is_string_char)
}

/// True for a character that the "String" of the CloudEvents type system may hold.
#[must_use]
pub fn is_string_char(c: char) -> bool {
    !c.is_control() && !matches!(u32::from(c), 0xFDD0..=0xFDEF) && u32::from(c) & 0xFFFE != 0xFFFE
}

/// RFC 3986, section 4.1.
pub(super) fn is_uri_reference(text: &str) -> bool {
    // Of these characters any path is one, and so is one behind a scheme: most need no grammar.
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
    let colon = text.bytes().position(|byte| byte == b':');
    let path = match colon.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) {
        Some((scheme, path)) if is_scheme(scheme) => path,
        Some(_) => return UriReferenceStr::new(text).is_ok(),
        None => text,
    };
    path.bytes()
        .fold(true, |is_path, byte| is_path & is_plain(byte))
        || UriReferenceStr::new(text).is_ok()
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// RFC 3339, section 5.6, `date-time`, with the calendar's own bounds.
pub(crate) fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        bytes.get(from..to)?.iter().try_fold(0_u32, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + u32::from(byte - b'0'))
        })
    };
    let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|byte| any.contains(byte));
    let check = || {
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let separators =
            is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let mut at = 19;
        if is(at, b".") {
            let digits = bytes
                .get(at + 1..)?
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if digits == 0 {
                return None;
            }
            at += 1 + digits;
        }
        let zone = if is(at, b"Zz") {
            at + 1 == bytes.len()
        } else {
            is(at, b"+-")
                && is(at + 3, b":")
                && at + 6 == bytes.len()
                && number(at + 1, at + 3)? <= 23
                && number(at + 4, at + 6)? <= 59
        };
        Some(
            separators
                && (1..=days).contains(&day)
                && hour <= 23
                && minute <= 59
                && second <= 60
                && zone,
        )
    };
    check().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_uri_reference_is_what_the_grammar_says(text in "[a1:/?#%@.~ü\\[\\]+-]{0,12}") {
            proptest::prop_assert_eq!(is_uri_reference(&text), UriReferenceStr::new(&text).is_ok());
        }
    }
}
