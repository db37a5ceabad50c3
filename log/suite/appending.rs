//! Appending: what is taken, and in which order.

use futures::StreamExt;
use futures::future::join_all;
use tokio::time::timeout;

use super::load::{Load, writers};
use super::*;
use crate::BODY_BYTES_MAX;

pub async fn an_empty_log_begins_at_one(engine: &dyn Implementation) {
    let log = open(engine, cluster(1)).await;
    let mut follower = log.follow(SHARD, Place::START);
    assert!(is_silent(&mut follower).await);
    append(&*log, SHARD, "first").await;
    assert_eq!(record(&mut follower).await, (Place(1), "first".into()));
}

pub async fn what_is_appended_is_read_byte_for_byte(engine: &dyn Implementation) {
    let (log, other) = (
        open(engine, cluster(1)).await,
        open(engine, cluster(1)).await,
    );
    let mut early = other.follow(SHARD, Place::START);
    let bodies = [
        Bytes::new(),
        Bytes::from_static(b"\0\xff\\x00'\r\n"),
        noise(1, 100),
        noise(2, 70_000),
        Bytes::from(vec![0; 300_000]),
        noise(3, BODY_BYTES_MAX),
        noise(4, BODY_BYTES_MAX),
        Bytes::from_static(b"last"),
    ];
    // A rough log may have more copies than one.
    let mut places = Vec::new();
    for body in &bodies {
        places.push(append(&*log, SHARD, body.clone()).await);
    }
    let last = *places.last().unwrap();
    let mut late = log.follow(SHARD, Place::START);
    for follower in [&mut early, &mut late] {
        let read = records(follower, Place::START, last).await;
        for (place, body) in places.iter().zip(&bodies) {
            let index = usize::try_from(place.0 - 1).unwrap();
            assert!(read[index] == body, "{place} has another body");
        }
    }
}

pub async fn what_does_not_fit_is_refused(engine: &dyn Implementation) {
    let log = open(engine, cluster(2)).await;
    let too_large = Bytes::from(vec![1; BODY_BYTES_MAX + 1]);
    let refused = Err(LogError::TooLarge {
        bytes: BODY_BYTES_MAX + 1,
    });
    assert_eq!(
        log.append(SHARD, too_large.clone()).await,
        refused.clone().map(|()| Place(0))
    );
    assert_eq!(log.beat(&name("node"), too_large).await, refused);
    let none = Shard(2);
    let refused = LogError::NoShard(none);
    assert_eq!(log.append(none, "x".into()).await, Err(refused.clone()));
    assert_eq!(log.trim(none, Place(1)).await, Err(refused));
    let mut follower = log.follow(none, Place::START);
    let told = soon("an error", follower.next()).await;
    assert_eq!(told, Some(Err(crate::FollowError::NoShard(none))));
    assert_eq!(soon("the end", follower.next()).await, None);
    // Nothing has come of it.
    assert!(is_silent(&mut log.follow(SHARD, Place::START)).await);
    assert!(are_silent(&mut log.beats()).await);
}

pub async fn an_append_comes_behind_what_was_acknowledged_before(engine: &dyn Implementation) {
    let nodes = [
        open(engine, cluster(1)).await,
        open(engine, cluster(1)).await,
    ];
    let mut last = Place::START;
    for node in nodes.iter().cycle().take(40) {
        let place = append(&**node, SHARD, "x").await;
        assert!(place > last, "{place} after {last}");
        last = place;
        // And whoever looks from anywhere finds it.
        let other = &nodes[usize::try_from(place.0 % 2).unwrap()];
        let mut follower = other.follow(SHARD, Place(place.0 - 1));
        assert_eq!(record(&mut follower).await, (place, "x".into()));
    }
}

pub async fn writers_and_followers_agree_on_one_order(engine: &dyn Implementation) {
    let nodes = join_all((0..4).map(|_| open(engine, cluster(2)))).await;
    let loads = writers(&nodes, Shard(1), 4, 30);
    let followers = nodes.iter().map(|node| node.follow(Shard(1), Place::START));
    let mut followers: Vec<_> = followers.collect();
    let load = Load::all(loads).await;
    let last = load.last();
    let first = records(&mut followers[0], Place::START, last).await;
    load.check(&first);
    for follower in &mut followers[1..] {
        assert!(
            records(follower, Place::START, last).await == first,
            "two followers have read different logs"
        );
    }
}

pub async fn a_dropped_append_appends_once_at_most(engine: &dyn Implementation) {
    let log = open(engine, cluster(1)).await;
    for number in 0..20 {
        let call = log.append(SHARD, format!("dropped {number}").into());
        // At every stage of its way.
        let _ = timeout(Duration::from_micros(300 * number), call).await;
    }
    let last = append(&*log, SHARD, "end").await;
    let read = whole(&*log, SHARD, last).await;
    for number in 0..20 {
        let body = format!("dropped {number}");
        let copies = read.iter().filter(|read| **read == body).count();
        assert!(copies <= 1, "{copies} copies of {body}");
    }
}
