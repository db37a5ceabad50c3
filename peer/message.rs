//! The bytes of calls and answers.

use bytes::Bytes;
use pointsman_journal::JournalError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of what is written today. It counts up with every change of a type that goes over.
const VERSION: u8 = 3;

/// A call or an answer has no more bytes than this.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Another version wrote it.
    #[error(
        "it is of version {0} of what nodes say to each other, and only version {VERSION} is \
         known; run the same version of Pointsman on all nodes"
    )]
    Version(u8),
    /// No version writes such a thing.
    #[error("it is not what a node says ({0})")]
    Malformed(String),
    /// It is too long to be one.
    #[error("it has {0} bytes, and no message more than {MESSAGE_BYTES_MAX}")]
    Long(usize),
}

/// Writes a message; `size_hint` is about how many bytes it will have.
///
/// # Errors
/// [`Unreadable::Long`]; whoever gets it could not read it.
pub(crate) fn write(message: &impl Serialize, size_hint: usize) -> Result<Bytes, Unreadable> {
    let mut bytes = Vec::with_capacity(size_hint.saturating_add(64));
    bytes.push(VERSION);
    let bytes = postcard::to_extend(message, bytes)
        .map_err(|error| Unreadable::Malformed(error.to_string()))?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Unreadable::Long(bytes.len()));
    }
    Ok(bytes.into())
}

/// Reads a message.
///
/// # Errors
/// See [`Unreadable`].
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Unreadable::Long(bytes.len()));
    }
    let malformed = |what: &str| Unreadable::Malformed(what.to_owned());
    match bytes.split_first() {
        None => Err(malformed("it is empty")),
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((message, [])) => Ok(message),
            Ok(_) => Err(malformed("it does not end where it should")),
            Err(error) => Err(malformed(&error.to_string())),
        },
        Some((version, _)) => Err(Unreadable::Version(*version)),
    }
}

/// Writes the answer to a call: what came of it.
pub(crate) fn answer<T: Serialize>(result: Result<T, JournalError>) -> Bytes {
    let written = write(&result, 0).or_else(|why| {
        let why = format!("its answer cannot be sent: {why}");
        write(&Err::<(), _>(JournalError::Io(why)), 0)
    });
    // An empty answer is none, and whoever asked says so.
    written.unwrap_or_default()
}
