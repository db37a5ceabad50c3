//! What is known of the files, as it is stored.
//!
//! ```text
//! cursor          "1"                                           version of this encoding
//! row of no key   { "next" }                                    the number of the next file
//! row of a file   { "path", "inode", "device", "offset", "head", "head_bytes", "skips" }
//! ```
//!
//! A file's key is its number, big endian. Rows are JSON.

use bytes::Bytes;
use pointsman_schemas::{Cursor, PositionChange};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::source::fingerprint;
use crate::{OpenError, SourceContext};

/// The position in the cursor.
const CURSOR: &[u8] = b"1";

/// The key of the row that is of no file.
const ALL: &[u8] = b"";

/// How much of a file's beginning tells it from others, in bytes.
pub(super) const HEAD_BYTES: usize = 256;

/// How much of its hash is kept.
const HASH_BYTES: usize = 16;

/// Counts the files that a source has begun with: one that was truncated, or replaced under the same
/// inode, is another one.
pub(super) type Number = u64;

/// What is stored of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Where it was last.
    pub(super) path: String,
    pub(super) inode: u64,
    /// It may be another one after the next start of the machine.
    pub(super) device: u64,
    /// Up to where it has been told.
    pub(super) offset: u64,
    /// A hash of its beginning, as far as that has been told.
    head: String,
    head_bytes: usize,
    /// Whether it lies within a record that is too long, whose rest is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) skips: bool,
}

impl Known {
    /// A file of which nothing has been told.
    pub(super) fn new(path: String, (device, inode): (u64, u64)) -> Self {
        Self {
            path,
            inode,
            device,
            offset: 0,
            head: String::new(),
            head_bytes: 0,
            skips: false,
        }
    }

    /// Whether a file can be this one by what it begins with.
    pub(super) fn begins(&self, head: &[u8]) -> bool {
        let own = head.get(..self.head_bytes);
        own.is_some_and(|own| self.head_bytes == 0 || hash(own) == self.head)
    }

    /// Whether the beginning alone tells it from others.
    pub(super) fn is_distinct(&self) -> bool {
        self.head_bytes == HEAD_BYTES
    }

    /// It has been told up to here; `head` is its beginning.
    pub(super) fn told(&mut self, offset: u64, head: &[u8]) {
        self.offset = offset;
        let told = usize::try_from(offset).unwrap_or(HEAD_BYTES);
        let own = head.get(..told.min(HEAD_BYTES)).unwrap_or(head);
        if own.len() > self.head_bytes {
            (self.head, self.head_bytes) = (hash(own), own.len());
        }
    }

    /// Its row.
    pub(super) fn row(&self, number: Number) -> PositionChange {
        // It has nothing that JSON could not say.
        let value = serde_json::to_vec(self).unwrap_or_default();
        PositionChange {
            key: Bytes::copy_from_slice(&number.to_be_bytes()),
            value: Some(value.into()),
        }
    }
}

/// The deletion of a file's row.
pub(super) fn gone(number: Number) -> PositionChange {
    PositionChange {
        key: Bytes::copy_from_slice(&number.to_be_bytes()),
        value: None,
    }
}

/// The row of all files together.
pub(super) fn row_of_all(next: Number) -> PositionChange {
    let value = serde_json::to_vec(&All { next }).unwrap_or_default();
    PositionChange {
        key: Bytes::from_static(ALL),
        value: Some(value.into()),
    }
}

#[derive(Serialize, Deserialize)]
struct All {
    next: Number,
}

fn hash(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let kept = hash.iter().take(HASH_BYTES);
    kept.map(|byte| format!("{byte:02x}")).collect()
}

/// A position as it was read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stored {
    /// None at the very first start.
    pub(super) is_there: bool,
    pub(super) next: Number,
    pub(super) files: Vec<(Number, Known)>,
}

impl Stored {
    /// Reads what is stored; none where that is damaged.
    ///
    /// # Errors
    /// It cannot be read now.
    pub(super) async fn read(context: &SourceContext) -> Result<Option<Self>, OpenError> {
        let mut stored = Self {
            is_there: context.cursor.is_some(),
            ..Self::default()
        };
        let mut is_sound = true;
        context
            .each_position(|row| is_sound &= stored.take(&row.key, &row.value).is_some())
            .await?;
        let above = stored.files.iter().map(|(number, _)| number + 1);
        stored.next = above.fold(stored.next, Number::max);
        Ok(is_sound.then_some(stored))
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        self.is_there = true;
        if key == ALL {
            self.next = serde_json::from_slice::<All>(value).ok()?.next;
            return Some(());
        }
        let number = Number::from_be_bytes(key.try_into().ok()?);
        self.files
            .push((number, serde_json::from_slice(value).ok()?));
        Some(())
    }
}

/// The cursor that goes with every batch, for which the bus stores one after the other.
pub(super) fn cursor() -> Cursor {
    Cursor {
        fingerprint: own_fingerprint(),
        position: Bytes::from_static(CURSOR),
    }
}

/// Whether a cursor is of such a position.
pub(super) fn is_own(cursor: &Cursor) -> bool {
    cursor.fingerprint == own_fingerprint() && cursor.position == CURSOR
}

/// Whatever the patterns are: a file is known by itself.
fn own_fingerprint() -> u64 {
    fingerprint(&["file"])
}
