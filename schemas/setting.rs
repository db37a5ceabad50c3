//! Kinds of values in the rule file: texts that may come from the environment or a file, and
//! numbers with a unit.

mod duplicates;
mod unit;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

pub use self::duplicates::Duplicates;
pub use self::unit::{Interval, Rate, Size};

/// A text setting: written out, or `{ env: NAME }`, or `{ file: path }`.
///
/// It is resolved when a connector opens, so that a missing variable never fails a check of the
/// file.
#[derive(Clone, PartialEq, Eq)]
pub enum Text {
    /// Written out in the file.
    Literal(String),
    /// The value of an environment variable.
    Env(String),
    /// The content of a file without its last line break.
    File(PathBuf),
}

/// A [`Text`] has no value.
#[derive(Debug, thiserror::Error)]
pub enum UnresolvedText {
    /// The variable is unset or not UTF-8.
    #[error("the environment variable {0} is not set; set it or write the value into a file")]
    Env(String),
    /// The file cannot be read.
    #[error("cannot read {path} for a setting: {reason}", path = .0.display(), reason = .1)]
    File(PathBuf, String),
}

/// The largest file that holds a setting: a chain of certificates is far smaller.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a whole regular file. A pipe, a socket or a device would keep whoever reads it waiting, so
/// none is opened.
///
/// # Errors
/// As opening and reading a file; [`InvalidInput`](std::io::ErrorKind::InvalidInput) of what is no
/// regular file, [`FileTooLarge`](std::io::ErrorKind::FileTooLarge) of one with more than
/// `bytes_max`.
pub fn read_regular(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind, Read};
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let mut bytes =
        Vec::with_capacity(usize::try_from(metadata.len().min(bytes_max)).unwrap_or_default());
    std::fs::File::open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::new(
            ErrorKind::FileTooLarge,
            format!("it is larger than {bytes_max} bytes"),
        ));
    }
    Ok(bytes)
}

impl Text {
    /// The text's value, read now.
    ///
    /// # Errors
    /// [`UnresolvedText`] where the variable is not set or the file cannot be read.
    pub fn resolve(&self) -> Result<Secret, UnresolvedText> {
        match self {
            Self::Literal(text) => Ok(Secret::new(text.clone())),
            Self::Env(name) => std::env::var(name)
                .map(Secret::new)
                .map_err(|_| UnresolvedText::Env(name.clone())),
            Self::File(path) => {
                let unreadable = |reason: String| UnresolvedText::File(path.clone(), reason);
                let bytes = read_regular(path, FILE_BYTES_MAX)
                    .map_err(|error| unreadable(error.to_string()))?;
                let mut text = String::from_utf8(bytes)
                    .map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                Ok(Secret::new(text))
            }
        }
    }

    /// The text where it is written out in the file.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Literal(text.to_owned())
    }
}

impl fmt::Debug for Text {
    /// A literal may be a secret, so it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("***"),
            Self::Env(name) => write!(f, "{{ env: {name} }}"),
            Self::File(path) => write!(f, "{{ file: {} }}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, { env: NAME } or { file: path }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::Literal(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                let expected = "exactly one of env and file";
                let Some(key) = map.next_key::<String>()? else {
                    return Err(de::Error::custom(format!("expected {expected}")));
                };
                let value = map.next_value::<String>()?;
                let text = match key.as_str() {
                    "env" => Text::Env(value),
                    "file" => Text::File(value.into()),
                    other => return Err(de::Error::unknown_field(other, &["env", "file"])),
                };
                match map.next_key::<String>()? {
                    None => Ok(text),
                    Some(_) => Err(de::Error::custom(format!("expected {expected}"))),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        false
    }
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text, or where to take it from: an environment variable or a file.",
            "oneOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "properties": { "env": { "type": "string" } },
                    "required": ["env"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "file": { "type": "string" } },
                    "required": ["file"],
                    "additionalProperties": false,
                },
            ]
        })
    }
}

/// A resolved text that may be a secret: shown as `***`, never written out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. What is done with it must not be logged, served or stored.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_a_sensible_size_is_read() {
        let folder = std::env::temp_dir().join(format!("pointsman-setting-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = |name: &str| Text::File(folder.join(name)).resolve();
        std::fs::write(folder.join("good"), "s3cret\r\n").unwrap();
        std::fs::write(folder.join("large"), "x".repeat(1024 * 1024 + 1)).unwrap();
        std::fs::write(folder.join("binary"), [0xFF, 0xFE]).unwrap();
        std::os::unix::fs::symlink(folder.join("good"), folder.join("link")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        assert_eq!(
            (
                text("good").unwrap().expose(),
                text("link").unwrap().expose()
            ),
            ("s3cret", "s3cret")
        );
        for (name, why) in [
            ("large", "larger than"),
            ("binary", "not UTF-8"),
            ("socket", "not a regular file"),
            ("", "is a directory"),
            ("gone", "No such file"),
        ] {
            assert!(
                text(name).unwrap_err().to_string().contains(why),
                "{name}: {}",
                text(name).unwrap_err()
            );
        }
        assert!(
            Text::File("/dev/zero".into())
                .resolve()
                .unwrap_err()
                .to_string()
                .contains("not a regular file")
        );
        drop(socket);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_text_is_literal_or_taken_from_elsewhere_and_never_shown() {
        let read = |json: &str| serde_json::from_str::<Text>(json);
        assert_eq!(read(r#""x""#).unwrap(), Text::Literal("x".into()));
        assert_eq!(read(r#"{"env":"A"}"#).unwrap(), Text::Env("A".into()));
        assert_eq!(read(r#"{"file":"/a"}"#).unwrap(), Text::File("/a".into()));
        assert!(
            read(r#"{"env":"A","file":"b"}"#).is_err()
                && read("{}").is_err()
                && read("5").is_err()
                && read(r#"{"en":"A"}"#).is_err()
        );
        let secret = Text::Literal("hunter2".into());
        assert!(
            !format!(
                "{secret:?} {:?} {}",
                secret.resolve().unwrap(),
                secret.resolve().unwrap()
            )
            .contains("hunter2")
        );
    }
}
