//! Replays: of retained events, of dead letters, and those that a subscription begins with.

use super::*;
use crate::{
    AfterStep, Backlog, DeadReason, DeadSelection, ENDED_REPLAYS_MAX, EventsFrom, JournalError,
    NewReplay, Redrive, Replay, ReplayId, ReplayKind, ReplayState, ReplayStep, Replayed, Start,
};

const EVERYTHING: (Sequence, Sequence) = (Sequence(0), Sequence(u64::MAX));

impl Bench<'_> {
    async fn begin(&self, number: SubscriptionNumber, range: (Sequence, Sequence)) -> Replay {
        let replay = NewReplay {
            kind: ReplayKind::Events,
            subscription: Some(number),
            request: Bytes::from_static(b"asked"),
            after: range.0,
            until: range.1,
        };
        self.journal.begin_replay(replay).await.unwrap()
    }

    /// A step over at most so many of the events that come next, all of which are taken, each
    /// under this order key.
    async fn step(
        &self,
        replay: &Replay,
        limit: usize,
        order_key: Option<u64>,
        then: AfterStep,
    ) -> Replayed {
        let reader = self.journal.reader();
        let from = EventsFrom::After(replay.after);
        let page = reader.events(from, limit, usize::MAX).await.unwrap();
        let events = page.events.iter();
        let sequences: Vec<_> = events
            .map(|stored| stored.sequence)
            .filter(|sequence| *sequence <= replay.until || replay.kind == ReplayKind::Start)
            .collect();
        let after = sequences.last().copied().unwrap_or(replay.after);
        let new = NewDelivery {
            order_key,
            ..NewDelivery::now(SubscriptionNumber(0))
        };
        let step = ReplayStep {
            id: replay.id,
            seen: sequences.len() as u64,
            deliveries: sequences.into_iter().map(|one| (one, new)).collect(),
            after,
            then,
        };
        self.journal.replay(step).await.unwrap()
    }

    async fn shown(&self, id: ReplayId) -> Replay {
        let all = self.journal.reader().replays().await.unwrap();
        all.into_iter().find(|replay| replay.id == id).unwrap()
    }

    async fn started(&self, rule: &str, start: Start) -> (SubscriptionNumber, Replay) {
        let wanted = Subscription {
            start: Some(start),
            ..wanted(rule)
        };
        let number = self.journal.subscribe(vec![wanted]).await.unwrap()[0];
        let all = self.journal.reader().replays().await.unwrap();
        let own = |replay: &Replay| replay.subscription == Some(number);
        let replay = all.into_iter().find(own).unwrap();
        assert_eq!(replay.kind, ReplayKind::Start);
        (number, replay)
    }

    async fn deliver_all(&self, number: SubscriptionNumber) -> Vec<String> {
        let leased = self.lease(number, 99).await;
        let delivered = ids(&leased).into_iter().map(str::to_owned).collect();
        for one in leased {
            assert!(self.settle(one.token, Ending::Delivered).await);
        }
        delivered
    }
}

fn rejected() -> Ending {
    Ending::Dead {
        reason: DeadReason::Rejected,
        last: None,
    }
}

pub async fn replay_makes_new_runs_of_what_is_retained(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    bench
        .append(vec![
            entry("delivered", &[r]),
            entry("dead", &[r]),
            entry("pending", &[r]),
            entry("unmatched", &[]),
        ])
        .await;
    let foreign = Append {
        tenant: name("other"),
        ..append_of(vec![entry("foreign", &[])])
    };
    bench.journal.append(foreign).await.unwrap();
    let leased = bench.lease(r, 2).await;
    let first = leased[0].id;
    assert!(bench.settle(leased[0].token, Ending::Delivered).await);
    assert!(bench.settle(leased[1].token, rejected()).await);
    bench.reopen().await;
    tokio::time::advance(MINUTE / 2).await;
    let replay = bench.begin(r, EVERYTHING).await;
    // What is looked at in two steps is kept with what came of it, over a restart.
    let half = bench.step(&replay, 2, None, AfterStep::More).await;
    assert_eq!((half.made, half.replay.after), (1, Sequence(2)));
    bench.reopen().await;
    let kept = bench.shown(replay.id).await;
    assert_eq!((kept.seen, kept.made, kept.is_running()), (2, 1, true));
    let done = bench.step(&kept, 9, None, AfterStep::End).await;
    assert_eq!((done.made, done.replay.state), (1, ReplayState::Finished));
    let again = bench.begin(r, EVERYTHING).await;
    assert_eq!(bench.step(&again, 9, None, AfterStep::End).await.made, 0);
    let leased = bench.lease(r, 9).await;
    assert_eq!(ids(&leased), ["pending", "delivered", "unmatched"]);
    let marks: Vec<_> = leased.iter().map(|one| one.replay).collect();
    assert_eq!(marks, [None, Some(replay.id), Some(replay.id)]);
    assert!(leased[1].id != first && leased[1].id.sequence == first.sequence);
    assert_eq!(leased[1].since, bench.now());
    let c = bench.counts(r).await;
    assert_eq!((c.created, c.delivered, c.dead, c.pending), (5, 1, 1, 3));
    let nobody = NewReplay {
        kind: ReplayKind::Events,
        subscription: Some(SubscriptionNumber(99)),
        request: Bytes::new(),
        after: Sequence(0),
        until: Sequence(9),
    };
    let refused = bench.journal.begin_replay(nobody).await;
    assert!(matches!(refused, Err(JournalError::NotFound(_))));
    // One that has ended makes nothing more.
    let late = bench.step(&done.replay, 9, None, AfterStep::More).await;
    assert_eq!((late.made, late.replay), (0, done.replay));
}

