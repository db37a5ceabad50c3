//! What is told of what passes, over the API as a user sees it.

use std::time::Duration;

use clap::Parser;
use pointsman_journal::{DeadReason, Role, SubscriptionIdentity};
use pointsman_schemas::{Class, Data, DeliveryId, Event, Sequence, Timestamp};

use super::*;
use crate::admin::testing::{NOON, TestBus, name};
use crate::admin::view::TapLeftOut;
use crate::telemetry::tap::{Next, PassedAttempt, PassedEvent};

/// Data whose bytes a parser would change, over several lines.
const DATA: &str = "{\n  \"n\": 12345678901234567890123\r\n}";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: TapArgs,
}

fn args(bus: &TestBus, rest: &[&str]) -> TapArgs {
    let admin = format!("http://{}", bus.address);
    let line = ["tap", "--admin", &admin]
        .into_iter()
        .chain(rest.iter().copied());
    Line::try_parse_from(line).unwrap().args
}

fn passed(id: &str, data: &str) -> PassedEvent {
    let data = Data::json(data.to_owned().into()).unwrap();
    let event = Event::builder(id, "/shop", "order.paid").subject("c-1");
    PassedEvent {
        at: NOON,
        tenant: name("default"),
        origin: name("orders"),
        sequence: Some(Sequence(17)),
        event: event.data(data).build().unwrap().into(),
        is_duplicate: false,
        deliveries: 2,
    }
}

fn tried(class: Class, next: Next, message: &str) -> PassedAttempt {
    PassedAttempt {
        at: NOON,
        subscription: SubscriptionIdentity {
            tenant: name("default"),
            rule: name("paid"),
            role: Role::To,
            target: name("function"),
        },
        origin: name("orders"),
        id: "0000000000000001-17-1-0".parse::<DeliveryId>().unwrap(),
        event: passed("1", "1").event,
        attempt: 2,
        class,
        code: Some(503),
        message: message.to_owned(),
        took: Duration::from_micros(3_140),
        next,
    }
}

/// What is told of these, once a command with these arguments listens.
async fn told(rest: &[&str], pass: impl Fn(&crate::telemetry::Tap)) -> Vec<TapItem> {
    let bus = TestBus::start(&[]).await;
    let mut taps = open(&args(&bus, rest), true).await.unwrap();
    pass(&bus.tap);
    let mut items = Vec::new();
    while let Ok(Some(told)) =
        tokio::time::timeout(Duration::from_millis(1_500), taps.told.recv()).await
    {
        items.push(told.item.unwrap());
    }
    items
}

fn texts(items: &[TapItem], colours: bool) -> String {
    items
        .iter()
        .map(|item| as_text(None, item, colours, &TimeZone::UTC))
        .collect()
}

