//! A journal whose commits go to a log, and copies that follow it: whenever it is opened again it
//! is another copy, on a disk of its own.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::EventsFrom;
use crate::disk::replication::{ApplyError, Commit, CommitLog, Part, Refused, Replica, mark_of};

/// A log in memory. The mark of a commit is its number.
#[derive(Clone, Default)]
struct Log {
    commits: Arc<Mutex<Vec<Commit>>>,
    /// What the next commits meet.
    fate: Arc<Mutex<Vec<Fate>>>,
    failed: Arc<Mutex<Option<String>>>,
    calls: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    /// It is not known, and then it is there.
    Unknown,
    Ended,
}

impl Log {
    fn take(&self, commit: &Commit) -> Bytes {
        let mut commits = self.commits.lock();
        commits.push(commit.clone());
        mark(commits.len())
    }

    fn meet(&self, fates: &[Fate]) {
        *self.fate.lock() = fates.iter().rev().copied().collect();
    }

    /// A copy of its own in a directory, made as one of several ways to make one.
    fn copy(&self, directory: &Path, way: usize) -> Replica {
        let commits = self.commits.lock().clone();
        let mut replica = Replica::open(directory).unwrap();
        let begins = commits.iter().rposition(|commit| commit.begins_carry);
        let ends = commits.iter().rposition(|commit| commit.ends_carry);
        match (way % 3, begins.zip(ends)) {
            (0, _) => {
                for (at, commit) in commits.iter().enumerate() {
                    replica
                        .apply(std::slice::from_ref(commit), &mark(at + 1))
                        .unwrap();
                }
            }
            (1, Some((begins, ends))) if begins <= ends => {
                replica
                    .apply(&commits[begins..], &mark(commits.len()))
                    .unwrap();
            }
            _ if commits.is_empty() => {}
            _ => {
                // Some of them again: it makes no difference.
                let half = commits.len() / 2;
                replica.apply(&commits[..half], &mark(half)).unwrap();
                replica
                    .apply(&commits[half / 2..], &mark(commits.len()))
                    .unwrap();
            }
        }
        replica
    }
}

fn mark(number: usize) -> Bytes {
    number.to_string().into()
}

impl CommitLog for Log {
    fn append(&mut self, commit: &Commit) -> Result<Bytes, Refused> {
        // One in five is not known at first, and all of them come to the log.
        if self.calls.fetch_add(1, Ordering::Relaxed) % 5 == 4 {
            self.fate.lock().push(Fate::Unknown);
        }
        match self.fate.lock().pop() {
            None => Ok(self.take(commit)),
            Some(Fate::Refused) => Err(Refused::NotAppended("no".to_owned())),
            Some(Fate::Ended) => Err(Refused::Ended("another node".to_owned())),
            Some(Fate::Unknown) => {
                self.take(commit);
                Err(Refused::Unknown("no answer".to_owned()))
            }
        }
    }

    fn resume(&mut self) -> Result<Bytes, Refused> {
        Ok(mark(self.commits.lock().len()))
    }

    fn failed(&mut self, why: &str) {
        *self.failed.lock() = Some(why.to_owned());
    }
}

/// Journals of one log, each on a disk of its own.
struct InLog {
    log: Log,
    directories: Mutex<Vec<TempDir>>,
    last: Mutex<std::sync::Weak<DiskJournal>>,
}

