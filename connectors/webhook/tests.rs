//! Signed requests against a real listener.

mod answers;
mod elsewhere;
mod keyed;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{KeyInit, Mac};
use pointsman_schemas::{Clock, DataKind, Name, Size, Timestamp};
use sha2::Sha256;
use smallvec::SmallVec;
use tokio::task::JoinSet;

use super::signature::Verifier;
use super::*;
use crate::listener::tests::{Answer, Served, serve};
use crate::listener::{Limits, ListenSettings, Routes};
use crate::requests::BATCH_REQUESTS_MAX;
use crate::source::Acknowledgement;
use crate::suite::{SourceFixture, sources};
use crate::verdict::Verdict;
use crate::{Arrival, Source, SourceContext};

const SECRET: &str = "It's a Secret to Everybody";

const NOW: i64 = 1_700_000_000;

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp(NOW * 1_000_000)
    }
}

fn settings(signature: serde_json::Value) -> Webhook {
    serde_json::from_value(serde_json::json!({ "path": "/hooks/x", "signature": signature }))
        .unwrap()
}

fn context(served: &Served, name: &str, mapped: bool) -> SourceContext {
    SourceContext {
        name: Name::new(name).unwrap(),
        tenant: Name::default_tenant(),
        cursor: None,
        positions: crate::suite::Stored::default().positions(),
        mapped,
        clock: Arc::new(Stopped),
        alarms: crate::Alarms::new(Arc::new(Stopped)),
        routes: served.routes.clone(),
        link: crate::Link::new(Name::new(name).unwrap(), Arc::new(Stopped)),
    }
}

async fn open(signature: serde_json::Value, mapped: bool) -> (Served, Box<dyn Source>) {
    let served = serve(ListenSettings::default(), Limits::default()).await;
    let source = settings(signature)
        .open(context(&served, "shop", mapped))
        .await
        .unwrap();
    (served, source)
}

fn sign(secret: &str, signed: &[u8]) -> String {
    let mut hmac = hmac::Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    hmac.update(signed);
    hex::encode(hmac.finalize().into_bytes())
}

async fn github(served: &Served, delivery: &str, body: &str) -> Answer {
    let signature = format!("sha256={}", sign(SECRET, body.as_bytes()));
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", "push"),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", &signature),
    ];
    served.post("/hooks/x", &headers, body.as_bytes()).await
}

/// Takes what came, tells it the verdict, and gives it back.
async fn tell(source: &mut Box<dyn Source>, verdict: Verdict) -> SmallVec<[Arrival; 1]> {
    let mut messages = source.next().await.unwrap().messages;
    assert_eq!(messages.len(), 1);
    let message = messages.remove(0);
    assert!(matches!(
        message.acknowledgement,
        Acknowledgement::Caller(..)
    ));
    message.acknowledgement.send(verdict).await;
    message.arrivals
}

fn types(arrivals: &[Arrival]) -> Vec<&str> {
    let types = arrivals.iter().map(|arrival| match arrival {
        Arrival::Event(event) => event.ty(),
        Arrival::Plain(_) => "plain",
    });
    types.collect()
}

/// A service whose requests wait for their answers.
struct Service {
    served: Arc<Served>,
    calls: JoinSet<u16>,
    told: usize,
}

