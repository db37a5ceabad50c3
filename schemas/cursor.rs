//! How far a source has been read.

use bytes::Bytes;

/// A source's own mark of how far it has been read, stored in the transaction that stores what was
/// read.
///
/// The journal does not look inside. `fingerprint` is of the part of the source's configuration
/// that gives the position its meaning (which bucket, which folder, which timer): where the stored
/// one differs from the source's, the source stops and says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Hash of the configuration under which `position` is valid.
    pub fingerprint: u64,
    /// The position, in the source's own encoding.
    pub position: Bytes,
}
