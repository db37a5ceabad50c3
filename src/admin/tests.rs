//! The API over a journal, with real requests.

mod document;

use std::collections::BTreeMap;

use pointsman_connectors::listener::Refusal;
use pointsman_schemas::SubscriptionNumber;
use serde_json::{Value, json};

use super::routes::document;
use super::testing::{DATA, NOON, TestBus, name, settle};
use super::{AdminListener, AdminSettings};
use crate::dispatcher::LaneReason;
use pointsman_journal::{Activity, Ending, Journal, JournalError};

const KEY: &str = "a-key-of-the-operator-7";
const VERBS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[tokio::test]
async fn an_address_that_cannot_be_had_is_told() {
    let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let held = holder.local_addr().unwrap().to_string();
    for (address, expect) in [
        (
            &*held,
            format!("cannot listen on {held} for the admin API: "),
        ),
        (
            "127.0.0.1",
            "cannot listen on 127.0.0.1 for the admin API: ".to_owned(),
        ),
        (
            "0.0.0.0:0",
            "refusing to serve the admin API on 0.0.0.0:0 without keys".to_owned(),
        ),
    ] {
        let settings = AdminSettings {
            address: address.into(),
            auth: Vec::new(),
            viewers: Vec::new(),
        };
        let error = AdminListener::bind(&settings)
            .await
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.starts_with(&expect), "{address}: {error}");
    }
    let local = AdminListener::bind(&AdminSettings {
        address: "localhost:0".into(),
        auth: Vec::new(),
        viewers: Vec::new(),
    })
    .await
    .unwrap();
    assert!(local.address().ip().is_loopback());
}

#[tokio::test]
async fn a_bus_is_ready_when_nothing_is_missing() {
    let bus = TestBus::start(&[]).await;
    assert_eq!(
        bus.get("/readyz").await,
        (200, json!({ "status": "ready" }))
    );
    bus.overview
        .missing
        .lock()
        .push("the rules are not loaded".into());
    bus.journal
        .set_trouble(Some(JournalError::Io("disk on fire".into())));
    let (status, problem) = bus.get("/readyz").await;
    assert_eq!(
        (status, &problem["missing"]),
        (
            503,
            &json!(["the store failed: disk on fire", "the rules are not loaded"])
        )
    );
    assert_eq!(
        bus.get("/healthz").await.0,
        200,
        "a bus that waits is alive"
    );
    assert_eq!(bus.get("/api/v1/status").await.1["ready"], false);
}

