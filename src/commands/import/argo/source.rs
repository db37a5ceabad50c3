//! Argo EventSources: those of kinds that have a source here.
//!
//! Their events get the `source` and `subject` that Argo gives them, by which Sensors know them.

use serde_json::{Map, Value, json};

use super::{hooks, other, text};
use crate::commands::import::draft::{Draft, literal};
use crate::commands::import::template;

/// Takes in an EventSource: a source for each of its events.
pub(in crate::commands::import) fn take(source: &Value, draft: &mut Draft) {
    let name = source
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or("source");
    for (kind, events) in source
        .get("spec")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if ["template", "service", "replicas", "eventBusName"].contains(&kind.as_str()) {
            continue;
        }
        for (event, settings) in events.as_object().into_iter().flatten() {
            let of = format!("EventSource {name}, {kind} {event}");
            let mut data = None;
            let made = match kind.as_str() {
                "webhook" => hooks::plain(settings, (name, event), &of, draft),
                "calendar" => calendar(settings),
                "nats" => nats(settings, &of, draft),
                "minio" => minio(settings, (name, event), &of, draft),
                "amqp" => amqp(settings, (name, event), &of, draft),
                _ => match hooks::provider(kind, settings, (name, event), &of, draft) {
                    Some((body, own)) => {
                        data = own;
                        Ok(body)
                    }
                    None => Err(elsewhere(kind)),
                },
            };
            match made {
                Ok(_) if settings.get("filter").is_some() && kind != "minio" => {
                    draft.left_out(&of, "its `filter` has no counterpart at a source");
                }
                Ok(mut body) => {
                    let mut mapping = json!({ "source": literal(name), "subject": literal(event) });
                    if let (Some(mapping), "minio") = (mapping.as_object_mut(), kind.as_str()) {
                        // As Argo wraps it: Sensors look for `notification.0.s3.object.key`.
                        mapping.insert("data".to_owned(), json!({ "notification": ["<$.body>"] }));
                    }
                    if let (Some(mapping), Some(data)) = (mapping.as_object_mut(), data) {
                        mapping.insert("data".to_owned(), data);
                    }
                    body.insert("event".to_owned(), mapping);
                    draft.kept_source(&format!("{name}-{event}"), body.into());
                }
                Err(why) => draft.left_out(&of, &why),
            }
        }
    }
}

/// Why a kind is left out, with what can be written in its place.
fn elsewhere(kind: &str) -> String {
    match kind {
        "file" => "a source `directory: { path: … }` tells of all of a folder's files; give its \
                   rules a `match` on `type` and `subject`"
            .to_owned(),
        "generic" => "what it asks over gRPC can send CloudEvents to the ingress".to_owned(),
        "sqs" => "write a source `sqs: { queue: …, region: … }` in its place".to_owned(),
        "pubsub" => {
            "there is no source that pulls; a push subscription calls a `webhook` with `signature: \
             { google-pubsub: … }`"
                .to_owned()
        }
        "azureEventsHub" | "azureServiceBus" | "azureQueueStorage" => {
            format!(
                "there is no source for {kind}; Event Grid calls a `webhook` with `signature: {{ \
                 azure-event-grid: … }}`"
            )
        }
        "resource" => "there is no source for what happens to Kubernetes resources; `signature: { \
                       kubernetes-audit: … }` takes audit events"
            .to_owned(),
        _ => format!(
            "there is no source for {kind}; whatever sends CloudEvents can send them to the ingress"
        ),
    }
}

/// Some of what happens in a bucket: which is kept for the rules, since a source here tells of all.
fn minio(settings: &Value, (name, event): (&str, &str), of: &str, draft: &mut Draft) -> Made {
    let (bucket, endpoint) = (text(settings, "/bucket/name"), text(settings, "/endpoint"));
    if bucket.is_empty() || endpoint.is_empty() {
        return Err("it names no bucket and endpoint".to_owned());
    }
    let types = template::bucket_types(settings.get("events").unwrap_or(&Value::Null));
    if types.is_empty() {
        return Err("it does not say which events of the bucket it takes".to_owned());
    }
    let scheme = if is_true(settings, "/insecure") {
        "http"
    } else {
        "https"
    };
    let endpoint = if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("{scheme}://{endpoint}")
    };
    let credentials = json!({
        "access_key": { "env": "S3_ACCESS_KEY" },
        "secret_key": { "env": "S3_SECRET_KEY" },
    });
    let mut body = json!({ "endpoint": endpoint, "bucket": bucket, "credentials": credentials });
    for key in ["region", "filter/prefix", "filter/suffix"] {
        let value = text(settings, &format!("/{key}"));
        if let (Some(body), false) = (body.as_object_mut(), value.is_empty()) {
            body.insert(key.trim_start_matches("filter/").to_owned(), value.into());
        }
    }
    draft.note(
        of,
        "put its keys into S3_ACCESS_KEY and S3_SECRET_KEY. The bucket is listed every 5m; give \
         `notifications` to be told at once",
    );
    draft.narrow(name, event, types);
    Ok(one("object-storage", body))
}

