//! How far a source has been read, as it is stored.

use pointsman_schemas::Cursor;
use serde::{Deserialize, Serialize};

use crate::SourceError;
use crate::source::fingerprint;

/// A position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The server's UUID; MariaDB has none.
    pub(super) server: String,
    pub(super) place: Place,
}

/// How far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    /// In the middle of the snapshot, which begins again.
    Snapshot,
    /// In the log.
    Log(Logged),
}

/// How far the log is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Logged {
    /// The transactions that are read, where they have GTIDs.
    pub(super) gtids: Option<String>,
    /// The file, and the place in it behind them.
    pub(super) file: String,
    pub(super) offset: u64,
    /// The one that is read in part.
    pub(super) part: Option<Part>,
}

/// A transaction that is read in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) transaction: String,
    /// How many of its changes are read, those of other tables included.
    pub(super) changes: u64,
}

impl Logged {
    /// As people name it.
    pub(super) fn shown(&self) -> String {
        match &self.gtids {
            Some(gtids) => format!("the GTIDs {gtids}"),
            None => format!("{}:{}", self.file, self.offset),
        }
    }
}

/// What gives a position its meaning.
fn meaning() -> u64 {
    fingerprint(&["mysql-cdc"])
}

impl Position {
    /// As it is stored.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor {
            fingerprint: meaning(),
            // A struct of texts and numbers can be written.
            position: serde_json::to_vec(self).unwrap_or_default().into(),
        }
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// It is of another source, or damaged.
    pub(super) fn read(cursor: &Cursor) -> Result<Self, SourceError> {
        let read = serde_json::from_slice(&cursor.position).ok();
        let own = read.filter(|_| cursor.fingerprint == meaning());
        own.ok_or_else(|| {
            SourceError::CursorMismatch(
                "the stored position cannot be read; give the source another name, with which it \
                 begins anew"
                    .to_owned(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        let position = Position {
            server: String::new(),
            place: Place::Log(Logged {
                gtids: Some("0-1-5".to_owned()),
                file: "binlog.000001".to_owned(),
                offset: 1234,
                part: Some(Part {
                    transaction: "0-1-6".to_owned(),
                    changes: 7,
                }),
            }),
        };
        let cursor = position.cursor();
        assert_eq!(Position::read(&cursor), Ok(position));
        for damaged in [
            Cursor {
                fingerprint: 7,
                ..cursor.clone()
            },
            Cursor {
                position: bytes::Bytes::from_static(b"\xff{"),
                ..cursor
            },
        ] {
            let told = Position::read(&damaged).unwrap_err();
            assert!(told.to_string().contains("cannot be read"), "{told}");
        }
    }
}