#[tokio::test]
async fn what_there_is_is_shown() {
    let bus = TestBus::start(&[]).await;
    let (_, status) = bus.get("/api/v1/status").await;
    assert_eq!(
        (
            &status["uptime_seconds"],
            &status["deliveries"]["created"],
            &status["totals"]["rejects"]
        ),
        (&json!(60.0), &json!(6), &json!(1))
    );
    let slow = (SubscriptionNumber(1), LaneReason::Slow);
    bus.overview.lanes.lock().extend([slow]);
    let (_, subscriptions) = bus.get("/api/v1/subscriptions").await;
    let first = &subscriptions["items"][0];
    assert_eq!(
        *first,
        json!({
            "number": 1, "tenant": "default", "rule": "thumbnails", "role": "to", "target": "thumbnailer", "attached": true,
            "activity": "active", "paused": null, "lane": "own", "lane_reason": "slow", "created": 3, "delivered": 1, "dead": 1, "redriven": 0, "purged": 0, "cancelled": 0, "quarantined": 0,
            "pending": 1, "retrying": 1, "in_flight": 0, "oldest_pending": NOON.to_string(), "oldest_pending_age_seconds": 0.0,
        })
    );
    assert_eq!(
        bus.get("/api/v1/sources").await.1["items"][0]["state"],
        "waiting"
    );
    assert_eq!(
        bus.get("/api/v1/rules").await.1["items"][0]["conditions"],
        json!({ "match": { "type": ["photo"] } })
    );
    assert_eq!(
        bus.get("/api/v1/quotas").await.1["items"],
        json!([
            { "tenant": "default", "rule": null, "rate": "100/s", "rate_share": null, "in_flight": 0, "in_flight_max": 20, "share": 7, "pending": 1, "backlog_max": null, "when_full": null },
            { "tenant": "default", "rule": "thumbnails", "rate": "100/s", "rate_share": null, "in_flight": 0, "in_flight_max": 20, "share": 7, "pending": 1, "backlog_max": null, "when_full": null },
        ])
    );
    assert_eq!(
        bus.get("/api/v1/targets").await.1["items"][0]["circuit"],
        "closed"
    );
    let event = bus.ask("GET", "/api/v1/events/2", &[], "").await;
    let text = String::from_utf8(event.body.to_vec()).unwrap();
    assert!(
        text.contains(DATA) && text.contains(r#""sequence":2,"#),
        "{text}"
    );
    assert_eq!(bus.get("/api/v1/events/last").await.1["sequence"], 3);
}

#[tokio::test]
async fn a_subscription_is_suspended_and_resumed() {
    let bus = TestBus::start(&[]).await;
    for (verb, activity) in [
        ("suspend", Activity::Suspended),
        ("resume", Activity::Active),
        ("resume", Activity::Active),
    ] {
        let (status, answer) = bus
            .post(&format!("/api/v1/subscriptions/1/{verb}"), "")
            .await;
        assert_eq!(
            (status, &answer["activity"], &answer["number"]),
            (200, &json!(activity), &json!(1))
        );
        let statuses = bus.journal.reader().subscriptions().await.unwrap();
        assert_eq!(
            (statuses[0].activity, statuses[1].activity),
            (activity, Activity::Active)
        );
    }
}

#[tokio::test]
async fn dead_letters_are_listed_in_parts_and_by_filter() {
    let bus = TestBus::start(&[]).await;
    let all: Vec<Value> = bus
        .dead()
        .await
        .iter()
        .map(|id| json!(id.to_string()))
        .collect();
    let (mut seen, mut path) = (Vec::new(), "/api/v1/dead?limit=2".to_owned());
    loop {
        let (_, page) = bus.get(&path).await;
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|letter| letter["id"].clone()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        assert_eq!(seen.last().unwrap(), next);
        path = format!("/api/v1/dead?limit=2&after={next}");
    }
    assert_eq!((seen.len(), &seen), (5, &all));
    for (filter, expect) in [
        ("rule=thumbnails", 1),
        ("target=archive", 3),
        ("reason=expired", 1),
        ("reason=unreadable", 1),
        ("tenant=default", 5),
        ("tenant=other", 0),
        ("rule=thumbnails&reason=expired", 0),
    ] {
        let (_, page) = bus.get(&format!("/api/v1/dead?{filter}")).await;
        assert_eq!(
            (page["items"].as_array().unwrap().len(), page.get("next")),
            (expect, None),
            "{filter}"
        );
    }
}

#[tokio::test]
async fn a_dead_letter_is_shown_whole() {
    let bus = TestBus::start(&[]).await;
    for id in bus.dead().await {
        let answer = bus.ask("GET", &format!("/api/v1/dead/{id}"), &[], "").await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let letter: Value = serde_json::from_str(&text).unwrap();
        if letter["reason"] == "unreadable" {
            assert_eq!(
                (&letter["raw"], &letter["message"]),
                (
                    &json!("no JSON\u{1b}[2J"),
                    &json!("expected value at line 1 column 1")
                )
            );
            assert_eq!(letter.get("event"), None);
        } else {
            assert!(text.contains(DATA), "data is as it came in: {text}");
            assert_eq!(
                (&letter["event"]["type"], &letter["last"]["code"]),
                (&json!("photo"), &json!(400))
            );
            assert_eq!(
                (&letter["last"]["class"], &letter["at"]),
                (&json!("rejected"), &json!(NOON.to_string()))
            );
        }
    }
}

#[tokio::test]
async fn dead_letters_are_redriven_and_purged_as_selected() {
    let bus = TestBus::start(&[]).await;
    let id = bus
        .dead()
        .await
        .into_iter()
        .find(|id| id.subscription.0 == 1)
        .unwrap();
    let ids = json!({ "ids": [id.to_string()] }).to_string();
    assert_eq!(
        bus.post("/api/v1/dead/redrive", &ids).await,
        (200, json!({ "redriven": 1 }))
    );
    assert_eq!(
        bus.post("/api/v1/dead/redrive", &ids).await,
        (200, json!({ "redriven": 0 })),
        "it is no dead letter any more"
    );
    let both = r#"{"rule":"audit","reason":"expired"}"#;
    assert_eq!(
        bus.post("/api/v1/dead/purge", both).await,
        (200, json!({ "purged": 1 }))
    );
    assert_eq!(
        bus.post("/api/v1/dead/redrive", r#"{"rule":"audit"}"#)
            .await,
        (200, json!({ "redriven": 2 }))
    );
    assert_eq!(
        bus.post("/api/v1/dead/purge", r#"{"all":true}"#).await,
        (200, json!({ "purged": 1 })),
        "the reject is left"
    );
}

/// Reads the text format: `name{labels} value` to name, rule and value.
fn samples(text: &str) -> BTreeMap<(String, String), f64> {
    let sample = |line: &str| {
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = key.split_once('{').unwrap_or((key, ""));
        let rule = labels
            .split_once("rule=\"")
            .map_or("", |(_, rest)| rest.split('"').next().unwrap());
        ((name.to_owned(), rule.to_owned()), value.parse().unwrap())
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(sample)
        .collect()
}

#[tokio::test]
async fn the_law_of_conservation_is_served() {
    let bus = TestBus::start(&[]).await;
    let subscriptions = bus.journal.reader().subscriptions().await.unwrap();
    let thumbnails = subscriptions
        .iter()
        .find(|status| status.identity.rule == name("thumbnails"))
        .unwrap()
        .number;
    let mut seen = Vec::new();
    for step in 0..4 {
        match step {
            1 => drop(
                bus.post("/api/v1/dead/redrive", r#"{"rule":"thumbnails"}"#)
                    .await,
            ),
            2 => settle(&*bus.journal, thumbnails, [Ending::Delivered]).await,
            3 => drop(
                bus.post(
                    "/api/v1/dead/purge",
                    r#"{"rule":"audit","reason":"expired"}"#,
                )
                .await,
            ),
            _ => {}
        }
        let answer = bus.ask("GET", "/metrics", &[], "").await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(
            text.ends_with("# EOF\n")
                && answer.headers["content-type"]
                    .to_str()
                    .unwrap()
                    .starts_with("application/openmetrics-text")
        );
        let samples = samples(&text);
        let of = |name: &str, rule: &str| samples[&(format!("pointsman_{name}"), rule.to_owned())];
        for rule in ["thumbnails", "audit"] {
            let ended = [
                "delivered",
                "redriven",
                "purged",
                "cancelled",
                "quarantined",
            ]
            .map(|name| of(&format!("subscription_{name}_total"), rule));
            let there = of("subscription_dead", rule) + of("subscription_pending", rule);
            assert_eq!(
                of("subscription_created_total", rule),
                ended.iter().sum::<f64>() + there,
                "{rule} at step {step}"
            );
        }
        let thumbnails = [
            "subscription_created_total",
            "subscription_delivered_total",
            "subscription_redriven_total",
        ]
        .map(|name| of(name, "thumbnails"));
        seen.push((thumbnails, of("subscription_purged_total", "audit")));
        assert_eq!(
            (of("store_readable", ""), of("subscription_active", "audit")),
            (1.0, 1.0)
        );
        assert!(
            text.contains("\npointsman_source_up{tenant=\"default\",source=\"orders\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "\npointsman_source_lag_messages{tenant=\"default\",source=\"orders\"} 12\n"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "\npointsman_source_skipped_total{tenant=\"default\",source=\"orders\"} 900\n"
            ),
            "{text}"
        );
    }
    assert_eq!(
        seen,
        [
            ([3.0, 1.0, 0.0], 0.0),
            ([4.0, 1.0, 1.0], 0.0),
            ([4.0, 2.0, 1.0], 0.0),
            ([4.0, 2.0, 1.0], 1.0)
        ]
    );
}

#[tokio::test]
async fn a_store_that_cannot_be_read_does_not_hide_the_rest() {
    let bus = TestBus::start(&[]).await;
    bus.journal.close().await;
    let answer = bus.ask("GET", "/metrics", &[], "").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status, 200);
    assert!(
        text.contains("\npointsman_store_readable 0\n") && text.contains("\npointsman_build_info{"),
        "{text}"
    );
    let (status, problem) = bus.get("/api/v1/subscriptions").await;
    assert_eq!(
        (status, &problem["detail"]),
        (503, &json!("the journal is closed"))
    );
}

#[tokio::test]
async fn a_change_with_a_key_is_made_once() {
    let other = "another-key-of-somebody-8";
    let bus = TestBus::start(&[KEY, other]).await;
    let ids = bus.dead().await;
    let of_one = ids.iter().find(|id| id.subscription.0 == 1).unwrap();
    let one = json!({ "ids": [of_one.to_string()] }).to_string();
    let ask = async |path: &str, caller: &str, key: &str, body: &str| {
        let authorization = format!("Bearer {caller}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", &*authorization),
            ("idempotency-key", key),
        ];
        let answer = bus.ask("POST", path, &headers, body).await;
        let replayed = answer.headers.get("idempotent-replayed").cloned();
        (answer.status.as_u16(), replayed.is_some(), answer.body)
    };
    let redrive = "/api/v1/dead/redrive";
    let first = ask(redrive, KEY, "\"k\"", &one).await;
    assert_eq!(
        (first.0, first.1, &first.2[..]),
        (200, false, &br#"{"redriven":1}"#[..])
    );
    let again = ask(redrive, KEY, "\"k\"", &one).await;
    assert_eq!((again.0, again.1, &again.2), (200, true, &first.2));
    let new = ask(redrive, KEY, "\"l\"", &one).await;
    assert_eq!(
        (new.0, new.1, &new.2[..]),
        (200, false, &br#"{"redriven":0}"#[..])
    );
    let elses = ask(redrive, other, "\"k\"", &one).await;
    assert_eq!(
        (elses.0, elses.1, &elses.2[..]),
        (200, false, &br#"{"redriven":0}"#[..])
    );
    for (path, body) in [
        (redrive, r#"{"rule":"audit"}"#),
        ("/api/v1/dead/purge", &*one),
    ] {
        let (status, replayed, body) = ask(path, KEY, "\"k\"", body).await;
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, replayed, &problem["status"]),
            (422, false, &json!(422))
        );
    }
    // What is refused is refused again; what is no key is refused at once.
    for expect in [false, true] {
        let (status, replayed, _) = ask(redrive, KEY, "\"m\"", "{}").await;
        assert_eq!((status, replayed), (400, expect));
    }
    for bad in ["", "\"", "a b", &"k".repeat(256)] {
        assert_eq!(ask(redrive, KEY, bad, &one).await.0, 400, "{bad}");
    }
    assert_eq!(bus.dead().await.len(), ids.len() - 1);
}

#[tokio::test]
async fn a_page_elsewhere_reads_and_changes_nothing() {
    let bus = TestBus::start(&[]).await;
    let json = ("content-type", "application/json");
    for (header, expect) in [
        (("host", "evil.example"), 421),
        (("origin", "https://evil.example"), 403),
    ] {
        let answer = bus
            .ask(
                "POST",
                "/api/v1/dead/purge",
                &[json, header],
                r#"{"all":true}"#,
            )
            .await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["content-type"]),
            (expect, &Refusal::MEDIA_TYPE.parse().unwrap()),
            "{header:?}"
        );
    }
    assert_eq!(
        bus.ask("GET", "/api/v1/dead", &[("host", "evil.example")], "")
            .await
            .status,
        421
    );
    assert_eq!(bus.dead().await.len(), 5);
}

#[tokio::test]
async fn a_key_shows_nowhere() {
    let (logged, _guard) = crate::telemetry::testing::capture("trace", false);
    let bus = TestBus::start(&[KEY]).await;
    let wrong = format!("Bearer {KEY}x");
    for (authorization, expect) in [(&*wrong, 401), (&wrong[..wrong.len() - 1], 200)] {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", authorization),
        ];
        for (verb, path) in [
            ("GET", "/metrics"),
            ("GET", "/api/v1/status"),
            ("POST", "/api/v1/dead/purge"),
        ] {
            let answer = bus.ask(verb, path, &headers, r#"{"all":true}"#).await;
            assert_eq!(answer.status, expect, "{verb} {path}");
            assert!(
                !format!(
                    "{:?} {}",
                    answer.headers,
                    String::from_utf8_lossy(&answer.body)
                )
                .contains(KEY)
            );
        }
    }
    let logged = logged.text();
    assert!(
        logged.contains("dead letters were purged")
            && logged.contains("selection=all")
            && !logged.contains(KEY),
        "{logged}"
    );
}
