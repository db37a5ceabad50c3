use std::time::Duration;

use pointsman_schemas::{DeliveryId, Epoch, Name, Sequence, SubscriptionNumber, Text, Timestamp};
use tokio::sync::mpsc;

use super::*;
use crate::inquiry::{Ends, Inquiry, Made, MadeEvent, Task, TaskStatus};
use crate::listener::Limits;
use crate::listener::tests::{Answer, Served, serve};
use crate::source::{Acknowledgement, Message};
use crate::verdict::Verdict;

/// 2026-11-27T12:00:00Z.
const NOW: Timestamp = Timestamp(1_795_780_800_000_000);

/// A clock that stands still.
#[derive(Debug)]
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

type Headers<'a> = &'a [(&'a str, &'a str)];

const KEY: &str = "0123456789abcdef0123456789abcdef";
const BINARY: Headers = &[
    ("ce-specversion", "1.0"),
    ("ce-id", "1"),
    ("ce-source", "/s"),
    ("ce-type", "t"),
    ("content-type", "application/json"),
];
const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

async fn open(settings: ListenSettings) -> (Served, Ingress) {
    let served = serve(settings.clone(), Limits::default()).await;
    let ingress = Ingress::open(&settings, &served.routes, Arc::new(At(NOW))).unwrap();
    (served, ingress)
}

/// Takes one message and tells its caller.
async fn tell(ingress: &mut Ingress, verdict: Verdict) -> Message {
    let mut batch = ingress.next().await.unwrap();
    assert_eq!(batch.messages.len(), 1);
    let mut message = batch.messages.remove(0);
    std::mem::replace(&mut message.acknowledgement, crate::Acknowledgement::None)
        .send(verdict)
        .await;
    message
}

fn ids(message: &Message) -> Vec<&str> {
    let ids = message.arrivals.iter().map(|arrival| match arrival {
        Arrival::Event(event) => event.id(),
        Arrival::Plain(_) => panic!("not an event"),
    });
    ids.collect()
}

#[tokio::test]
async fn events_come_in_in_each_mode_and_the_verdict_goes_back() {
    let (served, mut ingress) = open(ListenSettings::default()).await;
    let one = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":12345678901234567890123}}"#;
    let two = br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"2","source":"/s","type":"t"}]"#;
    type Answered<'a> = (Verdict, u16, Option<&'a str>);
    let table: [(Headers, &[u8], &[&str], Answered); 6] = [
        (BINARY, b"{\"a\": 1}", &["1"], (Verdict::Stored, 202, None)),
        (&[STRUCTURED], one, &["1"], (Verdict::Stored, 202, None)),
        (&[BATCH], two, &["1", "2"], (Verdict::Stored, 202, None)),
        (
            BINARY,
            b"1",
            &["1"],
            (Verdict::Later(Duration::from_millis(2_500)), 429, Some("3")),
        ),
        (BINARY, b"1", &["1"], (Verdict::Failed, 503, Some("5"))),
        (
            BINARY,
            b"1",
            &["1"],
            (
                Verdict::Rejected {
                    reason: "no such tenant".into(),
                    event: None,
                },
                422,
                None,
            ),
        ),
    ];
    for (headers, body, expect, (verdict, status, retry_after)) in table {
        let (answer, message) = tokio::join!(
            served.post(EVENTS_PATH, headers, body),
            tell(&mut ingress, verdict)
        );
        assert_eq!(
            (answer.status(), answer.header("retry-after")),
            (status, retry_after),
            "{answer:?}"
        );
        assert_eq!(ids(&message), expect);
        if status == 202 {
            assert_eq!(
                (answer.body(), answer.header("content-length")),
                ("", Some("0"))
            );
        } else {
            assert_eq!(answer.problem().0, u64::from(status));
        }
    }
}

