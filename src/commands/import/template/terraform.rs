//! Terraform's JSON syntax (`*.tf.json`).

use serde_json::{Map, Value, json};

use crate::commands::import::draft::Draft;
use crate::commands::import::eventbridge;

/// Whether a value is a configuration of Terraform, or what `terraform show -json` prints of a plan
/// or a state.
pub(in crate::commands::import) fn is_one(value: &Value) -> bool {
    if root_module(value).is_some() {
        return true;
    }
    let has = |resources: &Value| {
        resources
            .as_object()
            .is_some_and(|kinds| kinds.keys().any(|kind| kind.starts_with("aws_")))
    };
    value.get("resource").is_some_and(|resources| {
        has(resources)
            || resources
                .as_array()
                .is_some_and(|list| list.iter().any(has))
    })
}

/// Takes in a configuration.
pub(in crate::commands::import) fn take(configuration: &Value, draft: &mut Draft) {
    if let Some(module) = root_module(configuration) {
        return take(&as_configuration(module), draft);
    }
    let mut targets = labelled(configuration, "aws_cloudwatch_event_target");
    let rules = labelled(configuration, "aws_cloudwatch_event_rule");
    for (label, rule) in &rules {
        let belongs = |target: &Value| {
            let named = text(target, "rule", configuration);
            named == text(rule, "name", configuration)
                || named.split(['.', '}']).nth(1) == Some(label)
        };
        let own: Vec<Value> = targets
            .iter()
            .filter(|(_, target)| belongs(target))
            .map(|(id, target)| given(id, target, configuration))
            .collect();
        targets.retain(|(_, target)| !belongs(target));
        take_rule(label, rule, own, configuration, draft);
    }
    for (label, _) in targets {
        draft.left_out(&format!("target {label}"), "its rule is not in this file");
    }
    for (label, schedule) in labelled(configuration, "aws_scheduler_schedule") {
        let own = first(&schedule, "target")
            .map(|target| given(&label, target, configuration))
            .into_iter()
            .collect();
        take_rule(&label, &schedule, own, configuration, draft);
    }
}

/// What `terraform show -json` prints has what is planned, or is there, below this.
fn root_module(value: &Value) -> Option<&Value> {
    value.get("terraform_version")?;
    ["/planned_values/root_module", "/values/root_module"]
        .into_iter()
        .find_map(|pointer| value.pointer(pointer))
}

/// The resources of a module and the modules in it, as they would be configured.
fn as_configuration(module: &Value) -> Value {
    fn add(module: &Value, kinds: &mut Map<String, Value>) {
        for resource in module
            .get("resources")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |key: &str| {
                resource
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let (kind, address) = (text("type").to_owned(), text("address").to_owned());
            let label = if address.is_empty() {
                text("name").to_owned()
            } else {
                address.rsplit('.').next().unwrap_or_default().to_owned()
            };
            let labels = kinds.entry(kind).or_insert_with(|| json!({}));
            if let (Some(labels), Some(values)) = (labels.as_object_mut(), resource.get("values")) {
                // Two modules may have resources of one name, and a resource several instances.
                let free = (2..).map(|number| format!("{label}-{number}"));
                let label = std::iter::once(label.clone())
                    .chain(free)
                    .find(|label| !labels.contains_key(label))
                    .unwrap_or(label);
                labels.insert(label, values.clone());
            }
        }
        for child in module
            .get("child_modules")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            add(child, kinds);
        }
    }
    let mut kinds = Map::new();
    add(module, &mut kinds);
    json!({ "resource": kinds })
}

/// The resources of a kind, with their labels.
fn labelled(configuration: &Value, kind: &str) -> Vec<(String, Value)> {
    let blocks = |value: &Value| {
        if let Value::Array(list) = value {
            list.clone()
        } else {
            vec![value.clone()]
        }
    };
    let mut found = Vec::new();
    for resources in configuration
        .get("resource")
        .map(blocks)
        .unwrap_or_default()
    {
        for labels in resources.get(kind).map(blocks).unwrap_or_default() {
            for (label, body) in labels.as_object().into_iter().flatten() {
                found.extend(blocks(body).into_iter().map(|body| (label.clone(), body)));
            }
        }
    }
    found
}

/// A nested block, which may be a list of one.
fn first<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    let block = value.get(key)?;
    block
        .as_array()
        .map_or(Some(block), |list| list.first())
        .filter(|block| block.is_object())
}

