//! What targets are given to show who calls, or in their addresses, is nowhere to be seen: not in
//! the history of their tasks, not in dead letters, not in the API, not in the log. Whatever goes
//! wrong.

use std::time::Duration;

use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// All of them, in the environment of the bus.
const SECRETS: [(&str, &str); 12] = [
    ("BEARER", "hunter-bearer"),
    ("PASSWORD", "hunter-password"),
    ("HEADER", "hunter-header"),
    ("CLIENT_SECRET", "hunter-client"),
    ("SIGNED", "/path/hunter-path?signature=hunter-query"),
    ("NATS_TOKEN", "hunter-nats"),
    ("ARGUMENT", "hunter-argument"),
    ("VARIABLE", "hunter-variable"),
    ("WHSEC", "whsec_aHVudGVyLXNpZ25pbmcta2V5LW9mLTMyLWJ5dGVz"),
    ("NATS_URL", ""),
    ("RABBITMQ_URL", ""),
    ("ADDRESS", ""),
];

/// What is looked for: part of each of them, and what they become on the way.
const TRACES: [&str; 4] = [
    "hunter",
    "aHVudGVy",
    "c2lnbmVyOmh1bnRlci",
    "token-of-hunter",
];

/// A server that says something nobody understands and hangs up.
async fn babbling() -> u16 {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            // Whoever hears it may have gone.
            let _ = stream.write_all(b"500 what?\r\n\r\n").await;
        }
    });
    port
}

/// A port where nobody listens.
async fn closed() -> u16 {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    server.local_addr().unwrap().port()
}

fn rules(sink: &Sink, closed: u16, babbling: u16) -> String {
    let url = sink.url();
    let http = [
        (
            "refused",
            format!("url: \"{url}401\", auth: {{ bearer: {{ env: BEARER }} }}"),
        ),
        (
            "broken",
            format!(
                "url: \"{url}500\", auth: {{ basic: {{ username: signer, password: {{ env: PASSWORD }} }} }}"
            ),
        ),
        (
            "closed",
            format!(
                "url: \"http://127.0.0.1:{closed}/\", auth: {{ header: {{ name: X-Api-Key, value: {{ env: HEADER }} }} }}"
            ),
        ),
        (
            "babbling",
            format!(
                "url: \"http://127.0.0.1:{babbling}/?key=hunter-literal\", headers: {{ x-secret: {{ env: HEADER }} }}"
            ),
        ),
        (
            "no-tls",
            format!(
                "url: \"https://127.0.0.1:{babbling}/\", auth: {{ bearer: {{ env: BEARER }} }}"
            ),
        ),
        ("redirected", "url: { env: ADDRESS }".to_owned()),
        (
            "elsewhere",
            format!("url: \"{url}307?signature=hunter-literal\""),
        ),
        (
            "signed",
            format!("url: \"{url}500\", auth: {{ signature: {{ secret: {{ env: WHSEC }} }} }}"),
        ),
        (
            "no-token",
            format!(
                "url: \"{url}200\", auth: {{ oauth2: {{ token_url: \"{url}401?hunter-literal\", client_id: signer, client_secret: {{ env: CLIENT_SECRET }} }} }}"
            ),
        ),
        (
            "token",
            format!(
                "url: \"{url}500\", auth: {{ oauth2: {{ token_url: \"{url}token\", client_id: signer, client_secret: {{ env: CLIENT_SECRET }}, credentials: body }} }}"
            ),
        ),
    ];
    let http = http.map(|(name, settings)| (name, format!("http: {{ {settings} }}")));
    let others = [
        ("nats", "nats: { url: { env: NATS_URL }, subject: s }".to_owned()),
        ("nats-token", format!("nats: {{ url: \"nats://127.0.0.1:{babbling}\", subject: s, auth: {{ token: {{ env: NATS_TOKEN }} }} }}")),
        ("rabbitmq", "rabbitmq: { url: { env: RABBITMQ_URL }, routing_key: q }".to_owned()),
        ("rabbitmq-password", format!("rabbitmq: {{ url: \"amqp://127.0.0.1:{closed}\", routing_key: q, username: signer, password: {{ env: PASSWORD }} }}")),
        ("exec", "exec: { command: [sh, -c, 'echo \"cannot log in with $0 and $VARIABLE\" >&2; exit 1', { env: ARGUMENT }], env: { VARIABLE: { env: VARIABLE } } }".to_owned()),
        ("no-program", "exec: { command: [{ env: ARGUMENT }] }".to_owned()),
    ];
    let all: Vec<_> = http.into_iter().chain(others).collect();
    let targets = all.iter().map(|(name, settings)| {
        format!(
            "  {name}: {{ {settings}, delivery: {{ timeout: 2s, retry: {{ attempts: 2, backoff: {{ initial: 10ms, max: 10ms }} }} }} }}\n"
        )
    });
    let rules = all
        .iter()
        .map(|(name, _)| format!("  {name}: {{ to: {name} }}\n"));
    format!(
        "targets:\n{}rules:\n{}",
        targets.collect::<String>(),
        rules.collect::<String>()
    )
}

