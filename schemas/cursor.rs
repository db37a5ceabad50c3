//! How far a source has been read, and what it knows of what it follows.

use bytes::Bytes;

/// A source's own mark of how far it has been read, stored in the transaction that stores what was
/// read.
///
/// The journal does not look inside. `fingerprint` is of the part of the source's configuration
/// that gives the position its meaning (which bucket, which folder, which timer): where the stored
/// one differs from the source's, the source stops and says so.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cursor {
    /// Hash of the configuration under which `position` is valid.
    pub fingerprint: u64,
    /// The position, in the source's own encoding.
    pub position: Bytes,
}

/// One row of a source's position: what the source knows of one thing that it follows, such as a
/// file or an object.
///
/// A source that follows many things keeps one row for each, beside its [`Cursor`], and changes
/// only the rows of what has changed. The journal looks into neither key nor value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PositionRow {
    /// Which thing, in the source's own encoding. Rows are in the order of the bytes of their keys.
    pub key: Bytes,
    /// What is known of it, in the source's own encoding.
    pub value: Bytes,
}

/// A change of one row of a source's position, stored in the transaction that stores what it is
/// due to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PositionChange {
    /// Of which row.
    pub key: Bytes,
    /// What the row says from now on; none where it is deleted.
    pub value: Option<Bytes>,
}
