//! What is recorded of events and attempts.

use std::num::NonZeroU32;

use pointsman_journal::{
    Ending, LastOutcome, LeaseOwner, LeaseToken, Leased, Role, SubscriptionIdentity,
};
use pointsman_schemas::trace::{TRACEPARENT, TRACESTATE};
use pointsman_schemas::{Class, Epoch, Name, Outcome, Sequence, SubscriptionNumber};
use tokio::sync::mpsc;

use super::queue::QUEUED_MAX;
use super::span::{Kind, Span, Value};
use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traces(ratio: f64, follows_parent: bool) -> (Traces, mpsc::Receiver<Span>, SpanCounters) {
    let counters = SpanCounters::default();
    let (queue, spans) = SpanQueue::new(counters.clone());
    let sampler = Sampler {
        ratio,
        follows_parent,
    };
    (Traces::new(sampler, queue), spans, counters)
}

fn event(parent: Option<&str>) -> Arc<Event> {
    let mut event = Event::builder("1", "/shop", "order.paid");
    if let Some(parent) = parent {
        event = event.attribute(TRACEPARENT, parent.into());
        event = event.attribute(TRACESTATE, "vendor=1".into());
    }
    Arc::new(event.build().unwrap())
}

fn receive(traces: &Traces, event: Arc<Event>, received: Received<'_>) -> Arc<Event> {
    let (event, receiving) = traces.receive(&Name::default_tenant(), &Name::ingress(), event);
    if let Some(mut receiving) = receiving {
        receiving.matched(2);
        traces.received(&receiving, received);
    }
    event
}

fn stored() -> Received<'static> {
    Received {
        appended: Some((Timestamp::now(), Timestamp::now())),
        ..Received::default()
    }
}

fn leased(event: &Arc<Event>, sequence: u64, attempts: u32) -> Leased {
    Leased {
        token: LeaseToken::new(LeaseOwner::Disk, 1),
        id: DeliveryId {
            epoch: Epoch(1),
            sequence: Sequence(sequence),
            subscription: SubscriptionNumber(3),
            run: 0,
        },
        event: Arc::clone(event),
        tenant: Name::default_tenant(),
        replay: None,
        origin: Name::ingress(),
        attempts,
        failures: attempts,
        since: Timestamp(1_000_000),
        begins_call: true,
        fence: None,
    }
}

fn retry() -> Ending {
    Ending::Retry {
        at: Timestamp(9_000_000),
        failure: true,
        batch_max: None::<NonZeroU32>,
        last: LastOutcome {
            at: Timestamp(5_000_000),
            class: Class::Failed,
            code: Some(500),
            message: String::new(),
            response: String::new(),
        },
    }
}

fn try_it(traces: &Traces, leased: &Leased, ending: &Ending, batch: &Batch) {
    let subscription = SubscriptionIdentity {
        tenant: Name::default_tenant(),
        rule: Name::new("paid").unwrap(),
        role: Role::To,
        target: Name::new("bill").unwrap(),
    };
    let second = |number: u32| Timestamp(i64::from(number) * 1_000_000);
    let outcome = match ending {
        Ending::Delivered => Outcome::delivered(),
        _ => Outcome::new(Class::Failed, "answered 500"),
    };
    traces.tried(&Tried {
        leased,
        subscription: &subscription,
        outcome: &outcome,
        ending,
        since: leased.since,
        began: second(10 * leased.attempts + 4),
        ended: second(10 * leased.attempts + 5),
        batch,
    });
}

fn taken(spans: &mut mpsc::Receiver<Span>) -> Vec<Span> {
    std::iter::from_fn(|| spans.try_recv().ok()).collect()
}

fn text<'s>(span: &'s Span, name: &str) -> &'s str {
    let found = span.attributes.iter().find(|(known, _)| *known == name);
    match found {
        Some((_, Value::Text(text))) => text,
        _ => "",
    }
}

