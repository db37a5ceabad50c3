//! Rules.

use std::collections::HashSet;
use std::sync::Arc;

use pointsman_journal::Start;
use pointsman_rules::transform::{RawTransform, Transform};
use pointsman_rules::{Condition, Filter, Filters, Pattern};
use pointsman_schemas::{Name, Problem, Timestamp};

use super::addresses;
use super::connector::TargetLayers;
use super::deduplicate::deduplicate;
use super::names::Section;
use super::retention;
use super::{Document, Loader, items};
use crate::config::delivery::Layer;
use crate::config::mistake::Mistake;
use crate::config::quota::quota_of;
use crate::config::raw::{RawFollowUp, RawRule, RawTo};
use crate::config::reader::{Piece, read};
use crate::config::yaml::{Entry, Value};
use crate::config::{DeliverySettings, Destination, FollowUp, Rule};

impl Loader<'_, '_> {
    pub(super) fn rule(
        &self,
        document: &Document<'_>,
        entry: &Entry,
        layers: &TargetLayers<'_>,
    ) -> Option<Rule> {
        let piece = document.entity(entry);
        if piece.node.value == Value::Null {
            piece.report(
                format!("the rule `{}` is empty", entry.key),
                "give it at least a target: { to: a-target }",
            );
            return None;
        }
        let raw = read::<RawRule>(piece)?;
        let from = piece
            .get("from")
            .map(|at| self.names_in(document, Section::Sources, at));
        self.compiled_rule(document, entry, raw, from, layers)
    }

    /// What rules and pipes have in common.
    pub(super) fn compiled_rule(
        &self,
        document: &Document<'_>,
        entry: &Entry,
        raw: RawRule,
        from: Option<Vec<Name>>,
        layers: &TargetLayers<'_>,
    ) -> Option<Rule> {
        let piece = document.entity(entry);
        let conditions = conditions(&raw);
        let pattern = compiled(
            piece,
            "match",
            raw.pattern,
            |value| Pattern::compile(&value.into()),
            |pattern| pattern.warnings().to_vec(),
        );
        let condition = compiled(
            piece,
            "where",
            raw.condition,
            |text| Condition::parse(&text),
            |condition| condition.warnings().to_vec(),
        );
        let filters = compiled(
            piece,
            "filters",
            raw.filters,
            |raw| Filters::compile(&raw),
            |filters| filters.warnings().to_vec(),
        );
        let transform = transform(piece);
        let deduplicate = deduplicate(piece);
        Layer::refuse_limits(piece);
        let layer = Layer::new(raw.delivery, piece);
        let to = self.destinations(document, piece, &layer, transform.as_ref(), layers);
        let follow_up = |key| self.follow_up(document, piece.get(key)?, layers);
        let (on_success, on_failure) = (follow_up("on_success"), follow_up("on_failure"));
        if let (Some(at), Some(before)) = (piece.get("renamed_from"), &raw.renamed_from) {
            if before.as_str() == entry.key {
                at.report("it has this name already", "remove `renamed_from`");
            } else if self.is_defined(Section::Rules, document, before.as_str()) {
                at.report(
                    format!("`{before}` is still there and keeps its deliveries"),
                    "remove that one, or `renamed_from`",
                );
            }
        }
        let quota = quota_of(piece);
        let start = raw.start.as_deref().zip(piece.get("start"));
        let start = start.and_then(|(text, at)| start_of(text, at));
        let name = Name::new(&entry.key).ok()?;
        let (tenant, renamed_from, description) =
            (document.tenant.clone(), raw.renamed_from, raw.description);
        Some(Rule {
            name,
            tenant,
            pipe: false,
            description,
            from,
            conditions,
            filter: Filter {
                pattern,
                condition,
                filters,
            },
            deduplicate,
            retention: retention(piece),
            to,
            on_success,
            on_failure,
            quota,
            renamed_from,
            start,
        })
    }

