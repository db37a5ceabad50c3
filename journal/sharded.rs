//! Several journals as one.
//!
//! ```text
//!            ┌─▶ shard 0 ─┐  each with its own store, queues and leases
//! append ─▶ route         ├─▶ lease, due: from each in turn
//!            └─▶ shard 3 ─┘   lists: merged by id, key or place
//! ```
//!
//! What a sequence, a delivery's id or a lease token belongs to is told by its high bits
//! ([`ShardNumber`]). Subscriptions, their numbers and replays are the same in all shards, and
//! what is counted of them is summed.
//!
//! # Which shard
//!
//! 1. A source that keeps a cursor or rows of a position is at home in one shard of all: everything
//!    that it appends goes there, each append whole. So do its rejects, and those of every other
//!    source.
//! 2. An entry of any other source goes into one of the shards that its tenant has: all of them,
//!    unless it is said otherwise ([`Sharded::divide_by`]). It goes where what decides about its
//!    deliveries is the same: by the order key of a delivery, else by the rule's key that guards it.
//!    Where its deliveries have keys of several shards a copy of the event goes to each of those,
//!    with the deliveries whose keys are there.
//! 3. An entry without such keys goes by what deduplicates it: its own key, or its identity.
//! 4. What is left goes to the shard whose turn it is, of those that are on this machine where any
//!    is. A turn is [`TURN_ENTRIES`] entries long, so that appends which wait together share a
//!    commit.
//!
//! So all events of one source with one order key are in one shard, in the order in which they were
//! appended; that of several sources has no order to keep. A repeated event comes to the shard of
//! the first one, as long as the rules find the same keys in it, and the tenant has the same shards.
//!
//! # On several machines
//!
//! Each shard is in the [`Slot`] of every machine, and here in that of its owner alone. What is
//! leased and settled is of those that are here; an append or a command goes to wherever its shard
//! is. Lists show what can be reached, and [`Reader::incomplete`] names the rest.
//!
//! # What is weaker than in one journal
//!
//! - An append that is divided is all or nothing in each shard alone. Where one refuses or fails
//!   the call fails, and what others have stored stays: the source sends it again, and it is
//!   deduplicated or delivered twice. What goes whole, or goes to one shard, is never affected.
//! - Order, within a key and by due time, is that of each shard. Deliveries of one key that
//!   different sources, follow-ups or replays have brought to different shards go side by side.
//! - A backlog's bound and a quota hold in each shard with what waits in the others as it was told
//!   last ([`Sharded::count_elsewhere`]): in all, what comes in meanwhile may wait besides. An append
//!   that is larger than its bound is let in once nothing waits in any shard.
//! - Every shard has a clock of its own, as it has a store: [`Journal::clock`] is the first one's.
//!   They go alike until the time of day is set and some are opened anew after that; then due times
//!   in another shard are off by as much.
//! - A replay of events looks at each copy of an event.
//! - [`EventsFrom::Time`](crate::EventsFrom) begins in each shard with that time, but a page behind
//!   it goes on with whole shards: whoever wants no older event looks at its time, or asks with
//!   [`EventsFrom::AfterSince`](crate::EventsFrom).
//! - Pages of what has ended, the earliest first, may miss what ends in another shard within the
//!   moment (16 ms) that the page before came to.

mod lease;
mod placement;
mod reader;
pub(crate) mod replay;
pub(crate) mod route;
mod slot;
mod subscribe;
pub mod tenants;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use parking_lot::RwLock;
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Event, JournalId, Name, PositionRow, Sequence, SubscriptionNumber,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::placement::Placements;
use self::reader::ShardedReader;
pub use self::route::TURN_ENTRIES;
pub use self::slot::Slot;
#[cfg(any(test, feature = "test-util"))]
pub(crate) use self::subscribe::numbered;
pub use self::tenants::TenantShards;
use self::waiting::Bounds;
pub use self::waiting::Waiting;
use crate::{
    Activity, Append, Appended, BacklogQuota, DeadSelection, Grant, Journal, JournalError, Leases,
    NewReplay, Numbered, Reader, Redrive, Redriven, Replay, ReplayId, ReplayState, ReplayStep,
    Replayed, SettleAnswer, Settlement, Shard, ShardNumber, Subscription,
};

/// Shards that one node has at most.
pub const SHARDS_MAX: usize = 256;