#[tokio::test]
async fn no_secret_of_a_target_is_seen_whatever_goes_wrong() {
    let sink = Sink::answering(|one| {
        let path = one.path.trim_start_matches('/');
        match path.split(['/', '?']).next().unwrap_or_default() {
            "token" => Answer {
                body: r#"{"access_token":"token-of-hunter","token_type":"Bearer"}"#.into(),
                ..Answer::status(200)
            },
            "path" | "307" => Answer::status(307).header("location", format!("/to/{path}")),
            status => Answer {
                after: Duration::ZERO,
                ..Answer::status(status.parse().unwrap())
            },
        }
    })
    .await;
    let (closed, babbling) = (closed().await, babbling().await);
    let rules = rules(&sink, closed, babbling);
    let mut bus = Bus::prepare(&rules);
    let address = format!("{}{}", sink.url().trim_end_matches('/'), SECRETS[4].1);
    let values = SECRETS.map(|(name, value)| {
        let value = match name {
            "NATS_URL" => format!("nats://signer:hunter-url@127.0.0.1:{closed}"),
            "RABBITMQ_URL" => format!("amqp://signer:hunter-url@127.0.0.1:{babbling}/%2f"),
            "ADDRESS" => address.clone(),
            _ => value.to_owned(),
        };
        (name.to_owned(), value)
    });
    let level = ("POINTSMAN_LOG".to_owned(), "debug".to_owned());
    bus.set_environment(values.into_iter().chain([level]).collect());
    bus.spawn();
    bus.ready().await;
    let sent = Caller::new()
        .event(&bus.url("/events"), "1", "t", "{}")
        .await;
    assert_eq!(sent.unwrap(), 202);
    let names: Vec<String> = rules
        .lines()
        .filter_map(|line| Some(line.trim_start().split_once(": { to:")?.0.to_owned()))
        .collect();
    assert_eq!(names.len(), 16);
    // Of each an attempt is told of.
    let mut seen = String::new();
    for name in names {
        let list = format!("/api/v1/tasks?rule={name}");
        until(&format!("{name} was tried"), async || {
            for state in ["", "&state=failed,expired,succeeded"] {
                let page = bus.api(&format!("{list}{state}")).await;
                let Some(id) = page["items"][0]["id"].as_str() else {
                    continue;
                };
                let task = bus.api(&format!("/api/v1/tasks/{id}")).await;
                let history = task["history"].as_array().unwrap();
                if history
                    .iter()
                    .any(|entry| entry["attempt"]["message"] != "")
                {
                    seen.push_str(&format!("{name}: {task}\n"));
                    return true;
                }
            }
            false
        })
        .await;
    }
    for path in [
        "dead",
        "targets",
        "subscriptions",
        "rules",
        "events/1/explain",
        "status",
    ] {
        seen.push_str(&format!("{}\n", bus.api(&format!("/api/v1/{path}")).await));
    }
    let called: Vec<String> = sink
        .received()
        .iter()
        .map(|one| format!("{one:?}"))
        .collect();
    for secret in ["bearer", "client", "path", "query"] {
        let is_sent = called.iter().any(|one| one.contains(secret));
        assert!(is_sent, "{secret} was sent");
    }
    // What a command says is told, but for them.
    assert!(seen.contains("cannot log in with … and …"), "{seen}");
    let log = bus.log();
    assert!(log.contains("\"level\":\"DEBUG\""), "{log}");
    for line in seen.lines().chain(log.lines()) {
        let found = TRACES.iter().find(|trace| line.contains(*trace));
        assert_eq!(found, None, "{line}");
    }
}