impl InLog {
    fn new() -> Self {
        Self {
            log: Log::default(),
            directories: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// The stores of before are what the log says.
    fn compare(&self, copy: &Replica) {
        let directories = self.directories.lock();
        let Some(before) = directories.last() else {
            return;
        };
        let before = Replica::open(before.path()).unwrap();
        if before.mark().unwrap_or_default() == mark(self.log.commits.lock().len()) {
            assert_eq!(before.digest().unwrap(), copy.digest().unwrap());
        }
    }
}

#[async_trait]
impl Implementation for InLog {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        let directory = TempDir::new().unwrap();
        let number = self.directories.lock().len();
        let copy = self.log.copy(directory.path(), number);
        self.compare(&copy);
        let options = DiskOptions {
            retention: bounds.retention,
            max_size_bytes: bounds.bytes_max,
            ..DiskOptions::default()
        };
        let journal = copy
            .into_journal(options, clock, Box::new(self.log.clone()))
            .unwrap();
        assert_eq!(journal.warnings(), &[] as &[String]);
        let mut carried = journal.carry(None, 500).await.unwrap();
        while carried.is_some() {
            carried = journal.carry(carried, 500).await.unwrap();
        }
        self.directories.lock().push(directory);
        *self.last.lock() = Arc::downgrade(&journal);
        journal
    }

    fn persists(&self) -> bool {
        true
    }

    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
        let (log, count) = (self.log.clone(), self.log.commits.lock().len());
        Box::new(move || log.commits.lock().truncate(count))
    }

    async fn upkeep(&self) {
        let journal = self.last.lock().upgrade();
        if let Some(journal) = journal {
            journal.upkeep().await;
        }
    }
}

crate::conformance!(InLog::new());

fn begin(directory: &Path, log: &Log) -> Arc<DiskJournal> {
    let replica = Replica::open(directory).unwrap();
    let clock = Arc::new(RuntimeClock::new(START));
    let log = Box::new(log.clone());
    replica
        .into_journal(DiskOptions::default(), clock, log)
        .unwrap()
}

async fn append(journal: &DiskJournal, id: &str) -> Result<(), JournalError> {
    let append = suite::append_of(vec![suite::entry(id, &[])]);
    journal.append(append).await.map(drop)
}

async fn ids(journal: &DiskJournal) -> Vec<String> {
    let page = journal
        .reader()
        .events(
            EventsFrom::After(pointsman_schemas::Sequence(0)),
            100,
            usize::MAX,
        )
        .await
        .unwrap();
    let ids = page
        .events
        .iter()
        .map(|stored| stored.event.id().to_owned());
    ids.collect()
}

#[test]
fn what_the_log_refuses_has_not_happened() {
    suite::paused(async {
        let (directory, log) = (TempDir::new().unwrap(), Log::default());
        let journal = begin(directory.path(), &log);
        append(&journal, "1").await.unwrap();
        log.meet(&[Fate::Refused]);
        let refused = append(&journal, "2").await.unwrap_err();
        assert!(refused.to_string().contains("not stored"), "{refused}");
        log.meet(&[Fate::Unknown]);
        append(&journal, "3").await.unwrap();
        assert_eq!(ids(&journal).await, ["1", "3"]);
        assert_eq!(journal.trouble(), None);
        journal.close().await;
        let copy = TempDir::new().unwrap();
        let own = Replica::open(directory.path()).unwrap();
        let copy = log.copy(copy.path(), 0);
        assert_eq!(copy.mark(), own.mark());
        assert_eq!(copy.digest().unwrap(), own.digest().unwrap());
    });
}

#[test]
fn a_store_that_another_one_has_followed_takes_no_more() {
    suite::paused(async {
        let (directory, log) = (TempDir::new().unwrap(), Log::default());
        let journal = begin(directory.path(), &log);
        append(&journal, "1").await.unwrap();
        log.meet(&[Fate::Ended]);
        assert!(append(&journal, "2").await.is_err());
        assert!(append(&journal, "3").await.is_err());
        assert!(
            journal
                .trouble()
                .unwrap()
                .to_string()
                .contains("another node")
        );
        journal.close().await;
        assert_eq!(log.commits.lock().len(), 1);
        let journal = begin(directory.path(), &log);
        assert_eq!(ids(&journal).await, ["1"]);
    });
}