    fn names_in(&self, document: &Document<'_>, section: Section, at: Piece<'_>) -> Vec<Name> {
        let items = items(at);
        if items.is_empty() {
            at.report(
                "this list is empty: nothing ever comes",
                "name a source, or remove the key to take from all of them",
            );
        }
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            let Some(name) = item
                .node
                .text()
                .and_then(|text| self.resolve(section, document, text, item))
            else {
                continue;
            };
            if let Some(pipe) = self.fed.pipe_of(document, &name) {
                item.report(
                    format!(
                        "`{name}` feeds the pipe `{pipe}`, and a source feeds rules or one pipe"
                    ),
                    "take it out here, or make a rule of the pipe",
                );
            }
            names.push(name);
        }
        names
    }

    fn destinations(
        &self,
        document: &Document<'_>,
        rule: Piece<'_>,
        layer: &Layer,
        transform_of_rule: Option<&Arc<Transform>>,
        layers: &TargetLayers<'_>,
    ) -> Vec<Destination> {
        let entry = rule.entry.map_or(rule.span(), |entry| entry.key_span);
        let Some(at) = rule.get("to") else {
            if !rule.mistakes.was_meant(rule.node, "to") {
                rule.mistakes.report(
                    Mistake::new(entry, "there is no `to`: the events go nowhere")
                        .help("add to: a-target"),
                );
            }
            return Vec::new();
        };
        if matches!(&at.node.value, Value::List(items) if items.is_empty()) {
            at.report(
                "this list is empty: the rule's events go nowhere",
                "name a target",
            );
        }
        let mut taken = HashSet::new();
        let mut destinations = Vec::new();
        for item in items(at) {
            let Some(raw) = read::<RawTo>(item) else {
                continue;
            };
            let name_at = item.get("target").unwrap_or(item);
            let Some(text) = raw.target else {
                if !item.mistakes.was_meant(item.node, "target") && item.is_whole() {
                    item.report("`target` is missing here", "write { target: a-target }");
                }
                continue;
            };
            Layer::refuse_limits(item);
            let own_layer = Layer::new(raw.delivery, item);
            let own_transform = transform(item);
            let Some(target) = self.resolve(Section::Targets, document, &text, name_at) else {
                continue;
            };
            if !taken.insert(text.clone()) {
                name_at.report(
                    format!("this rule sends to `{text}` already"),
                    "remove one of them, or make two rules of it",
                );
                continue;
            }
            let of_target = layers.get(&(&document.tenant, text.as_str()));
            for piece in [item, rule] {
                if let Some(layer) = of_target {
                    layer.refuse_batch(piece, &text);
                }
            }
            let delivery = DeliverySettings::merged(
                &[Some(&own_layer), Some(layer), of_target]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>(),
            );
            delivery.refuse_ordered_priorities(&[item, rule]);
            destinations.push(Destination {
                target,
                transform: own_transform.or_else(|| transform_of_rule.cloned()),
                delivery,
            });
        }
        destinations
    }

    fn follow_up(
        &self,
        document: &Document<'_>,
        at: Piece<'_>,
        layers: &TargetLayers<'_>,
    ) -> Option<FollowUp> {
        let raw = read::<RawFollowUp>(at)?;
        let name_at = at.get("to").unwrap_or(at);
        let Some(text) = raw.to else {
            if !at.mistakes.was_meant(at.node, "to") && at.is_whole() {
                at.report("`to` is missing here", "write { to: a-target }");
            }
            return None;
        };
        let transform = transform(at);
        let target = self.resolve(Section::Targets, document, &text, name_at)?;
        let of_target = layers.get(&(&document.tenant, text.as_str()));
        let delivery = DeliverySettings::merged(&of_target.into_iter().collect::<Vec<_>>());
        Some(FollowUp {
            target,
            send: raw.send,
            transform,
            delivery,
        })
    }
}

/// From where on a rule that first comes is given events.
fn start_of(text: &str, at: Piece<'_>) -> Option<Start> {
    if text == "earliest" {
        return Some(Start::Earliest);
    }
    let time = text.parse::<jiff::Timestamp>();
    if time.is_err() {
        at.report(
            "this is no point to start from",
            "write earliest, or a time such as 2026-01-31T09:30:00Z; leave `start` out for what \
             comes from now on",
        );
    }
    Some(Start::Time(Timestamp(time.ok()?.as_microsecond())))
}

fn conditions(raw: &RawRule) -> serde_json::Value {
    let pattern = raw
        .pattern
        .clone()
        .map(|pattern| ("match".to_owned(), pattern.into()));
    let condition = raw
        .condition
        .clone()
        .map(|condition| ("where".to_owned(), condition.into()));
    let filters = raw
        .filters
        .as_ref()
        .and_then(|filters| Some(("filters".to_owned(), serde_json::to_value(filters).ok()?)));
    serde_json::Map::from_iter(pattern.into_iter().chain(condition).chain(filters)).into()
}

/// Compiles what stands under a key, where it could be read whole, and tells what is wrong or odd
/// with it.
pub(super) fn compiled<R, T>(
    piece: Piece<'_>,
    key: &str,
    raw: Option<R>,
    compile: impl FnOnce(R) -> Result<T, Vec<Problem>>,
    warnings: impl FnOnce(&T) -> Vec<Problem>,
) -> Option<T> {
    let at = piece.get(key).filter(|at| at.is_whole())?;
    let compiled = compile(raw?)
        .map_err(|problems| at.report_problems(problems))
        .ok()?;
    at.report_problems(warnings(&compiled));
    Some(compiled)
}

fn transform(piece: Piece<'_>) -> Option<Arc<Transform>> {
    if let Some(set) = piece.get("transform").and_then(|at| at.get("set")) {
        refuse_unwritten(set);
    }
    let raw = piece.get("transform").and_then(read::<RawTransform>);
    let transform = compiled(
        piece,
        "transform",
        raw,
        |raw| Transform::compile(&raw),
        Transform::warnings,
    )?;
    if let Some(at) = piece.get("transform") {
        addresses::transform_in_no_event(at, &transform);
    }
    Some(Arc::new(transform))
}

/// Refuses attributes without a value: whoever wants one away writes `null`.
pub(super) fn refuse_unwritten(set: Piece<'_>) {
    for entry in set.node.entries() {
        let at = set.child(Some(entry), &entry.value);
        if at.is_unwritten() {
            at.report(
                format!("`{}` has no value", entry.key),
                "give it one, remove the key, or write `null` to take the attribute away",
            );
            at.mistakes.silence(at.node);
        }
    }
}
