//! What a round of retention costs.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::disk::{DiskJournal, DiskOptions};
use crate::memory::RuntimeClock;
use crate::suite::{self, MINUTE, START};
use crate::{Entry, Journal, Retention, Terms};

/// An upkeep of a test's own, and a count of the steps that SQLite takes for its looks.
fn counted(journal: &DiskJournal, directory: &Path) -> (Upkeep, Arc<AtomicU64>) {
    let mut connection = schema::connect(directory, Purpose::Look).unwrap();
    let steps = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&steps);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    connection.progress_handler(1, Some(count)).unwrap();
    let mut upkeep = Upkeep::new(Arc::clone(&journal.shared));
    upkeep.connection = Some((journal.shared.epoch(), connection));
    (upkeep, steps)
}

/// What SQLite does to look at a store with so many events that are kept for long, of which a few
/// more have grown old.
async fn steps_of_a_round(kept: usize) -> u64 {
    let directory = tempfile::TempDir::new().unwrap();
    let clock = Arc::new(RuntimeClock::new(START));
    let options = DiskOptions {
        retention: MINUTE,
        ..DiskOptions::default()
    };
    let journal = DiskJournal::open(directory.path(), options, clock).unwrap();
    let long = |id: usize| Entry {
        terms: Some(Box::new(Terms {
            retention: Some(Retention {
                instead: Some(MINUTE * 60 * 24 * 366),
                ..Retention::default()
            }),
            ..Terms::default()
        })),
        ..suite::entry(&id.to_string(), &[])
    };
    let append = async |ids: std::ops::Range<usize>| {
        for from in ids.clone().step_by(500) {
            let entries = (from..ids.end.min(from + 500)).map(long).collect();
            journal.append(suite::append_of(entries)).await.unwrap();
        }
    };
    append(0..kept).await;
    tokio::time::advance(MINUTE).await;
    journal.upkeep().await;
    append(kept..kept + 10).await;
    let (mut upkeep, steps) = counted(&journal, directory.path());
    let round = |upkeep: &mut Upkeep| {
        let before = steps.load(Ordering::Relaxed);
        // It waits for the writer, which a runtime's thread must not.
        std::thread::scope(|scope| {
            let round = scope.spawn(|| upkeep.round(false, false));
            round.join().unwrap().unwrap();
        });
        steps.load(Ordering::Relaxed) - before
    };
    // The first prepares the statements, and forgets identities and keys.
    round(&mut upkeep);
    let idle = round(&mut upkeep);
    tokio::time::advance(MINUTE).await;
    let with_old = round(&mut upkeep);
    let events = journal.reader().totals().await.unwrap().events;
    assert_eq!(events, kept as u64 + 10);
    let reached = upkeep
        .connection
        .as_ref()
        .map(|(_, connection)| schema::read_walk(connection).unwrap().unwrap().reached);
    assert_eq!(reached, Some(kept as u64 + 10));
    journal.close().await;
    idle.max(with_old)
}

#[test]
fn a_round_costs_no_more_where_many_events_are_kept_for_long() {
    suite::paused(async {
        let few = steps_of_a_round(100).await;
        let many = steps_of_a_round(20_000).await;
        // What is old is found by halves.
        assert!(
            many < 2 * few,
            "{few} steps with 100 events, {many} with 20,000"
        );
    });
}
