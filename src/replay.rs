//! Replays: retained events, and dead letters, given to subscriptions anew, each at a pace of its
//! own.
//!
//! ```text
//! journal ── retained events, page by page ──▶ router: does the subscription take it, under which key
//!    ▲                                             │ at the declared rate, as far as there is room
//!    └── deliveries and how far it has come, at once ◀──┘
//! ```
//!
//! A replay is a row of the journal, and a task here as long as it runs. The journal keeps how far
//! it has come in the transaction that makes its deliveries: after a crash it goes on there, and
//! makes none twice. What is held in memory is one page of events.

mod dead;
mod events;
mod import;
mod request;
mod selection;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pointsman_journal::{
    EventsFrom, Journal, JournalError, NewReplay, Replay, ReplayId, ReplayKind, ReplayState,
    SubscriptionIdentity, SubscriptionStatus,
};
use pointsman_rules::Scratch;
use pointsman_schemas::{Backoff, Sequence, SubscriptionNumber, Timestamp};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::import::ForeignLetter;
pub use self::request::{DeadReplay, EventReplay, EventSelection, RawFilters};
pub use self::selection::{DeadRequest, IDS_MAX};
use crate::dispatcher::rate::Bucket;
use crate::router::Router;

/// Replays that somebody asked for and that run at the same time; those that begin with their
/// subscription are not among them.
pub const RUNNING_MAX: usize = 64;

/// Replays that hold a page of events at the same time.
const PAGES_MAX: usize = 16;

/// Events that are read at once, and bytes of them: a page of each replay lies in memory.
const PAGE_EVENTS: usize = 256;
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// How long to wait before a step is tried again that the journal has failed.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

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
    running: Mutex<HashMap<ReplayId, CancellationToken>>,
    pages: Semaphore,
    /// Ends all of them, to go on with the next start.
    stop: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
}

impl Replays {
    /// None that runs.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, router: Arc<ArcSwap<Router>>) -> Arc<Self> {
        Arc::new(Self {
            journal,
            router,
            running: Mutex::default(),
            pages: Semaphore::new(PAGES_MAX),
            stop: CancellationToken::new(),
            tasks: tokio_util::task::TaskTracker::new(),
        })
    }

    /// Runs what the journal has and what does not run yet: after a start of the bus, and after a
    /// reload, whose new subscriptions may begin with one.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn resume(self: &Arc<Self>) -> Result<(), JournalError> {
        for mut replay in self.journal.reader().replays().await? {
            if replay.is_running() && !self.running.lock().contains_key(&replay.id) {
                replay.began = self.journal_time(replay.began);
                self.spawn(replay);
            }
        }
        Ok(())
    }

    /// A time of day as the journal's clock had it.
    fn journal_time(&self, shown: Timestamp) -> Timestamp {
        let clock = self.journal.clock();
        let now = clock.now();
        let ahead = clock.shown(now).0.saturating_sub(now.0);
        Timestamp(shown.0.saturating_sub(ahead))
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
        self.spawn(replay.clone());
        Ok(Replay {
            began: self.journal.clock().shown(replay.began),
            ..replay
        })
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
        if !replay.is_running()
            && let Some(task) = self.running.lock().remove(&id)
        {
            task.cancel();
        }
        Ok(replay)
    }

    /// Lets all of them end where they are; they go on with the next start.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn(self: &Arc<Self>, replay: Replay) {
        let (id, stop) = (replay.id, self.stop.child_token());
        if self.running.lock().insert(id, stop.clone()).is_some() {
            return;
        }
        let replays = Arc::clone(self);
        self.tasks.spawn(async move {
            let ran = tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                ran = replays.run(replay) => ran,
            };
            if let Err(error) = ran {
                tracing::warn!(replay = %id, %error, "a replay ends before its time");
                replays.fail(id, &error.to_string()).await;
            }
            replays.running.lock().remove(&id);
        });
    }

    async fn run(&self, replay: Replay) -> Result<(), ReplayError> {
        match replay.kind {
            ReplayKind::Events | ReplayKind::Start => self.run_events(replay).await,
            ReplayKind::Dead => self.run_dead(replay).await,
        }
    }

    async fn fail(&self, id: ReplayId, why: &str) {
        let failed = self.journal.end_replay(id, ReplayState::Failed, why);
        // Where the journal is closed nobody asks any more, and it goes on with the next start.
        if let Err(error) = failed.await {
            tracing::debug!(replay = %id, %error, "noting how a replay ended");
        }
    }

    /// The subscription as it stands; none where it is gone.
    async fn status(
        &self,
        number: SubscriptionNumber,
    ) -> Result<Option<SubscriptionStatus>, JournalError> {
        let all = self.journal.reader().subscriptions().await?;
        Ok(all.into_iter().find(|status| status.number == number))
    }
}

/// Does something in the journal until it is done, or cannot be: what fails with the store is tried
/// again.
async fn until_done<T, F: Future<Output = Result<T, JournalError>>>(
    mut work: impl FnMut() -> F,
) -> Result<T, JournalError> {
    let mut pause = AGAIN.initial;
    loop {
        match work().await {
            Err(
                error @ (JournalError::Io(_)
                | JournalError::Away(_)
                | JournalError::Full(_)
                | JournalError::DiskFull
                | JournalError::Damaged(_)),
            ) => {
                tracing::debug!(%error, again_in = ?pause, "a replay waits for the store");
                tokio::time::sleep(pause).await;
                pause = AGAIN.longer(pause);
            }
            done => return done,
        }
    }
}

/// The pace of a replay; none where it goes as fast as the subscription takes it.
struct Pace(Option<Bucket>);

impl Pace {
    /// Waits until at least one may be made, and returns how many may, no more than `max`.
    async fn wait(&mut self, max: usize) -> usize {
        let Some(bucket) = &self.0 else {
            return max;
        };
        tokio::time::sleep_until(bucket.next_at(tokio::time::Instant::now())).await;
        let available = bucket.available(tokio::time::Instant::now());
        available.clamp(1, max)
    }

    fn made(&mut self, count: u64) {
        if let Some(bucket) = &mut self.0 {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            bucket.take(count, tokio::time::Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
