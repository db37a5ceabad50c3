//! What can be seen of a journal: the same as of the model, adding up, and following from what was
//! seen before.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::play::Play;
use crate::suite::*;
use crate::{
    Activity, DeadSelection, EndedSelection, FIRST_STATES, Happening, HistoryEntry, HistoryPlace,
    Pending, Reader, TaskState,
};

/// A delivery without its journal: sequence, subscription, run.
type Key = (Sequence, SubscriptionNumber, u64);

/// The states in which the tasks were seen last, and how far their ends are known.
#[derive(Default)]
pub(super) struct Tracker {
    states: BTreeMap<Key, TaskState>,
}

impl Tracker {
    /// Sees to it that every task has come to its state by what may have happened to it. What is
    /// not seen any more has ended without a record, and is forgotten.
    fn follow(&mut self, seen: BTreeMap<Key, TaskState>, admitted: &[Happening]) {
        for (key, state) in &seen {
            let Some(before) = self.states.get(key) else {
                assert!(
                    is_reached(&FIRST_STATES, *state, &Happening::ALL),
                    "{key:?} begins as {state}"
                );
                continue;
            };
            let by_itself = [Happening::FallDue, Happening::PutBack];
            let may: Vec<_> = by_itself.iter().chain(admitted).copied().collect();
            assert!(
                is_reached(&[*before], *state, &may),
                "{key:?} went from {before} to {state} by {admitted:?}"
            );
        }
        self.states = seen;
    }
}

/// Whether a state is reached from one of others by these happenings, in any number.
fn is_reached(from: &[TaskState], to: TaskState, by: &[Happening]) -> bool {
    let mut reached: HashSet<_> = from.iter().copied().collect();
    loop {
        let next: Vec<_> = reached
            .iter()
            .flat_map(|state| by.iter().map(move |happening| (*state, *happening)))
            .flat_map(|(state, happening)| {
                [
                    TaskState::Scheduled,
                    TaskState::Pending,
                    TaskState::Retrying,
                ]
                .map(|waiting| state.after(happening, waiting))
            })
            .flatten()
            .filter(|state| !reached.contains(state))
            .collect();
        if next.is_empty() {
            return reached.contains(&to);
        }
        reached.extend(next);
    }
}

fn key_of(id: pointsman_schemas::DeliveryId) -> Key {
    (id.sequence, id.subscription, id.run)
}

/// An entry without what differs from journal to journal.
fn told(entry: &HistoryEntry) -> impl std::fmt::Debug + PartialEq + use<> {
    let HistoryEntry {
        id,
        at,
        state,
        reason,
        next,
        attempt,
        place: _,
    } = entry.clone();
    (key_of(id), at, state, reason, next, attempt)
}

/// What waits of some events is found by each, as by its subscriptions.
async fn compare_by_event(reader: &dyn Reader, mut waiting: Vec<Pending>) {
    waiting.sort_by_key(|one| (one.id.sequence, one.id.subscription, one.id.run));
    let by_event: Vec<_> = waiting
        .chunk_by(|one, next| one.id.sequence == next.id.sequence)
        .collect();
    for wanted in by_event.iter().step_by(5).take(3) {
        let event = wanted[0].id.sequence;
        assert_eq!(reader.pending_of(event, 100).await.unwrap(), *wanted);
        assert_eq!(reader.pending_of(event, 1).await.unwrap(), wanted[..1]);
    }
}

