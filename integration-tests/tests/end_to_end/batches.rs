//! Functions that take many events in one call.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::Method;
use pointsman_integration_tests::sink::Received;
use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use serde_json::{Value, json};

fn rules(sink: &Sink, http: &str, batch: &str) -> String {
    format!(
        "targets:
  function:
    http: {{ url: \"{}\"{http} }}
    delivery:
      batch: {{ window: 10s, {batch} }}
      retry: {{ attempts: 3, backoff: {{ initial: 50ms, max: 50ms }} }}
rules:
  all: {{ to: function }}
",
        sink.url()
    )
}

/// Sends so many events in one request; their ids and their data are their numbers, from 0.
async fn send(bus: &Bus, count: usize) {
    let event = |id: usize| {
        json!({
            "specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "t",
            "data": id,
        })
    };
    let events: Vec<Value> = (0..count).map(event).collect();
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let body = Value::from(events).to_string();
    let (caller, url) = (Caller::new(), bus.url("/events"));
    let sent = caller.call(Method::POST, &url, &headers, body).await;
    assert_eq!(sent.unwrap().0, 202);
}

/// The events of a call: their ids with the ids of their tasks, whatever the mode is.
fn events(call: &Received) -> Vec<(String, String)> {
    let body: Vec<Value> = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(call.header("pointsman-batch"), body.len().to_string());
    let tasks = call.header("pointsman-tasks");
    if tasks.is_empty() {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        let of = |event| (text(event, "id"), text(event, "pointsmantask"));
        return body.iter().map(of).collect();
    }
    let tasks: Vec<_> = tasks.split(',').collect();
    assert_eq!(tasks.len(), body.len());
    let of = |(data, task): (&Value, &str)| (data.to_string(), task.trim().to_owned());
    body.iter().zip(tasks).map(of).collect()
}

/// Waits until everything has ended, and returns how often each event was part of a call that
/// succeeded for it, in which it was not one of `failed`.
async fn delivered(
    bus: &Bus,
    sink: &Sink,
    failed: impl Fn(&Received) -> BTreeSet<String>,
) -> BTreeMap<String, usize> {
    until("everything has ended", async || {
        bus.counts("all").await["pending"] == 0
    })
    .await;
    let mut times = BTreeMap::new();
    for call in sink.received() {
        let failed = failed(&call);
        for (id, _) in events(&call) {
            *times.entry(id.clone()).or_default() += usize::from(!failed.contains(&id));
        }
    }
    times
}

const COUNT: usize = 100;

/// 2 · log2(100) + 2.
const CALLS_MAX: usize = 15;

async fn poison(place: usize, status: u16) {
    // Where the poison is in a call all of it fails.
    let failed = move |call: &Received| -> BTreeSet<String> {
        let all: BTreeSet<String> = events(call).into_iter().map(|(id, _)| id).collect();
        if all.contains(&place.to_string()) {
            all
        } else {
            BTreeSet::new()
        }
    };
    let sink = Sink::answering(move |call| {
        Answer::status(if failed(call).is_empty() { 204 } else { status })
    })
    .await;
    let batch = format!("events: {COUNT}, bisect: true");
    let bus = Bus::start(&rules(&sink, "", &batch)).await;
    send(&bus, COUNT).await;
    let times = delivered(&bus, &sink, failed).await;
    let said = format!("poison at {place}, answered {status}");
    let calls = sink.received();
    assert_eq!(events(&calls[0]).len(), COUNT, "{said}: one batch at first");
    let sizes: Vec<_> = calls.iter().map(|call| events(call).len()).collect();
    assert!(
        calls.len() <= CALLS_MAX,
        "{said}: {} calls, of {sizes:?}",
        calls.len()
    );
    assert_eq!(times.len(), COUNT, "{said}");
    for (id, times) in times {
        let expect = usize::from(id != place.to_string());
        assert_eq!(times, expect, "{said}: event {id}");
    }
    let dead = bus.dead().await;
    assert_eq!(dead.len(), 1, "{said}: {dead:?}");
    let (_, task) = events(&calls[0]).swap_remove(place);
    assert_eq!(dead[0]["id"], json!(task), "{said}: {dead:?}");
    let counts = bus.counts("all").await;
    assert_eq!(
        (&counts["created"], &counts["delivered"], &counts["dead"]),
        (&json!(COUNT), &json!(COUNT - 1), &json!(1)),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_events_the_one_that_fails_is_found_in_fifteen_calls() {
    for (place, status) in [(0, 500), (37, 500), (99, 500), (61, 400)] {
        poison(place, status).await;
    }
}

/// The events that the function cannot work off, by how often a call has named them: the first two
/// come through at the second and third attempt, the last never.
const FAIL: [(&str, u32); 3] = [("3", 1), ("8", 2), ("11", u32::MAX)];

/// What of a call fails: each event as often as it is told to.
fn named(call: &Received) -> BTreeSet<String> {
    let attempt: u32 = call.header("pointsman-attempt").parse().unwrap();
    let fails = |id: &str| {
        let found = FAIL.iter().find(|(fails, _)| *fails == id);
        found.is_some_and(|(_, times)| attempt <= *times)
    };
    let ids = events(call).into_iter().map(|(id, _)| id);
    ids.filter(|id| fails(id)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_function_names_is_called_again() {
    for http in ["", ", mode: data"] {
        let sink = Sink::answering(|call| {
            let failed = named(call);
            let failed = events(call)
                .into_iter()
                .filter(|(id, _)| failed.contains(id))
                .map(|(_, task)| json!({ "itemIdentifier": task }));
            let answer = json!({ "batchItemFailures": failed.collect::<Vec<_>>() });
            Answer {
                body: Bytes::from(answer.to_string()),
                ..Answer::status(200)
            }
            .header("content-type", "application/json")
        })
        .await;
        let bus = Bus::start(&rules(&sink, http, "events: 12")).await;
        send(&bus, 12).await;
        let times = delivered(&bus, &sink, named).await;
        let calls = sink.received();
        let ids = |call| events(call).into_iter().map(|(id, _)| id);
        let called: Vec<Vec<String>> = calls.iter().map(|call| ids(call).collect()).collect();
        let all: Vec<String> = (0..12).map(|id: usize| id.to_string()).collect();
        assert_eq!(called[0], all, "{http}");
        // Those that failed come back by themselves or together, as they are due: each as often as
        // it failed, and nothing else with them.
        let again = |id: &str| {
            called[1..]
                .iter()
                .flatten()
                .filter(|own| *own == id)
                .count()
        };
        let times_again = all.iter().map(|id| (id.as_str(), again(id)));
        let times_again: Vec<_> = times_again.filter(|(_, times)| *times > 0).collect();
        assert_eq!(times_again, [("3", 1), ("8", 2), ("11", 2)], "{http}");
        for (id, times) in times {
            assert_eq!(times, usize::from(id != "11"), "{http}: event {id}");
        }
        let dead = bus.dead().await;
        assert_eq!(dead.len(), 1, "{http}: {dead:?}");
        assert_eq!(
            (&dead[0]["attempts"], &dead[0]["reason"]),
            (&json!(3), &json!("exhausted")),
            "{http}: {dead:?}"
        );
    }
}
