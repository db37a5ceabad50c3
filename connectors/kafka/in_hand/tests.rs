use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;

use super::*;

fn record(partition: i32, offset: i64) -> ConsumerRecord {
    let value = Some(Bytes::from(vec![b'x'; 10]));
    let mut record = ConsumerRecord::new("t", partition, offset, None, value);
    record.leader_epoch = Some(7);
    record
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

fn with(offsets: impl IntoIterator<Item = i64>) -> InHand {
    let in_hand = InHand::default();
    in_hand.assign(partition(0), Some(0));
    in_hand.arrive(
        offsets
            .into_iter()
            .map(|offset| record(0, offset))
            .collect(),
    );
    in_hand
}

fn offsets(taken: &[Arc<Held>]) -> Vec<i64> {
    taken.iter().map(|held| held.record.offset).collect()
}

fn to_commit(in_hand: &InHand) -> Vec<(i32, i64)> {
    let offsets = in_hand.uncommitted();
    let mut found: Vec<_> = offsets
        .iter()
        .map(|(partition, offset)| (partition.partition(), offset.offset))
        .collect();
    in_hand.committed(&offsets);
    found.sort_unstable();
    found
}

#[test]
fn offsets_that_nobody_has_are_no_gaps() {
    // Those of a compacted topic, or of markers of transactions.
    let in_hand = with([2, 5, 9]);
    assert_eq!(to_commit(&in_hand), [(0, 0)], "where it begins");
    let taken = in_hand.take(10, 1_000);
    in_hand.settle(&taken[1]);
    assert_eq!(to_commit(&in_hand), []);
    in_hand.settle(&taken[0]);
    assert_eq!(to_commit(&in_hand), [(0, 6)]);
    in_hand.settle(&taken[2]);
    let committed = in_hand.uncommitted();
    assert_eq!(
        (committed[0].1.offset, committed[0].1.leader_epoch),
        (10, Some(7))
    );
}

#[test]
fn partitions_take_turns() {
    let in_hand = InHand::default();
    for number in 0..3 {
        in_hand.assign(partition(number), Some(0));
        in_hand.arrive((0..4).map(|offset| record(number, offset)).collect());
    }
    let whose = |count| -> Vec<i32> {
        let taken = in_hand.take(count, 1_000);
        taken.iter().map(|held| held.record.partition).collect()
    };
    assert_eq!(whose(2), [0, 0]);
    assert_eq!(whose(5), [1, 1, 1, 1, 2]);
    assert_eq!(whose(4), [0, 0, 2, 2]);
    assert_eq!(whose(4), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_comes_first_and_after_a_while() {
    let in_hand = with(0..4);
    let taken = in_hand.take(3, 1_000);
    let after = Duration::from_secs(1);
    in_hand.give_back(Arc::clone(&taken[2]), after);
    in_hand.give_back(Arc::clone(&taken[0]), after);
    in_hand.settle(&taken[1]);
    in_hand.arrived().await;
    assert!(in_hand.take(10, 1_000).is_empty(), "the partition rests");
    let began = Instant::now();
    in_hand.arrived().await;
    assert_eq!(began.elapsed(), after);
    assert_eq!(offsets(&in_hand.take(10, 1_000)), [0, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_is_drained_and_no_longer_handed_over() {
    let in_hand = with(0..4);
    let taken = in_hand.take(2, 1_000);
    in_hand.settle(&taken[0]);
    let all = [partition(0)];
    let mut drained = Box::pin(in_hand.drain(&all));
    assert!(drained.as_mut().now_or_never().is_none());
    assert!(in_hand.take(10, 1_000).is_empty());
    in_hand.arrive(vec![record(0, 4)]);
    assert!(in_hand.take(10, 1_000).is_empty());
    in_hand.settle(&taken[1]);
    drained.await;
    let last = in_hand.remove(&all);
    assert_eq!(last[0].1.offset, 2);

    // Its next life knows nothing of what comes late from the one before.
    in_hand.assign(partition(0), Some(2));
    in_hand.arrive(vec![record(0, 2)]);
    in_hand.give_back(Arc::clone(&taken[1]), Duration::ZERO);
    in_hand.settle(&taken[1]);
    assert_eq!(offsets(&in_hand.take(10, 1_000)), [2]);
    assert_eq!(to_commit(&in_hand), [(0, 2)]);
}

/// A partition's share in full.
fn share(number: i32) -> Vec<ConsumerRecord> {
    let offsets = 0..(MESSAGES_MAX / SHARE) as i64;
    offsets.map(|offset| record(number, offset)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_paused_at_its_share_until_half_of_it_is_settled() {
    let in_hand = InHand::default();
    let (none, first) = (HashSet::new(), HashSet::from([partition(0)]));
    in_hand.assign(partition(0), Some(0));
    in_hand.assign(partition(1), Some(0));
    assert_eq!(in_hand.full(&none), none);
    in_hand.arrive(share(0));
    assert_eq!(in_hand.full(&none), first);
    let taken = in_hand.take(usize::MAX, usize::MAX);
    let mut loosens = Box::pin(in_hand.loosens(&first));
    // The first is what holds the others.
    let half = taken.len() / 2;
    for held in &taken[1..half + 1] {
        in_hand.settle(held);
        assert!(loosens.as_mut().now_or_never().is_none());
    }
    in_hand.settle(&taken[0]);
    loosens.await;
    assert_eq!(in_hand.full(&first), none);
}

#[test]
fn where_there_is_no_room_every_partition_is_paused() {
    let in_hand = InHand::default();
    let all: HashSet<_> = (0..SHARE as i32 + 1).map(partition).collect();
    for number in 0..SHARE as i32 + 1 {
        in_hand.assign(partition(number), Some(0));
    }
    for number in 0..SHARE as i32 {
        assert_eq!(in_hand.full(&HashSet::new()).len(), number as usize);
        in_hand.arrive(share(number));
    }
    assert_eq!(in_hand.full(&HashSet::new()), all);

    let in_hand = InHand::default();
    in_hand.assign(partition(0), None);
    let mut large = record(0, 0);
    large.value = Some(Bytes::from(vec![0; BYTES_MAX]));
    in_hand.arrive(vec![large]);
    assert_eq!(in_hand.full(&HashSet::new()), HashSet::from([partition(0)]));
    drop(in_hand.remove(&[partition(0)]));
    let inner = in_hand.inner.lock();
    assert_eq!((inner.messages, inner.bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_is_kept_where_retention_has_overtaken_it() {
    let in_hand = with([0]);
    let taken = in_hand.take(10, 1_000);
    in_hand.go_on_at(partition(0), 7);
    in_hand.arrive(vec![record(0, 7)]);
    in_hand.give_back(Arc::clone(&taken[0]), Duration::ZERO);
    let again = in_hand.take(10, 1_000);
    assert_eq!(offsets(&again), [0, 7]);
    assert_eq!(to_commit(&in_hand), [(0, 0)]);
    again.iter().for_each(|held| in_hand.settle(held));
    assert_eq!(to_commit(&in_hand), [(0, 8)]);
    // With nothing in hand it is committed at once, so that it is told once.
    in_hand.go_on_at(partition(0), 20);
    assert_eq!(to_commit(&in_hand), [(0, 20)]);
    // One that was made anew begins again.
    in_hand.go_on_at(partition(0), 0);
    assert_eq!(to_commit(&in_hand), [(0, 0)]);
}

#[test]
fn what_comes_of_a_partition_that_nobody_has_told_of_is_not_lost() {
    let in_hand = InHand::default();
    in_hand.arrive(vec![record(5, 3), record(5, 4)]);
    let taken = in_hand.take(10, 1_000);
    assert_eq!(to_commit(&in_hand), [(5, 3)]);
    in_hand.settle(&taken[0]);
    assert_eq!(to_commit(&in_hand), [(5, 4)]);
}

proptest! {
    /// Whatever happens to what is handed over, no offset is committed before which something is not
    /// settled, and in the end all are.
    #[test]
    fn nothing_is_committed_before_it_is_settled(
        gaps in proptest::collection::vec(1_i64..4, 1..60),
        choices in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 0..400),
    ) {
        let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let in_hand = with(offsets.iter().copied());
        let mut settled = std::collections::BTreeSet::new();
        let mut handed = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        for (index, choice) in choices {
            if handed.is_empty() || choice == 0 {
                handed.extend(in_hand.take(5, usize::MAX));
            } else if choice == 1 {
                in_hand.give_back(handed.swap_remove(index.index(handed.len())), Duration::ZERO);
            } else {
                let held = handed.swap_remove(index.index(handed.len()));
                settled.insert(held.record.offset);
                in_hand.settle(&held);
            }
            for (_, offset) in to_commit(&in_hand) {
                let before = offsets.iter().filter(|each| **each < offset);
                prop_assert!(before.clone().all(|each| settled.contains(each)));
            }
        }
        loop {
            handed.extend(in_hand.take(usize::MAX, usize::MAX));
            let Some(held) = handed.pop() else { break };
            in_hand.settle(&held);
        }
        let last = offsets.last().map(|last| (0, last + 1));
        let committed = in_hand.inner.lock().assignments.values().next().unwrap().settled_to;
        prop_assert_eq!(committed.map(|mark| (0, mark.offset)), last);
        prop_assert_eq!(in_hand.inner.lock().messages, 0);
        prop_assert_eq!(in_hand.inner.lock().bytes, 0);
    }
}
