//! What holds for every connector.

use super::*;

#[test]
fn every_kind_has_one_name_and_a_described_schema() {
    let mut names: Vec<_> = CONNECTORS
        .iter()
        .flat_map(|connector| connector.also_known_as.iter().chain([&connector.kind]))
        .collect();
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    for connector in CONNECTORS {
        let sides = [
            connector.source.built().map(|kind| kind.schema),
            connector.target.built().map(|kind| kind.schema),
        ];
        assert!(
            sides.iter().any(Option::is_some),
            "{} is neither source nor target",
            connector.kind
        );
        for schema in sides.into_iter().flatten() {
            let schema = schema(&mut SchemaGenerator::default());
            assert!(schema.get("description").is_some(), "{}", connector.kind);
            assert_eq!(
                schema.get("additionalProperties"),
                Some(&false.into()),
                "{}",
                connector.kind
            );
            for (name, property) in schema
                .get("properties")
                .and_then(|all| all.as_object())
                .into_iter()
                .flatten()
            {
                assert!(
                    property.get("description").is_some(),
                    "{}.{name}",
                    connector.kind
                );
            }
        }
    }
}

/// Settings of each kind of target with secrets wherever they may stand; what each template of
/// them was filled in with, and what is called then.
const CALLED: [(&str, &str, &str, &str); 39] = [
    (
        "discord",
        r#"{ "url": "https://h/hunter2", "text": "<$.data.hunter2>" }"#,
        "",
        "post to Discord",
    ),
    (
        "eventbridge",
        r#"{ "bus": "b", "source": "<$.data.hunter2>", "credentials": { "access_key": "hunter2", "secret_key": "hunter2" } }"#,
        "s",
        "put onto b",
    ),
    (
        "exec",
        r#"{ "command": ["/bin/f", "--token=hunter2", "<$.data.token>"], "env": { "TOKEN": "hunter2" } }"#,
        "hunter2",
        "/bin/f",
    ),
    (
        "exec",
        r#"{ "command": [{ "env": "PATH" }] }"#,
        "",
        "{env: PATH}",
    ),
    (
        "file",
        r#"{ "path": "/var/a.jsonl" }"#,
        "",
        "append to /var/a.jsonl",
    ),
    (
        "function-compute",
        r#"{ "function": "f", "region": "r", "credentials": { "access_key": "hunter2", "secret_key": "hunter2" } }"#,
        "",
        "invoke f",
    ),
    (
        "http",
        r#"{ "url": "http://h/a?key=hunter2#hunter2", "headers": { "X": "hunter2" }, "auth": { "bearer": "hunter2" } }"#,
        "",
        "POST http://h/a?…",
    ),
    (
        "http",
        r#"{ "url": "http://h/a", "auth": { "basic": { "username": "hunter2", "password": "hunter2" } }, "method": "PUT" }"#,
        "",
        "PUT http://h/a",
    ),
    (
        "http",
        r#"{ "url": { "env": "PATH" } }"#,
        "",
        "POST {env: PATH}",
    ),
    (
        "http",
        r#"{ "url": "http://<$.data.host>" }"#,
        "http://u:hunter2@h/a?hunter2#hunter2",
        "POST http://h/a?…",
    ),
    (
        "http",
        r#"{ "url": "http://<$.data.host>" }"#,
        "http:///hunter2@h/a#hunter2",
        "POST http://h/a",
    ),
    (
        "kafka",
        r#"{ "brokers": "h", "topic": "a", "auth": { "plain": { "username": "hunter2", "password": "hunter2" } } }"#,
        "",
        "write to a",
    ),
    (
        "kafka",
        r#"{ "brokers": "h", "topic": "<$.data.a>", "key": "<$.data.hunter2>" }"#,
        "c",
        "write to c",
    ),
    (
        "lambda",
        r#"{ "function": "f", "region": "r", "credentials": { "access_key": "hunter2", "secret_key": "hunter2" } }"#,
        "",
        "invoke f",
    ),
    (
        "mns",
        r#"{ "queue": "q", "endpoint": "http://h", "credentials": { "access_key": "hunter2", "secret_key": "hunter2" } }"#,
        "",
        "send to q",
    ),
    (
        "mns",
        r#"{ "topic": "t", "tag": "<$.data.hunter2>", "endpoint": "http://h" }"#,
        "c",
        "publish to t",
    ),
    (
        "amqp",
        r#"{ "url": "amqp://h", "address": "a", "username": "hunter2", "password": "hunter2" }"#,
        "",
        "send to a",
    ),
    (
        "amqp",
        r#"{ "url": "amqp://h", "address": "<$.data.a>", "group_id": "<$.data.hunter2>" }"#,
        "c",
        "send to c",
    ),
    (
        "mqtt",
        r#"{ "url": "mqtt://h", "topic": "t", "username": "hunter2", "password": "hunter2" }"#,
        "",
        "publish to t",
    ),
    (
        "mqtt",
        r#"{ "url": "mqtt://h", "topic": "<$.data.a>" }"#,
        "k",
        "publish to k",
    ),
    (
        "nats",
        r#"{ "url": "nats://h", "subject": "a.b", "auth": { "token": "hunter2" } }"#,
        "",
        "publish to a.b",
    ),
    (
        "nats",
        r#"{ "url": "nats://h", "subject": "<$.data.a>", "auth": { "token": "hunter2" } }"#,
        "c",
        "publish to c",
    ),
    (
        "object-storage",
        r#"{ "bucket": "b", "key": "k", "credentials": { "access_key": "hunter2", "secret_key": "hunter2" } }"#,
        "",
        "PUT b/k",
    ),
    (
        "object-storage",
        r#"{ "bucket": { "env": "PATH" }, "key": { "file": "/k" } }"#,
        "",
        "PUT {env: PATH}/{file: /k}",
    ),
    (
        "pagerduty",
        r#"{ "routing_key": "hunter2", "summary": "<$.data.hunter2>" }"#,
        "",
        "post to PagerDuty",
    ),
    (
        "postgres",
        r#"{ "url": "postgres://u:hunter2@h", "password": "hunter2", "table": "shop.orders", "columns": { "hunter2": "hunter2", "id": "<$.data.hunter2>" } }"#,
        "v",
        "insert into shop.orders",
    ),
    (
        "rabbitmq",
        r#"{ "url": "amqp://h", "username": "hunter2", "password": "hunter2", "routing_key": "q" }"#,
        "",
        "publish to queue q",
    ),
    (
        "rabbitmq",
        r#"{ "url": "amqp://h", "password": "hunter2", "exchange": "x", "routing_key": "<$.data.a>" }"#,
        "k",
        "publish to x k",
    ),
    (
        "redis",
        r#"{ "url": "redis://h", "stream": "s", "username": "hunter2", "password": "hunter2", "fields": { "a": "hunter2" } }"#,
        "",
        "add to s",
    ),
    (
        "redis",
        r#"{ "url": "redis://h", "stream": "<$.data.a>", "fields": { "a": "<$.data.hunter2>" } }"#,
        "k",
        "add to k",
    ),
    (
        "rocketmq",
        r#"{ "url": "rocketmq://h", "topic": "t", "keys": "hunter2", "credentials": { "access_key": "hunter2", "secret_key": "hunter2" } }"#,
        "",
        "send to t",
    ),
    (
        "rocketmq",
        r#"{ "url": "rocketmq://h", "topic": "<$.data.a>", "tag": "<$.data.hunter2>" }"#,
        "k",
        "send to k",
    ),
    (
        "slack",
        r#"{ "url": "https://h/hunter2", "body": { "text": "<$.data.hunter2>" } }"#,
        "",
        "post to Slack",
    ),
    (
        "smtp",
        r#"{ "server": "h", "auth": { "username": "hunter2", "password": "hunter2" }, "from": "a@b", "to": ["c@d", "hunter2@d"], "subject": "hunter2", "body": "hunter2" }"#,
        "",
        "mail to c@d",
    ),
    (
        "smtp",
        r#"{ "server": "h", "from": "a@b", "to": "<$.data.to>", "subject": "s", "body": "<$.data.hunter2>" }"#,
        "c@d",
        "mail to c@d",
    ),
    (
        "sns",
        r#"{ "topic": "arn:aws:sns:r:1:t", "subject": "<$.data.hunter2>", "credentials": { "access_key": "hunter2", "secret_key": "hunter2" } }"#,
        "s",
        "publish to arn:aws:sns:r:1:t",
    ),
    (
        "sqs",
        r#"{ "queue": "q.fifo", "region": "r", "group": "<$.data.hunter2>", "credentials": { "access_key": "hunter2", "secret_key": "hunter2" } }"#,
        "g",
        "send to q.fifo",
    ),
    ("stdout", "{}", "", "stdout"),
    (
        "teams",
        r#"{ "url": "https://h/hunter2", "title": "<$.data.hunter2>" }"#,
        "",
        "post to Microsoft Teams",
    ),
];

#[test]
fn what_is_called_is_told_without_secrets() {
    for connector in CONNECTORS {
        let Some(kind) = connector.target.built() else {
            continue;
        };
        let of_kind = CALLED.iter().filter(|(name, ..)| *name == connector.kind);
        let mut count = 0;
        for (_, settings, text, expect) in of_kind {
            count += 1;
            let mut from = serde_json::Deserializer::from_str(settings);
            let from = &mut <dyn erased_serde::Deserializer<'_>>::erase(&mut from);
            let target = (kind.parse)(from).unwrap_or_else(|error| panic!("{settings}: {error}"));
            let told = match target.called() {
                Called::Always(told) => told.to_string(),
                Called::Filled(of) => {
                    let texts = vec![(*text).to_owned(); target.templates().len()];
                    of(&texts)
                }
            };
            assert_eq!(&told, expect, "{settings}");
        }
        assert!(count > 0, "no target of {} is looked at", connector.kind);
    }
}
