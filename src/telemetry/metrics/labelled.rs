//! What is counted for each source, subscription and target: one by one while there are few, summed
//! where there are many.
//!
//! What a scraper has to read, keep and pay for grows with the number of rules. So past
//! [`EACH_MAX`] of a kind its numbers are summed under the same name, without the labels that tell
//! one from another, unless the rule file asks for [each](Detail::Each).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::HashSet;
use parking_lot::Mutex;
use pointsman_journal::SubscriptionIdentity;
use pointsman_schemas::{Class, Name};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use schemars::JsonSchema;
use serde::Deserialize;

/// So many of a kind have numbers of their own. A subscription takes about 2 KB of a scrape, a
/// target as much for each class that its attempts came to: these many stay below 2 MB.
pub const EACH_MAX: usize = 500;

/// Whether sources, subscriptions and targets have numbers of their own in the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "MetricsDetail")]
pub enum Detail {
    /// Where there are no more than 500 of a kind; else their sums.
    #[default]
    Auto,
    /// However many there are.
    Each,
    /// Never.
    Summed,
}

impl Detail {
    /// Whether each of so many of a kind has numbers of its own.
    #[must_use]
    pub fn is_each(self, count: usize) -> bool {
        match self {
            Self::Auto => count <= EACH_MAX,
            Self::Each => true,
            Self::Summed => false,
        }
    }
}

/// From a call over loopback to the default timeout and past it, in microseconds.
const ATTEMPT_BUCKETS_MICROS: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Every class, in the order in which [`TargetMetrics`] keeps their durations.
pub(super) const CLASSES: [Class; 7] = [
    Class::Delivered,
    Class::Throttled,
    Class::Unavailable,
    Class::Failed,
    Class::Refused,
    Class::Gone,
    Class::Rejected,
];

/// Counters of one source.
#[derive(Clone, Debug, Default)]
pub struct SourceCounters {
    pub received: Counter,
    /// Events that had been stored before.
    pub duplicates: Counter,
    /// Messages that no event could be made of.
    pub rejects: Counter,
}

/// Counters of one type's schema: each event for whose data it did not hold counts in one of them.
#[derive(Clone, Debug, Default)]
pub struct SchemaCounters {
    /// It was refused.
    pub refused: Counter,
    /// It was taken in with a mark.
    pub marked: Counter,
    /// It was taken in as a dead letter.
    pub dead: Counter,
}

impl SchemaCounters {
    fn outcomes(&self) -> [(&'static str, &Counter); 3] {
        [
            ("refused", &self.refused),
            ("marked", &self.marked),
            ("dead", &self.dead),
        ]
    }
}

/// Counters of one subscription: each attempt at a delivery counts in one of them.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionMetrics {
    /// It is delivered.
    pub delivered: Counter,
    /// It will be tried again.
    pub retried: Counter,
    /// It became a dead letter.
    pub dead: Counter,
    /// It was stopped.
    pub stopped: Counter,
    /// It was put back as if nothing had happened.
    pub released: Counter,
}

