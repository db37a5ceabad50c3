//! What a source, or a target's answer, held that no event could be made of.

use bytes::Bytes;

/// What could not be read, with why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reject {
    /// The bytes as they came.
    pub raw: Bytes,
    /// Why: one line for a person.
    pub reason: String,
}
