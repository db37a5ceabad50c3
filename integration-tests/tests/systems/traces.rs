//! Traces as a collector sees them, and what a collector that is none costs the bus.

use std::time::{Duration, Instant};

use http::Method;
use pointsman_integration_tests::collector::{Collector, attribute};
use pointsman_integration_tests::nats::{jetstream, make_stream};
use pointsman_integration_tests::{Bus, Caller, Sink, until};
use pointsman_test_brokers::{NatsRelease, NatsServer};
use tokio::net::TcpListener;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends an event, with the headers of a trace where there are any.
async fn send(bus: &Bus, id: &str, trace: &[(&str, &str)]) {
    let event = [
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/shop"),
        ("ce-type", "order.paid"),
        ("content-type", "application/json"),
    ];
    let headers = [&event[..], trace].concat();
    let (caller, url) = (Caller::new(), bus.url("/events"));
    let sent = caller.call(Method::POST, &url, &headers, "{}");
    assert_eq!(sent.await.unwrap().0, 202);
}

/// An event that comes with a trace, is tried until there is a stream for it, and reaches it: with
/// a collector that speaks `protocol` and is busy at first.
async fn follows(protocol: &str, server: &NatsServer, stream: &str) {
    let collector = Collector::start(1).await;
    let bus = Bus::start_with(
        &format!(
            "traces:
  otlp: {{ endpoint: \"{}\", protocol: {protocol}, headers: {{ X-Key: {{ env: KEY }} }} }}
targets:
  audit:
    nats: {{ url: \"nats://127.0.0.1:{}\", subject: {stream} }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 50ms }} }} }}
rules:
  all: {{ to: audit }}
",
            collector.url(),
            server.port()
        ),
        &[("KEY", "hunter2"), ("OTEL_SERVICE_NAME", "shop")],
    )
    .await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let headers = [("traceparent", &*parent), ("tracestate", "vendor=1")];
    send(&bus, "1", &headers).await;
    // One that nobody has sampled leaves no span.
    let unsampled = format!("00-{}-{SPAN}-00", TRACE.replace('0', "1"));
    send(&bus, "2", &[("traceparent", &unsampled)]).await;
    let named = |name: &str| {
        let spans = collector.spans().into_iter();
        spans.filter(|span| span.name == name).collect::<Vec<_>>()
    };
    until("two attempts have failed", async || {
        named("attempt audit").len() >= 2
    })
    .await;
    let jetstream = jetstream(server.port()).await;
    make_stream(&jetstream, stream, stream).await;
    until("it is delivered", async || {
        bus.counts("all").await["delivered"] == 2
    })
    .await;
    let is_last = |next: &str| next == "delivered";
    until("the last attempt is told of", async || {
        let attempts = named("attempt audit");
        attempts
            .iter()
            .any(|span| is_last(&attribute(span, "pointsman.next")))
    })
    .await;

    let all = collector.spans();
    assert!(
        all.iter().all(|span| hexadecimal(&span.trace_id) == TRACE),
        "{all:?}"
    );
    assert!(
        all.iter().all(|span| span.trace_state == "vendor=1"),
        "{all:?}"
    );
    let [receive] = &named("receive ingress")[..] else {
        panic!("{all:?}")
    };
    assert_eq!(hexadecimal(&receive.parent_span_id), SPAN);
    assert_eq!(attribute(receive, "cloudevents.event_id"), "1");
    let others = all.iter().filter(|span| span.span_id != receive.span_id);
    for span in others {
        assert_eq!(span.parent_span_id, receive.span_id, "{}", span.name);
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{span:?}"
        );
    }
    assert_eq!((named("match").len(), named("append").len()), (1, 1));
    let mut attempts = named("attempt audit");
    attempts.sort_by_key(|span| attribute(span, "pointsman.attempt").parse::<u32>().unwrap());
    assert!(
        attempts.len() >= 3,
        "it was tried again twice: {attempts:?}"
    );
    assert_eq!(named("wait audit").len(), attempts.len());
    for (before, after) in attempts.iter().zip(&attempts[1..]) {
        assert_eq!(attribute(before, "pointsman.outcome"), "unavailable");
        assert_eq!(before.status.as_ref().map(|status| status.code), Some(2));
        assert_eq!(after.links.len(), 1);
        assert_eq!(after.links[0].span_id, before.span_id);
    }
    let last = attempts.last().unwrap();
    assert_eq!(
        attribute(last, "pointsman.attempt"),
        attempts.len().to_string()
    );

    let stream = jetstream.get_stream(stream).await.unwrap();
    let (mut sequence, mut messages) = (1, Vec::new());
    while let Ok(message) = stream.get_raw_message(sequence).await {
        messages.push(message.headers);
        sequence += 1;
    }
    let of = |id: &str| {
        let found = messages
            .iter()
            .find(|one| one.get("ce-id").unwrap().as_str() == id);
        let headers = found.unwrap();
        let text = |name: &str| headers.get(name).unwrap().as_str().to_owned();
        (text("traceparent"), text("ce-traceparent"))
    };
    let told = format!("00-{TRACE}-{}-01", hexadecimal(&last.span_id));
    assert_eq!(of("1"), (told, parent));
    assert_eq!(of("2"), (unsampled.clone(), unsampled));

    // Histograms name the trace that is recorded, and no other.
    let (_, metrics) = Caller::new().get(&bus.admin_url("/metrics")).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    let exemplars = metrics.lines().filter(|line| line.contains(" # {"));
    let (own, others): (Vec<_>, Vec<_>) = exemplars.partition(|line| line.contains(TRACE));
    assert!(own.len() >= 6 && others.is_empty(), "{metrics}");

    let calls = collector.calls();
    assert!(
        calls.iter().all(|call| call["x-key"] == "hunter2"),
        "{calls:?}"
    );
    assert!(
        collector
            .resource()
            .contains(&("service.name".to_owned(), "shop".to_owned()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_followed_from_its_sender_to_a_stream() {
    let server = NatsServer::start(NatsRelease::Current).await;
    tokio::join!(
        follows("http", &server, "BY_HTTP"),
        follows("grpc", &server, "BY_GRPC")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_events_without_a_trace_begins_one() {
    for (sampler, expect) in [("parentbased_always_on", 1), ("parentbased_always_off", 0)] {
        let (collector, sink) = (Collector::start(0).await, Sink::start().await);
        let rules = format!(
            "targets: {{ f: {{ http: {{ url: \"{}\" }} }} }}\nrules: {{ all: {{ to: f }} }}\n",
            sink.url()
        );
        let endpoint = collector.url();
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_TRACES_SAMPLER", sampler),
        ];
        let mut bus = Bus::start_with(&rules, &environment).await;
        send(&bus, "1", &[]).await;
        until("it has arrived", async || sink.arrived() == 1).await;
        until("it is settled", async || {
            bus.counts("all").await["delivered"] == 1
        })
        .await;
        // What is queued is exported at the end.
        bus.terminate().await;
        let spans = collector.spans();
        let roots = spans.iter().filter(|span| span.parent_span_id.is_empty());
        let receives: Vec<_> = roots.map(|span| &span.name).collect();
        assert_eq!(receives.len(), expect, "{spans:?}");
        let called = &sink.received()[0];
        if expect == 0 {
            assert_eq!(spans, []);
            assert_eq!(called.header("traceparent"), "");
            continue;
        }
        assert_eq!(receives, ["receive ingress"]);
        let attempt = spans.iter().find(|span| span.name == "attempt f").unwrap();
        let root = spans
            .iter()
            .find(|span| span.parent_span_id.is_empty())
            .unwrap();
        let header = |span: &[u8]| {
            format!(
                "00-{}-{}-03",
                hexadecimal(&root.trace_id),
                hexadecimal(span)
            )
        };
        assert_eq!(called.header("traceparent"), header(&attempt.span_id));
        assert_eq!(called.header("ce-traceparent"), header(&root.span_id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_or_is_not_there_costs_nobody_anything() {
    const EVENTS: usize = 3_000;
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in [hanging, "http://127.0.0.1:9".to_owned()] {
        let sink = Sink::counting().await;
        let rules = format!(
            "traces: {{ sample: 1, otlp: {{ endpoint: \"{endpoint}\" }} }}
targets: {{ f: {{ http: {{ url: \"{}\" }} }} }}
rules: {{ all: {{ to: f }} }}
",
            sink.url()
        );
        let mut bus = Bus::start(&rules).await;
        let (caller, url) = (Caller::new(), bus.url("/events"));
        let batches = (0..EVENTS).collect::<Vec<_>>();
        for batch in batches.chunks(500) {
            let events = batch.iter().map(|id| {
                format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"}}"#)
            });
            let body = format!("[{}]", events.collect::<Vec<_>>().join(","));
            let headers = [("content-type", "application/cloudevents-batch+json")];
            let sent = caller
                .call(Method::POST, &url, &headers, body)
                .await
                .unwrap();
            assert_eq!(sent.0, 202);
        }
        until("all have arrived", async || sink.arrived() == EVENTS).await;
        let (_, metrics) = caller.get(&bus.admin_url("/metrics")).await.unwrap();
        let metrics = String::from_utf8(metrics.to_vec()).unwrap();
        let dropped = metrics
            .lines()
            .find_map(|line| line.strip_prefix("pointsman_trace_spans_dropped_total "));
        assert!(dropped.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
        let asked = Instant::now();
        bus.terminate().await;
        assert!(
            asked.elapsed() < Duration::from_secs(6),
            "{:?}",
            asked.elapsed()
        );
        let told = bus.log();
        let count = |what: &str| told.matches(what).count();
        assert!(count("spans of traces are left out") <= 3, "{told}");
        if endpoint.ends_with(":9") {
            assert_eq!(count("spans of traces cannot be exported"), 1, "{told}");
        }
    }
}
