//! What is counted for each source, subscription and target: one by one while there are few, summed
//! where there are many.
//!
//! What a scraper has to read, keep and pay for grows with the number of rules. So past
//! [`EACH_MAX`] of a kind its numbers are summed under the same name, without the labels that tell
//! one from another, unless the rule file asks for [each](Detail::Each).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::HashSet;
use parking_lot::Mutex;
use pointsman_journal::SubscriptionIdentity;
use pointsman_schemas::trace::TraceId;
use pointsman_schemas::{Class, Name};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use schemars::JsonSchema;
use serde::Deserialize;

use super::attempts::Attempts;
use super::durations::{Durations, write_family};

/// So many of a kind have numbers of their own. A subscription takes about 2 KB of a scrape, a
/// target as much for each class that its attempts came to and for its waits and ages: these many
/// stay below 3 MB.
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

/// From a delivery that is attempted at once to one whose target was down for a day, in
/// microseconds.
const AGE_BUCKETS_MICROS: [u64; 12] = [
    1_000,
    5_000,
    25_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
    86_400_000_000,
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

/// Durations of one target. Each is made when it is first needed: seven for each of ten thousand
/// targets would be a lot to keep and to tell, and most see one class.
#[derive(Clone, Debug, Default)]
pub struct TargetMetrics(Arc<TargetDurations>);

#[derive(Debug, Default)]
struct TargetDurations {
    /// Of attempts, by class.
    attempts: [OnceLock<Box<Durations>>; 7],
    /// Of the waits of deliveries for their first attempts.
    waits: OnceLock<Box<Durations>>,
    /// The ages of deliveries that are delivered.
    ages: OnceLock<Box<Durations>>,
}

fn made<'d>(own: &'d OnceLock<Box<Durations>>, bounds: &'static [u64]) -> &'d Durations {
    own.get_or_init(|| Box::new(Durations::new(bounds)))
}

impl TargetMetrics {
    /// An attempt came to this class after this long.
    pub fn attempted(&self, class: Class, took: Duration, trace: Option<TraceId>) {
        let mut classes = CLASSES.iter().zip(&self.0.attempts);
        if let Some((_, durations)) = classes.find(|(own, _)| **own == class) {
            made(durations, &ATTEMPT_BUCKETS_MICROS).observe(took, trace);
        }
    }

    /// A delivery was attempted for the first time after it had waited this long.
    pub fn waited(&self, waited: Duration, trace: Option<TraceId>) {
        made(&self.0.waits, &AGE_BUCKETS_MICROS).observe(waited, trace);
    }

    /// A delivery was delivered this long after it was made.
    pub fn delivered(&self, age: Duration, trace: Option<TraceId>) {
        made(&self.0.ages, &AGE_BUCKETS_MICROS).observe(age, trace);
    }
}

impl TargetDurations {
    fn all(&self) -> impl Iterator<Item = &OnceLock<Box<Durations>>> {
        self.attempts.iter().chain([&self.waits, &self.ages])
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
        for (own, more) in self.0.all().zip(other.0.all()) {
            if let Some(more) = more.get() {
                own.get_or_init(|| Box::new(more.like())).add(more);
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

    /// How long attempts at each target took, whatever is told of it elsewhere.
    pub(super) fn attempts(&self) -> HashMap<Owned, Attempts> {
        let of = |(key, own): (&Owned, &TargetMetrics)| {
            let mut attempts = Attempts::none(&ATTEMPT_BUCKETS_MICROS);
            let classes = own.0.attempts.iter().filter_map(OnceLock::get);
            classes.for_each(|durations| attempts.add(durations));
            (key.clone(), attempts)
        };
        self.0.lock().targets.each.iter().map(of).collect()
    }

    /// Writes the histograms of targets.
    pub(super) fn write_histograms(&self, text: &mut String) -> fmt::Result {
        let kinds = self.0.lock();
        let targets = kinds.targets.told(kinds.detail);
        write_attempts(text, &targets)?;
        let waits = (
            "pointsman_delivery_wait_seconds",
            "How long deliveries waited for their first attempt",
        );
        write_of_targets(text, waits, &targets, |own| &own.waits)?;
        let ages = (
            "pointsman_delivery_age_seconds",
            "How old deliveries were when they were delivered, since their events came in",
        );
        write_of_targets(text, ages, &targets, |own| &own.ages)
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
        encode_deliveries(encoder, &kinds.subscriptions.told(kinds.detail))
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

/// A target, by its key and by its numbers.
type Target<'k> = (Option<&'k Owned>, TargetMetrics);

fn write_attempts(text: &mut String, targets: &[Target<'_>]) -> fmt::Result {
    let mut series = Vec::new();
    for (key, metrics) in targets {
        let classes = CLASSES.iter().zip(&metrics.0.attempts);
        for (class, durations) in classes.filter_map(|(class, own)| Some((class, own.get()?))) {
            let labels = [
                &owned_labels(*key, "target")[..],
                &[("class", class.as_str())],
            ];
            series.push((labels.concat(), &**durations));
        }
    }
    let help = "How long attempts took, by the class they came to";
    write_family(text, "pointsman_attempt_duration_seconds", help, &series)
}

fn write_of_targets(
    text: &mut String,
    (name, help): (&str, &str),
    targets: &[Target<'_>],
    of: fn(&TargetDurations) -> &OnceLock<Box<Durations>>,
) -> fmt::Result {
    let series = targets.iter().filter_map(|(key, metrics)| {
        Some((owned_labels(*key, "target"), &**of(&metrics.0).get()?))
    });
    write_family(text, name, help, &series.collect::<Vec<_>>())
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