#[tokio::test]
async fn what_is_no_event_is_refused_with_its_place() {
    let (served, _ingress) = open(ListenSettings::default()).await;
    let deep = [
        b"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"data\":"
            .as_slice(),
        &[b'['; 200],
        &[b']'; 200],
        b"}",
    ]
    .concat();
    let many = format!(
        "[{}]",
        vec![r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#; REQUEST_EVENTS_MAX + 1]
            .join(",")
    );
    let table: [(Headers, &[u8], u16, &str); 8] = [
        (
            &[("content-type", "text/plain")],
            b"x",
            415,
            "no CloudEvent",
        ),
        (&[], b"", 415, "no CloudEvent"),
        (
            &[("content-type", "application/cloudevents+xml")],
            b"x",
            415,
            "no CloudEvent",
        ),
        (
            &[
                ("ce-specversion", "1.0"),
                ("ce-source", "/s"),
                ("ce-type", "t"),
            ],
            b"",
            400,
            "id",
        ),
        (
            &[STRUCTURED],
            b"{\"specversion\":\"1.0\"",
            400,
            "ends too early",
        ),
        (&[STRUCTURED], &deep, 400, "deep"),
        (BINARY, b"{", 400, "JSON"),
        (&[BATCH], many.as_bytes(), 413, "1000 events"),
    ];
    for (headers, body, status, detail) in table {
        let answer = served.post(EVENTS_PATH, headers, body).await;
        assert_eq!(answer.problem().0, u64::from(status), "{answer:?}");
        assert!(answer.problem().1.contains(detail), "{answer:?}");
    }
    let batch = br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"","source":"/s","type":"t"}]"#;
    let answer = served.post(EVENTS_PATH, &[BATCH], batch).await;
    let document: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
    assert_eq!((answer.status(), &document["event"]), (400, &1.into()));
    assert_eq!(
        served.post(EVENTS_PATH, &[BATCH], b"[]").await.status(),
        202,
        "nothing to store is stored"
    );
}

#[tokio::test]
async fn a_key_is_asked_for_before_the_body_is_read() {
    let other = "fedcba9876543210fedcba9876543210";
    let settings = ListenSettings {
        auth: vec![other.into(), KEY.into()],
        ..ListenSettings::default()
    };
    let (served, mut ingress) = open(settings).await;
    // The body never comes, and is not waited for.
    let announce = |authorization: &str| {
        format!("POST /events HTTP/1.1\r\nhost: x\r\n{authorization}content-length: 1000\r\n\r\n")
    };
    for (authorization, challenge) in [
        (String::new(), "Bearer"),
        (format!("authorization: Basic {KEY}\r\n"), "Bearer"),
        ("authorization: Bearer\r\n".to_owned(), "Bearer"),
        (
            format!("authorization: Bearer {KEY}0\r\n"),
            "Bearer error=\"invalid_token\"",
        ),
        ("authorization: Bearer \r\n".to_owned(), "Bearer"),
    ] {
        let answer = served.raw(announce(&authorization)).await;
        assert_eq!(
            (answer.problem().0, answer.header("www-authenticate")),
            (401, Some(challenge)),
            "{authorization}"
        );
    }
    for key in [KEY, other] {
        let authorization = format!("bearer {key}");
        let headers = [BINARY, &[("authorization", &authorization)]].concat();
        let (answer, _) = tokio::join!(
            served.post(EVENTS_PATH, &headers, b"1"),
            tell(&mut ingress, Verdict::Stored)
        );
        assert_eq!(answer.status(), 202);
    }
    assert!(
        !format!(
            "{ingress:?} {:?} {:?}",
            served.routes,
            Keys::resolve("auth", &[KEY.into()])
        )
        .contains(KEY)
    );
}

#[test]
fn a_key_must_be_there_and_long_enough() {
    let told = |key: Text| {
        Keys::resolve("auth", &[KEY.into(), key])
            .unwrap_err()
            .to_string()
    };
    assert!(told(Text::File("/nowhere".into())).starts_with("auth[1]: cannot read /nowhere"));
    let short = told("hunter2".into());
    assert!(short.starts_with("auth[1]: this key is shorter") && !short.contains("hunter2"));
    let whole = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(whole.path(), format!("bearer {KEY}\n")).unwrap();
    assert_eq!(
        told(Text::File(whole.path().into())),
        format!(
            "auth[1]: the file {} begins with the word Bearer, which would be sent twice (write \
             what follows it alone into it)",
            whole.path().display()
        )
    );
}

#[tokio::test]
async fn what_waits_is_handed_over_at_once_and_what_is_dropped_is_answered() {
    let (served, mut ingress) = open(ListenSettings::default()).await;
    let request = "POST /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\nce-specversion: 1.0\r\n\
                   ce-id: 1\r\nce-source: /s\r\nce-type: t\r\n\r\n";
    let callers = futures::future::join_all((0..10).map(|_| served.raw(request)));
    let take = async {
        let mut messages = Vec::new();
        while messages.len() < 10 {
            messages.append(&mut ingress.next().await.unwrap().messages);
        }
        drop(messages);
    };
    let (answers, ()) = tokio::join!(callers, take);
    assert!(answers.iter().all(|answer: &Answer| answer.status() == 503));
    // A source that goes away answers who waits, and lets go of its path.
    let waiting = served.raw(request);
    let (answer, ()) = tokio::join!(waiting, async {
        while ingress.0.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(ingress);
    });
    assert_eq!(answer.status(), 503);
    assert_eq!(served.raw(request).await.status(), 404);
}

