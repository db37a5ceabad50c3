//! Signs of life.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::future::join_all;

use super::*;

pub async fn the_latest_beat_of_each_node_is_heard(engine: &dyn Implementation) {
    let (log, other) = (
        open(engine, cluster(1)).await,
        open(engine, cluster(1)).await,
    );
    let mut from_the_start = other.beats();
    assert!(are_silent(&mut from_the_start).await);
    for body in ["1", "2", "3"] {
        beat(&*log, "one", body).await;
    }
    beat(&*log, "two", "").await;
    beat(&*other, "n-3", noise(1, crate::BODY_BYTES_MAX)).await;
    hears(&mut from_the_start, &[("one", "3"), ("two", "")]).await;
    // Who comes later hears the last of each, and each once.
    let mut later = log.beats();
    for later in &mut later {
        let mut listed = BTreeMap::new();
        while listed.len() < 3 {
            let beat = soon("a beat", later.next()).await.unwrap();
            let twice = listed.insert(beat.node.to_string(), beat.body);
            assert!(twice.is_none() || engine.is_rough());
        }
        if !engine.is_rough() {
            assert_eq!(listed["one"], "3");
            assert!(is_silent(later).await, "a beat is heard twice");
        }
        assert!(listed["n-3"] == noise(1, crate::BODY_BYTES_MAX));
    }
    beat(&*other, "one", "4").await;
    hears(&mut later, &[("one", "4")]).await;
    hears(&mut from_the_start, &[("one", "4")]).await;
}

pub async fn beats_of_many_nodes_are_heard_once(engine: &dyn Implementation) {
    let logs = join_all((0..3).map(|_| open(engine, cluster(1)))).await;
    let beats = logs[0].beats();
    let beating = join_all((0..12).map(async |node: u64| {
        let log = &logs[usize::try_from(node % 3).unwrap()];
        for number in 0..20_u64 {
            beat(&**log, &format!("n-{node}"), number.to_string()).await;
        }
    }));
    let hearing = join_all(beats.into_iter().map(async |mut beats| {
        let mut heard: BTreeMap<Name, u64> = BTreeMap::new();
        let is_last = |last: &u64| *last == 19 || engine.is_rough();
        while heard.len() < 12 || !heard.values().all(is_last) {
            let beat = soon("a beat", beats.next()).await.unwrap();
            let number = std::str::from_utf8(&beat.body).unwrap().parse().unwrap();
            let before = heard.insert(beat.node, number);
            // A late copy may replace a newer one.
            assert!(engine.is_rough() || before.is_none_or(|before| before < number));
        }
    }));
    tokio::join!(beating, hearing);
}