#[test]
fn an_event_and_its_attempts_are_spans_of_its_trace() {
    let (traces, mut spans, _) = traces(0.0, true);
    let event = receive(&traces, event(Some(PARENT)), stored());
    for (attempts, ending) in [
        (0, retry()),
        (1, Ending::Released),
        (1, retry()),
        (2, Ending::Delivered),
    ] {
        try_it(
            &traces,
            &leased(&event, 7, attempts),
            &ending,
            &Batch::default(),
        );
    }
    let all = taken(&mut spans);
    let names: Vec<_> = all.iter().map(|span| span.name.as_str()).collect();
    let one = ["wait bill", "attempt bill"];
    let expect = [
        &["receive ingress", "match", "append"][..],
        &one,
        &one[1..],
        &one,
        &one,
    ]
    .concat();
    assert_eq!(names, expect, "what was put back waits on");
    let context = TraceContext::of(&event).unwrap();
    let receive = &all[0];
    assert_eq!(receive.parent, Some(context.parent.span_id));
    assert_eq!(
        (receive.kind, receive.error.as_deref()),
        (Kind::Consumer, None)
    );
    assert_eq!(text(receive, "cloudevents.event_type"), "order.paid");
    for span in &all {
        assert_eq!(span.trace_id, context.parent.trace_id);
        assert_eq!(span.state, context.state);
        assert!(
            span.id == receive.id || span.parent == Some(receive.id),
            "{span:?}"
        );
    }
    let attempts = all.iter().filter(|span| span.name == one[1]);
    let is_released = |span: &&Span| text(span, "pointsman.next") == "released";
    let (released, attempts): (Vec<_>, Vec<_>) = attempts.partition(is_released);
    let [released] = released[..] else {
        panic!("{all:?}")
    };
    assert_eq!(text(released, "pointsman.outcome"), "released");
    assert_eq!(released.links, [(context.parent.trace_id, attempts[0].id)]);
    assert!(released.error.is_some() && attempts.iter().all(|one| one.id != released.id));
    for (number, span) in (1..).zip(&attempts) {
        // Whoever is called is told of the attempt.
        let told = traces
            .context(&event, leased(&event, 7, 0).id, number)
            .unwrap();
        assert_eq!(told.parent.span_id, span.id);
        assert_eq!(span.kind, Kind::Client);
    }
    assert_eq!(
        attempts[2].links,
        [(context.parent.trace_id, attempts[1].id)]
    );
    assert_eq!(attempts[0].links, []);
    assert_ne!(attempts[0].id, attempts[1].id);
    assert_eq!(attempts[0].error.as_deref(), Some("answered 500"));
    assert_eq!(text(attempts[2], "pointsman.next"), "delivered");
    let waits: Vec<_> = all.iter().filter(|span| span.name == one[0]).collect();
    let seconds = |span: &Span| (span.began.0 / 1_000_000, span.ended.0 / 1_000_000);
    let waited: Vec<_> = waits.iter().map(|span| seconds(span)).collect();
    assert_eq!(waited, [(1, 4), (5, 14), (15, 24)]);
}

#[test]
fn the_ids_of_spans_never_change() {
    let event = event(Some(PARENT));
    let trace = TraceContext::of(&event).unwrap().parent.trace_id;
    let names = (Name::default_tenant(), Name::ingress());
    let receive = ids::of_receive(trace, &names.0, &names.1, &event);
    let attempt = ids::of_attempt(trace, leased(&event, 7, 0).id, 1);
    assert_eq!(
        [receive.to_string(), attempt.to_string()],
        ["754df84358b3a4fd", "f3de1c29ad512677"]
    );
    let elsewhere = Name::new("orders").unwrap();
    assert_ne!(
        ids::of_receive(trace, &names.0, &elsewhere, &event),
        receive
    );
}

