//! The place of a shard that is here now, and on another machine then.
//!
//! ```text
//!           ┌ here:    the journal that this node owns
//! calls ─▶ slot there: what speaks with the node that owns it
//!           └ nowhere: they wait a while for one of the others
//! ```
//!
//! Leases come from a journal that is here alone, and end with it: each has a fence that is
//! cancelled before another node can own the shard. Whoever takes the journal away waits for the
//! calls under way in it, so that none finds it closed.
//!
//! All slots of a node have one clock. Each journal has its own, which may differ by what the time
//! of day was set on some machine: times go from the one to the other with each call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Event, JournalId, Name, PositionRow, Sequence, SubscriptionNumber,
    Timestamp,
};
use tokio::sync::{Notify, RwLock, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Activity, Append, Appended, BacklogQuota, BlockedPage, DeadLetter, DeadSelection, EndedPage,
    EndedSelection, Ending, EventPage, EventsFrom, FollowUp, Grant, HistoryPlace, Journal,
    JournalError, Leases, Lookup, NewDelivery, NewReplay, Numbered, Pending, Reader, Redrive,
    Redriven, RememberedKey, Replay, ReplayId, ReplayState, ReplayStep, Replayed, SettleAnswer,
    Settlement, Shard, ShardNumber, StoredEvent, Subscription, SubscriptionStatus, TaskLife,
    Totals,
};

/// How long a call waits for somebody who has the shard.
const PATIENCE: Duration = Duration::from_secs(3);

/// How soon it asks again where the shard is said to be and is not.
const AGAIN: Duration = Duration::from_millis(50);

/// The place of a shard. Clones are the same place.
#[derive(Clone)]
pub struct Slot {
    inner: Arc<Inner>,
    /// Whether calls go to another machine where the shard is there.
    forwards: bool,
}

struct Inner {
    number: ShardNumber,
    id: JournalId,
    clock: Arc<dyn Clock>,
    place: watch::Sender<Place>,
    /// Counts what has come into the slots of a journal and has left them.
    moves: watch::Sender<u64>,
    /// Read by each call under way of a journal that is here.
    calls: RwLock<()>,
}

#[derive(Clone)]
enum Place {
    Here(Here),
    There(Arc<dyn Shard>),
    Nowhere,
    /// The process ends.
    Closed,
}

/// A journal that is here.
#[derive(Clone)]
struct Here {
    shard: Arc<dyn Shard>,
    fence: CancellationToken,
    leases: Arc<Outstanding>,
    /// Nothing more is leased: it is about to leave.
    is_leaving: bool,
}

/// Leases that have not been settled.
#[derive(Default)]
struct Outstanding {
    count: AtomicUsize,
    settled: Notify,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &*self.inner.place.borrow() {
            Place::Here(_) => "here",
            Place::There(_) => "there",
            Place::Nowhere => "nowhere",
            Place::Closed => "closed",
        };
        f.debug_tuple("Slot")
            .field(&self.inner.number.get())
            .field(&place)
            .finish()
    }
}

