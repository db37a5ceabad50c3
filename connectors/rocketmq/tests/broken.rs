//! What is wrong, in the words of the settings, TLS and keys, and outages.

use pointsman_schemas::Class;
use pointsman_test_brokers::{Fault, Proxy, free_port};
use tower::ServiceExt;

use super::stub::Stub;
use super::*;
use crate::suite::{Log, attempt, context, hangs, parse, read_on};

async fn told(settings: &Value) -> String {
    source(settings).probe().await.unwrap_err().0.to_string()
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    let topic = Topic::new("NORMAL").await;
    let server = server().await;
    let nobody = format!("rocketmq://127.0.0.1:{}", free_port());
    let names = format!("rocketmq://{}", server.names_address());
    let secure = format!("rocketmqs://{}", server.address());
    let cannot = "cannot connect to RocketMQ at 127.0.0.1:";
    for (more, expect) in [
        (json!({ "url": nobody }), format!("url: {cannot}")),
        (json!({ "url": names }), "url: ".to_owned()),
        (json!({ "url": secure }), format!("tls: {cannot}")),
        (
            json!({ "credentials": null }),
            "credentials: RocketMQ refuses: ".to_owned(),
        ),
        (
            json!({ "credentials": with(keys(), json!({ "secret_key": "hunter3" })) }),
            "credentials: RocketMQ refuses: ".to_owned(),
        ),
        (
            json!({ "topic": "nowhere" }),
            "topic: RocketMQ refuses: ".to_owned(),
        ),
    ] {
        let told = told(&topic.settings(more.clone())).await;
        assert!(told.starts_with(&expect), "{more}: {told}");
        assert!(!told.contains("hunter"), "{told}");
        assert!(open(&topic.settings(more)).await.is_err());
    }
    let found = source(&topic.settings(json!({}))).probe().await.unwrap();
    let (group, name) = (&topic.group, &topic.name);
    let expect = format!("lets the group {group} read {name}");
    assert!(found.ends_with(&expect), "{found}");
    for (more, expect) in [
        (json!({ "topic": "nowhere" }), "topic: RocketMQ refuses: "),
        (
            json!({ "message_group": "a" }),
            "message_group: the topic topic-",
        ),
        (json!({ "delay": "1s" }), "delay: the topic topic-"),
    ] {
        let target = parse("rocketmq", &topic.target(more.clone())).unwrap();
        let told = target.probe().await.unwrap_err().0.to_string();
        assert!(told.starts_with(expect), "{more}: {told}");
    }
    let target = parse("rocketmq", &topic.target(json!({}))).unwrap();
    target.probe().await.unwrap();
}

