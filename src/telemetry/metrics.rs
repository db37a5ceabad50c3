//! Numbers of this process since its start. What the journal counts is in [`super::journal`], since
//! it outlives the process.
//!
//! A part asks once for a handle on what it counts, by name, and keeps it: counting is then one
//! atomic addition.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::{Class, Name, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use pointsman_journal::SubscriptionIdentity;

/// From a call over loopback to the default timeout and past it, in seconds.
const ATTEMPT_BUCKETS_SECONDS: [f64; 15] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// From one sync of a fast disk to a store in trouble, in seconds.
const APPEND_BUCKETS_SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Every class, in the order in which [`TargetMetrics`] keeps their histograms.
const CLASSES: [Class; 7] = [
    Class::Delivered,
    Class::Throttled,
    Class::Unavailable,
    Class::Failed,
    Class::Refused,
    Class::Gone,
    Class::Rejected,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    tenant: String,
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    tenant: String,
    rule: String,
    role: &'static str,
    target: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    tenant: String,
    target: String,
    class: &'static str,
}

/// How an attempt can leave its delivery.
const OUTCOMES: [&str; 4] = ["delivered", "retried", "dead", "released"];

impl DeliveryLabels {
    fn new(identity: &SubscriptionIdentity, outcome: &'static str) -> Self {
        Self {
            tenant: identity.tenant.to_string(),
            rule: identity.rule.to_string(),
            role: identity.role.as_str(),
            target: identity.target.to_string(),
            outcome,
        }
    }
}

type Histograms = Family<AttemptLabels, Histogram, fn() -> Histogram>;

/// What this process counts. Cloning it copies handles, not numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    received: Family<SourceLabels, Counter>,
    duplicates: Family<SourceLabels, Counter>,
    rejects: Family<SourceLabels, Counter>,
    unmatched: Counter,
    unordered: Counter,
    deliveries: Family<DeliveryLabels, Counter>,
    attempts: Histograms,
    appends: Histogram,
    known: Arc<Mutex<Known>>,
}

/// What has labels of its own.
#[derive(Debug, Default)]
struct Known {
    sources: HashSet<(Name, Name)>,
    subscriptions: HashSet<SubscriptionIdentity>,
    targets: HashSet<(Name, Name)>,
}

/// What is to keep its labels; sources and targets are each a tenant and a name.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub sources: HashSet<(Name, Name)>,
    pub subscriptions: HashSet<SubscriptionIdentity>,
    pub targets: HashSet<(Name, Name)>,
}

