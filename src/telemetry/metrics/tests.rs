use foldhash::HashSet;
use prometheus_client::encoding::text::encode_registry;

use super::labelled::{CLASSES, EACH_MAX};
use super::*;
use crate::telemetry::JournalSnapshot;
use crate::telemetry::exposition::Exposition;
use pointsman_journal::{Activity, Counts, Role, SubscriptionStatus, Totals};
use pointsman_schemas::{Class, SubscriptionNumber};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// What is served of it.
fn written(registry: &Registry, metrics: &Metrics) -> String {
    let mut text = String::new();
    encode_registry(&mut text, registry).unwrap();
    metrics.histograms().write(&mut text).unwrap();
    text
}

fn identity(rule: &str) -> SubscriptionIdentity {
    SubscriptionIdentity {
        tenant: name("default"),
        rule: name(rule),
        role: Role::To,
        target: name(rule),
    }
}

#[test]
fn what_is_counted_is_served_under_the_names_promised() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry, Timestamp(1_700_000_000_999_999));
    let source = metrics.source(&name("default"), &name("uploads"));
    source.received.inc_by(3);
    source.unmatched.inc();
    source.appended(Duration::from_millis(3), None);
    source.ingested(Duration::from_millis(4), None);
    let identity = SubscriptionIdentity {
        tenant: name("default"),
        rule: name("thumbnails"),
        role: Role::To,
        target: name("thumbnailer"),
    };
    metrics.subscription(&identity).delivered.inc();
    let target = metrics.target(&name("default"), &name("thumbnailer"));
    for class in CLASSES {
        target.attempted(class, Duration::from_millis(7), None);
    }
    let text = written(&registry, &metrics);
    for line in [
        r#"pointsman_events_received_total{tenant="default",source="uploads"} 3"#,
        r#"pointsman_rejects_total{tenant="default",source="uploads"} 0"#,
        "pointsman_events_unmatched_total 1",
        r#"pointsman_deliveries_total{tenant="default",rule="thumbnails",role="to",target="thumbnailer",outcome="delivered"} 1"#,
        r#"pointsman_attempt_duration_seconds_count{tenant="default",target="thumbnailer",class="gone"} 1"#,
        r#"pointsman_attempt_duration_seconds_bucket{le="0.01",tenant="default",target="thumbnailer",class="delivered"} 1"#,
        r#"pointsman_attempt_duration_seconds_bucket{le="0.005",tenant="default",target="thumbnailer",class="delivered"} 0"#,
        "pointsman_append_duration_seconds_count 1",
        "process_start_time_seconds 1700000000",
        concat!(
            "pointsman_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
    ] {
        assert!(
            text.lines().any(|own| own == line),
            "{line} is missing in\n{text}"
        );
    }
    if cfg!(target_os = "linux") {
        assert!(
            text.contains("\nprocess_resident_memory_bytes ")
                && text.contains("\nprocess_open_fds "),
            "{text}"
        );
    }
}

