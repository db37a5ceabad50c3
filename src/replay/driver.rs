//! What drives replays in one journal: that of a bus on one machine, or one shard's.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pointsman_journal::{
    Journal, JournalError, Replay, ReplayId, ReplayKind, ReplayState, SubscriptionStatus,
};
use pointsman_schemas::{Backoff, Rate, SubscriptionNumber, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::ReplayError;
use crate::dispatcher::rate::Bucket;
use crate::router::Router;

/// How long to wait before a step is tried again that the journal has failed.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Drives replays in one journal.
pub(super) struct Driver {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) router: Arc<ArcSwap<Router>>,
    pub(super) pages: Arc<Semaphore>,
    /// How many journals a replay may be driven in side by side: each has that part of its rate.
    pub(super) journals: u32,
}

impl Driver {
    /// Drives a replay to its end, as the journal shows it.
    pub(super) async fn drive(&self, mut replay: Replay) {
        let id = replay.id;
        replay.began = self.journal_time(replay.began);
        let ran = match replay.kind {
            ReplayKind::Events | ReplayKind::Start => self.run_events(replay).await,
            ReplayKind::Dead => self.run_dead(replay).await,
        };
        match ran {
            // It goes on with whoever opens the journal next.
            Ok(()) | Err(ReplayError::Journal(JournalError::Closed)) => {}
            Err(error) => {
                tracing::warn!(replay = %id, %error, "a replay ends before its time");
                self.fail(id, &error.to_string()).await;
            }
        }
    }

    async fn fail(&self, id: ReplayId, why: &str) {
        let failed = self.journal.end_replay(id, ReplayState::Failed, why);
        // Where the journal is closed nobody asks any more, and it goes on with the next start.
        if let Err(error) = failed.await {
            tracing::debug!(replay = %id, %error, "noting how a replay ended");
        }
    }

    /// A time of day as the journal's clock had it.
    fn journal_time(&self, shown: Timestamp) -> Timestamp {
        let clock = self.journal.clock();
        let now = clock.now();
        let ahead = clock.shown(now).0.saturating_sub(now.0);
        Timestamp(shown.0.saturating_sub(ahead))
    }

    /// The pace of a replay that has declared a rate, here.
    pub(super) fn pace(&self, rate: Option<Rate>) -> Pace {
        Pace(rate.map(|rate| {
            let per = rate.per.saturating_mul(self.journals);
            Bucket::new(Rate { per, ..rate }, Instant::now())
        }))
    }

    /// The subscription as it stands; none where it is gone.
    pub(super) async fn status(
        &self,
        number: SubscriptionNumber,
    ) -> Result<Option<SubscriptionStatus>, JournalError> {
        let all = self.journal.reader().subscriptions().await?;
        Ok(all.into_iter().find(|status| status.number == number))
    }
}

/// Does something in the journal until it is done, or cannot be: what fails with the store is tried
/// again.
pub(super) async fn until_done<T, F: Future<Output = Result<T, JournalError>>>(
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
pub(super) struct Pace(Option<Bucket>);

impl Pace {
    /// Waits until at least one may be made, and returns how many may, no more than `max`.
    pub(super) async fn wait(&mut self, max: usize) -> usize {
        let Some(bucket) = &self.0 else {
            return max;
        };
        tokio::time::sleep_until(bucket.next_at(Instant::now())).await;
        let available = bucket.available(Instant::now());
        available.clamp(1, max)
    }

    pub(super) fn made(&mut self, count: u64) {
        if let Some(bucket) = &mut self.0 {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            bucket.take(count, Instant::now());
        }
    }
}
