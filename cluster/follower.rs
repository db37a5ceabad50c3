//! A store that follows the log.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use pointsman_journal::disk::{ApplyError, Commit};
use pointsman_log::{FollowError, Log, Next, Place, Shard};
use tokio::time::{Instant, timeout};

use crate::fold::{Fold, Verdict};
use crate::{StandByError, Store};

/// Records that are applied in one transaction, and their bytes, about.
const RECORDS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 4 << 20;

/// How long the next record may take that is known to be there and to be applied in the same
/// transaction: engines hand records over in parts, between which there is a round trip.
const PART_WITHIN: Duration = Duration::from_millis(10);

/// What a follower has read.
pub(crate) type Read = Option<Result<Next, FollowError>>;

/// A store with how far it has come.
pub(crate) struct Following<S> {
    /// None while it works on a thread of its own, and where that was cut short.
    store: Option<S>,
    pub(crate) fold: Fold,
    /// None while it rests.
    follower: Option<pointsman_log::Follower>,
    /// When a record was read last.
    pub(crate) read: Instant,
    /// There is more to be taken than went into one transaction.
    pub(crate) has_more: bool,
    /// It has come to the end of the log since it began, or went on.
    has_caught_up: bool,
    /// It holds a journal of its own, which the log is still to get.
    pub(crate) is_embedded: bool,
}

impl<S: Store> Following<S> {
    pub(crate) fn begin(log: &dyn Log, shard: Shard, store: S) -> Self {
        let fold = store
            .mark()
            .as_deref()
            .and_then(Fold::resume)
            .unwrap_or_default();
        Self {
            follower: Some(log.follow(shard, fold.place())),
            fold,
            read: Instant::now(),
            has_more: false,
            has_caught_up: false,
            is_embedded: store.is_embedded(),
            store: Some(store),
        }
    }

    /// Gives the store back.
    pub(crate) fn into_store(self) -> Option<(S, Fold)> {
        Some((self.store?, self.fold))
    }

    /// Stays where it is until it is to go on.
    pub(crate) fn rest(&mut self) {
        self.follower = None;
    }

    pub(crate) fn rests(&self) -> bool {
        self.follower.is_none()
    }

    /// Goes on after a rest.
    pub(crate) fn go_on(&mut self, log: &dyn Log, shard: Shard) {
        self.follower = Some(log.follow(shard, self.fold.place()));
        (self.read, self.has_caught_up) = (Instant::now(), false);
    }

    /// Whether it has everything that there was when it looked last, where a log that has been
    /// silent for so long has come to its end.
    pub(crate) fn has_caught_up(&mut self, silence: Duration) -> bool {
        self.has_caught_up |= !self.rests() && self.read.elapsed() >= silence;
        self.has_caught_up
    }

    /// Waits for what comes next; for ever while it rests. Cancel-safe; what it returns is for
    /// [`Following::take`].
    pub(crate) async fn next(&mut self) -> Read {
        match &mut self.follower {
            Some(follower) => follower.next().await,
            None => pending().await,
        }
    }

    /// Applies what has come, with whatever is there behind it; `known` is a place up to which there
    /// are records, as far as others have said.
    ///
    /// Where it is dropped the store is lost to it.
    ///
    /// # Errors
    /// [`StandByError`].
    pub(crate) async fn take(
        &mut self,
        log: &dyn Log,
        shard: Shard,
        first: Read,
        known: Place,
    ) -> Result<(), StandByError> {
        let (mut commits, mut bytes, mut records) = (Vec::new(), 0, 0);
        let mut next = Some(first);
        while let Some(read) = next {
            match read.transpose()? {
                None => return Err(FollowError::Ended(shard).into()),
                Some(Next::Record { place, body }) => {
                    (bytes, records) = (bytes + body.len(), records + 1);
                    self.judge(place, &body, &mut commits)?;
                }
                Some(Next::Trimmed { first }) => {
                    commits.clear();
                    self.begin_at(log, shard, first).await?;
                }
            }
            let is_full = records >= RECORDS_AT_ONCE || bytes >= BYTES_AT_ONCE;
            let is_behind = self.fold.place() < known;
            self.has_more = is_full || is_behind;
            next = match (is_full, is_behind) {
                (true, _) => None,
                (_, true) => timeout(PART_WITHIN, self.next()).await.ok(),
                (_, false) => self.next().now_or_never(),
            };
        }
        (self.read, self.has_caught_up) = (Instant::now(), self.has_caught_up || !self.has_more);
        if commits.is_empty() {
            return Ok(());
        }
        let mark = self.fold.mark();
        self.work(move |store| store.apply(&commits, &mark)).await
    }

