//! Against a server that holds to what each service documents.

mod services;

use pointsman_schemas::{Class, Data, Event, Outcome};
use serde_json::{Value, json};
use tower::ServiceExt;

use self::services::{answered, text};
use crate::suite::{
    Asked, Canned, Received, Reply, Silent, TargetFixture, attempt, context, parse, targets, with,
};
use crate::{Called, TargetService};

/// One of the services.
struct Kind {
    kind: &'static str,
    /// Where it takes messages.
    path: &'static str,
    /// Settings with texts of the event, and where those stand in what is posted.
    settings: &'static str,
    texts: &'static [&'static str],
    /// Settings with a mistake in them, and where it is told.
    mistakes: &'static [(&'static str, &'static str)],
}

const SLACK: usize = 0;
const TEAMS: usize = 1;
const DISCORD: usize = 2;
const PAGERDUTY: usize = 3;

const KINDS: [Kind; 4] = [
    Kind {
        kind: "slack",
        path: "/services/T/B/hunter2",
        settings: r#"{ "text": "<$.id>" }"#,
        texts: &["/text"],
        mistakes: &[
            (r#"{ "url": "hooks.slack.com" }"#, "url"),
            (r#"{ "url": "https://<$.data.host>/" }"#, "url"),
            (r#"{ "text": "" }"#, "text"),
            (r#"{ "body": { "text": "a" } }"#, "text"),
        ],
    },
    Kind {
        kind: "teams",
        path: "/workflows/hunter2/triggers/manual/paths/invoke?sig=hunter2",
        settings: r#"{ "title": "<$.id>", "text": "<$.type>" }"#,
        texts: &[
            "/attachments/0/content/body/0/inlines/0/text",
            "/attachments/0/content/body/1/text",
        ],
        mistakes: &[(r#"{ "title": "" }"#, "title")],
    },
    Kind {
        kind: "discord",
        path: "/api/webhooks/1/hunter2?wait=true",
        settings: r#"{ "body": { "content": "<$.id>", "embeds": [{ "title": "a" }, { "title": "<$.type>" }] } }"#,
        texts: &["/content", "/embeds/1/title"],
        mistakes: &[(r#"{ "text": "a" }"#, "text")],
    },
    Kind {
        kind: "pagerduty",
        path: "/v2/enqueue",
        settings: r#"{ "summary": "<$.id>", "source": "<$.source>", "dedup_key": "<$.type>" }"#,
        texts: &["/dedup_key", "/payload/summary", "/payload/source"],
        mistakes: &[
            (r#"{ "severity": "fatal" }"#, "severity"),
            (r#"{ "action": "open" }"#, "action"),
            (r#"{ "action": "resolve", "dedup_key": null }"#, "action"),
            (r#"{ "body": {} }"#, "summary"),
        ],
    },
];

/// The integration key that PagerDuty knows.
const KEY: &str = "hunter2-hunter2-hunter2-hunter22";

fn settings(kind: usize, endpoint: &str, more: Value) -> Value {
    let Kind {
        kind,
        path,
        settings,
        ..
    } = &KINDS[kind];
    let settings: Value = serde_json::from_str(settings).unwrap();
    // What is asked for beside is added.
    let path = path.trim_end_matches("?wait=true");
    let mut own = json!({ "url": format!("{endpoint}{path}") });
    if *kind == "pagerduty" {
        own["routing_key"] = KEY.into();
    }
    with(with(settings, own), more)
}

/// Settings without texts, and others.
fn bare(kind: usize, endpoint: &str, more: Value) -> Value {
    let texts = json!({ "title": null, "text": null, "body": null, "summary": null, "source": null, "dedup_key": null });
    with(with(settings(kind, endpoint, json!({})), texts), more)
}

struct Fixture<const KIND: usize> {
    server: Canned,
    silent: Silent,
}

impl<const K: usize> TargetFixture for Fixture<K> {
    const KIND: &'static str = KINDS[K].kind;
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        settings(K, self.server.endpoint(), json!({}))
    }

    async fn received(&self) -> Vec<Received> {
        let received = |asked: Asked| {
            let texts = KINDS[K].texts.iter();
            let texts: Vec<_> = texts
                .map(|place| text(&asked.body, place).to_owned())
                .collect();
            Received {
                id: texts[0].split_once('-').unwrap().1.to_owned(),
                texts,
                trace: asked.headers.get("traceparent").cloned(),
            }
        };
        self.server.requests().into_iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        let endpoint = format!("http://{}", self.silent.address());
        Some(settings(K, &endpoint, json!({})))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let mistaken = |(more, path): &(&str, &'static str)| {
            let more = serde_json::from_str(more).unwrap();
            (settings(K, "http://h", more), *path)
        };
        KINDS[K].mistakes.iter().map(mistaken).collect()
    }
}

async fn conforms<const K: usize>() {
    targets(&Fixture::<K> {
        server: Canned::judging(answered).await,
        silent: Silent::start().await,
    })
    .await;
}

#[tokio::test]
async fn each_conforms() {
    conforms::<SLACK>().await;
    conforms::<TEAMS>().await;
    conforms::<DISCORD>().await;
    conforms::<PAGERDUTY>().await;
}

async fn open(kind: usize, settings: &Value) -> TargetService {
    let settings = parse(KINDS[kind].kind, settings).unwrap();
    assert_eq!(settings.check(), []);
    settings.open(context()).await.unwrap()
}

/// What becomes of an event with these texts.
async fn told(service: &TargetService, event: Event, texts: &[&str]) -> Outcome {
    let mut attempt = attempt(&["1"], 0);
    attempt.deliveries[0].event = event.into();
    attempt.deliveries[0].texts = texts.iter().map(|text| (*text).to_owned()).collect();
    service.clone().oneshot(attempt).await.unwrap().remove(0)
}

fn event(data: &str) -> Event {
    Event::builder("1", "/oven", "com.example.alarm")
        .subject("<!channel> & co")
        .time("2026-11-30T01:00:00Z")
        .datacontenttype("application/json")
        .data(Data::json(data.to_owned().into()).unwrap())
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_message_says_what_the_event_is() {
    let server = Canned::judging(answered).await;
    let plain = |text: &str, looks: Value| {
        let run = with(json!({ "type": "TextRun", "text": text }), looks);
        json!({ "type": "RichTextBlock", "inlines": [run] })
    };
    let data = r#"{ "at": "@everyone ```<" }"#;
    for (kind, more, texts, expect) in [
        (
            SLACK,
            json!({}),
            vec![],
            json!({ "text": "*com.example.alarm*\nSource: /oven\nSubject: &lt;!channel&gt; &amp; co\nTime: 2026-11-30T01:00:00Z\n```\n{ \"at\": \"@everyone `\u{200b}``&lt;\" }\n```" }),
        ),
        (
            SLACK,
            json!({ "body": { "blocks": [{ "type": "divider" }, { "n": 1, "text": "<$.data.a>" }] } }),
            vec!["\"it\" \n&lt;!channel&gt;"],
            json!({ "blocks": [{ "type": "divider" }, { "n": 1, "text": "\"it\" \n&lt;!channel&gt;" }] }),
        ),
        (
            DISCORD,
            json!({}),
            vec![],
            json!({
                "content": "**com.example.alarm**\nSource: /oven\nSubject: <!channel> & co\nTime: 2026-11-30T01:00:00Z\n```\n{ \"at\": \"@everyone `\u{200b}``<\" }\n```",
                "allowed_mentions": { "parse": [] },
            }),
        ),
        (
            PAGERDUTY,
            json!({}),
            vec![],
            json!({
                "routing_key": KEY,
                "event_action": "trigger",
                "dedup_key": "/oven#1",
                "payload": {
                    "summary": "com.example.alarm: <!channel> & co",
                    "severity": "error",
                    "source": "/oven",
                    "class": "com.example.alarm",
                    "timestamp": "2026-11-30T01:00:00Z",
                    "custom_details": { "at": "@everyone ```<" },
                },
            }),
        ),
        (
            PAGERDUTY,
            json!({ "action": "<$.data.do>", "dedup_key": "<$.subject>" }),
            vec!["resolve", "oven"],
            json!({ "routing_key": KEY, "event_action": "resolve", "dedup_key": "oven" }),
        ),
    ] {
        let service = open(kind, &bare(kind, server.endpoint(), more)).await;
        let told = told(&service, event(data), &texts).await;
        assert_eq!(told.class, Class::Delivered, "{told:?}");
        assert_eq!(server.requests().last().unwrap().body, expect);
    }
    let service = open(TEAMS, &bare(TEAMS, server.endpoint(), json!({}))).await;
    assert_eq!(
        told(&service, event(data), &[]).await.class,
        Class::Delivered
    );
    let body = server.requests().last().unwrap().body.clone();
    let blocks = [
        plain(
            "com.example.alarm",
            json!({ "size": "medium", "weight": "bolder" }),
        ),
        plain("Source: /oven", json!({})),
        plain("Subject: <!channel> & co", json!({})),
        plain("Time: 2026-11-30T01:00:00Z", json!({})),
        plain(data, json!({ "fontType": "monospace" })),
    ];
    assert_eq!(body["attachments"][0]["content"]["body"], json!(blocks));
}

#[tokio::test]
async fn what_is_too_long_is_cut_or_rejected() {
    let server = Canned::judging(answered).await;
    let long = |text: &str| text.repeat(50_000);
    let text = json!({ "text": "<$.data.text>" });
    for (kind, more, given, place, end) in [
        (SLACK, &text, long("&amp;"), "/text", "&amp;…"),
        (SLACK, &text, long("ü"), "/text", "ü…"),
        (
            TEAMS,
            &text,
            long("\"ü"),
            "/attachments/0/content/body/0/text",
            "…",
        ),
        (DISCORD, &text, long("ü"), "/content", "ü…"),
        (
            PAGERDUTY,
            &json!({ "summary": "<$.data.text>" }),
            long("ü"),
            "/payload/summary",
            "ü…",
        ),
    ] {
        let service = open(kind, &bare(kind, server.endpoint(), more.clone())).await;
        let told = told(&service, event("{}"), &[&given]).await;
        assert_eq!(told.class, Class::Delivered, "{told:?}");
        let body = server.requests().last().unwrap().body.clone();
        assert!(self::text(&body, place).ends_with(end), "{kind}");
    }
    let data = format!("[{:?}]", long("a long story "));
    for kind in [SLACK, TEAMS, DISCORD, PAGERDUTY] {
        let service = open(kind, &bare(kind, server.endpoint(), json!({}))).await;
        assert_eq!(
            told(&service, event(&data), &[]).await.class,
            Class::Delivered,
            "{kind}"
        );
    }
    let before = server.requests().len();
    for (kind, more, given, expect) in [
        (
            TEAMS,
            json!({ "body": { "a": "<$.data.text>" } }),
            long("a"),
            "and Microsoft Teams takes 28672 at most",
        ),
        (
            PAGERDUTY,
            json!({ "dedup_key": "<$.data.text>" }),
            "k".repeat(256),
            "255 characters",
        ),
        (
            PAGERDUTY,
            json!({ "severity": "<$.data.text>" }),
            "fatal".into(),
            "\"fatal\" is none of critical,",
        ),
        (DISCORD, text, " ".into(), "text is empty"),
    ] {
        let service = open(kind, &bare(kind, server.endpoint(), more)).await;
        let told = told(&service, event("{}"), &[&given]).await;
        assert_eq!(told.class, Class::Rejected, "{told:?}");
        assert!(told.message.contains(expect), "{told:?}");
    }
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn an_answer_says_what_follows() {
    let other = |told: u16, body: &'static str| Canned::start(move |_, _| (told, body));
    let server = Canned::judging(answered).await;
    let limited = other(
        429,
        r#"{ "message": "…", "retry_after": 1.5, "global": false }"#,
    )
    .await;
    let archived = other(410, "channel_is_archived").await;
    let broken = other(500, "rollup_error").await;
    let of_teams = other(200, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId 1").await;
    let elsewhere =
        Canned::judging(|_| Reply::from((302, "")).header("location", "https://h/hunter2")).await;
    let waiting = Canned::judging(|_| Reply::from((429, "")).header("retry-after", "2")).await;
    let at = |server: &Canned, path: &str| json!({ "url": format!("{}{path}", server.endpoint()) });
    for (kind, server, more, expect, wait) in [
        (
            SLACK,
            &server,
            at(&server, "/services/T/B/other"),
            Class::Refused,
            None,
        ),
        (
            SLACK,
            &server,
            json!({ "body": { "a": 1 } }),
            Class::Rejected,
            None,
        ),
        (SLACK, &archived, json!({}), Class::Gone, None),
        (SLACK, &waiting, json!({}), Class::Throttled, Some(2.0)),
        (SLACK, &elsewhere, json!({}), Class::Rejected, None),
        (
            DISCORD,
            &server,
            at(&server, "/api/webhooks/1/other"),
            Class::Refused,
            None,
        ),
        (
            DISCORD,
            &server,
            at(&server, "/api/webhooks/2/other"),
            Class::Refused,
            None,
        ),
        (DISCORD, &limited, json!({}), Class::Throttled, Some(1.5)),
        (
            TEAMS,
            &server,
            at(&server, "/workflows/other"),
            Class::Refused,
            None,
        ),
        (TEAMS, &of_teams, json!({}), Class::Throttled, None),
        (
            PAGERDUTY,
            &server,
            json!({ "routing_key": "other" }),
            Class::Refused,
            None,
        ),
        (
            PAGERDUTY,
            &server,
            json!({ "body": { "payload": {} } }),
            Class::Rejected,
            None,
        ),
        (PAGERDUTY, &limited, json!({}), Class::Throttled, None),
        (PAGERDUTY, &broken, json!({}), Class::Failed, None),
    ] {
        let settings = bare(kind, server.endpoint(), more);
        let told = told(&open(kind, &settings).await, event("{}"), &[]).await;
        let waits = told.retry_after.map(|wait| wait.as_secs_f64());
        assert_eq!((told.class, waits), (expect, wait), "{settings}: {told:?}");
        let target = parse(KINDS[kind].kind, &settings).unwrap();
        let Called::Always(called) = target.called() else {
            panic!()
        };
        let shown = format!("{called} {target:?} {}", told.message);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_key_is_read_again_where_its_file_changes() {
    let server = Canned::judging(answered).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old").unwrap();
    let key = json!({ "routing_key": { "file": file.path() } });
    let service = open(PAGERDUTY, &bare(PAGERDUTY, server.endpoint(), key)).await;
    assert_eq!(told(&service, event("{}"), &[]).await.class, Class::Refused);
    std::fs::write(file.path(), KEY).unwrap();
    assert_eq!(
        told(&service, event("{}"), &[]).await.class,
        Class::Delivered
    );
}
