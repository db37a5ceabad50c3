//! The journal's own counters as metrics.
//!
//! They are read when somebody asks and never counted a second time, so that the law of
//! conservation holds in every answer: created = delivered + dead + redriven + purged + cancelled +
//! quarantined + pending.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::QuotaUse;
use super::metrics::Detail;
use super::metrics::labelled::{Label, encode_counter, encode_labelled, subscription_labels};
use pointsman_journal::{Activity, Counts, JournalError, Reader, SubscriptionStatus, Totals};

/// What a journal had to say at one moment.
#[derive(Clone, Debug)]
pub struct JournalSnapshot {
    pub subscriptions: Vec<SubscriptionStatus>,
    /// The whole store.
    pub totals: Totals,
    pub at: Timestamp,
    /// Whether each subscription has numbers of its own.
    pub detail: Detail,
    /// Those that have a lane of their own.
    pub own_lanes: BTreeSet<SubscriptionNumber>,
    /// The quotas, with what is used of them.
    pub quotas: Vec<QuotaUse>,
}

impl JournalSnapshot {
    /// Reads it.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub async fn take(
        reader: &dyn Reader,
        at: Timestamp,
        detail: Detail,
        own_lanes: BTreeSet<SubscriptionNumber>,
        mut quotas: Vec<QuotaUse>,
    ) -> Result<Self, JournalError> {
        let mut totals = reader.totals().await?;
        loop {
            let subscriptions = reader.subscriptions().await?;
            let before = std::mem::replace(&mut totals, reader.totals().await?);
            // One that is dropped between the two would be missing from the sums, or be in them
            // twice. Being dropped is rare: the second try does.
            if before.dropped == totals.dropped {
                QuotaUse::count(&mut quotas, &subscriptions);
                return Ok(Self {
                    quotas,
                    subscriptions,
                    totals,
                    at,
                    detail,
                    own_lanes,
                });
            }
        }
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
        let rows = self.rows();
        for (name, help, metric_type, count) in COUNTS {
            family(encoder, name, help, metric_type, &rows, |row| {
                Number::Whole(count(&row.counts))
            })?;
        }
        let active =
            "Whether its deliveries go out: 1, or 0 where it is suspended, gone or detached";
        family(encoder, "active", active, MetricType::Gauge, &rows, |row| {
            Number::Whole(u64::from(row.is_active))
        })?;
        let lane = "Whether it has a lane of its own, since it hangs, fails or floods: 1 or 0";
        family(encoder, "own_lane", lane, MetricType::Gauge, &rows, |row| {
            Number::Whole(row.own_lanes)
        })?;
        let age =
            "How long ago the oldest pending delivery's run began; 0 where nothing is pending";
        family(
            encoder,
            "oldest_pending_age_seconds",
            age,
            MetricType::Gauge,
            &rows,
            |row| Number::Real(row.age.as_secs_f64()),
        )?;
        QuotaUse::encode(&self.quotas, encoder)?;
        for (name, help, metric_type, total) in TOTALS {
            let mut metric = encoder.encode_descriptor(name, help, None, metric_type)?;
            Number::Whole(total(&self.totals)).encode(metric_type, &mut metric)?;
        }
        Ok(())
    }
}

/// What is told under one set of labels.
struct Row<'s> {
    labels: Vec<Label<'s>>,
    counts: Counts,
    is_active: bool,
    /// One, or how many of those together.
    own_lanes: u64,
    age: Duration,
}

