//! Sources that one of several nodes runs: the one where they are at home.
//!
//! A source that keeps how far it has read is at home where the shard is that this is kept in, and
//! so is one whose messages are to stay in order. When its home comes to this node it is opened, and
//! when that leaves it is stopped. Both happen one after the other here, so that it never runs
//! twice, however often its home comes and goes.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pointsman_connectors::Link;
use pointsman_journal::sharded::Sharded;
use pointsman_schemas::Name;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::keeper::{Ends, Surroundings};
use crate::config;

/// How long attempts under way of a pipe are waited for whose source has changed, or has its home
/// elsewhere; their deliveries come again after it.
pub(super) const RELOAD_GRACE: Duration = Duration::from_secs(5);

/// How long a source that has its home elsewhere may take after that to put back what it still
/// waited for.
const DROPPED_AFTER: Duration = Duration::from_secs(1);

/// Where sources are at home.
pub trait Homes: fmt::Debug + Send + Sync {
    /// Whether a source is at home on this node.
    fn is_home(&self, tenant: &Name, source: &Name) -> bool;

    /// Changes whenever that may have changed for some source.
    fn moves(&self) -> watch::Receiver<u64>;
}

impl Homes for Sharded {
    fn is_home(&self, tenant: &Name, source: &Name) -> bool {
        self.is_home_here(tenant, source)
    }

    fn moves(&self) -> watch::Receiver<u64> {
        Self::moves(self)
    }
}

/// A source that runs while it is at home here.
pub(super) struct Resident {
    pub(super) surroundings: Arc<Surroundings>,
    pub(super) source: Arc<config::Source>,
    pub(super) homes: Arc<dyn Homes>,
    pub(super) link: Link,
    pub(super) ends: Ends,
}

impl Resident {
    /// Runs it whenever it is at home here, until it is stopped.
    pub(super) async fn run(self) {
        let mut moves = self.homes.moves();
        loop {
            tokio::select! {
                biased;
                () = self.ends.stop.cancelled() => return,
                () = self.until(true, &mut moves) => {}
            }
            self.stay(&mut moves).await;
        }
    }

    /// Waits until it is at home here, or is not. What is shown of it changes with that.
    async fn until(&self, at_home: bool, moves: &mut watch::Receiver<u64>) {
        let (tenant, name) = (&self.source.tenant, &self.source.name);
        loop {
            moves.mark_unchanged();
            if self.homes.is_home(tenant, name) == at_home {
                return;
            }
            if at_home {
                self.link.away();
            }
            if moves.changed().await.is_err() {
                // Nothing moves any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Runs it until it is stopped, or not at home here any more.
    async fn stay(&self, moves: &mut watch::Receiver<u64>) {
        let ends = Ends {
            stop: self.ends.stop.child_token(),
            abandon: self.ends.abandon.child_token(),
            left: CancellationToken::new(),
        };
        self.link.opening();
        let (source, link) = (&self.source, self.link.clone());
        let keeper = self.surroundings.keeper(source, link, ends.clone());
        let mut kept = pin!(async {
            keeper.run().await;
            // One that has ended by itself is not opened again while it is at home here.
            ends.stop.cancelled().await;
        });
        tokio::select! {
            () = &mut kept => return,
            () = self.until(false, moves) => {}
        }
        ends.left.cancel();
        ends.stop.cancel();
        if timeout(RELOAD_GRACE, &mut kept).await.is_err() {
            ends.abandon.cancel();
            // What it waits for longer than that is for the shard that is elsewhere now.
            let _given_up = timeout(DROPPED_AFTER, kept).await;
        }
    }
}
