//! Looks into the store in a directory, whether a bus runs on it or not.

use std::path::Path;
use std::sync::Arc;

use pointsman_journal::disk::DiskReader;

use super::error::CommandError;

/// Opens a store to read from it.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn open(path: &Path) -> Result<Arc<DiskReader>, CommandError> {
    DiskReader::open(path)
        .map_err(|error| CommandError::new(format!("cannot open the store: {error}")))
}
