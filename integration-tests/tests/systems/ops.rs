//! What `ops/` asks of a bus, against what a bus shows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use pointsman_integration_tests::bus::workspace;
use pointsman_integration_tests::collector::Collector;
use pointsman_integration_tests::nats::{jetstream, make_stream};
use pointsman_integration_tests::{Bus, Caller, until};
use pointsman_test_brokers::{NatsRelease, NatsServer};
use serde_json::Value;

fn ops(path: &str) -> PathBuf {
    workspace().join("ops").join(path)
}

/// Runs promtool, which `./test --install` installs.
fn promtool(arguments: &[&str], input: &Path) -> (bool, String) {
    let output = Command::new("promtool")
        .args(arguments)
        .stdin(std::fs::File::open(input).unwrap())
        .output()
        .expect("promtool is there: ./test --install installs it");
    let told = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&told).into_owned(),
    )
}

/// Every metric that a text names.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words
        .filter(|word| word.starts_with("pointsman_") || word.starts_with("process_"))
        .collect()
}

/// Has the parser of Prometheus's own client for Python read what a bus shows: it is the one that
/// refuses most. Says what it refuses.
fn parsed(metrics: &Path) -> Option<String> {
    const PARSER: &str = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
families = list(read(open(sys.argv[1]).read()))
print(sum(1 for family in families for sample in family.samples if sample.exemplar))";
    let package = workspace().join("target/test-tools/openmetrics");
    if !package.join("installed").exists() {
        eprintln!("the parser of OpenMetrics is not there, and is not asked");
        return None;
    }
    let output = Command::new("python3")
        .args(["-c", PARSER, metrics.to_str().unwrap()])
        .env("PYTHONPATH", package)
        .output()
        .expect("there is a Python");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// The traces that are named in what a bus shows of a histogram.
fn exemplars<'t>(metrics: &'t str, histogram: &str) -> Vec<&'t str> {
    let lines = metrics.lines().filter(|line| line.starts_with(histogram));
    let named = lines.filter_map(|line| line.split_once(" # {trace_id=\"")?.1.split_once('"'));
    named.map(|(trace, _)| trace).collect()
}

/// What a bus shows, as Prometheus kept it before OpenMetrics: that is what promtool checks.
fn classic(metrics: &str) -> String {
    let mut classic = String::new();
    let mut lines = metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let ending = lines
            .peek()
            .and_then(|next| next.strip_prefix("# TYPE ")?.split_once(' '))
            .or_else(|| line.strip_prefix("# TYPE ")?.split_once(' '));
        let name = line.split(' ').nth(2).unwrap_or_default();
        let line = match ending {
            Some((of, "counter")) if of == name => line.replacen(of, &format!("{of}_total"), 1),
            Some((of, "info")) if of == name => line.replacen(of, &format!("{of}_info"), 1),
            _ if line.starts_with('#') => line.to_owned(),
            // There were no exemplars.
            _ => line.split(" # ").next().unwrap_or_default().to_owned(),
        };
        let line = match line.strip_suffix(" info") {
            Some(typed) if typed.starts_with("# TYPE ") => format!("{typed} gauge"),
            _ => line,
        };
        if line != "# EOF" {
            classic.push_str(&line);
            classic.push('\n');
        }
    }
    classic
}

#[test]
fn the_alerts_go_off_when_they_should() {
    let (rules, tests) = (
        ops("prometheus/alerts.yaml"),
        ops("prometheus/alerts.test.yaml"),
    );
    for (check, file) in [("check", rules), ("test", tests)] {
        let (is_right, told) = promtool(&[check, "rules", file.to_str().unwrap()], &file);
        assert!(is_right, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ops_names_is_what_a_bus_shows() {
    let server = NatsServer::start(NatsRelease::Current).await;
    let nats = format!("nats://127.0.0.1:{}", server.port());
    make_stream(&jetstream(server.port()).await, "ORDERS", "orders").await;
    let collector = Collector::start(0).await;
    // One node of a cluster, a source that knows how far it is behind, and a quota.
    let bus = Bus::start(&format!(
        "traces: {{ sample: 1, otlp: {{ endpoint: \"{}\" }} }}
store: {{ path: ./store, log: {{ nats: {{ url: \"{nats}\", replicas: 1 }}, shards: 2 }} }}
quota: {{ rate: 100/s, in_flight: 10, backlog: {{ max: 100 }} }}
sources: {{ orders: {{ nats: {{ url: \"{nats}\", stream: ORDERS, consumer: c, create: {{}} }} }} }}
targets: {{ f: {{ exec: {{ command: [\"true\"] }} }} }}
rules: {{ all: {{ to: f }} }}
",
        collector.url()
    ))
    .await;
    let (caller, events) = (Caller::new(), bus.url("/events"));
    let sent = caller.event(&events, "1", "order.paid", "");
    assert_eq!(sent.await.unwrap(), 202);
    until("it is delivered", async || {
        bus.counts("all").await["delivered"] == 1
    })
    .await;
    let url = bus.admin_url("/metrics");
    let mut metrics = String::new();
    until("the source tells how far it is behind", async || {
        let (status, body) = caller.get(&url).await.unwrap();
        assert_eq!(status, 200);
        metrics = String::from_utf8(body.to_vec()).unwrap();
        metrics.contains("\npointsman_source_lag_messages{")
    })
    .await;
    let shown = names(&metrics);
    for file in ["prometheus/alerts.yaml", "grafana/pointsman.json"] {
        let text = std::fs::read_to_string(ops(file)).unwrap();
        let asked = names(&text);
        assert!(asked.len() > 10, "{asked:?}");
        let unknown: Vec<_> = asked.difference(&shown).collect();
        assert!(
            unknown.is_empty(),
            "{file} asks for what no bus shows: {unknown:?}"
        );
    }
    let dashboard = std::fs::read(ops("grafana/pointsman.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 20);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, classic(&metrics)).unwrap();
    let (is_right, told) = promtool(&["check", "metrics"], &file);
    assert!(is_right, "{told}\n{metrics}");

    let mut count = 0;
    until("the spans have come", async || collector.spans().len() >= 5).await;
    let trace = collector.spans()[0].trace_id.clone();
    let trace: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
    for histogram in [
        "pointsman_ingest_duration_seconds",
        "pointsman_append_duration_seconds",
        "pointsman_attempt_duration_seconds",
        "pointsman_delivery_wait_seconds",
        "pointsman_delivery_age_seconds",
    ] {
        let exemplars = exemplars(&metrics, histogram);
        assert_eq!(exemplars, [&trace], "{histogram} in\n{metrics}");
        count += exemplars.len();
    }
    std::fs::write(&file, &metrics).unwrap();
    assert!(parsed(&file).is_none_or(|parsed| parsed == count.to_string()));
}