impl Play<'_> {
    /// Whatever can be seen is the same in both.
    pub(super) async fn compare(&mut self, admitted: &[Happening]) {
        self.bench.find(self.subscriptions[0]).await;
        self.both(async |journal: Arc<dyn Journal>| {
            journal.reader().subscriptions().await.unwrap()
        })
        .await;
        for number in &self.subscriptions {
            let pending = async |journal: Arc<dyn Journal>| {
                let pending = journal
                    .reader()
                    .pending(*number, None, 10_000)
                    .await
                    .unwrap();
                pending
                    .into_iter()
                    .map(|p| {
                        let id = (p.id.sequence, p.id.run);
                        (
                            id,
                            p.due,
                            p.since,
                            p.attempts,
                            p.last,
                            p.in_flight,
                            p.suspended,
                        )
                    })
                    .collect::<Vec<_>>()
            };
            self.both(pending).await;
        }
        let dead = async |journal: Arc<dyn Journal>| {
            let dead = journal
                .reader()
                .dead(&DeadSelection::default(), None, 10_000)
                .await
                .unwrap();
            dead.into_iter()
                .map(|l| {
                    (
                        l.id.sequence,
                        l.id.subscription,
                        l.id.run,
                        l.reason,
                        l.attempts,
                        l.last,
                        l.edited,
                    )
                })
                .collect::<Vec<_>>()
        };
        self.both(dead).await;
        let totals = async |journal: Arc<dyn Journal>| {
            let totals = journal.reader().totals().await.unwrap();
            (
                totals.events,
                totals.dead,
                totals.rejects,
                totals.last_sequence,
            )
        };
        self.both(totals).await;
        self.compare_replays().await;
        let seen = self.states().await;
        self.tracker.follow(seen, admitted);
        self.compare_ends().await;
        self.compare_lives().await;
    }

    /// The state of every task that something is known of.
    async fn states(&self) -> BTreeMap<Key, TaskState> {
        let (reader, now) = (self.bench.journal.reader(), self.bench.now());
        let mut states = BTreeMap::new();
        for entry in ended(&*reader, 1_000, true).await {
            let twice = states.insert(key_of(entry.id), entry.state);
            assert_eq!(twice, None, "{entry:?} has ended twice");
        }
        let mut dead = reader.dead(&DeadSelection::default(), None, 10_000).await;
        for letter in dead
            .iter_mut()
            .flatten()
            .filter(|one| one.id.subscription.0 > 0)
        {
            let state = TaskState::of_dead(letter.reason);
            let known = states.insert(key_of(letter.id), state);
            assert!(
                known.is_none_or(|known| known == state),
                "{letter:?} is {known:?}"
            );
        }
        let mut waiting = Vec::new();
        for status in reader.subscriptions().await.unwrap() {
            let pending = reader.pending(status.number, None, 10_000).await.unwrap();
            for one in &pending {
                let ended = states.insert(key_of(one.id), one.state(now));
                assert_eq!(ended, None, "{one:?} has ended and is pending");
            }
            waiting.extend(pending);
        }
        compare_by_event(&*reader, waiting).await;
        states
    }

    /// The same deliveries have ended in both, whatever the pages and the direction.
    async fn compare_ends(&self) {
        let ends = async |journal: Arc<dyn Journal>| {
            let reader = journal.reader();
            let whole = ended(&*reader, 1_000, false).await;
            let mut back = ended(&*reader, 3, true).await;
            back.reverse();
            assert_eq!(back, whole);
            let events: BTreeSet<_> = whole.iter().map(|entry| entry.id.sequence).collect();
            for event in events.into_iter().step_by(5).take(3) {
                let of_event = whole.iter().filter(|entry| entry.id.sequence == event);
                let mut of_event: Vec<_> = of_event.cloned().collect();
                assert_eq!(ended_of(&*reader, Some(event), 2, false).await, of_event);
                of_event.reverse();
                assert_eq!(ended_of(&*reader, Some(event), 1, true).await, of_event);
            }
            let mut told: Vec<_> = whole
                .iter()
                .map(|entry| (key_of(entry.id), told(entry)))
                .collect();
            told.sort_by_key(|(key, _)| *key);
            told
        };
        self.both(ends).await;
    }

    /// Some tasks' lives are told alike.
    async fn compare_lives(&self) {
        let keys: Vec<Key> = self
            .tracker
            .states
            .keys()
            .rev()
            .step_by(7)
            .take(4)
            .copied()
            .collect();
        for key in keys {
            let life = async |journal: Arc<dyn Journal>| {
                let reader = journal.reader();
                let id = id_of(&*reader, key).await?;
                let life = reader.life(id).await.unwrap()?;
                let dead = life
                    .dead
                    .map(|dead| (dead.reason, dead.attempts, dead.last));
                let pending = life
                    .pending
                    .map(|one| (one.due, one.attempts, one.suspended));
                let history: Vec<_> = life.history.iter().map(told).collect();
                Some((life.state, pending, dead, history))
            };
            let life = self.both(life).await;
            let state = life.map(|(state, ..)| state);
            assert_eq!(state, Some(self.tracker.states[&key]), "{key:?}");
        }
    }

    /// Whoever leases only what `due` tells of gets everything.
    pub(super) async fn drain(&mut self) {
        self.subscribe(u8::MAX).await;
        for number in self.subscriptions.clone() {
            self.both(async |journal: Arc<dyn Journal>| {
                journal.set_activity(number, Activity::Active).await
            })
            .await
            .unwrap();
        }
        for number in self.subscriptions.clone() {
            self.both(async |journal: Arc<dyn Journal>| {
                let pending = journal
                    .reader()
                    .pending(number, None, 10_000)
                    .await
                    .unwrap();
                let ids: Vec<_> = pending.iter().map(|one| one.id).collect();
                journal.resume(&ids).await.unwrap()
            })
            .await;
        }
        tokio::time::advance(MINUTE * 3).await;
        loop {
            let told = self.bench.told_due().await;
            if told.is_empty() {
                break;
            }
            for number in told {
                while self.lease(number, 4).await > 0 {}
            }
            while !self.leases.is_empty() {
                self.settle(0, &Ending::Delivered, &[]).await;
            }
        }
        for number in self.subscriptions.clone() {
            assert_eq!(self.bench.counts(number).await.pending, 0);
        }
        let admitted = [Happening::Lease, Happening::Resume, Happening::Succeed];
        self.compare(&admitted).await;
    }
}

/// Everything that has ended, read in pages.
async fn ended(reader: &dyn Reader, page: usize, latest_first: bool) -> Vec<HistoryEntry> {
    ended_of(reader, None, page, latest_first).await
}

/// Everything of an event that has ended, or of all.
async fn ended_of(
    reader: &dyn Reader,
    event: Option<Sequence>,
    page: usize,
    latest_first: bool,
) -> Vec<HistoryEntry> {
    let selection = EndedSelection {
        event,
        latest_first,
        ..EndedSelection::default()
    };
    let (mut all, mut after): (Vec<HistoryEntry>, Option<HistoryPlace>) = (Vec::new(), None);
    loop {
        let next = reader.ended(&selection, after, page).await.unwrap();
        all.extend(next.entries);
        after = next.next;
        if after.is_none() {
            return all;
        }
    }
}

/// The id under which a journal knows a delivery.
async fn id_of(reader: &dyn Reader, key: Key) -> Option<pointsman_schemas::DeliveryId> {
    let ended = ended(reader, 1_000, false).await;
    let dead = reader
        .dead(&DeadSelection::default(), None, 10_000)
        .await
        .unwrap();
    let pending = reader.pending(key.1, None, 10_000).await.unwrap();
    let ids = ended.iter().map(|entry| entry.id);
    let ids = ids.chain(dead.iter().map(|letter| letter.id));
    let mut ids = ids.chain(pending.iter().map(|one| one.id));
    ids.find(|id| key_of(*id) == key)
}
