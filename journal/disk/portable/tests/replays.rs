//! Replays that are halfway when their journal is moved.

use std::collections::BTreeSet;

use bytes::Bytes;
use pointsman_schemas::Sequence;

use super::bench::{Bench, DAY};
use crate::suite::{append_of, entry, paused};
use crate::{
    AfterStep, EventsFrom, Journal, NewDelivery, NewReplay, Replay, ReplayKind, ReplayState,
    ReplayStep,
};

/// Goes on with a replay for a rule, event by event, so many times or to its end.
async fn replay_on(bench: &Bench, mut replay: Replay, times: usize) -> Replay {
    for _ in 0..times {
        if replay.state != ReplayState::Running {
            break;
        }
        let from = EventsFrom::After(replay.after);
        let page = bench
            .journal
            .reader()
            .events(from, 1, usize::MAX)
            .await
            .unwrap();
        let next = page.events.first().map(|stored| stored.sequence);
        let next = next.filter(|next| *next <= replay.until);
        let number = replay.subscription.unwrap();
        let step = ReplayStep {
            id: replay.id,
            deliveries: next
                .iter()
                .map(|next| (*next, NewDelivery::now(number)))
                .collect(),
            after: next.unwrap_or(replay.until),
            seen: 1,
            then: match next {
                Some(_) => AfterStep::More,
                None => AfterStep::End,
            },
        };
        replay = bench.journal.replay(step).await.unwrap().replay;
    }
    replay
}

/// A replay that is halfway looks at everything in the end, and only where shards come together at
/// some of it again.
fn a_replay_goes_on(from: u16, to: u16) {
    paused(async {
        let mut bench = Bench::new(from).await;
        let ids: Vec<_> = (0..40).map(|id| id.to_string()).collect();
        for id in &ids {
            let mut entry = entry(id, &[]);
            entry.deduplicate = Some(DAY);
            bench.journal.append(append_of(vec![entry])).await.unwrap();
        }
        let new = NewReplay {
            kind: ReplayKind::Events,
            subscription: Some(bench.numbers[1]),
            request: Bytes::from_static(b"{}"),
            after: Sequence(0),
            until: Sequence(u64::MAX),
        };
        let replay = bench.journal.begin_replay(new).await.unwrap();
        replay_on(&bench, replay, 15).await;
        bench.deliver().await;
        let early = bench.content().await;
        let told = bench.move_to(to).await;
        assert_eq!(
            told.iter().any(|note| note.contains("come again")),
            from > 1,
            "{told:?}"
        );
        bench.subscribe().await;
        let replays = bench.journal.reader().replays().await.unwrap();
        assert_eq!((replays.len(), &replays[0].request[..]), (1, &b"{}"[..]));
        let ended = replay_on(&bench, replays[0].clone(), 200).await;
        assert_eq!(ended.state, ReplayState::Finished);
        let late = bench.deliver().await;
        let late: BTreeSet<_> = late.values().flatten().cloned().collect();
        let is_early = |id: &&String| {
            let told = format!("{id:?}");
            early.history.iter().any(|one| one.contains(&told))
        };
        let both: Vec<_> = ids
            .iter()
            .filter(is_early)
            .filter(|id| late.contains(*id))
            .collect();
        assert_eq!(
            ids.iter().filter(is_early).count() + late.len() - both.len(),
            40
        );
        assert!(from > 1 || both.is_empty(), "{both:?} came twice");
        bench.journal.close().await;
    });
}

#[test]
fn a_replay_goes_on_where_it_was_in_more_shards() {
    a_replay_goes_on(1, 3);
}

#[test]
fn a_replay_misses_nothing_in_fewer_shards() {
    a_replay_goes_on(3, 1);
    a_replay_goes_on(3, 2);
}
