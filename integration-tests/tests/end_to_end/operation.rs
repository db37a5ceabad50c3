//! Starting, reloading, stopping, and what stands in the way of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pointsman_integration_tests::power::{Full, Power};
use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};

fn rules(url: &str, ty: &str) -> String {
    format!(
        "targets:\n  function: {{ http: {{ url: \"{url}\" }} }}\nrules:\n  some:\n    match: {{ type: [{ty}] }}\n    to: function\n"
    )
}

#[tokio::test]
async fn events_are_kept_as_their_source_and_their_rules_say_over_a_crash() {
    let sink = Sink::start().await;
    let rules = rules(&sink.url(), "one").replace("some:", "some:\n    retention: 1h");
    let mut bus = Bus::prepare(&rules);
    bus.set_listen("retention: 1s");
    bus.write_rules(&rules);
    bus.spawn();
    bus.ready().await;
    let (caller, url) = (Caller::new(), bus.url("/events"));
    for (id, ty) in [("1", "other"), ("2", "one")] {
        assert_eq!(caller.event(&url, id, ty, "").await.unwrap(), 202);
    }
    let kept = bus.api("/api/v1/events/2").await;
    assert!(kept["kept_until"].as_str() > kept["at"].as_str(), "{kept}");
    let explained = bus.api("/api/v1/events/2/explain").await;
    assert_eq!(explained["kept_until"], kept["kept_until"]);
    bus.kill();
    bus.spawn();
    bus.ready().await;
    let first = bus.admin_url("/api/v1/events/1");
    until("the time of the first is over", async || {
        caller
            .get(&first)
            .await
            .is_ok_and(|(status, _)| status == 404)
    })
    .await;
    assert_eq!(bus.api("/api/v1/events/2").await, kept);
}

#[tokio::test]
async fn a_changed_rule_file_is_taken_whole_or_not_at_all() {
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(&sink.url(), "one")).await;
    let caller = Caller::new();
    let url = bus.url("/events");

    bus.write_rules(&rules(&sink.url(), "two").replace("to: function", "to: functoin"));
    until("the mistake is told", async || {
        bus.log().contains("functoin")
    })
    .await;
    assert_eq!(caller.event(&url, "1", "one", "").await.unwrap(), 202);
    until("the old rules are still in force", async || {
        sink.ids().contains_key("1")
    })
    .await;

    bus.write_rules(&rules(&sink.url(), "two"));
    let next = AtomicU64::new(2);
    until("the new rules are in force", async || {
        let id = format!("two-{}", next.fetch_add(1, Ordering::Relaxed));
        assert_eq!(caller.event(&url, &id, "two", "").await.unwrap(), 202);
        tokio::time::sleep(Duration::from_millis(20)).await;
        sink.ids().contains_key(&id)
    })
    .await;
}

