//! What may wait is what may wait in the shards of all nodes together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_integration_tests::{Answer, Caller, Sink, until, until_within};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::engines::Engine;
use super::{Nodes, TAKEOVER};

/// How many deliveries of each rule may wait.
const MAX: usize = 200;

/// How many of each may wait besides, since they came in before a beat was heard: half as many again,
/// where what comes in within two beats is a third of that. Each of six shards by itself would let
/// in six times as many.
const BESIDES: usize = MAX / 2;

/// The types of events: one for a rule with a backlog, one for a rule with a quota.
const TYPES: [&str; 2] = ["backlog", "quota"];

/// How many callers send events, one of each type in turn, and their pause between two.
const SENDERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(25);

/// How many answers of one kind in a row say how things stand.
const IN_A_ROW: usize = 12;

/// Calls that hang are given up after this, and made again.
const TIMEOUT: &str = "5s";

fn rules(sink: &str) -> String {
    format!(
        "targets:
  hung:
    http: {{ url: \"{sink}\" }}
    delivery: {{ timeout: {TIMEOUT}, retry: {{ attempts: 1000, backoff: {{ initial: 100ms, max: 1s }} }} }}
rules:
  own: {{ match: {{ type: [backlog] }}, delivery: {{ backlog: {{ max: {MAX} }} }}, to: hung }}
  quota: {{ match: {{ type: [quota] }}, quota: {{ backlog: {{ max: {MAX} }} }}, to: hung }}
"
    )
}

/// What senders were answered.
#[derive(Default)]
struct Answers {
    /// The ids of events that were taken in, by type.
    accepted: BTreeMap<&'static str, BTreeSet<String>>,
    /// By node and type the last status of 202 and 429, and how many times in a row it came.
    in_a_row: BTreeMap<(usize, &'static str), (u16, usize)>,
}

impl Answers {
    fn note(&mut self, node: usize, ty: &'static str, id: String, status: u16) {
        if status == 202 {
            self.accepted.entry(ty).or_default().insert(id);
        }
        // A shard may be on its way.
        if status == 202 || status == 429 {
            let last = self.in_a_row.entry((node, ty)).or_default();
            *last = (status, if last.0 == status { last.1 + 1 } else { 1 });
        }
    }

    /// Whether these nodes answer events of each type with this status.
    fn all_are(&self, status: u16, nodes: &[usize]) -> bool {
        let all = nodes.iter().flat_map(|node| TYPES.map(|ty| (*node, ty)));
        all.into_iter().all(|of| {
            let last = self.in_a_row.get(&of);
            last.is_some_and(|(last, count)| *last == status && *count >= IN_A_ROW)
        })
    }

    /// How many events of each type were taken in.
    fn counts(&self) -> [usize; 2] {
        TYPES.map(|ty| self.accepted.get(ty).map_or(0, BTreeSet::len))
    }
}

/// Sends to all nodes in turn, until it is dropped.
fn send(urls: &[String], answers: &Arc<Mutex<Answers>>) -> JoinSet<()> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (urls, answers) = (urls.to_vec(), Arc::clone(answers));
        senders.spawn(async move {
            let caller = Caller::new();
            for number in 0.. {
                for ty in TYPES {
                    let (id, node) = (format!("{ty}-{sender}-{number}"), number % urls.len());
                    // One that is gone takes nothing.
                    if let Ok(status) = caller.event(&urls[node], &id, ty, "1").await {
                        answers.lock().note(node, ty, id, status);
                    }
                }
                sleep(PAUSE).await;
            }
        });
    }
    senders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_all_shards_is_bounded_together() {
    let hangs = Arc::new(AtomicBool::new(true));
    let delivered = Arc::<Mutex<BTreeSet<String>>>::default();
    let (is_hanging, to) = (Arc::clone(&hangs), Arc::clone(&delivered));
    let sink = Sink::forgetting(move |call| {
        let mut answer = Answer::status(204);
        match is_hanging.load(Ordering::Relaxed) {
            true => answer.after = Duration::from_secs(3_600),
            false => drop(to.lock().insert(call.header("ce-id").to_owned())),
        }
        answer
    })
    .await;
    let mut nodes = Nodes::start(Engine::postgres().await, 3, 6, &rules(&sink.url())).await;
    nodes.spread().await;
    let answers = Arc::<Mutex<Answers>>::default();
    let _senders = send(&nodes.urls(), &answers);
    let is_bounded = |when: &str| {
        let counts = answers.lock().counts();
        eprintln!("{when} {counts:?} wait of {MAX} each; {TAKEOVER:?} to take over");
        let is_bounded = |count| (MAX * 9 / 10..=MAX + BESIDES).contains(&count);
        assert!(counts.into_iter().all(is_bounded), "{when}: {counts:?}");
    };

    let refused = async |by: &[usize]| answers.lock().all_are(429, by);
    until("every node refuses", async || refused(&[0, 1, 2]).await).await;
    is_bounded("once every node refuses");
    nodes.members[1].bus.kill();
    nodes.next_owner(1).await;
    // What was told before is over.
    answers.lock().in_a_row.clear();
    until("the others go on to refuse", async || {
        refused(&[0, 2]).await
    })
    .await;
    is_bounded("after a kill");

    hangs.store(false, Ordering::Relaxed);
    let patience = Duration::from_secs(120);
    until_within(patience, "senders are let in again", async || {
        answers.lock().all_are(202, &[0, 2])
    })
    .await;
    // What senders were told is stored is delivered, of what waited while the target hung too.
    let accepted = answers.lock().accepted.clone();
    until_within(patience, "all is delivered", async || {
        let delivered = delivered.lock();
        accepted.values().flatten().all(|id| delivered.contains(id))
    })
    .await;
}
