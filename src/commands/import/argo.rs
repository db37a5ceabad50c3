//! Argo Sensors (`argoproj.io`).
//!
//! Argo makes CloudEvents of which `source` is the event source's name, `subject` the event's and
//! `data` what came; so does what is imported expect it. What a source of Argo wraps in `body` is
//! the data itself here.

mod filters;
mod hooks;
mod other;
mod source;

use serde_json::{Map, Value, json};

pub(super) use self::source::take as take_source;
use super::draft::{Draft, literal};
use super::file::variable;

/// Takes in a Sensor: a rule for each trigger and each dependency that sets it off.
pub(super) fn take(sensor: &Value, draft: &mut Draft) {
    let name = sensor
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or("sensor");
    let list = |key: &str| {
        sensor
            .pointer(&format!("/spec/{key}"))
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let (dependencies, triggers) = (list("dependencies"), list("triggers"));
    if triggers.is_empty() {
        draft.left_out(&format!("Sensor {name}"), "it has no triggers");
    }
    for trigger in &triggers {
        take_trigger(name, trigger, &dependencies, draft);
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn take_trigger(sensor: &str, trigger: &Value, dependencies: &[Value], draft: &mut Draft) {
    let template = trigger.get("template").unwrap_or(&Value::Null);
    let name = if text(template, "/name").is_empty() {
        sensor
    } else {
        text(template, "/name")
    };
    let of = format!("Sensor {sensor}, trigger {name}");
    let wanted = match alternatives(text(template, "/conditions"), dependencies) {
        Ok(wanted) => wanted,
        Err(why) => return draft.left_out(&of, &why),
    };
    for dependency in &wanted {
        let rule = match rule(trigger, template, dependency, &of, draft) {
            Ok(rule) => rule,
            Err(why) => {
                let of = format!("{of}, dependency {}", text(dependency, "/name"));
                draft.left_out(&of, &why);
                continue;
            }
        };
        draft.rule(
            &if wanted.len() == 1 {
                name.to_owned()
            } else {
                format!("{name}-{}", text(dependency, "/name"))
            },
            rule,
        );
    }
}

/// The dependencies of which any sets a trigger off.
fn alternatives<'d>(conditions: &str, dependencies: &'d [Value]) -> Result<Vec<&'d Value>, String> {
    if conditions.is_empty() {
        return match dependencies {
            [one] => Ok(vec![one]),
            [] => Err("it depends on nothing".to_owned()),
            _ => Err(
                "it waits for several events together, and a rule sees one event at a time"
                    .to_owned(),
            ),
        };
    }
    if conditions.contains("&&") {
        return Err(
            "it waits for several events together, and a rule sees one event at a time".to_owned(),
        );
    }
    let named = |name: &str| {
        dependencies
            .iter()
            .find(|dependency| text(dependency, "/name") == name)
    };
    let names = conditions
        .split("||")
        .map(|name| name.trim_matches([' ', '(', ')', '\n']));
    names
        .map(|name| {
            named(name).ok_or_else(|| format!("its condition names {name}, which is no dependency"))
        })
        .collect()
}

fn rule(
    trigger: &Value,
    template: &Value,
    dependency: &Value,
    of: &str,
    draft: &mut Draft,
) -> Result<Map<String, Value>, String> {
    if dependency.get("transform").is_some() {
        return Err(
            "the transform of a dependency changes what its filters see, which has no counterpart"
                .to_owned(),
        );
    }
    let mut pattern = Map::new();
    for (attribute, key) in [("source", "/eventSourceName"), ("subject", "/eventName")] {
        if !text(dependency, key).is_empty() {
            pattern.insert(attribute.to_owned(), json!([text(dependency, key)]));
        }
    }
    let mut rule = Map::from_iter([("match".to_owned(), pattern.into())]);
    let mut unwrapped = false;
    if let Some(condition) = filters::condition(dependency, &mut unwrapped)? {
        rule.insert("where".to_owned(), condition.into());
    }
    let (target, transform) = target(
        template,
        text(dependency, "/name"),
        &mut unwrapped,
        of,
        draft,
    )?;
    if unwrapped {
        draft.note(
            of,
            "its paths began with `body`, in which Argo wraps what comes; here that is the data \
             itself",
        );
    }
    if let Some(transform) = transform {
        rule.insert("transform".to_owned(), transform);
    }
    let delivery = delivery(trigger, template, of, draft);
    if !delivery.is_empty() {
        rule.insert("delivery".to_owned(), delivery.into());
    }
    let rate = rate(trigger);
    let name = match target {
        Named::New(name, mut body) => {
            if let (Some(rate), Some(body)) = (rate, body.as_object_mut()) {
                body.insert("delivery".to_owned(), json!({ "rate": rate }));
            }
            draft.target(&name, body)
        }
        Named::Unknown(name, what) => {
            if let Some(rate) = rate {
                draft.note(
                    of,
                    &format!(
                        "it was held to {rate}: give its target `delivery: {{ rate: {rate} }}`"
                    ),
                );
            }
            draft.unknown_target(&name, of, &what, Map::new())
        }
    };
    rule.insert("to".to_owned(), name.into());
    for key in ["policy", "parameters", "atLeastOnce", "dlqTrigger"] {
        if trigger.get(key).is_some() {
            draft.note(of, &format!("`{key}` has no counterpart"));
        }
    }
    Ok(rule)
}

/// The rate that a trigger is held to.
fn rate(trigger: &Value) -> Option<String> {
    let limit = trigger
        .pointer("/rateLimit/requestsPerUnit")
        .and_then(Value::as_u64)
        .filter(|limit| *limit > 0)?;
    let unit = match text(trigger, "/rateLimit/unit") {
        "Minute" => "m",
        "Hour" => "h",
        _ => "s",
    };
    Some(format!("{limit}/{unit}"))
}

/// A target, and the transform of what goes to it.
type Target = (Named, Option<Value>);

/// A target of a draft.
enum Named {
    /// One that is to be made: the name it should have, and what it is.
    New(String, Value),
    /// An `http` target with an address nobody knows: its name, and what it was.
    Unknown(String, String),
}

fn target(
    template: &Value,
    dependency: &str,
    unwrapped: &mut bool,
    of: &str,
    draft: &mut Draft,
) -> Result<Target, String> {
    if template.get("log").is_some() {
        return Ok((Named::New("log".to_owned(), json!({ "stdout": {} })), None));
    }
    let Some(http) = template.get("http") else {
        return other::target(template, dependency, unwrapped, of, draft);
    };
    if http.get("dynamicHeaders").is_some() || http.get("parameters").is_some() {
        draft.note(
            of,
            "its address or headers are made of the event: templates in `http.url` and \
             `http.headers` do that here",
        );
        let (name, transform) = other::unknown(
            "http",
            template.pointer("/name"),
            http,
            dependency,
            unwrapped,
            of,
            draft,
        );
        return Ok((name, transform));
    }
    let body = request(http, of, draft);
    let payload = http
        .get("payload")
        .and_then(Value::as_array)
        .filter(|payload| !payload.is_empty());
    let data = payload
        .map(|payload| data(payload, dependency, unwrapped))
        .transpose()?;
    let address = text(http, "/url").split("://").nth(1).unwrap_or_default();
    let host = address.split(['/', ':', '?', '.']).next();
    let host = host.unwrap_or_default().to_owned();
    Ok((
        Named::New(host, json!({ "http": body })),
        data.map(|data| json!({ "data": data })),
    ))
}

/// The settings of an `http` target, as far as they are not made of the event.
fn request(http: &Value, of: &str, draft: &mut Draft) -> Map<String, Value> {
    let mut body = Map::from_iter([("url".to_owned(), Value::from(literal(text(http, "/url"))))]);
    if !["", "POST"].contains(&text(http, "/method")) {
        body.insert("method".to_owned(), text(http, "/method").into());
    }
    body.insert("mode".to_owned(), "data".into());
    let headers = headers(http, of, draft);
    if !headers.is_empty() {
        body.insert("headers".to_owned(), headers.into());
    }
    if http.get("basicAuth").is_some() {
        draft.note(
            of,
            "put its user and password into HTTP_USER and HTTP_PASSWORD",
        );
        let basic = json!({
            "username": { "env": "HTTP_USER" },
            "password": { "env": "HTTP_PASSWORD" },
        });
        body.insert("auth".to_owned(), json!({ "basic": basic }));
    }
    if http.get("tls").is_some() {
        draft.note(
            of,
            "its `tls` has no counterpart: certificates are those that the system trusts",
        );
    }
    body
}

/// The headers of a request, of which the secret ones come from variables.
fn headers(http: &Value, of: &str, draft: &mut Draft) -> Map<String, Value> {
    let mut headers = Map::new();
    for (name, value) in http
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        headers.insert(
            name.clone(),
            literal(value.as_str().unwrap_or_default()).into(),
        );
    }
    for header in http
        .get("secureHeaders")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let variable = variable(text(header, "/name"));
        draft.note(
            of,
            &format!(
                "put the value of the header {} into {variable}",
                text(header, "/name")
            ),
        );
        headers.insert(text(header, "/name").to_owned(), json!({ "env": variable }));
    }
    headers
}

