//! The connections of sources and targets as metrics, read when somebody asks.

use std::fmt;

use pointsman_connectors::SourceState;
use pointsman_schemas::Name;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Circuit, Overview, SourceStatus, TargetStatus};
use crate::telemetry::metrics::Detail;
use crate::telemetry::metrics::labelled::{Label, encode_counter, encode_labelled};

/// Sources and targets at one moment.
#[derive(Debug)]
pub(super) struct Connections {
    sources: Vec<SourceStatus>,
    targets: Vec<TargetStatus>,
    detail: Detail,
}

impl Connections {
    /// A registry to be written beside the process's own.
    pub(super) fn registry(overview: &dyn Overview, detail: Detail) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Self {
            sources: overview.sources(),
            targets: overview.targets(),
            detail,
        }));
        registry
    }
}

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        // One that runs on another node is told of there.
        let sources = self.sources.iter();
        let sources = sources.filter(|one| one.state != SourceState::Away);
        let source = |one: &SourceStatus| SourceRow::from(one);
        let sources: Vec<_> = if self.detail.is_each(self.sources.len()) {
            sources
                .map(|one| (labels(&one.tenant, "source", &one.name), source(one)))
                .collect()
        } else {
            let sum = sources.map(source).reduce(SourceRow::with);
            sum.map(|sum| (Vec::new(), sum)).into_iter().collect()
        };
        let up = "Whether the source is open and connected: 1 or 0";
        let ups = sources
            .iter()
            .map(|(labels, row)| (labels, row.is_up.into()));
        gauges(encoder, "pointsman_source_up", up, ups)?;
        let lag = "Messages that wait in the outside system, where it can tell";
        let lags = sources
            .iter()
            .filter_map(|(labels, row)| Some((labels, row.lag?)));
        gauges(encoder, "pointsman_source_lag_messages", lag, lags)?;
        let help = "Messages that the outside system removed before they could be read, as far as \
                    it can tell";
        // A counter's name gets its `_total` when it is written.
        let name = "pointsman_source_skipped";
        let mut skipped = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, row) in &sources {
            encode_labelled(&mut skipped, labels, |encoder| {
                encode_counter(encoder, row.skipped)
            })?;
        }
        self.encode_targets(encoder)
    }
}

impl Connections {
    fn encode_targets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Whether the target could be reached when it was last tried: 1 or 0";
        let is_up = |one: &TargetStatus| one.circuit == Circuit::Closed;
        let rows: Vec<_> = if self.detail.is_each(self.targets.len()) {
            let each = self.targets.iter();
            each.map(|one| (labels(&one.tenant, "target", &one.name), is_up(one)))
                .collect()
        } else {
            vec![(Vec::new(), self.targets.iter().all(is_up))]
        };
        let rows = rows.iter().map(|(labels, is_up)| (labels, (*is_up).into()));
        gauges(encoder, "pointsman_target_up", help, rows)
    }
}

/// What is told of one source, or of all of them together.
struct SourceRow {
    is_up: bool,
    lag: Option<u64>,
    skipped: u64,
}

impl From<&SourceStatus> for SourceRow {
    fn from(status: &SourceStatus) -> Self {
        Self {
            is_up: status.state == SourceState::Running,
            lag: status.lag,
            skipped: status.skipped,
        }
    }
}

impl SourceRow {
    fn with(self, other: Self) -> Self {
        let lags = self.lag.into_iter().chain(other.lag);
        Self {
            is_up: self.is_up && other.is_up,
            lag: lags.reduce(u64::saturating_add),
            skipped: self.skipped + other.skipped,
        }
    }
}

fn labels<'n>(tenant: &'n Name, kind: &'static str, name: &'n Name) -> Vec<Label<'n>> {
    vec![("tenant", tenant.as_str()), (kind, name.as_str())]
}

fn gauges<'r, 'n: 'r>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (&'r Vec<Label<'n>>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, number) in rows {
        encode_labelled(&mut family, labels, |encoder| encoder.encode_gauge(&number))?;
    }
    Ok(())
}
