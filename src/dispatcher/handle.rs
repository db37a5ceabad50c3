//! What others see of a dispatcher: how it is bounded, told, asked and summed up.

use std::collections::HashSet;
use std::sync::Arc;

use pointsman_schemas::{DeliveryId, SubscriptionNumber};
use tokio::sync::{mpsc, oneshot};

use super::plan::Plan;
use super::scheduler::Replaced;
use super::share::{LimitDemand, LimitShare};
use super::status::{SharedStatus, Status};
use super::stop::{StopReport, StopRequest};

/// The bounds of a dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Deliveries leased and not yet durably settled, at most.
    pub in_flight_max: usize,
    /// Bytes of the events under way, about; one event may exceed it.
    pub in_flight_bytes_max: usize,
    /// Seeds the jitter.
    pub seed: u64,
}

impl Default for Options {
    /// Enough to keep many targets busy over a sync of the disk, and little beside the memory that
    /// a backlog may take.
    fn default() -> Self {
        Self {
            in_flight_max: 4_096,
            in_flight_bytes_max: 64 * 1024 * 1024,
            seed: rand::random(),
        }
    }
}

/// Controls a running dispatcher. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) shared: Arc<SharedStatus>,
}

/// What a running dispatcher is told.
#[derive(Debug)]
pub(super) enum Command {
    /// A plan is to be put in force.
    Plan(Plan, oneshot::Sender<Replaced>),
    /// Shares are to be put in force.
    Shares(Vec<LimitShare>, oneshot::Sender<Vec<LimitDemand>>),
}

impl Handle {
    /// Puts a plan in force, and returns once it is. Attempts under way finish as they began;
    /// targets whose fingerprint is the same keep what was learned about them; subscriptions that
    /// their targets refused are tried again.
    ///
    /// The plan's subscriptions must have been attached in the journal before.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn reload(&self, plan: Plan) -> Result<(), Stopped> {
        let (done, is_done) = oneshot::channel();
        self.commands
            .send(Command::Plan(plan, done))
            .await
            .map_err(|_| Stopped)?;
        // Taken apart here, and not by the dispatcher.
        drop(is_done.await.map_err(|_| Stopped)?);
        Ok(())
    }

    /// Puts shares in force, and returns what this node could use of each target and quota that it
    /// could use, by then. What has no share among them keeps the one that it has.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn share(&self, shares: Vec<LimitShare>) -> Result<Vec<LimitDemand>, Stopped> {
        let (done, demands) = oneshot::channel();
        self.commands
            .send(Command::Shares(shares, done))
            .await
            .map_err(|_| Stopped)?;
        demands.await.map_err(|_| Stopped)
    }

    /// Asks the target of a subscription that it refused again at once, with the next delivery.
    pub fn probe(&self, subscription: SubscriptionNumber) {
        self.shared.probes.lock().push(subscription);
        self.shared.has_probes.notify_one();
    }

    /// Stops the attempts at these deliveries that are under way. Each one's end is told, and that
    /// it was found; then the channel ends.
    #[must_use]
    pub fn stop(&self, ids: Vec<DeliveryId>) -> mpsc::UnboundedReceiver<StopReport> {
        let (told, reports) = mpsc::unbounded_channel();
        self.shared.stops.lock().push(StopRequest { ids, told });
        self.shared.has_probes.notify_one();
        reports
    }

    /// The deliveries whose attempts are being stopped.
    #[must_use]
    pub fn stopping(&self) -> HashSet<DeliveryId> {
        self.shared.stopping.lock().clone()
    }

    /// How the dispatcher stands; answers from memory.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

/// The dispatcher has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the dispatcher has stopped; a new plan can only be put in force by a restart")]
pub struct Stopped;

/// What a dispatcher has done when it stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Settlements since it began.
    pub settled: u64,
    /// Attempts that were given up at the end of the grace, and their deliveries put back.
    pub abandoned: usize,
    /// Deliveries that the journal would not settle any more: their leases end with it, and they
    /// are delivered again.
    pub unsettled: usize,
}
