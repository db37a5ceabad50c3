//! Ids that functions see are never used twice, whatever becomes of the store's files.

use std::collections::HashMap;

use super::*;
use crate::{DeadReason, Ending, Leased, NewDelivery, SettleAnswer};

const SUBSCRIPTION: SubscriptionNumber = SubscriptionNumber(1);

/// Every id that was seen, with what it stood for.
#[derive(Default)]
struct Seen(HashMap<DeliveryId, String>);

impl Seen {
    fn note(&mut self, id: DeliveryId, what: &str) {
        let text = id.to_string();
        assert!((1..=64).contains(&text.len()), "{text}");
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "{text}"
        );
        assert_eq!(text.parse(), Ok(id), "one spelling, read back");
        let before = self.0.insert(id, what.to_owned());
        assert!(
            before.as_ref().is_none_or(|before| before == what),
            "{text} was {before:?} and is {what} now"
        );
    }
}

async fn start(directory: &Path) -> Arc<DiskJournal> {
    let journal = open(directory).unwrap();
    assert_eq!(
        journal.subscribe(vec![fixture::wanted("r")]).await,
        Ok(vec![SUBSCRIPTION])
    );
    journal
}

async fn lease(journal: &DiskJournal, count: usize) -> Vec<Leased> {
    suite::lease(journal, SUBSCRIPTION, count).await
}

/// Opens the store, appends events named after the turn, delivers two, dead-letters one, redrives
/// it, and leaves it and the others pending.
async fn run_on(directory: &Path, turn: &str, seen: &mut Seen) {
    let journal = start(directory).await;
    for pending in journal
        .reader()
        .pending(SUBSCRIPTION, None, 99)
        .await
        .unwrap()
    {
        assert!(
            seen.0.contains_key(&pending.id),
            "{} waited before the turn {turn}, under another id",
            pending.id
        );
    }
    for (number, delay) in [None, None, None, Some(MINUTE * 60), None]
        .into_iter()
        .enumerate()
    {
        let due = delay.map(|delay| START.plus(delay));
        let new = NewDelivery {
            due,
            order_key: (number == 4).then_some(4),
            ..NewDelivery::now(SUBSCRIPTION)
        };
        let entry = Entry {
            deliveries: [new].into_iter().collect(),
            ..suite::entry(&format!("{turn} {number}"), &[])
        };
        journal.append(suite::append_of(vec![entry])).await.unwrap();
    }
    for (number, leased) in lease(&journal, 99).await.into_iter().enumerate() {
        // What was made in this turn must not have been seen before, and what is older must.
        let what = format!(
            "{}, run {}",
            leased.event.id(),
            if leased.id.run == 0 {
                "first".to_owned()
            } else {
                format!("of {turn}")
            }
        );
        if leased.id.run == 0 {
            seen.note(leased.id, &what);
        } else {
            assert!(seen.0.contains_key(&leased.id));
        }
        let ending = match number {
            0 | 1 => Ending::Delivered,
            2 => Ending::Dead {
                reason: DeadReason::Rejected,
                last: None,
            },
            _ => Ending::Released,
        };
        assert_eq!(
            journal
                .settle(vec![Settlement::new(leased.token, ending)])
                .await,
            Ok(vec![SettleAnswer::Settled])
        );
    }
    assert_eq!(journal.redrive(&DeadSelection::default()).await, Ok(1));
    for pending in journal
        .reader()
        .pending(SUBSCRIPTION, None, 99)
        .await
        .unwrap()
    {
        let event = journal
            .reader()
            .event(pending.id.sequence)
            .await
            .unwrap()
            .unwrap()
            .event;
        if pending.id.run == 0 {
            seen.note(pending.id, &format!("{}, run first", event.id()));
        } else if !seen.0.contains_key(&pending.id) {
            seen.note(pending.id, &format!("{}, redriven in {turn}", event.id()));
        }
    }
    journal.close().await;
}

fn put_back(copy_of: &Path, directory: &Path) {
    for name in ["journal.db", "journal.db-wal", "journal.db-shm", "mark"] {
        let _ = std::fs::remove_file(directory.join(name));
    }
    copy(copy_of, directory);
}