/// A text, of which variables with a default are filled in.
fn text(value: &Value, key: &str, configuration: &Value) -> String {
    let text = value.get(key).and_then(Value::as_str).unwrap_or_default();
    let variable = text
        .strip_prefix("${var.")
        .and_then(|rest| rest.strip_suffix('}'));
    let default =
        variable.and_then(|name| configuration.pointer(&format!("/variable/{name}/default")));
    default.and_then(Value::as_str).unwrap_or(text).to_owned()
}

/// What `jsonencode` is given, where it is spelt as JSON.
fn decoded(text: &str) -> String {
    let inner = text
        .trim()
        .strip_prefix("${jsonencode(")
        .and_then(|rest| rest.strip_suffix(")}"));
    inner.map_or_else(|| text.to_owned(), |inner| inner.trim().to_owned())
}

fn take_rule(
    label: &str,
    rule: &Value,
    targets: Vec<Value>,
    configuration: &Value,
    draft: &mut Draft,
) {
    let mut taken = Map::new();
    let own = text(rule, "name", configuration);
    let name = if own.is_empty() || own.contains("${") {
        label.to_owned()
    } else {
        own
    };
    for (from, to) in [
        ("description", "Description"),
        ("state", "State"),
        ("event_bus_name", "EventBusName"),
        ("schedule_expression", "ScheduleExpression"),
        ("schedule_expression_timezone", "ScheduleExpressionTimezone"),
        ("event_pattern", "EventPattern"),
    ] {
        let told = text(rule, from, configuration);
        if !told.is_empty() {
            taken.insert(to.to_owned(), decoded(&told).into());
        }
    }
    if rule.get("is_enabled") == Some(&Value::Bool(false)) {
        taken.insert("State".to_owned(), "DISABLED".into());
    }
    let of = format!("rule {name}");
    let pattern = taken
        .get("EventPattern")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if pattern.contains("${") {
        if pattern.contains("anything-but") {
            return draft.left_out(
                &of,
                "its pattern excludes values that the file does not tell",
            );
        }
        draft.note(
            &of,
            "its pattern has references that the file does not tell: put their values in the place \
             of `${…}`",
        );
    }
    taken.insert("Name".to_owned(), name.into());
    eventbridge::take_whole(&Value::Object(taken), targets, draft);
}

/// A target as `aws events` prints it.
fn given(label: &str, target: &Value, configuration: &Value) -> Value {
    let mut given = Map::new();
    let id = text(target, "target_id", configuration);
    given.insert(
        "Id".to_owned(),
        if id.is_empty() { label.to_owned() } else { id }.into(),
    );
    let arn = text(target, "arn", configuration);
    // `${aws_lambda_function.notify.arn}` is called by the resource's label.
    let referred = arn
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .and_then(|path| path.split('.').rev().nth(1));
    given.insert("Arn".to_owned(), referred.unwrap_or(&arn).into());
    for (from, to) in [("input", "Input"), ("input_path", "InputPath")] {
        let told = text(target, from, configuration);
        if !told.is_empty() {
            given.insert(to.to_owned(), decoded(&told).into());
        }
    }
    if let Some(transformer) = first(target, "input_transformer") {
        let paths = transformer
            .get("input_paths")
            .cloned()
            .unwrap_or_else(|| json!({}));
        let template = decoded(&text(transformer, "input_template", configuration));
        given.insert(
            "InputTransformer".to_owned(),
            json!({ "InputPathsMap": paths, "InputTemplate": template }),
        );
    }
    if let Some(policy) = first(target, "retry_policy") {
        let mut told = Map::new();
        for (from, to) in [
            ("maximum_event_age_in_seconds", "MaximumEventAgeInSeconds"),
            ("maximum_retry_attempts", "MaximumRetryAttempts"),
        ] {
            told.extend(policy.get(from).map(|value| (to.to_owned(), value.clone())));
        }
        given.insert("RetryPolicy".to_owned(), told.into());
    }
    for (from, to) in [
        ("dead_letter_config", "DeadLetterConfig"),
        ("sqs_target", "SqsParameters"),
        ("ecs_target", "EcsParameters"),
    ] {
        given.extend(first(target, from).map(|value| (to.to_owned(), value.clone())));
    }
    given.into()
}
