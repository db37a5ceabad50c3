//! Metrics as a collector is given them, against what a scrape shows.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    HistogramDataPoint, Metric, NumberDataPoint, number_data_point,
};
use pointsman_integration_tests::collector::{Collector, text};
use pointsman_integration_tests::{Bus, Caller, Sink, until};

/// Numbers by their names and labels, as a scrape writes them.
type Numbers = BTreeMap<String, f64>;

/// What changes by itself, or by somebody's looking at it.
const RESTLESS: [&str; 5] = [
    "process_resident_memory_bytes",
    "process_open_fds",
    "pointsman_listener_",
    "pointsman_trace_spans_",
    "pointsman_store_bytes",
];

fn labelled(name: &str, mut labels: Vec<(String, String)>) -> String {
    labels.sort();
    format!("{name} {labels:?}")
}

/// The numbers of a scrape, and the traces that it names.
async fn scraped(bus: &Bus) -> (Numbers, Vec<String>) {
    let (_, body) = Caller::new().get(&bus.admin_url("/metrics")).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let (mut numbers, mut traces) = (Numbers::new(), Vec::new());
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (line, exemplar) = line.split_once(" # ").unwrap_or((line, ""));
        traces.extend(exemplar.split('"').nth(1).map(str::to_owned));
        let (series, number) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split_terminator(',');
        let labels = labels.map(|label| label.split_once('=').unwrap());
        let labels = labels.map(|(name, value)| (name.to_owned(), value.replace('"', "")));
        numbers.insert(labelled(name, labels.collect()), number.parse().unwrap());
    }
    (numbers, traces)
}

fn labels(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let pair = |one: &KeyValue| (one.key.clone(), text(one));
    attributes.iter().map(pair).collect()
}

fn of_point(name: &str, point: &NumberDataPoint) -> (String, f64) {
    let number = match point.value {
        Some(number_data_point::Value::AsInt(number)) => number as f64,
        Some(number_data_point::Value::AsDouble(number)) => number,
        None => panic!("{name} has no number"),
    };
    (labelled(name, labels(&point.attributes)), number)
}

fn of_histogram(name: &str, point: &HistogramDataPoint) -> Vec<(String, f64)> {
    let own = labels(&point.attributes);
    let mut lines = vec![
        (
            labelled(&format!("{name}_sum"), own.clone()),
            point.sum.unwrap(),
        ),
        (
            labelled(&format!("{name}_count"), own.clone()),
            point.count as f64,
        ),
    ];
    let ends = point.explicit_bounds.iter().map(|end| format!("{end:?}"));
    let mut count = 0;
    for (end, bucket) in ends.chain(["+Inf".to_owned()]).zip(&point.bucket_counts) {
        count += bucket;
        let labels = [&own[..], &[("le".to_owned(), end)]].concat();
        lines.push((labelled(&format!("{name}_bucket"), labels), count as f64));
    }
    lines
}

/// The numbers of an export, as a scrape would have them.
fn exported(metrics: &[Metric]) -> Numbers {
    let lines = |metric: &Metric| -> Vec<(String, f64)> {
        let name = &metric.name;
        let numbers = |points: &[NumberDataPoint]| {
            let points = points.iter();
            points.map(|point| of_point(name, point)).collect()
        };
        match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => {
                assert_eq!(sum.is_monotonic, name.ends_with("_total"), "{name}");
                numbers(&sum.data_points)
            }
            Data::Gauge(gauge) => numbers(&gauge.data_points),
            Data::Histogram(histogram) => {
                let points = histogram.data_points.iter();
                points.flat_map(|point| of_histogram(name, point)).collect()
            }
            other => panic!("{other:?}"),
        }
    };
    metrics.iter().flat_map(lines).collect()
}

/// The traces that an export names.
fn traces(metrics: &[Metric]) -> Vec<String> {
    let mut traces = Vec::new();
    for metric in metrics {
        let Some(Data::Histogram(histogram)) = &metric.data else {
            continue;
        };
        for point in &histogram.data_points {
            assert!(point.start_time_unix_nano > 0, "{}", metric.name);
            let ids = point.exemplars.iter().map(|one| &one.trace_id);
            traces.extend(ids.map(|id| {
                id.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            }));
        }
    }
    traces
}