impl Slot {
    /// A slot without a shard. Whatever comes, it has this identity and this clock.
    pub(super) fn new(
        number: ShardNumber,
        id: JournalId,
        clock: Arc<dyn Clock>,
        moves: watch::Sender<u64>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                number,
                id,
                clock,
                place: watch::Sender::new(Place::Nowhere),
                moves,
                calls: RwLock::new(()),
            }),
            forwards: true,
        }
    }

    /// The same slot for calls that have come from another machine: they are answered by what is
    /// here, or not at all.
    #[must_use]
    pub fn unforwarded(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            forwards: false,
        }
    }

    /// The number of its shard.
    #[must_use]
    pub fn shard(&self) -> ShardNumber {
        self.inner.number
    }

    /// The journal that is here.
    #[must_use]
    pub fn here(&self) -> Option<Arc<dyn Shard>> {
        match &*self.inner.place.borrow() {
            Place::Here(here) => Some(Arc::clone(&here.shard)),
            _ => None,
        }
    }

    /// Whether another machine has it, as far as this one knows.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(&*self.inner.place.borrow(), Place::There(_))
    }

    /// The shard has come here. What is leased of it ends with `fence`.
    pub(super) fn put_here(&self, shard: Arc<dyn Shard>, fence: CancellationToken) {
        self.change(|place| {
            let is_open = !matches!(place, Place::Closed);
            if is_open {
                *place = Place::Here(Here {
                    shard,
                    fence,
                    leases: Arc::default(),
                    is_leaving: false,
                });
            }
            is_open
        });
    }

    /// Changes what is here, where it does.
    fn change(&self, change: impl FnOnce(&mut Place) -> bool) {
        if self.inner.place.send_if_modified(change) {
            self.inner.moves.send_modify(|moves| *moves += 1);
        }
    }

    /// Another machine has it, which this one speaks with; none where nobody is known to have it.
    /// What is here stays.
    pub fn put_there(&self, shard: Option<Arc<dyn Shard>>) {
        self.inner.place.send_if_modified(|place| {
            if matches!(place, Place::Here(_) | Place::Closed) {
                return false;
            }
            *place = shard.map_or(Place::Nowhere, Place::There);
            true
        });
    }

    /// Leases nothing more, and waits until everything that is leased has been settled, or for so
    /// long.
    pub async fn settle_within(&self, grace: Duration) {
        let mut leases = None;
        self.inner.place.send_if_modified(|place| {
            if let Place::Here(here) = place {
                here.is_leaving = true;
                leases = Some(Arc::clone(&here.leases));
            }
            leases.is_some()
        });
        let Some(leases) = leases else { return };
        let settled = async {
            loop {
                let settled = leases.settled.notified();
                if leases.count.load(Ordering::Acquire) == 0 {
                    return;
                }
                settled.await;
            }
        };
        // What is not settled is made again by whoever owns the shard then.
        let _late = tokio::time::timeout(grace, settled).await;
    }

    /// Takes the journal away that is here: ends its leases, and waits for the calls under way in
    /// it.
    pub async fn take_away(&self) {
        let mut fence = None;
        self.change(|place| {
            let Place::Here(here) = place else {
                return false;
            };
            fence = Some(here.fence.clone());
            *place = Place::Nowhere;
            true
        });
        if let Some(fence) = fence {
            fence.cancel();
        }
        drop(self.inner.calls.write().await);
    }

    /// Does something where the shard is.
    async fn call<T, F>(&self, work: impl Fn(Arc<dyn Shard>) -> F) -> Result<T, JournalError>
    where
        F: Future<Output = Result<T, JournalError>>,
    {
        self.call_with((), |shard, ()| work(shard)).await
    }

    /// The same with what is handed over to a journal that is here, and copied for another machine:
    /// it may have to be asked again.
    async fn call_with<A: Clone, T, F>(
        &self,
        argument: A,
        work: impl Fn(Arc<dyn Shard>, A) -> F,
    ) -> Result<T, JournalError>
    where
        F: Future<Output = Result<T, JournalError>>,
    {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.inner.place.subscribe();
        loop {
            let under_way = self.inner.calls.read().await;
            let place = seen.borrow_and_update().clone();
            let away = match place {
                Place::Here(here) => return work(here.shard, argument).await,
                Place::Closed => return Err(JournalError::Closed),
                Place::There(there) if self.forwards => {
                    drop(under_way);
                    match work(there, argument.clone()).await {
                        Err(away @ JournalError::Away(_)) => away,
                        done => return done,
                    }
                }
                Place::There(_) | Place::Nowhere => {
                    drop(under_way);
                    self.away()
                }
            };
            let now = Instant::now();
            if now >= until || !self.forwards {
                return Err(away);
            }
            tokio::select! {
                _ = seen.changed() => {}
                () = sleep_until(until.min(now + AGAIN)) => {}
            }
        }
    }

    /// Does something in the journal that is here; where none is, it is as if nothing were there to
    /// do it to.
    async fn call_here<T: Default, F>(
        &self,
        work: impl FnOnce(Here) -> F,
    ) -> Result<T, JournalError>
    where
        F: Future<Output = Result<T, JournalError>>,
    {
        let _under_way = self.inner.calls.read().await;
        let place = self.inner.place.borrow().clone();
        match place {
            Place::Here(here) => work(here).await,
            Place::Closed => Err(JournalError::Closed),
            Place::There(_) | Place::Nowhere => Ok(T::default()),
        }
    }

    /// Reads where the shard is, and does not wait for it.
    async fn read<T, F>(&self, work: impl FnOnce(Arc<dyn Reader>) -> F) -> Result<T, JournalError>
    where
        F: Future<Output = Result<T, JournalError>>,
    {
        let place = self.inner.place.borrow().clone();
        match place {
            Place::Here(here) => work(here.shard.reader()).await,
            Place::There(there) if self.forwards => match work(there.reader()).await {
                // A read that has not come back can be made again.
                Err(JournalError::Io(why)) => Err(JournalError::Away(why)),
                read => read,
            },
            Place::There(_) | Place::Nowhere => Err(self.away()),
            Place::Closed => Err(JournalError::Closed),
        }
    }

    fn away(&self) -> JournalError {
        let number = self.inner.number.get();
        JournalError::Away(format!(
            "no node that can be reached owns shard {number} now"
        ))
    }

    /// How far the clock of a journal is ahead of the slot's, in microseconds.
    fn ahead(&self, shard: &dyn Shard) -> i64 {
        let own = self.inner.clock.now().0;
        shard.clock().now().0.saturating_sub(own)
    }
}