#[test]
fn what_is_recorded_is_decided_once_for_all_parts_of_a_trace() {
    let unsampled = PARENT.replace("-01", "-00");
    for (ratio, follows_parent, parent, expect) in [
        (0.0, true, Some(PARENT), true),
        (1.0, true, Some(&*unsampled), false),
        (1.0, false, Some(&*unsampled), true),
        (0.0, false, Some(PARENT), false),
        (0.0, true, None, false),
        (1.0, true, None, true),
    ] {
        let (traces, mut spans, _) = traces(ratio, follows_parent);
        let given = event(parent);
        let event = receive(&traces, Arc::clone(&given), stored());
        let is_left = Arc::ptr_eq(&event, &given);
        assert_eq!(is_left, parent.is_some() || !expect, "{ratio} {parent:?}");
        let id = leased(&event, 7, 0).id;
        try_it(
            &traces,
            &leased(&event, 7, 0),
            &Ending::Delivered,
            &Batch::default(),
        );
        assert_eq!(taken(&mut spans).is_empty(), !expect, "{ratio} {parent:?}");
        let own = TraceContext::of(&event);
        let told = traces.context(&event, id, 1);
        match (own, told) {
            (Some(own), Some(told)) => {
                assert_eq!(
                    told.parent.span_id != own.parent.span_id,
                    expect,
                    "{ratio} {parent:?}"
                );
                assert_eq!(
                    told.parent.flags.is_sampled(),
                    expect || own.parent.flags.is_sampled()
                );
            }
            (None, None) => assert!(!expect),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_trace_that_begins_here_begins_with_the_span_that_its_event_names() {
    let (traces, mut spans, _) = traces(1.0, true);
    let event = receive(&traces, event(None), stored());
    let parent = TraceContext::of(&event).unwrap().parent;
    assert!(parent.flags.is_sampled());
    let all = taken(&mut spans);
    assert_eq!((all[0].id, all[0].parent), (parent.span_id, None));
    // It is handed over again, with what it was given here, and is a duplicate.
    let duplicate = Received {
        is_duplicate: true,
        ..stored()
    };
    receive(&traces, event, duplicate);
    let again = taken(&mut spans);
    assert_ne!(again[0].id, parent.span_id);
    assert_eq!(again[0].parent, Some(parent.span_id));
}

#[test]
fn what_is_refused_and_comes_again_has_spans_of_its_own() {
    let (traces, mut spans, _) = traces(0.0, true);
    let event = event(Some(PARENT));
    let refused = Received {
        refused: Some("the store is full"),
        ..stored()
    };
    for received in [refused, refused, stored()] {
        receive(&traces, Arc::clone(&event), received);
    }
    let all = taken(&mut spans);
    let receives: Vec<_> = all
        .iter()
        .filter(|span| span.kind == Kind::Consumer)
        .collect();
    let ids: std::collections::BTreeSet<_> = receives.iter().map(|span| span.id).collect();
    assert_eq!((receives.len(), ids.len()), (3, 3));
    // Attempts follow from the one that was stored.
    let trace = receives[0].trace_id;
    let followed = ids::of_receive(trace, &Name::default_tenant(), &Name::ingress(), &event);
    assert_eq!(receives[2].id, followed);
    let errors = receives.iter().map(|span| span.error.as_deref());
    let full = Some("the store is full");
    assert_eq!(errors.collect::<Vec<_>>(), [full, full, None]);
}

#[test]
fn the_attempts_of_a_batch_are_linked_to_the_one_that_the_call_names() {
    let (traces, mut spans, _) = traces(0.0, true);
    let sampled = event(Some(PARENT));
    let other = event(Some(&PARENT.replace("0af7", "1af7")));
    let call = [
        leased(&event(None), 6, 0),
        leased(&sampled, 7, 0),
        leased(&other, 8, 0),
        leased(&sampled, 9, 0),
    ];
    let batch = traces.batch(&call);
    for leased in &call {
        try_it(&traces, leased, &Ending::Delivered, &batch);
    }
    let attempts = taken(&mut spans).into_iter();
    let attempts: Vec<_> = attempts.filter(|span| span.kind == Kind::Client).collect();
    let links: Vec<_> = attempts
        .iter()
        .map(|span| (span.trace_id, span.id))
        .collect();
    assert_eq!(attempts.len(), 3);
    assert_eq!(attempts[0].links, links[1..]);
    assert_eq!(
        (&attempts[1].links[..], &attempts[2].links[..]),
        (&links[..1], &links[..1])
    );
    assert!(traces.batch(&call[..1]).links(links[0]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_has_no_room_for_is_left_out_and_told_once_in_ten_seconds() {
    let (traces, mut spans, counters) = traces(0.0, true);
    let (logged, _guard) = crate::telemetry::testing::capture("warn", false);
    let traced = event(Some(PARENT));
    let lines = || logged.text().matches("are left out").count();
    for _ in 0..QUEUED_MAX {
        receive(&traces, Arc::clone(&traced), stored());
    }
    let lost = (3 * QUEUED_MAX - QUEUED_MAX) as u64;
    assert_eq!((counters.dropped.get(), lines()), (lost, 1));
    tokio::time::advance(pointsman_connectors::LOG_EVERY).await;
    receive(&traces, Arc::clone(&traced), stored());
    assert_eq!((counters.dropped.get(), lines()), (lost + 3, 2));
    assert_eq!(taken(&mut spans).len(), QUEUED_MAX);
}