#[tokio::test]
async fn what_a_caller_leaves_behind_still_counts() {
    let settings = ListenSettings {
        max_body: pointsman_schemas::Size { bytes: 10_000 },
        ..ListenSettings::default()
    };
    let served = serve(
        settings.clone(),
        Limits {
            in_flight_bytes: 0,
            ..Limits::default()
        },
    )
    .await;
    let mut ingress = Ingress::open(&settings, &served.routes, Arc::new(At(NOW))).unwrap();
    let body = [b'1'; 10_000];
    let batch = tokio::select! {
        _ = served.post(EVENTS_PATH, BINARY, &body) => panic!("answered before it was stored"),
        batch = ingress.next() => batch.unwrap(),
    };
    // The caller has hung up; what he sent is still in hand.
    assert_eq!(served.post(EVENTS_PATH, BINARY, &body).await.status(), 429);
    drop(batch);
    let (answer, _) = tokio::join!(
        served.post(EVENTS_PATH, BINARY, &body),
        tell(&mut ingress, Verdict::Stored)
    );
    assert_eq!(answer.status(), 202);
}

#[tokio::test]
async fn the_handshake_follows_the_settings() {
    let settings = ListenSettings {
        origins: vec!["Good.example".into()],
        ..ListenSettings::default()
    };
    let (served, _ingress) = open(settings).await;
    for (origin, consent) in [
        ("good.example", Some("good.example")),
        ("bad.example", None),
    ] {
        let answer = served
            .request(
                "OPTIONS",
                EVENTS_PATH,
                &[("WebHook-Request-Origin", origin)],
                b"",
            )
            .await;
        assert_eq!(answer.header("webhook-allowed-origin"), consent);
    }
}

#[tokio::test]
async fn a_header_puts_off_everything_that_a_request_brings() {
    let (served, mut ingress) = open(ListenSettings::default()).await;
    let two = br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"2","source":"/s","type":"t","data":{"a":1}}]"#;
    for (delay, at) in [
        ("90", "2026-11-27T12:01:30Z"),
        ("10m", "2026-11-27T12:10:00Z"),
        (" 366d ", "2027-11-28T12:00:00Z"),
        ("0", "2026-11-27T12:00:00Z"),
    ] {
        let headers = [BATCH, ("Pointsman-Delay", delay)];
        let (answer, message) = tokio::join!(
            served.post(EVENTS_PATH, &headers, two),
            tell(&mut ingress, Verdict::Stored)
        );
        assert_eq!(answer.status(), 202, "{answer:?}");
        assert_eq!(ids(&message), ["1", "2"]);
        for arrival in &message.arrivals {
            let Arrival::Event(event) = arrival else {
                panic!("not an event")
            };
            let asked = event.attribute(DELIVER_AT).map(|at| at.to_string());
            assert_eq!(asked.as_deref(), Some(at));
        }
    }
}

#[tokio::test]
async fn events_belong_to_the_trace_of_their_request() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (served, mut ingress) = open(ListenSettings::default()).await;
    let two = br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"2","source":"/s","type":"t","traceparent":"own"}]"#;
    let headers = [BATCH, ("Traceparent", TRACE), ("tracestate", "a=b")];
    let (answer, message) = tokio::join!(
        served.post(EVENTS_PATH, &headers, two),
        tell(&mut ingress, Verdict::Stored)
    );
    assert_eq!(answer.status(), 202, "{answer:?}");
    let traces = message.arrivals.iter().map(|arrival| {
        let Arrival::Event(event) = arrival else {
            panic!("not an event")
        };
        ["traceparent", "tracestate"].map(|name| event.attribute(name).map(|one| one.to_string()))
    });
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        traces.collect::<Vec<_>>(),
        [[some(TRACE), some("a=b")], [some("own"), None]]
    );
}

#[tokio::test]
async fn a_delay_that_says_nothing_or_too_much_is_refused() {
    let (served, _ingress) = open(ListenSettings::default()).await;
    let refused = async |more: Headers<'_>, told: &str| {
        let answer = served
            .post(EVENTS_PATH, &[BINARY, more].concat(), b"1")
            .await;
        let (status, detail) = answer.problem();
        assert_eq!(status, 400);
        assert!(detail.contains(told), "{detail}");
    };
    for wrong in ["", "soon", "-1", "367d", "1.5s"] {
        refused(&[("pointsman-delay", wrong)], "give a time such as 10m").await;
    }
    let twice = [("pointsman-delay", "1s"), ("pointsman-delay", "2s")];
    refused(&twice, "more than once").await;
    let both = [
        ("pointsman-delay", "1s"),
        ("ce-deliverat", "2026-11-27T13:00:00Z"),
    ];
    refused(&both, "send one of them").await;
}

