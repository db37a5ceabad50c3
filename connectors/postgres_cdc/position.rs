//! How far a source has been read, as it is stored.

use std::fmt;

use bytes::Bytes;
use pointsman_schemas::Cursor;
use serde::{Deserialize, Serialize};

use crate::SourceError;
use crate::source::fingerprint;

/// A place in the server's log, as PostgreSQL writes it: `0/16B3748`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lsn(pub(super) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Lsn {
    /// Reads what PostgreSQL writes.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |text| u32::from_str_radix(text, 16).ok();
        Some(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

/// A position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The server's identifier, which its standbys share.
    pub(super) system: String,
    /// Its history: another one after a failover.
    pub(super) timeline: u32,
    pub(super) place: Place,
}

/// How far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    /// In the middle of the snapshot, which begins again.
    Snapshot,
    /// In the stream of the slot.
    Stream(Streamed),
}

/// How far the stream is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Streamed {
    /// Transactions that were committed before this place are read.
    pub(super) complete: u64,
    /// Where the one was committed that is read in part.
    pub(super) commit: u64,
    /// How many changes of it are read.
    pub(super) changes: u64,
}

impl Streamed {
    /// Whether a change is read already: the number of those of its transaction up to it.
    pub(super) fn has(&self, commit: u64, change: u64) -> bool {
        commit < self.complete || (commit == self.commit && change <= self.changes)
    }
}

/// What gives a position its meaning.
pub(super) fn meaning(database: &str, slot: &str) -> u64 {
    fingerprint(&["postgres-cdc", database, slot])
}

impl Position {
    /// As it is stored.
    pub(super) fn cursor(&self, meaning: u64) -> Cursor {
        Cursor {
            fingerprint: meaning,
            // A struct of texts and numbers can be written.
            position: serde_json::to_vec(self).unwrap_or_default().into(),
        }
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// It is of another slot, or damaged.
    pub(super) fn read(cursor: &Cursor, meaning: u64) -> Result<Self, SourceError> {
        let Cursor {
            fingerprint,
            position,
        } = cursor;
        if *fingerprint != meaning {
            return Err(SourceError::CursorMismatch(
                "the stored position is of another slot or database; name that one again, or give \
                 the source another name, with which it begins anew"
                    .to_owned(),
            ));
        }
        Self::of(position).ok_or_else(|| {
            SourceError::CursorMismatch(
                "the stored position cannot be read; give the source another name, with which it \
                 begins anew"
                    .to_owned(),
            )
        })
    }

    fn of(position: &Bytes) -> Option<Self> {
        serde_json::from_slice(position).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_log() {
        for (text, expect) in [
            ("0/16B3748", Some(0x016b_3748)),
            ("A/0", Some(0xa_0000_0000)),
            ("FFFFFFFF/FFFFFFFF", Some(u64::MAX)),
            ("16B3748", None),
            ("0/x", None),
            ("0/100000000", None),
        ] {
            let lsn = Lsn::read(text);
            assert_eq!(lsn.map(|Lsn(place)| place), expect, "{text}");
            assert_eq!(
                lsn.map(|lsn| lsn.to_string()).as_deref(),
                expect.map(|_| text)
            );
        }
    }

    #[test]
    fn what_is_read_and_what_is_not() {
        let read = Streamed {
            complete: 100,
            commit: 150,
            changes: 2,
        };
        for (commit, change, expect) in [
            (90, 9, true),
            (100, 1, false),
            (150, 2, true),
            (150, 3, false),
            (160, 1, false),
        ] {
            assert_eq!(read.has(commit, change), expect, "{commit} {change}");
        }
    }

    #[test]
    fn positions_are_read_as_they_are_written() {
        let position = Position {
            system: "7".to_owned(),
            timeline: 1,
            place: Place::Stream(Streamed::default()),
        };
        let cursor = position.cursor(meaning("shop", "s"));
        assert_eq!(Position::read(&cursor, meaning("shop", "s")), Ok(position));
        for of in [("shop", "t"), ("other", "s")] {
            let told = Position::read(&cursor, meaning(of.0, of.1)).unwrap_err();
            assert!(told.to_string().contains("another slot"), "{told}");
        }
        let damaged = Cursor {
            position: Bytes::from_static(b"\xff{"),
            ..cursor
        };
        let told = Position::read(&damaged, meaning("shop", "s")).unwrap_err();
        assert!(told.to_string().contains("cannot be read"), "{told}");
    }
}
