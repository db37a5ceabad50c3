//! The connections of sources and targets as metrics, read when somebody asks.

use std::fmt;

use pointsman_connectors::SourceState;
use pointsman_schemas::Name;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Circuit, Overview, SourceStatus, TargetStatus};

/// Sources and targets at one moment.
#[derive(Debug)]
pub(super) struct Connections {
    sources: Vec<SourceStatus>,
    targets: Vec<TargetStatus>,
}

impl Connections {
    /// A registry to be written beside the process's own.
    pub(super) fn registry(overview: &dyn Overview) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Self {
            sources: overview.sources(),
            targets: overview.targets(),
        }));
        registry
    }
}

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let up = self.sources.iter().map(|one| {
            (
                &one.tenant,
                &one.name,
                u64::from(one.state == SourceState::Running),
            )
        });
        gauges(
            &mut encoder,
            "source",
            "up",
            "Whether the source is open and connected: 1 or 0",
            up,
        )?;
        let lag = self
            .sources
            .iter()
            .filter_map(|one| Some((&one.tenant, &one.name, one.lag?)));
        gauges(
            &mut encoder,
            "source",
            "lag_messages",
            "Messages that wait in the outside system, where it can tell",
            lag,
        )?;
        let help = "Messages that the outside system removed before they could be read, as far as \
                    it can tell";
        // A counter's name gets its `_total` when it is written.
        let mut skipped = encoder.encode_descriptor(
            "pointsman_source_skipped",
            help,
            None,
            MetricType::Counter,
        )?;
        for one in &self.sources {
            let labels = [
                ("tenant", one.tenant.as_str()),
                ("source", one.name.as_str()),
            ];
            ConstCounter::new(one.skipped).encode(skipped.encode_family(&labels)?)?;
        }
        let up = self.targets.iter().map(|one| {
            (
                &one.tenant,
                &one.name,
                u64::from(one.circuit == Circuit::Closed),
            )
        });
        gauges(
            &mut encoder,
            "target",
            "up",
            "Whether the target could be reached when it was last tried: 1 or 0",
            up,
        )
    }
}

fn gauges<'s>(
    encoder: &mut DescriptorEncoder<'_>,
    side: &'static str,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (&'s Name, &'s Name, u64)>,
) -> fmt::Result {
    let name = format!("pointsman_{side}_{name}");
    let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    for (tenant, own, value) in rows {
        ConstGauge::new(value)
            .encode(family.encode_family(&[("tenant", tenant.as_str()), (side, own.as_str())])?)?;
    }
    Ok(())
}
