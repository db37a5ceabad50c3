//! Who listens hears what he asked for, and slows nobody.

use std::sync::Arc;
use std::time::Duration;

use pointsman_journal::{DeadReason, Role, SubscriptionIdentity};
use pointsman_rules::{Filter, Pattern};
use pointsman_schemas::{
    Class, Data, DeliveryId, Epoch, Event, Name, Sequence, SubscriptionNumber, Timestamp,
};
use serde_json::json;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn event(ty: &str, data: &str) -> Arc<Event> {
    let data = Data::json(data.to_owned().into()).unwrap();
    Arc::new(Event::builder("1", "/s", ty).data(data).build().unwrap())
}

fn passed(ty: &str, data: &str) -> PassedEvent {
    PassedEvent {
        at: Timestamp(0),
        tenant: Name::default_tenant(),
        origin: name("orders"),
        sequence: Some(Sequence(1)),
        event: event(ty, data),
        is_duplicate: false,
        deliveries: 1,
    }
}

fn tried(rule: &str, class: Class) -> PassedAttempt {
    PassedAttempt {
        at: Timestamp(0),
        subscription: SubscriptionIdentity {
            tenant: Name::default_tenant(),
            rule: name(rule),
            role: Role::To,
            target: name("function"),
        },
        origin: name("orders"),
        id: DeliveryId {
            epoch: Epoch(1),
            sequence: Sequence(1),
            subscription: SubscriptionNumber(1),
            run: 0,
        },
        event: event("paid", "1"),
        attempt: 1,
        class,
        code: None,
        message: String::new(),
        took: Duration::ZERO,
        next: Next::Dead(DeadReason::Rejected),
    }
}

/// What is heard until nothing comes any more: the kinds, and how many were left out.
async fn heard(listening: &mut Listening) -> (Vec<String>, u64) {
    let (mut all, mut left_out) = (Vec::new(), 0);
    while let Ok(Some(next)) = tokio::time::timeout(Duration::from_secs(3), listening.next()).await
    {
        match next {
            Heard::Passing(Passing::Event(one)) => all.push(one.event.ty().to_owned()),
            Heard::Passing(Passing::Attempt(one)) => {
                all.push(format!("{} {}", one.subscription.rule, one.class.as_str()));
            }
            Heard::LeftOut(count) => left_out += count,
        }
    }
    (all, left_out)
}

#[tokio::test(start_paused = true)]
async fn each_hears_what_he_asked_for() {
    let pattern = Pattern::compile(&json!({ "data": { "n": [{ "numeric": [">", 5] }] } }));
    let of = |change: fn(&mut TapFilter)| {
        let mut filter = TapFilter::default();
        change(&mut filter);
        filter
    };
    let all = ["paid", "paid.late", "shipped", "a delivered", "b failed"];
    let table = [
        (of(|_| {}), &all[..]),
        (of(|f| f.only = Some(PassingKind::Events)), &all[..3]),
        (of(|f| f.only = Some(PassingKind::Attempts)), &all[3..]),
        (of(|f| f.rule = Some(name("a"))), &all[3..4]),
        (of(|f| f.target = Some(name("function"))), &all[3..]),
        (of(|f| f.target = Some(name("other"))), &[]),
        (of(|f| f.failed = true), &all[4..]),
        (of(|f| f.source = Some(name("orders"))), &all[..]),
        (of(|f| f.source = Some(name("other"))), &[]),
        (of(|f| f.tenant = Some(name("other"))), &[]),
        (
            of(|f| f.event_type = Some("paid".into())),
            &["paid", "a delivered", "b failed"],
        ),
        (of(|f| f.event_type = Some("paid.*".into())), &all[1..2]),
        (
            TapFilter {
                event: Some(Filter::from(pattern.unwrap())),
                ..TapFilter::default()
            },
            &all[1..3],
        ),
    ];
    for (filter, expect) in table {
        let tap = Arc::<Tap>::default();
        let told = format!("{filter:?}");
        let mut listening = tap.listen(filter, 1_000).unwrap();
        for (ty, data) in [
            ("paid", r#"{"n":1}"#),
            ("paid.late", r#"{"n":9}"#),
            ("shipped", r#"{"n":6}"#),
        ] {
            tap.passes(&passed(ty, data));
        }
        tap.tries(&tried("a", Class::Delivered));
        tap.tries(&tried("b", Class::Failed));
        let (kinds, left_out) = heard(&mut listening).await;
        assert_eq!(
            (&*kinds, left_out),
            (
                &*expect.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(),
                0
            ),
            "{told}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_left_out_and_counted() {
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    // So many at once of such a size: by the rate, by the queue's length, by its bytes.
    for (rate, offered, data, shown) in [
        (100, 5_000, "1", 10),
        (3, 20, "1", 1),
        (10_000, 5_000, "1", 1_000),
        (10_000, 50, &*large, 8),
    ] {
        let tap = Arc::<Tap>::default();
        let mut listening = tap.listen(TapFilter::default(), rate).unwrap();
        for _ in 0..offered {
            tap.passes(&passed("paid", data));
        }
        let (kinds, left_out) = heard(&mut listening).await;
        assert_eq!(
            (kinds.len(), left_out),
            (shown, offered - shown as u64),
            "{rate} {offered}"
        );
        // And there is room again.
        tap.passes(&passed("paid", data));
        assert_eq!(heard(&mut listening).await.0.len(), 1, "{rate} {offered}");
    }
}

#[tokio::test(start_paused = true)]
async fn few_that_hold_are_found_among_many() {
    let pattern = Pattern::compile(&json!({ "data": { "n": [7] } })).unwrap();
    let filter = TapFilter {
        event: Some(Filter::from(pattern)),
        ..TapFilter::default()
    };
    let tap = Arc::<Tap>::default();
    let mut listening = tap.listen(filter, 10).unwrap();
    for n in 0..300 {
        tap.passes(&passed("paid", &format!("{{\"n\":{}}}", n % 100)));
    }
    let (kinds, left_out) = heard(&mut listening).await;
    assert_eq!(
        (kinds.len(), left_out),
        (1, 2),
        "of three one in a tenth of a second"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tap_knows_who_listens() {
    let tap = Arc::<Tap>::default();
    assert!(!tap.is_open());
    let mut all: Vec<_> = std::iter::from_fn(|| tap.listen(TapFilter::default(), 1)).collect();
    assert_eq!((all.len(), tap.is_open()), (LISTENERS_MAX, true));
    let mut last = all.pop().unwrap();
    assert!(tap.listen(TapFilter::default(), 1).is_none());
    drop(all);
    assert!(tap.is_open());
    tap.close();
    assert!(last.next().await.is_none());
    drop(last);
    assert!(!tap.is_open());
}
