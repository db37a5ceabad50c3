//! The conformance suite on disk, and what only a store on disk can suffer.

mod ballast;
mod concurrent;
mod damage;
mod failure;
mod fixture;
mod history;
mod ids;
mod log;
mod look;
mod replicated;
mod retention;

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pointsman_schemas::{Data, Event};
use tempfile::TempDir;

use super::schema::Purpose;
use super::*;
use crate::Entry;
use crate::memory::RuntimeClock;
use crate::suite::{self, Bounds, Implementation, MINUTE, START};

/// Makes the next commits fail, so many of them.
#[derive(Debug, Default)]
pub(super) struct Fault(Mutex<(usize, std::ffi::c_int)>);

impl Fault {
    pub(super) fn strike(&self) -> rusqlite::Result<()> {
        let (times, code) = &mut *self.0.lock();
        if *times == 0 {
            return Ok(());
        }
        *times -= 1;
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(*code),
            None,
        ))
    }

    fn set(&self, times: usize, code: std::ffi::c_int) {
        *self.0.lock() = (times, code);
    }
}

struct OnDisk {
    directory: TempDir,
    last: Mutex<std::sync::Weak<DiskJournal>>,
}

impl OnDisk {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            last: Mutex::default(),
        }
    }
}

#[async_trait]
impl Implementation for OnDisk {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        let options = DiskOptions {
            retention: bounds.retention,
            max_size_bytes: bounds.bytes_max,
            ..DiskOptions::default()
        };
        let journal = DiskJournal::open(self.directory.path(), options, clock).unwrap();
        assert_eq!(journal.warnings(), &[] as &[String]);
        *self.last.lock() = Arc::downgrade(&journal);
        journal
    }

    fn persists(&self) -> bool {
        true
    }

    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
        suite::files_as_they_lie([self.directory.path().to_owned()])
    }

    async fn upkeep(&self) {
        let journal = self.last.lock().upgrade();
        if let Some(journal) = journal {
            journal.upkeep().await;
        }
    }
}

crate::conformance!(OnDisk::new());

#[test]
fn what_waits_in_other_shards_counts() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let number = ShardNumber::new(1).unwrap();
        let clock = Arc::new(RuntimeClock::new(START));
        let options = DiskOptions::default();
        let shard = DiskJournal::open_shard(directory.path(), options, clock, number).unwrap();
        suite::what_waits_in_other_shards_counts(&*shard).await;
    });
}

fn open(directory: &Path) -> Result<Arc<DiskJournal>, OpenError> {
    DiskJournal::open(
        directory,
        DiskOptions::default(),
        Arc::new(RuntimeClock::new(START)),
    )
}

#[test]
fn an_event_in_memory_lets_go_of_the_buffer_that_it_came_in() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        let number = journal.subscribe(vec![fixture::wanted("r")]).await.unwrap()[0];
        let read = Bytes::from(vec![b'x'; 64 * 1024]);
        let event = Event::builder("1", "/s", "t")
            .data(Data::binary(read.slice(..10)))
            .build()
            .unwrap();
        journal
            .append(suite::append_of(vec![Entry {
                event: Arc::new(event),
                ..suite::entry("1", &[number])
            }]))
            .await
            .unwrap();
        // The writer has put the job away once it has answered the next one.
        journal.append(suite::append_of(Vec::new())).await.unwrap();
        let leased = journal
            .lease(
                &[Grant {
                    subscription: number,
                    count: 1,
                    lease: MINUTE,
                    bytes_max: usize::MAX,
                    batching: None,
                }],
                usize::MAX,
            )
            .await
            .unwrap()
            .leased;
        assert_eq!(leased[0].event.data().unwrap().bytes(), &read[..10]);
        assert!(read.is_unique());
    });
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