impl SourceFixture for Service {
    const KIND: &'static str = "webhook";

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({ "path": "/hooks/x", "signature": { "hmac": { "secret": SECRET, "header": "x-sign", "id": "x-delivery" } } })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(Stopped)
    }

    fn routes(&self) -> Routes {
        self.served.routes.clone()
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let ids: Vec<_> = (self.told..self.told + count)
            .map(|n| format!("delivery-{n}"))
            .collect();
        self.told += count;
        for id in ids.clone() {
            let served = Arc::clone(&self.served);
            self.calls.spawn(async move {
                let signature = sign(SECRET, id.as_bytes());
                served
                    .post(
                        "/hooks/x",
                        &[("x-sign", &signature), ("x-delivery", &id)],
                        id.as_bytes(),
                    )
                    .await
                    .status()
            });
        }
        ids
    }

    fn identity(&self, event: &pointsman_schemas::Event) -> String {
        event.id().to_string()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_REQUESTS_MAX
    }

    fn is_read_by_cursor(&self) -> bool {
        false
    }

    fn mistakes(&self) -> Vec<(serde_json::Value, &'static str)> {
        vec![
            (
                serde_json::json!({ "path": "hooks", "signature": { "none": {} } }),
                "path",
            ),
            (
                serde_json::json!({ "path": "/x", "signature": { "github": { "secret": "" } } }),
                "signature.github.secret",
            ),
        ]
    }
}

#[tokio::test]
async fn the_source_holds_to_the_suite() {
    let served = Arc::new(serve(ListenSettings::default(), Limits::default()).await);
    let mut service = Service {
        served,
        calls: JoinSet::new(),
        told: 0,
    };
    sources(&mut service).await;
    let mut statuses = service.calls.join_all().await;
    statuses.sort_unstable();
    // The last one is what the suite takes with a mapping, and drops.
    assert_eq!(statuses, [vec![202; service.told - 1], vec![503]].concat());
}

const PUSH: &str = r#"{"ref":"refs/heads/main","repository":{"url":"https://github.com/o/r"}}"#;

#[tokio::test]
async fn a_signed_push_is_taken_and_a_forged_one_leaves_nothing() {
    let (served, mut source) =
        open(serde_json::json!({ "github": { "secret": SECRET } }), false).await;
    let wrong = format!("sha256={}", sign("another", PUSH.as_bytes()));
    for headers in [
        vec![("x-hub-signature-256", wrong.as_str())],
        vec![],
        vec![("x-hub-signature", "sha1=00")],
    ] {
        let answer = served.post("/hooks/x", &headers, PUSH.as_bytes()).await;
        assert_eq!(answer.problem().0, 401, "{answer:?}");
        assert!(answer.header("www-authenticate").is_some() && !answer.0.contains(SECRET));
    }
    // Without a signature the body is not waited for.
    let unsigned = served
        .raw("POST /hooks/x HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n")
        .await;
    assert_eq!(unsigned.problem().0, 401);
    let (answer, arrivals) = tokio::join!(
        github(&served, "1", PUSH),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(
        (answer.status(), answer.body(), types(&arrivals)),
        (202, "", vec!["com.github.push"]),
        "the first that arrives"
    );
}

#[tokio::test]
async fn a_repeated_delivery_is_stored_once_and_one_that_failed_is_welcome_again() {
    let (served, mut source) =
        open(serde_json::json!({ "github": { "secret": SECRET } }), false).await;
    let (answer, _) = tokio::join!(
        github(&served, "1", PUSH),
        tell(&mut source, Verdict::Failed)
    );
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (503, Some("5"))
    );
    let (answer, _) = tokio::join!(
        github(&served, "1", PUSH),
        tell(&mut source, Verdict::Later(Duration::from_secs(7)))
    );
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (429, Some("7"))
    );
    let (answer, _) = tokio::join!(
        github(&served, "1", PUSH),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(answer.status(), 202);
    assert_eq!(
        github(&served, "1", PUSH).await.status(),
        202,
        "answered by nobody but the replay cache"
    );
    let (answer, _) = tokio::join!(
        github(&served, "2", PUSH),
        tell(
            &mut source,
            Verdict::Rejected {
                reason: "the mapping failed".into(),
                event: None
            }
        )
    );
    assert_eq!(answer.problem(), (422, "the mapping failed".to_owned()));
}