fn shift(time: &mut Timestamp, by: i64) {
    time.0 = time.0.saturating_add(by);
}

fn shift_due(delivery: &mut NewDelivery, by: i64) {
    delivery.due.iter_mut().for_each(|due| shift(due, by));
}

/// Changes the times of what is to be appended.
fn shift_append(append: &mut Append, by: i64) {
    let entries = append.entries.iter_mut();
    entries
        .flat_map(|entry| &mut entry.deliveries)
        .for_each(|delivery| shift_due(delivery, by));
}

fn shift_settlement(settlement: &mut Settlement, by: i64) {
    if let Ending::Retry { at, .. } = &mut settlement.ending {
        shift(at, by);
    }
    for follow_up in &mut settlement.follow_ups {
        match follow_up {
            FollowUp::Append { entry, .. } => {
                let deliveries = entry.deliveries.iter_mut();
                deliveries.for_each(|delivery| shift_due(delivery, by));
            }
            FollowUp::Original(delivery) => shift_due(delivery, by),
            FollowUp::Reject { .. } => {}
        }
    }
}

#[async_trait]
impl Journal for Slot {
    fn id(&self) -> JournalId {
        self.inner.id
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.clock)
    }

    /// What has a cursor, or rows of a position, is taken by a journal that is here now alone, and
    /// waits for none: its source may have gone on elsewhere meanwhile.
    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        let shifted = |shard: &dyn Shard, mut append: Append| {
            shift_append(&mut append, self.ahead(shard));
            append
        };
        if append.cursor.is_some() || !append.positions.is_empty() {
            let append = async |here: Here| {
                let append = shifted(&*here.shard, append);
                here.shard.append(append).await.map(Some)
            };
            return self.call_here(append).await?.ok_or_else(|| self.away());
        }
        self.call_with(append, |shard, append| {
            let here = self.here();
            let is_here = here.is_some_and(|here| Arc::ptr_eq(&here, &shard));
            let append = if is_here {
                shifted(&*shard, append)
            } else {
                append
            };
            async move { shard.append(append).await }
        })
        .await
    }

    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError> {
        self.call_here(async |here: Here| {
            if here.is_leaving {
                return Ok(Leases::default());
            }
            let mut leases = here.shard.lease(grants, bytes_max).await?;
            here.leases
                .count
                .fetch_add(leases.leased.len(), Ordering::AcqRel);
            let behind = self.ahead(&*here.shard).saturating_neg();
            for leased in &mut leases.leased {
                leased.fence = Some(here.fence.clone());
                shift(&mut leased.since, behind);
            }
            for gathering in &mut leases.gathering {
                shift(&mut gathering.until, behind);
            }
            Ok(leases)
        })
        .await
    }

    async fn settle(
        &self,
        mut settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        let count = settlements.len();
        let answers = self
            .call_here(async |here: Here| {
                let ahead = self.ahead(&*here.shard);
                for settlement in &mut settlements {
                    shift_settlement(settlement, ahead);
                }
                let answers = here.shard.settle(settlements).await?;
                let settled = answers.iter();
                let settled = settled
                    .filter(|answer| **answer != SettleAnswer::NoRoom)
                    .count();
                let was =
                    here.leases
                        .count
                        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                            Some(count.saturating_sub(settled))
                        });
                if was.is_ok_and(|was| was <= settled) {
                    here.leases.settled.notify_waiters();
                }
                Ok(answers)
            })
            .await;
        let gone = || vec![SettleAnswer::Gone; count];
        answers.map(|answers: Vec<SettleAnswer>| if answers.is_empty() { gone() } else { answers })
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        let mut seen = self.inner.place.subscribe();
        loop {
            let place = seen.borrow_and_update().clone();
            let due = async {
                match place {
                    Place::Here(here) if !here.is_leaving => here.shard.due().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                due = due => return due,
                changed = seen.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.call_here(async |here: Here| here.shard.subscribe(wanted).await)
            .await
    }

    async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        self.call_here(async |here: Here| here.shard.set_quotas(quotas).await)
            .await
    }

    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        self.call(async |shard| shard.set_activity(subscription, activity).await)
            .await
    }

    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        self.call(async |shard| shard.cursor(tenant, source).await)
            .await
    }

    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        self.call(async |shard| shard.positions(tenant, source, after, limit).await)
            .await
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.cancel(deliveries).await)
            .await
    }

    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.skip(deliveries).await).await
    }

    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.suspend(deliveries).await)
            .await
    }

    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.resume(deliveries).await)
            .await
    }

    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.retry(deliveries).await).await
    }

    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        self.call(async |shard| shard.cancel_all(subscription).await)
            .await
    }

    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        self.call(async |shard| shard.move_all(from, to).await)
            .await
    }

    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.call(async |shard| shard.redrive(selection).await)
            .await
    }

    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        self.call_with(event, async |shard, event| shard.edit_dead(id, event).await)
            .await
    }

    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        self.call(async |shard| shard.redrive_some(redrive).await)
            .await
    }

    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError> {
        self.call_with(replay, async |shard, replay| {
            shard.begin_replay(replay).await
        })
        .await
    }

    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        self.call_with(step, async |shard, step| shard.replay(step).await)
            .await
    }

    async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        self.call(async |shard| shard.end_replay(id, state, message).await)
            .await
    }

    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.call(async |shard| shard.purge(selection).await).await
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }

    fn trouble(&self) -> Option<JournalError> {
        self.here()?.trouble()
    }

    async fn close(&self) {
        let here = self.here();
        self.inner.place.send_replace(Place::Closed);
        if let Some(here) = here {
            here.close().await;
        }
    }
}