impl SubscriptionMetrics {
    fn outcomes(&self) -> [(&'static str, &Counter); 5] {
        [
            ("delivered", &self.delivered),
            ("retried", &self.retried),
            ("dead", &self.dead),
            ("stopped", &self.stopped),
            ("released", &self.released),
        ]
    }
}

/// Durations of attempts at one target, by class. Each is made when it is first needed: seven for
/// each of ten thousand targets would be a lot to keep and to tell, and most see one class.
#[derive(Clone, Debug, Default)]
pub struct TargetMetrics(Arc<[OnceLock<Box<Durations>>; 7]>);

impl TargetMetrics {
    /// An attempt came to this class after this long.
    pub fn attempted(&self, class: Class, took: Duration) {
        let mut classes = CLASSES.iter().zip(&*self.0);
        if let Some((_, durations)) = classes.find(|(own, _)| **own == class) {
            durations.get_or_init(Box::default).observe(took);
        }
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
struct Durations {
    /// How many lasted up to each of [`ATTEMPT_BUCKETS_MICROS`] and longer than the one before; the
    /// last number is of those that lasted longer than all.
    buckets: [AtomicU64; 16],
    nanoseconds: AtomicU64,
}

impl Durations {
    fn observe(&self, took: Duration) {
        let is_past = |micros: &u64| Duration::from_micros(*micros) < took;
        let place = ATTEMPT_BUCKETS_MICROS.partition_point(is_past);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn add(&self, other: &Self) {
        let numbers = |one: &Self| {
            one.buckets
                .each_ref()
                .map(|own| own.load(Ordering::Relaxed))
        };
        for (own, more) in self.buckets.iter().zip(numbers(other)) {
            own.fetch_add(more, Ordering::Relaxed);
        }
        let more = other.nanoseconds.load(Ordering::Relaxed);
        self.nanoseconds.fetch_add(more, Ordering::Relaxed);
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let bounds =
            ATTEMPT_BUCKETS_MICROS.map(|micros| Duration::from_micros(micros).as_secs_f64());
        let counts = self.buckets.iter().map(|own| own.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds
            .into_iter()
            .chain([f64::INFINITY])
            .zip(counts)
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// Numbers that can be summed.
trait Sum: Default {
    /// Adds the other's numbers to these.
    fn add(&self, other: &Self);
}

impl Sum for SourceCounters {
    fn add(&self, other: &Self) {
        self.received.inc_by(other.received.get());
        self.duplicates.inc_by(other.duplicates.get());
        self.rejects.inc_by(other.rejects.get());
    }
}

impl Sum for SchemaCounters {
    fn add(&self, other: &Self) {
        for ((_, own), (_, more)) in self.outcomes().iter().zip(other.outcomes()) {
            own.inc_by(more.get());
        }
    }
}

impl Sum for SubscriptionMetrics {
    fn add(&self, other: &Self) {
        for ((_, own), (_, more)) in self.outcomes().iter().zip(other.outcomes()) {
            own.inc_by(more.get());
        }
    }
}

impl Sum for TargetMetrics {
    fn add(&self, other: &Self) {
        for (own, more) in self.0.iter().zip(&*other.0) {
            if let Some(more) = more.get() {
                own.get_or_init(Box::default).add(more);
            }
        }
    }
}

/// The numbers of everything of one kind.
#[derive(Debug)]
struct Kind<K, N> {
    each: BTreeMap<K, N>,
    /// Of what is in no rule file any more: a sum never goes back.
    gone: N,
}

impl<K: Ord, N: Sum> Default for Kind<K, N> {
    fn default() -> Self {
        Self {
            each: BTreeMap::new(),
            gone: N::default(),
        }
    }
}

impl<K: Ord + Clone, N: Sum + Clone> Kind<K, N> {
    fn of(&mut self, key: &K) -> N {
        if let Some(numbers) = self.each.get(key) {
            return numbers.clone();
        }
        self.each.entry(key.clone()).or_default().clone()
    }

    fn retain(&mut self, stays: impl Fn(&K) -> bool) {
        self.each.retain(|key, numbers| {
            let stays = stays(key);
            if !stays {
                self.gone.add(numbers);
            }
            stays
        });
    }

    /// What is told: each with its key, or their sum without one.
    fn told(&self, detail: Detail) -> Vec<(Option<&K>, N)> {
        if detail.is_each(self.each.len()) {
            let each = self.each.iter();
            return each
                .map(|(key, numbers)| (Some(key), numbers.clone()))
                .collect();
        }
        let sum = N::default();
        sum.add(&self.gone);
        self.each.values().for_each(|numbers| sum.add(numbers));
        vec![(None, sum)]
    }
}

/// A tenant and a name of its own.
type Owned = (Name, Name);

/// A tenant and a type of its events.
type OwnedType = (Name, Box<str>);

#[derive(Debug, Default)]
struct Kinds {
    detail: Detail,
    schemas: Kind<OwnedType, SchemaCounters>,
    sources: Kind<Owned, SourceCounters>,
    subscriptions: Kind<SubscriptionIdentity, SubscriptionMetrics>,
    targets: Kind<Owned, TargetMetrics>,
}

/// What is to keep its labels; sources and targets are each a tenant and a name.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub schemas: HashSet<OwnedType>,
    pub sources: HashSet<Owned>,
    pub subscriptions: HashSet<SubscriptionIdentity>,
    pub targets: HashSet<Owned>,
}

/// The numbers of all sources, subscriptions and targets. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Labelled(Arc<Mutex<Kinds>>);

impl Labelled {
    pub(super) fn set_detail(&self, detail: Detail) {
        self.0.lock().detail = detail;
    }

    pub(super) fn source(&self, tenant: &Name, source: &Name) -> SourceCounters {
        let key = (tenant.clone(), source.clone());
        self.0.lock().sources.of(&key)
    }

    pub(super) fn schema(&self, tenant: &Name, ty: &str) -> SchemaCounters {
        let key = (tenant.clone(), ty.into());
        self.0.lock().schemas.of(&key)
    }

    pub(super) fn subscription(&self, identity: &SubscriptionIdentity) -> SubscriptionMetrics {
        self.0.lock().subscriptions.of(identity)
    }

    pub(super) fn target(&self, tenant: &Name, target: &Name) -> TargetMetrics {
        let key = (tenant.clone(), target.clone());
        self.0.lock().targets.of(&key)
    }

    /// Forgets the labels of what is not to be kept. What still counts for it counts unseen.
    pub(super) fn retain(&self, kept: &Kept, also: impl Fn(&SubscriptionIdentity) -> bool) {
        let mut kinds = self.0.lock();
        let Kinds {
            schemas,
            sources,
            subscriptions,
            targets,
            ..
        } = &mut *kinds;
        schemas.retain(|schema| kept.schemas.contains(schema));
        sources.retain(|source| kept.sources.contains(source));
        subscriptions.retain(|identity| kept.subscriptions.contains(identity) || also(identity));
        targets.retain(|target| kept.targets.contains(target));
    }
}

impl Collector for Labelled {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kinds = self.0.lock();
        let encoder = &mut encoder;
        encode_mismatches(encoder, &kinds.schemas.told(kinds.detail))?;
        encode_sources(encoder, &kinds.sources.told(kinds.detail))?;
        encode_deliveries(encoder, &kinds.subscriptions.told(kinds.detail))?;
        encode_attempts(encoder, &kinds.targets.told(kinds.detail))
    }
}

type SourceColumn = (&'static str, &'static str, fn(&SourceCounters) -> &Counter);

/// A counter's name gets its `_total` when it is written.
const SOURCE_COLUMNS: [SourceColumn; 3] = [
    (
        "pointsman_events_received",
        "Events stored, by the source they came from",
        |source| &source.received,
    ),
    (
        "pointsman_events_duplicate",
        "Events that had been stored before",
        |source| &source.duplicates,
    ),
    (
        "pointsman_rejects",
        "Messages that no event could be made of",
        |source| &source.rejects,
    ),
];

fn encode_mismatches(
    encoder: &mut DescriptorEncoder<'_>,
    schemas: &[(Option<&OwnedType>, SchemaCounters)],
) -> fmt::Result {
    let help = "Events whose data did not fit the schema of their type, by what became of them";
    let name = "pointsman_schema_mismatches";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (key, counters) in schemas {
        let labels = key.map_or_else(Vec::new, |(tenant, ty)| {
            vec![("tenant", tenant.as_str()), ("type", &**ty)]
        });
        for (outcome, counter) in counters.outcomes() {
            let labels = [&labels[..], &[("outcome", outcome)]].concat();
            let number = counter.get();
            encode_labelled(&mut family, &labels, |encoder| {
                encode_counter(encoder, number)
            })?;
        }
    }
    Ok(())
}

fn encode_sources(
    encoder: &mut DescriptorEncoder<'_>,
    sources: &[(Option<&Owned>, SourceCounters)],
) -> fmt::Result {
    for (name, help, counter) in SOURCE_COLUMNS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (key, counters) in sources {
            let labels = owned_labels(*key, "source");
            let number = counter(counters).get();
            encode_labelled(&mut family, &labels, |encoder| {
                encode_counter(encoder, number)
            })?;
        }
    }
    Ok(())
}

fn encode_deliveries(
    encoder: &mut DescriptorEncoder<'_>,
    subscriptions: &[(Option<&SubscriptionIdentity>, SubscriptionMetrics)],
) -> fmt::Result {
    let help = "Attempts at deliveries, by how they left their delivery";
    let name = "pointsman_deliveries";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (identity, metrics) in subscriptions {
        let labels = identity.map_or_else(Vec::new, subscription_labels);
        for (outcome, counter) in metrics.outcomes() {
            let labels = [&labels[..], &[("outcome", outcome)]].concat();
            let number = counter.get();
            encode_labelled(&mut family, &labels, |encoder| {
                encode_counter(encoder, number)
            })?;
        }
    }
    Ok(())
}

fn encode_attempts(
    encoder: &mut DescriptorEncoder<'_>,
    targets: &[(Option<&Owned>, TargetMetrics)],
) -> fmt::Result {
    let help = "How long attempts took, by the class they came to";
    let name = "pointsman_attempt_duration_seconds";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (key, metrics) in targets {
        let classes = CLASSES.iter().zip(&*metrics.0);
        for (class, durations) in classes.filter_map(|(class, own)| Some((class, own.get()?))) {
            let labels = [
                &owned_labels(*key, "target")[..],
                &[("class", class.as_str())],
            ]
            .concat();
            encode_labelled(&mut family, &labels, |encoder| durations.encode(encoder))?;
        }
    }
    Ok(())
}

pub type Label<'n> = (&'static str, &'n str);

fn owned_labels<'n>(key: Option<&'n Owned>, kind: &'static str) -> Vec<Label<'n>> {
    key.map_or_else(Vec::new, |(tenant, name)| {
        vec![("tenant", tenant.as_str()), (kind, name.as_str())]
    })
}

/// The labels that tell a subscription from others.
pub fn subscription_labels(identity: &SubscriptionIdentity) -> Vec<Label<'_>> {
    vec![
        ("tenant", identity.tenant.as_str()),
        ("rule", identity.rule.as_str()),
        ("role", identity.role.as_str()),
        ("target", identity.target.as_str()),
    ]
}

/// Writes a number of a family, with its labels where it has any.
pub fn encode_labelled(
    family: &mut MetricEncoder<'_>,
    labels: &[Label<'_>],
    encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() {
        // A family without labels would get empty braces.
        encode(family)
    } else {
        encode(&mut family.encode_family(&labels)?)
    }
}

/// Writes a counter's number.
pub fn encode_counter(encoder: &mut MetricEncoder<'_>, number: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, u64, u64>(&number, None)
}
