use tempfile::TempDir;

use super::*;
use crate::journal::suite::{self, Bounds, Implementation};

/// Makes the next commit fail.
#[derive(Debug, Default)]
pub(super) struct Fault(Mutex<Option<rusqlite::Error>>);

impl Fault {
    pub(super) fn strike(&self) -> rusqlite::Result<()> {
        self.0.lock().take().map_or(Ok(()), Err)
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