/// Takes one message, whose caller asks, and returns his inquiry.
async fn inquiry(ingress: &mut Ingress) -> Box<Inquiry> {
    let mut batch = ingress.next().await.unwrap();
    match batch.messages.remove(0).acknowledgement {
        Acknowledgement::Inquiry(inquiry) => inquiry,
        other => panic!("{other:?} asks nothing"),
    }
}

fn id(sequence: u64) -> DeliveryId {
    DeliveryId {
        epoch: Epoch(7),
        sequence: Sequence(sequence),
        subscription: SubscriptionNumber(1),
        run: 0,
    }
}

fn made(sequence: u64, tasks: usize, ends: Option<Ends>) -> Made {
    let task = Task {
        id: id(sequence),
        rule: Name::new("r").unwrap(),
        target: Name::new("t").unwrap(),
        status: None,
    };
    let event = MadeEvent {
        sequence: Sequence(sequence),
        duplicate: tasks == 0,
        tasks: vec![task; tasks],
    };
    Made {
        events: vec![event],
        is_taken: false,
        ends,
    }
}

type EndSender = mpsc::UnboundedSender<(DeliveryId, TaskStatus)>;

fn ends() -> (EndSender, Option<Ends>) {
    let (sender, tasks) = mpsc::unbounded_channel();
    let registered = Box::new(());
    (sender, Some(Ends { tasks, registered }))
}

async fn prefers(served: &Served, prefer: &str) -> Answer {
    let headers = [BINARY, &[("prefer", prefer)]].concat();
    served.post(EVENTS_PATH, &headers, b"1").await
}

