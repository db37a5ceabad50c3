use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_connectors::{Acknowledgement, Arrival, Message, Plain, Verdict};
use pointsman_schemas::trace::TRACEPARENT;
use pointsman_schemas::{Event, Name, PositionChange, SubscriptionNumber, Timestamp};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::append::FULL_RETRY_AFTER;
use super::*;
use crate::router::testing::{matcher, rule, shared};
use crate::router::{Matcher, RuleInForce};
use crate::telemetry::metrics::{Metrics, SourceMetrics};
use crate::telemetry::traces::Traces;
use crate::telemetry::traces::testing::{Told, recording};
use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
use pointsman_journal::{
    Backlog, BacklogQuota, DeadSelection, QuotaOwner, Retention, Role, Subscription,
    SubscriptionIdentity,
};
use prometheus_client::registry::Registry;

/// Hands over what it was given, then waits for ever.
struct Script(VecDeque<Batch>);

#[async_trait]
impl Source for Script {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        match self.0.pop_front() {
            Some(batch) => Ok(batch),
            None => std::future::pending().await,
        }
    }
}

/// Gives an event without a subject to each of the subscriptions once; one whose subject is a
/// number of [`TIMES`], so often.
fn everybody(subscriptions: &[SubscriptionNumber]) -> Matcher {
    let without = serde_json::json!({ "subject": [{ "exists": false }] });
    let mut rules = vec![rule(without, subscriptions)];
    for times in TIMES {
        let numbers: Vec<_> = subscriptions.repeat(times);
        rules.push(rule(
            serde_json::json!({ "subject": [times.to_string()] }),
            &numbers,
        ));
    }
    matcher(&shared(rules))
}

const TIMES: [usize; 2] = [1, DELIVERIES_PER_APPEND_MAX / 2 + 1];

fn reader(subscriptions: &[SubscriptionNumber], metrics: &SourceMetrics) -> MessageReader {
    let (tenant, origin) = (Name::default_tenant(), Name::new("script").unwrap());
    MessageReader::new(tenant, origin, everybody(subscriptions), metrics.clone())
}

fn journal(bytes_max: u64) -> Arc<MemoryJournal> {
    MemoryJournal::new(
        Arc::new(RuntimeClock::new(Timestamp(0))),
        MemoryOptions {
            bytes_max,
            ..MemoryOptions::default()
        },
    )
}

async fn subscription(journal: &MemoryJournal, backlog: Option<Backlog>) -> SubscriptionNumber {
    let name = |text| Name::new(text).unwrap();
    let identity = SubscriptionIdentity {
        tenant: Name::default_tenant(),
        rule: name("r"),
        role: Role::To,
        target: name("t"),
    };
    journal
        .subscribe(vec![Subscription {
            identity,
            renamed_from: None,
            backlog,
            start: None,
        }])
        .await
        .unwrap()[0]
}

fn event(id: &str) -> Event {
    Event::builder(id, "/s", "t").build().unwrap()
}

fn called(event: Event) -> (Message, oneshot::Receiver<Verdict>) {
    let (caller, verdict) = oneshot::channel();
    (
        Message::event(event, Acknowledgement::Caller(caller, None)),
        verdict,
    )
}

fn plain(id: &str, acknowledgement: Acknowledgement) -> Message {
    let plain = Plain {
        fields: Plain::fields([("headers", serde_json::json!({}))]),
        defaults: Event::builder(id, "/s", "t"),
    };
    Message {
        arrivals: SmallVec::from_iter([Arrival::Plain(Box::new(plain))]),
        rejects: Vec::new(),
        acknowledgement,
        positions: Vec::new(),
    }
}

struct Running {
    metrics: SourceMetrics,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
}

fn start(
    journal: &Arc<MemoryJournal>,
    subscriptions: Vec<SubscriptionNumber>,
    batches: Vec<Batch>,
) -> Running {
    start_traced(journal, subscriptions, batches, Traces::default())
}

fn start_traced(
    journal: &Arc<MemoryJournal>,
    subscriptions: Vec<SubscriptionNumber>,
    batches: Vec<Batch>,
    traces: Traces,
) -> Running {
    let metrics = Metrics::new(&mut Registry::default(), Timestamp(0)).traced(traces);
    let metrics = metrics.source(&Name::default_tenant(), &Name::ingress());
    let stop = CancellationToken::new();
    let journal = Arc::clone(journal) as Arc<dyn Journal>;
    let mut intake = Intake::new(reader(&subscriptions, &metrics), journal);
    let token = stop.clone();
    let task = tokio::spawn(async move { intake.run(&mut Script(batches.into()), &token).await });
    Running {
        metrics,
        stop,
        task,
    }
}

