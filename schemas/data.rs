//! An event's data, carried byte for byte and parsed only when somebody looks.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use bytestring::ByteString;

use crate::invalid::InvalidEvent;
use crate::media_type::{is_json_media_type, is_utf8_media_type};
use crate::scan::outline::{Item, Notes};
use crate::scan::{self, Scanner, tree};

/// How an event's data is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// Valid JSON, at most [`JSON_DEPTH_MAX`](crate::scan::JSON_DEPTH_MAX) deep.
    Json,
    /// UTF-8 text that the JSON format carries as a string.
    Text,
    /// Bytes that the JSON format carries as `data_base64`.
    Binary,
}

/// The most values of JSON data whose places are kept with it: 80 KiB of memory. Of more they are
/// found again when somebody looks.
pub(crate) const ITEMS_MAX: usize = 4096;

/// An event's data: the bytes as they came, with what they are.
pub struct Data {
    kind: DataKind,
    bytes: Bytes,
    /// Where the values stand; none where nobody has noted it.
    outline: Option<Vec<Item>>,
    /// Shared, so that cloning an event never copies the tree.
    parsed: OnceLock<Arc<serde_json::Value>>,
}

impl Data {
    /// Data of a kind whose promise the caller has checked already (a decoder that has just read
    /// the JSON, the journal).
    ///
    /// Where that promise does not hold, conditions on the data find nothing; nothing panics.
    #[must_use]
    pub fn new_unchecked(kind: DataKind, bytes: Bytes) -> Self {
        Self {
            kind,
            bytes,
            outline: None,
            parsed: OnceLock::new(),
        }
    }

    /// JSON that a decoder has just read, with what it has noted.
    pub(crate) fn outlined(bytes: Bytes, outline: Option<Vec<Item>>) -> Self {
        Self {
            outline,
            ..Self::new_unchecked(DataKind::Json, bytes)
        }
    }

    /// Bytes of a declared media type, as every codec reads them, whatever mode or protocol they
    /// came by:
    ///
    /// | declared | data |
    /// |---|---|
    /// | JSON | JSON; the bytes have to be some |
    /// | a textual type, in UTF-8 | text where the bytes are UTF-8, else binary |
    /// | another | binary |
    /// | nothing | JSON where the bytes are one JSON value, else text where they are UTF-8, else binary |
    ///
    /// Scalars count as JSON, so that undeclared `5` and `"a"` are a number and a string, as they
    /// are in the JSON format; a sender who means text declares it.
    ///
    /// # Errors
    /// [`InvalidEvent::DataNotJson`] as of [`Data::json`], where JSON is declared.
    pub fn read(declared: Option<&str>, bytes: Bytes) -> Result<Self, InvalidEvent> {
        match declared {
            None => Ok(Self::sniffed(bytes)),
            Some(json) if is_json_media_type(json) => Self::json(bytes),
            Some(text) if is_utf8_media_type(text) && std::str::from_utf8(&bytes).is_ok() => {
                Ok(Self::new_unchecked(DataKind::Text, bytes))
            }
            Some(_) => Ok(Self::binary(bytes)),
        }
    }

    /// Bytes of which nobody says what they are.
    fn sniffed(bytes: Bytes) -> Self {
        let kind = match std::str::from_utf8(without_mark(&bytes)) {
            // Nothing is no text, and not JSON either.
            Err(_) | Ok("") => DataKind::Binary,
            Ok(text) => match check(text) {
                Ok(outline) => return Self::outlined(unmarked(bytes), outline),
                Err(_) => DataKind::Text,
            },
        };
        Self::new_unchecked(kind, bytes)
    }