/// The data that a payload makes of an event of this dependency; of another one only constants are
/// there.
fn data(payload: &[Value], dependency: &str, unwrapped: &mut bool) -> Result<Value, String> {
    let mut data = Value::Object(Map::new());
    for entry in payload {
        let (source, place) = (
            entry.get("src").unwrap_or(&Value::Null),
            text(entry, "/dest"),
        );
        if source.get("contextTemplate").is_some() {
            return Err(format!("its payload makes {place} with a Go template"));
        }
        if let Some(template) = source.get("dataTemplate").and_then(Value::as_str) {
            let made = go_template(template, unwrapped)
                .map_err(|why| format!("its payload makes {place} with a Go template: {why}"))?;
            put(&mut data, place, made.into())?;
            continue;
        }
        let default = source
            .get("value")
            .map_or_else(String::new, |value| format!(" ?? {value}"));
        let foreign = !["", dependency].contains(&text(source, "/dependencyName"));
        if foreign && default.is_empty() {
            continue;
        }
        let query = match (text(source, "/dataKey"), text(source, "/contextKey")) {
            (key, context)
                if !default.is_empty() && (foreign || (key.is_empty() && context.is_empty())) =>
            {
                let value = source
                    .get("value")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                put(&mut data, place, literal(value).into())?;
                continue;
            }
            ("", "") => "$.data".to_owned(),
            (key, "") => filters::query(key, unwrapped)?,
            (_, key) => filters::attribute(key)?,
        };
        put(&mut data, place, format!("<{query}{default}>").into())?;
    }
    Ok(data)
}

