//! What somebody probably meant who wrote a connector that there is not.

use crate::config::yaml::{Node, Value};

/// Systems that users bring along, with the way to reach them from here. The first that fits
/// counts.
const ELSEWHERE: [(&[&str], Option<&str>, Option<&str>); 7] = [
    (
        &["function", "functions", "cloudrun", "knative"],
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
        &["eventbridge", "sns"],
        Some("let it call a `webhook`, or send to a queue that `sqs` reads"),
        None,
    ),
    (
        &["gcs", "azureblob", "blob", "bucket", "ceph", "oss"],
        Some("use `object-storage` with its S3 endpoint"),
        Some("use `object-storage` with its S3 endpoint"),
    ),
    (
        &["pulsar", "pubsub", "mysql"],
        Some(
            "there is no connector for it yet; what calls by HTTP comes in through a `webhook` or \
             the ingress",
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
