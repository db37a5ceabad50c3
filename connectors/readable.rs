//! Names of files as text: they may be any bytes but the slash and zero.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pointsman_schemas::event::{is_string, is_string_char};

/// A name as text: as it is, or percent-encoded where an attribute could not hold it, and which of
/// the two.
pub(crate) fn readable(name: &[u8]) -> (String, bool) {
    if let Ok(text) = std::str::from_utf8(name)
        && is_string(text)
    {
        return (text.to_owned(), false);
    }
    (encoded(name), true)
}

/// A name percent-encoded where an attribute could not hold it, and where it holds a `%`.
pub(crate) fn encoded(name: &[u8]) -> String {
    let encode = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_string_char(c) && c != '%' {
                text.push(c);
            } else {
                text.push_str(&encode(c.encode_utf8(&mut [0; 4]).as_bytes()));
            }
        }
        text.push_str(&encode(chunk.invalid()));
    }
    text
}

/// A path as text.
pub(crate) fn readable_path(path: &Path) -> String {
    readable(path.as_os_str().as_bytes()).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_are_where_they_can_be() {
        for (name, expect, is_encoded, id) in [
            (&b"a b/\xc3\xbc.jpg"[..], "a b/ü.jpg", false, "a b/ü.jpg"),
            (b"50%.jpg", "50%.jpg", false, "50%25.jpg"),
            (b"a%0Ab", "a%0Ab", false, "a%250Ab"),
            (b"a\nb", "a%0Ab", true, "a%0Ab"),
            (b"a\xff%b", "a%FF%25b", true, "a%FF%25b"),
            (b"\xef\xbf\xbe", "%EF%BF%BE", true, "%EF%BF%BE"),
        ] {
            assert_eq!(
                (readable(name), &*encoded(name)),
                ((expect.to_owned(), is_encoded), id)
            );
        }
    }
}
