//! What was probably meant.

use pointsman_schemas::suggest::{self, fold};

/// What people write who know other systems, with the word that this one uses.
const ALSO_KNOWN_AS: &[(&str, &str)] = &[
    ("s3", "object-storage"),
    ("minio", "object-storage"),
    ("artemis", "amqp"),
    ("servicebus", "amqp"),
    ("jetstream", "nats"),
    ("redpanda", "kafka"),
    ("valkey", "redis"),
    ("debezium", "postgres-cdc"),
    ("binlog", "mysql-cdc"),
    ("mosquitto", "mqtt"),
    ("ons", "rocketmq"),
    ("queue", "address"),
    ("clientid", "client_id"),
    ("retained", "retain"),
    ("consumer_group", "group"),
    ("maxlen", "max_length"),
    ("bootstrap_servers", "brokers"),
    ("group_id", "group"),
    ("smq", "mns"),
    ("fc", "function-compute"),
    ("invocation_type", "invocation"),
    ("aliyun", "mns"),
    ("access_key_id", "access_key"),
    ("access_key_secret", "secret_key"),
    ("message_group_id", "group"),
    ("deduplication_id", "deduplication"),
    ("topic_arn", "topic"),
    ("function_name", "function"),
    ("function_arn", "function"),
    ("invocation_type", "invocation"),
    ("event_bus", "bus"),
    ("event_bus_name", "bus"),
    ("queue_url", "queue"),
    ("queue_name", "queue"),
    ("visibility_timeout", "visibility"),
    ("cron", "timer"),
    ("schedule", "timer"),
    ("sinks", "targets"),
    ("destinations", "targets"),
    ("outputs", "targets"),
    ("inputs", "sources"),
    ("triggers", "rules"),
    ("subscriptions", "rules"),
    ("routes", "rules"),
    ("handlers", "targets"),
    ("functions", "targets"),
    ("services", "targets"),
    ("endpoints", "targets"),
    ("webhooks", "sources"),
    ("hooks", "sources"),
    ("timers", "sources"),
    ("pipelines", "pipes"),
    ("flows", "pipes"),
    ("bridges", "pipes"),
    ("namespace", "tenant"),
    ("dlq", "on_failure"),
    ("dead_letter", "on_failure"),
    ("deadletter", "on_failure"),
    ("dead_letter_queue", "on_failure"),
    ("on_error", "on_failure"),
    ("retries", "attempts"),
    ("max_attempts", "attempts"),
    ("max_retries", "attempts"),
    ("pattern", "match"),
    ("filter", "match"),
    ("condition", "where"),
    ("when", "where"),
    ("if", "where"),
    ("source", "from"),
    ("sources", "from"),
    ("target", "to"),
    ("targets", "to"),
    ("sink", "to"),
    ("sinks", "to"),
    ("action", "to"),
    ("actions", "to"),
    ("destination", "to"),
    ("destinations", "to"),
    ("then", "to"),
    ("call", "to"),
    ("name", "target"),
    ("token", "bearer"),
    ("key", "order_by"),
    ("ordering_key", "order_by"),
    ("delay_seconds", "delay"),
    ("deliver_after", "delay"),
    ("delay", "delivery"),
    ("ttl", "max_age"),
    ("rate_limit", "rate"),
    ("endpoint", "url"),
    ("uri", "url"),
    ("cmd", "command"),
    ("args", "command"),
    ("dir", "path"),
    ("folder", "path"),
    ("directory", "path"),
    ("interval", "every"),
    ("tz", "timezone"),
    ("port", "address"),
    ("bind", "address"),
    ("ttl", "retention"),
    ("expected", "expect"),
    ("cesql", "sql"),
    ("attributes", "exact"),
];

/// What people write one level too high, or in the words of other systems, with the key that it
/// stands under and how it is written there.
const DEEPER: &[(&str, &str, &str)] = &[
    (
        "retries max_retries attempts max_attempts",
        "retry",
        "retry: { attempts: … }",
    ),
    ("backoff", "retry", "retry: { backoff: … }"),
    (
        "ingress http https server serve service listener listeners port address addr bind host \
         endpoint url web gateway",
        "listen",
        "listen: 127.0.0.1:8080",
    ),
    (
        "tls ssl",
        "listen",
        "listen: { address: …, tls: { certificate: …, key: … } }",
    ),
    (
        "auth api_keys keys",
        "listen",
        "listen: { address: …, auth: [{ env: NAME }] }",
    ),
    (
        "max_body",
        "listen",
        "listen: { address: …, max_body: 1MiB }",
    ),
    (
        "api management metrics prometheus health healthz console dashboard ui status monitoring",
        "admin",
        "admin: 127.0.0.1:8081",
    ),
    (
        "storage journal database db persistence data data_dir state disk path",
        "store",
        "store: { path: ./pointsman-data }",
    ),
    ("retention ttl", "store", "store: { retention: 24h }"),
    ("max_size quota", "store", "store: { max_size: 20GiB }"),
];