impl Running {
    async fn stop(self) -> SourceMetrics {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.metrics
    }
}

fn batch(messages: Vec<Message>) -> Batch {
    Batch {
        messages,
        cursor: None,
    }
}

fn cursor(position: &'static str) -> Option<Cursor> {
    Some(Cursor {
        fingerprint: 1,
        position: Bytes::from_static(position.as_bytes()),
    })
}

async fn stored(journal: &MemoryJournal) -> u64 {
    journal.reader().totals().await.unwrap().events
}

#[tokio::test]
async fn a_message_is_told_stored_once_it_is() {
    let journal = journal(u64::MAX);
    let number = subscription(&journal, None).await;
    let (message, verdict) = called(event("1"));
    let running = start(&journal, vec![number], vec![batch(vec![message])]);
    assert_eq!(verdict.await, Ok(Verdict::Stored));
    assert_eq!(
        journal.reader().subscriptions().await.unwrap()[0]
            .counts
            .pending,
        1
    );
    assert_eq!(running.stop().await.received.get(), 1);
}

/// Hands over nothing until it is stopped, and then batch after batch.
struct LastWords(VecDeque<Batch>);

#[async_trait]
impl Source for LastWords {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        std::future::pending().await
    }

    async fn finish(&mut self) -> Option<Batch> {
        self.0.pop_front()
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stopped_source_still_has_is_taken_in_unless_that_takes_too_long() {
    for (bytes_max, expect) in [(u64::MAX, 3), (1, 0)] {
        let journal = journal(bytes_max);
        let metrics = Metrics::new(&mut Registry::default(), Timestamp(0))
            .source(&Name::default_tenant(), &Name::ingress());
        let (tenant, origin) = (Name::default_tenant(), Name::new("script").unwrap());
        let kept_in = Arc::clone(&journal) as Arc<dyn Journal>;
        let mut intake = Intake::new(reader(&[], &metrics), kept_in);
        let last = |id: &str| Message::event(event(id), Acknowledgement::None);
        let with_cursor = Batch {
            messages: vec![last("3")],
            cursor: cursor("3"),
        };
        let mut source = LastWords([batch(vec![last("1"), last("2")]), with_cursor].into());
        let stop = CancellationToken::new();
        stop.cancel();
        intake.run(&mut source, &stop).await.unwrap();
        assert_eq!(stored(&journal).await, expect);
        assert_eq!(
            journal.cursor(&tenant, &origin).await.unwrap(),
            cursor("3").filter(|_| expect > 0)
        );
    }
}

#[tokio::test]
async fn a_full_store_sends_the_caller_away_and_a_closed_one_fails() {
    let journal = journal(1);
    let (message, verdict) = called(event("1"));
    let running = start(&journal, vec![], vec![batch(vec![message])]);
    assert_eq!(verdict.await, Ok(Verdict::Later(FULL_RETRY_AFTER)));
    running.stop().await;

    journal.close().await;
    let (message, verdict) = called(event("2"));
    let running = start(&journal, vec![], vec![batch(vec![message])]);
    assert_eq!(verdict.await, Ok(Verdict::Failed));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_leaves_its_spans_and_the_log_names_its_trace() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let traced = |id: &str, flags: &str| {
        let parent = format!("00-{TRACE}-b7ad6b7169203331-{flags}");
        let event = Event::builder(id, "/s", "t").attribute(TRACEPARENT, (&*parent).into());
        event.build().unwrap()
    };
    let (traces, mut taken) = recording();
    let (logged, _guard) = crate::telemetry::testing::capture("warn", true);
    let full = journal(1);
    let errors = |spans: Vec<Told>| {
        let errors = spans
            .into_iter()
            .map(|(name, error)| (name, error.unwrap_or_default()));
        errors.collect::<Vec<_>>()
    };
    let name = |(name, _): &(String, String)| name.clone();

    // The store is full.
    let (message, verdict) = called(traced("1", "01"));
    let running = start_traced(&full, vec![], vec![batch(vec![message])], traces.clone());
    assert_eq!(verdict.await, Ok(Verdict::Later(FULL_RETRY_AFTER)));
    running.stop().await;
    let spans = errors(taken());
    assert_eq!(
        spans.iter().map(name).collect::<Vec<_>>(),
        ["receive script", "match", "append"]
    );
    assert!(
        spans[0].1.contains("full") && spans[2].1.contains("full"),
        "{spans:?}"
    );
    assert_eq!(spans[1].1, "");

    // Held while it is full, and given up once the bus stops.
    let held = Message::event(traced("2", "01"), Acknowledgement::None);
    let running = start_traced(&full, vec![], vec![batch(vec![held])], traces.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(taken(), [], "it may be stored yet");
    full.close().await;
    running.stop().await;
    let spans = errors(taken());
    assert!(spans.len() == 3 && !spans[0].1.is_empty(), "{spans:?}");
    let lines = logged.text();
    assert!(lines.lines().count() > 1, "{lines}");
    let trace = format!("\"trace_id\":\"{TRACE}\"");
    assert!(lines.lines().all(|line| line.contains(&trace)), "{lines}");

    // It comes twice: what is not recorded leaves nothing, a duplicate says that it is one.
    let open = journal(u64::MAX);
    for (flags, expect) in [("00", 0), ("01", 6)] {
        let ((first, stored), (again, known)) =
            (called(traced("3", flags)), called(traced("3", flags)));
        let batches = vec![batch(vec![first]), batch(vec![again])];
        let metrics = Metrics::new(&mut Registry::default(), Timestamp(0)).traced(traces.clone());
        let metrics = metrics.source(&Name::default_tenant(), &Name::ingress());
        let reader = reader(&[], &metrics).with_stable_ids(true);
        let mut intake = Intake::new(reader, Arc::clone(&open) as Arc<dyn Journal>);
        let (stop, mut script) = (CancellationToken::new(), Script(batches.into()));
        let both = async {
            assert_eq!(
                (stored.await, known.await),
                (Ok(Verdict::Stored), Ok(Verdict::Stored))
            );
            stop.cancel();
        };
        let (ran, ()) = tokio::join!(intake.run(&mut script, &stop), both);
        ran.unwrap();
        let spans = errors(taken());
        let wrong: Vec<_> = spans
            .iter()
            .filter(|(_, error)| !error.is_empty())
            .collect();
        assert_eq!(spans.len(), expect, "{spans:?}");
        // The first of those that are recorded had come before, too.
        assert_eq!(wrong.len(), expect / 3, "{spans:?}");
        assert!(wrong.iter().all(|(name, _)| name == "append"), "{spans:?}");
    }
}

#[tokio::test]
async fn who_is_over_the_quota_is_asked_to_come_later() {
    let journal = journal(u64::MAX);
    let number = subscription(&journal, None).await;
    let owner = QuotaOwner {
        tenant: Name::default_tenant(),
        rule: None,
    };
    let backlog = Backlog {
        max: 1,
        dead_when_full: false,
    };
    let quota = BacklogQuota { owner, backlog };
    journal.set_quotas(vec![quota]).await.unwrap();
    let ((first, stored), (second, refused)) = (called(event("1")), called(event("2")));
    let running = start(
        &journal,
        vec![number],
        vec![batch(vec![first]), batch(vec![second])],
    );
    assert_eq!(stored.await.unwrap(), Verdict::Stored);
    let later = refused.await.unwrap();
    assert!(matches!(later, Verdict::Later(_)), "{later:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_full_backlog_stops_only_what_matches_it() {
    let journal = journal(u64::MAX);
    let number = subscription(
        &journal,
        Some(Backlog {
            max: 1,
            dead_when_full: false,
        }),
    )
    .await;
    let with = |id: &str, deliveries: &str| {
        Event::builder(id, "/s", "t")
            .subject(deliveries)
            .build()
            .unwrap()
    };
    let (fills, filled) = called(with("1", "1"));
    let (messages, verdicts): (Vec<_>, Vec<_>) = [("2", "1"), ("3", "0")]
        .map(|(id, times)| called(with(id, times)))
        .into_iter()
        .unzip();
    let running = start(
        &journal,
        vec![number],
        vec![batch(vec![fills]), batch(messages)],
    );
    assert_eq!(filled.await, Ok(Verdict::Stored));
    assert_eq!(
        futures::future::join_all(verdicts).await,
        [Ok(Verdict::Later(FULL_RETRY_AFTER)), Ok(Verdict::Stored)]
    );
    assert_eq!(stored(&journal).await, 2);
    running.stop().await;
}

#[tokio::test]
async fn a_mapping_that_fails_is_told_to_the_caller_and_else_kept_as_a_dead_letter() {
    let journal = journal(u64::MAX);
    let (caller, verdict) = oneshot::channel();
    let (told, was_told) = oneshot::channel();
    let broker = Acknowledgement::io(|verdict| async move { told.send(verdict).unwrap() });
    let running = start(
        &journal,
        vec![],
        vec![batch(vec![
            plain("", Acknowledgement::Caller(caller, None)),
            plain("", broker),
            plain("good", Acknowledgement::None),
        ])],
    );
    assert!(
        matches!(verdict.await, Ok(Verdict::Rejected { reason, .. }) if reason.contains("\"id\""))
    );
    assert_eq!(was_told.await, Ok(Verdict::Stored));
    let totals = journal.reader().totals().await.unwrap();
    assert_eq!((totals.events, totals.rejects), (1, 1));
    running.stop().await;
}

#[tokio::test]
async fn a_delivery_asked_for_at_no_time_is_refused_and_else_kept_as_a_dead_letter() {
    let journal = journal(u64::MAX);
    let asks = |id: &str| {
        let event = Event::builder(id, "/s", "t").attribute("deliverat", "soon".into());
        event.build().unwrap()
    };
    let (message, verdict) = called(asks("1"));
    let (told, was_told) = oneshot::channel();
    let broker = Acknowledgement::io(|verdict| async move { told.send(verdict).unwrap() });
    let running = start(
        &journal,
        vec![],
        vec![batch(vec![message, Message::event(asks("2"), broker)])],
    );
    assert!(
        matches!(verdict.await, Ok(Verdict::Rejected { reason, .. }) if reason.contains("soon"))
    );
    assert_eq!(was_told.await, Ok(Verdict::Stored));
    let (reader, all) = (journal.reader(), DeadSelection::default());
    let dead = reader.dead(&all, None, 9).await.unwrap();
    assert_eq!(dead.len(), 1);
    let event = pointsman_schemas::json::decode(&dead[0].raw).unwrap();
    assert_eq!(event.id(), "2");
    running.stop().await;
}

#[test]
fn a_source_has_its_events_kept_for_a_time_of_its_own() {
    let seconds = Duration::from_secs;
    let keeps = RuleInForce {
        retention: Some(seconds(5)),
        ..rule(serde_json::json!({ "subject": ["a"] }), &[])
    };
    let router = shared(vec![keeps]);
    let (metrics, name) = (
        Metrics::new(&mut Registry::default(), Timestamp(0)),
        Name::new("script").unwrap(),
    );
    let retention = |own: Option<Duration>, subject: &str| {
        let tenant = Name::default_tenant();
        let metrics = metrics.source(&tenant, &name);
        let reader = MessageReader::new(tenant, name.clone(), matcher(&router), metrics);
        let event = Event::builder("1", "/s", "t").subject(subject);
        let message = Message::event(event.build().unwrap(), Acknowledgement::None);
        let entry = reader
            .retaining(own)
            .read(message)
            .unwrap()
            .entries
            .remove(0);
        entry.terms.and_then(|terms| terms.retention)
    };
    let expect = |instead, at_least| Some(Retention { instead, at_least });
    assert_eq!(retention(None, "b"), None);
    assert_eq!(retention(None, "a"), expect(None, seconds(5)));
    let own = Some(seconds(2));
    assert_eq!(retention(own, "b"), expect(own, seconds(0)));
    assert_eq!(retention(own, "a"), expect(own, seconds(5)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_hands_over_again_is_held_until_there_is_room_and_its_cursor_with_it() {
    // Room for one event; it goes when its retention is over.
    let journal = MemoryJournal::new(
        Arc::new(RuntimeClock::new(Timestamp(0))),
        MemoryOptions {
            bytes_max: event("1").size_bytes() as u64,
            retention: Duration::from_secs(60),
            ..MemoryOptions::default()
        },
    );
    let number = subscription(&journal, None).await;
    let one = |id: &str, position| Batch {
        messages: vec![Message::event(event(id), Acknowledgement::None)],
        cursor: cursor(position),
    };
    let running = start(&journal, vec![number], vec![one("1", "a"), one("2", "b")]);
    let (tenant, source) = (Name::default_tenant(), Name::new("script").unwrap());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(
        journal.cursor(&tenant, &source).await.unwrap(),
        cursor("a"),
        "the second batch's cursor ran ahead of its events"
    );

    // The first is delivered, which lets it go.
    let grant = pointsman_journal::Grant {
        subscription: number,
        count: 9,
        lease: Duration::from_secs(9),
        bytes_max: usize::MAX,
        batching: None,
    };
    let leased = journal.lease(&[grant], usize::MAX).await.unwrap().leased;
    let settle =
        |token| pointsman_journal::Settlement::new(token, pointsman_journal::Ending::Delivered);
    journal
        .settle(leased.iter().map(|one| settle(one.token)).collect())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(journal.cursor(&tenant, &source).await.unwrap(), cursor("b"));
    running.stop().await;
}

#[tokio::test]
async fn rows_of_a_position_are_stored_with_their_message_alone() {
    let journal = journal(u64::MAX);
    let full = Backlog {
        max: 1,
        dead_when_full: false,
    };
    let number = subscription(&journal, Some(full)).await;
    let changing = |(message, verdict): (Message, _), key: &'static str| {
        let change = |key: &'static str| PositionChange {
            key: Bytes::from_static(key.as_bytes()),
            value: Some(Bytes::new()),
        };
        let positions = vec![change(key)];
        (
            Message {
                positions,
                ..message
            },
            verdict,
        )
    };
    let (first, stored) = changing(called(event("1")), "first");
    let (second, refused) = changing(called(event("2")), "second");
    let (mut third, alone) = changing(called(event("3")), "third");
    third.arrivals.clear();
    let batches = vec![batch(vec![first]), batch(vec![second, third])];
    let running = start(&journal, vec![number], batches);
    assert_eq!(stored.await, Ok(Verdict::Stored));
    assert_eq!(refused.await, Ok(Verdict::Later(FULL_RETRY_AFTER)));
    assert_eq!(alone.await, Ok(Verdict::Stored));
    running.stop().await;
    let (tenant, source) = (Name::default_tenant(), Name::new("script").unwrap());
    let rows = journal.positions(&tenant, &source, None, 9).await.unwrap();
    let keys: Vec<_> = rows.iter().map(|row| &row.key[..]).collect();
    assert_eq!(keys, [&b"first"[..], b"third"]);
}

#[tokio::test]
async fn a_batch_past_the_bound_is_cut_between_messages_and_stored_whole() {
    let journal = journal(u64::MAX);
    let number = subscription(&journal, None).await;
    let half = TIMES[1].to_string();
    let with = |id: &str| {
        called(
            Event::builder(id, "/s", "t")
                .subject(half.clone())
                .build()
                .unwrap(),
        )
    };
    let (messages, verdicts): (Vec<_>, Vec<_>) = ["1", "2", "3"].map(with).into_iter().unzip();
    let running = start(&journal, vec![number], vec![batch(messages)]);
    assert!(
        futures::future::join_all(verdicts)
            .await
            .iter()
            .all(|verdict| *verdict == Ok(Verdict::Stored))
    );
    assert_eq!(stored(&journal).await, 3);
    running.stop().await;
}

#[tokio::test]
async fn stopping_waits_for_what_has_been_handed_over() {
    let journal = journal(u64::MAX);
    let (messages, verdicts): (Vec<_>, Vec<_>) =
        (0..100).map(|id| called(event(&id.to_string()))).unzip();
    let running = start(
        &journal,
        vec![],
        messages
            .into_iter()
            .map(|message| batch(vec![message]))
            .collect(),
    );
    tokio::task::yield_now().await;
    let metrics = running.stop().await;
    let told = futures::future::join_all(verdicts)
        .await
        .iter()
        .filter(|verdict| **verdict == Ok(Verdict::Stored))
        .count();
    assert_eq!(
        (told as u64, stored(&journal).await),
        (metrics.received.get(), told as u64)
    );
}

#[tokio::test]
async fn what_its_source_would_soon_drop_is_a_dead_letter_where_the_backlog_is_full() {
    let journal = journal(u64::MAX);
    let number = subscription(
        &journal,
        Some(Backlog {
            max: 1,
            dead_when_full: false,
        }),
    )
    .await;
    let brokered = |id: &str, wait: u64| {
        let (told, verdict) = oneshot::channel();
        let time = tokio::time::Instant::now() + Duration::from_secs(wait);
        let acknowledgement =
            Acknowledgement::io(|verdict| async move { told.send(verdict).unwrap() })
                .with_deadline(time);
        (Message::event(event(id), acknowledgement), verdict)
    };
    let (fills, filled) = called(event("1"));
    let ((patient, waits), (urgent, kept)) = (brokered("2", 3_600), brokered("3", 0));
    let (alone, kept_alone) = brokered("4", 0);
    let running = start(
        &journal,
        vec![number],
        vec![
            batch(vec![fills]),
            batch(vec![patient, urgent]),
            batch(vec![alone]),
        ],
    );
    assert_eq!(filled.await, Ok(Verdict::Stored));
    assert_eq!(waits.await, Ok(Verdict::Later(FULL_RETRY_AFTER)));
    assert_eq!(
        (kept.await, kept_alone.await),
        (Ok(Verdict::Stored), Ok(Verdict::Stored))
    );
    let counts = journal.reader().subscriptions().await.unwrap()[0].counts;
    assert_eq!((counts.created, counts.pending, counts.dead), (3, 1, 2));
    running.stop().await;
}