/// A Go template in which there are plain paths alone, as a template of ours.
fn go_template(template: &str, unwrapped: &mut bool) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (action, behind) = behind.split_once("}}").ok_or("its braces are not closed")?;
        let path = action.trim_matches(['-', ' ']);
        let plain = path.strip_prefix(".Input.").filter(|path| {
            path.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
        });
        let query = filters::query(
            plain.ok_or_else(|| format!("`{path}` has no counterpart"))?,
            unwrapped,
        )?;
        out.push_str(&format!("{}<{query}>", literal(before)));
        rest = behind;
    }
    out.push_str(&literal(rest));
    Ok(out)
}

/// Puts a value where a dotted path leads.
fn put(data: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let mut at = data;
    for step in path.split('.') {
        if step.is_empty()
            || step.contains(['#', '|', '@', '*'])
            || step.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(format!(
                "its payload goes to {path}, which has no counterpart"
            ));
        }
        let Value::Object(entries) = at else {
            return Err(format!("its payload goes to {path} twice"));
        };
        at = entries
            .entry(step)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    *at = value;
    Ok(())
}

fn delivery(trigger: &Value, template: &Value, of: &str, draft: &mut Draft) -> Map<String, Value> {
    let mut delivery = Map::new();
    if let Some(timeout) = template
        .pointer("/http/timeout")
        .and_then(Value::as_u64)
        .filter(|timeout| *timeout > 0)
    {
        delivery.insert("timeout".to_owned(), format!("{timeout}s").into());
    }
    let Some(strategy) = trigger.get("retryStrategy") else {
        return delivery;
    };
    let mut retry = Map::new();
    if let Some(steps) = strategy
        .get("steps")
        .and_then(Value::as_u64)
        .filter(|steps| *steps > 0)
    {
        retry.insert("attempts".to_owned(), steps.into());
    }
    let initial = match strategy.get("duration") {
        Some(Value::String(duration)) => Some(duration.clone()),
        // A bare number counts nanoseconds.
        Some(Value::Number(number)) => number
            .as_u64()
            .map(|nanos| format!("{}ms", (nanos / 1_000_000).max(1))),
        _ => None,
    };
    if let Some(initial) = initial {
        retry.insert("backoff".to_owned(), json!({ "initial": initial }));
    }
    if !retry.is_empty() {
        delivery.insert("retry".to_owned(), retry.into());
    }
    if strategy.get("factor").is_some() || strategy.get("jitter").is_some() {
        draft.note(
            of,
            "its backoff's factor and jitter have no counterpart: it doubles, with full jitter",
        );
    }
    delivery
}
