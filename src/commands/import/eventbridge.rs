//! EventBridge rules and their targets, as `aws events` prints them.
//!
//! An event of EventBridge is taken to be a CloudEvent of which `type` is the `detail-type`,
//! `source`, `id` and `time` are what they are called, and `data` is the `detail`.

mod transformer;

use pointsman_connectors::timer::{ForeignSchedule, of_eventbridge};
use serde_json::{Map, Value, json};

use super::draft::{Draft, literal, literal_value};

/// A rule whose targets come later, if at all.
#[derive(Debug)]
pub(in crate::commands::import) struct Waiting {
    name: String,
    arn: String,
    /// What it takes: rules without `to`.
    rules: Vec<Map<String, Value>>,
    targets: Vec<Value>,
}

/// Whether a value is something that `aws events` prints.
pub(super) fn is_one(value: &Value) -> bool {
    let has = |key: &str| value.get(key).is_some();
    let is_list = |key: &str| value.get(key).is_some_and(Value::is_array);
    is_list("Rules")
        || is_list("Targets")
        || (has("Name") && (has("EventPattern") || has("ScheduleExpression")))
}

/// Takes in what one call printed; `stem` is the name of its file.
pub(super) fn take(value: &Value, stem: &str, draft: &mut Draft) {
    let listed = value
        .get("Rules")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    for rule in listed {
        take_rule(rule, draft);
    }
    if listed.len() > 1 {
        // Nobody knows to which of them targets that follow belong.
        draft.last_rule = None;
    }
    if value.get("Name").is_some() {
        take_rule(value, draft);
    }
    let Some(targets) = value.get("Targets").and_then(Value::as_array) else {
        return;
    };
    let named = draft.waiting.iter().position(|rule| {
        stem == rule.name
            || stem
                .strip_prefix(&rule.name)
                .is_some_and(|rest| rest.starts_with(['-', '.', '_']))
    });
    let before = draft
        .waiting
        .iter()
        .position(|rule| Some(&rule.name) == draft.last_rule.as_ref());
    match named
        .or(before)
        .and_then(|index| draft.waiting.get_mut(index))
    {
        Some(rule) => rule.targets.extend(targets.iter().cloned()),
        None => draft.left_out(
            &format!("{} targets", targets.len()),
            "nobody knows whose they are: give them behind the rule that `describe-rule` prints, \
             or in a file of the rule's name",
        ),
    }
}

