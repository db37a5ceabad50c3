//! Addresses and other texts of targets that find nothing: each delivery would be a dead letter,
//! and nothing shows it before the first.
//!
//! What can be known is known of three things: of every event (`$.Data` is in none), of what a
//! rule's transform makes, and of the events of the files' own tests. All of it is reported as
//! warnings: a query that finds nothing is no mistake by itself.

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_rules::transform::{RawTransform, Transform};
use pointsman_rules::{Document as Seen, Found, Path, Shape, TextTemplate, shape};
use pointsman_schemas::{Event, Name, Placement, Problem, Segment, TemplateText, Timestamp};
use serde_json::Value;

use super::{Document, Loader, items};
use crate::config::mistake::Mistake;
use crate::config::raw::FollowUpContent;
use crate::config::reader::{Piece, read};
use crate::config::yaml::Entry;
use crate::config::{Config, Expectation, Rule, Target, Test};
use crate::dispatcher::follow::example_report;

/// Warns of the queries of a target's text that find nothing in any event.
pub(in crate::config) fn in_no_event(at: Piece<'_>, template: &TemplateText, text: &TextTemplate) {
    for (path, _) in text.queries() {
        if let Some(problem) = never(path) {
            at.report_problems([template
                .path
                .iter()
                .rev()
                .fold(problem, |problem, step| problem.at(step.clone()))]);
        }
    }
}

/// The same of an `order_by`.
pub(in crate::config) fn order_in_no_event(at: Piece<'_>, path: &Path) {
    at.report_problems(never(path));
}

/// The same of a transform, each at the text in which the query stands.
pub(super) fn transform_in_no_event(at: Piece<'_>, transform: &Transform) {
    for path in transform.queries() {
        let Some(problem) = never(path) else { continue };
        report_at_query(at, path, problem);
    }
}

/// Reports a problem of a template's query at the text in which it stands.
pub(super) fn report_at_query(at: Piece<'_>, path: &Path, problem: Problem) {
    let mut place = None;
    at.node.walk(&mut |entry, node| {
        let stands_here = |text: &str| text.contains("<$") && text.contains(path.as_str());
        if place.is_none() && node.text().is_some_and(stands_here) {
            place = Some((entry, node));
        }
    });
    let (entry, node) = place.unwrap_or((at.entry, at.node));
    at.mistakes
        .report(Mistake::of(problem, entry, node, at.text));
}

fn never(path: &Path) -> Option<Problem> {
    let why = Shape::default().lacks(path)?;
    Some(
        Problem::new(format!("`{path}` finds nothing in any event"))
            .help(why)
            .warn(),
    )
}

/// Where something goes: a target of a rule, or of its `on_success` or `on_failure`.
struct Way<'w> {
    /// Where the target is named.
    name: Piece<'w>,
    target: &'w Target,
    transform: Option<&'w Arc<Transform>>,
    /// Where the transform stands that is in force.
    written: Option<Piece<'w>>,
    /// What is known of what it is made of.
    given: Option<&'w Value>,
}

impl Loader<'_, '_> {
    /// Warns of all that is known to find nothing in what rules make.
    pub(super) fn addresses(&self, config: &Config) {
        if self
            .documents
            .iter()
            .any(|document| document.mistakes.any_error())
        {
            return;
        }
        let targets: HashMap<(&Name, &str), &Target> = config
            .targets
            .iter()
            .map(|target| ((&target.tenant, target.name.as_str()), target))
            .collect();
        let rules: HashMap<(&Name, &str), &Rule> = config
            .rules
            .iter()
            .map(|rule| ((&rule.tenant, rule.name.as_str()), rule))
            .collect();
        let mut tests = HashMap::<(&Name, &Name), Vec<&Test>>::new();
        for test in &config.tests {
            for (name, _) in test
                .expect
                .iter()
                .filter(|(_, expectation)| matches!(expectation, Expectation::Fires(_)))
            {
                tests.entry((&test.tenant, name)).or_default().push(test);
            }
        }
        let report = shape::of_report();
        for document in self.documents {
            for entry in document
                .section("rules")
                .iter()
                .chain(document.section("pipes"))
            {
                let Some(rule) = rules.get(&(&document.tenant, entry.key.as_str())) else {
                    continue;
                };
                let source = data_of_sources(rule, config);
                let tests = tests
                    .get(&(&rule.tenant, &rule.name))
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                for way in ways(document, entry, rule, &targets, source.as_ref()) {
                    let told = way.by_shape();
                    way.by_tests(tests, told, |test| Some(test.event.clone()));
                }
                for (key, way, content) in ends(document, entry, rule, &targets, &report) {
                    let first = rule.to.first();
                    let told = way.by_shape();
                    way.by_tests(tests, told, |test| match content {
                        FollowUpContent::Original => Some(test.event.clone()),
                        FollowUpContent::Report => example_report(
                            &rule.name,
                            &first?.target,
                            &test.event,
                            key == "on_success",
                        )
                        .ok(),
                    });
                }
                unordered(document.entity(entry), rule, tests);
            }
        }
    }
}

