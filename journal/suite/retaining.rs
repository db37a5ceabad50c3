//! How long events are kept: for the journal's retention, or for a time of their own.

use super::*;
use crate::{
    AfterStep, DeadReason, DeadSelection, EventsFrom, NewReplay, ReplayKind, ReplayStep, Retention,
    Terms,
};

/// The journal's retention is an hour.
const SHORTER: Duration = Duration::from_secs(10 * 60);
const LONGER: Duration = Duration::from_secs(2 * 3600);

/// An entry that is kept so long, in the place of the journal's retention.
fn kept(id: &str, to: &[SubscriptionNumber], instead: Option<Duration>) -> Entry {
    let own = Retention {
        instead,
        at_least: Duration::ZERO,
    };
    retained(id, to, instead.map(|_| own))
}

fn retained(id: &str, to: &[SubscriptionNumber], retention: Option<Retention>) -> Entry {
    let terms = retention.map(|retention| Terms {
        retention: Some(retention),
        ..Terms::default()
    });
    Entry {
        terms: terms.map(Box::new),
        ..entry(id, to)
    }
}

impl Bench<'_> {
    /// The ids of the events that are there, once the journal has had time to delete others.
    async fn left(&self) -> Vec<String> {
        self.implementation.upkeep().await;
        let reader = self.journal.reader();
        let all = reader.events(EventsFrom::After(Sequence(0)), 1_000, usize::MAX);
        let all = all.await.unwrap().events;
        let counted = reader.totals().await.unwrap().events;
        assert_eq!(counted, all.len() as u64);
        all.iter().map(|one| one.event.id().to_owned()).collect()
    }

    async fn end_one(&self, number: SubscriptionNumber, ending: Ending) {
        let leased = self.lease_one(number).await;
        assert!(self.settle(leased.token, ending).await);
    }
}

pub async fn an_event_is_kept_for_a_time_of_its_own(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let own = |instead, at_least| Some(Retention { instead, at_least });
    let appended = bench
        .append(vec![
            retained("usual", &[], None),
            retained("shorter", &[], own(Some(SHORTER), Duration::ZERO)),
            retained("longer", &[], own(Some(LONGER), Duration::ZERO)),
            // Of several the longest holds.
            retained("at least", &[], own(Some(SHORTER), MINUTE * 90)),
            retained("at most", &[], own(Some(LONGER), MINUTE * 90)),
            // And the journal's own is one of them.
            retained("no less", &[], own(None, SHORTER)),
            retained("more", &[], own(None, LONGER)),
        ])
        .await;
    let all: Vec<_> = appended.into_iter().map(stored).collect();
    let until = async |bench: &Bench<'_>, at: usize| {
        let event = bench.journal.reader().event(all[at]).await.unwrap();
        event.unwrap().kept_until
    };
    assert_eq!(until(&bench, 0).await, None);
    assert_eq!(until(&bench, 3).await, Some(START.plus(MINUTE * 90)));
    bench.reopen().await;
    assert_eq!(until(&bench, 5).await, Some(START.plus(MINUTE * 60)));
    let steps: [(u32, &[&str]); 5] = [
        (
            9,
            &[
                "usual", "shorter", "longer", "at least", "at most", "no less", "more",
            ],
        ),
        (
            1,
            &["usual", "longer", "at least", "at most", "no less", "more"],
        ),
        (50, &["longer", "at least", "at most", "more"]),
        (30, &["longer", "at most", "more"]),
        (30, &[]),
    ];
    for (minutes, expect) in steps {
        tokio::time::advance(MINUTE * minutes).await;
        assert_eq!(bench.left().await, expect);
        bench.reopen().await;
        assert_eq!(bench.left().await, expect);
    }
    // What was decided when an event was stored holds whatever the journal's retention is later.
    bench
        .append(vec![kept("own", &[], Some(LONGER)), entry("usual", &[])])
        .await;
    if bench.implementation.persists() {
        bench.bounds.retention = MINUTE;
        bench.reopen().await;
        tokio::time::advance(MINUTE).await;
        assert_eq!(bench.left().await, ["own"]);
        bench.append(vec![entry("later", &[])]).await;
        bench.bounds.retention = LONGER;
        bench.reopen().await;
        tokio::time::advance(MINUTE * 118).await;
        assert_eq!(bench.left().await, ["own", "later"]);
        tokio::time::advance(MINUTE).await;
        assert_eq!(bench.left().await, ["later"]);
        tokio::time::advance(MINUTE).await;
        assert_eq!(bench.left().await, [""; 0]);
    }
}

