//! Reading: from where, and of which shard.

use futures::StreamExt;
use futures::future::join_all;

use super::*;
use crate::FollowError;

pub async fn a_follower_begins_behind_any_place(engine: &dyn Implementation) {
    let log = open(engine, cluster(1)).await;
    let mut last = Place::START;
    for number in 0..10 {
        last = append(&*log, SHARD, format!("{number}")).await;
    }
    let all = whole(&*log, SHARD, last).await;
    for after in 0..last.0 {
        let mut follower = log.follow(SHARD, Place(after));
        let rest = records(&mut follower, Place(after), last).await;
        assert_eq!(rest, all[usize::try_from(after).unwrap()..]);
    }
    let mut follower = log.follow(SHARD, last);
    let place = append(&*log, SHARD, "next").await;
    // A rough engine may have appended copies before it.
    assert_eq!(
        records(&mut follower, last, place).await.pop(),
        Some("next".into())
    );
}

pub async fn a_follower_that_is_ahead_is_told(engine: &dyn Implementation) {
    let log = open(engine, cluster(2)).await;
    let mut last = append(&*log, SHARD, "only").await;
    // Shard 1 is empty.
    for (shard, last) in [(SHARD, &mut last), (Shard(1), &mut Place::START.clone())] {
        let after = Place(last.0 + 100);
        let mut follower = log.follow(shard, after);
        match soon("an error", follower.next()).await {
            Some(Err(FollowError::Ahead {
                shard: of,
                after: place,
                last: end,
            })) => {
                assert_eq!((of, place), (shard, after));
                assert!(*last <= end && end < after, "{end} is not {last}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(soon("the end", follower.next()).await, None);
    }
}

pub async fn shards_are_independent(engine: &dyn Implementation) {
    let log = open(engine, cluster(5)).await;
    let shards = || (0..5).map(Shard);
    let mut followers: Vec<_> = shards()
        .map(|shard| log.follow(shard, Place::START))
        .collect();
    let lasts = join_all(shards().map(async |shard| {
        let mut last = Place::START;
        for number in 0..=shard.0 {
            last = append(&*log, shard, format!("{shard}: {number}")).await;
        }
        last
    }))
    .await;
    for ((shard, follower), last) in shards().zip(&mut followers).zip(lasts) {
        let mut read = records(follower, Place::START, last).await;
        read.dedup();
        let expect: Vec<_> = (0..=shard.0)
            .map(|number| format!("{shard}: {number}"))
            .collect();
        if engine.is_rough() {
            assert!(
                read.iter()
                    .all(|body| expect.iter().any(|expect| body == expect))
            );
        } else {
            assert_eq!(read, expect);
        }
    }
}
