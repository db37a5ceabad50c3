//! What whoever watches an entry is told.

use parking_lot::Mutex;

use super::*;
use crate::{Backlog, MadeDelivery, Terms, Watch};

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(Sequence, Vec<MadeDelivery>)>>);

impl Watch for Notes {
    fn made(&self, sequence: Sequence, made: Vec<MadeDelivery>) {
        self.0.lock().push((sequence, made));
    }
}

pub async fn who_watches_an_entry_is_told_what_was_made_of_it(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let full = Backlog {
        max: 1,
        dead_when_full: true,
    };
    let attached = ["a", "full"].map(|rule| Subscription {
        backlog: (rule == "full").then_some(full),
        ..wanted(rule)
    });
    let attached = bench.journal.subscribe(attached.into()).await;
    let numbers = attached.unwrap();
    let notes = Arc::new(Notes::default());
    let watched = |id: &str, numbers: &[SubscriptionNumber]| {
        let watch = Arc::clone(&notes) as Arc<dyn Watch>;
        let terms = Terms {
            watch: Some(watch),
            ..Terms::default()
        };
        Entry {
            deduplicate: Some(MINUTE),
            terms: Some(Box::new(terms)),
            ..entry(id, numbers)
        }
    };
    let twice = [numbers[1], numbers[0], numbers[1]];
    let entries = vec![
        watched("1", &twice),
        watched("2", &numbers),
        watched("1", &numbers),
        watched("3", &[]),
    ];
    let appended = bench.append(entries).await;
    assert!(matches!(appended[2], Appended::Duplicate(_)));
    let told = std::mem::take(&mut *notes.0.lock());
    let sequences: Vec<_> = told.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(
        sequences,
        [0, 1, 3].map(|at: usize| stored(appended[at])),
        "each that was stored, and no duplicate"
    );
    let seen = |at: usize| {
        let made = told[at].1.iter();
        made.map(|one| (one.subscription.rule.as_str(), one.is_dead))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(0), [("full", false), ("a", false)]);
    assert_eq!(seen(1), [("a", false), ("full", true)]);
    assert_eq!(seen(2), []);
    // The ids are those that deliveries are leased under.
    let leased = bench.lease(numbers[0], 9).await;
    let ids: Vec<_> = leased.iter().map(|one| one.id).collect();
    assert_eq!(ids, [told[0].1[1].id, told[1].1[0].id]);

    // Nothing is told of what is refused.
    let stop = Backlog {
        max: 1,
        dead_when_full: false,
    };
    let stopping = Subscription {
        backlog: Some(stop),
        ..wanted("stops")
    };
    let number = bench.journal.subscribe(vec![stopping]).await.unwrap()[0];
    bench.append(vec![entry("4", &[number])]).await;
    let refused = append_of(vec![watched("5", &[number])]);
    assert!(bench.journal.append(refused).await.is_err());
    assert!(notes.0.lock().is_empty());
}
