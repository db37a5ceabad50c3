//! Knative Triggers (`eventing.knative.dev`).

use std::time::Duration;

use pointsman_schemas::Interval;
use serde_json::{Map, Value, json};

use super::draft::{Draft, literal};

/// The longest backoff where none is set.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Takes in a Trigger.
pub(super) fn take(trigger: &Value, draft: &mut Draft) {
    let text = |pointer: &str| trigger.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or("trigger");
    let namespace = text("/metadata/namespace").unwrap_or("default");
    let of = format!("Trigger {name}");
    let mut rule = Map::new();
    let spec = trigger.get("spec").unwrap_or(&Value::Null);
    match filter(spec) {
        Ok(conditions) => rule.extend(conditions),
        Err(why) => return draft.left_out(&of, &why),
    }
    if let Some(broker) = text("/spec/broker").filter(|broker| *broker != "default") {
        draft.note(
            &of,
            &format!(
                "it is of the broker {broker}; give it a `from` where only some sources are meant"
            ),
        );
    }
    let mode = match text("/spec/delivery/format") {
        Some("json") => Map::from_iter([("mode".to_owned(), Value::from("structured"))]),
        _ => Map::new(),
    };
    let Some(target) = spec
        .get("subscriber")
        .and_then(|subscriber| addressed(subscriber, namespace, mode, &of, draft))
    else {
        return draft.left_out(
            &of,
            "its subscriber has neither an address nor a service that has one",
        );
    };
    rule.insert("to".to_owned(), target.into());
    for (key, value) in spec.as_object().into_iter().flatten() {
        if !["broker", "filter", "filters", "subscriber", "delivery"].contains(&key.as_str()) {
            draft.note(&of, &format!("`{key}`, {value}, has no counterpart"));
        }
    }
    for key in ["audience", "CACerts"] {
        if spec.pointer(&format!("/subscriber/{key}")).is_some() {
            draft.note(&of, &format!("`subscriber.{key}` has no counterpart"));
        }
    }
    if let Some(delivery) = spec.get("delivery") {
        let settings = settings(delivery, &of, draft);
        if !settings.is_empty() {
            rule.insert("delivery".to_owned(), settings.into());
        }
        if let Some(sink) = delivery.get("deadLetterSink") {
            match addressed(sink, namespace, Map::new(), &of, draft) {
                Some(target) => drop(rule.insert(
                    "on_failure".to_owned(),
                    json!({ "to": target, "send": "original" }),
                )),
                None => draft.note(
                    &of,
                    "its dead letter sink has no address; dead letters are kept by the bus: \
                     `pointsman dead list`",
                ),
            }
        }
    }
    draft.rule(name, rule);
}

/// `match` and `filters` of a Trigger's spec. Where it has `filters`, its `filter` is not looked
/// at.
fn filter(spec: &Value) -> Result<Map<String, Value>, String> {
    let mut conditions = Map::new();
    let filters = spec
        .get("filters")
        .and_then(Value::as_array)
        .filter(|filters| !filters.is_empty());
    if let Some(filters) = filters {
        let filters: Vec<Value> = filters.iter().map(dialect).collect::<Result<_, _>>()?;
        // A single `exact` says the same as a pattern, and is easier to read as one.
        match filters.as_slice() {
            [one] if one.get("exact").is_some() => drop(conditions.insert(
                "match".to_owned(),
                exact(one.get("exact").and_then(Value::as_object)),
            )),
            _ => drop(conditions.insert("filters".to_owned(), filters.into())),
        }
        return Ok(conditions);
    }
    let attributes = spec
        .pointer("/filter/attributes")
        .and_then(Value::as_object);
    if attributes.is_some_and(|attributes| !attributes.is_empty()) {
        conditions.insert("match".to_owned(), exact(attributes));
    }
    Ok(conditions)
}