/// Ways in which the last that refers to an event may end.
const WAYS: [&str; 12] = [
    "delivered",
    "tried",
    "stopped",
    "cancelled",
    "emptied",
    "moved",
    "skipped",
    "purged",
    "redriven",
    "edited",
    "followed",
    "replayed",
];

/// Ends one of the deliveries that wait for a number, or all of them. What still refers to their
/// events is looked at in between: they must be there as long as that is.
async fn end(bench: &Bench<'_>, way: &str, number: SubscriptionNumber, other: SubscriptionNumber) {
    let dead = || Ending::Dead {
        reason: DeadReason::Rejected,
        last: None,
    };
    let before = bench.left().await;
    let still_there = async || assert_eq!(bench.left().await, before, "{way}");
    let journal = &bench.journal;
    let pending = journal.reader().pending(number, None, 9).await.unwrap();
    let waiting: Vec<_> = pending.iter().map(|one| one.id).collect();
    let letters = async || {
        let selection = DeadSelection {
            rule: Some(name(way)),
            ..DeadSelection::default()
        };
        let letters = journal.reader().dead(&selection, None, 9).await.unwrap();
        assert_eq!(letters.len(), 3);
        (selection, letters)
    };
    match way {
        "stopped" => {
            for _ in &waiting {
                bench.end_one(number, Ending::Stopped).await;
            }
        }
        "tried" => {
            for _ in &waiting {
                bench.end_one(number, retry(bench.now())).await;
            }
            still_there().await;
        }
        "cancelled" => assert_eq!(journal.cancel(&waiting).await, Ok(3)),
        "emptied" => assert_eq!(journal.cancel_all(number).await, Ok(3)),
        "moved" => assert_eq!(journal.move_all(number, other).await, Ok(3)),
        "skipped" => {
            assert_eq!(journal.skip(&waiting).await, Ok(3));
            still_there().await;
            assert_eq!(journal.purge(&letters().await.0).await, Ok(3));
        }
        "purged" | "redriven" | "edited" => {
            for _ in &waiting {
                bench.end_one(number, dead()).await;
            }
            still_there().await;
            let (selection, letters) = letters().await;
            if way == "purged" {
                assert_eq!(journal.purge(&selection).await, Ok(3));
            } else {
                for letter in letters.iter().filter(|_| way == "edited") {
                    let edited = journal.edit_dead(letter.id, Some(event("new")));
                    assert_eq!(edited.await, Ok(()));
                }
                assert_eq!(journal.redrive(&selection).await, Ok(3));
            }
        }
        "followed" => {
            for _ in &waiting {
                let leased = bench.lease_one(number).await;
                let follow_up = vec![FollowUp::Original(NewDelivery::now(other))];
                let settled = bench.settle_with(leased.token, Ending::Delivered, follow_up);
                assert!(settled.await);
            }
        }
        "replayed" => replayed(bench, number, &waiting).await,
        _ => {}
    }
    if ["moved", "redriven", "followed"].contains(&way) {
        still_there().await;
    }
    for number in [number, other] {
        while bench.counts(number).await.pending > 0 {
            bench.end_one(number, Ending::Delivered).await;
        }
    }
}

/// Begins a replay of what waits for a number, ends that, and then the replay.
async fn replayed(
    bench: &Bench<'_>,
    number: SubscriptionNumber,
    waiting: &[pointsman_schemas::DeliveryId],
) {
    let (first, last) = (waiting[0].sequence, waiting[2].sequence);
    let new = NewReplay {
        kind: ReplayKind::Events,
        subscription: Some(number),
        request: Bytes::new(),
        after: Sequence(first.0 - 1),
        until: last,
    };
    let replay = bench.journal.begin_replay(new).await.unwrap();
    let before = bench.left().await;
    assert_eq!(bench.journal.cancel(waiting).await, Ok(3));
    assert_eq!(bench.left().await, before, "a replay looks at them");
    let step = ReplayStep {
        id: replay.id,
        deliveries: Vec::new(),
        after: last,
        seen: 3,
        then: AfterStep::End,
    };
    bench.journal.replay(step).await.unwrap();
    // Where one was to go before the journal's retention was over, it is looked at now and then.
    tokio::time::advance(MINUTE).await;
}

