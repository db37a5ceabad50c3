//! Queues of SQS that a SAM function takes its messages from.
//!
//! One that a bucket notifies is read by `object-storage`, which knows what is said there, and any
//! other by `sqs`.

use serde_json::{Map, Value, json};

use super::bucket_types;
use super::resolve::Resolver;
use crate::commands::import::draft::Draft;
use crate::commands::import::file::{slug, variable};

/// Takes in an event of the type `SQS`.
pub(super) fn take(
    function: &str,
    event: &str,
    value: &Value,
    template: &Value,
    resolver: &Resolver,
    draft: &mut Draft,
) {
    let of = format!("function {function}, event {event}");
    let properties = value.get("Properties").unwrap_or(&Value::Null);
    if properties.get("Enabled") == Some(&Value::Bool(false)) {
        return draft.left_out(&of, "it is disabled");
    }
    let queue = properties.get("Queue").unwrap_or(&Value::Null);
    let id = logical_id(queue);
    let resource = template
        .pointer(&format!("/Resources/{id}/Properties"))
        .unwrap_or(&Value::Null);
    let name = queue_name(queue, resource, resolver);
    if name.is_empty() {
        return draft.left_out(&of, "it names no queue");
    }
    let pattern = match pattern(properties, resolver) {
        Ok(pattern) => pattern,
        Err(why) => return draft.left_out(&of, &why),
    };
    let (source, mut rule) = match of_bucket(&id, template, resolver) {
        Some(_) if pattern.is_some() => {
            return draft.left_out(
                &of,
                "it filters what a bucket tells by the message that tells it, which has no \
                 counterpart",
            );
        }
        Some((settings, types)) => of_bucket_source(&name, settings, types, &of, draft),
        None => (of_sqs(&name, &of, draft), Map::new()),
    };
    rule.insert("from".to_owned(), source.into());
    rule.extend(pattern.map(|pattern| ("match".to_owned(), pattern)));
    draft.note(
        &of,
        "the function is given a CloudEvent for each message, whose body is the data, and no \
         `Records`",
    );
    for key in [
        "BatchSize",
        "MaximumBatchingWindowInSeconds",
        "FunctionResponseTypes",
        "ScalingConfig",
    ] {
        if properties.get(key).is_some() {
            draft.note(&of, &format!("`{key}` has no counterpart"));
        }
    }
    rule.extend(delivery(resource).map(|delivery| ("delivery".to_owned(), delivery)));
    let with = Map::from_iter([("mode".to_owned(), Value::from("structured"))]);
    let target = draft.unknown_target(function, &of, function, with);
    rule.insert("to".to_owned(), target.into());
    draft.rule(&format!("{function}-{event}"), rule);
}

/// The name of a queue, of which a template may tell no more than what refers to it.
fn queue_name(queue: &Value, resource: &Value, resolver: &Resolver) -> String {
    let arn = resolver.resolve(queue, &mut Vec::new());
    let name = resource
        .get("QueueName")
        .map(|name| resolver.resolve(name, &mut Vec::new()));
    let told = name
        .as_ref()
        .and_then(Value::as_str)
        .or_else(|| arn.as_str())
        .unwrap_or_default();
    told.rsplit([':', '/'])
        .next()
        .unwrap_or_default()
        .replace(['$', '{', '}'], "")
}

/// A source that reads the queue. Its name alone need not be the whole truth: a template may leave
/// it to AWS.
fn of_sqs(name: &str, of: &str, draft: &mut Draft) -> String {
    let variable = format!("{}_URL", variable(name));
    draft.note(of, &format!("put the queue's address into {variable}"));
    draft.source(name, json!({ "sqs": { "queue": { "env": variable } } }))
}

/// As many attempts as a message is handed over before it goes to the queue of dead letters.
fn delivery(resource: &Value) -> Option<Value> {
    let times = resource
        .pointer("/RedrivePolicy/maxReceiveCount")
        .and_then(Value::as_u64)
        .filter(|times| *times > 0)?;
    Some(json!({ "retry": { "attempts": times } }))
}