/// A pattern of attributes that are these; an empty one stands for any.
fn exact(attributes: Option<&Map<String, Value>>) -> Value {
    let leaf = |value: &Value| {
        if value == "" {
            json!([{ "exists": true }])
        } else {
            json!([value])
        }
    };
    attributes
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), leaf(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// A filter of the CloudEvents Subscriptions dialects, of which Knative calls `sql` `cesql`.
fn dialect(filter: &Value) -> Result<Value, String> {
    let Some((key, value)) = filter.as_object().and_then(|filter| filter.iter().next()) else {
        return Err("it has a filter that is empty".to_owned());
    };
    let inner = match key.as_str() {
        "exact" | "prefix" | "suffix" => value.clone(),
        "all" | "any" => value
            .as_array()
            .into_iter()
            .flatten()
            .map(dialect)
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        "not" => dialect(value)?,
        "cesql" | "sql" => return Ok(json!({ "sql": value })),
        _ => {
            return Err(format!(
                "it has a filter of the dialect `{key}`, which is not known here"
            ));
        }
    };
    Ok(Map::from_iter([(key.clone(), inner)]).into())
}

/// The target of a subscriber or sink: `ref`, `uri`, or both.
fn addressed(
    destination: &Value,
    namespace: &str,
    mode: Map<String, Value>,
    of: &str,
    draft: &mut Draft,
) -> Option<String> {
    let text = |pointer: &str| destination.pointer(pointer).and_then(Value::as_str);
    let uri = text("/uri");
    let Some(name) = text("/ref/name") else {
        let uri = uri?;
        let address = uri.split("://").nth(1).unwrap_or(uri);
        let host = address
            .split(['/', ':', '?', '.'])
            .next()
            .unwrap_or(address);
        return Some(draft.target(host, http(uri, mode)));
    };
    let namespace = text("/ref/namespace").unwrap_or(namespace);
    let base = match text("/ref/kind").unwrap_or_default() {
        "Service" => format!("http://{name}.{namespace}.svc.cluster.local"),
        "Broker" => {
            format!("http://broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}")
        }
        "Channel" | "InMemoryChannel" => {
            format!("http://{name}-kn-channel.{namespace}.svc.cluster.local")
        }
        kind => return Some(draft.unknown_target(name, of, &format!("the {kind} {name}"), mode)),
    };
    let path = uri.unwrap_or_default();
    let url = if path.is_empty() {
        format!("{base}/")
    } else {
        format!("{base}/{}", path.trim_start_matches('/'))
    };
    Some(draft.target(name, http(&url, mode)))
}

fn http(url: &str, mode: Map<String, Value>) -> Value {
    let mut body = Map::from_iter([("url".to_owned(), Value::from(literal(url)))]);
    body.extend(mode);
    json!({ "http": body })
}

/// The keys of a delivery that are taken over, or told of.
const DELIVERY_KEYS: [&str; 6] = [
    "retry",
    "backoffPolicy",
    "backoffDelay",
    "timeout",
    "deadLetterSink",
    "format",
];

fn settings(delivery: &Value, of: &str, draft: &mut Draft) -> Map<String, Value> {
    let mut settings = Map::new();
    if let Some(timeout) = duration(delivery, "timeout", of, draft) {
        settings.insert("timeout".to_owned(), Interval(timeout).to_string().into());
    }
    let retry = retry(delivery, of, draft);
    if !retry.is_empty() {
        settings.insert("retry".to_owned(), retry.into());
    }
    if delivery.get("backoffPolicy").and_then(Value::as_str) == Some("linear") {
        draft.note(
            of,
            "its backoff is linear, and exponential with jitter here",
        );
    }
    for (key, value) in delivery.as_object().into_iter().flatten() {
        if !DELIVERY_KEYS.contains(&key.as_str()) {
            draft.note(
                of,
                &format!("`delivery.{key}`, {value}, has no counterpart"),
            );
        }
    }
    for key in ["audience", "CACerts"] {
        if delivery
            .pointer(&format!("/deadLetterSink/{key}"))
            .is_some()
        {
            draft.note(
                of,
                &format!("`delivery.deadLetterSink.{key}` has no counterpart"),
            );
        }
    }
    settings
}

/// How often a delivery is tried again, and how long after.
fn retry(delivery: &Value, of: &str, draft: &mut Draft) -> Map<String, Value> {
    let mut retry = Map::new();
    if let Some(retries) = delivery.get("retry").and_then(Value::as_u64) {
        retry.insert("attempts".to_owned(), (retries + 1).into());
    }
    if let Some(delay) = duration(delivery, "backoffDelay", of, draft) {
        let mut backoff = Map::from_iter([(
            "initial".to_owned(),
            Value::from(Interval(delay).to_string()),
        )]);
        // A first delay above the longest one would be a mistake.
        if delay > BACKOFF_MAX {
            backoff.insert("max".to_owned(), Interval(delay).to_string().into());
        }
        retry.insert("backoff".to_owned(), backoff.into());
    }
    retry
}

/// A duration of a delivery, in ISO 8601; one that is none is told of.
fn duration(delivery: &Value, key: &str, of: &str, draft: &mut Draft) -> Option<Duration> {
    let told = delivery.get(key).and_then(Value::as_str)?;
    let duration = told
        .parse::<jiff::Span>()
        .ok()
        .and_then(|span| span.total(jiff::Unit::Millisecond).ok());
    match duration {
        Some(millis) if millis >= 1.0 => Some(Duration::from_millis(millis as u64)),
        _ => {
            draft.note(
                of,
                &format!("`delivery.{key}` is {told}, which is no duration"),
            );
            None
        }
    }
}