/// The data that events of a rule's sources have, where all of them are of one kind whose data is
/// known.
fn data_of_sources(rule: &Rule, config: &Config) -> Option<Value> {
    const KNOWN: [(&str, &[&str]); 2] = [
        (
            "timer",
            &[
                "timer",
                "scheduled",
                "scheduled_local",
                "timezone",
                "skipped",
            ],
        ),
        ("directory", &["key", "path", "size", "modified"]),
    ];
    let mut kind = None;
    for name in rule.from.as_ref()? {
        let source = config
            .sources
            .iter()
            .find(|source| source.tenant == rule.tenant && source.name == *name)?;
        if source
            .mapping
            .as_ref()
            .is_some_and(pointsman_rules::EventMapping::makes_data)
            || *kind.get_or_insert(source.kind) != source.kind
        {
            return None;
        }
    }
    let (_, keys) = KNOWN.iter().find(|(known, _)| Some(*known) == kind)?;
    Some(shape::object(keys))
}

fn ways<'w>(
    document: &'w Document<'_>,
    entry: &'w Entry,
    rule: &'w Rule,
    targets: &HashMap<(&Name, &str), &'w Target>,
    given: Option<&'w Value>,
) -> Vec<Way<'w>> {
    let piece = document.entity(entry);
    let named = piece
        .get("to")
        .map(|at| items(at))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|item| {
            let name = item.get("target").unwrap_or(item);
            let destination = rule
                .to
                .iter()
                .find(|destination| Some(destination.target.as_str()) == name.node.text())?;
            let target = *targets.get(&(&rule.tenant, destination.target.as_str()))?;
            let written = item.get("transform").or_else(|| piece.get("transform"));
            Some(Way {
                name,
                target,
                transform: destination.transform.as_ref(),
                written,
                given,
            })
        });
    named.filter(|way| way.is_filled_in()).collect()
}

fn ends<'w>(
    document: &'w Document<'_>,
    entry: &'w Entry,
    rule: &'w Rule,
    targets: &HashMap<(&Name, &str), &'w Target>,
    report: &'w Value,
) -> Vec<(&'static str, Way<'w>, FollowUpContent)> {
    let piece = document.entity(entry);
    let ends = [
        ("on_success", &rule.on_success),
        ("on_failure", &rule.on_failure),
    ]
    .into_iter()
    .filter_map(|(key, follow_up)| {
        let (at, follow_up) = (piece.get(key)?, follow_up.as_ref()?);
        let target = *targets.get(&(&rule.tenant, follow_up.target.as_str()))?;
        let given = (follow_up.send == FollowUpContent::Report).then_some(report);
        let name = at.get("to").unwrap_or(at);
        Some((
            key,
            Way {
                name,
                target,
                transform: follow_up.transform.as_ref(),
                written: at.get("transform"),
                given,
            },
            follow_up.send,
        ))
    });
    ends.filter(|(_, way, _)| way.is_filled_in()).collect()
}

