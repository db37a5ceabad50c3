//! A journal that lives and dies with its process: for tests of whatever stands on the seam, and
//! the plainest reading of its invariants.
//!
//! Time: what waits (leases, [`Journal::due`]) waits by tokio's clock, and what has a time of day
//! (due times, ages, retention) goes by the [`Clock`] that it is given. With paused time give it a
//! [`RuntimeClock`], whose time of day moves with tokio's, so that `tokio::time::advance` and the
//! automatic advance of an idle runtime make deliveries fall due.

mod append;
mod history;
mod keys;
mod operate;
mod replay;
mod settle;
mod show;
mod state;
mod subscribe;

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Epoch, Event, JournalId, Name, PositionRow, Sequence,
    SubscriptionNumber, Timestamp,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::state::State;
use super::queue::Moment;
use super::steady::JournalClock;
use super::{
    Activity, Append, Appended, BacklogQuota, BlockedPage, Bounded, DeadLetter, DeadSelection,
    EndedPage, EndedSelection, EventPage, EventsFrom, Grant, HistoryPlace, Journal, JournalError,
    Leases, Lookup, NewReplay, Numbered, Pending, Reader, Redrive, Redriven, RememberedKey, Replay,
    ReplayId, ReplayState, ReplayStep, Replayed, SettleAnswer, Settlement, Shard, ShardNumber,
    StoredEvent, Subscription, SubscriptionStatus, TaskLife, Totals,
};
use crate::numbers;

/// A clock whose time of day moves with the time of the tokio runtime that it was made in, paused
/// or not. Any thread may read it.
#[derive(Clone, Debug)]
pub struct RuntimeClock {
    runtime: tokio::runtime::Handle,
    start: Instant,
    origin: Timestamp,
}

impl RuntimeClock {
    /// A clock that reads `origin` now.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(origin: Timestamp) -> Self {
        Self {
            runtime: tokio::runtime::Handle::current(),
            start: Instant::now(),
            origin,
        }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        let _time_of = self.runtime.enter();
        self.origin.plus(self.start.elapsed())
    }
}

/// The bounds of a [`MemoryJournal`].
#[derive(Clone, Copy, Debug)]
pub struct MemoryOptions {
    /// How long settled and unmatched events are kept where there is room.
    pub retention: Duration,
    /// Event bytes that it may hold.
    pub bytes_max: u64,
    /// How long the history is kept.
    pub history: Duration,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(24 * 60 * 60),
            bytes_max: u64::MAX,
            history: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The journal in memory.
#[derive(Debug)]
pub struct MemoryJournal {
    shared: Arc<Shared>,
}

struct Shared {
    id: JournalId,
    shard: Option<ShardNumber>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    wake: Notify,
    /// Held while subscriptions are given numbers.
    numbering: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Runs an operation on the state as it is now, and wakes who waits for what came of it.
    fn run<T>(
        &self,
        operation: impl FnOnce(&mut State) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let mut state = self.state.lock();
        if let Some(trouble) = &state.trouble {
            return Err(trouble.clone());
        }
        let now = Moment::now(&*self.clock);
        state.advance(now);
        let answer = operation(&mut state);
        state.advance(now);
        if state.queues.should_wake() {
            self.wake.notify_one();
        }
        answer
    }
}

impl MemoryJournal {
    /// An empty journal.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, options: MemoryOptions) -> Arc<Self> {
        Self::with_number(clock, options, None)
    }

    /// An empty journal that is one of several.
    #[must_use]
    pub fn shard(clock: Arc<dyn Clock>, options: MemoryOptions, shard: ShardNumber) -> Arc<Self> {
        Self::with_number(clock, options, Some(shard))
    }

