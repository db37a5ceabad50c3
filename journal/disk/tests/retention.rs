//! What retention makes of a store that is damaged, and of a reference that it was not told of.

use super::damage::kept;
use super::*;
use crate::{Ending, Retention, Terms};

/// An entry that is kept so long.
fn kept_for(id: &str, instead: Duration) -> Entry {
    let terms = Terms {
        retention: Some(Retention {
            instead: Some(instead),
            ..Retention::default()
        }),
        ..Terms::default()
    };
    Entry {
        terms: Some(Box::new(terms)),
        ..suite::entry(id, &[])
    }
}

/// Does something to the files of a store behind the journal's back.
fn behind_its_back(directory: &Path, sql: &str) -> usize {
    let other = schema::connect(directory, Purpose::Write).unwrap();
    other.execute(sql, []).unwrap()
}

async fn events(journal: &DiskJournal) -> u64 {
    journal.upkeep().await;
    journal.reader().totals().await.unwrap().events
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn an_event_whose_time_is_lost_or_damaged_has_it_anew() {
    suite::paused(async {
        for damage in [
            "DELETE FROM kept WHERE sequence = 1",
            "UPDATE kept SET until = until - 1 WHERE sequence = 1",
            "UPDATE kept SET sequence = 7 WHERE sequence = 1",
            "UPDATE kept SET value = x'00' WHERE sequence = 1",
        ] {
            let directory = TempDir::new().unwrap();
            let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::new(START));
            let open = || {
                let options = DiskOptions::default();
                DiskJournal::open(directory.path(), options, Arc::clone(&clock)).unwrap()
            };
            let journal = open();
            let entries = [30, 3].map(|days| kept_for(&days.to_string(), DAY * days));
            journal
                .append(suite::append_of(entries.into()))
                .await
                .unwrap();
            let before = kept(&journal);
            tokio::time::advance(DAY * 2).await;
            assert_eq!(events(&journal).await, 2);
            journal.close().await;
            assert_eq!(behind_its_back(directory.path(), damage), 1);
            let journal = open();
            assert!(!journal.warnings().is_empty(), "{damage}");
            let totals = journal.reader().totals().await.unwrap();
            assert_eq!(totals.quarantined, 1, "{damage}");
            assert_eq!(kept(&journal), before, "{damage}");
            assert_eq!(events(&journal).await, 2);
            tokio::time::advance(DAY).await;
            assert_eq!(events(&journal).await, 1);
            tokio::time::advance(DAY * 27).await;
            assert_eq!((events(&journal).await, kept(&journal)), (0, vec![]));
            journal.close().await;
        }
    });
}

/// Two dead letters of events that the walk has come by.
async fn two_dead(journal: &DiskJournal) {
    let r = journal.subscribe(vec![fixture::wanted("r")]).await.unwrap()[0];
    let entries = ["1", "2"].map(|id| suite::entry(id, &[r]));
    journal
        .append(suite::append_of(entries.into()))
        .await
        .unwrap();
    let grant = Grant {
        subscription: r,
        count: 2,
        lease: MINUTE,
        bytes_max: usize::MAX,
        batching: None,
    };
    for leased in journal.lease(&[grant], usize::MAX).await.unwrap().leased {
        let dead = Ending::Dead {
            reason: crate::DeadReason::Rejected,
            last: None,
        };
        let settled = journal.settle(vec![Settlement::new(leased.token, dead)]);
        settled.await.unwrap();
    }
    tokio::time::advance(DAY).await;
    assert_eq!(events(journal).await, 2);
}

#[test]
fn once_a_day_what_was_overlooked_is_found() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        two_dead(&journal).await;
        behind_its_back(directory.path(), "DELETE FROM dead WHERE sequence = 1");
        tokio::time::advance(DAY - MINUTE).await;
        assert_eq!(events(&journal).await, 2);
        tokio::time::advance(MINUTE).await;
        assert_eq!(events(&journal).await, 1);
        assert_eq!(journal.purge(&DeadSelection::default()).await, Ok(1));
        assert_eq!(events(&journal).await, 0);
    });
}

#[test]
fn what_a_lost_record_referred_to_goes() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        two_dead(&journal).await;
        journal.close().await;
        let damage = "UPDATE dead SET value = x'00' WHERE sequence = 1";
        behind_its_back(directory.path(), damage);
        let clock = RuntimeClock::new(START.plus(DAY));
        let journal =
            DiskJournal::open(directory.path(), DiskOptions::default(), Arc::new(clock)).unwrap();
        assert_eq!(journal.reader().totals().await.unwrap().quarantined, 1);
        assert_eq!(events(&journal).await, 1);
    });
}

#[test]
fn how_far_retention_has_come_is_told_where_it_is_damaged() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        two_dead(&journal).await;
        journal.close().await;
        let damage = "UPDATE meta SET value = x'0102' WHERE name = 'walk'";
        assert_eq!(behind_its_back(directory.path(), damage), 1);
        let clock = RuntimeClock::new(START.plus(DAY));
        let journal =
            DiskJournal::open(directory.path(), DiskOptions::default(), Arc::new(clock)).unwrap();
        let told = journal.warnings().join("\n");
        assert!(told.contains("how far retention has come"), "{told}");
        assert_eq!(journal.reader().totals().await.unwrap().quarantined, 1);
        assert_eq!(events(&journal).await, 2);
        assert_eq!(journal.purge(&DeadSelection::default()).await, Ok(2));
        assert_eq!(events(&journal).await, 0);
    });
}
