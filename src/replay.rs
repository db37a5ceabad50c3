//! Replays: retained events, and dead letters, given to subscriptions anew, each at a pace of its
//! own.
//!
//! ```text
//! journal ── retained events, page by page ──▶ router: does the subscription take it, under which key
//!    ▲                                             │ at the declared rate, as far as there is room
//!    └── deliveries and how far it has come, at once ◀──┘
//! ```
//!
//! A replay is a row of the journal, and a task here as long as it runs: in a journal of several
//! shards a row of each, and a task on the machine that has the shard. The journal keeps how far
//! it has come in the transaction that makes its deliveries: after a crash it goes on there, and
//! makes none twice. What is held in memory is one page of events.

mod dead;
mod driver;
mod events;
mod import;
mod request;
mod selection;
mod shards;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pointsman_journal::{
    EventsFrom, Journal, JournalError, NewReplay, Replay, ReplayId, ReplayKind, ReplayState,
    ShardNumber, SubscriptionIdentity,
};
use pointsman_rules::Scratch;
use pointsman_schemas::{Sequence, SubscriptionNumber};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::driver::Driver;
pub use self::import::ForeignLetter;
pub use self::request::{DeadReplay, EventReplay, EventSelection, RawFilters};
pub use self::selection::{DeadRequest, IDS_MAX};
pub use self::shards::LocalShards;
use crate::router::Router;

/// Replays that somebody asked for and that run at the same time; those that begin with their
/// subscription are not among them.
pub const RUNNING_MAX: usize = 64;

/// Replays that hold a page of events at the same time.
const PAGES_MAX: usize = 16;

/// Events that are read at once, and bytes of them: a page of each replay lies in memory.
const PAGE_EVENTS: usize = 256;
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Why a replay does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The journal says no.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Too many are running.
    #[error("{RUNNING_MAX} replays are running; wait for one of them, or stop one")]
    TooMany,
    /// It cannot be done as it is asked for.
    #[error("{0}")]
    Invalid(String),
}

/// All replays of a bus.
#[derive(Debug)]
pub struct Replays {
    journal: Arc<dyn Journal>,
    router: Arc<ArcSwap<Router>>,
    /// Those of the journal's shards that may be on this machine; none where it is whole here.
    shards: Option<LocalShards>,
    running: Mutex<HashMap<Part, Driven>>,
    pages: Arc<Semaphore>,
    /// Ends all of them, to go on with the next start.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A replay, as far as it goes through one journal: the whole one, or a shard.
type Part = (ReplayId, Option<ShardNumber>);

/// A part of a replay that is being driven.
#[derive(Debug)]
struct Driven {
    journal: Arc<dyn Journal>,
    stop: CancellationToken,
}

impl Replays {
    /// None that runs. `shards` are those of the journal that may be on this machine, now these and
    /// now those: each is driven while it is here. None where the whole journal is.
    #[must_use]
    pub fn new(
        journal: Arc<dyn Journal>,
        router: Arc<ArcSwap<Router>>,
        shards: Option<LocalShards>,
    ) -> Arc<Self> {
        Arc::new(Self {
            journal,
            router,
            shards,
            running: Mutex::default(),
            pages: Arc::new(Semaphore::new(PAGES_MAX)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Runs what the journal has and what does not run yet: after a start of the bus, and after a
    /// reload, whose new subscriptions may begin with one.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn resume(self: &Arc<Self>) -> Result<(), JournalError> {
        match &self.shards {
            None => self.look_at(None, &self.journal).await,
            Some(shards) => {
                if shards.begin() {
                    self.tasks.spawn(shards::watch(Arc::clone(self)));
                }
                Ok(())
            }
        }
    }

    /// Drives what runs in a journal and is not driven yet, and ends what is driven and has ended.
    async fn look_at(
        self: &Arc<Self>,
        shard: Option<ShardNumber>,
        journal: &Arc<dyn Journal>,
    ) -> Result<(), JournalError> {
        for replay in journal.reader().replays().await? {
            if replay.is_running() {
                self.spawn(shard, journal, replay);
            } else if let Some(driven) = self.running.lock().get(&(replay.id, shard)) {
                driven.stop.cancel();
            }
        }
        Ok(())
    }

    /// Begins a replay of retained events.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn begin(self: &Arc<Self>, replay: &EventReplay) -> Result<Replay, ReplayError> {
        replay.events.taken().map_err(ReplayError::Invalid)?;
        let (after, until) = self.range(replay).await?;
        self.begin_new(NewReplay {
            kind: ReplayKind::Events,
            subscription: Some(SubscriptionNumber(replay.subscription)),
            request: replay.encode(),
            after,
            until,
        })
        .await
    }

    /// Begins a redrive of dead letters at a rate.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn begin_dead(self: &Arc<Self>, replay: &DeadReplay) -> Result<Replay, ReplayError> {
        replay.selection().map_err(ReplayError::Invalid)?;
        self.begin_new(NewReplay {
            kind: ReplayKind::Dead,
            subscription: replay.to.map(SubscriptionNumber),
            request: replay.encode(),
            after: Sequence(0),
            until: Sequence(0),
        })
        .await
    }

    async fn begin_new(self: &Arc<Self>, new: NewReplay) -> Result<Replay, ReplayError> {
        let all = self.journal.reader().replays().await?;
        let asked_for = |one: &&Replay| one.is_running() && one.kind != ReplayKind::Start;
        if all.iter().filter(asked_for).count() >= RUNNING_MAX {
            return Err(ReplayError::TooMany);
        }
        let replay = self.journal.begin_replay(new).await?;
        tracing::info!(replay = %replay.id, kind = ?replay.kind, "a replay begins");
        let shown = Replay {
            began: self.journal.clock().shown(replay.began),
            ..replay
        };
        match &self.shards {
            None => self.spawn(None, &self.journal, shown.clone()),
            Some(shards) => shards.look_now(),
        }
        Ok(shown)
    }

    /// How many events a replay would look at, and how many deliveries it would make where none of
    /// them is pending or dead.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn count(
        &self,
        replay: &EventReplay,
        identity: &SubscriptionIdentity,
    ) -> Result<(u64, u64), ReplayError> {
        let taken = replay.events.taken().map_err(ReplayError::Invalid)?;
        let ((after, until), to) = (self.range(replay).await?, replay.events.to()?);
        let number = SubscriptionNumber(replay.subscription);
        let (reader, clock) = (self.journal.reader(), self.journal.clock());
        let (mut from, mut scratch) = (Some(EventsFrom::After(after)), Scratch::default());
        let (mut seen, mut made) = (0, 0);
        while let Some(at) = from {
            let router = self.router.load_full();
            let place = router.place(&identity.tenant, number).ok_or_else(|| {
                ReplayError::Invalid("no rule in force has this subscription".to_owned())
            })?;
            let page = reader.events(at, PAGE_EVENTS, PAGE_BYTES_MAX).await?;
            from = page.next.map(EventsFrom::After);
            for stored in &page.events {
                if stored.sequence > until || to.is_some_and(|to| stored.at > to) {
                    return Ok((seen, made));
                }
                seen += 1;
                let new = router.delivery(&place, stored, &taken, &*clock, &mut scratch);
                made += u64::from(new.is_some());
            }
        }
        Ok((seen, made))
    }

