//! Deliveries on their way out of the journal: one lease call at a time, and a pause after one that
//! failed.

use std::future::pending;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::owners::Owners;
use super::scheduler::LeaseGrant;
use super::settling::JOURNAL_AGAIN;
use pointsman_journal::{Batching, Grant, JournalError, Leases};

/// The lease call under way, if any.
#[derive(Default)]
pub(super) struct Leasing {
    call: Option<BoxFuture<'static, Result<Leases, JournalError>>>,
    /// The grants that it was made for.
    granted: Vec<LeaseGrant>,
    again_at: Option<Instant>,
    pause: Option<Duration>,
}

/// The answer to a lease call.
#[derive(Debug)]
pub(super) struct LeaseReply {
    pub(super) granted: Vec<LeaseGrant>,
    /// None where the call failed: then nobody knows what there is to lease.
    pub(super) leases: Option<Leases>,
}

impl Leasing {
    pub(super) fn is_calling(&self) -> bool {
        self.call.is_some()
    }

    /// Whether a call may be made: none is under way, and none has just failed.
    pub(super) fn may_start(&mut self, now: Instant) -> bool {
        self.again_at = self.again_at.filter(|at| *at > now);
        self.call.is_none() && self.again_at.is_none()
    }

    /// When a call may be made after one that failed.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    pub(super) fn start(&mut self, owners: &Owners, granted: Vec<LeaseGrant>, bytes_max: usize) {
        let grant = |one: &LeaseGrant| {
            let LeaseGrant {
                turn,
                deliveries_max,
                lease,
                bytes_max,
                batch,
                ..
            } = *one;
            Grant {
                subscription: turn.subscription,
                count: deliveries_max,
                lease,
                bytes_max,
                batching: batch.map(|batch| Batching {
                    calls: turn.count,
                    events: batch.events,
                    bytes: batch.bytes,
                    window: batch.window,
                }),
            }
        };
        let grants: Vec<Grant> = granted.iter().map(grant).collect();
        let owners = owners.clone();
        self.call = Some(Box::pin(
            async move { owners.lease(&grants, bytes_max).await },
        ));
        self.granted = granted;
    }

    /// Waits for the call under way, for ever where there is none. Safe to cancel.
    pub(super) async fn next(&mut self) -> LeaseReply {
        let Some(call) = &mut self.call else {
            return pending().await;
        };
        let answer = call.await;
        self.call = None;
        match &answer {
            Ok(_) => self.pause = None,
            Err(error) => {
                let pause = JOURNAL_AGAIN.next(self.pause);
                tracing::warn!(%error, again_in = ?pause, "cannot lease deliveries");
                (self.pause, self.again_at) = (Some(pause), Some(Instant::now() + pause));
            }
        }
        LeaseReply {
            granted: std::mem::take(&mut self.granted),
            leases: answer.ok(),
        }
    }
}