/// Several journals as one.
#[derive(Debug)]
pub struct Sharded {
    shards: Shards,
    /// Which of them each tenant has.
    placements: Arc<Placements>,
    /// Entries that have gone by turns.
    turns: AtomicUsize,
    /// With which shard the next lease begins.
    first: AtomicUsize,
    /// The sources that keep a cursor or a position, by tenant.
    at_home: RwLock<HashSet<(Name, Name)>>,
    told: tokio::sync::Mutex<Told>,
    bounds: RwLock<Bounds>,
    /// Counts what has come into slots and has left them.
    moves: watch::Sender<u64>,
}

/// What every shard on this machine is told, also one that comes later.
#[derive(Debug, Default)]
struct Told {
    subscriptions: Option<Vec<Numbered>>,
    quotas: Vec<BacklogQuota>,
}

/// Why journals cannot be the shards of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoShards {
    /// There are none, or too many.
    #[error("there are 1 to {SHARDS_MAX} shards, and not {0}")]
    Count(usize),
    /// A journal was not opened as a shard.
    #[error("one of the journals stands alone and is no shard")]
    Alone,
    /// Two have one number.
    #[error("two journals are the shard {}", .0.get())]
    Twice(ShardNumber),
}

/// The journals, by their numbers.
#[derive(Clone, Debug)]
struct Shards(Arc<[(ShardNumber, Arc<dyn Shard>)]>);