/// Lets something refer to events past their times, and ends that in every way: `gone` of the three
/// of each way go then.
async fn past_their_times(implementation: &dyn Implementation, minutes: u32, gone: &[&str]) {
    let mut bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&[&WAYS[..], &["other"]].concat()).await;
    let other = numbers[WAYS.len()];
    let times = [
        ("shorter", Some(SHORTER)),
        ("usual", None),
        ("longer", Some(LONGER)),
    ];
    let mut expect = Vec::new();
    for (way, number) in WAYS.iter().zip(&numbers) {
        let ids = times.map(|(time, _)| format!("{way}, {time}"));
        let entries = ids.iter().zip(times);
        let entries = entries.map(|(id, (_, time))| kept(id, &[*number], time));
        bench.append(entries.collect()).await;
        expect.extend(ids);
    }
    tokio::time::advance(MINUTE * minutes).await;
    assert_eq!(bench.left().await, expect);
    bench.reopen().await;
    for (way, number) in WAYS.iter().zip(&numbers) {
        end(&bench, way, *number, other).await;
        expect.retain(|id| !gone.iter().any(|time| *id == format!("{way}, {time}")));
        let mut left = bench.left().await;
        // What an edited dead letter was redriven with is an event of its own.
        left.retain(|id| id != "new");
        assert_eq!(left, expect, "{way}");
        bench.reopen().await;
    }
    tokio::time::advance(LONGER).await;
    assert_eq!(bench.left().await, [""; 0]);
}

pub async fn what_was_referred_to_past_its_time_goes_with_the_last_reference(
    implementation: &dyn Implementation,
) {
    past_their_times(implementation, 180, &["shorter", "usual", "longer"]).await;
}

pub async fn what_was_to_go_early_goes_with_the_last_reference(
    implementation: &dyn Implementation,
) {
    past_their_times(implementation, 20, &["shorter"]).await;
}

pub async fn a_replay_finds_what_is_kept_longer(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let entries = vec![
        kept("a", &[], Some(LONGER)),
        entry("b", &[]),
        kept("c", &[], Some(LONGER)),
    ];
    let last = stored(*bench.append(entries).await.last().unwrap());
    tokio::time::advance(LONGER - MINUTE).await;
    assert_eq!(bench.left().await, ["a", "c"]);
    bench.reopen().await;
    let new = NewReplay {
        kind: ReplayKind::Events,
        subscription: Some(r),
        request: Bytes::new(),
        after: Sequence(0),
        until: last,
    };
    let replay = bench.journal.begin_replay(new).await.unwrap();
    // It keeps them beyond their time.
    tokio::time::advance(LONGER).await;
    assert_eq!(bench.left().await, ["a", "c"]);
    let delivery = |sequence| (sequence, NewDelivery::now(r));
    let step = ReplayStep {
        id: replay.id,
        deliveries: vec![delivery(Sequence(last.0 - 2)), delivery(last)],
        after: last,
        seen: 2,
        then: AfterStep::End,
    };
    assert_eq!(bench.journal.replay(step).await.unwrap().made, 2);
    assert_eq!(bench.left().await, ["a", "c"]);
    for _ in 0..2 {
        bench.end_one(r, Ending::Delivered).await;
    }
    assert_eq!(bench.left().await, [""; 0]);
}

pub async fn near_its_size_a_journal_keeps_nothing_for_its_time(
    implementation: &dyn Implementation,
) {
    let bounds = Bounds {
        bytes_max: 4 << 20,
        ..ROOMY
    };
    let bench = Bench::bounded(implementation, bounds).await;
    let r = bench.subscribe(&["r"]).await[0];
    bench
        .append(vec![kept("needed", &[r], Some(SHORTER))])
        .await;
    for id in 0..200 {
        let big = Entry {
            event: sized_event(&id.to_string(), 100_000),
            ..kept("big", &[], Some(LONGER))
        };
        // What nothing refers to makes room for what comes.
        let appended = bench.journal.append(append_of(vec![big.clone()])).await;
        if appended.is_err() {
            bench.implementation.upkeep().await;
            bench.journal.append(append_of(vec![big])).await.unwrap();
        }
    }
    let left = bench.left().await;
    assert_eq!(left[0], "needed");
    let ids: Vec<u64> = left[1..].iter().map(|id| id.parse().unwrap()).collect();
    let first = 200 - ids.len() as u64;
    assert_eq!(ids, (first..200).collect::<Vec<_>>(), "the oldest go first");
    assert!((5..190).contains(&first), "{first}");
    tokio::time::advance(LONGER).await;
    assert_eq!(bench.left().await, ["needed"]);
}
