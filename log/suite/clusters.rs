//! Clusters: making, adopting, and keeping them apart.

use futures::future::join_all;

use super::*;

pub async fn clusters_do_not_see_each_other(engine: &dyn Implementation) {
    // Names that one could take for a part, or for the shard, of another.
    let names = ["a", "a-0", "a-1", "a-meta", "b"];
    let mut logs = Vec::new();
    for of in names {
        logs.push(open(engine, Cluster::new(name(of), 2).unwrap()).await);
    }
    let mut lasts = Vec::new();
    for (of, log) in names.iter().zip(&logs) {
        lasts.push(append(&**log, Shard(1), (*of).to_owned()).await);
        beat(&**log, "node", (*of).to_owned()).await;
    }
    trim(&*logs[0], Shard(1), Place(1000)).await;
    for ((of, log), last) in names.iter().zip(&logs).zip(&lasts).skip(1) {
        let read = whole(&**log, Shard(1), *last).await;
        assert!(read.iter().all(|body| body == of), "{of} has read {read:?}");
        let mut beats = log.beats();
        hears(&mut beats, &[("node", of)]).await;
        assert!(engine.is_rough() || are_silent(&mut beats).await);
    }
}

pub async fn a_cluster_keeps_its_number_of_shards(engine: &dyn Implementation) {
    let first = open(engine, cluster(3)).await;
    let place = append(&*first, Shard(2), "kept").await;
    for wanted in [1, 2, 4] {
        let refused = loop {
            match engine.open(cluster(wanted)).await.err() {
                Some(OpenError::Unavailable(_)) if engine.is_rough() => {}
                refused => break refused,
            }
        };
        match refused {
            Some(OpenError::Shards {
                cluster,
                found: 3,
                wanted: told,
            }) => assert_eq!((&*cluster, told), ("test", wanted)),
            other => panic!("{other:?}"),
        }
    }
    let again = open(engine, cluster(3)).await;
    let mut read = whole(&*again, Shard(2), place).await;
    assert_eq!(read.pop(), Some("kept".into()));
}

pub async fn many_nodes_make_a_cluster_together(engine: &dyn Implementation) {
    let logs = join_all((0..8).map(|_| open(engine, cluster(4)))).await;
    let appends = logs.iter().map(|log| append(&**log, Shard(3), "from each"));
    let last = join_all(appends).await.into_iter().max().unwrap();
    let read = whole(&*logs[0], Shard(3), last).await;
    assert!(read.len() >= 8);
    // Those who disagree are told so, all but the first.
    let of = |shards| Cluster::new(name("disputed"), shards).unwrap();
    let opened = join_all((1..=6).map(|shards| engine.open(of(shards)))).await;
    let refused = |found: &Result<_, OpenError>| matches!(found, Err(OpenError::Shards { .. }));
    let made = opened.iter().filter(|opened| opened.is_ok()).count();
    let refused = opened.iter().filter(|opened| refused(opened)).count();
    assert!(
        (made, refused) == (1, 5) || engine.is_rough() && made <= 1,
        "{made} made it and {refused} were refused: {:?}",
        opened
            .iter()
            .filter_map(|opened| opened.as_ref().err())
            .collect::<Vec<_>>()
    );
}
