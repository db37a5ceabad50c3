//! Why a store could not be opened, read or mended, and which of the reasons is damage.

use std::path::Path;

use rusqlite::ErrorCode;

use super::OpenError;

/// Why a store could not be opened or mended.
pub(super) enum Trouble {
    Open(OpenError),
    Database(rusqlite::Error),
    Files(std::io::Error),
}

impl Trouble {
    pub(super) fn at(self, directory: &Path) -> OpenError {
        match self {
            Self::Open(error) => error,
            Self::Database(error) => OpenError::database(directory, &error),
            Self::Files(error) => OpenError::unreadable(directory, &error),
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Files(error)
    }
}

/// The database itself says that its pages make no sense. Everything else that SQLite fails with
/// (no such file, no memory, a lock, a full disk, an operation that failed) says nothing of what
/// the file holds.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(error, _) => matches!(
            error.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
        ),
        // What was read is not of the kind that was written.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

pub(super) fn corrupt(what: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some(what),
    )
}