    /// Behind which event a replay begins, and the last that it looks at.
    async fn range(&self, replay: &EventReplay) -> Result<(Sequence, Sequence), ReplayError> {
        let reader = self.journal.reader();
        let last = Sequence(reader.totals().await?.last_sequence);
        let first = match replay.events.from()? {
            None => return Ok((Sequence(0), last)),
            Some(from) => reader.events(EventsFrom::Time(from), 1, 1).await?,
        };
        let first = first.events.first().map(|first| first.sequence.0);
        let behind = first.map_or(last, |first| Sequence(first.saturating_sub(1)));
        Ok((behind, last))
    }

    /// Stops a replay: what it has made stays.
    ///
    /// # Errors
    /// [`JournalError::NotFound`], [`JournalError::Io`].
    pub async fn stop(&self, id: ReplayId) -> Result<Replay, JournalError> {
        let message = "somebody stopped it";
        let replay = self.journal.end_replay(id, ReplayState::Stopped, message);
        let replay = replay.await?;
        tracing::info!(replay = %id, "a replay was stopped");
        if !replay.is_running() {
            let running = self.running.lock();
            let own = running.iter().filter(|((of, _), _)| *of == id);
            own.for_each(|(_, driven)| driven.stop.cancel());
        }
        Ok(replay)
    }

    /// Lets all of them end where they are; they go on with the next start.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Drives a part of a replay, unless that is done already.
    fn spawn(
        self: &Arc<Self>,
        shard: Option<ShardNumber>,
        journal: &Arc<dyn Journal>,
        replay: Replay,
    ) {
        let (part, stop) = ((replay.id, shard), self.stop.child_token());
        match self.running.lock().entry(part) {
            Entry::Occupied(_) => return,
            Entry::Vacant(vacant) => {
                let (journal, stop) = (Arc::clone(journal), stop.clone());
                vacant.insert(Driven { journal, stop });
            }
        }
        let driver = Driver {
            journal: Arc::clone(journal),
            router: Arc::clone(&self.router),
            pages: Arc::clone(&self.pages),
            journals: self.shards.as_ref().map_or(1, LocalShards::count),
        };
        let replays = Arc::clone(self);
        self.tasks.spawn(async move {
            // What is dropped in the middle of a step has made it, whole, or not at all.
            stop.run_until_cancelled(driver.drive(replay)).await;
            replays.running.lock().remove(&part);
            if stop.is_cancelled()
                && let Some(shards) = &replays.shards
            {
                // The shard may be back, in another journal.
                shards.look_now();
            }
        });
    }
}

#[cfg(test)]
mod tests;
