//! What a tenant and a rule may use is what all nodes together use.

use std::time::Duration;

use pointsman_integration_tests::until;

use super::engines::Engine;
use super::shares::{Calls, counting, lately, most_within, send};
use super::{Nodes, TAKEOVER};

/// What the rule with a rate may begin in a second, and the tenant have under way.
const PER_SECOND: usize = 9;
const AT_ONCE: usize = 4;

/// How long calls take of the rule that has no rate.
const TAKES: Duration = Duration::from_millis(50);

/// In what time calls are counted.
const COUNTED: Duration = Duration::from_secs(5);

fn rules(sink: &str) -> String {
    format!(
        "quota: {{ in_flight: {AT_ONCE} }}
targets:
  quick: {{ http: {{ url: \"{sink}quick\", headers: {{ X-Node: {{ env: NODE }} }} }} }}
  slow: {{ http: {{ url: \"{sink}slow\", headers: {{ X-Node: {{ env: NODE }} }} }} }}
rules:
  paced: {{ quota: {{ rate: {PER_SECOND}/s }}, to: quick }}
  greedy: {{ to: slow }}
"
    )
}

/// Waits until both quotas are used nearly whole, by so many nodes.
async fn used(paced: &Calls, greedy: &Calls, nodes: usize) {
    until("the quotas are used", async || {
        let [(paced, by), (greedy, also_by)] = [paced, greedy].map(|calls| lately(calls, COUNTED));
        let seconds = usize::try_from(COUNTED.as_secs()).unwrap();
        let slots = AT_ONCE * seconds * 1_000 / usize::try_from(TAKES.as_millis()).unwrap();
        // What is paced waits for slots too, which are empty between two attempts.
        let is_used = paced * 10 >= PER_SECOND * seconds * 7 && greedy * 10 >= slots * 4;
        is_used && (by, also_by) == (nodes, nodes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_together_use_what_a_quota_allows() {
    let (paced, greedy) = (Calls::default(), Calls::default());
    let sink = counting(&paced, &greedy, TAKES).await;
    let mut nodes = Nodes::start(Engine::postgres().await, 3, 6, &rules(&sink.url())).await;
    nodes.spread().await;
    let _senders = send(&nodes.urls());
    used(&paced, &greedy, 3).await;
    until("each node says what its share is", async || {
        let mut all = 0;
        for member in &nodes.members {
            let quotas = member.items("/api/v1/quotas").await;
            let Some([tenant, rule]) = quotas.first_chunk() else {
                return false;
            };
            assert_eq!(
                (&tenant["in_flight_max"], &rule["rate"]),
                (&4.into(), &"9/s".into())
            );
            all += tenant["share"].as_u64().unwrap_or(0);
            if !rule["rate_share"].is_string() {
                return false;
            }
        }
        all == 4
    })
    .await;
    nodes.members[1].bus.kill();
    used(&paced, &greedy, 2).await;

    let at_once = most_within(&greedy, TAKES);
    let within = most_within(&paced, COUNTED);
    eprintln!(
        "at most {at_once} at once, and {within} within {COUNTED:?}; {TAKEOVER:?} to take over"
    );
    // One more for each node, where it has been granted nothing yet.
    assert!(at_once <= AT_ONCE + 3, "{at_once} at once");
    let seconds = usize::try_from(COUNTED.as_secs()).unwrap();
    let most = (PER_SECOND + 3) * seconds * 21 / 20;
    assert!(within <= most, "{within} within {COUNTED:?}");
}