/// The resource that a value refers to: `!GetAtt Queue.Arn`, `!Ref Queue`, `!Sub "${Queue.Arn}"`.
fn logical_id(value: &Value) -> String {
    let text = match value {
        Value::Object(entries) => match entries.values().next() {
            Some(Value::Array(parts)) => parts.first().and_then(Value::as_str).unwrap_or_default(),
            Some(Value::String(text)) => text,
            _ => "",
        },
        _ => "",
    };
    text.trim_start_matches("${")
        .split(['.', '}'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The bucket that sends its notifications to a queue, as the settings of a source, and the types
/// of what it tells.
fn of_bucket(
    queue: &str,
    template: &Value,
    resolver: &Resolver,
) -> Option<(Map<String, Value>, Vec<Value>)> {
    let resources = template.get("Resources")?.as_object()?;
    resources
        .iter()
        .filter(|(_, resource)| {
            resource
                .get("Type")
                .is_some_and(|kind| kind == "AWS::S3::Bucket")
        })
        .find_map(|(id, bucket)| {
            let told = bucket
                .pointer("/Properties/NotificationConfiguration/QueueConfigurations")?
                .as_array()?;
            let told = told.iter().find(|told| {
                told.get("Queue")
                    .is_some_and(|to| !queue.is_empty() && logical_id(to) == queue)
            })?;
            let name = bucket
                .pointer("/Properties/BucketName")
                .map(|name| resolver.resolve(name, &mut Vec::new()));
            let name = name
                .as_ref()
                .and_then(Value::as_str)
                .filter(|name| !name.contains('$'))
                .map_or_else(|| slug(id), str::to_owned);
            let mut settings = Map::from_iter([("bucket".to_owned(), Value::from(name))]);
            for rule in told
                .pointer("/Filter/S3Key/Rules")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
                if let key @ ("prefix" | "suffix") = text("Name").to_ascii_lowercase().as_str() {
                    settings.insert(key.to_owned(), text("Value").into());
                }
            }
            Some((
                settings,
                bucket_types(told.get("Event").unwrap_or(&Value::Null)),
            ))
        })
}

/// The source of a bucket whose queue is read, and the rule that takes what it was asked to tell.
fn of_bucket_source(
    name: &str,
    mut settings: Map<String, Value>,
    types: Vec<Value>,
    of: &str,
    draft: &mut Draft,
) -> (String, Map<String, Value>) {
    let variable = format!("{}_URL", variable(name));
    draft.note(
        of,
        &format!(
            "it reads what a bucket tells: put the queue's address into {variable}, and see that \
             the bucket's name is right"
        ),
    );
    settings.insert(
        "notifications".to_owned(),
        json!({ "sqs": { "env": variable } }),
    );
    let source = draft.source(name, json!({ "object-storage": settings }));
    let pattern = if types.is_empty() {
        Map::new()
    } else {
        Map::from_iter([("match".to_owned(), json!({ "type": types }))])
    };
    (source, pattern)
}

/// The `match` of filters over messages; none where there are none.
fn pattern(properties: &Value, resolver: &Resolver) -> Result<Option<Value>, String> {
    let filters = properties
        .pointer("/FilterCriteria/Filters")
        .and_then(Value::as_array);
    let mut alternatives = Vec::new();
    for filter in filters.into_iter().flatten() {
        let mut unresolved = Vec::new();
        let text = resolver.resolve(
            filter.get("Pattern").unwrap_or(&Value::Null),
            &mut unresolved,
        );
        if !unresolved.is_empty() {
            return Err(format!(
                "it filters by values that the template does not tell: {}",
                unresolved.join(", ")
            ));
        }
        let pattern: Value = match &text {
            Value::String(text) => serde_json::from_str(text)
                .map_err(|error| format!("its filter is not JSON: {error}"))?,
            other => other.clone(),
        };
        match pattern
            .as_object()
            .and_then(|entries| Some((entries.len(), entries.get("body")?)))
        {
            Some((1, body)) if body.is_object() => alternatives.push(json!({ "data": body })),
            _ => {
                return Err(
                    "it filters by something else than fields of the messages' bodies, which has \
                     no counterpart"
                        .to_owned(),
                );
            }
        }
    }
    Ok(match alternatives.len() {
        0 => None,
        1 => alternatives.pop(),
        _ => Some(json!({ "$or": alternatives })),
    })
}
