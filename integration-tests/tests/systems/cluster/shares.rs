//! What a target can take is what all nodes together may give it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use pointsman_integration_tests::{Answer, Caller, Sink, until};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::engines::Engine;
use super::{Nodes, TAKEOVER};

/// How many callers send events, and their pause between two: four times what the targets take, and
/// more than that also where a busy disk has each event wait for a tenth of a second.
const SENDERS: usize = 12;
const PAUSE: Duration = Duration::from_millis(50);

/// What each of the targets may be given.
const PER_SECOND: usize = 60;
const AT_ONCE: usize = 4;

/// How long a call of the target with few at once takes.
const TAKES: Duration = Duration::from_millis(400);

/// In what time calls are counted: bursts of a busy machine count little.
const COUNTED: Duration = Duration::from_secs(5);

fn rules(sink: &str) -> String {
    format!(
        "targets:
  paced:
    http: {{ url: \"{sink}paced\", headers: {{ X-Node: {{ env: NODE }} }} }}
    delivery: {{ rate: {PER_SECOND}/s }}
  narrow:
    http: {{ url: \"{sink}slow\", headers: {{ X-Node: {{ env: NODE }} }} }}
    delivery: {{ concurrency: {{ max: {AT_ONCE} }} }}
rules:
  paced: {{ to: paced }}
  narrow: {{ to: narrow }}
"
    )
}

/// Sends more than the targets take, to all nodes in turn, until it is dropped.
pub(super) fn send(urls: &[String]) -> JoinSet<()> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let urls = urls.to_vec();
        senders.spawn(async move {
            let caller = Caller::new();
            for number in 0.. {
                let id = format!("{sender}-{number}");
                let headers = [
                    ("ce-specversion", "1.0"),
                    ("ce-id", id.as_str()),
                    ("ce-source", "/test"),
                    ("ce-type", "t"),
                ];
                let url = &urls[number % urls.len()];
                // A node that is gone takes nothing, and more will come.
                let _answer = caller.call(Method::POST, url, &headers, "x").await;
                sleep(PAUSE).await;
            }
        });
    }
    senders
}

/// When a target was called, and by which nodes.
pub(super) type Calls = Arc<Mutex<Vec<(Instant, String)>>>;

/// A function that notes its calls: those to a path that ends with `slow`, which take so long, and
/// all others.
pub(super) async fn counting(others: &Calls, slow: &Calls, takes: Duration) -> Sink {
    let (to_others, to_slow) = (Arc::clone(others), Arc::clone(slow));
    Sink::forgetting(move |call| {
        let (calls, after) = match call.path.ends_with("slow") {
            true => (&to_slow, takes),
            false => (&to_others, Duration::ZERO),
        };
        let node = call.header("x-node").to_owned();
        calls.lock().push((call.at, node));
        Answer {
            after,
            ..Answer::status(204)
        }
    })
    .await
}

/// The most calls that began within a time of this length.
pub(super) fn most_within(calls: &Calls, time: Duration) -> usize {
    let calls = calls.lock();
    let within = |(from, (at, _)): (usize, &(Instant, String))| {
        let after = calls[from..].iter();
        after.take_while(|(later, _)| *later < *at + time).count()
    };
    calls.iter().enumerate().map(within).max().unwrap_or(0)
}

/// How many calls began in this time until now, and by how many nodes.
pub(super) fn lately(calls: &Calls, time: Duration) -> (usize, usize) {
    let from = Instant::now() - time;
    let calls = calls.lock();
    let lately = calls.iter().rev().take_while(|(at, _)| *at >= from);
    let nodes: HashSet<_> = lately.clone().map(|(_, node)| node).collect();
    (lately.count(), nodes.len())
}

/// Waits until both targets are given nearly what they may, by so many nodes; returns how long that
/// took from the beginning of the time in which it was counted.
async fn used(paced: &Calls, narrow: &Calls, nodes: usize) -> Duration {
    let began = Instant::now();
    let part = |all: usize, time: Duration| all * whole_seconds(COUNTED) * 1_000 / millis(time);
    let most = [
        part(PER_SECOND, Duration::from_secs(1)),
        part(AT_ONCE, TAKES),
    ];
    until("the targets are given what they take", async || {
        let [(paced, by), (narrow, also_by)] = [paced, narrow].map(|calls| lately(calls, COUNTED));
        // A limit that is found by trying is lowered now and then, to see whether less is quicker.
        let is_used = paced * 10 >= most[0] * 9 && narrow * 10 >= most[1] * 7;
        is_used && (by, also_by) == (nodes, nodes)
    })
    .await;
    began.elapsed().saturating_sub(COUNTED)
}

fn millis(time: Duration) -> usize {
    usize::try_from(time.as_millis()).unwrap()
}

fn whole_seconds(time: Duration) -> usize {
    usize::try_from(time.as_secs()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_together_give_a_target_what_it_takes() {
    let (paced, narrow) = (Calls::default(), Calls::default());
    let sink = counting(&paced, &narrow, TAKES).await;
    let mut nodes = Nodes::start(Engine::postgres().await, 3, 6, &rules(&sink.url())).await;
    nodes.spread().await;
    let _senders = send(&nodes.urls());
    let first = used(&paced, &narrow, 3).await;
    nodes.members[1].bus.kill();
    let then = used(&paced, &narrow, 2).await;
    eprintln!("all is used after {first:?}, and {then:?} after a kill; {TAKEOVER:?} to take over");

    let at_once = most_within(&narrow, TAKES);
    let within = most_within(&paced, COUNTED);
    eprintln!("at most {at_once} at once, and {within} within {COUNTED:?}");
    // One more for each node, where it has been granted nothing yet.
    assert!(at_once <= AT_ONCE + 3, "{at_once} at once");
    let most = (PER_SECOND + 3) * whole_seconds(COUNTED) * 21 / 20;
    assert!(within <= most, "{within} within {COUNTED:?}");
}
