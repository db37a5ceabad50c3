//! Targets that refused what came are asked again as soon as the files change that their secrets
//! are taken from.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_connectors::Files;
use pointsman_schemas::{Name, SubscriptionNumber};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dispatcher;
use pointsman_journal::Subscription;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So often a target is asked for each change of its files, [`LOOK_EVERY`] apart: an attempt that
/// began before the change may still be under way at the first time.
const PROBES_PER_CHANGE: u8 = 3;

/// For so long a change is a reason to ask: an attempt that began before it has ended by then,
/// mostly.
const CHANGE_COUNTS_FOR: Duration = Duration::from_secs(60);

/// A target whose settings are taken from files.
pub struct Watched {
    files: Files,
    /// Its subscriptions, by their place among all of a configuration.
    places: Vec<usize>,
    subscriptions: Vec<SubscriptionNumber>,
    changed_at: Option<Instant>,
    /// How often each may still be asked because of the last change.
    probes: HashMap<SubscriptionNumber, u8>,
}

impl Watched {
    /// The targets of a configuration that are to be watched.
    pub fn of(config: &Config, subscriptions: &[Subscription]) -> Vec<Self> {
        let mut watched: HashMap<(&Name, &Name), Self> = HashMap::new();
        for target in &config.targets {
            let files = target.settings.files();
            if !files.is_empty() {
                let (places, subscriptions, probes) = (Vec::new(), Vec::new(), HashMap::new());
                watched.insert(
                    (&target.tenant, &target.name),
                    Self {
                        files,
                        places,
                        subscriptions,
                        changed_at: None,
                        probes,
                    },
                );
            }
        }
        if watched.is_empty() {
            return Vec::new();
        }
        for (place, Subscription { identity, .. }) in subscriptions.iter().enumerate() {
            if let Some(one) = watched.get_mut(&(&identity.tenant, &identity.target)) {
                one.places.push(place);
            }
        }
        watched.into_values().collect()
    }
}

/// What is watched for the plan in force.
#[derive(Default)]
pub struct Renewals(Mutex<Arc<Mutex<Vec<Watched>>>>);

impl fmt::Debug for Renewals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewals").finish_non_exhaustive()
    }
}

impl Renewals {
    /// Watches these targets from now on. A reload has their subscriptions asked anyway.
    pub fn watch(&self, mut watched: Vec<Watched>, numbers: &[SubscriptionNumber]) {
        for one in &mut watched {
            one.subscriptions = one
                .places
                .drain(..)
                .filter_map(|place| numbers.get(place).copied())
                .collect();
        }
        *self.0.lock() = Arc::new(Mutex::new(watched));
    }

    /// Looks at the files until told to stop.
    pub async fn run(self: Arc<Self>, handle: dispatcher::Handle, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let watched = Arc::clone(&self.0.lock());
            // Somebody still looks where it is locked.
            if watched.try_lock().is_none_or(|watched| watched.is_empty()) {
                continue;
            }
            // On a thread of its own: a file system that does not answer must not keep the bus from
            // stopping.
            let looking = tokio::task::spawn_blocking({
                let watched = Arc::clone(&watched);
                move || look(&mut watched.lock())
            });
            let may_be_asked = tokio::select! {
                () = stop.cancelled() => return,
                looked = looking => looked.unwrap_or(false),
            };
            if may_be_asked {
                ask(&mut watched.lock(), &handle);
            }
        }
    }
}

/// Looks at all files, and tells whether any target may be asked because of them.
fn look(watched: &mut [Watched]) -> bool {
    for one in watched.iter_mut() {
        if one.files.have_changed(true) {
            one.changed_at = Some(Instant::now());
            one.probes = one
                .subscriptions
                .iter()
                .map(|number| (*number, PROBES_PER_CHANGE))
                .collect();
        } else if one
            .changed_at
            .is_some_and(|at| at.elapsed() >= CHANGE_COUNTS_FOR)
        {
            one.changed_at = None;
            one.probes.clear();
        }
    }
    watched.iter().any(|one| !one.probes.is_empty())
}

/// Asks the targets whose files have changed and that refuse a subscription.
fn ask(watched: &mut [Watched], handle: &dispatcher::Handle) {
    let paused = handle.status().paused;
    for one in watched {
        one.probes.retain(|number, left| {
            if paused.contains_key(number) {
                tracing::info!(
                    subscription = number.0,
                    "the files of a target's settings have changed: it is asked whether it still \
                     refuses"
                );
                handle.probe(*number);
                *left -= 1;
            }
            *left > 0
        });
    }
}
