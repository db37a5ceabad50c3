//! What an event must have for a rule to be worth a look.
//!
//! A rule that holds has all of its fields fitted, so any one of them is a way to find it. Of all
//! its ways a rule is entered under the one that the fewest events are expected to take, counted
//! over the rules themselves: what many rules name, many events are taken to have. Where a way is a
//! list of alternatives, or leads through an `$or`, the rule is entered under each.

mod key;
mod left;
mod likelihood;
mod sql;

use std::sync::Arc;

use crate::comparator::Comparator;
use crate::condition::{Expression, Operand};
use crate::fields::{FieldId, Fields, ROOT};
use crate::filters::{Comparison, Filter, is_text};
use crate::pattern::{Body, Group, Leaf, Operator, Range};
use crate::rule::Rule;

use key::ways;
pub(super) use key::{Key, Part, Test};
pub(super) use left::Left;
use likelihood::Statistics;

/// What reading an event's data costs, in looks at a rule.
const DATA_COST: f64 = 12.0;

/// A way to find a rule: every event that it takes has one of these keys.
pub(super) type Way<'r> = Vec<Key<'r>>;

/// How a rule is to be found.
pub(super) struct Choice<'r> {
    /// None where nothing tells of the rule, so that it is looked at for every event.
    pub(super) way: Option<Way<'r>>,
    /// What is left to see of an event that takes the way.
    pub(super) left: Left<'r>,
}

/// The way by which each rule is to be found.
pub(super) fn choose<'r>(rules: &'r [Rule], fields: &Fields) -> Vec<Choice<'r>> {
    let data = fields
        .child(ROOT, b"data")
        .map_or(0..0, |data| data..fields.below(data).end);
    let mut chooser = Chooser {
        fields,
        data,
        data_cost: DATA_COST / rules.len().max(1) as f64,
        statistics: Statistics::default(),
    };
    for rule in rules {
        chooser.count(rule);
    }
    chooser.statistics.sort();
    rules.iter().map(|rule| chooser.rule(rule)).collect()
}

/// A way, and the share of events that are expected to have one of its keys.
type Costed<'r> = (f64, Way<'r>);

struct Chooser<'f, 'r> {
    fields: &'f Fields,
    /// The fields that lie in an event's data.
    data: std::ops::Range<FieldId>,
    data_cost: f64,
    statistics: Statistics<'r>,
}