impl JournalSnapshot {
    /// Each subscription, or all of them together: the sums of their counters, whether all are
    /// active, how many have a lane of their own, the age of the oldest.
    fn rows(&self) -> Vec<Row<'_>> {
        let row = |status: &SubscriptionStatus, labels| Row {
            labels,
            counts: status.counts,
            is_active: status.attached && status.activity == Activity::Active,
            own_lanes: u64::from(self.own_lanes.contains(&status.number)),
            age: (status.oldest_pending).map_or(Duration::ZERO, |oldest| self.at.since(oldest)),
        };
        let subscriptions = self.subscriptions.iter();
        if self.detail.is_each(self.subscriptions.len()) {
            return subscriptions
                .map(|status| row(status, subscription_labels(&status.identity)))
                .collect();
        }
        let mut all = Row {
            labels: Vec::new(),
            counts: self.totals.dropped,
            is_active: true,
            own_lanes: 0,
            age: Duration::ZERO,
        };
        for one in subscriptions.map(|status| row(status, Vec::new())) {
            all.counts += &one.counts;
            all.is_active &= one.is_active;
            all.own_lanes += one.own_lanes;
            all.age = all.age.max(one.age);
        }
        vec![all]
    }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric_type: MetricType,
    rows: &[Row<'_>],
    number: impl Fn(&Row<'_>) -> Number,
) -> fmt::Result {
    let name = format!("pointsman_subscription_{name}");
    let mut family = encoder.encode_descriptor(&name, help, None, metric_type)?;
    for row in rows {
        encode_labelled(&mut family, &row.labels, |encoder| {
            number(row).encode(metric_type, encoder)
        })?;
    }
    Ok(())
}

enum Number {
    Whole(u64),
    Real(f64),
}

impl Number {
    fn encode(self, metric_type: MetricType, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match (metric_type, self) {
            (MetricType::Counter, Self::Whole(number)) => encode_counter(encoder, number),
            (_, Self::Whole(number)) => encoder.encode_gauge(&number),
            (_, Self::Real(number)) => encoder.encode_gauge(&number),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode_registry;

    use super::*;
    use pointsman_journal::{Role, SubscriptionIdentity};
    use pointsman_schemas::{Name, SubscriptionNumber};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn status(number: u32) -> SubscriptionStatus {
        let counts = Counts {
            created: 7,
            delivered: 3,
            dead: 1,
            pending: 3,
            retrying: 2,
            in_flight: 1,
            ..Counts::default()
        };
        SubscriptionStatus {
            number: SubscriptionNumber(number),
            identity: SubscriptionIdentity {
                tenant: name("default"),
                rule: name(&format!("a-rule-with-a-name-{number}")),
                role: Role::To,
                target: name(&format!("a-target-with-a-name-{number}")),
            },
            attached: true,
            activity: Activity::Active,
            counts,
            oldest_pending: Some(Timestamp(1_000_000 * i64::from(number))),
        }
    }

    fn served(subscriptions: Vec<SubscriptionStatus>, detail: Detail) -> String {
        let totals = Totals {
            dropped: Counts {
                created: 5,
                delivered: 2,
                redriven: 1,
                purged: 1,
                cancelled: 1,
                ..Counts::default()
            },
            ..Totals::default()
        };
        let at = Timestamp(20_000_000_000);
        let snapshot = JournalSnapshot {
            subscriptions,
            totals,
            at,
            detail,
            own_lanes: [SubscriptionNumber(1), SubscriptionNumber(500)].into(),
            quotas: Vec::new(),
        };
        let mut text = String::new();
        encode_registry(&mut text, &JournalSnapshot::registry(Ok(snapshot))).unwrap();
        text
    }

    #[test]
    fn ten_thousand_subscriptions_are_told_as_one_and_nothing_is_missing() {
        let mut all: Vec<_> = (1..=10_000).map(status).collect();
        let text = served(all.clone(), Detail::Auto);
        assert!(text.len() < 10_000, "{} bytes", text.len());
        for line in [
            "pointsman_subscription_created_total 70005",
            "pointsman_subscription_delivered_total 30002",
            "pointsman_subscription_redriven_total 1",
            "pointsman_subscription_purged_total 1",
            "pointsman_subscription_cancelled_total 1",
            "pointsman_subscription_quarantined_total 0",
            "pointsman_subscription_dead 10000",
            "pointsman_subscription_pending 30000",
            "pointsman_subscription_retrying 20000",
            "pointsman_subscription_in_flight 10000",
            "pointsman_subscription_active 1",
            "pointsman_subscription_own_lane 2",
            "pointsman_subscription_oldest_pending_age_seconds 19999.0",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} in\n{text}");
        }
        all[4_711].activity = Activity::Suspended;
        let text = served(all.clone(), Detail::Auto);
        assert!(
            text.contains("\npointsman_subscription_active 0\n"),
            "{text}"
        );
        let each = served(all, Detail::Each);
        assert_eq!(each.matches("rule=\"a-rule-with-a-name-4712\"").count(), 13);
    }

    #[test]
    fn a_few_subscriptions_are_told_one_by_one() {
        let text = served((1..=500).map(status).collect(), Detail::Auto);
        assert_eq!(text.matches("rule=\"a-rule-with-a-name-500\"").count(), 13);
        assert!(text.len() < 1_000_000, "{} bytes", text.len());
        let none = served(Vec::new(), Detail::Auto);
        assert!(
            !none.contains("pointsman_subscription_created_total"),
            "{none}"
        );
    }
}