pub async fn the_mark_of_a_replay_stays_with_its_delivery(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&["r", "s"]).await;
    let (r, s) = (numbers[0], numbers[1]);
    bench.append(vec![entry("a", &[])]).await;
    let replay = bench.begin(r, EVERYTHING).await;
    bench.step(&replay, 9, Some(7), AfterStep::End).await;
    let leased = bench.lease_one(r).await;
    assert_eq!(leased.replay, Some(replay.id));
    assert!(bench.settle(leased.token, retry(bench.now())).await);
    bench.reopen().await;
    let leased = bench.lease_one(r).await;
    assert_eq!((leased.replay, leased.attempts), (Some(replay.id), 1));
    assert!(bench.settle(leased.token, rejected()).await);
    bench.reopen().await;
    let all = DeadSelection::default();
    assert_eq!(bench.journal.redrive(&all).await, Ok(1));
    let moved = bench.journal.move_all(r, s).await;
    assert_eq!(moved, Ok(1));
    bench.reopen().await;
    let leased = bench.lease_one(s).await;
    assert_eq!(leased.replay, Some(replay.id));
    let sent_on = vec![FollowUp::Original(NewDelivery::now(r))];
    assert!(
        bench
            .settle_with(leased.token, Ending::Delivered, sent_on)
            .await
    );
    assert_eq!(bench.lease_one(r).await.replay, None, "a new delivery");
}

pub async fn a_replay_is_stopped_and_the_last_are_kept(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    bench.append(vec![entry("a", &[]), entry("b", &[])]).await;
    let replay = bench.begin(r, EVERYTHING).await;
    assert_eq!(bench.step(&replay, 1, None, AfterStep::More).await.made, 1);
    let end = async |state, message: &str| {
        let ended = bench.journal.end_replay(replay.id, state, message).await;
        ended.unwrap()
    };
    let stopped = end(ReplayState::Stopped, "").await;
    assert_eq!(stopped.state, ReplayState::Stopped);
    // What has ended stays as it has ended.
    assert_eq!(end(ReplayState::Failed, "late").await, stopped);
    assert_eq!(bench.step(&stopped, 9, None, AfterStep::More).await.made, 0);
    let unknown = ReplayId::of(7).unwrap();
    let unknown = bench.journal.end_replay(unknown, ReplayState::Stopped, "");
    assert!(matches!(unknown.await, Err(JournalError::NotFound(_))));
    for _ in 0..ENDED_REPLAYS_MAX + 5 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let replay = bench.begin(r, EVERYTHING).await;
        let end = bench
            .journal
            .end_replay(replay.id, ReplayState::Finished, "");
        end.await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let running = bench.begin(r, EVERYTHING).await;
    bench.reopen().await;
    let all = bench.journal.reader().replays().await.unwrap();
    let ended = all.iter().filter(|one| !one.is_running()).count();
    assert!((ENDED_REPLAYS_MAX..=ENDED_REPLAYS_MAX + 1).contains(&ended));
    assert_eq!(all.last().map(|last| last.id), Some(running.id));
    assert!(all.iter().all(|one| one.id != replay.id), "the oldest goes");
    assert_eq!(all.last().unwrap().request, Bytes::from_static(b"asked"));
}

