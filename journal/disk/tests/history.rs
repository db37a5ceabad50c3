//! What the history may take on disk.

use super::*;
use crate::suite::{append_of, entry, event, sized_event};
use crate::{AttemptMade, EndedSelection, Ending, NewDelivery, Record, SettleAnswer};
use pointsman_schemas::Class;

const ANSWER_BYTES: usize = 2_000;

fn bounded(directory: &Path, options: DiskOptions) -> Arc<DiskJournal> {
    let clock = Arc::new(RuntimeClock::new(START));
    let journal = DiskJournal::open(directory, options, clock).unwrap();
    assert_eq!(journal.warnings(), &[] as &[String]);
    journal
}

/// Stores events and ends their deliveries, each in a row of the history of its own that takes as
/// much as its answer.
async fn end(journal: &DiskJournal, number: SubscriptionNumber, count: usize) {
    for id in 0..count {
        let id = id.to_string();
        journal
            .append(append_of(vec![entry(&id, &[number])]))
            .await
            .unwrap();
        let grant = Grant {
            subscription: number,
            count: 1,
            lease: MINUTE,
            bytes_max: usize::MAX,
            batching: None,
        };
        let leased = journal.lease(&[grant], usize::MAX).await.unwrap().leased;
        assert_eq!(*leased[0].event, *event(&id));
        let attempt = AttemptMade {
            began: START,
            ran: Duration::from_millis(1),
            called: Some("POST http://f".into()),
            class: Class::Delivered,
            code: Some(200),
            message: String::new(),
            answer: "a".repeat(ANSWER_BYTES),
            wait: None,
        };
        let settlement = Settlement {
            record: Record::Attempt(attempt),
            ..Settlement::new(leased[0].token, Ending::Delivered)
        };
        let answers = journal.settle(vec![settlement]).await;
        assert_eq!(answers, Ok(vec![SettleAnswer::Settled]));
        if id.ends_with('9') {
            // Gives back what the log takes.
            journal.upkeep().await;
        }
    }
}

/// The sequences of the deliveries whose ends are told, in order.
async fn told(journal: &DiskJournal) -> Vec<u64> {
    let page = journal
        .reader()
        .ended(&EndedSelection::default(), None, 10_000)
        .await
        .unwrap();
    let sequences = page.entries.iter().map(|entry| entry.id.sequence.0);
    sequences.collect()
}

#[test]
fn past_its_size_the_oldest_of_the_history_goes_and_no_more_than_that() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let room = 20 * ANSWER_BYTES as u64;
        let options = DiskOptions {
            history: HistoryBounds {
                max_size_bytes: room,
                ..HistoryBounds::default()
            },
            ..DiskOptions::default()
        };
        let journal = bounded(directory.path(), options);
        let number = journal.subscribe(vec![fixture::wanted("r")]).await.unwrap()[0];
        end(&journal, number, 15).await;
        journal.upkeep().await;
        let all: Vec<u64> = (1..=15).collect();
        assert_eq!(told(&journal).await, all, "all of it fits");
        end(&journal, number, 30).await;
        journal.upkeep().await;
        let left = told(&journal).await;
        // A row takes a little more than its answer.
        assert!((18..20).contains(&left.len()), "{left:?}");
        let last: Vec<u64> = (46 - left.len() as u64..=45).collect();
        assert_eq!(left, last, "the latest are left");
        let totals = journal.reader().totals().await.unwrap();
        assert_eq!(totals.events, 45, "the events have their own time");
        journal.close().await;
        drop(journal);
        let journal = bounded(directory.path(), options);
        assert_eq!(told(&journal).await, left);
    });
}

#[test]
fn where_the_store_is_nearly_full_the_history_goes_before_any_event() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let options = DiskOptions {
            max_size_bytes: 8 << 20,
            ..DiskOptions::default()
        };
        let journal = bounded(directory.path(), options);
        let numbers = ["r", "waits"].map(fixture::wanted);
        let numbers = journal.subscribe(numbers.into()).await.unwrap();
        end(&journal, numbers[0], 200).await;
        journal.upkeep().await;
        assert_eq!(told(&journal).await.len(), 200);
        let mut stored = 200;
        let mut has_gone = false;
        loop {
            let large = Entry {
                event: sized_event(&stored.to_string(), 16_000),
                // The first of them is still wanted when all others may go.
                deliveries: (stored == 200)
                    .then(|| NewDelivery::now(numbers[1]))
                    .into_iter()
                    .collect(),
                ..entry("x", &[])
            };
            journal.append(append_of(vec![large])).await.unwrap();
            stored += 1;
            journal.upkeep().await;
            let left = told(&journal).await.len();
            has_gone |= left == 0;
            let events = journal.reader().totals().await.unwrap().events;
            if events < stored {
                assert_eq!(left, 0, "{events} of {stored} events are left");
                break;
            }
            assert!(stored < 200 + 600, "8 MiB hold no more: {left} are told");
        }
        assert!(has_gone);
        let waits = journal.reader().pending(numbers[1], None, 9).await.unwrap();
        assert_eq!(waits.len(), 1);
        journal.close().await;
        drop(journal);
        bounded(directory.path(), options);
    });
}
