//! An engine that crashes, and nodes that cannot reach it.

use futures::StreamExt;
use futures::future::join_all;

use super::load::{Load, writers};
use super::*;

pub async fn nothing_acknowledged_is_lost_when_the_engine_crashes(engine: &dyn Implementation) {
    let nodes = join_all((0..3).map(|_| open(engine, cluster(2)))).await;
    let writing = writers(&nodes, SHARD, 6, 150);
    let mut follower = nodes[0].follow(SHARD, Place::START);
    let mut followed = Vec::new();
    for crash in 1..=3 {
        // Each amid the load.
        let until = Place(crash * 100);
        let at = Place(followed.len() as u64);
        followed.extend(records(&mut follower, at, until).await);
        beat(&*nodes[1], "node", crash.to_string()).await;
        engine.crash().await;
    }
    let load = Load::all(writing).await;
    let last = load.last();
    let at = Place(followed.len() as u64);
    followed.extend(records(&mut follower, at, last).await);
    load.check(&followed);
    // And who comes anew reads the same.
    let late = open(engine, cluster(2)).await;
    let read = whole(&*late, SHARD, last).await;
    assert!(read == followed, "the order has changed");
    hears(&mut late.beats(), &[("node", "3")]).await;
}

pub async fn a_node_that_is_cut_off_is_told_and_goes_on_afterwards(engine: &dyn Implementation) {
    let log = open(engine, cluster(1)).await;
    let mut follower = log.follow(SHARD, Place::START);
    let mut beats = log.beats();
    let first = append(&*log, SHARD, "before").await;
    records(&mut follower, Place::START, first).await;
    beat(&*log, "node", "before").await;
    hears(&mut beats, &[("node", "before")]).await;

    engine.cut(true);
    let begin = Instant::now();
    let node = name("node");
    let calls = tokio::join!(
        log.append(SHARD, "during".into()),
        log.trim(SHARD, Place(1)),
        log.beat(&node, "during".into()),
    );
    let errors = [calls.0.map(|_| ()), calls.1, calls.2];
    for error in errors {
        let is_told = matches!(error, Err(LogError::Unknown(_) | LogError::Unavailable(_)));
        assert!(is_told, "{error:?} while the engine cannot be reached");
    }
    assert!(
        begin.elapsed() < PATIENCE,
        "it hung for {:?}",
        begin.elapsed()
    );
    assert!(timeout(NOTHING, follower.next()).await.is_err());

    engine.cut(false);
    let last = append(&*log, SHARD, "after").await;
    let read = records(&mut follower, first, last).await;
    assert_eq!(read.last(), Some(&"after".into()));
    let others = &read[..read.len() - 1];
    assert!(
        others
            .iter()
            .all(|body| body == "during" || engine.is_rough()),
        "{others:?}"
    );
    beat(&*log, "node", "after").await;
    hears(&mut beats, &[("node", "after")]).await;
}
