//! Lists over several shards, page by page, and subscriptions that some shards have dropped.

use super::*;
use crate::suite::paused;
use crate::{AttemptMade, DeadReason, EndedSelection, EventsFrom, Record};

async fn dead_and_delivered(bench: &Bench) -> Vec<DeliveryId> {
    bench.keyed(0..24, |id| id % 8).await;
    let mut ended = Vec::new();
    loop {
        let leased = bench.lease(1).await;
        let Some(one) = leased.first() else {
            return ended;
        };
        let is_dead = ended.len() % 2 == 0;
        let ending = if is_dead {
            Ending::Dead {
                reason: DeadReason::Rejected,
                last: None,
            }
        } else {
            Ending::Delivered
        };
        let made = AttemptMade {
            began: bench.journal.clock().now(),
            ran: MINUTE,
            called: None,
            class: pointsman_schemas::Class::Failed,
            code: None,
            message: String::new(),
            answer: String::new(),
            wait: None,
        };
        let settlement = Settlement {
            record: Record::Attempt(made),
            ..Settlement::new(one.token, ending)
        };
        bench.journal.settle(vec![settlement]).await.unwrap();
        ended.push(one.id);
        tokio::time::advance(MINUTE / 60).await;
    }
}

#[test]
fn pages_over_shards_show_everything_once_and_in_order() {
    paused(async {
        let bench = Bench::new(4).await;
        let ended = dead_and_delivered(&bench).await;
        assert_eq!(ended.len(), 24);
        let reader = bench.journal.reader();
        let (mut after, mut events) = (Sequence(0), Vec::new());
        loop {
            let page = reader
                .events(EventsFrom::After(after), 5, 35)
                .await
                .unwrap();
            assert!(page.events.len() <= 3, "30 bytes of 10 each");
            events.extend(page.events.iter().map(|stored| stored.sequence));
            let Some(next) = page.next else { break };
            after = next;
        }
        assert_eq!(events.len(), 24);
        assert!(events.is_sorted_by(|one, next| one < next));
        assert!(shards_of(&events).len() > 1);

        let (mut after, mut dead) = (None, Vec::new());
        loop {
            let page = reader
                .dead(&DeadSelection::default(), after, 5)
                .await
                .unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            dead.extend(page.into_iter().map(|letter| letter.id));
        }
        let mut expect: Vec<_> = ended.iter().copied().step_by(2).collect();
        expect.sort_by_key(|id| id.sequence);
        assert_eq!(dead, expect);

        // By the time at which they ended, whichever shard they are in.
        for latest_first in [false, true] {
            let selection = EndedSelection {
                latest_first,
                ..EndedSelection::default()
            };
            let (mut after, mut shown) = (None, Vec::new());
            loop {
                let page = reader.ended(&selection, after, 5).await.unwrap();
                assert!(page.entries.len() <= 5);
                shown.extend(page.entries.iter().map(|entry| entry.id));
                if page.next.is_none() {
                    break;
                }
                after = page.next;
            }
            if latest_first {
                shown.reverse();
            }
            assert_eq!(shown, ended);
        }
    });
}

#[test]
fn blocked_keys_of_all_shards_are_listed_in_their_order() {
    paused(async {
        let bench = Bench::new(4).await;
        bench.keyed(0..24, |id| id % 8).await;
        let later = bench.journal.clock().now().plus(MINUTE);
        let last = crate::suite::last(later);
        for one in bench.lease(99).await {
            let retry = Ending::Retry {
                at: later,
                failure: true,
                batch_max: None,
                last: last.clone(),
            };
            let settled = bench
                .journal
                .settle(vec![Settlement::new(one.token, retry)])
                .await;
            assert_eq!(settled, Ok(vec![SettleAnswer::Settled]));
        }
        let (mut after, mut shown) = (None, Vec::new());
        loop {
            let page = bench
                .journal
                .reader()
                .blocked(bench.numbers[0], after, 3)
                .await
                .unwrap();
            assert!(page.keys.len() <= 3);
            assert!(page.keys.iter().all(|key| key.behind == 2));
            shown.extend(page.keys.iter().filter_map(|key| key.head.order_key));
            if page.next.is_none() {
                break;
            }
            after = page.next;
        }
        shown.sort_unstable();
        assert_eq!(shown, (0..8).collect::<Vec<_>>());
    });
}

#[test]
fn a_subscription_that_some_shards_have_dropped_comes_back_as_it_was() {
    paused(async {
        let bench = Bench::new(4).await;
        let r = bench.numbers[0];
        let sequences = bench.keyed(0..1, |id| id).await;
        bench
            .journal
            .set_activity(r, Activity::Suspended)
            .await
            .unwrap();
        bench.journal.subscribe(vec![wanted("s")]).await.unwrap();
        let place = usize::from(ShardNumber::of(sequences[0]).get());
        for (at, shard) in bench.shards.iter().enumerate() {
            let all = shard.reader().subscriptions().await.unwrap();
            assert_eq!(all.iter().any(|one| one.number == r), at == place);
        }
        // Another one that comes does not get its number, though a shard has forgotten it.
        let all = [wanted("new"), wanted("r"), wanted("s")].to_vec();
        let numbers = bench.journal.subscribe(all).await.unwrap();
        assert_eq!(numbers[1..], bench.numbers);
        assert_eq!(numbers[0], SubscriptionNumber(3));
        for shard in &bench.shards {
            let all = shard.reader().subscriptions().await.unwrap();
            let own = all.iter().find(|one| one.number == r).unwrap();
            assert_eq!((own.attached, own.activity), (true, Activity::Suspended));
        }
        assert!(bench.lease(9).await.is_empty());
        bench
            .journal
            .set_activity(r, Activity::Active)
            .await
            .unwrap();
        assert_eq!(bench.deliver_all().await.len(), 1);
    });
}
