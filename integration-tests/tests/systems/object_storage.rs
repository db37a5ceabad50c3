//! From a bucket to a function, told by a queue and found by listing.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_integration_tests::object_storage::{BUCKET, QUEUE_PATH, Store};
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, until};
use pointsman_test_brokers::ObjectStore;
use serde_json::{Value, json};

/// Deliveries in flight at once at most.
const IN_FLIGHT: usize = 32;

fn rules(port: u16, sink: &Sink) -> String {
    format!(
        "sources:
  uploads:
    object-storage:
      endpoint: \"http://127.0.0.1:{port}\"
      bucket: {BUCKET}
      credentials: {{ access_key: test, secret_key: test }}
      notifications: {{ sqs: \"http://127.0.0.1:{port}{QUEUE_PATH}\" }}
      reconcile: 2s
      grace: 2s
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ concurrency: {{ max: {IN_FLIGHT} }}, retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: uploads, to: function }}
",
        sink.url()
    )
}

/// How often each happening was told: its type without how it came about, and the key.
fn told(sink: &Sink) -> BTreeMap<(String, String), usize> {
    let mut told = BTreeMap::new();
    for one in sink.received() {
        let ty = one
            .header("ce-type")
            .split(':')
            .next()
            .unwrap_or_default()
            .trim_start_matches("com.amazonaws.s3.")
            .to_owned();
        *told
            .entry((ty, one.header("ce-subject").to_owned()))
            .or_default() += 1;
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_notification_told_of_is_found_by_listing_and_nothing_is_told_twice() {
    let server = ObjectStore::start().await;
    let (sink, store) = (Sink::start().await, Store::prepare(server.port()).await);
    let bus = Bus::start(&rules(server.port(), &sink)).await;
    let odd = [
        "a key with spaces.jpg",
        "one+one=two.jpg",
        "Übergrößenträger.jpg",
        "100%.jpg",
        "deep/er/and deeper.jpg",
    ];

    store.notify(true).await;
    for number in 0..20 {
        store.put(&format!("told-{number}"), "x").await;
    }
    for key in odd {
        store.put(key, "x").await;
    }
    until("all that was told has arrived", async || {
        told(&sink).len() == 25
    })
    .await;

    // What the examples look for.
    for one in sink.received() {
        let data: Value = serde_json::from_slice(&one.body).unwrap();
        assert_eq!(
            (
                &data["s3"]["bucket"]["name"],
                data["s3"]["object"]["size"].as_u64()
            ),
            (&json!(BUCKET), Some(1)),
            "{data}"
        );
    }

    store.notify(false).await;
    for number in 0..20 {
        store.put(&format!("untold-{number}"), "x").await;
    }
    for number in 0..5 {
        store.put(&format!("told-{number}"), "another").await;
        store.delete(&format!("told-{}", number + 5)).await;
    }
    until("what was missed has been found", async || {
        told(&sink).values().sum::<usize>() >= 55
    })
    .await;

    store.notify(true).await;
    for number in 0..10 {
        store.put(&format!("again-{number}"), "x").await;
    }
    until("what is told again has arrived", async || {
        told(&sink).len() >= 60
    })
    .await;
    // Two listings later nothing has come that was there before.
    for last in ["last-1", "last-2"] {
        store.notify(false).await;
        store.put(last, "x").await;
        until("the listing has found it", async || {
            told(&sink).contains_key(&("ObjectCreated".to_owned(), last.to_owned()))
        })
        .await;
    }
    let told = told(&sink);
    for ((ty, key), times) in &told {
        let replaced =
            ty == "ObjectCreated" && (0..5).any(|number| *key == format!("told-{number}"));
        assert_eq!(
            *times,
            if replaced { 2 } else { 1 },
            "{ty} {key} in {told:?}"
        );
    }
    assert_eq!(told.len(), 62, "{told:?}");
    assert_eq!(bus.counts("all").await["dead"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_a_bucket_and_the_function_while_the_way_fails_and_the_bus_is_killed()
 {
    let server = ObjectStore::start().await;
    let (sink, store) = (Sink::start().await, Store::prepare(server.port()).await);
    store.notify(true).await;
    let proxy = Proxy::start(server.port());
    let mut bus = Bus::start(&rules(proxy.port(), &sink)).await;
    let faults = [
        Fault::Reset,
        Fault::Refuse,
        Fault::BlackHole,
        Fault::HalfOpen,
        Fault::Trickle(64, Duration::from_millis(5)),
    ];
    let (each, kills) = (30, 3);
    for (round, fault) in faults.into_iter().enumerate() {
        for number in 0..each {
            store.put(&format!("{round}-{number}"), "x").await;
            match number {
                5 => proxy.set(fault),
                15 if round < kills => {
                    bus.kill();
                    bus.spawn();
                    bus.ready().await;
                }
                25 => proxy.set(Fault::None),
                _ => {}
            }
        }
    }
    until("every object has arrived", async || {
        told(&sink).len() == faults.len() * each
    })
    .await;
    let again: usize = told(&sink).values().map(|times| times - 1).sum();
    assert!(again <= kills * IN_FLIGHT, "{again} arrived again");
    assert_eq!(bus.counts("all").await["dead"], 0);
}