/// A queue, and what binds it to an exchange.
fn amqp(settings: &Value, (name, event): (&str, &str), of: &str, draft: &mut Draft) -> Made {
    let declared = text(settings, "/queueDeclare/name");
    let queue = if declared.is_empty() {
        draft.note(
            of,
            "its queue has a name of the server's choice; here it is a lasting one of its own, \
             which fills while the bus is off",
        );
        format!("{name}-{event}")
    } else {
        declared.to_owned()
    };
    for (pointer, what) in AMQP_DIFFERENCES {
        if is_true(settings, pointer) {
            draft.note(of, what);
        }
    }
    let mut body = Map::from_iter([
        ("queue".to_owned(), queue.into()),
        ("declare".to_owned(), declaration(settings).into()),
    ]);
    let url = text(settings, "/url");
    if url.is_empty() || url.contains('@') {
        draft.note(of, "put its address, with user and password, into AMQP_URL");
        body.insert("url".to_owned(), json!({ "env": "AMQP_URL" }));
    } else {
        body.insert("url".to_owned(), url.into());
    }
    if settings.get("auth").is_some() {
        draft.note(
            of,
            "put its user and password into AMQP_USER and AMQP_PASSWORD",
        );
        body.insert("username".to_owned(), json!({ "env": "AMQP_USER" }));
        body.insert("password".to_owned(), json!({ "env": "AMQP_PASSWORD" }));
    }
    if settings.get("tls").is_some() {
        draft.note(of, "its `tls` has to be given to the source");
    }
    Ok(one("rabbitmq", body.into()))
}

/// Settings of an AMQP source that are otherwise here where they are true, and in which way.
const AMQP_DIFFERENCES: [(&str, &str); 4] = [
    (
        "/queueDeclare/exclusive",
        "its queue is `exclusive` to one connection: here it stays, and several may read it",
    ),
    (
        "/queueDeclare/autoDelete",
        "its queue goes with its last reader: here it stays, and fills while the bus is off",
    ),
    (
        "/consume/autoAck",
        "it acknowledges what it has not seen yet (`autoAck`): here a message is acknowledged once \
         it is stored",
    ),
    (
        "/exchangeDeclare/autoDelete",
        "its exchange goes with its last queue: here it is declared to stay",
    ),
];

fn is_true(settings: &Value, pointer: &str) -> bool {
    settings.pointer(pointer) == Some(&Value::Bool(true))
}

/// How a queue is declared.
fn declaration(settings: &Value) -> Map<String, Value> {
    let arguments = text(settings, "/queueDeclare/arguments");
    let arguments: Value = super::super::read::values(arguments, "arguments")
        .ok()
        .and_then(|values| values.into_iter().next())
        .unwrap_or_default();
    let kind = arguments
        .get("x-queue-type")
        .and_then(Value::as_str)
        .unwrap_or("classic");
    let mut declare = Map::from_iter([("type".to_owned(), Value::from(kind))]);
    if kind == "classic" && settings.pointer("/queueDeclare/durable") == Some(&Value::Bool(false)) {
        declare.insert("durable".to_owned(), false.into());
    }
    let others: Map<String, Value> = arguments
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "x-queue-type")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !others.is_empty() {
        declare.insert("arguments".to_owned(), others.into());
    }
    if let Some(binding) = binding(settings) {
        declare.insert("bindings".to_owned(), json!([binding]));
    }
    declare
}

/// What binds a queue to its exchange; none where that is the default one.
fn binding(settings: &Value) -> Option<Map<String, Value>> {
    let exchange = text(settings, "/exchangeName");
    if exchange.is_empty() {
        return None;
    }
    let mut binding = Map::from_iter([("exchange".to_owned(), Value::from(exchange))]);
    for (pointer, key) in [("/exchangeType", "type"), ("/routingKey", "routing_key")] {
        let value = text(settings, pointer);
        // The server has these itself, and they cannot be declared.
        let is_known = key == "type" && exchange.starts_with("amq.");
        if !value.is_empty() && !is_known {
            binding.insert(key.to_owned(), value.into());
        }
    }
    Some(binding)
}

type Made = Result<Map<String, Value>, String>;

fn one(kind: &str, body: Value) -> Map<String, Value> {
    Map::from_iter([(kind.to_owned(), body)])
}

fn calendar(settings: &Value) -> Made {
    let (interval, schedule) = (text(settings, "/interval"), text(settings, "/schedule"));
    let zone = text(settings, "/timezone");
    if settings.get("exclusionDates").is_some() {
        return Err("its exclusion dates have no counterpart".to_owned());
    }
    Ok(match (interval, schedule) {
        ("", "") => return Err("it has neither interval nor schedule".to_owned()),
        (every, "") => one("timer", json!({ "every": every })),
        (_, cron) if zone.is_empty() => one("timer", json!({ "cron": cron })),
        (_, cron) => one("timer", json!({ "cron": cron, "timezone": zone })),
    })
}

fn nats(settings: &Value, of: &str, draft: &mut Draft) -> Made {
    let url = text(settings, "/url");
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("nats://{url}")
    };
    let mut body = Map::from_iter([
        ("url".to_owned(), Value::from(url)),
        ("subject".to_owned(), text(settings, "/subject").into()),
    ]);
    if !text(settings, "/queue").is_empty() {
        body.insert("queue".to_owned(), text(settings, "/queue").into());
    }
    body.extend(other::auth(settings, of, draft).map(|auth| ("auth".to_owned(), auth)));
    if settings.get("tls").is_some() {
        draft.note(of, "its `tls` has to be given to the source");
    }
    Ok(one("nats", body.into()))
}
