//! Argo EventSources: those of kinds that have a source here.
//!
//! Their events get the `source` and `subject` that Argo gives them, by which Sensors know them.

use serde_json::{Map, Value, json};

use super::{other, text};
use crate::commands::import::draft::{Draft, literal};

/// Takes in an EventSource: a source for each of its events.
pub(in crate::commands::import) fn take(source: &Value, draft: &mut Draft) {
    let name = source.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("source");
    for (kind, events) in source.get("spec").and_then(Value::as_object).into_iter().flatten() {
        if ["template", "service", "replicas", "eventBusName"].contains(&kind.as_str()) {
            continue;
        }
        for (event, settings) in events.as_object().into_iter().flatten() {
            let of = format!("EventSource {name}, {kind} {event}");
            let made = match kind.as_str() {
                "webhook" => webhook(settings, &of, draft),
                "calendar" => calendar(settings),
                "nats" => nats(settings, &of, draft),
                // It tells of some events of a bucket, and a source here of all.
                "minio" => Err("give a source `object-storage` with this bucket, and its rules a `match` on `type`".to_owned()),
                _ => Err(format!(
                    "an event source of the kind {kind} has no counterpart; whatever sends CloudEvents can send them to the ingress"
                )),
            };
            match made {
                Ok(_) if settings.get("filter").is_some() => draft.left_out(&of, "its `filter` has no counterpart at a source"),
                Ok(mut body) => {
                    body.insert("event".to_owned(), json!({ "source": literal(name), "subject": literal(event) }));
                    draft.kept_source(&format!("{name}-{event}"), body.into());
                }
                Err(why) => draft.left_out(&of, &why),
            }
        }
    }
}

type Made = Result<Map<String, Value>, String>;

fn one(kind: &str, body: Value) -> Map<String, Value> {
    Map::from_iter([(kind.to_owned(), body)])
}

fn webhook(settings: &Value, of: &str, draft: &mut Draft) -> Made {
    let path = text(settings, "/endpoint");
    if !path.starts_with('/') {
        return Err("it has no endpoint".to_owned());
    }
    if settings.get("authSecret").is_some() {
        return Err("its sender shows a bearer token, for which a webhook has no counterpart".to_owned());
    }
    draft.note(of, "it listens on the bus's own port; give it a `signature` where its sender signs");
    Ok(one("webhook", json!({ "path": path, "signature": { "none": {} } })))
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
    let url = if url.contains("://") { url.to_owned() } else { format!("nats://{url}") };
    let mut body = Map::from_iter([("url".to_owned(), Value::from(url)), ("subject".to_owned(), text(settings, "/subject").into())]);
    if !text(settings, "/queue").is_empty() {
        body.insert("queue".to_owned(), text(settings, "/queue").into());
    }
    body.extend(other::auth(settings, of, draft).map(|auth| ("auth".to_owned(), auth)));
    if settings.get("tls").is_some() {
        draft.note(of, "its `tls` has to be given to the source");
    }
    Ok(one("nats", body.into()))
}