    /// JSON data. A byte order mark in front is no part of it and taken off: RFC 8259, section 8.1.
    ///
    /// # Errors
    /// [`InvalidEvent::DataNotJson`] where the bytes are not one JSON value of at most
    /// [`JSON_DEPTH_MAX`](crate::scan::JSON_DEPTH_MAX) levels.
    pub fn json(bytes: Bytes) -> Result<Self, InvalidEvent> {
        let bytes = unmarked(bytes);
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| InvalidEvent::DataNotJson(error.to_string()))?;
        let outline =
            check(text).map_err(|mistake| InvalidEvent::DataNotJson(mistake.describe(text)))?;
        Ok(Self::outlined(bytes, outline))
    }

    /// Text data.
    #[must_use]
    pub fn text(text: ByteString) -> Self {
        Self::new_unchecked(DataKind::Text, text.into_bytes())
    }

    /// Binary data.
    #[must_use]
    pub fn binary(bytes: Bytes) -> Self {
        Self::new_unchecked(DataKind::Binary, bytes)
    }

    /// How the bytes are to be understood.
    #[must_use]
    pub fn kind(&self) -> DataKind {
        self.kind
    }

    /// The bytes as they came: of JSON its source text, of text its UTF-8, of binary the decoded
    /// bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where the values of JSON data stand, counted from the beginning of the value and not of the
    /// bytes, where that was noted as it was read; of a copy it is not.
    #[must_use]
    pub fn outline(&self) -> Option<&[Item]> {
        self.outline.as_deref()
    }

    /// JSON data as a tree, parsed at the first call and kept; none for other kinds.
    ///
    /// Numbers past 64 bits lose digits in it, of duplicate keys the last one counts, and numbers
    /// beyond the largest float become that: where the text matters use [`Data::bytes`].
    #[must_use]
    pub fn value(&self) -> Option<&serde_json::Value> {
        if self.kind != DataKind::Json {
            return None;
        }
        if self.parsed.get().is_none() {
            let _ = self
                .parsed
                .set(Arc::new(tree::parse(without_mark(&self.bytes))?));
        }
        self.parsed.get().map(|value| &**value)
    }
}

/// Checks that a text is JSON, and notes its values.
fn check(text: &str) -> Result<Option<Vec<Item>>, scan::Syntax> {
    let mut scanner = Scanner::new(text);
    scanner.peek();
    let mut notes = Notes::of(scanner.at(), text.len(), ITEMS_MAX);
    scanner.walk(&mut notes)?;
    scanner.end()?;
    Ok(notes.finish())
}

impl Clone for Data {
    /// What has been noted of the text stays behind: copies are kept, and the first one is what
    /// rules look at.
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            bytes: self.bytes.clone(),
            outline: None,
            parsed: self.parsed.clone(),
        }
    }
}

/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(MARK).unwrap_or(bytes)
}

/// Without the byte order mark that some editors and libraries put in front of UTF-8. Nothing is
/// copied.
pub(crate) fn unmarked(mut bytes: Bytes) -> Bytes {
    if bytes.starts_with(MARK) {
        bytes.split_off(MARK.len())
    } else {
        bytes
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.kind, self.bytes)
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.bytes == other.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::JSON_DEPTH_MAX;

    #[test]
    fn data_is_carried_byte_for_byte_and_parsed_late() {
        let raw = br#"{"n":12345678901234567890123,"a":1,"a":2}"#;
        let data = Data::json(Bytes::from_static(raw)).unwrap();
        assert_eq!(&data.bytes()[..], raw);
        assert_eq!(data.value().unwrap()["a"], 2);
        assert!(std::ptr::eq(
            data.value().unwrap(),
            data.clone().value().unwrap()
        ));
        assert!(Data::json(Bytes::from_static(b"{} x")).is_err());
        let nested = |depth: usize| Bytes::from([b"[".repeat(depth), b"]".repeat(depth)].concat());
        assert!(
            Data::json(nested(JSON_DEPTH_MAX - 1)).is_ok() && Data::json(nested(100_000)).is_err()
        );
        for accepted in [
            nested(JSON_DEPTH_MAX),
            Bytes::from(format!("[{}]", "9".repeat(400))),
            Bytes::from_static(br#""\ud800""#),
        ] {
            assert!(Data::json(accepted).unwrap().value().is_some());
        }
        assert!(
            Data::json(nested(JSON_DEPTH_MAX + 1)).is_err()
                && Data::json(Bytes::from_static(b"\"\xff\"")).is_err()
        );
        assert_eq!(
            Data::new_unchecked(DataKind::Json, Bytes::from_static(b"[\xff")).value(),
            None
        );
        assert_eq!(Data::binary(Bytes::from_static(b"{}")).value(), None);
    }
}
