//! The conformance suite on disk, and what only a store on disk can suffer.

mod concurrent;
mod damage;
mod failure;
mod fixture;

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::journal::memory::RuntimeClock;
use crate::journal::suite::{self, Bounds, Implementation, MINUTE, START};

/// Makes the next commit fail.
#[derive(Debug, Default)]
pub(super) struct Fault(Mutex<Option<rusqlite::Error>>);

impl Fault {
    pub(super) fn strike(&self) -> rusqlite::Result<()> {
        self.0.lock().take().map_or(Ok(()), Err)
    }

    fn set(&self, code: std::ffi::c_int) {
        *self.0.lock() = Some(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
    }
}

struct OnDisk {
    directory: TempDir,
    last: Mutex<std::sync::Weak<DiskJournal>>,
}

impl OnDisk {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), last: Mutex::default() }
    }
}

#[async_trait]
impl Implementation for OnDisk {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        let options = DiskOptions { retention: bounds.retention, max_size_bytes: bounds.bytes_max };
        let journal = DiskJournal::open(self.directory.path(), options, clock).unwrap();
        assert_eq!(journal.warnings(), &[] as &[String]);
        *self.last.lock() = Arc::downgrade(&journal);
        journal
    }

    fn persists(&self) -> bool {
        true
    }

    async fn upkeep(&self) {
        let journal = self.last.lock().upgrade();
        if let Some(journal) = journal {
            journal.upkeep().await;
        }
    }
}

suite::conformance!(OnDisk::new());

fn open(directory: &Path) -> Result<Arc<DiskJournal>, OpenError> {
    DiskJournal::open(directory, DiskOptions::default(), Arc::new(RuntimeClock::new(START)))
}

/// Copies the files of a store, as they lie there.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["journal.db", "journal.db-wal", "mark"] {
        if let Err(error) = std::fs::copy(from.join(name), to.join(name)) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}