impl<'r> Chooser<'_, 'r> {
    fn count(&mut self, rule: &'r Rule) {
        rule.from
            .listed()
            .into_iter()
            .flatten()
            .for_each(|origin| self.statistics.count(&Key::Origin(origin)));
        if let Some(pattern) = &rule.filter.pattern {
            self.count_group(&pattern.root);
        }
        if let Some(condition) = &rule.filter.condition {
            self.count_expression(&condition.expression);
        }
        rule.filter
            .filters
            .iter()
            .flat_map(|filters| &filters.all)
            .for_each(|filter| self.count_filter(filter));
    }

    fn count_group(&mut self, group: &'r Group) {
        for field in &group.fields {
            match &field.body {
                Body::Group(group) => self.count_group(group),
                Body::Leaf(leaf) => {
                    let keys = leaf
                        .list
                        .operators()
                        .iter()
                        .flat_map(|operator| ways(operator, field.id));
                    keys.for_each(|key| self.statistics.count(&key));
                }
            }
        }
        group
            .any
            .iter()
            .flatten()
            .for_each(|group| self.count_group(group));
    }

    fn count_expression(&mut self, expression: &'r Expression) {
        match expression {
            Expression::All(parts) | Expression::Any(parts) => {
                parts.iter().for_each(|part| self.count_expression(part))
            }
            expression => {
                if let Some(key) = self.comparison(expression) {
                    self.statistics.count(&key);
                }
            }
        }
    }

    fn count_filter(&mut self, filter: &'r Filter) {
        match filter {
            Filter::Attributes(comparison, texts) => {
                let keys: Vec<_> = texts
                    .iter()
                    .filter_map(|(name, text)| self.attribute(*comparison, name, text))
                    .collect();
                keys.iter().for_each(|key| self.statistics.count(key));
            }
            Filter::All(filters) | Filter::Any(filters) => {
                filters.iter().for_each(|filter| self.count_filter(filter))
            }
            Filter::Sql(sql) => sql.root.each(&mut |part| {
                let ways = self.predicate(part);
                ways.iter()
                    .flatten()
                    .for_each(|key| self.statistics.count(key));
            }),
            Filter::Not(_) => {}
        }
    }

    fn rule(&self, rule: &'r Rule) -> Choice<'r> {
        let from = rule
            .from
            .listed()
            .map(|origins| self.all_of(origins.map(Key::Origin).collect()));
        let pattern = rule
            .filter
            .pattern
            .as_ref()
            .and_then(|pattern| self.group(&pattern.root));
        let condition = rule
            .filter
            .condition
            .as_ref()
            .and_then(|condition| self.expression(&condition.expression));
        let filters = rule
            .filter
            .filters
            .as_ref()
            .and_then(|filters| self.filters(&filters.all));
        let other = cheapest([condition, filters, from].into_iter().flatten());
        match (pattern, other) {
            (Some((cost, way)), other)
                if other.as_ref().is_none_or(|(other, _)| cost <= *other) =>
            {
                Choice {
                    left: self.left(rule, &way),
                    way: Some(way),
                }
            }
            (_, other) => Choice {
                left: self.left(rule, &[]),
                way: other.map(|(_, way)| way),
            },
        }
    }

    fn all_of(&self, way: Way<'r>) -> Costed<'r> {
        let cost: f64 = way.iter().map(|key| self.statistics.likelihood(key)).sum();
        let data = way.iter().any(|key| match key {
            Key::Scalar(field, _) | Key::Absent(field) => self.data.contains(field),
            _ => false,
        });
        (cost.min(1.0) + if data { self.data_cost } else { 0.0 }, way)
    }

    fn group(&self, group: &'r Group) -> Option<Costed<'r>> {
        let fields = group.fields.iter().filter_map(|field| match &field.body {
            Body::Group(group) => self.group(group),
            Body::Leaf(leaf) => Some(self.leaf(leaf, field.id)),
        });
        let any = group
            .any
            .iter()
            .filter_map(|groups| together(groups.iter().map(|group| self.group(group))));
        cheapest(fields.chain(any))
    }

    fn leaf(&self, leaf: &'r Arc<Leaf>, field: FieldId) -> Costed<'r> {
        let likelihood = |key: &Key<'r>| self.statistics.likelihood(key);
        let best = |operator| {
            let ways = ways(operator, field).into_iter();
            ways.min_by(|left, right| likelihood(left).total_cmp(&likelihood(right)))
        };
        let way: Option<Way<'r>> = leaf.list.operators().iter().map(best).collect();
        self.all_of(way.unwrap_or_else(|| {
            let absent = leaf
                .list
                .operators()
                .iter()
                .any(Operator::fits_absence)
                .then_some(Key::Absent(field));
            absent
                .into_iter()
                .chain([Key::Scalar(field, Test::Leaf(leaf))])
                .collect()
        }))
    }

    /// Of filters that must all hold.
    fn filters(&self, filters: &'r [Filter]) -> Option<Costed<'r>> {
        cheapest(filters.iter().filter_map(|filter| self.filter(filter)))
    }

    fn filter(&self, filter: &'r Filter) -> Option<Costed<'r>> {
        match filter {
            Filter::Attributes(comparison, texts) => {
                let keys = texts
                    .iter()
                    .filter_map(|(name, text)| self.attribute(*comparison, name, text));
                cheapest(keys.map(|key| self.all_of(vec![key])))
            }
            Filter::All(filters) => self.filters(filters),
            Filter::Any(filters) => together(filters.iter().map(|filter| self.filter(filter))),
            Filter::Sql(sql) => self.sql(&sql.root),
            Filter::Not(_) => None,
        }
    }

    /// What a comparison of an attribute asks for.
    fn attribute(&self, comparison: Comparison, name: &str, text: &'r str) -> Option<Key<'r>> {
        let part = match comparison {
            Comparison::Exact => Part::Whole,
            Comparison::Prefix => Part::Beginning,
            Comparison::Suffix => Part::End,
        };
        self.text(name, part, text)
    }

    /// A text at an attribute, where that is a text in every event that has it.
    fn text(&self, name: &str, part: Part, text: &'r str) -> Option<Key<'r>> {
        let is_usable = is_text(name, text) && (!text.is_empty() || part == Part::Whole);
        let field = self
            .fields
            .child(ROOT, name.as_bytes())
            .filter(|_| is_usable)?;
        Some(Key::Scalar(field, Test::Text(part, text.as_bytes())))
    }

    fn expression(&self, expression: &'r Expression) -> Option<Costed<'r>> {
        match expression {
            Expression::All(parts) => {
                cheapest(parts.iter().filter_map(|part| self.expression(part)))
            }
            Expression::Any(parts) => together(parts.iter().map(|part| self.expression(part))),
            expression => self
                .comparison(expression)
                .map(|key| self.all_of(vec![key])),
        }
    }

    /// What a comparison of a field with a value asks for.
    fn comparison(&self, expression: &'r Expression) -> Option<Key<'r>> {
        let Expression::Compare(left, comparator, right) = expression else {
            return None;
        };
        let (field, value, comparator) = match (self.operand(left), self.operand(right)) {
            (Some(field), None) => (field, right, *comparator),
            (None, Some(field)) => (field, left, comparator.turned()),
            _ => return None,
        };
        let test = match (value, comparator) {
            (_, Comparator::Unequal) => return None,
            (Operand::Number(number, _), comparator) => {
                Test::Number(Range::widened(&match comparator {
                    Comparator::Less => Range {
                        from: None,
                        to: Some((*number, false)),
                    },
                    Comparator::LessOrEqual => Range {
                        from: None,
                        to: Some((*number, true)),
                    },
                    Comparator::Greater => Range {
                        from: Some((*number, false)),
                        to: None,
                    },
                    Comparator::GreaterOrEqual => Range {
                        from: Some((*number, true)),
                        to: None,
                    },
                    _ => Range::only(*number),
                }))
            }
            (Operand::Text(text), Comparator::Equal) => Test::Text(Part::Whole, text.as_bytes()),
            (Operand::Boolean(value), Comparator::Equal) => Test::Boolean(*value),
            (Operand::Null, Comparator::Equal) => Test::Null,
            _ => return None,
        };
        Some(Key::Scalar(field, test))
    }

    /// The field of an attribute, or in the data, that a path leads to.
    fn operand(&self, operand: &Operand) -> Option<FieldId> {
        let Operand::One(path, id) = operand else {
            return None;
        };
        id.or_else(|| self.fields.child(ROOT, path.attribute()?.as_bytes()))
    }
}

fn cheapest<'r>(ways: impl Iterator<Item = Costed<'r>>) -> Option<Costed<'r>> {
    ways.min_by(|(left, _), (right, _)| left.total_cmp(right))
}

/// All of these ways together; none where one of them is missing.
fn together<'r>(ways: impl Iterator<Item = Option<Costed<'r>>>) -> Option<Costed<'r>> {
    ways.reduce(|all, next| {
        let ((cost, mut way), (more, next)) = (all?, next?);
        way.extend(next);
        Some((cost + more, way))
    })?
}