#[test]
fn no_id_is_used_twice_when_copies_are_put_back_or_run_side_by_side() {
    suite::paused(async {
        let (directory, yesterday, other) = (
            TempDir::new().unwrap(),
            TempDir::new().unwrap(),
            TempDir::new().unwrap(),
        );
        let mut seen = Seen::default();
        run_on(directory.path(), "first", &mut seen).await;
        run_on(directory.path(), "second", &mut seen).await;
        copy(directory.path(), yesterday.path());
        copy(directory.path(), other.path());
        run_on(directory.path(), "third", &mut seen).await;
        // A copy that is written over the files themselves: nothing tells it from what was there.
        for turn in ["written over", "written over again"] {
            copy(yesterday.path(), directory.path());
            run_on(directory.path(), turn, &mut seen).await;
        }
        // The same copy twice, and a second copy that runs on beside it.
        for turn in ["put back", "put back again"] {
            put_back(yesterday.path(), directory.path());
            run_on(directory.path(), turn, &mut seen).await;
            run_on(directory.path(), &format!("after {turn}"), &mut seen).await;
        }
        run_on(other.path(), "beside", &mut seen).await;
        assert!(seen.0.len() >= 8 * 5, "{}", seen.0.len());
    });
}

#[test]
fn no_id_is_used_twice_by_a_store_that_has_lost_commits() {
    suite::paused(async {
        let (directory, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let mut seen = Seen::default();
        run_on(directory.path(), "first", &mut seen).await;
        let journal = start(directory.path()).await;
        let entries = (0..20)
            .map(|number| suite::entry(&format!("lost {number}"), &[SUBSCRIPTION]))
            .collect();
        let appended = journal.append(suite::append_of(entries)).await.unwrap();
        for leased in lease(&journal, 99)
            .await
            .iter()
            .filter(|leased| leased.event.id().starts_with("lost"))
        {
            seen.note(leased.id, &format!("{}, run first", leased.event.id()));
        }
        copy(directory.path(), crashed.path());
        journal.close().await;
        std::fs::write(crashed.path().join("journal.db-wal"), b"").unwrap();
        let journal = open(crashed.path()).unwrap();
        assert!(
            journal.warnings()[0].contains("behind its mark"),
            "{:?}",
            journal.warnings()
        );
        let Appended::Stored(next) = journal
            .append(suite::append_of(vec![suite::entry("next", &[])]))
            .await
            .unwrap()[0]
        else {
            panic!("it is new")
        };
        assert!(
            appended
                .iter()
                .all(|lost| matches!(lost, Appended::Stored(lost) if *lost < next)),
            "a sequence is used twice"
        );
        journal.close().await;
        run_on(crashed.path(), "second", &mut seen).await;
    });
}

#[test]
fn an_id_of_another_copy_finds_nothing_and_a_page_goes_on_behind_it() {
    suite::paused(async {
        let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let mut seen = Seen::default();
        run_on(directory.path(), "first", &mut seen).await;
        copy(directory.path(), other.path());
        let mut ids = Vec::new();
        for store in [directory.path(), other.path()] {
            let journal = start(store).await;
            for name in ["a", "b"] {
                journal
                    .append(suite::append_of(vec![suite::entry(name, &[SUBSCRIPTION])]))
                    .await
                    .unwrap();
            }
            for leased in lease(&journal, 99).await {
                let ending = Ending::Dead {
                    reason: DeadReason::Rejected,
                    last: None,
                };
                journal
                    .settle(vec![Settlement::new(leased.token, ending)])
                    .await
                    .unwrap();
            }
            let dead = journal
                .reader()
                .dead(&DeadSelection::default(), None, 99)
                .await
                .unwrap();
            ids.push(dead.iter().map(|letter| letter.id).collect::<Vec<_>>());
            journal.close().await;
        }
        let journal = start(other.path()).await;
        let reader = journal.reader();
        let found = async |id| {
            let chosen = DeadSelection {
                ids: Some(vec![id]),
                ..DeadSelection::default()
            };
            reader.dead(&chosen, None, 9).await.unwrap().len()
        };
        let (own, foreign) = (
            ids[1].last().copied().unwrap(),
            ids[0].last().copied().unwrap(),
        );
        assert_eq!((found(own).await, found(foreign).await), (1, 0));
        assert_eq!(
            journal
                .purge(&DeadSelection {
                    ids: Some(vec![foreign]),
                    ..DeadSelection::default()
                })
                .await,
            Ok(0)
        );
        let mut paged = Vec::new();
        while let Some(letter) = reader
            .dead(&DeadSelection::default(), paged.last().copied(), 1)
            .await
            .unwrap()
            .first()
        {
            paged.push(letter.id);
        }
        assert_eq!(paged, ids[1]);
        journal.close().await;
    });
}