/// Takes in a rule of which the targets are known.
pub(super) fn take_whole(rule: &Value, targets: Vec<Value>, draft: &mut Draft) {
    let before = draft.waiting.len();
    take_rule(rule, draft);
    if let Some(waiting) = draft.waiting.get_mut(before..).and_then(<[_]>::first_mut) {
        waiting.targets = targets;
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn take_rule(rule: &Value, draft: &mut Draft) {
    let name = text(rule, "Name").to_owned();
    let of = format!("rule {name}");
    draft.last_rule = Some(name.clone());
    if text(rule, "State") == "DISABLED" {
        return draft.left_out(&of, "it is disabled");
    }
    if !text(rule, "ManagedBy").is_empty() {
        return draft.left_out(
            &of,
            &format!("it is managed by {}", text(rule, "ManagedBy")),
        );
    }
    if !["", "default"].contains(&text(rule, "EventBusName")) {
        draft.note(
            &of,
            &format!(
                "it is of the bus {}; give it a `from` where only some sources are meant",
                text(rule, "EventBusName")
            ),
        );
    }
    let mut base = Map::new();
    if !text(rule, "Description").is_empty() {
        base.insert("description".to_owned(), text(rule, "Description").into());
    }
    let mut rules = Vec::new();
    let schedule = text(rule, "ScheduleExpression");
    if !schedule.is_empty() {
        match timer(schedule, text(rule, "ScheduleExpressionTimezone")) {
            Ok(timer) => {
                let source = draft.source(&name, json!({ "timer": timer }));
                let mut body = base.clone();
                body.insert("from".to_owned(), source.into());
                rules.push(body);
            }
            Err(why) => draft.left_out(&format!("{of}, its schedule {schedule}"), &why),
        }
    }
    let pattern = text(rule, "EventPattern");
    if !pattern.is_empty() {
        match serde_json::from_str(pattern)
            .map_err(|error| format!("its pattern is not JSON: {error}"))
            .and_then(|pattern| over_cloudevents(&pattern))
        {
            Ok(pattern) => {
                let mut body = base;
                body.insert("match".to_owned(), pattern);
                rules.push(body);
            }
            Err(why) => draft.left_out(&of, &why),
        }
    }
    if !rules.is_empty() {
        draft.waiting.push(Waiting {
            name,
            arn: text(rule, "Arn").to_owned(),
            rules,
            targets: Vec::new(),
        });
    }
}

/// A pattern over an EventBridge event as one over a CloudEvent.
fn over_cloudevents(pattern: &Value) -> Result<Value, String> {
    let Value::Object(fields) = pattern else {
        return Err("its pattern is no object".to_owned());
    };
    let mut moved = Map::new();
    for (key, value) in fields {
        let (head, rest) = key
            .split_once('.')
            .map_or((key.as_str(), None), |(head, rest)| (head, Some(rest)));
        let head = match head {
            "detail-type" => "type",
            "detail" => "data",
            "source" | "id" | "time" | "account" | "region" => head,
            "$or" => {
                let alternatives = value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(over_cloudevents)
                    .collect::<Result<Vec<_>, _>>()?;
                moved.insert(key.clone(), alternatives.into());
                continue;
            }
            _ => {
                return Err(format!(
                    "it looks at `{head}`, which a CloudEvent does not have"
                ));
            }
        };
        let key = rest.map_or_else(|| head.to_owned(), |rest| format!("{head}.{rest}"));
        moved.insert(key, value.clone());
    }
    Ok(moved.into())
}

/// Makes rules of what was taken in, each with its targets.
pub(super) fn finish(draft: &mut Draft) {
    for Waiting {
        name,
        arn,
        rules,
        targets,
    } in std::mem::take(&mut draft.waiting)
    {
        let of = format!("rule {name}");
        if rules.iter().any(|rule| {
            rule.get("match").is_some_and(|pattern| {
                pattern.get("account").is_some() || pattern.get("region").is_some()
            })
        }) {
            draft.note(
                &of,
                "it looks at `account` or `region`: events must bring them as extension attributes",
            );
        }
        let mut to = Vec::new();
        for target in &targets {
            to.extend(destination(target, &name, &arn, draft));
        }
        if targets.is_empty() {
            let what = format!(
                "what {name} called, of which nothing was given (`aws events \
                 list-targets-by-rule`),"
            );
            to.push(draft.unknown_target(&name, &of, &what, structured()).into());
        }
        if to.is_empty() {
            draft.left_out(&of, "none of its targets could be taken over");
            continue;
        }
        let shares = shares(to);
        for rule in rules {
            for to in &shares {
                let mut rule = rule.clone();
                let to = if let [Value::String(one)] = to.as_slice() {
                    one.clone().into()
                } else {
                    to.clone().into()
                };
                rule.insert("to".to_owned(), to);
                rule.insert("delivery".to_owned(), default_delivery().into());
                draft.rule(&name, rule);
            }
        }
    }
}

/// Destinations in as many lists as it takes for no target to stand twice in one: a rule here sends
/// to a target once, and one of EventBridge may call a function in several ways.
fn shares(to: Vec<Value>) -> Vec<Vec<Value>> {
    let name = |to: &Value| to.get("target").unwrap_or(to).clone();
    let mut shares: Vec<Vec<Value>> = Vec::new();
    for one in to {
        match shares
            .iter_mut()
            .find(|share| share.iter().all(|other| name(other) != name(&one)))
        {
            Some(share) => share.push(one),
            None => shares.push(vec![one]),
        }
    }
    shares
}

/// One of a rule's `to`; none where it cannot do what it did.
fn destination(target: &Value, rule: &str, rule_arn: &str, draft: &mut Draft) -> Option<Value> {
    let arn = text(target, "Arn");
    let of = format!("rule {rule}, target {}", text(target, "Id"));
    let transform = match transformer::transform(target, rule, rule_arn) {
        Ok((transform, notes)) => {
            for note in notes {
                draft.note(&of, &note);
            }
            transform
        }
        Err(why) => {
            draft.left_out(&of, &why);
            return None;
        }
    };
    let mut with = if transform.is_some() {
        Map::new()
    } else {
        structured()
    };
    if transform.is_none() {
        draft.note(
            &of,
            "it is given the whole event as a CloudEvent in JSON: `type` and `data` stand for \
             `detail-type` and `detail`",
        );
    }
    let headers = headers(target, &of, draft);
    with.extend(headers.map(|headers| ("headers".to_owned(), headers)));
    let name = draft.unknown_target(wanted_name(arn), &of, arn, with);
    let delivery = delivery(target);
    note_differences(target, &of, draft);
    if transform.is_none() && delivery.is_empty() {
        return Some(name.into());
    }
    let mut to = Map::from_iter([("target".to_owned(), Value::from(name))]);
    to.extend(transform.map(|transform| ("transform".to_owned(), transform)));
    if !delivery.is_empty() {
        to.insert("delivery".to_owned(), delivery.into());
    }
    Some(to.into())
}

/// The name that the target of an ARN gets where it is free.
fn wanted_name(arn: &str) -> &str {
    let last = arn
        .rsplit([':', '/'])
        .find(|part| !part.is_empty() && !part.starts_with('$'))
        .unwrap_or("target");
    // An API destination's ARN ends with an id that says nothing.
    match arn.split_once(":api-destination/") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(last),
        None => last,
    }
}

/// The keys of a target that are taken over, or told of.
const TARGET_KEYS: [&str; 10] = [
    "Id",
    "Arn",
    "RoleArn",
    "Input",
    "InputPath",
    "InputTransformer",
    "RetryPolicy",
    "DeadLetterConfig",
    "HttpParameters",
    "SqsParameters",
];

/// Tells of what a target has that is otherwise here, or has no counterpart.
fn note_differences(target: &Value, of: &str, draft: &mut Draft) {
    for (key, what) in [
        (
            "DeadLetterConfig",
            "its dead letters are kept by the bus: `pointsman dead list`",
        ),
        (
            "SqsParameters",
            "its message group has no counterpart; `delivery.order_by` puts deliveries in order",
        ),
    ] {
        if target.get(key).is_some() {
            draft.note(of, what);
        }
    }
    for key in target
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .filter(|key| !TARGET_KEYS.contains(&key.as_str()))
    {
        draft.note(of, &format!("`{key}` has no counterpart"));
    }
}

fn headers(target: &Value, of: &str, draft: &mut Draft) -> Option<Value> {
    let parameters = target.get("HttpParameters")?;
    for (key, what) in [
        ("PathParameterValues", "path parameters"),
        ("QueryStringParameters", "query parameters"),
    ] {
        if parameters
            .get(key)
            .is_some_and(|values| !matches!(values, Value::Array(list) if list.is_empty()))
        {
            draft.note(of, &format!("its {what} belong into the address here"));
        }
    }
    let headers = parameters.get("HeaderParameters")?.as_object()?;
    let headers: Map<String, Value> = headers
        .iter()
        .map(|(name, value)| {
            (
                name.clone(),
                literal(value.as_str().unwrap_or_default()).into(),
            )
        })
        .collect();
    (!headers.is_empty()).then(|| headers.into())
}

/// The mode in which a function is given the whole event, as EventBridge gives it its envelope.
fn structured() -> Map<String, Value> {
    Map::from_iter([("mode".to_owned(), Value::from("structured"))])
}

/// How often EventBridge tries again where a target has no retry policy of its own.
const RETRIES: u64 = 185;

/// What EventBridge promises where a target has no retry policy of its own: [`RETRIES`] within a
/// day. There the first try is not counted, and here it is.
fn default_delivery() -> Map<String, Value> {
    Map::from_iter([
        ("max_age".to_owned(), Value::from("24h")),
        ("retry".to_owned(), json!({ "attempts": RETRIES + 1 })),
    ])
}

/// The delivery of a target with a retry policy; what that leaves out is EventBridge's default.
fn delivery(target: &Value) -> Map<String, Value> {
    let policy = |key: &str| {
        target
            .pointer(&format!("/RetryPolicy/{key}"))
            .and_then(whole)
    };
    let (age, retries) = (
        policy("MaximumEventAgeInSeconds"),
        policy("MaximumRetryAttempts"),
    );
    if age.is_none() && retries.is_none() {
        return Map::new();
    }
    let mut delivery = default_delivery();
    if let Some(age) = age {
        delivery.insert("max_age".to_owned(), format!("{age}s").into());
    }
    if let Some(retries) = retries {
        delivery.insert(
            "retry".to_owned(),
            json!({ "attempts": retries.saturating_add(1) }),
        );
    }
    delivery
}

/// A whole number, also where a template has it as a text.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A constant as the data that goes out.
fn constant(text: &str) -> Value {
    serde_json::from_str(text).map_or_else(|_| literal(text).into(), |value| literal_value(&value))
}

/// The timer of a schedule expression, whose cron line may be of a time zone.
fn timer(expression: &str, timezone: &str) -> Result<Value, String> {
    Ok(match of_eventbridge(expression)? {
        ForeignSchedule::Every(period) => json!({ "every": period }),
        ForeignSchedule::Cron(line) if ["", "UTC"].contains(&timezone) => json!({ "cron": line }),
        ForeignSchedule::Cron(line) => json!({ "cron": line, "timezone": timezone }),
    })
}
