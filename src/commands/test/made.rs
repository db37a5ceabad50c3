//! What a rule makes of a test's event for its targets, held against what is expected.

use std::sync::Arc;

use pointsman_rules::Document;
use pointsman_rules::transform::Transform;
use pointsman_schemas::{Event, Segment, Timestamp};
use serde_json::{Map, Value};

use super::{RuleDifferences, as_json};
use crate::commands::difference;
use crate::config::{Config, FollowUp, FollowUpContent, Rule, Target, Test};
use crate::dispatcher::follow::example_report;

/// What keeps the rule from making the expected event: nothing where it makes it for one of its
/// targets. A target that could not be called, since its address or another text of it finds
/// nothing in the event, would get a dead letter, so it fails the test; and so does one that could
/// not be told of a success or a failure.
pub(super) fn differences_of(
    rule: &Rule,
    test: &Test,
    expected: &Value,
    config: &Config,
) -> Result<Option<RuleDifferences>, String> {
    let given = Given {
        event: &test.event,
        now: test.now.unwrap_or_else(Timestamp::now),
    };
    let wanted = split(expected);
    if let Some(unmet) = unmet(rule, &wanted, given, config)? {
        return Ok(Some(unmet));
    }
    for (key, follow_up, expected) in [
        ("on_success", &rule.on_success, wanted.on_success),
        ("on_failure", &rule.on_failure, wanted.on_failure),
    ] {
        let found = match (follow_up, expected) {
            (Some(follow_up), _) => told(rule, key, follow_up, given, expected, config)?,
            (None, Some(_)) => return Err(format!("{} fires, and has no {key}", rule.name)),
            (None, None) => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What keeps the rule from making the expected part for the targets that are to get it.
fn unmet(
    rule: &Rule,
    wanted: &Expected<'_>,
    given: Given<'_>,
    config: &Config,
) -> Result<Option<RuleDifferences>, String> {
    let Expected { part, to, .. } = wanted;
    if let Some(unknown) = to.iter().find(|name| {
        !rule
            .to
            .iter()
            .any(|destination| destination.target.as_str() == **name)
    }) {
        return Err(format!(
            "{} fires, and does not send to {unknown}",
            rule.name
        ));
    }
    let destinations = rule
        .to
        .iter()
        .filter(|destination| to.is_empty() || to.contains(&destination.target.as_str()));
    let mut nearest = None::<RuleDifferences>;
    let (mut fits, mut seen) = (0, 0);
    for destination in destinations {
        let target = config.target(&rule.tenant, &destination.target);
        let made = made(target, destination.transform.as_ref(), given, part).map_err(
            |(failed, error)| match failed {
                Failed::Event => format!(
                    "{} fires, and makes no event for {}: {error}",
                    rule.name, destination.target
                ),
                Failed::Request => format!(
                    "{} fires, and {} cannot be called: {error}",
                    rule.name, destination.target
                ),
            },
        )?;
        let differences = difference::lacking(part, made.as_ref());
        seen += 1;
        fits += usize::from(differences.is_empty());
        if nearest.as_ref().is_none_or(|nearest| {
            difference::leaves(&differences) < difference::leaves(&nearest.differences)
        }) {
            nearest = Some(RuleDifferences {
                rule: rule.name.clone(),
                target: destination.target.clone(),
                differences,
            });
        }
    }
    // Each that is named is to get it; else any of them will do.
    let is_met = if to.is_empty() {
        fits > 0
    } else {
        fits == seen
    };
    Ok(nearest.filter(|_| !is_met))
}

/// The same of what is told of the end of the delivery to the rule's first target.
fn told(
    rule: &Rule,
    key: &str,
    follow_up: &FollowUp,
    given: Given<'_>,
    expected: Option<&Value>,
    config: &Config,
) -> Result<Option<RuleDifferences>, String> {
    let Some(first) = rule.to.first() else {
        return Ok(None);
    };
    let report = match follow_up.send {
        FollowUpContent::Original => None,
        FollowUpContent::Report => {
            let made = example_report(&rule.name, &first.target, given.event, key == "on_success");
            Some(made.map_err(|error| {
                format!(
                    "{} fires, and cannot report to {}: {error}",
                    rule.name, follow_up.target
                )
            })?)
        }
    };
    let target = config.target(&rule.tenant, &follow_up.target);
    let part = expected.unwrap_or(&Value::Null);
    let sent = Given {
        event: report.as_ref().unwrap_or(given.event),
        ..given
    };
    let made = match made(target, follow_up.transform.as_ref(), sent, part) {
        Ok(made) => made,
        // What the target will have answered is not known here, so nobody can say that nothing will
        // be found in it.
        Err((_, error)) if expected.is_none() && error.contains("$.data.response") => {
            return Ok(None);
        }
        Err((_, error)) => {
            return Err(format!(
                "{} fires, and {} cannot be told by {key}: {error}",
                rule.name, follow_up.target
            ));
        }
    };
    let mut differences = expected
        .map(|expected| difference::lacking(expected, made.as_ref()))
        .unwrap_or_default();
    for difference in &mut differences {
        difference.path = format!("{key}.{}", difference.path);
    }
    let found = RuleDifferences {
        rule: rule.name.clone(),
        target: follow_up.target.clone(),
        differences,
    };
    Ok((!found.differences.is_empty()).then_some(found))
}

/// What something is made of, and when.
#[derive(Clone, Copy)]
struct Given<'e> {
    event: &'e Event,
    now: Timestamp,
}

/// What could not be made.
enum Failed {
    Event,
    Request,
}

/// What goes out to a target, in the JSON format; where something is expected of it, with what the
/// target is asked under `request`.
fn made(
    target: Option<&Target>,
    transform: Option<&Arc<Transform>>,
    given: Given<'_>,
    expected: &Value,
) -> Result<Option<Value>, (Failed, String)> {
    let Given { event, now } = given;
    let made = transform.map_or_else(
        || Ok(event.clone()),
        |transform| transform.apply_at(event, now),
    );
    let made = made.map_err(|error| (Failed::Event, error.to_string()))?;
    let request = target
        .map_or_else(|| Ok(Value::Null), |target| request(target, &made, now))
        .map_err(|error| (Failed::Request, error))?;
    let mut json = as_json(&made);
    if let (Some(Value::Object(json)), true) = (&mut json, expected.get("request").is_some()) {
        json.insert("request".to_owned(), request);
    }
    Ok(json)
}

/// What a test expects of a rule.
struct Expected<'e> {
    /// A part of what goes out, with `request` where that is expected.
    part: Value,
    /// The targets that are to get it; any one where empty.
    to: Vec<&'e str>,
    /// A part of what is told of a success.
    on_success: Option<&'e Value>,
    /// A part of what is told of a failure.
    on_failure: Option<&'e Value>,
}

fn split(expected: &Value) -> Expected<'_> {
    let to = match expected.get("to") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(name)) => vec![name.as_str()],
        _ => Vec::new(),
    };
    let mut part = expected.clone();
    if let Some(part) = part.as_object_mut() {
        // No attribute of an event has an underscore in its name, so these stand for nothing else.
        part.retain(|key, _| !matches!(key.as_str(), "to" | "on_success" | "on_failure"));
    }
    Expected {
        part,
        to,
        on_success: expected.get("on_success"),
        on_failure: expected.get("on_failure"),
    }
}

/// The texts of a target that are filled in from the event, where they stand in its settings: `{
/// "url": "http://…", "headers": { "X-Id": "7" } }`.
fn request(target: &Target, made: &Event, now: Timestamp) -> Result<Value, String> {
    let document = Document::event(made).at(now);
    let mut request = Value::Object(Map::new());
    for (template, text) in target.settings.templates().iter().zip(&target.texts) {
        let mut filled = String::new();
        text.render(&document, &mut filled)
            .map_err(|error| error.to_string())?;
        put(&mut request, &template.path, filled);
    }
    Ok(request)
}

/// Puts a text to its path; an item of a list goes under its number.
fn put(at: &mut Value, path: &[Segment], text: String) {
    let Some((first, rest)) = path.split_first() else {
        *at = Value::String(text);
        return;
    };
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    let key = match first {
        Segment::Key(key) => key.clone(),
        Segment::Index(index) => index.to_string(),
    };
    if let Some(below) = at
        .as_object_mut()
        .map(|entries| entries.entry(key).or_insert(Value::Null))
    {
        put(below, rest, text);
    }
}