/// What other files have at their top, and what there is for it here.
const AT_THE_TOP_ELSEWHERE: &[(&str, &str)] = &[
    (
        "apiversion kind metadata spec resources awstemplateformatversion",
        "this is a file of another system; `pointsman import` makes rule files of those of \
         Knative, Argo Events, EventBridge, CloudFormation and SAM",
    ),
    (
        "delivery retry timeout concurrency rate defaults on_failure dlq",
        "it stands in a target or in a rule; what several share can be an anchor under `x-…`",
    ),
    (
        "version name description schema $schema",
        "a rule file has none: remove it, or keep it as `x-…`",
    ),
    (
        "env environment vars variables secrets",
        "a value is taken from a variable where it is wanted: `{ env: NAME }`",
    ),
];

/// The candidate that a word was probably meant to be.
#[must_use]
pub fn meant<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let folded = fold(word);
    let same = candidates
        .iter()
        .find(|candidate| fold(candidate) == folded);
    let alias = ALSO_KNOWN_AS
        .iter()
        .filter(|(alias, _)| fold(alias) == folded)
        .find_map(|(_, name)| candidates.iter().find(|candidate| *candidate == name));
    let nearest = || suggest::nearest(word, candidates.iter().copied());
    same.or(alias).copied().or_else(nearest)
}

/// Help for a word that is none of the candidates: what it was probably meant to be, else what
/// there is.
#[must_use]
pub fn help<'c>(word: &str, candidates: &[&'c str]) -> (Option<&'c str>, String) {
    /// More than these are no help.
    const LISTED_MAX: usize = 16;
    let folded = fold(word);
    let is_one = |words: &str| words.split(' ').any(|also| fold(also) == folded);
    let deeper = DEEPER
        .iter()
        .find(|(also, key, _)| candidates.contains(key) && is_one(also));
    if let Some((_, key, written)) = deeper {
        return (Some(key), format!("did you mean `{written}`?"));
    }
    let elsewhere = AT_THE_TOP_ELSEWHERE
        .iter()
        .find(|(also, _)| candidates.contains(&"listen") && is_one(also));
    if let Some((_, help)) = elsewhere {
        return (None, (*help).to_owned());
    }
    // A transform has the attributes one level deeper.
    if candidates.contains(&"set")
        && [
            "type",
            "source",
            "subject",
            "id",
            "time",
            "datacontenttype",
            "dataschema",
        ]
        .contains(&word)
    {
        return (
            None,
            format!("attributes stand under `set`: write `set: {{ {word}: … }}`"),
        );
    }
    let meant = meant(word, candidates.iter().copied());
    let help = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if candidates.is_empty() => "nothing can stand here".to_owned(),
        None => {
            let mut listed: Vec<String> = candidates
                .iter()
                .take(LISTED_MAX)
                .map(|name| format!("`{name}`"))
                .collect();
            if candidates.len() > LISTED_MAX {
                listed.push("…".to_owned());
            }
            format!("there is {}", listed.join(", "))
        }
    };
    (meant, help)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_word_of_this_system_is_found() {
        let kinds = [
            "http",
            "webhook",
            "timer",
            "directory",
            "object-storage",
            "amqp",
            "nats",
        ];
        let rule = [
            "description",
            "from",
            "match",
            "where",
            "to",
            "on_success",
            "on_failure",
            "delivery",
            "order_by",
        ];
        let top = ["listen", "sources", "targets", "rules"];
        for (given, candidates, expect) in [
            ("s3", &kinds[..], Some("object-storage")),
            ("minio", &kinds, Some("object-storage")),
            ("artemis", &kinds, Some("amqp")),
            ("jetstream", &kinds, Some("nats")),
            ("cron", &kinds, Some("timer")),
            ("dlq", &rule, Some("on_failure")),
            ("retries", &["attempts", "backoff"], Some("attempts")),
            ("sinks", &top, Some("targets")),
            ("onFailure", &rule, Some("on_failure")),
            ("order-by", &rule, Some("order_by")),
            ("mach", &rule, Some("match")),
            ("descripton", &rule, Some("description")),
            ("targest", &top, Some("targets")),
            ("zebra", &rule, None),
            ("t", &rule, None),
        ] {
            assert_eq!(
                super::meant(given, candidates.iter().copied()),
                expect,
                "{given}"
            );
        }
    }
}
