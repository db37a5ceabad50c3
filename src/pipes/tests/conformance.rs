//! A journal with the lines of pipes over it is the same journal.

use std::sync::Arc;

use async_trait::async_trait;
use pointsman_journal::Journal;
use pointsman_journal::memory::{MemoryJournal, MemoryOptions};
use pointsman_journal::suite::{Bounds, Implementation};
use pointsman_schemas::Clock;

use crate::pipes::Piped;

struct UnderPipes;

#[async_trait]
impl Implementation for UnderPipes {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        let options = MemoryOptions {
            retention: bounds.retention,
            bytes_max: bounds.bytes_max,
        };
        Piped::over(MemoryJournal::new(Arc::clone(&clock), options), clock)
    }

    fn persists(&self) -> bool {
        false
    }

    async fn upkeep(&self) {}
}

pointsman_journal::conformance!(UnderPipes);
