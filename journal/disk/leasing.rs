//! What is due, and leases of it, from the queues in memory.

use pointsman_schemas::SubscriptionNumber;
use tokio::sync::oneshot;

use super::DiskJournal;
use super::loader::LeaseCall;
use super::queues::{Found, Leasing, Moment, Need};
use crate::{Grant, JournalError, Leases};

impl DiskJournal {
    /// Leases what memory holds; the loader reads what it lacks.
    pub(super) async fn lease_from_memory(
        &self,
        grants: &[Grant],
        bytes_max: usize,
    ) -> Result<Leases, JournalError> {
        self.check_open()?;
        let now = Moment::now(&*self.shared.clock);
        let mut leasing = Leasing::new(grants.to_vec(), bytes_max, now);
        let (need, low, should_wake) = {
            let mut queues = self.shared.queues.lock();
            (
                leasing.run(&mut queues, &Found::default()),
                queues.has_low(),
                queues.should_wake(),
            )
        };
        if should_wake {
            self.shared.wake.notify_one();
        }
        if matches!(need, Need::Nothing) && leasing.damaged.is_empty() {
            if low {
                self.shared.loader.wake();
            }
            return Ok(leasing.leases);
        }
        let (reply, answer) = oneshot::channel();
        self.shared.loader.call(LeaseCall { leasing, reply });
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Waits until subscriptions have something due.
    pub(super) async fn next_due(&self) -> Vec<SubscriptionNumber> {
        loop {
            let quiet_for = {
                let now = Moment::now(&*self.shared.clock);
                let mut queues = self.shared.queues.lock();
                queues.advance(now);
                if let Some(ready) = queues.take_ready() {
                    return ready;
                }
                queues.sleep(now)
            };
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(quiet_for) => {}
            }
        }
    }
}