pub async fn a_replay_waits_for_room_in_the_backlog(implementation: &dyn Implementation) {
    for dead_when_full in [false, true] {
        let bench = Bench::new(implementation).await;
        let wanted = Subscription {
            backlog: Some(Backlog {
                max: 2,
                dead_when_full,
            }),
            ..wanted(if dead_when_full { "dead" } else { "stop" })
        };
        let number = bench.journal.subscribe(vec![wanted]).await.unwrap()[0];
        let entries = ["a", "b", "c", "d", "e"].map(|id| entry(id, &[]));
        bench.append(entries.to_vec()).await;
        let first = bench.journal.reader().last_event().await.unwrap();
        let first = Sequence(first.unwrap().sequence.0 - 5);
        let replay = bench.begin(number, (first, Sequence(u64::MAX))).await;
        let step = bench.step(&replay, 9, None, AfterStep::End).await;
        assert_eq!((step.made, step.room), (2, 0));
        assert_eq!(step.replay.after, Sequence(first.0 + 2));
        assert_eq!((step.replay.seen, step.replay.is_running()), (2, true));
        assert_eq!(bench.deliver_all(number).await, ["a", "b"]);
        let step = bench.step(&step.replay, 9, None, AfterStep::End).await;
        assert_eq!((step.made, step.replay.is_running()), (2, true));
        assert_eq!(bench.deliver_all(number).await, ["c", "d"]);
        let step = bench.step(&step.replay, 9, None, AfterStep::End).await;
        assert_eq!((step.made, step.room), (1, 1));
        assert_eq!(step.replay.state, ReplayState::Finished);
        assert_eq!((step.replay.seen, step.replay.made), (5, 5));
        assert_eq!(bench.counts(number).await.dead, 0);
    }
}

pub async fn a_replay_keeps_what_it_still_looks_at(implementation: &dyn Implementation) {
    let mut bench = Bench::bounded(
        implementation,
        Bounds {
            retention: MINUTE,
            ..ROOMY
        },
    )
    .await;
    let r = bench.subscribe(&["r"]).await[0];
    bench
        .append(["a", "b", "c", "d"].map(|id| entry(id, &[])).to_vec())
        .await;
    let replay = bench.begin(r, (Sequence(1), Sequence(3))).await;
    tokio::time::advance(2 * MINUTE).await;
    bench.implementation.upkeep().await;
    bench.reopen().await;
    let reader = bench.journal.reader();
    let there = reader.events(EventsFrom::After(Sequence(0)), 9, 9_999);
    let there = there.await.unwrap().events;
    let sequences: Vec<_> = there.iter().map(|stored| stored.sequence.0).collect();
    assert_eq!(sequences, [2, 3]);
    assert_eq!(bench.step(&replay, 9, None, AfterStep::End).await.made, 2);
    assert_eq!(bench.deliver_all(r).await, ["b", "c"]);
    bench.implementation.upkeep().await;
    assert_eq!(bench.journal.reader().totals().await.unwrap().events, 0);
}

pub async fn a_subscription_that_begins_with_a_replay_misses_nothing(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::new(implementation).await;
    bench.append(vec![entry("1", &[]), entry("2", &[])]).await;
    tokio::time::advance(MINUTE).await;
    let since = bench.now();
    bench.append(vec![entry("3", &[])]).await;
    let (r, replay) = bench.started("r", Start::Time(since)).await;
    assert_eq!((replay.after, replay.until), (Sequence(2), Sequence(3)));
    // What matches meanwhile is left to the replay, whatever comes in between.
    bench.append(vec![entry("4", &[r]), entry("5", &[r])]).await;
    assert_eq!(bench.counts(r).await.created, 0);
    bench.reopen().await;
    let (same, _) = bench.started("r", Start::Time(since)).await;
    assert_eq!(same, r, "it comes once");
    assert_eq!(bench.journal.reader().replays().await.unwrap().len(), 1);
    let step = bench.step(&replay, 2, Some(1), AfterStep::More).await;
    assert_eq!(step.made, 2);
    bench.append(vec![keyed("6", r, 1)]).await;
    let step = bench.step(&step.replay, 9, Some(1), AfterStep::More).await;
    assert_eq!((step.made, step.replay.hands_over), (2, false));
    // It ends only once it has handed over and come to the end of what is its own.
    let step = bench.step(&step.replay, 9, Some(1), AfterStep::End).await;
    assert!(step.replay.is_running());
    bench.append(vec![keyed("7", r, 1)]).await;
    let empty = ReplayStep {
        id: replay.id,
        deliveries: Vec::new(),
        after: step.replay.after,
        seen: 0,
        then: AfterStep::HandOver,
    };
    let step = bench.journal.replay(empty).await.unwrap();
    assert_eq!(
        (step.replay.hands_over, step.replay.until),
        (true, Sequence(7))
    );
    // From here on an append makes the deliveries, of which none goes out before the earlier ones.
    bench.append(vec![keyed("8", r, 1)]).await;
    assert!(bench.lease(r, 9).await.is_empty());
    bench.reopen().await;
    assert!(bench.lease(r, 9).await.is_empty());
    let now = bench.shown(replay.id).await;
    let page = bench.step(&now, 1, Some(1), AfterStep::End).await;
    assert_eq!((page.made, page.replay.state), (1, ReplayState::Finished));
    bench.reopen().await;
    let mut order = Vec::new();
    for _ in 0..6 {
        let one = bench.lease_one(r).await;
        order.push((one.event.id().to_owned(), one.replay == Some(replay.id)));
        assert!(bench.settle(one.token, Ending::Delivered).await);
    }
    let expect = [
        ("3", true),
        ("4", false),
        ("5", false),
        ("6", false),
        ("7", false),
        ("8", false),
    ];
    assert_eq!(
        order,
        expect.map(|(id, is_marked)| (id.to_owned(), is_marked))
    );
    assert_eq!(bench.event_for("9", &[r]).await, Sequence(9));
    assert_eq!(bench.deliver_all(r).await, ["9"]);
    let counts = bench.counts(r).await;
    assert_eq!((counts.created, counts.delivered), (7, 7));
}

