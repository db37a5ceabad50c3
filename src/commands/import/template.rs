//! CloudFormation and SAM templates, and Terraform's JSON: what of them are EventBridge rules,
//! schedules and events of functions is brought into the shape in which `aws events` prints it.

mod queue;
mod resolve;
mod terraform;

use serde_json::{Map, Value, json};

use self::resolve::Resolver;
pub(super) use self::terraform::{is_one as is_terraform, take as take_terraform};
use super::draft::Draft;
use super::eventbridge;
use super::file::slug;

/// Whether a value is a CloudFormation template.
pub(super) fn is_one(value: &Value) -> bool {
    let resources = value.get("Resources").and_then(Value::as_object);
    resources.is_some_and(|resources| {
        resources
            .values()
            .any(|resource| resource.get("Type").is_some_and(Value::is_string))
    })
}

/// Takes in a template.
pub(super) fn take(template: &Value, draft: &mut Draft) {
    let resolver = Resolver::of_template(template);
    for (id, resource) in template
        .get("Resources")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let properties = resource.get("Properties").unwrap_or(&Value::Null);
        match resource
            .get("Type")
            .and_then(Value::as_str)
            .unwrap_or_default()
        {
            "AWS::Events::Rule" => {
                let targets = properties
                    .get("Targets")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                rule(id, properties, &targets, &resolver, draft);
            }
            "AWS::Scheduler::Schedule" => {
                let target = properties.get("Target").cloned().unwrap_or_default();
                rule(id, properties, &[target], &resolver, draft);
            }
            "AWS::Serverless::Function" | "AWS::Serverless::StateMachine" => {
                for (name, event) in properties
                    .get("Events")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                {
                    let is_queue = event.get("Type").is_some_and(|kind| kind == "SQS");
                    match is_queue {
                        true => queue::take(id, name, event, template, &resolver, draft),
                        false => take_event(id, name, event, &resolver, draft),
                    }
                }
            }
            _ => {}
        }
    }
}

/// The keys of a rule or schedule that go over as they are.
const RULE_KEYS: [&str; 6] = [
    "Name",
    "Description",
    "State",
    "EventBusName",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
];

/// A rule or schedule with its targets; `id` is its name where it has none.
fn rule(id: &str, properties: &Value, targets: &[Value], resolver: &Resolver, draft: &mut Draft) {
    let (mut rule, mut unresolved) = settings(id, properties, resolver, draft);
    let name = rule
        .get("Name")
        .and_then(Value::as_str)
        .unwrap_or(id)
        .to_owned();
    rule.insert("Name".to_owned(), name.clone().into());
    let of = format!("rule {name}");
    match pattern(properties, resolver) {
        Ok(Some((pattern, names))) => {
            rule.insert("EventPattern".to_owned(), pattern.into());
            unresolved.extend(names);
        }
        Ok(None) => {}
        Err(why) => return draft.left_out(&of, &why),
    }
    for key in ["StartDate", "EndDate"] {
        if properties.get(key).is_some() {
            draft.note(&of, &format!("`{key}` has no counterpart"));
        }
    }
    if properties
        .pointer("/FlexibleTimeWindow/Mode")
        .is_some_and(|mode| mode != "OFF")
    {
        draft.note(
            &of,
            "its flexible time window has no counterpart: it fires on time",
        );
    }
    unresolved.dedup();
    for name in unresolved {
        draft.note(
            &of,
            &format!(
                "{name} is not told by the template: put its value in the place of ${{{name}}}"
            ),
        );
    }
    let targets = targets
        .iter()
        .filter(|target| target.is_object())
        .map(|target| resolved_target(target, resolver))
        .collect();
    eventbridge::take_whole(&Value::Object(rule), targets, draft);
}

/// The settings that go over as they are, and the names that the template does not resolve in them.
fn settings(
    id: &str,
    properties: &Value,
    resolver: &Resolver,
    draft: &mut Draft,
) -> (Map<String, Value>, Vec<String>) {
    let (mut settings, mut unresolved) = (Map::new(), Vec::new());
    for key in RULE_KEYS {
        let Some(value) = properties.get(key).filter(|value| !value.is_null()) else {
            continue;
        };
        let mut names = Vec::new();
        let resolved = resolver.resolve(value, &mut names);
        let is_name = key == "Name" && !names.is_empty();
        if key == "State" && !names.is_empty() {
            let name = properties.get("Name").and_then(Value::as_str).unwrap_or(id);
            draft.note(
                &format!("rule {name}"),
                "whether it is enabled is not told by the template; here it is",
            );
        }
        if key.starts_with("Schedule") {
            unresolved.extend(names);
        }
        if !is_name {
            settings.insert(key.to_owned(), resolved);
        }
    }
    (settings, unresolved)
}

/// The pattern of a rule that has one, as a text, and the names that the template does not resolve
/// in it.
fn pattern(
    properties: &Value,
    resolver: &Resolver,
) -> Result<Option<(String, Vec<String>)>, String> {
    let Some(pattern) = properties
        .get("EventPattern")
        .filter(|pattern| !pattern.is_null())
    else {
        return Ok(None);
    };
    let mut names = Vec::new();
    let pattern = resolver.resolve(pattern, &mut names);
    let pattern = pattern
        .as_str()
        .map_or_else(|| pattern.to_string(), str::to_owned);
    if !names.is_empty() && pattern.contains("anything-but") {
        let names = names.join(", ");
        return Err(format!(
            "its pattern excludes values that the template does not tell: {names}"
        ));
    }
    Ok(Some((pattern, names)))
}