#[tokio::test]
async fn slack_hears_its_challenge_and_only_signed() {
    let (served, mut source) =
        open(serde_json::json!({ "slack": { "secret": SECRET } }), false).await;
    let post = async |body: &str, secret: &str, seconds: i64| {
        let (time, signature) = (
            seconds.to_string(),
            format!(
                "v0={}",
                sign(secret, format!("v0:{seconds}:{body}").as_bytes())
            ),
        );
        let headers = [
            ("content-type", "application/json"),
            ("x-slack-request-timestamp", &time),
            ("x-slack-signature", signature.as_str()),
        ];
        served.post("/hooks/x", &headers, body.as_bytes()).await
    };
    let challenge = r#"{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#;
    let answer = post(challenge, SECRET, NOW).await;
    assert_eq!(
        (answer.status(), answer.header("content-type")),
        (200, Some("text/plain"))
    );
    assert_eq!(
        answer.body(),
        "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    );
    assert_eq!(post(challenge, "another", NOW).await.status(), 401);
    assert_eq!(post(challenge, SECRET, NOW - 301).await.status(), 401);
    let message = r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"message"}}"#;
    let (answer, arrivals) = tokio::join!(
        post(message, SECRET, NOW),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(
        (answer.status(), types(&arrivals)),
        (202, vec!["com.slack.message"])
    );
}

#[tokio::test]
async fn what_is_a_cloudevent_is_taken_as_that_and_all_else_is_left_to_the_mapping() {
    let (served, mut source) = open(serde_json::json!({ "none": {} }), true).await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"own"}"#;
    let batch = format!("[{event},{event}]");
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "own"),
    ];
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let table: [(Headers, &str, &[&str]); 4] = [
        (&binary, "", &["own"]),
        (
            &[("content-type", "application/cloudevents+json")],
            event,
            &["own"],
        ),
        (
            &[("content-type", "application/cloudevents-batch+json")],
            &batch,
            &["own", "own"],
        ),
        (
            &[("content-type", "application/json")],
            r#"{"a":1}"#,
            &["plain"],
        ),
    ];
    for (headers, body, expect) in table {
        let (answer, arrivals) = tokio::join!(
            served.post("/hooks/x?q=1", headers, body.as_bytes()),
            tell(&mut source, Verdict::Stored)
        );
        assert_eq!(
            (answer.status(), &types(&arrivals)[..]),
            (202, expect),
            "{answer:?}"
        );
        if let Arrival::Plain(plain) = &arrivals[0] {
            assert_eq!(
                (&plain.fields["query"]["q"], &plain.fields["path"]),
                (&"1".into(), &"/hooks/x".into())
            );
            let defaults = plain.defaults.clone().build().unwrap();
            assert_eq!(
                (defaults.ty(), defaults.data().unwrap().kind()),
                ("com.pointsman.webhook.shop", DataKind::Json)
            );
            assert_eq!(defaults.data().unwrap().value().unwrap()["a"], 1);
        }
    }
    let broken = served
        .post(
            "/hooks/x",
            &[("content-type", "application/cloudevents+json")],
            b"{",
        )
        .await;
    assert_eq!(broken.problem().0, 400);
    let consent = served
        .request(
            "OPTIONS",
            "/hooks/x",
            &[("webhook-request-origin", "a.example")],
            b"",
        )
        .await;
    assert_eq!(consent.header("webhook-allowed-origin"), Some("a.example"));
}

