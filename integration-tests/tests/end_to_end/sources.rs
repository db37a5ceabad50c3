//! Timers, folders and webhooks, from the outside to a function.

use pointsman_integration_tests::bus::workspace;
use pointsman_integration_tests::{Bus, Caller, Sink, until};

#[tokio::test]
async fn a_timer_fires_and_its_events_have_an_identity() {
    let sink = Sink::start().await;
    let bus = Bus::start(&format!(
        "sources:\n  tick: {{ timer: {{ every: 100ms }} }}\ntargets:\n  function: {{ http: {{ url: \"{}\" }} }}\nrules:\n  ticks: {{ from: tick, to: function }}\n",
        sink.url()
    ))
    .await;
    until("it has fired five times", async || sink.ids().len() >= 5).await;
    assert!(
        sink.ids().values().all(|times| *times == 1),
        "{:?}",
        sink.ids()
    );
    assert!(bus.log().lines().count() < 100, "a timer floods the log");
}

#[tokio::test]
async fn a_file_in_a_folder_calls_a_command_also_when_it_came_while_the_bus_was_down() {
    let text = "sources:\n  inbox: { directory: { path: ./uploads, settle: 20ms } }\ntargets:\n  note: { exec: { command: [sh, -c, 'cat >> seen; echo >> seen'], cwd: . } }\nrules:\n  uploads: { from: inbox, match: { type: [{ suffix: created }] }, to: note }\n";
    let mut bus = Bus::prepare(text);
    std::fs::create_dir(bus.path("uploads")).unwrap();
    bus.spawn();
    bus.ready().await;
    let seen = |bus: &Bus, name: &str| {
        std::fs::read_to_string(bus.path("seen"))
            .unwrap_or_default()
            .matches(name)
            .count()
            > 0
    };
    std::fs::write(bus.path("uploads/first photo.jpg"), b"x").unwrap();
    until("the command has seen the first file", async || {
        seen(&bus, "first photo.jpg")
    })
    .await;
    assert!(bus.terminate().await.success());
    std::fs::write(bus.path("uploads/second.jpg"), b"x").unwrap();
    bus.spawn();
    bus.ready().await;
    until("the command has seen the second file", async || {
        seen(&bus, "second.jpg")
    })
    .await;
    until("nothing waits", async || {
        bus.counts("uploads").await["pending"] == 0
    })
    .await;
    assert_eq!(
        bus.counts("uploads").await["created"],
        2,
        "a file that was told before the restart was told again"
    );
}

#[tokio::test]
async fn a_github_webhook_is_taken_with_the_right_signature_only() {
    let sink = Sink::start().await;
    let text = format!(
        "sources:\n  github: {{ webhook: {{ path: /hooks/github, signature: {{ github: {{ secret: {{ env: GITHUB_SECRET }} }} }} }} }}\ntargets:\n  function: {{ http: {{ url: \"{}\" }} }}\nrules:\n  pushes: {{ from: github, match: {{ type: [com.github.push] }}, to: function }}\n",
        sink.url()
    );
    let bus = Bus::start_with(&text, &[("GITHUB_SECRET", "for the quickstart only")]).await;
    let body = std::fs::read(workspace().join("examples/quickstart/github-push.json")).unwrap();
    // Made by: openssl dgst -sha256 -hmac "$(cat github-secret)" github-push.json
    let right = format!(
        "sha256={}",
        std::fs::read_to_string(workspace().join("examples/quickstart/github-push.signature"))
            .unwrap()
            .trim()
    );
    let post = async |signature: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("x-github-event", "push"),
            ("x-github-delivery", "d-1"),
            ("x-hub-signature-256", signature),
        ];
        Caller::new()
            .call(
                http::Method::POST,
                &bus.url("/hooks/github"),
                &headers,
                body.clone(),
            )
            .await
            .unwrap()
            .0
    };
    assert_eq!(
        post(&right.replace(|c: char| c.is_ascii_digit(), "0")).await,
        401
    );
    assert_eq!(post("").await, 401);
    assert!((200..300).contains(&post(&right).await));
    until("the push has arrived", async || sink.received().len() == 1).await;
    assert_eq!(sink.received()[0].header("ce-id"), "d-1");
}
