//! What is shown of a bus, and what keys do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

use super::sample::{BusLine, SubscriptionLine};
use super::state::{Order, Tab};
use super::*;
use crate::admin::testing::TestBus;

const METRICS: &str = "\
pointsman_attempt_duration_seconds_bucket{tenant=\"default\",target=\"function\",class=\"delivered\",le=\"0.01\"} 90\n\
pointsman_attempt_duration_seconds_bucket{tenant=\"default\",target=\"function\",class=\"delivered\",le=\"0.1\"} 100 # {a=\"b\"} 1\n\
pointsman_attempt_duration_seconds_bucket{tenant=\"default\",target=\"function\",class=\"delivered\",le=\"+Inf\"} 100\n\
pointsman_attempt_duration_seconds_bucket{tenant=\"default\",target=\"function\",class=\"failed\",le=\"0.01\"} 0\n\
pointsman_attempt_duration_seconds_bucket{tenant=\"default\",target=\"function\",class=\"failed\",le=\"0.1\"} 0\n\
pointsman_attempt_duration_seconds_bucket{tenant=\"default\",target=\"function\",class=\"failed\",le=\"+Inf\"} 2\n\
pointsman_attempt_duration_seconds_bucket{class=\"failed\",le=\"+Inf\"} 2\n\
pointsman_events_total 7\n";

fn line(number: u32, rule: &str, delivered: u64, pending: u64) -> SubscriptionLine {
    SubscriptionLine {
        number,
        tenant: "default".into(),
        rule: rule.into(),
        role: "to".into(),
        target: "function".into(),
        attached: true,
        activity: "active".into(),
        lane: "shared".into(),
        delivered,
        pending,
        ..SubscriptionLine::default()
    }
}

fn sample(at: Instant, subscriptions: Vec<SubscriptionLine>, metrics: &str) -> Sample {
    let target = serde_json::json!({
        "name": "function", "tenant": "default", "kind": "http", "circuit": "open",
        "since": "", "last_error": "connection\nrefused", "in_flight": 3, "limit": 8,
    });
    Sample {
        at,
        bus: BusLine {
            version: "0.1.0".into(),
            uptime_seconds: 7_300.0,
            ready: false,
            missing: vec!["still starting".into()],
        },
        sources: Vec::new(),
        subscriptions,
        targets: vec![serde_json::from_value(target).unwrap()],
        latencies: latency::read(metrics),
    }
}

/// Two seconds apart.
fn two() -> (Sample, Sample) {
    let began = Instant::now();
    let before = vec![
        line(1, "a", 100, 5),
        line(2, "b", 50, 0),
        line(3, "c", 900, 0),
    ];
    let mut now = vec![
        line(1, "a", 101, 5),
        line(2, "b", 250, 0),
        line(3, "c", 8, 9),
    ];
    now[0].paused = Some("401".into());
    now[1].oldest_pending_age_seconds = Some(75.0);
    now[2].dead = 4;
    let later = began + Duration::from_secs(2);
    (sample(began, before, ""), sample(later, now, METRICS))
}

fn drawn(top: &mut Top) -> String {
    let mut terminal = Terminal::new(TestBackend::new(132, 10)).unwrap();
    terminal.draw(|frame| screen::draw(frame, top)).unwrap();
    terminal.backend().to_string()
}