/// A scheme with a body signed by it, and the headers that say so.
fn signed(scheme: &str, body: &[u8]) -> (serde_json::Value, Vec<(&'static str, String)>) {
    let secret = serde_json::json!({ "secret": SECRET });
    let time = NOW.to_string();
    let of = |text: String| sign(SECRET, &[text.as_bytes(), body].concat());
    match scheme {
        "github" => (
            serde_json::json!({ "github": secret }),
            vec![(
                "x-hub-signature-256",
                format!("sha256={}", sign(SECRET, body)),
            )],
        ),
        "gitlab" => (
            serde_json::json!({ "gitlab": secret }),
            vec![("x-gitlab-token", SECRET.to_owned())],
        ),
        "stripe" => (
            serde_json::json!({ "stripe": secret }),
            vec![(
                "stripe-signature",
                format!("t={NOW},v1={}", of(format!("{NOW}."))),
            )],
        ),
        "slack" => (
            serde_json::json!({ "slack": secret }),
            vec![
                ("x-slack-request-timestamp", time),
                (
                    "x-slack-signature",
                    format!("v0={}", of(format!("v0:{NOW}:"))),
                ),
            ],
        ),
        "standard" => {
            let signature = BASE64_STANDARD.encode(hex::decode(of(format!("m1.{NOW}."))).unwrap());
            let secret = format!("whsec_{}", BASE64_STANDARD.encode(SECRET));
            let headers = vec![
                ("webhook-id", "m1".to_owned()),
                ("webhook-timestamp", time),
                ("webhook-signature", format!("v1,{signature}")),
            ];
            (
                serde_json::json!({ "standard": { "secret": secret } }),
                headers,
            )
        }
        "hmac" => (
            serde_json::json!({ "hmac": { "secret": SECRET, "header": "x-sign" } }),
            vec![("x-sign", sign(SECRET, body))],
        ),
        _ => (serde_json::json!({ "none": {} }), Vec::new()),
    }
}

const SCHEMES: [&str; 7] = [
    "github", "gitlab", "stripe", "slack", "standard", "hmac", "none",
];

#[tokio::test]
async fn attributes_that_are_not_signed_are_ignored_and_those_in_the_body_are_taken() {
    let event = r#"{"specversion":"1.0","id":"own","source":"/own","type":"own","data":{"a":1}}"#;
    let batch = format!("[{event},{event}]");
    for scheme in SCHEMES {
        let forged = [
            ("ce-specversion", "1.0"),
            ("ce-id", "forged"),
            ("ce-source", "/timers/tick"),
            ("ce-type", "forged"),
        ];
        for (body, media_type, count) in [
            (r#"{"a":1}"#, "application/json", 0),
            (event, "application/cloudevents+json", 1),
            (&batch, "application/cloudevents-batch+json", 2),
        ] {
            let (settings, headers) = signed(scheme, body.as_bytes());
            let (served, mut source) = open(settings, false).await;
            let mut headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            headers.extend(forged.iter().copied().chain([("content-type", media_type)]));
            let (answer, arrivals) = tokio::join!(
                served.post("/hooks/x", &headers, body.as_bytes()),
                tell(&mut source, Verdict::Stored)
            );
            assert_eq!(answer.status(), 202, "{scheme}: {answer:?}");
            let events: Vec<_> = arrivals
                .iter()
                .map(|arrival| match arrival {
                    Arrival::Event(event) => event,
                    Arrival::Plain(_) => panic!("no mapping"),
                })
                .collect();
            if count > 0 {
                assert_eq!(
                    (events.len(), events[0].id(), events[0].source()),
                    (count, "own", "/own"),
                    "{scheme}: its attributes are signed"
                );
            } else if scheme == "none" {
                assert_eq!(
                    events[0].id(),
                    "forged",
                    "who signs nothing may say anything"
                );
            } else {
                assert!(
                    events[0].ty().starts_with("com.")
                        && events[0].id() != "forged"
                        && events[0].source() != "/timers/tick",
                    "{scheme}"
                );
                assert_eq!(&events[0].data().unwrap().bytes()[..], body.as_bytes());
            }
        }
    }
}

#[tokio::test]
async fn a_packed_body_may_be_signed_before_or_after_it_is_packed() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, PUSH.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let (served, mut source) =
        open(serde_json::json!({ "github": { "secret": SECRET } }), false).await;
    for (delivery, over) in [("1", PUSH.as_bytes()), ("2", &packed)] {
        let signature = format!("sha256={}", sign(SECRET, over));
        let headers = [
            ("content-encoding", "gzip"),
            ("x-github-event", "push"),
            ("x-github-delivery", delivery),
            ("x-hub-signature-256", &signature),
        ];
        let (answer, arrivals) = tokio::join!(
            served.post("/hooks/x", &headers, &packed),
            tell(&mut source, Verdict::Stored)
        );
        assert_eq!(
            (answer.status(), types(&arrivals)),
            (202, vec!["com.github.push"])
        );
    }
    let signature = format!("sha256={}", sign("another", &packed));
    let headers = [
        ("content-encoding", "gzip"),
        ("x-hub-signature-256", &*signature),
    ];
    assert_eq!(
        served.post("/hooks/x", &headers, &packed).await.status(),
        401
    );
}

#[tokio::test]
async fn each_webhook_has_its_own_bound() {
    let served = serve(
        ListenSettings {
            max_body: Size { bytes: 1_000 },
            ..ListenSettings::default()
        },
        Limits {
            in_flight_bytes: 0,
            ..Limits::default()
        },
    )
    .await;
    let open = async |path: &str, name: &str, max_body: serde_json::Value| {
        let webhook: Webhook = serde_json::from_value(
            serde_json::json!({ "path": path, "signature": { "none": {} }, "max_body": max_body }),
        )
        .unwrap();
        webhook.open(context(&served, name, false)).await.unwrap()
    };
    let (mut large, _small, _default) = (
        open("/large", "large", "2MiB".into()).await,
        open("/small", "small", "10B".into()).await,
        open("/default", "default", serde_json::Value::Null).await,
    );
    let body = vec![b'x'; 2 << 20];
    let (answer, _) = tokio::join!(
        served.post("/large", &[], &body),
        tell(&mut large, Verdict::Stored)
    );
    assert_eq!(answer.status(), 202, "past what the listener was made for");
    for (path, length) in [
        ("/large", (2 << 20) + 1),
        ("/small", 11),
        ("/default", 1_001),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: \
             close\r\n\r\n"
        );
        let answer = served.raw(head).await.problem();
        assert_eq!(answer.0, 413, "{path}");
        assert!(answer.1.contains("max_body"), "{}", answer.1);
    }
}

