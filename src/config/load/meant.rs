//! What somebody probably meant who wrote a connector in another way: in short, or one that there
//! is not.

use crate::config::yaml::{Node, Value};

/// The setting that a value alone stands for.
const IN_SHORT: [(&str, &str); 6] = [
    ("http", "url"),
    ("directory", "path"),
    ("webhook", "path"),
    ("nats", "url"),
    ("rabbitmq", "url"),
    ("object-storage", "bucket"),
];

/// Systems that users bring along, with the way to reach them from here. The first that fits
/// counts.
const ELSEWHERE: [(&[&str], Option<&str>, Option<&str>); 8] = [
    (
        &[
            "lambda",
            "awslambda",
            "function",
            "functions",
            "cloudrun",
            "knative",
            "fc",
        ],
        None,
        Some("call its function URL with `http`"),
    ),
    (
        &[
            "slack",
            "teams",
            "msteams",
            "discord",
            "mattermost",
            "pagerduty",
            "opsgenie",
            "telegram",
        ],
        Some("it calls a `webhook`"),
        Some("call its incoming webhook with `http`, and make its body with a `transform`"),
    ),
    (
        &["sqs"],
        Some("`object-storage` reads notifications from SQS; other queues have no connector yet"),
        Some("there is no connector for it yet"),
    ),
    (
        &["eventbridge", "sns"],
        Some("let it call a `webhook`"),
        Some("there is no connector for it yet"),
    ),
    (
        &["gcs", "azureblob", "blob", "bucket", "ceph", "oss"],
        Some("use `object-storage` with its S3 endpoint"),
        Some("use `object-storage` with its S3 endpoint"),
    ),
    (
        &[
            "kafka",
            "redpanda",
            "redis",
            "mqtt",
            "pulsar",
            "pubsub",
            "postgres",
            "postgresql",
            "mysql",
            "email",
            "smtp",
        ],
        Some(
            "there is no connector for it yet; what calls by HTTP comes in through a `webhook` or the ingress",
        ),
        Some("there is no connector for it yet; an `exec` can call its own client"),
    ),
    (
        &[
            "cloudevents",
            "cloudevent",
            "sink",
            "rest",
            "url",
            "https",
            "webhook",
        ],
        Some("the HTTP ingress takes them always"),
        Some("call it with `http`"),
    ),
    (
        &["command", "shell", "script", "process", "bash", "sh"],
        None,
        Some("run it with `exec: { command: [./it.sh] }`"),
    ),
];

/// Help for a value that stands in the place of a connector's settings: how it is written out.
pub(super) fn in_short(kind: &str, node: &Node) -> Option<String> {
    let quoted = |text: &str| {
        if text.contains([':', '#', ' ', '{', '}', '[', ']', ',', '*', '&']) {
            format!("\"{text}\"")
        } else {
            text.to_owned()
        }
    };
    match (kind, &node.value) {
        ("exec", Value::Text(text, _)) => {
            let words: Vec<String> = text.split_whitespace().map(quoted).collect();
            Some(format!(
                "write `exec: {{ command: [{}] }}`",
                words.join(", ")
            ))
        }
        ("exec", Value::List(items)) => {
            let words: Vec<String> = items
                .iter()
                .filter_map(|item| item.text().map(quoted))
                .collect();
            Some(format!(
                "write `exec: {{ command: [{}] }}`",
                words.join(", ")
            ))
        }
        ("timer", Value::Text(text, _)) => {
            let is_period = text
                .bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_digit())
                && !text.contains(' ');
            Some(if is_period {
                format!("write `timer: {{ every: {text} }}`")
            } else {
                format!("write `timer: {{ cron: \"{text}\" }}`")
            })
        }
        (_, Value::Text(text, _)) => {
            let (_, key) = IN_SHORT.iter().find(|(short, _)| *short == kind)?;
            Some(format!("write `{kind}: {{ {key}: {} }}`", quoted(text)))
        }
        _ => None,
    }
}

/// How a setting of delivery is written that stands beside the connector.
pub(super) fn of_delivery(key: &str, node: &Node) -> Option<String> {
    let value = match &node.value {
        Value::Text(text, _) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "…".to_owned(),
    };
    Some(
        match key.to_lowercase().replace(['-', '_', ' '], "").as_str() {
            "retry" | "retries" | "maxretries" | "attempts" | "maxattempts" => {
                format!("retry: {{ attempts: {value} }}")
            }
            "backoff" => "retry: { backoff: { initial: 1s, max: 5m } }".to_owned(),
            "timeout" => format!("timeout: {value}"),
            "rate" | "ratelimit" => format!("rate: {value}"),
            "concurrency" | "maxconcurrency" | "parallelism" => {
                format!("concurrency: {{ max: {value} }}")
            }
            "maxage" | "ttl" => format!("max_age: {value}"),
            "orderby" => format!("order_by: {value}"),
            _ => return None,
        },
    )
}

/// How an outside system is reached that has no connector of that name.
pub(super) fn elsewhere(kind: &str, is_source: bool) -> Option<&'static str> {
    let folded = kind.to_lowercase().replace(['-', '_', ' '], "");
    let (_, source, target) = ELSEWHERE
        .iter()
        .find(|(names, _, _)| names.contains(&folded.as_str()))?;
    if is_source { *source } else { *target }
}
