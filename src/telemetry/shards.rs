//! What is in each shard of a cluster that this node owns.

use std::fmt;

use pointsman_journal::{Counts, JournalError, Reader, ShardNumber, Totals};
use pointsman_peer::Shards;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The shards that a node owns, with what is in each.
#[derive(Debug, Default)]
pub struct ShardLoads(Vec<ShardLoad>);

#[derive(Debug)]
struct ShardLoad {
    shard: ShardNumber,
    /// Those of all subscriptions that there are or ever were, added up.
    counts: Counts,
    totals: Totals,
}

impl ShardLoads {
    /// Reads what is in those of the first `count` shards that are here. One that cannot be read is
    /// left out: whatever owns it by now tells of it.
    pub async fn take(shards: &dyn Shards, count: u16) -> Self {
        let mut loads = Vec::new();
        for number in (0..count).filter_map(ShardNumber::new) {
            if let Some(shard) = shards.here(number)
                && let Ok(load) = ShardLoad::take(number, &*shard.reader()).await
            {
                loads.push(load);
            }
        }
        Self(loads)
    }
}

impl ShardLoad {
    async fn take(shard: ShardNumber, reader: &dyn Reader) -> Result<Self, JournalError> {
        let totals = reader.totals().await?;
        let statuses = reader.subscriptions().await?;
        let counts = statuses.iter().map(|status| &status.counts);
        Ok(Self {
            shard,
            counts: counts.chain([&totals.dropped]).sum(),
            totals,
        })
    }
}

type Column = (
    &'static str,
    &'static str,
    MetricType,
    fn(&ShardLoad) -> u64,
);

const COLUMNS: [Column; 6] = [
    (
        "created",
        "Deliveries made in the shard",
        MetricType::Counter,
        |load| load.counts.created,
    ),
    (
        "delivered",
        "Deliveries of the shard that ended with success",
        MetricType::Counter,
        |load| load.counts.delivered,
    ),
    (
        "pending",
        "Deliveries of the shard that wait or are in flight",
        MetricType::Gauge,
        |load| load.counts.pending,
    ),
    (
        "dead",
        "Dead letters of the shard",
        MetricType::Gauge,
        |load| load.totals.dead,
    ),
    (
        "events",
        "Events that the shard keeps",
        MetricType::Gauge,
        |load| load.totals.events,
    ),
    (
        "bytes",
        "What the shard's store takes on disk",
        MetricType::Gauge,
        |load| load.totals.bytes,
    ),
];

impl Collector for ShardLoads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        for (name, help, metric_type, of) in COLUMNS {
            let name = format!("pointsman_cluster_shard_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, metric_type)?;
            for load in &self.0 {
                let shard = load.shard.get().to_string();
                let labels = [("shard", shard.as_str())];
                let own = family.encode_family(&labels)?;
                match metric_type {
                    MetricType::Counter => ConstCounter::new(of(load)).encode(own)?,
                    _ => ConstGauge::new(of(load)).encode(own)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_journal::memory::{MemoryJournal, MemoryOptions};
    use pointsman_journal::{Append, Entry, Journal, NewDelivery, Shard};
    use pointsman_schemas::SystemClock;
    use prometheus_client::encoding::text::encode_registry;
    use prometheus_client::registry::Registry;

    use super::*;

    /// Owns the shards 0 and 2.
    #[derive(Debug)]
    struct Own([Arc<MemoryJournal>; 2]);

    impl Shards for Own {
        fn here(&self, number: ShardNumber) -> Option<Arc<dyn Shard>> {
            let number = usize::from(number.get());
            let own = self
                .0
                .get(number / 2)
                .filter(|_| number.is_multiple_of(2))?;
            Some(Arc::clone(own) as _)
        }
    }

    #[tokio::test]
    async fn each_owned_shard_is_told_of_and_no_other() {
        let shard = |number| {
            let number = ShardNumber::new(number).unwrap();
            MemoryJournal::shard(Arc::new(SystemClock), MemoryOptions::default(), number)
        };
        let own = Own([shard(0), shard(2)]);
        let wanted = pointsman_journal::suite::wanted("r");
        let numbers = own.0[1].subscribe(vec![wanted]).await.unwrap();
        let entry = Entry {
            deliveries: [NewDelivery::now(numbers[0])].into_iter().collect(),
            ..pointsman_journal::suite::entry("e", &[])
        };
        let append: Append = pointsman_journal::suite::append_of(vec![entry]);
        own.0[1].append(append).await.unwrap();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ShardLoads::take(&own, 3).await));
        let mut text = String::new();
        encode_registry(&mut text, &registry).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for line in [
            "pointsman_cluster_shard_created_total{shard=\"0\"} 0",
            "pointsman_cluster_shard_created_total{shard=\"2\"} 1",
            "pointsman_cluster_shard_pending{shard=\"2\"} 1",
            "pointsman_cluster_shard_events{shard=\"2\"} 1",
        ] {
            assert!(lines.contains(&line), "no {line} in {text}");
        }
        assert!(!text.contains("shard=\"1\""), "{text}");
    }
}
