//! Numbers of this process since its start. What the journal counts is in [`super::journal`], since
//! it outlives the process.
//!
//! A part asks once for a handle on what it counts, by name, and keeps it: counting is then one
//! atomic addition.

mod attempts;
mod durations;
pub mod labelled;
#[cfg(feature = "otlp")]
mod otlp;
pub mod settings;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pointsman_journal::SubscriptionIdentity;
use pointsman_schemas::trace::TraceId;
use pointsman_schemas::{Name, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use self::durations::{Durations, write_family};
use self::labelled::Labelled;
use self::settings::MetricSettings;
use super::exposition::Expose;
use super::tap::Tap;
use super::traces::{SpanCounters, Traces};
use crate::router::MatchCounters;

pub use self::attempts::Attempts;
pub use self::labelled::{Detail, Kept, SchemaCounters, SubscriptionMetrics, TargetMetrics};

/// From one sync of a fast disk to a store in trouble, in microseconds.
const APPEND_BUCKETS_MICROS: [u64; 12] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// What this process counts. Cloning it copies handles, not numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    labelled: Labelled,
    unmatched: Counter,
    matching: MatchCounters,
    left_out: Counter,
    ingests: Arc<Durations>,
    appends: Arc<Durations>,
    tap: Arc<Tap>,
    traces: Traces,
    spans: SpanCounters,
}

