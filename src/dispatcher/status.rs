//! What the dispatcher shows of itself: written by its task, read by anybody at any time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pointsman_schemas::{DeliveryId, Name, SubscriptionNumber, Timestamp};

use super::stop::StopRequest;

use super::lane::LaneReason;

/// The dispatcher as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Every target of the plan in force.
    pub targets: Vec<TargetStatus>,
    /// The subscriptions that the dispatcher itself has paused, by number. What somebody suspended
    /// and what is gone for good is told by the journal.
    pub paused: BTreeMap<SubscriptionNumber, Paused>,
    /// The subscriptions that have a lane of their own, by number, and why.
    pub lanes: BTreeMap<SubscriptionNumber, LaneReason>,
    /// Deliveries leased and not yet durably settled.
    pub in_flight: usize,
}

/// A target as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    pub tenant: Name,
    pub name: Name,
    /// How many attempts may be under way at once, as it is adapted now.
    pub limit: usize,
    /// This node's share of what all nodes of a cluster may have under way at once, where it is not
    /// the whole.
    pub share: Option<usize>,
    /// Attempts under way.
    pub in_flight: usize,
    /// Whether it is called.
    pub circuit: CircuitStatus,
    pub since: Timestamp,
    /// What went wrong last; kept when it works again.
    pub last_error: Option<String>,
}

/// Whether a target is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitStatus {
    Closed,
    /// It cannot be reached, and is left alone but for one attempt at a time that sees whether it
    /// is back.
    Open,
}

/// Why and since when nothing is leased of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// What the target said: one line for a person.
    pub reason: String,
    pub since: Timestamp,
}

/// What the dispatcher's task and its handles share.
#[derive(Debug, Default)]
pub(super) struct SharedStatus {
    /// Subscriptions whose targets are to be asked again at once.
    pub(super) probes: Mutex<Vec<SubscriptionNumber>>,
    /// Attempts that are to be stopped.
    pub(super) stops: Mutex<Vec<StopRequest>>,
    /// The deliveries whose attempts are being stopped.
    pub(super) stopping: Mutex<HashSet<DeliveryId>>,
    /// That there are probes or stops.
    pub(super) has_probes: tokio::sync::Notify,
    pub(super) targets: Mutex<Vec<Arc<TargetGauge>>>,
    pub(super) paused: Mutex<BTreeMap<SubscriptionNumber, Paused>>,
    pub(super) lanes: Mutex<BTreeMap<SubscriptionNumber, LaneReason>>,
    pub(super) in_flight: AtomicUsize,
}

/// The numbers of one target. An attempt costs two plain stores, and a lock only where something
/// goes wrong.
#[derive(Debug)]
pub(super) struct TargetGauge {
    tenant: Name,
    name: Name,
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    /// The greatest number where it is the whole.
    share: AtomicUsize,
    state: Mutex<(CircuitStatus, Timestamp, Option<String>)>,
}

impl TargetGauge {
    pub(super) fn new(tenant: Name, name: Name, now: Timestamp) -> Arc<Self> {
        let (limit, in_flight) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self {
            tenant,
            name,
            limit,
            in_flight,
            share: AtomicUsize::new(usize::MAX),
            state: Mutex::new((CircuitStatus::Closed, now, None)),
        })
    }

    pub(super) fn set(&self, limit: usize, in_flight: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.in_flight.store(in_flight, Ordering::Relaxed);
    }

    /// Sets this node's share of the attempts at once; none where it is the whole.
    pub(super) fn set_share(&self, share: Option<usize>) {
        self.share
            .store(share.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub(super) fn set_circuit(&self, circuit: CircuitStatus, now: Timestamp) {
        let mut state = self.state.lock();
        (state.0, state.1) = (circuit, now);
    }

    pub(super) fn set_error(&self, message: &str) {
        self.state.lock().2 = Some(message.to_owned());
    }
}

impl SharedStatus {
    pub(super) fn status(&self) -> Status {
        let gauges = self.targets.lock().clone();
        let targets = gauges.iter().map(|gauge| {
            let (circuit, since, last_error) = gauge.state.lock().clone();
            TargetStatus {
                tenant: gauge.tenant.clone(),
                name: gauge.name.clone(),
                limit: gauge.limit.load(Ordering::Relaxed),
                share: Some(gauge.share.load(Ordering::Relaxed)).filter(|it| *it < usize::MAX),
                in_flight: gauge.in_flight.load(Ordering::Relaxed),
                circuit,
                since,
                last_error,
            }
        });
        Status {
            targets: targets.collect(),
            paused: self.paused.lock().clone(),
            lanes: self.lanes.lock().clone(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }
}
