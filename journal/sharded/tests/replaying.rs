//! Replays over several shards, driven as the bus drives them.

use super::*;
use crate::suite::{entry, paused};
use crate::{AfterStep, EventsFrom, NewDelivery, ReplayKind, Start};

/// Drives a replay to its end, with pages of so many events; before each step something happens.
async fn drive(
    bench: &Bench,
    mut replay: Replay,
    limit: usize,
    mut before: impl AsyncFnMut(&Replay),
) {
    let (mut page, mut read, mut is_end) = (Vec::<Sequence>::new(), replay.after, false);
    for _ in 0..1_000 {
        if page.is_empty() {
            let from = EventsFrom::After(read);
            let events = bench
                .journal
                .reader()
                .events(from, limit, usize::MAX)
                .await
                .unwrap();
            let is_bounded = replay.kind == ReplayKind::Events || replay.hands_over;
            let until = if is_bounded {
                replay.until
            } else {
                Sequence(u64::MAX)
            };
            let found = events.events.len();
            let own = events.events.into_iter().map(|stored| stored.sequence);
            page = own.take_while(|sequence| *sequence <= until).collect();
            is_end = events.next.is_none() || page.len() < found;
            read = events.next.or(page.last().copied()).unwrap_or(read);
        }
        before(&replay).await;
        let mut after = page.last().copied().unwrap_or(replay.after);
        let then = match (
            is_end,
            replay.kind == ReplayKind::Start && !replay.hands_over,
        ) {
            (false, _) => AfterStep::More,
            (true, true) => AfterStep::HandOver,
            (true, false) => AfterStep::End,
        };
        after = after.max(if then == AfterStep::End {
            replay.until
        } else {
            read
        });
        let new = NewDelivery::now(SubscriptionNumber(0));
        let step = ReplayStep {
            id: replay.id,
            seen: page.len() as u64,
            deliveries: page.iter().map(|sequence| (*sequence, new)).collect(),
            after,
            then,
        };
        let wanted = page.len() as u64;
        let done = bench.journal.replay(step).await.unwrap();
        replay = done.replay;
        if !replay.is_running() {
            assert_eq!(replay.state, ReplayState::Finished);
            return;
        }
        page.retain(|sequence| *sequence > replay.after);
        read = read.max(replay.after);
        if done.room == 0 && done.made < wanted.max(1) {
            page.clear();
            read = replay.after;
        }
    }
    panic!("it does not end: {replay:?}");
}

async fn delivered(bench: &Bench) -> Vec<u64> {
    let events = bench.deliver_all().await;
    let mut ids: Vec<u64> = events
        .iter()
        .map(|event| event.id().parse().unwrap())
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_replay_looks_once_at_what_every_shard_had_when_it_began() {
    paused(async {
        for limit in [1, 4, 100] {
            let bench = Bench::new(4).await;
            let sequences = bench.keyed(0..20, |id| id).await;
            assert!(shards_of(&sequences).len() > 1);
            assert_eq!(delivered(&bench).await, (0..20).collect::<Vec<_>>());
            let last = bench.journal.reader().totals().await.unwrap().last_sequence;
            let new = NewReplay {
                kind: ReplayKind::Events,
                subscription: Some(bench.numbers[0]),
                request: bytes::Bytes::new(),
                after: Sequence(0),
                until: Sequence(last),
            };
            let replay = bench.journal.begin_replay(new).await.unwrap();
            bench.keyed(20..40, |id| id).await;
            assert_eq!(delivered(&bench).await, (20..40).collect::<Vec<_>>());
            let id = replay.id;
            drive(&bench, replay, limit, async |_| {}).await;
            assert_eq!(delivered(&bench).await, (0..20).collect::<Vec<_>>());
            let shown = bench.journal.reader().replays().await.unwrap();
            assert_eq!(shown.len(), 1);
            assert_eq!((shown[0].id, shown[0].seen, shown[0].made), (id, 20, 20));
        }
    });
}

#[test]
fn a_subscription_that_begins_with_a_replay_misses_nothing_in_any_shard() {
    paused(async {
        for limit in [1, 3, 100] {
            let bench = Bench::new(4).await;
            let entries = (0..20).map(|id| keyed(&id.to_string(), bench.numbers[1], id));
            bench
                .journal
                .append(append_of(entries.collect()))
                .await
                .unwrap();
            let new = Subscription {
                start: Some(Start::Earliest),
                ..wanted("new")
            };
            let all = vec![new, wanted("r"), wanted("s")];
            let number = bench.journal.subscribe(all).await.unwrap()[0];
            let bench = Bench {
                numbers: vec![number],
                ..bench
            };
            let replay = bench.journal.reader().replays().await.unwrap().remove(0);
            assert_eq!(replay.kind, ReplayKind::Start);
            // While it runs more is appended, in all shards, matched already.
            let mut next = 20;
            drive(&bench, replay, limit, async |_| {
                if next < 60 {
                    bench.keyed(next..next + 5, |id| id).await;
                    next += 5;
                }
            })
            .await;
            bench
                .journal
                .append(append_of(vec![entry("99", &[number])]))
                .await
                .unwrap();
            let expect: Vec<_> = (0..next).chain([99]).collect();
            assert_eq!(delivered(&bench).await, expect);
        }
    });
}
