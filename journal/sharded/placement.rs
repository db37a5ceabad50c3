//! By what appends are divided: how many shards each tenant has now, and of which tenants nothing is
//! taken in because that is about to change.
//!
//! An append holds what it was divided by until it has ended. So whoever changes it can wait until
//! nothing comes any more that was divided otherwise ([`Placements::earlier_ended`]).

use std::collections::{BTreeSet, HashMap};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pointsman_schemas::Name;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::route;
use super::slot::PATIENCE;
use super::tenants::{Places, TenantShards};
use crate::{Append, JournalError};

/// By what appends are divided, as it stands.
#[derive(Debug)]
pub(super) struct Placement {
    all: Places,
    /// Of tenants that have not all.
    few: HashMap<Name, Places>,
    stopped: BTreeSet<Name>,
    /// Goes with the last append that holds this.
    _held: oneshot::Sender<()>,
}

impl Placement {
    fn new(
        shards: &TenantShards,
        stopped: BTreeSet<Name>,
        count: usize,
    ) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (held, ended) = oneshot::channel();
        let places = shards.0.keys();
        let places = places.map(|tenant| (tenant.clone(), shards.places(tenant, count)));
        let placement = Self {
            all: Places::All(count),
            few: places
                .filter(|(_, places)| matches!(places, Places::Few(_)))
                .collect(),
            stopped,
            _held: held,
        };
        (Arc::new(placement), ended)
    }

    pub(super) fn places(&self, tenant: &Name) -> &Places {
        self.few.get(tenant).unwrap_or(&self.all)
    }

    /// Whether nothing is taken in of what an append has.
    fn stops(&self, append: &Append) -> bool {
        !self.stopped.is_empty()
            && !append.entries.is_empty()
            && self.stopped.contains(&append.tenant)
    }

    /// Whether what another machine has divided belongs in the shard at this place, which is one of
    /// so many. What is there because its source is at home there has no order to keep: a source
    /// whose events have one runs on the shard's machine alone.
    fn admits(&self, append: &Append, (place, of): (usize, usize)) -> bool {
        if append.entries.is_empty() {
            return true;
        }
        let places = self.places(&append.tenant);
        let is_home = || route::home(&append.tenant, &append.origin) % of == place;
        let deliveries = append.entries.iter().flat_map(|entry| &entry.deliveries);
        let mut keys = deliveries.filter_map(|delivery| delivery.order_key);
        !self.stops(append)
            && (places.contains(place) || is_home())
            && keys.all(|key| places.at(route::of_key(&append.tenant, key)) == place)
    }
}

/// The one by which appends are divided now, and the earlier ones that some still hold.
#[derive(Debug)]
pub(super) struct Placements {
    count: usize,
    now: ArcSwap<Placement>,
    /// Each ends with the last append that holds it, that of now being the last one.
    held: Mutex<Vec<oneshot::Receiver<()>>>,
    changes: watch::Sender<()>,
}

impl Placements {
    /// Every tenant has all of so many shards.
    pub(super) fn new(count: usize) -> Self {
        let (now, ended) = Placement::new(&TenantShards::default(), BTreeSet::new(), count);
        Self {
            count,
            now: now.into(),
            held: Mutex::new(vec![ended]),
            changes: watch::Sender::default(),
        }
    }

    pub(super) fn now(&self) -> Arc<Placement> {
        self.now.load_full()
    }

    /// Whether nothing is taken in now of what an append has.
    pub(super) fn stops(&self, append: &Append) -> bool {
        self.now.load().stops(append)
    }

    /// Divides what comes from now on by this, and takes in nothing of what is stopped.
    pub(super) fn set(&self, shards: &TenantShards, stopped: BTreeSet<Name>) {
        let (next, ended) = Placement::new(shards, stopped, self.count);
        let mut held = self.held.lock();
        held.retain_mut(|one| one.try_recv() == Err(TryRecvError::Empty));
        held.push(ended);
        self.now.store(next);
        drop(held);
        self.changes.send_replace(());
    }

    /// Waits until all appends have ended that hold another one than that of now.
    pub(super) async fn earlier_ended(&self) {
        poll_fn(|context| {
            let mut held = self.held.lock();
            let now = held.pop();
            held.retain_mut(|one| Pin::new(one).poll(context).is_pending());
            let is_over = held.is_empty();
            held.extend(now);
            match is_over {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// The one that an append is divided by. While its tenant is stopped it waits a while, unless it
    /// has to be now.
    ///
    /// # Errors
    /// [`JournalError::Away`].
    pub(super) async fn of(
        &self,
        append: &Append,
        has_to_be_now: bool,
    ) -> Result<Arc<Placement>, JournalError> {
        let now = self.now();
        if !now.stops(append) {
            return Ok(now);
        }
        drop(now);
        let until = Instant::now() + PATIENCE;
        let mut changes = self.changes.subscribe();
        loop {
            let now = self.now();
            if !now.stops(append) {
                return Ok(now);
            }
            drop(now);
            if has_to_be_now || timeout_at(until, changes.changed()).await.is_err() {
                return Err(moves(&append.tenant));
            }
        }
    }

    /// The one that admits what another machine has divided to the shard at this place.
    ///
    /// # Errors
    /// [`JournalError::Away`] where it was divided otherwise, or its tenant is stopped.
    pub(super) fn admit(
        &self,
        append: &Append,
        place: usize,
    ) -> Result<Arc<Placement>, JournalError> {
        let now = self.now();
        let is_admitted = now.admits(append, (place, self.count));
        is_admitted
            .then_some(now)
            .ok_or_else(|| moves(&append.tenant))
    }
}

fn moves(tenant: &Name) -> JournalError {
    JournalError::Away(format!(
        "the tenant {tenant} is about to have another number of shards"
    ))
}