impl Shards {
    fn iter(&self) -> impl Iterator<Item = &Arc<dyn Shard>> + Clone {
        self.0.iter().map(|(_, shard)| shard)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn place_of(&self, number: ShardNumber) -> Option<usize> {
        self.0.binary_search_by_key(&number, |(own, _)| *own).ok()
    }

    /// The shard that has given out a sequence.
    fn of(&self, sequence: Sequence) -> Option<&Arc<dyn Shard>> {
        let place = self.place_of(ShardNumber::of(sequence))?;
        self.0.get(place).map(|(_, shard)| shard)
    }

    /// The shard at a place, which comes from a hash or a turn.
    fn at(&self, place: usize) -> Option<&Arc<dyn Shard>> {
        self.0.get(place % self.len()).map(|(_, shard)| shard)
    }

    /// Does something in every shard, and returns what came of it where there was something to do.
    /// A subscription that some shards have dropped is still there in the others.
    async fn each<'s, T, F>(
        &'s self,
        work: impl Fn(&'s dyn Shard) -> F,
    ) -> Result<Vec<T>, JournalError>
    where
        F: Future<Output = Result<T, JournalError>> + 's,
    {
        let all = join_all(self.iter().map(|shard| work(&**shard))).await;
        found(all)
    }
}

/// What was found somewhere; the first failure otherwise, and only then that there is no such thing.
fn found<T>(all: Vec<Result<T, JournalError>>) -> Result<Vec<T>, JournalError> {
    let (mut found, mut missing) = (Vec::with_capacity(all.len()), None);
    for one in all {
        match one {
            Ok(one) => found.push(one),
            Err(error @ JournalError::NotFound(_)) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

impl Sharded {
    /// The journal that these are the shards of, in whatever order they come.
    ///
    /// # Errors
    /// [`NoShards`].
    pub fn new(shards: Vec<Arc<dyn Shard>>) -> Result<Arc<Self>, NoShards> {
        if !(1..=SHARDS_MAX).contains(&shards.len()) {
            return Err(NoShards::Count(shards.len()));
        }
        let numbered = |shard: Arc<dyn Shard>| Some((shard.number()?, shard));
        let numbered: Option<Vec<_>> = shards.into_iter().map(numbered).collect();
        let mut numbered = numbered.ok_or(NoShards::Alone)?;
        numbered.sort_by_key(|(number, _)| *number);
        let mut neighbours = numbered.iter().zip(numbered.iter().skip(1));
        if let Some(((twice, _), _)) = neighbours.find(|((one, _), (next, _))| one == next) {
            return Err(NoShards::Twice(*twice));
        }
        let placements = Arc::new(Placements::new(numbered.len()));
        let moves = watch::Sender::default();
        Ok(Arc::new(Self::over(numbered, placements, moves)))
    }

    /// The journal of so many shards, of which none is here yet, and the slot of each in their
    /// order. It has this identity and this clock, whatever comes.
    ///
    /// # Errors
    /// [`NoShards::Count`].
    pub fn of_slots(
        count: u16,
        id: JournalId,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, Vec<Slot>), NoShards> {
        if !(1..=SHARDS_MAX).contains(&usize::from(count)) {
            return Err(NoShards::Count(count.into()));
        }
        let moves = watch::Sender::default();
        let placements = Arc::new(Placements::new(count.into()));
        let slot = |number| {
            let (clock, placements) = (Arc::clone(clock), Arc::clone(&placements));
            Slot::new((number, id), clock, placements, moves.clone())
        };
        let slots: Vec<Slot> = (0..count).filter_map(ShardNumber::new).map(slot).collect();
        let shard = |slot: &Slot| (slot.shard(), Arc::new(slot.clone()) as Arc<dyn Shard>);
        let numbered = slots.iter().map(shard).collect();
        Ok((Arc::new(Self::over(numbered, placements, moves)), slots))
    }

    fn over(
        numbered: Vec<(ShardNumber, Arc<dyn Shard>)>,
        placements: Arc<Placements>,
        moves: watch::Sender<u64>,
    ) -> Self {
        Self {
            shards: Shards(numbered.into()),
            placements,
            turns: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            at_home: RwLock::default(),
            told: tokio::sync::Mutex::default(),
            bounds: RwLock::default(),
            moves,
        }
    }

    /// Puts a shard that has come to this machine into its slot, once it is told what the others
    /// have been. What is leased of it ends with `fence`.
    ///
    /// # Errors
    /// What the shard fails with: it is not in its slot then.
    pub async fn take_in(
        &self,
        slot: &Slot,
        shard: Arc<dyn Shard>,
        fence: CancellationToken,
    ) -> Result<(), JournalError> {
        let told = self.told.lock().await;
        if let Some(subscriptions) = &told.subscriptions {
            shard.subscribe_as(subscriptions.clone()).await?;
            shard.set_quotas(told.quotas.clone()).await?;
        }
        slot.put_here(shard, fence);
        Ok(())
    }

    /// Whether the shard is here that a source is at home in, which keeps a cursor or a position.
    #[must_use]
    pub fn is_home_here(&self, tenant: &Name, source: &Name) -> bool {
        self.home(tenant, source).is_here()
    }

    /// Divides what is appended from now on so that each tenant has as many shards as it says here.
    /// Of those tenants that are `stopped` nothing is taken in, neither here nor from other machines:
    /// it waits, and fails with [`JournalError::Away`] after a while.
    pub fn divide_by(&self, shards: &TenantShards, stopped: BTreeSet<Name>) {
        self.placements.set(shards, stopped);
    }

    /// Waits until everything has ended that was divided otherwise than it is now, as far as it was
    /// for a shard on this machine or came in here.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::Away`].
    pub async fn divided_so(&self) -> Result<(), JournalError> {
        self.placements.earlier_ended().await;
        // What nobody waits for any longer may be on its way to a commit: nothing overtakes it.
        let here = self.shards.iter().filter(|shard| shard.is_here());
        try_join_all(here.map(|shard| shard.last_subscription())).await?;
        Ok(())
    }

    /// Returns how many shards there are, on all machines.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// Changes whenever a shard has come to this machine or has left it.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Hands each delivery to its shard, and sums up.
    async fn to_each<'s, F>(
        &'s self,
        deliveries: &[DeliveryId],
        work: impl Fn(&'s dyn Shard, Vec<DeliveryId>) -> F,
    ) -> Result<u64, JournalError>
    where
        F: Future<Output = Result<u64, JournalError>> + 's,
    {
        // Where there is nothing to be done a shard still says whether it could be.
        if deliveries.is_empty() {
            return work(self.at(0), Vec::new()).await;
        }
        let own = |number: ShardNumber| -> Vec<DeliveryId> {
            let ids = deliveries.iter().copied();
            ids.filter(|id| ShardNumber::of(id.sequence) == number)
                .collect()
        };
        let parts = self
            .shards
            .0
            .iter()
            .map(|(number, shard)| (shard, own(*number)));
        let parts = parts.filter(|(_, ids)| !ids.is_empty());
        let done = join_all(parts.map(|(shard, ids)| work(&**shard, ids))).await;
        Ok(found(done)?.into_iter().sum())
    }

    /// The shard that a source is at home in.
    fn home(&self, tenant: &Name, source: &Name) -> &dyn Shard {
        let place = route::home(tenant, source);
        self.at(place)
    }

    fn at(&self, place: usize) -> &dyn Shard {
        #[expect(
            clippy::expect_used,
            reason = "a journal without shards cannot be made"
        )]
        let shard = self.shards.at(place).expect("there is a shard");
        &**shard
    }
}

#[async_trait]
impl Journal for Sharded {
    fn id(&self) -> JournalId {
        self.at(0).id()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.at(0).clock()
    }

    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        self.append_divided(append).await
    }

    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError> {
        self.lease_in_turn(grants, bytes_max).await
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        self.settle_in_each(settlements).await
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        let mut each: Vec<_> = self.shards.iter().map(|shard| shard.due()).collect();
        // All of those that are ready: a busy shard keeps none of the others from being heard.
        poll_fn(|context| {
            let mut due = Vec::new();
            for one in &mut each {
                if let Poll::Ready(own) = one.as_mut().poll(context) {
                    due.extend(own);
                }
            }
            if due.is_empty() {
                return Poll::Pending;
            }
            due.sort_unstable();
            due.dedup();
            Poll::Ready(due)
        })
        .await
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.subscribe_each(wanted).await
    }

    async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        let mut told = self.told.lock().await;
        told.quotas.clone_from(&quotas);
        self.bounds.write().set_quotas(&quotas);
        self.shards
            .each(|shard| shard.set_quotas(quotas.clone()))
            .await?;
        Ok(())
    }

    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        self.shards
            .each(|shard| shard.set_activity(subscription, activity))
            .await?;
        Ok(())
    }

    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        let cursor = self.home(tenant, source).cursor(tenant, source).await?;
        if cursor.is_some() {
            self.is_at_home(tenant, source);
        }
        Ok(cursor)
    }

    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        let home = self.home(tenant, source);
        let rows = home.positions(tenant, source, after, limit).await?;
        if !rows.is_empty() {
            self.is_at_home(tenant, source);
        }
        Ok(rows)
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.to_each(deliveries, async |shard, ids| shard.cancel(&ids).await)
            .await
    }

    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.to_each(deliveries, async |shard, ids| shard.skip(&ids).await)
            .await
    }

    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.to_each(deliveries, async |shard, ids| shard.suspend(&ids).await)
            .await
    }

    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.to_each(deliveries, async |shard, ids| shard.resume(&ids).await)
            .await
    }

    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.to_each(deliveries, async |shard, ids| shard.retry(&ids).await)
            .await
    }

    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        let each = self.shards.each(|shard| shard.cancel_all(subscription));
        Ok(each.await?.into_iter().sum())
    }

    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        let each = self.shards.each(|shard| shard.move_all(from, to));
        Ok(each.await?.into_iter().sum())
    }

    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        let each = self.shards.each(|shard| shard.redrive(selection));
        Ok(each.await?.into_iter().sum())
    }

    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        let shard = self.shards.of(id.sequence);
        let shard = shard.ok_or_else(|| JournalError::NotFound(format!("dead letter {id}")))?;
        shard.edit_dead(id, event).await
    }

    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        self.shards.redrive_some(redrive).await
    }

    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError> {
        self.shards.begin_replay(replay).await
    }

    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        self.shards.step(step).await
    }

    async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        let ended = self
            .shards
            .each(|shard| shard.end_replay(id, state, message))
            .await?;
        replay::shown(&ended).ok_or_else(|| JournalError::NotFound(format!("replay {id}")))
    }

    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        let each = self.shards.each(|shard| shard.purge(selection));
        Ok(each.await?.into_iter().sum())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(ShardedReader::new(self.shards.0.iter()))
    }

    fn reader_here(&self) -> Arc<dyn Reader> {
        let here = self.shards.0.iter().filter(|(_, shard)| shard.is_here());
        Arc::new(ShardedReader::new(here))
    }

    fn trouble(&self) -> Option<JournalError> {
        let mut all = self.shards.0.iter();
        all.find_map(|(number, shard)| {
            Some(match shard.trouble()? {
                JournalError::Io(what) => {
                    JournalError::Io(format!("shard {}: {what}", number.get()))
                }
                other => other,
            })
        })
    }

    async fn close(&self) {
        join_all(self.shards.iter().map(|shard| shard.close())).await;
    }
}