#[async_trait]
impl Shard for Slot {
    fn number(&self) -> Option<ShardNumber> {
        Some(self.inner.number)
    }

    fn is_here(&self) -> bool {
        self.here().is_some()
    }

    async fn subscribe_as(&self, wanted: Vec<Numbered>) -> Result<(), JournalError> {
        self.call_here(async |here: Here| here.shard.subscribe_as(wanted).await)
            .await
    }

    async fn last_subscription(&self) -> Result<SubscriptionNumber, JournalError> {
        self.call(async |shard| shard.last_subscription().await)
            .await
    }

    async fn assign(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.call_with(wanted, async |shard, wanted| shard.assign(wanted).await)
            .await
    }

    async fn begin_replay_as(
        &self,
        id: ReplayId,
        replay: NewReplay,
    ) -> Result<Replay, JournalError> {
        self.call_with(replay, async |shard, replay| {
            shard.begin_replay_as(id, replay).await
        })
        .await
    }
}

#[async_trait]
impl Reader for Slot {
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError> {
        self.read(async |reader| reader.subscriptions().await).await
    }

    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        self.read(async |reader| reader.dead(selection, after, limit).await)
            .await
    }

    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.read(async |reader| reader.pending(subscription, after, limit).await)
            .await
    }

    async fn blocked(
        &self,
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> Result<BlockedPage, JournalError> {
        self.read(async |reader| reader.blocked(subscription, after, limit).await)
            .await
    }

    async fn life(&self, id: DeliveryId) -> Result<Option<TaskLife>, JournalError> {
        self.read(async |reader| reader.life(id).await).await
    }

    async fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> Result<EndedPage, JournalError> {
        self.read(async |reader| reader.ended(selection, after, limit).await)
            .await
    }

    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError> {
        self.read(async |reader| reader.event(sequence).await).await
    }

    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError> {
        self.read(async |reader| reader.last_event().await).await
    }

    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError> {
        self.read(async |reader| reader.events(from, limit, bytes_max).await)
            .await
    }

    async fn keys(&self, lookup: Lookup) -> Result<Vec<RememberedKey>, JournalError> {
        self.read(async |reader| reader.keys(lookup).await).await
    }

    async fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        self.read(async |reader| reader.replays().await).await
    }

    async fn totals(&self) -> Result<Totals, JournalError> {
        self.read(async |reader| reader.totals().await).await
    }
}
