//! Order keys, with failures and kills of the bus in between.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use pointsman_integration_tests::sink::Received;
use pointsman_integration_tests::{Answer, Bus, Caller, PATIENCE, Sink, until};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How much is done.
#[derive(Clone, Copy)]
struct Extent {
    events: usize,
    keys: usize,
    kills: usize,
}

/// Who send at the same time, each events of keys of its own.
const SENDERS: usize = 5;

/// Events in one request.
const SENT_AT_ONCE: usize = 200;

/// Of so many calls one fails.
const ONE_FAILS_OF: u32 = 12;

/// The variable of the bus that says how often it has been killed.
const LIFE: &str = "LIFE";

/// What a function has worked off of one key.
#[derive(Clone, Copy, Default)]
struct Worked {
    /// The number of the last event that was answered with success; from 1.
    last: usize,
    /// In which life of the bus that was.
    life: usize,
}

/// A function that fails now and then and looks at the order in which it is called.
struct Judge {
    worked: Mutex<Vec<Worked>>,
    /// Events that were worked off, each counted once.
    done: AtomicUsize,
    failed: AtomicUsize,
    /// Calls for what was worked off before a kill, of which the bus could not know.
    again: AtomicUsize,
    /// What came out of order.
    wrong: Mutex<Vec<String>>,
}

impl Judge {
    fn new(keys: usize) -> Arc<Self> {
        Arc::new(Self {
            worked: Mutex::new(vec![Worked::default(); keys]),
            done: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            again: AtomicUsize::new(0),
            wrong: Mutex::new(Vec::new()),
        })
    }

    fn call(&self, call: &Received) -> Answer {
        let id = call.header("ce-id");
        let (key, number) = id.split_once('/').unwrap();
        let (key, number): (usize, usize) = (key.parse().unwrap(), number.parse().unwrap());
        let life: usize = call.header("x-life").parse().unwrap();
        let mut all = self.worked.lock().unwrap();
        let worked = &mut all[key];
        // Sent before a kill, and read when the bus had begun anew: nobody waits for the answer.
        if life < worked.life {
            return Answer::status(204);
        }
        // Only the next one may come; and once more the last one where the bus was killed since.
        let is_again = number == worked.last && worked.life < life;
        if number != worked.last + 1 && !is_again {
            let said = format!("{id} after {}, {life} kills before", worked.last);
            self.wrong.lock().unwrap().push(said);
        }
        if rand::rng().random_ratio(1, ONE_FAILS_OF) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Answer::status(500);
        }
        if is_again {
            self.again.fetch_add(1, Ordering::Relaxed);
        } else if number > worked.last {
            self.done.fetch_add(1, Ordering::SeqCst);
            worked.last = number;
        }
        worked.life = life;
        Answer::status(204)
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }
}

/// Sends events of some keys, in random turn, each key's in their order: what is not acknowledged
/// is sent again before anything else.
async fn send(url: String, keys: Vec<usize>, events: usize) {
    let (caller, mut sent) = (Caller::new(), vec![0; keys.len()]);
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let mut left = events;
    while left > 0 {
        let count = left.min(SENT_AT_ONCE);
        left -= count;
        let mut event = || {
            let place = rand::rng().random_range(0..keys.len());
            let key = keys[place];
            sent[place] += 1;
            json!({
                "specversion": "1.0", "id": format!("{key}/{}", sent[place]), "source": "/test",
                "type": "t", "subject": key.to_string(),
            })
        };
        let batch: Vec<Value> = (0..count).map(|_| event()).collect();
        let body = Value::from(batch).to_string();
        let until = Instant::now() + PATIENCE;
        loop {
            let sent = caller.call(Method::POST, &url, &headers, body.clone());
            if sent.await.is_ok_and(|(status, ..)| status == 202) {
                break;
            }
            assert!(Instant::now() < until, "a request is acknowledged");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Starts a bus that has been killed so often.
async fn begin(bus: &mut Bus, life: usize) {
    bus.set_environment(vec![(LIFE.to_owned(), life.to_string())]);
    bus.spawn();
    bus.ready().await;
}

async fn in_order(extent: Extent) {
    let judge = Judge::new(extent.keys);
    let function = Arc::clone(&judge);
    let sink = Sink::forgetting(move |call| function.call(call)).await;
    let rules = format!(
        "targets:
  function:
    http: {{ url: \"{}\", headers: {{ x-life: {{ env: {LIFE} }} }} }}
    delivery: {{ retry: {{ attempts: 100, backoff: {{ initial: 5ms, max: 20ms }} }} }}
rules:
  all: {{ to: function, delivery: {{ order_by: $.subject }} }}
",
        sink.url()
    );
    let mut bus = Bus::prepare(&rules);
    // What was stored and not acknowledged before a kill is sent once more.
    bus.set_listen("deduplicate: { by: <$.id> }");
    bus.write_rules(&rules);
    let mut life = 0;
    begin(&mut bus, life).await;
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let keys = (sender..extent.keys).step_by(SENDERS).collect();
        senders.spawn(send(bus.url("/events"), keys, extent.events / SENDERS));
    }
    // Patience is for a part of the way, whatever all of it takes.
    let step = extent.events / 100;
    let kill_at: Vec<usize> = (1..=extent.kills)
        .map(|kill| 100 * kill / (extent.kills + 1))
        .collect();
    for part in 1..=100 {
        until("the function gets on", async || {
            judge.done() >= part * step || !judge.wrong.lock().unwrap().is_empty()
        })
        .await;
        let wrong = judge.wrong.lock().unwrap().clone();
        assert!(wrong.is_empty(), "out of order: {wrong:?}");
        if kill_at.contains(&part) {
            bus.kill();
            life += 1;
            begin(&mut bus, life).await;
        }
    }
    senders.join_all().await;
    until("everything has ended", async || {
        bus.counts("all").await["pending"] == 0
    })
    .await;
    let wrong = judge.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "out of order: {wrong:?}");
    assert_eq!(judge.done(), extent.events);
    let counts = bus.counts("all").await;
    assert_eq!(
        (&counts["created"], &counts["delivered"], &counts["dead"]),
        (&json!(extent.events), &json!(extent.events), &json!(0)),
        "{counts}"
    );
    let failed = judge.failed.load(Ordering::Relaxed);
    assert!(failed > extent.events / 100, "only {failed} calls failed");
    println!(
        "{} events over {} keys in order; {failed} calls failed, {} came again over {} kills",
        extent.events,
        extent.keys,
        judge.again.load(Ordering::Relaxed),
        extent.kills
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_key_stay_in_order_whatever_fails_and_is_killed() {
    let mut extent = Extent {
        events: 20_000,
        keys: 50,
        kills: 2,
    };
    if std::env::var_os("POINTSMAN_LONG").is_some() {
        extent = Extent {
            events: 1_000_000,
            keys: 1_000,
            kills: 10,
        };
    }
    in_order(extent).await;
}