    fn with_number(
        clock: Arc<dyn Clock>,
        options: MemoryOptions,
        shard: Option<ShardNumber>,
    ) -> Arc<Self> {
        let id = JournalId(rand::random());
        let clock: Arc<dyn Clock> = Arc::new(JournalClock::new(clock));
        let now = Moment::now(&*clock);
        let state = Mutex::new(State::new(Epoch(id.0), shard, options, now));
        Arc::new(Self {
            shared: Arc::new(Shared {
                id,
                shard,
                clock,
                state,
                wake: Notify::new(),
                numbering: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// Makes every operation fail with this, or lets them succeed again: for tests of what stands
    /// on the seam.
    pub fn set_trouble(&self, trouble: Option<JournalError>) {
        self.shared.state.lock().trouble = trouble;
        self.shared.wake.notify_one();
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    fn id(&self) -> JournalId {
        self.shared.id
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.clock)
    }

    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        self.shared.run(|state| state.append(append))
    }

    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError> {
        self.shared.run(|state| Ok(state.lease(grants, bytes_max)))
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        self.shared.run(|state| {
            Ok(settlements
                .into_iter()
                .map(|settlement| SettleAnswer::of(state.settle(settlement)))
                .collect())
        })
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        loop {
            let asleep = {
                let now = Moment::now(&*self.shared.clock);
                let mut state = self.shared.state.lock();
                state.advance(now);
                if let Some(ready) = state.queues.take_ready() {
                    return ready;
                }
                state.queues.sleep(now)
            };
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(asleep) => {}
            }
        }
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.shared.run(|state| Ok(state.subscribe(wanted)))
    }

    async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        self.shared.run(|state| {
            state.set_quotas(quotas);
            Ok(())
        })
    }

    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        self.shared
            .run(|state| state.set_activity(subscription, activity))
    }

    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        self.shared.run(|state| {
            Ok(state
                .cursors
                .get(&(tenant.clone(), source.clone()))
                .cloned())
        })
    }

    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        self.shared.run(|state| {
            let Some(rows) = state.positions.get(&(tenant.clone(), source.clone())) else {
                return Ok(Vec::new());
            };
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rows = rows.range::<[u8], _>((from, Bound::Unbounded));
            let row = |(key, value): (&Bytes, &Bytes)| PositionRow {
                key: key.clone(),
                value: value.clone(),
            };
            Ok(rows.take(limit).map(row).collect())
        })
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.shared.run(|state| Ok(state.cancel(deliveries)))
    }

    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.shared.run(|state| Ok(state.skip(deliveries)))
    }

    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.shared.run(|state| Ok(state.suspend(deliveries)))
    }

    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.shared.run(|state| Ok(state.resume(deliveries)))
    }

    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.shared.run(|state| Ok(state.retry(deliveries)))
    }

    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        self.shared.run(|state| state.empty(subscription, None))
    }

    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        self.shared.run(|state| state.empty(from, Some(to)))
    }

    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        let redrive = Redrive {
            selection: selection.clone(),
            to: None,
            before: self.shared.clock.now(),
            after: None,
            limit: u64::MAX,
            replay: None,
        };
        Ok(self.redrive_some(&redrive).await?.count)
    }

    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        self.shared.run(|state| state.edit_dead(id, event))
    }

    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        self.shared.run(|state| state.redrive(redrive))
    }

    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError> {
        self.begin_replay_as(ReplayId::random(), replay).await
    }

    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        self.shared.run(|state| state.replay(step))
    }

    async fn end_replay(
        &self,
        id: ReplayId,
        ended: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        self.shared
            .run(|state| state.end_replay(id, ended, message))
    }

    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.shared.run(|state| Ok(state.purge(selection)))
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.shared) as Arc<dyn Reader>
    }

    fn trouble(&self) -> Option<JournalError> {
        self.shared.state.lock().trouble.clone()
    }

    async fn close(&self) {
        self.set_trouble(Some(JournalError::Closed));
    }
}

#[async_trait]
impl Shard for MemoryJournal {
    fn number(&self) -> Option<ShardNumber> {
        self.shared.shard
    }

    fn waiting(&self, of: &[Bounded]) -> Vec<u64> {
        let mut state = self.shared.state.lock();
        of.iter().map(|one| state.waiting(one)).collect()
    }

    fn set_elsewhere(&self, elsewhere: Vec<(Bounded, u64)>) {
        self.shared.state.lock().set_elsewhere(elsewhere);
    }

    async fn subscribe_as(&self, wanted: Vec<Numbered>) -> Result<(), JournalError> {
        self.shared.run(|state| {
            state.subscribe_as(wanted);
            Ok(())
        })
    }

    async fn last_subscription(&self) -> Result<SubscriptionNumber, JournalError> {
        self.shared.run(|state| Ok(state.last_subscription()))
    }

    async fn assign(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let _alone = self.shared.numbering.lock().await;
        numbers::assign(self, &wanted).await
    }

    async fn begin_replay_as(
        &self,
        id: ReplayId,
        replay: NewReplay,
    ) -> Result<Replay, JournalError> {
        self.shared.run(|state| state.begin_replay(id, replay))
    }
}

#[async_trait]
impl Reader for Shared {
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError> {
        self.run(|state| Ok(state.statuses()))
    }

    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        self.run(|state| Ok(state.dead_letters(selection, after, limit)))
    }

    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.run(|state| Ok(state.pending(subscription, after, limit)))
    }

    async fn pending_of(
        &self,
        event: Sequence,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.run(|state| Ok(state.pending_of(event, limit)))
    }

    async fn blocked(
        &self,
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> Result<BlockedPage, JournalError> {
        self.run(|state| Ok(state.blocked(subscription, after, limit)))
    }

    async fn life(&self, id: DeliveryId) -> Result<Option<TaskLife>, JournalError> {
        self.run(|state| Ok(state.life(id)))
    }

    async fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> Result<EndedPage, JournalError> {
        self.run(|state| Ok(state.ended(selection, after, limit)))
    }

    async fn keys(&self, lookup: Lookup) -> Result<Vec<RememberedKey>, JournalError> {
        self.run(|state| Ok(state.keys(&lookup)))
    }

    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError> {
        self.run(|state| Ok(state.event(sequence)))
    }

    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError> {
        self.run(|state| Ok(state.last_event()))
    }

    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError> {
        self.run(|state| Ok(state.events(from, limit, bytes_max)))
    }

    async fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        self.run(|state| Ok(state.replays.clone()))
    }

    async fn totals(&self) -> Result<Totals, JournalError> {
        self.run(|state| Ok(state.totals()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{Bounds, Implementation};

    struct InMemory;

    #[async_trait]
    impl Implementation for InMemory {
        async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
            MemoryJournal::new(
                clock,
                MemoryOptions {
                    retention: bounds.retention,
                    bytes_max: bounds.bytes_max,
                    ..MemoryOptions::default()
                },
            )
        }

        fn persists(&self) -> bool {
            false
        }

        fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
            Box::new(|| {})
        }

        async fn upkeep(&self) {}
    }

    crate::conformance!(InMemory);

    #[test]
    fn what_waits_in_other_shards_counts() {
        crate::suite::paused(async {
            let clock = Arc::new(RuntimeClock::new(crate::suite::START));
            let number = ShardNumber::new(1).unwrap();
            let shard = MemoryJournal::shard(clock, MemoryOptions::default(), number);
            crate::suite::what_waits_in_other_shards_counts(&*shard).await;
        });
    }
}