impl Way<'_> {
    fn is_filled_in(&self) -> bool {
        self.target.texts.iter().any(|text| !text.is_constant())
    }

    /// Reports what cannot be found whatever comes. Returns the queries that were reported.
    fn by_shape(&self) -> Vec<String> {
        let mut told = Vec::new();
        let raw = self.written.and_then(read::<RawTransform>);
        let shape = self.given.map_or_else(Shape::default, Shape::of_data);
        let shape = raw.as_ref().map_or(shape, |raw| shape.transformed(raw));
        for (template, text) in self
            .target
            .settings
            .templates()
            .iter()
            .zip(&self.target.texts)
        {
            for (path, _) in text
                .queries()
                .filter(|(path, must)| *must && Shape::default().lacks(path).is_none())
            {
                if let Some(why) = shape.lacks(path) {
                    told.push(path.as_str().to_owned());
                    self.report(
                        template,
                        path.as_str(),
                        format!("finds nothing: {why}"),
                        raw.is_some(),
                    );
                }
            }
        }
        told
    }

    /// Reports what finds nothing in what is made of a test's event.
    fn by_tests(
        &self,
        tests: &[&Test],
        mut told: Vec<String>,
        sent: impl Fn(&Test) -> Option<Event>,
    ) {
        for test in tests {
            let Some(sent) = sent(test) else { continue };
            let now = test.now.unwrap_or_else(Timestamp::now);
            // What fails there says `test`.
            let Ok(made) = self.transform.map_or_else(
                || Ok(sent.clone()),
                |transform| transform.apply_at(&sent, now),
            ) else {
                continue;
            };
            let document = Seen::event(&made).at(now);
            for (template, text) in self
                .target
                .settings
                .templates()
                .iter()
                .zip(&self.target.texts)
            {
                for (path, _) in text.queries().filter(|(_, must)| *must) {
                    let unseen = path.as_str().starts_with("$.data.response")
                        || told.iter().any(|known| known == path.as_str());
                    if !unseen
                        && Shape::default().lacks(path).is_none()
                        && matches!(path.find(&document), Found::Nothing)
                    {
                        told.push(path.as_str().to_owned());
                        let what = format!(
                            "finds nothing in what is made of the event of the test `{}`",
                            test.name
                        );
                        self.report(template, path.as_str(), what, self.transform.is_some());
                    }
                }
            }
        }
    }

    fn report(&self, template: &TemplateText, query: &str, what: String, transformed: bool) {
        let place = template.path.iter().map(|step| match step {
            Segment::Key(key) => key.clone(),
            Segment::Index(index) => index.to_string(),
        });
        let place = place.collect::<Vec<_>>().join(".");
        let comes_of_it = match template.placement {
            Placement::Argument => "as it is, nothing stands there",
            Placement::Column => "as it is, NULL stands there",
            _ => "as it is, each such delivery is a dead letter",
        };
        let help = format!(
            "{}, or give a default: <{query} ?? \"x\">; {comes_of_it}",
            if transformed {
                "let the transform make it"
            } else {
                "make it by a transform"
            }
        );
        let message = format!("`{query}` in `{place}` of `{}` {what}", self.target.name);
        self.name
            .mistakes
            .report(Mistake::new(self.name.span(), message).help(help).warn());
    }
}

/// Warns of an `order_by` that finds nothing in the event of a test.
fn unordered(rule: Piece<'_>, config: &Rule, tests: &[&Test]) {
    let by = |piece: Piece<'_>| {
        piece
            .get("delivery")
            .and_then(|at| at.get("order_by"))
            .map(|at| (at.span(), at.node.text().map(str::to_owned)))
    };
    let own = rule
        .get("to")
        .map(|at| items(at))
        .unwrap_or_default()
        .into_iter()
        .filter_map(by);
    let places: Vec<_> = own.chain(by(rule)).collect();
    let mut told = Vec::new();
    for path in config
        .to
        .iter()
        .filter_map(|to| to.delivery.order_by.as_ref())
    {
        let Some(test) = tests
            .iter()
            .find(|test| matches!(path.find(&Seen::event(&test.event)), Found::Nothing))
        else {
            continue;
        };
        if told.contains(&path.as_str()) || Shape::default().lacks(path).is_some() {
            continue;
        }
        told.push(path.as_str());
        let place = places
            .iter()
            .find(|(_, text)| text.as_deref() == Some(path.as_str()))
            .map(|(span, _)| *span);
        let span = place
            .or(rule.entry.map(|entry| entry.key_span))
            .unwrap_or(rule.span());
        let message = format!(
            "`order_by: {path}` finds nothing in the event of the test `{}`",
            test.name
        );
        rule.mistakes.report(
            Mistake::new(span, message)
                .help(
                    "it sees the event before the transform; as it is, such deliveries come in no \
                     order",
                )
                .warn(),
        );
    }
}

#[cfg(test)]
mod tests;