fn calm(mut numbers: Numbers) -> Numbers {
    numbers.retain(|name, _| !RESTLESS.iter().any(|one| name.starts_with(one)));
    numbers
}

async fn deliver(bus: &Bus, ids: std::ops::Range<u32>) {
    let (caller, events) = (Caller::new(), bus.url("/events"));
    for id in ids.clone() {
        let id = id.to_string();
        let sent = caller.event(&events, &id, "order.paid", "");
        assert_eq!(sent.await.unwrap(), 202);
    }
    until("all are delivered", async || {
        bus.counts("all").await["delivered"] == ids.end
    })
    .await;
}

async fn is_what_a_scrape_shows(bus: &Bus, metrics: &[Metric]) -> bool {
    let (numbers, named) = scraped(bus).await;
    let own = exported(metrics);
    let names = |numbers: &Numbers| numbers.keys().cloned().collect::<Vec<_>>();
    names(&numbers) == names(&own) && calm(numbers) == calm(own) && named == traces(metrics)
}

/// A collector that is away at first, and is given everything as it is once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_given_what_a_scrape_shows() {
    let (collector, sink) = (Collector::start(0).await, Sink::start().await);
    collector.set_away(true);
    let rules = format!(
        "targets: {{ f: {{ http: {{ url: \"{}\" }} }} }}\nrules: {{ all: {{ to: f }} }}\n",
        sink.url()
    );
    let endpoint = collector.url();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
        ("OTEL_SERVICE_NAME", "shop"),
    ];
    let mut bus = Bus::start_with(&rules, &environment).await;
    deliver(&bus, 0..3).await;
    until("it was called and is away", async || {
        bus.log().contains("metrics cannot be exported")
    })
    .await;
    collector.set_away(false);
    until("it is given what a scrape shows", async || {
        let last = collector.metrics().pop().unwrap_or_default();
        is_what_a_scrape_shows(&bus, &last).await
    })
    .await;
    assert!(!traces(&collector.metrics().pop().unwrap()).is_empty());
    let name = ("service.name".to_owned(), "shop".to_owned());
    assert!(collector.resource().contains(&name));
    bus.terminate().await;
    let told = bus.log();
    for once in ["metrics cannot be exported", "metrics are taken again"] {
        assert_eq!(told.matches(once).count(), 1, "{once}: {told}");
    }
}

/// What nobody was given yet goes out when the bus stops, and a collector that hangs does not hold
/// that up for long.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_numbers_go_out_at_the_stop() {
    let (collector, sink) = (Collector::start(0).await, Sink::start().await);
    let rules = format!(
        "traces: {{ sample: 1, otlp: {{ endpoint: \"{0}\", protocol: grpc }} }}
metrics: {{ interval: 1h, otlp: {{ endpoint: \"{0}\", protocol: grpc, headers: {{ X-Key: {{ env: KEY }} }} }} }}
targets: {{ f: {{ http: {{ url: \"{1}\" }} }} }}
rules: {{ all: {{ to: f }} }}
",
        collector.url(),
        sink.url()
    );
    let mut bus = Bus::start_with(&rules, &[("KEY", "hunter2")]).await;
    deliver(&bus, 0..3).await;
    let (shown, _) = scraped(&bus).await;
    assert!(collector.metrics().is_empty());
    bus.terminate().await;
    let [last] = &collector.metrics()[..] else {
        panic!("it is called once")
    };
    let mut last = calm(exported(last));
    let mut shown = calm(shown);
    // By then its source is closed.
    for numbers in [&mut last, &mut shown] {
        numbers.retain(|name, _| !name.starts_with("pointsman_source_"));
    }
    assert!(last.len() > 100);
    shown.retain(|name, number| last.remove(name) != Some(*number));
    assert!(last.is_empty() && shown.is_empty(), "{last:?} {shown:?}");
    assert!(
        collector
            .calls()
            .iter()
            .any(|call| { call.get("x-key").is_some_and(|key| key == "hunter2") })
    );
}
