//! What is wrong with what should have been an event.

/// The most extension attributes that an event may have: they are looked up one by one, and each
/// becomes an HTTP header.
pub const EXTENSIONS_MAX: usize = 256;

/// Why something is no CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// A required attribute is not there.
    #[error("the required attribute {0:?} is missing")]
    Missing(&'static str),
    /// An attribute that must not be empty is.
    #[error("the attribute {0:?} is empty; {what}", what = what_to_give(.0))]
    Empty(String),
    /// An attribute's name is not `[a-z0-9]+`, or is reserved.
    #[error(
        "{0:?} is not an attribute name: it must be made of a-z and 0-9 and must not be \"data\""
    )]
    Name(String),
    /// An attribute stands there twice.
    #[error("the attribute {0:?} is given twice")]
    Duplicate(String),
    /// An attribute's value is not of its type.
    #[error("the attribute {name:?} is {value:?}, which is not {expected}")]
    Value {
        /// Which attribute.
        name: String,
        /// What it was.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A version that this software does not speak.
    #[error("specversion is {0:?}; only \"1.0\" is understood")]
    SpecVersion(String),
    /// More extension attributes than [`EXTENSIONS_MAX`].
    #[error("there are {0} extension attributes; at most {EXTENSIONS_MAX} are taken")]
    Extensions(usize),
    /// `data` and `data_base64` stand there together.
    #[error("data and data_base64 exclude each other")]
    DataTwice,
    /// Data is declared as JSON and is not.
    #[error("the data is declared as JSON and is not: {0}")]
    DataNotJson(String),
    /// `data_base64` is not base64.
    #[error("data_base64 is not base64: {0}")]
    DataNotBase64(String),
    /// The encoding around the event is broken.
    #[error("{0}")]
    Malformed(String),
}

/// What to do about an empty attribute: those that every event has cannot be left out.
fn what_to_give(attribute: &str) -> &'static str {
    match attribute {
        "id" | "source" | "type" | "specversion" => "give it a value",
        _ => "leave it out or give it a value",
    }
}
