//! Trimming, and those who had not read yet.

use futures::StreamExt;

use super::*;

/// Appends records of this size, and returns the last place.
async fn fill(log: &dyn Log, records: u64, bytes: usize) -> Place {
    let (body, mut last) = (noise(records, bytes), Place::START);
    for _ in 0..records {
        last = append(log, SHARD, body.clone()).await;
    }
    last
}

pub async fn what_is_trimmed_is_gone_for_everybody(engine: &dyn Implementation) {
    let (log, other) = (
        open(engine, cluster(2)).await,
        open(engine, cluster(2)).await,
    );
    fill(&*log, 10, 100).await;
    let elsewhere = append(&*log, Shard(1), "elsewhere").await;
    // Places that change nothing, also when it is done again.
    let mut first = Place(1);
    for before in [Place::START, Place(1), Place(4), Place(4), Place(2)] {
        trim(&*log, SHARD, before).await;
        first = first.max(before);
        let mut follower = other.follow(SHARD, Place(first.0 - 1));
        assert_eq!(record(&mut follower).await.0, first);
    }
    let mut follower = other.follow(SHARD, Place::START);
    assert_eq!(next(&mut follower).await, Next::Trimmed { first: Place(4) });
    assert_eq!(record(&mut follower).await.0, Place(4));
    // All of it, and more than there is.
    let last = append(&*log, SHARD, "last").await;
    trim(&*log, SHARD, Place(last.0 + 50)).await;
    let place = append(&*log, SHARD, "behind it").await;
    assert!(engine.is_rough() || place == last.next(), "{place}");
    let mut follower = other.follow(Shard(1), Place(elsewhere.0 - 1));
    assert_eq!(record(&mut follower).await, (elsewhere, "elsewhere".into()));
}

pub async fn a_follower_behind_a_trim_is_told_from_where_it_goes_on(engine: &dyn Implementation) {
    let log = open(engine, cluster(1)).await;
    let last = fill(&*log, 6, 100).await;
    let mut at_the_end = log.follow(SHARD, last);
    assert!(engine.is_rough() || is_silent(&mut at_the_end).await);
    trim(&*log, SHARD, last.next()).await;
    for after in 0..last.0 {
        let mut follower = log.follow(SHARD, Place(after));
        let Next::Trimmed { first } = next(&mut follower).await else {
            panic!("{after} is not told that it is behind");
        };
        assert!(
            first == last.next() || engine.is_rough() && first > last,
            "{first}"
        );
    }
    // Who has read all of it does not notice.
    let place = append(&*log, SHARD, "next").await;
    if !engine.is_rough() {
        assert_eq!(record(&mut at_the_end).await, (last.next(), "next".into()));
        let mut behind = log.follow(SHARD, Place(1));
        assert_eq!(next(&mut behind).await, Next::Trimmed { first: place });
        assert_eq!(record(&mut behind).await, (place, "next".into()));
    }
}

pub async fn a_follower_that_lags_reads_on_behind_a_trim(engine: &dyn Implementation) {
    let log = open(engine, cluster(1)).await;
    let mut follower = log.follow(SHARD, Place::START);
    append(&*log, SHARD, "first").await;
    let (mut at, _) = record(&mut follower).await;
    // More than anybody reads ahead.
    let last = fill(&*log, 60, 1 << 20).await;
    trim(&*log, SHARD, last).await;
    let mut trims = 0;
    while at < last {
        match next(&mut follower).await {
            Next::Record { place, .. } => {
                assert_eq!(place, at.next());
                at = place;
            }
            Next::Trimmed { first } => {
                assert!(first > at.next() && first <= last, "{first} after {at}");
                at = Place(first.0 - 1);
                trims += 1;
            }
        }
    }
    assert_eq!(trims, 1, "all of it was read ahead, or it was told twice");
    assert!(engine.is_rough() || is_silent(&mut follower).await);
    append(&*log, SHARD, "and on").await;
    let told = soon("a record", follower.next()).await;
    assert!(matches!(told, Some(Ok(Next::Record { .. }))), "{told:?}");
}