/// A target, of which a resource that is no more than referred to goes by its name.
fn resolved_target(target: &Value, resolver: &Resolver) -> Value {
    let mut target = resolver.resolve(target, &mut Vec::new());
    if let Some(Value::String(arn)) = target.get_mut("Arn")
        && let Some(name) = arn
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|name| !name.contains('$'))
    {
        *arn = name.to_owned();
    }
    if let Some(target) = target.as_object_mut() {
        target
            .entry("Id")
            .or_insert_with(|| "of the schedule".into());
    }
    target
}

/// An event of a SAM function or state machine.
fn take_event(function: &str, event: &str, value: &Value, resolver: &Resolver, draft: &mut Draft) {
    let properties = value
        .get("Properties")
        .cloned()
        .unwrap_or_else(|| json!({}));
    let mut target = Map::from_iter([
        ("Id".to_owned(), json!(function)),
        ("Arn".to_owned(), json!(function)),
    ]);
    for key in [
        "Input",
        "InputPath",
        "InputTransformer",
        "RetryPolicy",
        "DeadLetterConfig",
    ] {
        target.extend(
            properties
                .get(key)
                .map(|value| (key.to_owned(), value.clone())),
        );
    }
    let mut described = properties;
    let moves: &[(&str, &str)] = match value
        .get("Type")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "Schedule" => &[("Schedule", "ScheduleExpression")],
        "ScheduleV2" => &[],
        "EventBridgeRule" | "CloudWatchEvent" => &[("Pattern", "EventPattern")],
        "S3" => return bucket(function, event, &described, resolver, draft),
        kind => {
            let what = match kind {
                "Api" | "HttpApi" => "a call of an API is answered by the function itself; a \
                                      webhook takes what need not be"
                    .to_owned(),
                _ => format!("the event source {kind} has no counterpart"),
            };
            return draft.left_out(&format!("function {function}, event {event}"), &what);
        }
    };
    if let Some(properties) = described.as_object_mut() {
        for (from, to) in moves {
            if let Some(value) = properties.remove(*from) {
                properties.insert((*to).to_owned(), value);
            }
        }
        if properties.get("Enabled") == Some(&Value::Bool(false)) {
            properties.insert("State".to_owned(), "DISABLED".into());
        }
    }
    rule(
        &format!("{function}-{event}"),
        &described,
        &[target.into()],
        resolver,
        draft,
    );
}

/// The types of the events that a bucket is asked to tell of, as alternatives of a pattern.
pub(super) fn bucket_types(told: &Value) -> Vec<Value> {
    let told = if let Value::Array(told) = told {
        told.as_slice()
    } else {
        std::slice::from_ref(told)
    };
    let kinds = told
        .iter()
        .filter_map(|event| event.as_str()?.strip_prefix("s3:"));
    let pattern = |kind: &str| match kind.strip_suffix('*') {
        Some(prefix) => json!({ "prefix": format!("com.amazonaws.s3.{prefix}") }),
        None => json!(format!("com.amazonaws.s3.{kind}")),
    };
    kinds.map(pattern).collect()
}

/// An event of a bucket, told to a function.
fn bucket(function: &str, event: &str, properties: &Value, resolver: &Resolver, draft: &mut Draft) {
    let of = format!("function {function}, event {event}");
    let mut unresolved = Vec::new();
    let bucket = resolver.resolve(
        properties.get("Bucket").unwrap_or(&Value::Null),
        &mut unresolved,
    );
    let bucket = bucket.as_str().unwrap_or_default();
    let name = if unresolved.is_empty() {
        bucket.to_owned()
    } else {
        slug(&bucket.replace(['$', '{', '}'], ""))
    };
    if !unresolved.is_empty() {
        draft.note(
            &of,
            &format!(
                "the bucket's name is not told by the template: put it in the place of {name}"
            ),
        );
    }
    let mut settings = Map::from_iter([("bucket".to_owned(), Value::from(name.clone()))]);
    for rule in properties
        .pointer("/Filter/S3Key/Rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("Name").to_ascii_lowercase().as_str() {
            key @ ("prefix" | "suffix") => {
                drop(settings.insert(key.to_owned(), text("Value").into()))
            }
            _ => {
                return draft.left_out(
                    &of,
                    "it filters by something that is neither prefix nor suffix",
                );
            }
        }
    }
    let types = bucket_types(properties.get("Events").unwrap_or(&Value::Null));
    if types.is_empty() {
        return draft.left_out(&of, "it does not say which events of the bucket it takes");
    }
    draft.note(
        &of,
        "the bucket is listed every 5m; give `notifications` to be told at once. The function is \
         given a CloudEvent for each object, no `Records`",
    );
    let source = draft.source(
        &format!("{function}-{event}"),
        json!({ "object-storage": settings }),
    );
    let with = Map::from_iter([("mode".to_owned(), Value::from("structured"))]);
    let target = draft.unknown_target(function, &of, function, with);
    let rule = Map::from_iter([
        ("from".to_owned(), source.into()),
        ("match".to_owned(), json!({ "type": types })),
        ("to".to_owned(), target.into()),
    ]);
    draft.rule(&format!("{function}-{event}"), rule);
}