#[test]
fn a_store_that_cannot_commit_what_the_log_has_is_over_and_gets_it_again() {
    suite::paused(async {
        let (directory, log) = (TempDir::new().unwrap(), Log::default());
        let journal = begin(directory.path(), &log);
        append(&journal, "1").await.unwrap();
        journal.shared.fault.set(1, rusqlite::ffi::SQLITE_IOERR);
        assert!(append(&journal, "2").await.is_err());
        assert!(log.failed.lock().is_some());
        assert!(append(&journal, "3").await.is_err());
        journal.close().await;
        let mut replica = Replica::open(directory.path()).unwrap();
        assert_eq!(replica.mark(), Some(&*mark(1)));
        let commits = log.commits.lock().clone();
        assert_eq!(commits.len(), 2);
        replica.apply(&commits[1..], &mark(2)).unwrap();
        drop(replica);
        let journal = begin(directory.path(), &log);
        assert_eq!(ids(&journal).await, ["1", "2"]);
    });
}

#[test]
fn a_copy_is_not_opened_without_its_log() {
    suite::paused(async {
        let (directory, log) = (TempDir::new().unwrap(), Log::default());
        drop(Replica::open(directory.path()).unwrap());
        assert!(matches!(
            super::open(directory.path()),
            Err(OpenError::InCluster(_))
        ));
        let journal = begin(directory.path(), &log);
        append(&journal, "1").await.unwrap();
        journal.close().await;
        assert!(matches!(
            super::open(directory.path()),
            Err(OpenError::InCluster(_))
        ));
    });
}

#[test]
fn a_store_of_its_own_comes_into_the_log_whole() {
    suite::paused(async {
        let (directory, log) = (TempDir::new().unwrap(), Log::default());
        let journal = super::open(directory.path()).unwrap();
        append(&journal, "1").await.unwrap();
        journal.close().await;
        assert!(Replica::open(directory.path()).unwrap().is_embedded());
        let journal = begin(directory.path(), &log);
        append(&journal, "2").await.unwrap();
        let mut carried = journal.carry(None, 1).await.unwrap();
        while carried.is_some() {
            carried = journal.carry(carried, 1).await.unwrap();
        }
        append(&journal, "3").await.unwrap();
        journal.close().await;
        let (copy, own) = (
            TempDir::new().unwrap(),
            Replica::open(directory.path()).unwrap(),
        );
        assert!(!own.is_embedded());
        let copy = log.copy(copy.path(), 1);
        assert_eq!(copy.digest().unwrap(), own.digest().unwrap());
    });
}

#[test]
fn a_copy_that_was_detached_goes_on_alone_and_into_another_log() {
    suite::paused(async {
        let (first, directory) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let log = Log::default();
        let journal = begin(first.path(), &log);
        append(&journal, "1").await.unwrap();
        append(&journal, "2").await.unwrap();
        journal.close().await;
        // A copy elsewhere, which was open as a store of its own before and has an old mark file.
        std::fs::write(directory.path().join("mark"), [0; 12]).unwrap();
        drop(log.copy(directory.path(), 0));
        assert_eq!(mark_of(directory.path()).unwrap(), Some(mark(2)));

        let one_of = |shards| Part { shard: 0, shards };
        let as_it_is = || Replica::open_as_it_is(directory.path()).unwrap();
        as_it_is().detach(one_of(3)).unwrap();
        let Err(OpenError::Part { part, .. }) = super::open(directory.path()) else {
            panic!("a part of a bus is opened as the whole of it");
        };
        assert_eq!(part, one_of(3));
        as_it_is().detach(one_of(1)).unwrap();
        assert_eq!(mark_of(directory.path()).unwrap(), None);
        // A store that loses commits from here on is behind what this says.
        let marked = std::fs::read(directory.path().join("mark")).unwrap();
        assert!(u64::from_le_bytes(marked[..8].try_into().unwrap()) >= 2);
        let journal = super::open(directory.path()).unwrap();
        assert_eq!(journal.warnings(), [""; 0]);
        append(&journal, "3").await.unwrap();
        assert_eq!(ids(&journal).await, ["1", "2", "3"]);
        journal.close().await;

        let log = Log::default();
        let journal = begin(directory.path(), &log);
        while journal.carry(None, usize::MAX).await.unwrap().is_some() {}
        journal.close().await;
        let copy = TempDir::new().unwrap();
        drop(log.copy(copy.path(), 1));
        let copied = begin(copy.path(), &log);
        assert_eq!(ids(&copied).await, ["1", "2", "3"]);
    });
}