fn press(top: &mut Top, code: KeyCode) -> Step {
    top.press(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

#[test]
fn rates_are_what_happened_between_two_looks() {
    let (before, now) = two();
    let view = View::between(&before, &now);
    let rates: Vec<f64> = view.subscriptions.iter().map(|one| one.delivered).collect();
    // The last one counts anew: another process does.
    assert_eq!(rates, [0.5, 100.0, 4.0]);
    let states: Vec<&str> = view.subscriptions.iter().map(|one| &*one.state).collect();
    assert_eq!(states, ["refused", "active", "active"]);
    let target = &view.targets[0];
    assert_eq!((target.attempts, target.failed), (51.0, 1.0));
    assert_eq!((target.p50_seconds, target.p99_seconds), (Some(0.01), None));
    let same = View::between(&now, &now);
    assert_eq!(
        (same.targets[0].attempts, same.targets[0].p50_seconds),
        (0.0, Some(0.01))
    );
}

#[test]
fn a_quantile_is_that_of_the_bucket_it_falls_into() {
    let all = latency::read(METRICS);
    let key = ("default".to_owned(), "function".to_owned());
    assert_eq!(all.keys().collect::<Vec<_>>(), [&key]);
    let quantiles = [0.0, 0.5, 0.88, 0.9, 0.98, 0.99].map(|part| all[&key].quantile(part));
    let expect = [
        Some(0.01),
        Some(0.01),
        Some(0.01),
        Some(0.1),
        Some(0.1),
        None,
    ];
    assert_eq!(quantiles, expect);
    assert_eq!(latency::Latency::default().quantile(0.5), None);
    assert_eq!(
        latency::read("nonsense{\npointsman_attempt_duration_seconds_bucket{} x\n"),
        BTreeMap::new()
    );
}

#[test]
fn the_screen_shows_each_table_and_one_row_whole() {
    let (before, now) = two();
    let mut top = Top::new(
        View::between(&before, &now),
        "http://127.0.0.1:8081/".into(),
    );
    insta::assert_snapshot!("subscriptions", drawn(&mut top));
    press(&mut top, KeyCode::Char('3'));
    insta::assert_snapshot!("targets", drawn(&mut top));
    press(&mut top, KeyCode::Enter);
    let whole = drawn(&mut top);
    assert!(
        whole.contains("\"kind\": \"http\"") && whole.contains("esc goes back"),
        "{whole}"
    );
    assert_eq!(press(&mut top, KeyCode::Esc), Step::Stay);
    assert!(!drawn(&mut top).contains("esc goes back"));
    assert_eq!(press(&mut top, KeyCode::Esc), Step::Quit);
    insta::assert_snapshot!("text", screen::as_text(&top.view));
}

#[test]
fn keys_sort_choose_and_hold() {
    let (before, now) = two();
    let mut top = Top::new(View::between(&before, &now), String::new());
    let rules = |top: &Top| -> String {
        top.view
            .subscriptions
            .iter()
            .map(|one| &*one.rule)
            .collect()
    };
    for (order, expect) in [
        (Order::Rate, "bca"),
        (Order::Backlog, "cab"),
        (Order::Time, "bac"),
        (Order::Errors, "cab"),
        (Order::Name, "abc"),
        (Order::Rate, "bca"),
    ] {
        assert_eq!((top.order, &*rules(&top)), (order, expect));
        press(&mut top, KeyCode::Char('s'));
    }
    press(&mut top, KeyCode::Char('r'));
    assert_eq!((top.order, &*rules(&top)), (Order::Backlog, "bac"));
    press(&mut top, KeyCode::Char('p'));
    top.show(View::default());
    assert_eq!(rules(&top), "bac", "it is held");
    press(&mut top, KeyCode::Char('p'));
    top.show(View::default());
    assert_eq!(rules(&top), "");
    press(&mut top, KeyCode::Tab);
    assert_eq!(top.tab, Tab::Sources);
    let stop = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(top.press(&Event::Key(stop)), Step::Quit);
}

#[tokio::test]
async fn a_bus_is_asked_for_everything() {
    let bus = TestBus::start(&[]).await;
    let client = Client::new(format!("http://{}", bus.address).parse().unwrap(), None).unwrap();
    let sample = Sample::take(&client).await.unwrap();
    let view = View::between(&sample, &sample);
    assert_eq!(
        (
            view.subscriptions.len(),
            view.sources.len(),
            view.targets.len()
        ),
        (sample.subscriptions.len(), 1, 1)
    );
    assert_eq!(
        (&*view.sources[0].state, view.sources[0].lag),
        ("waiting", Some(12))
    );
    assert!(
        view.ready
            && view
                .subscriptions
                .iter()
                .any(|one| one.rule == "thumbnails")
    );
    let nobody = Client::new("http://127.0.0.1:1".parse().unwrap(), None).unwrap();
    let error = Sample::take(&nobody).await.err().unwrap().to_string();
    assert!(error.contains("cannot reach http://127.0.0.1:1"), "{error}");
}