#[tokio::test]
async fn a_reload_leaves_no_gap_and_a_path_has_one_source() {
    let (served, old) = open(serde_json::json!({ "github": { "secret": "old" } }), false).await;
    let again = settings(serde_json::json!({ "github": { "secret": SECRET } }));
    let mut new = again.open(context(&served, "shop", false)).await.unwrap();
    drop(old);
    let (answer, _) = tokio::join!(github(&served, "1", PUSH), tell(&mut new, Verdict::Stored));
    assert_eq!(answer.status(), 202);
    let taken = again
        .open(context(&served, "other", false))
        .await
        .err()
        .unwrap();
    assert_eq!(
        taken.to_string(),
        "path: the path /hooks/x is taken by default/shop; give each source a path of its own"
    );
}

#[test]
fn mistakes_in_the_settings_are_found() {
    let table = [
        (
            r#"{"path":"/x","signature":{"github":{"secret":{"env":"A"}}}}"#,
            "",
        ),
        (r#"{"path":"/x","signature":{"none":{}}}"#, ""),
        (
            r#"{"path":"/x"}"#,
            "path: whoever knows the path can send events here (add signature: { github: { secret: \
             { env: NAME } } } or another scheme, or say signature: { none: {} })",
        ),
        (
            r#"{"path":"x","signature":{"none":{}}}"#,
            "path: is not a path (write one such as /hooks/github)",
        ),
        (
            r#"{"path":"/a b","signature":{"none":{}}}"#,
            "path: is not a path (write one such as /hooks/github)",
        ),
        (
            r#"{"path":"/events","signature":{"none":{}}}"#,
            "path: is where CloudEvents come in (write one such as /hooks/github)",
        ),
        (
            r#"{"path":"/x","signature":{"standard":{"secret":"whsec_!","previous":"whsk_x"}}}"#,
            "signature.standard.secret: is not base64 behind its whsec_ or whpk_\n\
             signature.standard.previous: is the sender's private key; take the public one, whpk_…",
        ),
        (
            r#"{"path":"/x","signature":{"none":{}},"max_body":"2GiB"}"#,
            "max_body: is not between 1B and 1GiB",
        ),
        (
            r#"{"path":"/x","signature":{"hmac":{"secret":"s","header":"X Y"}}}"#,
            "signature.hmac.header: is not the name of a header (write one such as X-Signature)",
        ),
        (
            r#"{"path":"/x","signature":{"custom":{"secret":"s","header":"x"}},"url":"https://a.example/x"}"#,
            "",
        ),
        (
            r#"{"path":"/x","signature":{"none":{}},"url":"a.example"}"#,
            "url: is not a web address (write it as the sender has it, such as \
             https://example.com/hooks/x)",
        ),
        (
            r#"{"path":"/x","signature":{"custom":{"header":"x","query":"y"}}}"#,
            "signature.custom: the secret is missing (add secret: { env: NAME })\n\
             signature.custom: exactly one of header, query and field says where the signature is \
             (write header: X-Signature, query: signature, or field: a.b)",
        ),
        (
            r#"{"path":"/x","signature":{"custom":{"secret":"s","header":"x","timestamp":"<$.headers.t>"}}}"#,
            "signature.custom.signed: the time is not signed: whoever saw one call can send it \
             again (put <$.timestamp> into signed, as the sender does)",
        ),
        (
            r#"{"path":"/x","signature":{"custom":{"secret":"s","header":"x","algorithm":"rsa-sha256"}}}"#,
            "signature.custom.key: an RSA key is written in PEM (add key: pem)",
        ),
        (
            r#"{"path":"/x","signature":{"custom":{"secret":"s","header":"x","handshake":[{"method":"GET","challenge":"<$.fields.a>","answer":"<$.body>"}]}}}"#,
            "signature.custom.handshake[0].answer: has places that are not filled in; there are \
             <$.challenge> and <$.hmac>\nsignature.custom.handshake[0].challenge: a GET has no \
             body (write <$.query.challenge>)",
        ),
        (
            r#"{"path":"/x","signature":{"custom":{"secret":"s","header":"x","handshake":[{"challenge":"a","token":"<$.query.t>"}]}}}"#,
            "signature.custom.handshake[0].challenge: is the same for everybody, and no challenge \
             (write <$.query.challenge> or <$.fields.challenge>)\n\
             signature.custom.handshake[0].token: one of token and verify_token is missing (write \
             token: <$.query.token> and verify_token: { env: NAME } together)",
        ),
    ];
    for (given, expect) in table {
        let webhook: Webhook = serde_json::from_str(given).unwrap();
        let told: Vec<_> = webhook.check().iter().map(ToString::to_string).collect();
        assert_eq!(told.join("\n"), expect, "{given}");
    }
    let unknown = serde_json::from_str::<Webhook>(r#"{"path":"/x","signature":{"githab":{}}}"#)
        .unwrap_err()
        .to_string();
    assert!(
        unknown.contains("unknown variant `githab`") && unknown.contains("`github`"),
        "{unknown}"
    );
    assert!(crate::connector("webhook").is_some_and(|connector| connector.source.exists()));
}

#[tokio::test]
async fn secrets_are_not_shown() {
    for scheme in ["github", "gitlab", "stripe", "slack"] {
        let webhook = settings(
            serde_json::json!({ scheme: { "secret": "hunter2hunter2", "previous": "hunter3hunter3" } }),
        );
        let served = serve(ListenSettings::default(), Limits::default()).await;
        let source = webhook.open(context(&served, "shop", false)).await.unwrap();
        let verifier = Verifier::open(webhook.scheme()).unwrap();
        assert!(!format!("{webhook:?} {verifier:?} {:?}", served.routes).contains("hunter"));
        drop(source);
    }
}
