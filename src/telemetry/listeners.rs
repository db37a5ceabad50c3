//! What the listeners count of their connections, as metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pointsman_connectors::listener::ConnectionCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

type Column = (
    &'static str,
    &'static str,
    fn(&ConnectionCounts) -> &AtomicU64,
);

const COUNTERS: [Column; 4] = [
    (
        "gave_way",
        "Connections that were closed at the bound because they were idle or slow",
        |counts| &counts.gave_way,
    ),
    (
        "probes_past_bound",
        "Requests to /healthz and /readyz answered while every connection was at work",
        |counts| &counts.probes_past_bound,
    ),
    (
        "turned_away",
        "Other requests that came while every connection was at work",
        |counts| &counts.turned_away,
    ),
    (
        "accept_errors",
        "Times that no connection could be accepted, mostly for lack of descriptors",
        |counts| &counts.accept_errors,
    ),
];

/// The listeners by name.
#[derive(Debug)]
pub struct Listeners(pub Vec<(&'static str, Arc<ConnectionCounts>)>);

impl Collector for Listeners {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "pointsman_listener_connections",
            "Connections that are open",
            None,
            MetricType::Gauge,
        )?;
        for (listener, counts) in &self.0 {
            let gauge = ConstGauge::new(counts.open.load(Ordering::Relaxed));
            gauge.encode(family.encode_family(&[("listener", *listener)])?)?;
        }
        for (name, help, count) in COUNTERS {
            let name = format!("pointsman_listener_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (listener, counts) in &self.0 {
                let counter = ConstCounter::new(count(counts).load(Ordering::Relaxed));
                counter.encode(family.encode_family(&[("listener", *listener)])?)?;
            }
        }
        Ok(())
    }
}
