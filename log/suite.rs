//! The conformance suite: what every log must do, whatever keeps it.
//!
//! An implementation gives an [`Implementation`] and calls [`conformance!`](crate::conformance) in
//! its tests.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests, whose names say it"
)]

mod appending;
mod beating;
mod clusters;
mod failing;
mod following;
mod load;
mod trimming;

pub use appending::*;
pub use beating::*;
pub use clusters::*;
pub use failing::*;
pub use following::*;
pub use trimming::*;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use pointsman_schemas::Name;
use tokio::time::{Instant, sleep, timeout};

use crate::{Beats, Cluster, Follower, Log, LogError, Next, OpenError, Place, Shard};

/// One engine of a kind.
#[async_trait(?Send)]
pub trait Implementation: Send + Sync {
    /// Opens the log of a cluster, as one more node does.
    async fn open(&self, cluster: Cluster) -> Result<Arc<dyn Log>, OpenError>;

    /// Ends the engine at once, as a crash does, and starts it again with what it had on disk.
    async fn crash(&self);

    /// Cuts all nodes off from the engine without telling either side, or lets them reach each other
    /// again.
    fn cut(&self, cut: bool);

    /// Whether calls may fail though nobody has crashed or cut anything.
    fn is_rough(&self) -> bool {
        false
    }
}

/// Makes a test of every function of the suite. `$run` runs a future to its end, and `$new` is what
/// makes an [`Implementation`] in it.
#[macro_export]
macro_rules! conformance {
    ($run:expr, $new:expr) => {
        $crate::conformance!(@ $run, $new;
            an_empty_log_begins_at_one
            what_is_appended_is_read_byte_for_byte
            what_does_not_fit_is_refused
            an_append_comes_behind_what_was_acknowledged_before
            writers_and_followers_agree_on_one_order
            a_dropped_append_appends_once_at_most
            a_follower_begins_behind_any_place
            a_follower_that_is_ahead_is_told
            shards_are_independent
            clusters_do_not_see_each_other
            a_cluster_keeps_its_number_of_shards
            many_nodes_make_a_cluster_together
            what_is_trimmed_is_gone_for_everybody
            a_follower_behind_a_trim_is_told_from_where_it_goes_on
            a_follower_that_lags_reads_on_behind_a_trim
            the_latest_beat_of_each_node_is_heard
            beats_of_many_nodes_are_heard_once
            nothing_acknowledged_is_lost_when_the_engine_crashes
            a_node_that_is_cut_off_is_told_and_goes_on_afterwards
        );
    };
    (@ $run:expr, $new:expr; $($name:ident)*) => {
        $(#[test]
        fn $name() {
            $run(async { $crate::suite::$name(&$new.await).await });
        })*
    };
}

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it takes to believe that nothing comes.
const NOTHING: Duration = Duration::from_millis(300);

const SHARD: Shard = Shard(0);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn cluster(shards: u16) -> Cluster {
    Cluster::new(name("test"), shards).unwrap()
}

async fn open(engine: &dyn Implementation, cluster: Cluster) -> Arc<dyn Log> {
    loop {
        match engine.open(cluster.clone()).await {
            Ok(log) => return log,
            Err(OpenError::Unavailable(_)) if engine.is_rough() => {}
            Err(error) => panic!("cannot open {cluster:?}: {error}"),
        }
    }
}

/// Waits for what has to come.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Does something again and again until it is known to be done. Returns what came of it, and how
/// often it may have been done.
async fn surely<T, F>(mut call: impl FnMut() -> F) -> (T, usize)
where
    F: Future<Output = Result<T, LogError>>,
{
    let (until, mut calls) = (Instant::now() + PATIENCE, 0);
    loop {
        let error = match call().await {
            Ok(done) => return (done, calls + 1),
            Err(error) => error,
        };
        match error {
            LogError::Unknown(_) => calls += 1,
            LogError::Unavailable(_) | LogError::Refused(_) => {
                sleep(Duration::from_millis(5)).await;
            }
            error => panic!("{error}"),
        }
        assert!(Instant::now() < until, "tried in vain: {error}");
    }
}

async fn append(log: &dyn Log, shard: Shard, body: impl Into<Bytes>) -> Place {
    let body = body.into();
    surely(|| log.append(shard, body.clone())).await.0
}

async fn trim(log: &dyn Log, shard: Shard, before: Place) {
    surely(|| log.trim(shard, before)).await;
}

async fn beat(log: &dyn Log, node: &str, body: impl Into<Bytes>) {
    let (node, body) = (name(node), body.into());
    surely(|| log.beat(&node, body.clone())).await;
}

/// The next record, with what has to be true of every follower.
async fn next(follower: &mut Follower) -> Next {
    let next = soon("a record", follower.next()).await;
    next.expect("a follower ends with an error alone").unwrap()
}

async fn record(follower: &mut Follower) -> (Place, Bytes) {
    match next(follower).await {
        Next::Record { place, body } => (place, body),
        other => panic!("{other:?} is no record"),
    }
}

/// All records up to a place, which follow on each other from `after` on.
async fn records(follower: &mut Follower, after: Place, last: Place) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    let mut at = after;
    while at < last {
        let (place, body) = record(follower).await;
        assert_eq!(place, at.next(), "a follower has skipped something");
        at = place;
        bodies.push(body);
    }
    bodies
}

/// The whole log of a shard up to a place, as one reads who begins now.
async fn whole(log: &dyn Log, shard: Shard, last: Place) -> Vec<Bytes> {
    records(&mut log.follow(shard, Place::START), Place::START, last).await
}

async fn is_silent<T>(stream: &mut (impl futures::Stream<Item = T> + Unpin)) -> bool {
    timeout(NOTHING, stream.next()).await.is_err()
}

/// Reads the beats of each engine until there has been one of each of these nodes with these bodies.
async fn hears(beats: &mut [Beats], wanted: &[(&str, &str)]) {
    assert!(!beats.is_empty());
    for beats in beats {
        let mut wanted = wanted.to_vec();
        while !wanted.is_empty() {
            let beat = soon("a beat", beats.next()).await.unwrap();
            wanted.retain(|(node, body)| {
                !(beat.node.as_str() == *node && beat.body == body.as_bytes())
            });
        }
    }
}

/// Whether no engine has a beat any more.
async fn are_silent(beats: &mut [Beats]) -> bool {
    let silent = beats.iter_mut().map(is_silent);
    futures::future::join_all(silent)
        .await
        .into_iter()
        .all(|is_silent| is_silent)
}

/// Bytes that nobody can compress, the same for the same number.
fn noise(number: u64, bytes: usize) -> Bytes {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    let mut body = vec![0; bytes];
    StdRng::seed_from_u64(number).fill_bytes(&mut body);
    body.into()
}
