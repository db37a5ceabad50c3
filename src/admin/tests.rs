//! The API over a journal, with real requests.

use std::collections::BTreeMap;

use pointsman_connectors::listener::Refusal;
use pointsman_schemas::SubscriptionNumber;
use serde_json::{Value, json};

use super::testing::{DATA, NOON, TestBus, name, settle};
use super::{AdminListener, AdminSettings};
use pointsman_journal::{Activity, Ending, Journal, JournalError};

const KEY: &str = "a-key-of-the-operator-7";
const VERBS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Every route: its path, the verb it has, what is sent, and what a bus answers. `{dead}` is a dead
/// letter's id, `{task}` a task's.
const ROUTES: [(&str, &str, &str, u16); 20] = [
    ("/healthz", "GET", "", 200),
    ("/readyz", "GET", "", 200),
    ("/metrics", "GET", "", 200),
    ("/api/v1/status", "GET", "", 200),
    ("/api/v1/sources", "GET", "", 200),
    ("/api/v1/rules", "GET", "", 200),
    ("/api/v1/targets", "GET", "", 200),
    ("/api/v1/subscriptions", "GET", "", 200),
    ("/api/v1/subscriptions/1/suspend", "POST", "", 200),
    ("/api/v1/subscriptions/1/resume", "POST", "", 200),
    ("/api/v1/dead", "GET", "", 200),
    ("/api/v1/dead/{dead}", "GET", "", 200),
    ("/api/v1/tasks", "GET", "", 200),
    ("/api/v1/tasks/{task}", "GET", "", 200),
    ("/api/v1/tasks/cancel", "POST", r#"{"ids":[]}"#, 200),
    ("/api/v1/events", "GET", "", 200),
    ("/api/v1/events/1", "GET", "", 200),
    ("/api/v1/events/1/explain", "GET", "", 200),
    ("/api/v1/dead/redrive", "POST", r#"{"rule":"nobody"}"#, 200),
    ("/api/v1/dead/purge", "POST", r#"{"rule":"nobody"}"#, 200),
];

#[tokio::test]
async fn every_route_knows_its_verbs_and_asks_for_its_key() {
    let authorization = format!("Bearer {KEY}");
    for keys in [&[][..], &[KEY]] {
        let bus = TestBus::start(keys).await;
        let dead = bus.dead().await[0].to_string();
        let reader = bus.journal.reader();
        let task = reader
            .pending(SubscriptionNumber(1), None, 1)
            .await
            .unwrap()[0]
            .id;
        for (path, own, body, expect) in ROUTES {
            let path = path.replace("{dead}", &dead);
            let path = path.replace("{task}", &task.to_string());
            for verb in VERBS {
                let has = verb == own || (verb == "HEAD" && own == "GET");
                let expect = if has { expect } else { 405 };
                let body = if has { body } else { "" };
                let headers = [
                    ("content-type", "application/json"),
                    ("authorization", &*authorization),
                ];
                let answer = bus.ask(verb, &path, &headers, body).await;
                assert_eq!(answer.status, expect, "{verb} {path}: {:?}", answer.body);
                if !has {
                    let allow = if own == "GET" { "GET,HEAD" } else { own };
                    assert_eq!(
                        (&answer.headers["allow"], &answer.headers["content-type"]),
                        (
                            &allow.parse().unwrap(),
                            &Refusal::MEDIA_TYPE.parse().unwrap()
                        )
                    );
                }
                let open = keys.is_empty() || ["/healthz", "/readyz"].contains(&&*path);
                let answer = bus.ask(verb, &path, &headers[..1], body).await;
                assert_eq!(
                    answer.status,
                    if open { expect } else { 401 },
                    "{verb} {path} without a key"
                );
                assert_eq!(answer.headers.get("access-control-allow-origin"), None);
                assert_eq!(answer.headers["cache-control"], "no-store");
            }
        }
    }
}

#[tokio::test]
async fn whatever_is_no_success_is_a_problem_document() {
    let bus = TestBus::start(&[]).await;
    let json = "application/json";
    let many = format!(r#"{{"ids":[{}]}}"#, vec![r#""x""#; 10_001].join(","));
    let large = format!(r#"{{"rule":"{}"}}"#, "x".repeat(1024 * 1024));
    let foreign = "00000000000000aa-1-1-0";
    for (verb, path, content_type, body, expect, detail) in [
        (
            "GET",
            "/",
            "",
            "",
            404,
            "there is no / here; the API is under /api/v1/",
        ),
        (
            "GET",
            "/api/v1/nothing",
            "",
            "",
            404,
            "there is no /api/v1/nothing here",
        ),
        (
            "GET",
            "/api/v1/dead?limit=0",
            "",
            "",
            400,
            "limit is 0; it lies between 1 and 1000",
        ),
        (
            "GET",
            "/api/v1/dead?limit=1001",
            "",
            "",
            400,
            "limit is 1001",
        ),
        (
            "GET",
            "/api/v1/dead?limit=-1",
            "",
            "",
            400,
            "Failed to deserialize query string: limit",
        ),
        (
            "GET",
            "/api/v1/dead?rule=a.b",
            "",
            "",
            400,
            "Failed to deserialize query string: rule: the name \"a.b\"",
        ),
        (
            "GET",
            "/api/v1/dead?tenant=..%2f",
            "",
            "",
            400,
            "Failed to deserialize query string: tenant: the name \"../\"",
        ),
        (
            "GET",
            "/api/v1/dead?reason=bored",
            "",
            "",
            400,
            "Failed to deserialize query string: reason: unknown variant",
        ),
        (
            "GET",
            "/api/v1/dead?rul=a",
            "",
            "",
            400,
            "Failed to deserialize query string: rul: unknown field",
        ),
        (
            "GET",
            "/api/v1/dead?after=1",
            "",
            "",
            400,
            "\"1\" is not the id of a delivery",
        ),
        (
            "GET",
            "/api/v1/dead/x",
            "",
            "",
            400,
            "\"x\" is not the id of a delivery",
        ),
        (
            "GET",
            &format!("/api/v1/dead/{foreign}"),
            "",
            "",
            404,
            "there is no dead letter 00000000000000aa-1-1-0",
        ),
        (
            "GET",
            "/api/v1/events?limit=1001",
            "",
            "",
            400,
            "limit is 1001",
        ),
        (
            "GET",
            "/api/v1/events?since=yesterday",
            "",
            "",
            400,
            "since is \"yesterday\"; write it as",
        ),
        (
            "GET",
            "/api/v1/events?since=2026-01-31T09:30:00Z&after=1",
            "",
            "",
            400,
            "since and after exclude each other",
        ),
        (
            "GET",
            "/api/v1/events/x",
            "",
            "",
            400,
            "\"x\" is not the sequence of an event",
        ),
        (
            "GET",
            "/api/v1/events/99",
            "",
            "",
            404,
            "there is no event 99",
        ),
        ("GET", "/api/v1/events/%ff", "", "", 400, "Invalid URL"),
        (
            "GET",
            "/api/v1/events/99/explain",
            "",
            "",
            404,
            "there is no event 99",
        ),
        (
            "GET",
            "/api/v1/events/1/explain?limit=0",
            "",
            "",
            400,
            "limit is 0; it lies between 1 and 100",
        ),
        (
            "GET",
            "/api/v1/events/1/explain?rule=A",
            "",
            "",
            400,
            "Failed to deserialize query string: rule: the name \"A\"",
        ),
        (
            "GET",
            "/api/v1/events/1/explain?rule=nobody",
            "",
            "",
            404,
            "there is no rule nobody of tenant default",
        ),
        (
            "POST",
            "/api/v1/subscriptions/x/suspend",
            "",
            "",
            400,
            "\"x\" is not the number of a subscription",
        ),
        (
            "POST",
            "/api/v1/subscriptions/99/resume",
            "",
            "",
            404,
            "there is no subscription",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            "",
            r#"{"all":true}"#,
            415,
            "Content-Type is \"\"; send application/json",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            "text/plain",
            r#"{"all":true}"#,
            415,
            "Content-Type is \"text/plain\"",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            "",
            400,
            "the body is not a selection: EOF",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            "{}",
            400,
            "nothing is selected",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"all":false}"#,
            400,
            "nothing is selected",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"all":true,"rule":"a"}"#,
            400,
            "all and a narrower selection exclude each other",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"ids":[]}"#,
            400,
            "ids holds 1 to 10000 ids",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            &many,
            400,
            "ids holds 1 to 10000 ids",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"ids":["x"]}"#,
            400,
            "\"x\" is not the id of a delivery",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"rules":"a"}"#,
            400,
            "the body is not a selection: unknown field `rules`",
        ),
        (
            "POST",
            "/api/v1/dead/redrive",
            json,
            r#"{"target":"A"}"#,
            400,
            "the body is not a selection: the name \"A\"",
        ),
        (
            "POST",
            "/api/v1/dead/redrive",
            json,
            &large,
            413,
            "Failed to buffer the request body",
        ),
    ] {
        let headers = if content_type.is_empty() {
            &[][..]
        } else {
            &[("content-type", content_type)][..]
        };
        let answer = bus.ask(verb, path, headers, body).await;
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (answer.status.as_u16(), problem["status"].as_u64()),
            (expect, Some(u64::from(expect))),
            "{verb} {path}: {problem}"
        );
        assert_eq!(answer.headers["content-type"], Refusal::MEDIA_TYPE);
        assert!(
            problem["detail"].as_str().unwrap().starts_with(detail),
            "{verb} {path}: {problem}"
        );
    }
    assert_eq!(
        bus.dead().await.len(),
        5,
        "nothing of this changes anything"
    );
}

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
    let (_, subscriptions) = bus.get("/api/v1/subscriptions").await;
    let first = &subscriptions["items"][0];
    assert_eq!(
        *first,
        json!({
            "number": 1, "tenant": "default", "rule": "thumbnails", "role": "to", "target": "thumbnailer", "attached": true,
            "activity": "active", "paused": null, "created": 3, "delivered": 1, "dead": 1, "redriven": 0, "purged": 0, "cancelled": 0, "quarantined": 0,
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
