//! The journal's own counters as metrics.
//!
//! They are read when somebody asks and never counted a second time, so that the law of
//! conservation holds in every answer: created = delivered + dead + redriven + purged + cancelled +
//! quarantined + pending.

use std::fmt;

use pointsman_schemas::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use pointsman_journal::{Activity, Counts, JournalError, Reader, SubscriptionStatus, Totals};

/// What a journal had to say at one moment.
#[derive(Clone, Debug)]
pub struct JournalSnapshot {
    pub subscriptions: Vec<SubscriptionStatus>,
    /// The whole store.
    pub totals: Totals,
    pub at: Timestamp,
}

impl JournalSnapshot {
    /// Reads it.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub async fn take(reader: &dyn Reader, at: Timestamp) -> Result<Self, JournalError> {
        Ok(Self {
            subscriptions: reader.subscriptions().await?,
            totals: reader.totals().await?,
            at,
        })
    }

    /// A registry to be written behind the process's own: it holds what was read, and whether that
    /// could be done.
    #[must_use]
    pub fn registry(snapshot: Result<Self, JournalError>) -> Registry {
        let mut registry = Registry::default();
        let help =
            "Whether the store could be read for these metrics: 1, or 0 where its own are missing";
        registry.register(
            "pointsman_store_readable",
            help,
            ConstGauge::new(u64::from(snapshot.is_ok())),
        );
        if let Ok(snapshot) = snapshot {
            registry.register_collector(Box::new(snapshot));
        }
        registry
    }
}

type Column = (&'static str, &'static str, MetricType, fn(&Counts) -> u64);

/// The counters of a subscription, first those of the law, then parts of what is pending.
const COUNTS: [Column; 10] = [
    (
        "created",
        "Deliveries made, by matches, replays and redrives",
        MetricType::Counter,
        |counts| counts.created,
    ),
    (
        "delivered",
        "Deliveries that ended with success",
        MetricType::Counter,
        |counts| counts.delivered,
    ),
    (
        "redriven",
        "Dead letters that a new run was made of",
        MetricType::Counter,
        |counts| counts.redriven,
    ),
    (
        "purged",
        "Dead letters that somebody deleted",
        MetricType::Counter,
        |counts| counts.purged,
    ),
    (
        "cancelled",
        "Deliveries that somebody ended without an attempt",
        MetricType::Counter,
        |counts| counts.cancelled,
    ),
    (
        "quarantined",
        "Deliveries set aside because a record was damaged",
        MetricType::Counter,
        |counts| counts.quarantined,
    ),
    (
        "dead",
        "Dead letters that lie there now",
        MetricType::Gauge,
        |counts| counts.dead,
    ),
    (
        "pending",
        "Deliveries that wait, in flight included",
        MetricType::Gauge,
        |counts| counts.pending,
    ),
    (
        "retrying",
        "Of the pending: tried before",
        MetricType::Gauge,
        |counts| counts.retrying,
    ),
    (
        "in_flight",
        "Of the pending: leased",
        MetricType::Gauge,
        |counts| counts.in_flight,
    ),
];

type Total = (&'static str, &'static str, MetricType, fn(&Totals) -> u64);

const TOTALS: [Total; 8] = [
    (
        "pointsman_store_bytes",
        "What the store takes on disk, write-ahead log included",
        MetricType::Gauge,
        |totals| totals.bytes,
    ),
    (
        "pointsman_store_max_bytes",
        "What the store may take on disk",
        MetricType::Gauge,
        |totals| totals.bytes_max,
    ),
    (
        "pointsman_store_events",
        "Events retained",
        MetricType::Gauge,
        |totals| totals.events,
    ),
    (
        "pointsman_store_dead",
        "Dead letters, rejects included",
        MetricType::Gauge,
        |totals| totals.dead,
    ),
    (
        "pointsman_store_rejects",
        "Dead letters that are rejects of sources",
        MetricType::Gauge,
        |totals| totals.rejects,
    ),
    (
        "pointsman_store_quarantined",
        "Damaged records found and set aside",
        MetricType::Counter,
        |totals| totals.quarantined,
    ),
    (
        "pointsman_store_lost_commits",
        "Commits found lost: what they held was acknowledged",
        MetricType::Counter,
        |totals| totals.lost_commits,
    ),
    (
        "pointsman_store_last_sequence",
        "The last sequence given out",
        MetricType::Gauge,
        |totals| totals.last_sequence,
    ),
];

impl Collector for JournalSnapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let encoder = &mut encoder;
        for (name, help, metric_type, count) in COUNTS {
            self.family(encoder, name, help, metric_type, |status| {
                Number::Whole(count(&status.counts))
            })?;
        }
        let active =
            "Whether its deliveries go out: 1, or 0 where it is suspended, gone or detached";
        self.family(encoder, "active", active, MetricType::Gauge, |status| {
            Number::Whole(u64::from(
                status.attached && status.activity == Activity::Active,
            ))
        })?;
        let age =
            "How long ago the oldest pending delivery's run began; 0 where nothing is pending";
        self.family(
            encoder,
            "oldest_pending_age_seconds",
            age,
            MetricType::Gauge,
            |status| {
                Number::Real(
                    status
                        .oldest_pending
                        .map_or(0.0, |oldest| self.at.since(oldest).as_secs_f64()),
                )
            },
        )?;
        for (name, help, metric_type, total) in TOTALS {
            let metric = encoder.encode_descriptor(name, help, None, metric_type)?;
            Number::Whole(total(&self.totals)).encode(metric_type, metric)?;
        }
        Ok(())
    }
}

impl JournalSnapshot {
    fn family(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        metric_type: MetricType,
        number: impl Fn(&SubscriptionStatus) -> Number,
    ) -> fmt::Result {
        let name = format!("pointsman_subscription_{name}");
        let mut family = encoder.encode_descriptor(&name, help, None, metric_type)?;
        for status in &self.subscriptions {
            let identity = &status.identity;
            let labels = [
                ("tenant", identity.tenant.as_str()),
                ("rule", identity.rule.as_str()),
                ("role", identity.role.as_str()),
                ("target", identity.target.as_str()),
            ];
            number(status).encode(metric_type, family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

enum Number {
    Whole(u64),
    Real(f64),
}

impl Number {
    fn encode(
        self,
        metric_type: MetricType,
        encoder: prometheus_client::encoding::MetricEncoder<'_>,
    ) -> fmt::Result {
        match (metric_type, self) {
            (MetricType::Counter, Self::Whole(number)) => ConstCounter::new(number).encode(encoder),
            (_, Self::Whole(number)) => ConstGauge::new(number).encode(encoder),
            (_, Self::Real(number)) => ConstGauge::new(number).encode(encoder),
        }
    }
}