#[tokio::test]
async fn events_and_attempts_are_told_as_they_pass() {
    let retry = Next::Retry(Timestamp(NOON.0 + 2_000_000));
    let items = told(&["--data", "--rate", "1000"], |tap| {
        tap.passes(&passed("1", DATA));
        tap.passes(&PassedEvent {
            is_duplicate: true,
            ..passed("1", "{}")
        });
        tap.passes(&PassedEvent {
            deliveries: 0,
            sequence: None,
            ..passed("2", "{}")
        });
        tap.tries(&tried(Class::Failed, retry, "answered 503"));
        tap.tries(&tried(
            Class::Rejected,
            Next::Dead(DeadReason::Rejected),
            "no\nsuch \u{1b}[2Jthing",
        ));
        tap.tries(&PassedAttempt {
            attempt: 1,
            code: None,
            ..tried(Class::Delivered, Next::Ended, "")
        });
    })
    .await;
    insta::assert_snapshot!(texts(&items, false));
    let lines: Vec<String> = items
        .iter()
        .map(|item| as_json(None, item).unwrap())
        .collect();
    assert!(
        lines.iter().all(|line| line.matches('\n').count() == 1),
        "{lines:?}"
    );
    assert!(
        lines[0].starts_with(r#"{"passed":"event","at":"#)
            && lines[0].contains("12345678901234567890123"),
        "{}",
        lines[0]
    );
    let attempt: serde_json::Value = serde_json::from_str(&lines[3]).unwrap();
    assert_eq!(
        (&attempt["passed"], &attempt["next"], &attempt["seconds"]),
        (&"attempt".into(), &"retry".into(), &0.00314.into())
    );
    assert!(
        texts(&items, true).contains("\u{1b}[31m"),
        "a failure is red"
    );
}

#[tokio::test]
async fn the_filters_reach_the_bus() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = folder.path().join("pattern.yaml");
    std::fs::write(&pattern, "where: $.data.n > 5\n").unwrap();
    let pattern = pattern.to_str().unwrap();
    for (rest, expect) in [
        (
            &[
                "--pattern",
                pattern,
                "--events",
                "--type",
                "order.*",
                "--source",
                "orders",
            ][..],
            1,
        ),
        (
            &[
                "--attempts",
                "--rule",
                "paid",
                "--target",
                "function",
                "--tenant",
                "default",
            ],
            1,
        ),
        (&["--failed"], 0),
    ] {
        let items = told(rest, |tap| {
            tap.passes(&passed("1", r#"{"n":1}"#));
            tap.passes(&passed("2", r#"{"n":6}"#));
            tap.tries(&tried(Class::Delivered, Next::Ended, ""));
        })
        .await;
        assert_eq!(items.len(), expect, "{rest:?}: {}", texts(&items, false));
        assert!(
            !texts(&items, false).contains("\n    "),
            "no data unless it is asked for"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_tap_on_which_nothing_passes_stays_open() {
    let bus = TestBus::start(&[]).await;
    let mut taps = open(&args(&bus, &[]), true).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_secs(120), taps.told.recv()).await;
    assert!(nothing.is_err(), "it was closed");
    bus.tap.passes(&passed("1", "1"));
    assert!(taps.told.recv().await.unwrap().item.is_ok());
}

#[tokio::test]
async fn what_is_left_out_is_told() {
    let items = told(&["--rate", "10"], |tap| {
        (0..20).for_each(|_| tap.passes(&passed("1", "1")));
    })
    .await;
    let text = texts(&items, false);
    assert!(
        items.len() == 2 && text.ends_with("… 19 more passed\n"),
        "{text}"
    );
    let line = as_json(
        Some(&name("n1")),
        &TapItem::LeftOut(TapLeftOut { count: 3 }),
    )
    .unwrap();
    assert_eq!(
        line,
        "{\"passed\":\"left-out\",\"node\":\"n1\",\"count\":3}\n"
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    let bus = TestBus::start(&["a-key-of-the-operator-7"]).await;
    let refused = open(&args(&bus, &[]), true).await.err().unwrap();
    assert!(
        refused.to_string().contains("answered 401") && refused.help_text().contains("--admin-key"),
        "{refused}"
    );
    let open_bus = TestBus::start(&[]).await;
    for (query, expect) in [
        ("rate=0", "rate is 0"),
        ("pattern=nonsense", "pattern: it is no JSON object"),
        ("pattern=%7B%22a%22%3A1%7D", "pattern: `match`"),
        ("rules=paid", "unknown field `rules`"),
    ] {
        let (status, problem) = open_bus.get(&format!("/api/v1/tap?{query}")).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(
            status == 400 && detail.contains(expect),
            "{query}: {status} {detail}"
        );
    }
}

#[test]
fn server_sent_events_are_read_from_any_pieces() {
    let text = concat!(
        ": hello\r\n\r\nevent: left-out\r\ndata: {\"count\":\ndata:3}\nid: 1\n\n",
        "event: later\ndata: ?\n\nevent: left-out\ndata: {}\n\n"
    );
    let whole = |pieces: &[&[u8]]| -> String {
        let mut events = stream::Events::default();
        let items = pieces.iter().flat_map(|piece| events.read(piece));
        items
            .map(|item| match item {
                Ok(item) => format!("{item:?}; "),
                Err(error) => error.to_string(),
            })
            .collect()
    };
    let expect = whole(&[text.as_bytes()]);
    assert!(expect.starts_with("LeftOut(TapLeftOut { count: 3 }); cannot understand what the bus tells: missing field `count`"), "{expect}");
    let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(whole(&bytes), expect);
}