impl Metrics {
    /// Registers everything, so that what has not happened yet is there as a name.
    #[must_use]
    pub fn new(registry: &mut Registry, started: Timestamp) -> Self {
        let metrics = Self {
            received: Family::default(),
            duplicates: Family::default(),
            rejects: Family::default(),
            unmatched: Counter::default(),
            unordered: Counter::default(),
            deliveries: Family::default(),
            attempts: Family::new_with_constructor(|| Histogram::new(ATTEMPT_BUCKETS_SECONDS)),
            appends: Histogram::new(APPEND_BUCKETS_SECONDS),
            known: Arc::default(),
        };
        // A counter's name gets its `_total` when it is written.
        let own = &metrics;
        registry.register(
            "pointsman_events_received",
            "Events stored, by the source they came from",
            own.received.clone(),
        );
        registry.register(
            "pointsman_events_duplicate",
            "Events that had been stored before",
            own.duplicates.clone(),
        );
        registry.register(
            "pointsman_rejects",
            "Messages that no event could be made of",
            own.rejects.clone(),
        );
        registry.register(
            "pointsman_events_unmatched",
            "Events that no rule took",
            own.unmatched.clone(),
        );
        registry.register(
            "pointsman_events_unordered",
            "Deliveries whose order_by found nothing in their event",
            own.unordered.clone(),
        );
        registry.register(
            "pointsman_deliveries",
            "Attempts at deliveries, by how they left their delivery",
            own.deliveries.clone(),
        );
        registry.register(
            "pointsman_attempt_duration_seconds",
            "How long attempts took, by the class they came to",
            own.attempts.clone(),
        );
        registry.register(
            "pointsman_append_duration_seconds",
            "How long appends to the store took, sync included",
            own.appends.clone(),
        );
        registry.register(
            "pointsman_build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let start = Gauge::<i64>::default();
        start.set(started.0 / 1_000_000);
        registry.register(
            "process_start_time_seconds",
            "When the process started, since the epoch",
            start,
        );
        registry.register_collector(Box::new(Process));
        metrics
    }

    /// Forgets the numbers of what is not to be kept. What still counts for it counts unseen.
    pub fn retain(&self, kept: &Kept, also: impl Fn(&SubscriptionIdentity) -> bool) {
        let mut known = self.known.lock();
        known.sources.retain(|source| {
            let stays = kept.sources.contains(source);
            if !stays {
                let labels = SourceLabels {
                    tenant: source.0.to_string(),
                    source: source.1.to_string(),
                };
                for family in [&self.received, &self.duplicates, &self.rejects] {
                    family.remove(&labels);
                }
            }
            stays
        });
        known.subscriptions.retain(|identity| {
            let stays = kept.subscriptions.contains(identity) || also(identity);
            if !stays {
                for outcome in OUTCOMES {
                    self.deliveries
                        .remove(&DeliveryLabels::new(identity, outcome));
                }
            }
            stays
        });
        known.targets.retain(|target| {
            let stays = kept.targets.contains(target);
            if !stays {
                let labels = |class: Class| AttemptLabels {
                    tenant: target.0.to_string(),
                    target: target.1.to_string(),
                    class: class.as_str(),
                };
                for class in CLASSES {
                    self.attempts.remove(&labels(class));
                }
            }
            stays
        });
    }

    /// Counts what comes from one source.
    #[must_use]
    pub fn source(&self, tenant: &Name, source: &Name) -> SourceMetrics {
        self.known
            .lock()
            .sources
            .insert((tenant.clone(), source.clone()));
        let labels = SourceLabels {
            tenant: tenant.to_string(),
            source: source.to_string(),
        };
        SourceMetrics {
            received: self.received.get_or_create_owned(&labels),
            duplicates: self.duplicates.get_or_create_owned(&labels),
            rejects: self.rejects.get_or_create_owned(&labels),
            unmatched: self.unmatched.clone(),
            appends: self.appends.clone(),
        }
    }

    /// Counts the deliveries for which `order_by` found nothing in their event.
    #[must_use]
    pub fn unordered(&self) -> Counter {
        self.unordered.clone()
    }

    /// Counts what no event can be made of, of one source.
    #[must_use]
    pub fn rejects(&self, tenant: &Name, source: &Name) -> Counter {
        self.rejects.get_or_create_owned(&SourceLabels {
            tenant: tenant.to_string(),
            source: source.to_string(),
        })
    }

    /// Counts how attempts leave the deliveries of one subscription.
    #[must_use]
    pub fn subscription(&self, identity: &SubscriptionIdentity) -> SubscriptionMetrics {
        self.known.lock().subscriptions.insert(identity.clone());
        let counter = |outcome| {
            self.deliveries
                .get_or_create_owned(&DeliveryLabels::new(identity, outcome))
        };
        SubscriptionMetrics {
            delivered: counter("delivered"),
            retried: counter("retried"),
            dead: counter("dead"),
            released: counter("released"),
        }
    }

    /// Measures attempts at one target.
    #[must_use]
    pub fn target(&self, tenant: &Name, target: &Name) -> TargetMetrics {
        self.known
            .lock()
            .targets
            .insert((tenant.clone(), target.clone()));
        let classes = CLASSES.map(|class| (class, OnceLock::new()));
        TargetMetrics {
            tenant: tenant.clone(),
            target: target.clone(),
            family: self.attempts.clone(),
            classes: Arc::new(classes),
        }
    }
}

/// Counters of one source.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    pub received: Counter,
    /// Events that had been stored before.
    pub duplicates: Counter,
    /// Messages that no event could be made of.
    pub rejects: Counter,
    /// Events that no rule took, of all sources.
    pub unmatched: Counter,
    appends: Histogram,
}

impl SourceMetrics {
    /// An append took this long.
    pub fn appended(&self, took: Duration) {
        self.appends.observe(took.as_secs_f64());
    }
}

/// Counters of one subscription: each attempt at a delivery counts in one of them.
#[derive(Clone, Debug)]
pub struct SubscriptionMetrics {
    /// It is delivered.
    pub delivered: Counter,
    /// It will be tried again.
    pub retried: Counter,
    /// It became a dead letter.
    pub dead: Counter,
    /// It was put back as if nothing had happened.
    pub released: Counter,
}

/// Durations of attempts at one target.
#[derive(Clone, Debug)]
pub struct TargetMetrics {
    tenant: Name,
    target: Name,
    family: Histograms,
    /// Made when first needed: seven histograms for each of ten thousand targets would be a lot to
    /// scrape, and most see one class.
    classes: Arc<[(Class, OnceLock<Histogram>); 7]>,
}

impl TargetMetrics {
    /// An attempt came to this class after this long.
    pub fn attempted(&self, class: Class, took: Duration) {
        let Some((_, histogram)) = self.classes.iter().find(|(own, _)| *own == class) else {
            return;
        };
        let make = || {
            let (tenant, target) = (self.tenant.to_string(), self.target.to_string());
            self.family.get_or_create_owned(&AttemptLabels {
                tenant,
                target,
                class: class.as_str(),
            })
        };
        histogram.get_or_init(make).observe(took.as_secs_f64());
    }
}

/// What the system says about this process; nothing where it does not say so under `/proc`.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name, help, value: Option<u64>| match value {
            Some(value) => ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?),
            None => Ok(()),
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        });
        gauge(
            "process_resident_memory_bytes",
            "Memory that the process occupies",
            kibibytes.map(|kibibytes| kibibytes * 1024),
        )?;
        let descriptors = std::fs::read_dir("/proc/self/fd")
            .ok()
            .map(|descriptors| descriptors.count() as u64);
        gauge(
            "process_open_fds",
            "File descriptors that are open",
            descriptors,
        )
    }
}

#[cfg(test)]
mod tests;