#[tokio::test]
async fn what_was_made_is_shown_to_whoever_prefers_to_see_it() {
    let (served, mut ingress) = open(ListenSettings::default()).await;
    let (answer, ()) = tokio::join!(prefers(&served, "return=representation"), async {
        let asked = inquiry(&mut ingress).await;
        assert!(!asked.waits);
        asked.caller.send(Ok(made(17, 1, None))).unwrap();
    });
    assert_eq!(
        (answer.status(), answer.body()),
        (
            202,
            r#"{"events":[{"sequence":17,"duplicate":false,"tasks":[{"id":"0000000000000007-11-1-0","rule":"r","target":"t"}]}]}"#
        )
    );
    assert_eq!(
        answer.header("preference-applied"),
        Some("return=representation")
    );
    // What is not stored is answered as ever.
    for (verdict, status) in [
        (Verdict::Later(Duration::from_secs(5)), 429),
        (
            Verdict::Rejected {
                reason: "no".into(),
                event: None,
            },
            422,
        ),
        (Verdict::Failed, 503),
    ] {
        let (answer, ()) = tokio::join!(prefers(&served, "wait=5"), async {
            let asked = inquiry(&mut ingress).await;
            asked.caller.send(Err(verdict)).unwrap();
        });
        assert_eq!(answer.problem().0, status);
    }
    // An empty batch has nothing to wait for.
    let headers = [BATCH, ("prefer", "wait=5")];
    let answer = served.post(EVENTS_PATH, &headers, b"[]").await;
    assert_eq!((answer.status(), answer.body()), (202, r#"{"events":[]}"#));
}

#[tokio::test]
async fn the_end_of_the_one_task_is_the_answer_and_a_connection_may_wait_longer_than_it_may_idle() {
    let settings = ListenSettings::default();
    let limits = Limits {
        idle_timeout: Duration::from_millis(50),
        head_timeout: Duration::from_millis(50),
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let served = serve(settings.clone(), limits).await;
    let mut ingress = Ingress::open(&settings, &served.routes, Arc::new(At(NOW))).unwrap();
    let (sender, ends) = ends();
    let (answer, ()) = tokio::join!(prefers(&served, "wait=20"), async {
        let asked = inquiry(&mut ingress).await;
        assert!(asked.waits);
        asked.caller.send(Ok(made(1, 1, ends))).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let status = TaskStatus {
            has_succeeded: true,
            code: Some(200),
            response: "done".into(),
            response_type: Some("text/x".to_owned()),
            ..TaskStatus::new("succeeded", 2)
        };
        sender.send((id(1), status)).unwrap();
    });
    assert_eq!((answer.status(), answer.body()), (200, "done"));
    assert_eq!(answer.header("content-type"), Some("text/x"));
    assert_eq!(answer.header("pointsman-attempts"), Some("2"));
}

#[tokio::test]
async fn a_caller_who_cannot_wait_or_need_not_is_answered_202() {
    let settings = ListenSettings {
        max_connections: 2,
        ..ListenSettings::default()
    };
    let (served, mut ingress) = open(settings).await;
    // One of two connections may wait.
    let (sender, first) = ends();
    let (waited, second) = tokio::join!(prefers(&served, "wait=600"), async {
        let asked = inquiry(&mut ingress).await;
        asked.caller.send(Ok(made(1, 1, first))).unwrap();
        let (second, ()) = tokio::join!(prefers(&served, "wait=600"), async {
            let asked = inquiry(&mut ingress).await;
            assert!(!asked.waits, "there is no room to wait");
            asked.caller.send(Ok(made(2, 1, None))).unwrap();
        });
        // The bus stops.
        drop(sender);
        second
    });
    assert_eq!((waited.status(), second.status()), (202, 202));
    // At most five minutes, which the answer says.
    assert_eq!(waited.header("preference-applied"), Some("wait=300"));
    assert_eq!(second.header("preference-applied"), None);
    // Nothing to wait for.
    for (prefer, made) in [
        ("wait=0", made(3, 1, None)),
        ("wait=9", made(4, 0, ends().1)),
    ] {
        let (answer, ()) = tokio::join!(prefers(&served, prefer), async {
            inquiry(&mut ingress).await.caller.send(Ok(made)).unwrap();
        });
        assert_eq!(answer.status(), 202);
    }
}

#[tokio::test]
async fn a_task_id_is_checked_and_goes_with_the_event() {
    let key = "fedcba9876543210fedcba9876543210";
    let settings = ListenSettings {
        auth: vec![key.into(), KEY.into()],
        ..ListenSettings::default()
    };
    let (served, mut ingress) = open(settings).await;
    let mut senders = Vec::new();
    for key in [key, KEY, key] {
        let authorization = format!("Bearer {key}");
        let named = [
            ("authorization", &*authorization),
            ("pointsman-task-id", " a:1 "),
        ];
        let headers = [BINARY, &named].concat();
        let (answer, sender) = tokio::join!(served.post(EVENTS_PATH, &headers, b"1"), async {
            let mut batch = ingress.next().await.unwrap();
            let message = batch.messages.remove(0);
            let Arrival::Event(event) = &message.arrivals[0] else {
                panic!("not an event")
            };
            let id = event.attribute(TASK_ID).map(|id| id.to_string());
            assert_eq!(id.as_deref(), Some("a:1"));
            let Acknowledgement::Inquiry(asked) = message.acknowledgement else {
                panic!("nothing is asked")
            };
            let (sender, mut made) = (asked.sender, made(7, 1, None));
            made.is_taken = sender == senders.first().copied().flatten() && sender.is_some();
            made.events[0].tasks[0].status = Some(TaskStatus::new("running", 1));
            asked.caller.send(Ok(made)).unwrap();
            sender
        });
        match senders.len() {
            2 => {
                assert_eq!(answer.problem().0, 409);
                assert!(answer.body().contains(r#""state":"running""#), "{answer:?}");
            }
            // What is stored is answered as ever.
            _ => assert_eq!((answer.status(), answer.body()), (202, "")),
        }
        senders.push(sender);
    }
    assert!(senders[0].is_some() && senders[0] != senders[1] && senders[0] == senders[2]);
    let authorization = format!("Bearer {KEY}");
    let refused = async |headers: Headers<'_>, body: &[u8], told: &str| {
        let headers = [headers, &[("authorization", &*authorization)]].concat();
        let answer = served.post(EVENTS_PATH, &headers, body).await;
        let (status, detail) = answer.problem();
        assert_eq!(status, 400, "{detail}");
        assert!(detail.contains(told), "{detail}");
    };
    let long = "x".repeat(129);
    for wrong in ["", "a b", "a/b", &long] {
        let headers = [BINARY, &[("pointsman-task-id", wrong)]].concat();
        refused(&headers, b"1", "1 to 128").await;
    }
    let named = ("pointsman-task-id", "a");
    refused(&[BINARY, &[named, named]].concat(), b"1", "more than once").await;
    let both = [BINARY, &[named, ("ce-pointsmantaskid", "b")]].concat();
    refused(&both, b"1", "send one of them").await;
    let one = br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"}]"#;
    refused(&[BATCH, named], one, "an id for each event").await;
}