#[tokio::test]
async fn a_subscription_that_goes_is_detached_and_goes_on_when_it_returns() {
    let sink = Sink::answering(|_| Answer::status(503)).await;
    let good = Sink::start().await;
    let bus = Bus::start(&rules(&sink.url(), "one")).await;
    assert_eq!(
        Caller::new()
            .event(&bus.url("/events"), "1", "one", "")
            .await
            .unwrap(),
        202
    );
    until("it was tried", async || !sink.received().is_empty()).await;
    bus.write_rules("rules: {}\n");
    let attached = async || {
        let page = bus.api("/api/v1/subscriptions").await;
        let rows = page
            .as_array()
            .or_else(|| page["items"].as_array())
            .unwrap()
            .clone();
        rows.iter()
            .find(|row| row["rule"] == "some")
            .map(|row| (row["attached"].clone(), row["pending"].clone()))
    };
    until("it is detached and kept", async || {
        attached().await == Some((false.into(), 1.into()))
    })
    .await;
    bus.write_rules(&rules(&good.url(), "one"));
    until("it goes on", async || good.ids().contains_key("1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_nothing_and_kills_no_delivery() {
    let sink = Sink::answering(|_| Answer {
        after: Duration::from_millis(5),
        ..Answer::status(204)
    })
    .await;
    let mut bus = Bus::start(&rules(&sink.url(), "one")).await;
    let next = Arc::new(AtomicU64::new(0));
    let mut acknowledged = Vec::new();
    for _ in 0..5 {
        let (url, counter) = (bus.url("/events"), Arc::clone(&next));
        let load = tokio::spawn(async move {
            let (caller, mut acknowledged) = (Caller::new(), Vec::new());
            loop {
                let id = counter.fetch_add(1, Ordering::Relaxed).to_string();
                match caller.event(&url, &id, "one", "").await {
                    Ok(202) => acknowledged.push(id),
                    Ok(503) => {}
                    Ok(status) => panic!("a stopping bus answered {status}"),
                    Err(_) => return acknowledged,
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(bus.terminate().await.success());
        acknowledged.extend(load.await.unwrap());
        bus.spawn();
        bus.ready().await;
    }
    until("everything has arrived", async || {
        let ids = sink.ids();
        acknowledged.iter().all(|id| ids.contains_key(id))
    })
    .await;
    until("nothing waits", async || {
        bus.counts("some").await["pending"] == 0
    })
    .await;
    assert_eq!(bus.counts("some").await["dead"], 0);
    assert!(
        sink.ids().values().all(|times| *times == 1),
        "a clean stop delivered twice"
    );
}

#[tokio::test]
async fn a_second_bus_on_the_same_store_is_refused() {
    let bus = Bus::start("rules: {}\n").await;
    // Another pair of ports, the same store.
    std::fs::write(
        bus.path("other.yaml"),
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nstore: { path: ./store }\n",
    )
    .unwrap();
    let output = std::process::Command::new(pointsman_integration_tests::bus::binary())
        .args(["run", "other.yaml"])
        .current_dir(bus.path(""))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("store") && text.contains(&bus.pid().to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn send_trusts_the_authority_that_it_is_told_to() {
    let rules = "rules: {}\n";
    let mut bus = Bus::prepare(rules);
    let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/../connectors/net/tls");
    bus.set_listen(format!(
        "tls: {{ certificate: {{ file: {tls}/leaf.pem }}, key: {{ file: {tls}/leaf.key }} }}"
    ));
    bus.write_rules(rules);
    bus.spawn();
    bus.ready().await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    std::fs::write(bus.path("events"), format!("{event}\n").repeat(250)).unwrap();
    let send = |words: &[&str]| {
        let mut command = std::process::Command::new(pointsman_integration_tests::bus::binary());
        let output = command
            .args([&["send", "--file", "events"], words].concat())
            .current_dir(bus.path(""))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    // The address is the one of the rule file; nothing of the progress is drawn where there is no
    // terminal.
    let taken =
        "202 Accepted  100 events\n202 Accepted  100 events\n202 Accepted  50 events\n".to_owned();
    assert_eq!(
        send(&["--ca", &format!("{tls}/ca.pem")]),
        (true, taken, String::new())
    );
    for (words, expect) in [
        (
            vec![],
            "name the authority's certificate, or the bus's own: --ca FILE",
        ),
        (
            vec!["--ca", "nowhere.pem"],
            "cannot trust the certificates in nowhere.pem: ",
        ),
        (vec!["--ca", "events"], "it is to be a file in PEM"),
        (
            vec!["--ca", "events", "--to", "http://127.0.0.1:1"],
            "leave out --ca events, or write https://",
        ),
    ] {
        let (taken, _, said) = send(&words);
        assert!(!taken && said.contains(expect), "{words:?}: {said}");
    }
}

#[tokio::test]
async fn a_full_store_says_so_keeps_what_it_has_and_goes_on_when_there_is_room() {
    let sink = Sink::answering(|_| Answer::status(400)).await;
    let bus = Bus::start(&format!(
        "store: {{ path: ./store, max_size: 64MiB }}\n{}",
        rules(&sink.url(), "one")
    ))
    .await;
    let caller = Caller::new();
    let big = format!("\"{}\"", "x".repeat(1_000_000));
    let mut stored = 0;
    let refused = loop {
        match caller
            .event(&bus.url("/events"), &stored.to_string(), "one", big.clone())
            .await
            .unwrap()
        {
            202 => stored += 1,
            status => break status,
        }
        assert!(
            stored < 80,
            "a store of 64 MiB took {stored} events of a MB"
        );
    };
    assert!(refused == 429 || refused == 503, "{refused}");
    assert!(stored > 20, "{stored}");
    // Dead letters pin their events: all are still there, and purging them makes room.
    until("all are dead", async || {
        bus.counts("some").await["dead"] == stored
    })
    .await;
    let (status, body) = caller
        .post_json(&bus.admin_url("/api/v1/dead/purge"), r#"{"all":true}"#)
        .await
        .unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    until("there is room again", async || {
        caller
            .event(&bus.url("/events"), "after", "one", "{}")
            .await
            .unwrap()
            == 202
    })
    .await;
    assert_eq!(bus.counts("some").await["purged"], stored);
}

#[tokio::test]
async fn a_full_disk_and_a_used_up_quota_are_told_with_503_and_recovered_from() {
    is_told_and_recovered_from(Full::Disk).await;
    is_told_and_recovered_from(Full::Quota).await;
}

async fn is_told_and_recovered_from(full: Full) {
    let sink = Sink::start().await;
    let mut bus = Bus::prepare(&rules(&sink.url(), "one"));
    std::fs::create_dir(bus.path("store")).unwrap();
    let power = Power::over(&bus.path("store"));
    bus.set_environment(power.environment(true));
    bus.spawn();
    bus.ready().await;
    let caller = Caller::new();
    let data = format!("\"{}\"", "x".repeat(100_000));
    let mut number = 0;
    let mut send = async || {
        number += 1;
        (
            number.to_string(),
            caller
                .event(
                    &bus.url("/events"),
                    &number.to_string(),
                    "one",
                    data.clone(),
                )
                .await
                .unwrap(),
        )
    };
    let mut acknowledged = vec![send().await];
    power.fill(full);
    // What the write-ahead log has room for already still fits.
    let refused = loop {
        let (id, status) = send().await;
        if status != 202 {
            break status;
        }
        acknowledged.push((id, status));
        assert!(acknowledged.len() < 200, "a full disk takes everything");
    };
    assert_eq!(refused, 503);
    assert_eq!(caller.get(&bus.admin_url("/readyz")).await.unwrap().0, 503);
    power.make_room();
    until("it is taken in again", async || {
        acknowledged.push(send().await);
        acknowledged.last().unwrap().1 == 202
    })
    .await;
    acknowledged.retain(|(_, status)| *status == 202);
    assert_eq!(caller.get(&bus.admin_url("/readyz")).await.unwrap().0, 200);
    until("everything acknowledged has arrived", async || {
        acknowledged
            .iter()
            .all(|(id, _)| sink.ids().contains_key(id))
    })
    .await;
    let log = bus.log();
    assert!(
        log.contains("the disk is full") && !log.contains("opened anew"),
        "{full:?} is no failure of the store:\n{log}"
    );
}
