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

mod journal;
mod reader;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pointsman_schemas::{Clock, JournalId};
use tokio::sync::{Notify, RwLock, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::placement::{Placement, Placements};
use crate::{Append, JournalError, Reader, Shard, ShardNumber};

/// How long a call waits for somebody who has the shard.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

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
    placements: Arc<Placements>,
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
        (number, id): (ShardNumber, JournalId),
        clock: Arc<dyn Clock>,
        placements: Arc<Placements>,
        moves: watch::Sender<u64>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                number,
                id,
                clock,
                place: watch::Sender::new(Place::Nowhere),
                placements,
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

    /// Whether this is the shard, and it is here.
    fn is(&self, shard: &Arc<dyn Shard>) -> bool {
        self.here().is_some_and(|here| Arc::ptr_eq(&here, shard))
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
        self.call_while(|_| true, argument, work).await
    }

    /// The same for as long as it makes sense to ask again.
    async fn call_while<A: Clone, T, F>(
        &self,
        makes_sense: impl Fn(&A) -> bool,
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
            if now >= until || !self.forwards || !makes_sense(&argument) {
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

    /// What has come from another machine was divided there: it is taken in only where it would be
    /// divided in the same way here, and what is returned is held until it is. Of what is divided
    /// here that is so.
    ///
    /// # Errors
    /// [`JournalError::Away`].
    fn admit(&self, append: &Append) -> Result<Option<Arc<Placement>>, JournalError> {
        if self.forwards {
            return Ok(None);
        }
        let place = self.inner.number.get().into();
        self.inner.placements.admit(append, place).map(Some)
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