#[test]
fn what_is_gone_leaves_no_labels() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry, Timestamp(0));
    let served = || {
        let text = written(&registry, &metrics);
        // Memory and descriptors of the process change by themselves.
        text.lines()
            .filter(|line| !line.starts_with("process_"))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let before = served();
    for rule in ["stays", "goes", "holds-something"] {
        metrics.source(&name("default"), &name(rule)).received.inc();
        metrics.subscription(&identity(rule)).dead.inc();
        let target = metrics.target(&name("default"), &name(rule));
        for class in CLASSES {
            target.attempted(class, Duration::from_millis(1), None);
        }
    }
    let pair = (name("default"), name("stays"));
    let kept = Kept {
        schemas: Default::default(),
        sources: HashSet::from_iter([pair.clone()]),
        subscriptions: HashSet::from_iter([identity("stays")]),
        targets: HashSet::from_iter([pair]),
    };
    metrics.retain(&kept, |one| one.rule.as_str() == "holds-something");
    let text = served();
    assert!(!text.contains("goes"), "{text}");
    assert!(
        text.contains(r#"pointsman_events_received_total{tenant="default",source="stays"} 1"#),
        "{text}"
    );
    assert_eq!(text.matches("rule=\"stays\"").count(), 5);
    assert_eq!(
        text.matches("rule=\"holds-something\"").count(),
        5,
        "its numbers stay until it holds nothing"
    );
    metrics.retain(&Kept::default(), |_| false);
    assert_eq!(
        served(),
        before,
        "nothing is left of a thousand that come and go"
    );
}

/// Two handles on the same name count together.
#[test]
fn handles_share_their_numbers() {
    let metrics = Metrics::new(&mut Registry::default(), Timestamp(0));
    let name = Name::default_tenant();
    metrics.source(&name, &name).received.inc();
    assert_eq!(metrics.source(&name, &name).received.inc(), 1);
}

/// What one of a kind counts, in each of its numbers.
fn count_one_of_each(metrics: &Metrics, rule: &str) {
    let source = metrics.source(&name("default"), &name(rule));
    source.received.inc_by(2);
    source.rejects.inc();
    metrics.subscription(&identity(rule)).delivered.inc_by(3);
    let target = metrics.target(&name("default"), &name(rule));
    target.attempted(Class::Delivered, Duration::from_millis(7), None);
    target.attempted(Class::Delivered, Duration::from_secs(90), None);
    target.waited(Duration::from_millis(1), None);
    target.delivered(Duration::from_millis(7), None);
}

#[test]
fn many_are_told_as_their_sums_unless_each_is_asked_for() {
    let rules: Vec<String> = (0..=EACH_MAX).map(|n| format!("rule-{n}")).collect();
    let kept = |rules: &[String]| {
        let owned = |rule: &String| (name("default"), name(rule));
        Kept {
            schemas: Default::default(),
            sources: rules.iter().map(owned).collect(),
            subscriptions: rules.iter().map(|rule| identity(rule)).collect(),
            targets: rules.iter().map(owned).collect(),
        }
    };
    for (detail, count, each) in [
        (Detail::Auto, EACH_MAX, true),
        (Detail::Auto, EACH_MAX + 1, false),
        (Detail::Each, EACH_MAX + 1, true),
        (Detail::Summed, 1, false),
    ] {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry, Timestamp(0));
        metrics.set_detail(detail);
        for rule in &rules[..count] {
            count_one_of_each(&metrics, rule);
        }
        let served = || written(&registry, &metrics);
        let text = served();
        let case = format!("{detail:?} of {count}");
        for (kind, lines) in [("source", 3), ("rule", 5), ("target", 5 + 18 + 2 * 15)] {
            let labels = text.matches(&format!("{kind}=\"rule-0\"")).count();
            assert_eq!(labels, if each { lines } else { 0 }, "{case}: {kind}");
        }
        let sums = |text: &str, count: usize| {
            for (series, number) in [
                ("pointsman_events_received_total", 2 * count),
                ("pointsman_events_duplicate_total", 0),
                ("pointsman_rejects_total", count),
                (
                    "pointsman_deliveries_total{outcome=\"delivered\"}",
                    3 * count,
                ),
                ("pointsman_deliveries_total{outcome=\"dead\"}", 0),
                (
                    "pointsman_attempt_duration_seconds_bucket{le=\"0.01\",class=\"delivered\"}",
                    count,
                ),
                (
                    "pointsman_attempt_duration_seconds_bucket{le=\"+Inf\",class=\"delivered\"}",
                    2 * count,
                ),
                (
                    "pointsman_attempt_duration_seconds_count{class=\"delivered\"}",
                    2 * count,
                ),
            ] {
                let line = format!("{series} {number}");
                assert_eq!(
                    text.lines().any(|own| own == line),
                    !each,
                    "{case}: {line} in\n{text}"
                );
            }
        };
        sums(&text, count);
        assert!(
            text.len() < 3_000_000 || detail == Detail::Each,
            "{}",
            text.len()
        );
        // What goes stays in the sums: they never go back.
        metrics.retain(&kept(&rules[1..]), |_| false);
        if detail == Detail::Summed {
            sums(&served(), count);
        }
    }
}

/// What docs/operate/metrics.md says of ten thousand rules.
const SERIES_OF_MANY: usize = 227;

#[test]
fn ten_thousand_rules_are_as_many_series_as_the_page_says() {
    const RULES: u32 = 10_000;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry, Timestamp(0));
    let subscriptions = (0..RULES).map(|number| {
        let rule = format!("rule-{number}");
        count_one_of_each(&metrics, &rule);
        for class in CLASSES {
            let target = metrics.target(&name("default"), &name(&rule));
            target.attempted(class, Duration::from_millis(7), None);
        }
        SubscriptionStatus {
            number: SubscriptionNumber(number),
            identity: identity(&rule),
            attached: true,
            activity: Activity::Active,
            counts: Counts::default(),
            oldest_pending: None,
        }
    });
    let snapshot = JournalSnapshot {
        subscriptions: subscriptions.collect(),
        totals: Totals::default(),
        at: Timestamp(0),
        detail: Detail::Auto,
        own_lanes: [].into(),
        quotas: Vec::new(),
    };
    let mut exposition = Exposition {
        process: written(&registry, &metrics),
        store: String::new(),
    };
    let registry = JournalSnapshot::registry(Ok(snapshot));
    encode_registry(&mut exposition.store, &registry).unwrap();
    let texts = [&exposition.process, &exposition.store];
    let lines = texts.iter().flat_map(|text| text.lines());
    let series = lines.filter(|line| !line.starts_with('#')).count();
    assert_eq!(series, SERIES_OF_MANY);
    let page = include_str!("../../../docs/operate/metrics.md");
    assert!(page.contains(&format!("are {SERIES_OF_MANY} series")));
    // By OTLP a histogram is one point, of these: ingest, append, the seven classes, wait, age.
    #[cfg(feature = "otlp")]
    {
        let histograms = 2 * (12 + 3) + 7 * (15 + 3) + 2 * (12 + 3);
        let expect = series - histograms + 2 + 7 + 2;
        assert_eq!(otlp::points(&exposition), expect);
        assert!(page.contains(&format!("by OTLP {expect} points")));
    }
}