impl Metrics {
    /// Registers everything, so that what has not happened yet is there as a name.
    #[must_use]
    pub fn new(registry: &mut Registry, started: Timestamp) -> Self {
        let metrics = Self {
            labelled: Labelled::default(),
            unmatched: Counter::default(),
            matching: MatchCounters::default(),
            left_out: Counter::default(),
            ingests: Arc::new(Durations::new(&APPEND_BUCKETS_MICROS)),
            appends: Arc::new(Durations::new(&APPEND_BUCKETS_MICROS)),
            tap: Arc::default(),
            traces: Traces::default(),
            spans: SpanCounters::default(),
        };
        let own = &metrics;
        registry.register_collector(Box::new(own.labelled.clone()));
        // A counter's name gets its `_total` when it is written.
        registry.register(
            "pointsman_events_unmatched",
            "Events that no rule took",
            own.unmatched.clone(),
        );
        registry.register(
            "pointsman_events_unordered",
            "Deliveries whose order_by found nothing in their event",
            own.matching.unordered.clone(),
        );
        registry.register(
            "pointsman_deliveries_without_priority",
            "Deliveries whose priority found none in their event",
            own.matching.without_priority.clone(),
        );
        registry.register(
            "pointsman_events_without_key",
            "Events in which a deduplicate found no key, so that they are no duplicates",
            own.matching.without_key.clone(),
        );
        registry.register(
            "pointsman_deliveries_left_out",
            "Events that a rule took and did not deliver because their key was known",
            own.left_out.clone(),
        );
        registry.register(
            "pointsman_trace_spans_exported",
            "Spans of traces that their collector has taken",
            own.spans.exported.clone(),
        );
        registry.register(
            "pointsman_trace_spans_dropped",
            "Spans of traces that are lost, because there were too many or nobody took them",
            own.spans.dropped.clone(),
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

    /// Its histograms, which are not in the registry.
    #[must_use]
    pub fn histograms(&self) -> Histograms {
        Histograms {
            labelled: self.labelled.clone(),
            ingests: Arc::clone(&self.ingests),
            appends: Arc::clone(&self.appends),
        }
    }

    /// Says whether sources, subscriptions and targets have numbers of their own.
    pub fn set_detail(&self, detail: Detail) {
        self.labelled.set_detail(detail);
    }

    /// Forgets the labels of what is not to be kept. What still counts for it counts unseen.
    pub fn retain(&self, kept: &Kept, also: impl Fn(&SubscriptionIdentity) -> bool) {
        self.labelled.retain(kept, also);
    }

    /// Counts what comes from one source.
    #[must_use]
    pub fn source(&self, tenant: &Name, source: &Name) -> SourceMetrics {
        let counters = self.labelled.source(tenant, source);
        SourceMetrics {
            received: counters.received,
            duplicates: counters.duplicates,
            rejects: counters.rejects,
            unmatched: self.unmatched.clone(),
            left_out: self.left_out.clone(),
            ingests: Arc::clone(&self.ingests),
            appends: Arc::clone(&self.appends),
            tap: Arc::clone(&self.tap),
            traces: self.traces.clone(),
        }
    }

    /// Has what is counted recorded in traces.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// What traces are made of.
    #[must_use]
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Counts what becomes of their spans.
    #[must_use]
    pub fn spans(&self) -> SpanCounters {
        self.spans.clone()
    }

    /// Who listens to what is counted.
    #[must_use]
    pub fn tap(&self) -> &Arc<Tap> {
        &self.tap
    }

    /// Counts what settings looked for in events and did not find.
    #[must_use]
    pub fn matching(&self) -> MatchCounters {
        self.matching.clone()
    }

    /// Counts what no event can be made of, of one source.
    #[must_use]
    pub fn rejects(&self, tenant: &Name, source: &Name) -> Counter {
        self.labelled.source(tenant, source).rejects
    }

    /// Counts the events of a type whose data does not fit its schema.
    #[must_use]
    pub fn schema(&self, tenant: &Name, ty: &str) -> SchemaCounters {
        self.labelled.schema(tenant, ty)
    }

    /// Counts how attempts leave the deliveries of one subscription.
    #[must_use]
    pub fn subscription(&self, identity: &SubscriptionIdentity) -> SubscriptionMetrics {
        self.labelled.subscription(identity)
    }

    /// Measures attempts at one target.
    #[must_use]
    pub fn target(&self, tenant: &Name, target: &Name) -> TargetMetrics {
        self.labelled.target(tenant, target)
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
    /// Events that a rule took and did not deliver because their key was known, of all sources.
    pub left_out: Counter,
    ingests: Arc<Durations>,
    appends: Arc<Durations>,
    /// Who listens to what comes.
    pub tap: Arc<Tap>,
    /// What traces are made of.
    pub traces: Traces,
}

impl SourceMetrics {
    /// An append took this long; `trace` is one that is recorded of what it stored.
    pub fn appended(&self, took: Duration, trace: Option<TraceId>) {
        self.appends.observe(took, trace);
    }

    /// A message was stored this long after it had come; `trace` is one that is recorded of it.
    pub fn ingested(&self, took: Duration, trace: Option<TraceId>) {
        self.ingests.observe(took, trace);
    }
}

/// The histograms of this process, which are written beside its registry.
#[derive(Clone, Debug)]
pub struct Histograms {
    labelled: Labelled,
    ingests: Arc<Durations>,
    appends: Arc<Durations>,
}

impl Histograms {
    /// How long attempts at each target took, by its tenant and name.
    #[must_use]
    pub fn attempts(&self) -> HashMap<(Name, Name), Attempts> {
        self.labelled.attempts()
    }

    /// Writes them as OpenMetrics.
    ///
    /// # Errors
    /// None: a text takes everything.
    pub fn write(&self, text: &mut String) -> fmt::Result {
        for (name, help, own) in [
            (
                "pointsman_ingest_duration_seconds",
                "How long it took from a message's arrival until it was stored",
                &self.ingests,
            ),
            (
                "pointsman_append_duration_seconds",
                "How long appends to the store took, sync included",
                &self.appends,
            ),
        ] {
            write_family(text, name, help, &[(Vec::new(), &**own)])?;
        }
        self.labelled.write_histograms(text)
    }
}

/// Exports what is exposed until it is told to stop.
pub type Exporting = Box<dyn FnOnce(Expose, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// What exports metrics of a process that started at this time, where the settings or the
/// environment ask for that.
///
/// # Errors
/// Why they cannot be exported, in words.
#[cfg(feature = "otlp")]
pub fn export(settings: &MetricSettings, started: Timestamp) -> Result<Option<Exporting>, String> {
    let variables = |name: &str| std::env::var(name).ok();
    let Some(export) = settings::MetricExport::of(settings, &variables)? else {
        return Ok(None);
    };
    let exporter = otlp::Exporter::new(&export, started)?;
    tracing::info!(
        collector = exporter.collector(),
        every = ?export.interval,
        "metrics are exported"
    );
    Ok(Some(Box::new(|expose, stop| -> BoxFuture<'static, ()> {
        Box::pin(exporter.run(expose, stop))
    })))
}

/// Nothing is exported by a build without the feature `otlp`.
#[cfg(not(feature = "otlp"))]
pub fn export(_: &MetricSettings, _: Timestamp) -> Result<Option<Exporting>, String> {
    Ok(None)
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
