//! What has ended: read in pages, and for how long.

use std::collections::BTreeSet;

use super::*;
use crate::{
    AttemptMade, DeadReason, EndedSelection, HistoryEntry, HistoryPlace, Record, TaskState,
};

/// An attempt of which there is something to be told.
fn attempt(began: Timestamp) -> Record {
    Record::Attempt(AttemptMade {
        began,
        ran: Duration::from_millis(3),
        called: Some("POST http://f".into()),
        class: Class::Delivered,
        code: Some(200),
        message: String::new(),
        answer: String::new(),
        wait: None,
    })
}

impl Bench<'_> {
    /// Ends so many deliveries in one call, every third of them badly, and tells which.
    async fn end(&self, subscription: SubscriptionNumber, count: usize) -> Vec<(u64, TaskState)> {
        let leased = self.lease(subscription, count).await;
        assert_eq!(leased.len(), count);
        let (mut settlements, mut ended) = (Vec::new(), Vec::new());
        for leased in &leased {
            let sequence = leased.id.sequence.0;
            let (ending, state) = if sequence.is_multiple_of(3) {
                let reason = DeadReason::Exhausted;
                let last = Some(last(self.now()));
                (Ending::Dead { reason, last }, TaskState::Failed)
            } else {
                (Ending::Delivered, TaskState::Succeeded)
            };
            ended.push((sequence, state));
            settlements.push(Settlement {
                record: attempt(self.now()),
                ..Settlement::new(leased.token, ending)
            });
        }
        let answers = self.journal.settle(settlements).await.unwrap();
        assert_eq!(answers, vec![SettleAnswer::Settled; count]);
        ended
    }

    /// One page, and where the next begins.
    async fn page(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> (Vec<HistoryEntry>, Option<HistoryPlace>) {
        let reader = self.journal.reader();
        let page = reader.ended(selection, after, limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        (page.entries, page.next)
    }
}

pub async fn pages_of_what_has_ended_miss_nothing_while_more_ends(
    implementation: &dyn Implementation,
) {
    for latest_first in [false, true] {
        for limit in [1, 3, 4] {
            let bench = Bench::new(implementation).await;
            let numbers = bench.subscribe(&["r", "other"]).await;
            let entries = (0..60).map(|id| entry(&id.to_string(), &numbers));
            bench.append(entries.collect()).await;
            let number = numbers[0];
            // What the store holds from before is not meant.
            tokio::time::advance(MINUTE).await;
            let before = bench.now();
            let mut ended = Vec::new();
            for count in [5, 1, 7] {
                ended.extend(bench.end(number, count).await);
                bench.end(numbers[1], 2).await;
            }
            let then: BTreeSet<_> = ended.iter().copied().collect();
            let selection = EndedSelection {
                subscriptions: Some(vec![number]),
                from: Some(before),
                latest_first,
                ..EndedSelection::default()
            };
            let (mut shown, mut after) = (Vec::new(), None);
            loop {
                let (entries, next) = bench.page(&selection, after, limit).await;
                shown.extend(entries);
                assert!(shown.len() <= 60, "the pages come to an end");
                let Some(next) = next else { break };
                after = Some(next);
                // More ends between two pages, of both, alone and together.
                if ended.len() < 40 {
                    ended.extend(bench.end(number, 1 + ended.len() % 3).await);
                    bench.end(numbers[1], 1).await;
                }
            }
            let all: BTreeSet<_> = shown
                .iter()
                .map(|entry| (entry.id.sequence.0, entry.state))
                .collect();
            let places: Vec<_> = shown.iter().map(|entry| entry.place).collect();
            let what = format!("{limit} at a time, the latest first: {latest_first}");
            assert_eq!(all.len(), shown.len(), "nothing twice, {what}");
            let is_in_order = |pair: &[HistoryPlace]| (pair[0] > pair[1]) == latest_first;
            assert!(places.windows(2).all(is_in_order), "{what}: {places:?}");
            // Who goes back in time sees what there was when it began, who goes forth all.
            let wanted = match latest_first {
                true => then,
                false => ended.iter().copied().collect(),
            };
            assert_eq!(all, wanted, "{what}");
            assert!(
                ended.len() > 13 || limit > 3,
                "more ended meanwhile, {what}"
            );
            bench.journal.close().await;
        }
    }
}

pub async fn the_history_is_kept_for_its_time_and_what_has_not_ended_longer(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::bounded(
        implementation,
        Bounds {
            retention: MINUTE,
            ..ROOMY
        },
    )
    .await;
    let number = bench.subscribe(&["r"]).await[0];
    let entries = (0..9).map(|id| entry(&id.to_string(), &[number]));
    bench.append(entries.collect()).await;
    let waiting = bench.lease_one(number).await;
    let settlement = Settlement {
        record: attempt(bench.now()),
        ..Settlement::new(waiting.token, retry(bench.now().plus(MINUTE * 60 * 72)))
    };
    bench.journal.settle(vec![settlement]).await.unwrap();
    let early = bench.end(number, 4).await;
    // The histories of both journals are kept for a day where nothing else is said.
    tokio::time::advance(MINUTE * 60 * 23).await;
    let late = bench.end(number, 4).await;
    let shown = async |bench: &Bench<'_>| {
        bench.implementation.upkeep().await;
        let (entries, _) = bench.page(&EndedSelection::default(), None, 99).await;
        let shown = entries.iter().map(|e| (e.id.sequence.0, e.state));
        shown.collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<_> = early.iter().chain(&late).copied().collect();
    assert_eq!(shown(&bench).await, all);
    tokio::time::advance(MINUTE * 59).await;
    assert_eq!(shown(&bench).await, all, "a minute before");
    tokio::time::advance(MINUTE * 2).await;
    let late: BTreeSet<_> = late.into_iter().collect();
    assert_eq!(shown(&bench).await, late, "a minute after");
    bench.reopen().await;
    assert_eq!(shown(&bench).await, late);
    // What waits is there all the same, and so are the dead letters.
    let reader = bench.journal.reader();
    let life = reader.life(waiting.id).await.unwrap().unwrap();
    assert_eq!(life.state, TaskState::Retrying);
    assert_eq!(life.history, []);
    assert_eq!(life.pending.unwrap().attempts, 1);
    let counts = bench.counts(number).await;
    let failed = all.iter().filter(|(_, state)| *state == TaskState::Failed);
    assert_eq!((counts.pending, counts.dead), (1, failed.count() as u64));
}