    fn judge(
        &mut self,
        place: Place,
        body: &Bytes,
        commits: &mut Vec<Commit>,
    ) -> Result<(), StandByError> {
        if let Verdict::Commit(commit) = self.fold.judge(place, body)? {
            if self.is_embedded {
                return Err(StandByError::TwoJournals);
            }
            commits.push(commit);
        }
        Ok(())
    }

    /// The records before a place are gone, and the store has not had them: it begins anew there.
    async fn begin_at(
        &mut self,
        log: &dyn Log,
        shard: Shard,
        first: Place,
    ) -> Result<(), StandByError> {
        if self.is_embedded {
            return Err(StandByError::TwoJournals);
        }
        tracing::info!(%first, "the store is filled anew from the log");
        self.fold = Fold::blank_before(first);
        self.go_on(log, shard);
        self.empty().await
    }

    /// Fills the store anew, from the beginning of the log.
    pub(crate) async fn begin_anew(
        &mut self,
        log: &dyn Log,
        shard: Shard,
    ) -> Result<(), StandByError> {
        self.fold = Fold::default();
        self.go_on(log, shard);
        self.empty().await
    }

    /// Removes what the store has.
    pub(crate) async fn empty(&mut self) -> Result<(), StandByError> {
        self.work(|store| store.wipe().map_err(ApplyError::from))
            .await
    }

    async fn work(
        &mut self,
        work: impl FnOnce(&mut S) -> Result<(), ApplyError> + Send + 'static,
    ) -> Result<(), StandByError> {
        let mut store = self.store.take().ok_or(StandByError::Interrupted)?;
        let work = move || {
            let done = work(&mut store);
            (store, done)
        };
        // A simulation is one thread, so that it can be repeated.
        let worked = match cfg!(test) {
            true => Ok(work()),
            false => tokio::task::spawn_blocking(work).await,
        };
        let (store, done) = worked.map_err(|_| StandByError::Interrupted)?;
        self.store = Some(store);
        Ok(done?)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use pointsman_journal::disk::OpenError;
    use pointsman_log::Cluster;
    use pointsman_log::simulated::{Engine, Faults};
    use pointsman_schemas::Name;
    use tokio::time::{Duration, sleep};

    use super::*;
    use crate::record::{Owner, What};

    struct Empty;

    impl Store for Empty {
        fn mark(&self) -> Option<Bytes> {
            None
        }

        fn is_embedded(&self) -> bool {
            false
        }

        fn apply(&mut self, _: &[Commit], _: &[u8]) -> Result<(), ApplyError> {
            Ok(())
        }

        fn wipe(&mut self) -> Result<(), OpenError> {
            Ok(())
        }
    }

    /// Claims, so many at once and a round trip between two such parts.
    fn in_parts(count: u64, part: u64) -> pointsman_log::Follower {
        let record = move |number: u64| async move {
            if number > 1 && number % part == 1 {
                sleep(Duration::from_millis(2)).await;
            }
            let owner = Owner {
                node: Name::new("b").ok()?,
                incarnation: number,
                takeover_ms: 1_000,
                imports: false,
            };
            Some(Ok(Next::Record {
                place: Place(number),
                body: What::Claim(owner).encode(number),
            }))
        };
        stream::iter(1..=count)
            .then(record)
            .map(Option::unwrap)
            .chain(stream::pending())
            .boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_to_be_there_is_taken_before_the_end_is_thought_to_be_reached() {
        let way = Engine::new(1, Faults::none()).node();
        let cluster = Cluster::new(Name::new("c").unwrap(), 1).unwrap();
        let log = way.open(cluster).await.unwrap();
        // Up to where there is something; how much is taken; and whether more is to be taken, and
        // everything has been.
        for (known, taken, has_more, has_caught_up) in [
            (0, 16, false, true),
            (100, 112, false, true),
            (70, 80, false, true),
            (1_000, 256, true, false),
        ] {
            let mut following = Following::begin(&log, Shard(0), Empty);
            following.follower = Some(in_parts(300, 16));
            let first = following.next().await;
            let known = Place(known);
            following.take(&log, Shard(0), first, known).await.unwrap();
            let found = (
                following.fold.place().0,
                following.has_more,
                following.has_caught_up,
            );
            assert_eq!(found, (taken, has_more, has_caught_up), "{known}");
        }
        // What an engine has lost never comes.
        let mut following = Following::begin(&log, Shard(0), Empty);
        following.follower = Some(in_parts(20, 16));
        let first = following.next().await;
        following
            .take(&log, Shard(0), first, Place(30))
            .await
            .unwrap();
        assert_eq!((following.fold.place().0, following.has_more), (20, true));
        assert!(!following.has_caught_up(Duration::from_millis(100)));
        sleep(Duration::from_millis(100)).await;
        assert!(
            following.has_caught_up(Duration::from_millis(100)),
            "nothing comes any more"
        );
    }
}