#[test]
fn what_cuts_a_detachment_short_leaves_a_copy_or_a_store_of_its_own() {
    suite::paused(async {
        let (first, log) = (TempDir::new().unwrap(), Log::default());
        let journal = begin(first.path(), &log);
        append(&journal, "1").await.unwrap();
        journal.close().await;
        // Before its mark is gone.
        std::fs::remove_file(first.path().join("copy")).unwrap();
        let replica = Replica::open(first.path()).unwrap();
        assert!(!replica.is_embedded());
        assert_eq!(replica.mark(), Some(&*mark(1)));
        drop(replica);
        let replica = Replica::open_as_it_is(first.path()).unwrap();
        replica
            .detach(Part {
                shard: 0,
                shards: 1,
            })
            .unwrap();
        assert!(Replica::open(first.path()).unwrap().is_embedded());
    });
}

#[test]
fn a_copy_that_is_to_be_made_anew_is_not_wiped_by_who_wants_it_as_it_is() {
    suite::paused(async {
        let (directory, log) = (TempDir::new().unwrap(), Log::default());
        let journal = begin(directory.path(), &log);
        append(&journal, "1").await.unwrap();
        journal.close().await;
        std::fs::write(directory.path().join("anew"), "").unwrap();
        let refused = Replica::open_as_it_is(directory.path());
        assert!(matches!(refused, Err(OpenError::Damaged { .. })));
        assert_eq!(mark_of(directory.path()).unwrap(), Some(mark(1)));
    });
}

#[test]
fn a_damaged_copy_is_made_anew_and_a_damaged_store_of_its_own_is_not() {
    suite::paused(async {
        let (directory, log) = (TempDir::new().unwrap(), Log::default());
        let journal = begin(directory.path(), &log);
        append(&journal, "1").await.unwrap();
        journal.close().await;
        let database = directory.path().join("journal.db");
        std::fs::write(&database, [7; 20_000]).unwrap();
        let replica = Replica::open(directory.path()).unwrap();
        assert_eq!(replica.mark(), None);

        let own = TempDir::new().unwrap();
        super::open(own.path()).unwrap().close().await;
        let database = own.path().join("journal.db");
        std::fs::write(&database, [7; 20_000]).unwrap();
        assert!(matches!(
            Replica::open(own.path()),
            Err(OpenError::Damaged { .. })
        ));
        assert_eq!(std::fs::read(&database).unwrap(), [7; 20_000]);
    });
}

#[test]
fn a_row_that_turns_out_damaged_ends_the_store_and_it_is_made_anew() {
    suite::paused(async {
        let (directory, log) = (TempDir::new().unwrap(), Log::default());
        let journal = begin(directory.path(), &log);
        append(&journal, "1").await.unwrap();
        let other = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
        other
            .execute("UPDATE events SET record = x'0102'", [])
            .unwrap();
        assert!(journal.carry(None, 1 << 20).await.is_err());
        assert!(log.failed.lock().as_ref().unwrap().contains("events"));
        drop(other);
        journal.close().await;
        let replica = Replica::open(directory.path()).unwrap();
        assert_eq!(replica.mark(), None);
    });
}

#[test]
fn commits_of_a_later_format_are_refused() {
    let directory = TempDir::new().unwrap();
    let mut replica = Replica::open(directory.path()).unwrap();
    let commit = Commit {
        format: u16::MAX,
        begins_carry: false,
        ends_carry: false,
        changes: Bytes::new(),
    };
    let refused = replica.apply(&[commit], b"1");
    assert!(matches!(refused, Err(ApplyError::Later { .. })));
    assert_eq!(replica.mark(), None);
}