#[tokio::test]
async fn tls_and_keys_from_files_that_are_read_again() {
    let topic = Topic::new("NORMAL").await;
    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().join("secret");
    std::fs::write(&path, "old").unwrap();
    let settings = topic.target(json!({
        "url": format!("rocketmqs://localhost:{}", server().await.port()),
        "credentials": with(keys(), json!({ "secret_key": { "file": path } })),
        "tls": { "ca": { "file": ca() } },
    }));
    let target = parse("rocketmq", &settings).unwrap();
    let service = target.open(context()).await.unwrap();
    let send = async || service.clone().oneshot(attempt(&["1"], 0)).await.unwrap();
    let refused = send().await;
    assert_eq!(refused[0].class, Class::Refused, "{refused:?}");
    std::fs::write(&path, ROCKETMQ_KEYS.1).unwrap();
    let until = Instant::now() + LONG;
    loop {
        let sent = send().await;
        if sent[0].class == Class::Delivered {
            break;
        }
        assert!(Instant::now() < until, "{sent:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_proxy_that_hangs_is_noticed_quietly_and_read_on() {
    let (log, _in_force) = Log::capture();
    let topic = Topic::new("NORMAL").await;
    let proxy = Proxy::start(server().await.port());
    let url = format!("rocketmq://127.0.0.1:{}", proxy.port());
    let settings = topic.settings(json!({ "url": url }));
    let (mut source, link) = open(&settings).await.unwrap();
    topic.send("a").await;
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    hangs(&proxy, &link, &log, Duration::ZERO).await;
    topic.send("b").await;
    let again = async || open(&settings).await.unwrap().0;
    read_on(source, again, "b").await;
}

#[tokio::test]
async fn a_message_in_hand_is_kept_from_others_and_comes_again_where_its_acknowledgement_was_lost()
{
    let topic = Topic::new("NORMAL").await;
    let proxy = Proxy::start(server().await.port());
    let url = format!("rocketmq://127.0.0.1:{}", proxy.port());
    let settings = topic.settings(json!({ "url": url, "visibility": "10s" }));
    let (mut source, _) = open(&settings).await.unwrap();
    let id = topic.send("a").await;
    let held = take(&mut *source, 1).await;
    // Its calls would take what comes again.
    drop(source);
    let other = topic.read_by(&topic.group);
    let until = Instant::now() + Duration::from_secs(13);
    while Instant::now() < until {
        assert_eq!(other.receive(Duration::from_secs(2)).await.unwrap(), []);
    }
    proxy.set(Fault::Refuse);
    settle(held, &Verdict::Stored).await;
    let until = Instant::now() + LONG;
    let again = loop {
        let mut received = other.receive(Duration::from_secs(5)).await.unwrap();
        match received.pop() {
            Some(message) => break message,
            None => assert!(Instant::now() < until, "it does not come again"),
        }
    };
    let system = again.system_properties.unwrap();
    assert_eq!((system.message_id, system.delivery_attempt), (id, Some(2)));
}

#[tokio::test]
async fn what_a_proxy_says_decides_what_follows() {
    for (code, class) in [
        (20_000, Class::Delivered),
        (42_900, Class::Throttled),
        (40_402, Class::Unavailable),
        (40_300, Class::Refused),
        (41_301, Class::Rejected),
        (50_001, Class::Failed),
    ] {
        let stub = Stub::start(code).await;
        let settings = json!({
            "url": stub.url,
            "topic": "orders",
            "namespace": "shop",
            "credentials": with(keys(), json!({ "security_token": "token" })),
        });
        let target = parse("rocketmq", &settings).unwrap();
        let service = target.open(context()).await.unwrap();
        let sent = service.oneshot(attempt(&["1", "2"], 0)).await.unwrap();
        let classes: Vec<_> = sent.iter().map(|outcome| outcome.class).collect();
        assert_eq!(classes, [class; 2], "{code}: {sent:?}");
        assert_eq!(
            (stub.called("Telemetry"), stub.called("SendMessage")),
            (1, 2)
        );
        for (name, expect) in [
            ("x-mq-protocol", "v2"),
            ("x-mq-language", "RUST"),
            ("x-mq-namespace", "shop"),
            ("x-mq-session-token", "token"),
        ] {
            assert_eq!(stub.header(name), expect, "{name}");
        }
        let signed = stub.header("authorization");
        let expect = "MQv2-HMAC-SHA1 Credential=app, SignedHeaders=x-mq-date-time, Signature=";
        assert!(signed.starts_with(expect), "{signed}");
        assert!(stub.header("grpc-timeout").ends_with('m'));
    }
}

#[tokio::test]
async fn commands_that_are_not_carried_out_are_answered_and_leaving_is_told() {
    let stub = Stub::start(20_000).await;
    let client = client(&stub.url, Role::Producer(Some(resource("orders"))));
    drop(client.session().await.unwrap());
    let until = Instant::now() + LONG;
    while stub.commands().len() < 2 {
        assert!(Instant::now() < until, "{:?}", stub.commands());
        sleep(Duration::from_millis(10)).await;
    }
    let commands = stub.commands();
    let [settings, answer] = &commands[..] else {
        panic!("{commands:?}")
    };
    let Some(proto::Command::Settings(settings)) = &settings.command else {
        panic!("{settings:?}")
    };
    assert_eq!(settings.client_type, Some(1));
    let trace = proto::Command::ThreadStackTrace(proto::ThreadStackTrace {
        nonce: "7".to_owned(),
    });
    assert_eq!(answer.command, Some(trace));
    assert_eq!(answer.status.as_ref().unwrap().code, 50_500);
    drop(client);
    while stub.called("NotifyClientTermination") == 0 {
        assert!(Instant::now() < until, "nobody hears that it goes");
        sleep(Duration::from_millis(10)).await;
    }
}
