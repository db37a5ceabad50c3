//! Replays of a journal of which other machines have a part: each machine drives what of them goes
//! through the shards that it has.
//!
//! The journal of a shard says itself which replays go through it and how far they have come. So
//! whoever has the shard next goes on there, and nobody tells anybody: it is looked at when a shard
//! comes, when a replay is begun here, and every two seconds, for those that were begun elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pointsman_journal::sharded::Slot;
use pointsman_journal::{Journal, ShardNumber};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::Replays;

/// How soon a replay is noticed that another machine has begun.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The shards of a journal that may be on this machine.
#[derive(Debug)]
pub struct LocalShards {
    slots: Vec<Slot>,
    /// Changes when one has come or has left.
    moves: watch::Receiver<u64>,
    look: Notify,
    is_watched: AtomicBool,
}

impl LocalShards {
    /// Those of the slots of a journal, and what changes whenever one of them does.
    #[must_use]
    pub fn new(slots: Vec<Slot>, moves: watch::Receiver<u64>) -> Self {
        Self {
            slots,
            moves,
            look: Notify::new(),
            is_watched: AtomicBool::new(false),
        }
    }

    /// How many there are on all machines.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// The rules are in force: looks at what there is. True of the first time.
    pub(super) fn begin(&self) -> bool {
        self.look_now();
        !self.is_watched.swap(true, Ordering::Relaxed)
    }

    pub(super) fn look_now(&self) {
        self.look.notify_one();
    }

    /// The journals that are here.
    fn here(&self) -> impl Iterator<Item = (ShardNumber, Arc<dyn Journal>)> + '_ {
        self.slots.iter().filter_map(|slot| {
            let here: Arc<dyn Journal> = slot.here()?;
            Some((slot.shard(), here))
        })
    }
}

/// Drives what goes through the shards that are here, until replays are closed.
pub(super) async fn watch(replays: Arc<Replays>) {
    let Some(shards) = &replays.shards else {
        return;
    };
    let mut moves = shards.moves.clone();
    loop {
        moves.mark_unchanged();
        replays.end_what_left(shards);
        let look = async {
            replays.look(shards).await;
            tokio::select! {
                () = shards.look.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        };
        tokio::select! {
            biased;
            () = replays.stop.cancelled() => return,
            Ok(()) = moves.changed() => {}
            () = look => {}
        }
    }
}

impl Replays {
    async fn look(self: &Arc<Self>, shards: &LocalShards) {
        for (shard, journal) in shards.here() {
            if let Err(error) = self.look_at(Some(shard), &journal).await {
                let shard = shard.get();
                tracing::debug!(shard, %error, "cannot look for replays; it is tried again");
            }
        }
    }

    /// Ends what is driven in journals that are here no more.
    fn end_what_left(&self, shards: &LocalShards) {
        let here: Vec<_> = shards.here().collect();
        for ((_, shard), driven) in &*self.running.lock() {
            let is_here = here.iter().any(|(number, journal)| {
                Some(*number) == *shard
                    && std::ptr::addr_eq(Arc::as_ptr(journal), Arc::as_ptr(&driven.journal))
            });
            if !is_here {
                driven.stop.cancel();
            }
        }
    }
}