pub async fn a_stop_of_a_start_passes_over_the_past_alone(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    bench.append(vec![entry("1", &[]), entry("2", &[])]).await;
    let (r, replay) = bench.started("r", Start::Earliest).await;
    bench.append(vec![entry("3", &[r])]).await;
    let stop = bench
        .journal
        .end_replay(replay.id, ReplayState::Stopped, "by hand");
    let stopped = stop.await.unwrap();
    assert_eq!((stopped.is_running(), stopped.after), (true, Sequence(2)));
    bench.reopen().await;
    let step = bench.step(&stopped, 9, None, AfterStep::HandOver).await;
    let step = bench.step(&step.replay, 9, None, AfterStep::End).await;
    assert_eq!(step.replay.state, ReplayState::Stopped);
    assert_eq!(step.replay.message, "by hand");
    assert_eq!(bench.deliver_all(r).await, ["3"]);
    // A rule that goes keeps its place; who empties it ends that too.
    let (s, replay) = bench.started("s", Start::Earliest).await;
    bench.append(vec![entry("4", &[s])]).await;
    bench.subscribe(&[]).await;
    bench.reopen().await;
    assert!(bench.find(s).await.is_some());
    assert!(bench.shown(replay.id).await.is_running());
    assert_eq!(bench.journal.cancel_all(s).await, Ok(0));
    assert_eq!(bench.shown(replay.id).await.state, ReplayState::Stopped);
    bench.subscribe(&[]).await;
    assert!(bench.find(s).await.is_none());
}

pub async fn dead_letters_are_redriven_some_at_a_time_and_elsewhere(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&["r", "s"]).await;
    let (r, s) = (numbers[0], numbers[1]);
    bench
        .append((0..5).map(|id| entry(&id.to_string(), &[r])).collect())
        .await;
    for one in bench.lease(r, 9).await {
        assert!(bench.settle(one.token, rejected()).await);
    }
    let new = NewReplay {
        kind: ReplayKind::Dead,
        subscription: None,
        request: Bytes::new(),
        after: Sequence(0),
        until: Sequence(0),
    };
    let replay = bench.journal.begin_replay(new).await.unwrap();
    let began = bench.journal.clock().now();
    let redrive = |to, after, limit| Redrive {
        selection: DeadSelection::default(),
        to,
        before: began,
        after,
        limit,
        replay: Some(replay.id),
    };
    let first = bench
        .journal
        .redrive_some(&redrive(None, None, 2))
        .await
        .unwrap();
    assert_eq!(first.count, 2);
    tokio::time::advance(MINUTE).await;
    for one in bench.lease(r, 9).await {
        assert!(bench.settle(one.token, rejected()).await);
    }
    bench.reopen().await;
    // Those that have died again since are not meant, also where it begins anew.
    let next = bench
        .journal
        .redrive_some(&redrive(Some(s), None, 2))
        .await
        .unwrap();
    assert_eq!(next.count, 2);
    let last = bench
        .journal
        .redrive_some(&redrive(Some(s), next.next, 2))
        .await
        .unwrap();
    assert_eq!((last.count, last.next), (1, None));
    assert_eq!(bench.shown(replay.id).await.made, 5);
    assert_eq!(bench.deliver_all(s).await, ["2", "3", "4"]);
    let (of_r, of_s) = (bench.counts(r).await, bench.counts(s).await);
    assert_eq!((of_r.created, of_r.redriven, of_r.dead), (7, 5, 2));
    assert_eq!((of_s.created, of_s.delivered), (3, 3));
    let end = bench
        .journal
        .end_replay(replay.id, ReplayState::Stopped, "");
    end.await.unwrap();
    let later = Redrive {
        before: bench.now(),
        ..redrive(None, None, 9)
    };
    assert_eq!(bench.journal.redrive_some(&later).await.unwrap().count, 0);
    let nowhere = redrive(Some(SubscriptionNumber(99)), None, 9);
    let refused = bench.journal.redrive_some(&nowhere).await;
    assert!(matches!(refused, Err(JournalError::NotFound(_))));
}
