//! What an event must have for a rule to be worth a look.
//!
//! A rule that holds has all of its fields fitted, so any one of them is a way to find it. Of all
//! its ways a rule is entered under the one that the fewest events are expected to take, counted
//! over the rules themselves: what many rules name, many events are taken to have. Where a way is a
//! list of alternatives, or leads through an `$or`, the rule is entered under each.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

use crate::cesql::{self, Literals};
use crate::comparator::Comparator;
use crate::condition::{Expression, Operand};
use crate::fields::{FieldId, Fields, ROOT};
use crate::filters::{Comparison, Filter, is_text};
use crate::number::Number;
use crate::origin::Origin;
use crate::pattern::{Body, Group, Leaf, Operator, Range};
use crate::rule::Rule;

/// What reading an event's data costs, in looks at a rule.
const DATA_COST: f64 = 12.0;

/// How likely an event fits what tells nothing: `anything-but`, `exists`, a missing field. Anything
/// else is a better way.
const UNTOLD: f64 = 1.0;

/// What an event may have, by which rules are found.
#[derive(Clone, Debug)]
pub(super) enum Key<'r> {
    /// It comes from there.
    Origin(Origin),
    /// There is no scalar at the field.
    Absent(FieldId),
    /// One scalar at the field fits.
    Scalar(FieldId, Test<'r>),
}

/// What one scalar may fit.
#[derive(Clone, Debug)]
pub(super) enum Test<'r> {
    /// A text that is, begins with, ends with or holds these bytes.
    Text(Part, &'r [u8]),
    /// The same of a text in lower case.
    Folded(Part, &'r [u8]),
    Boolean(bool),
    Null,
    Number(Range),
    Network(IpNet),
    /// Whatever the leaf takes: it is held against the scalar itself.
    Leaf(&'r Arc<Leaf>),
}

/// Where in a text the bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Whole,
    Beginning,
    End,
    Anywhere,
}

/// A way to find a rule: every event that it takes has one of these keys.
pub(super) type Way<'r> = Vec<Key<'r>>;

/// How a rule is to be found.
pub(super) struct Choice<'r> {
    /// None where nothing tells of the rule, so that it is looked at for every event.
    pub(super) way: Option<Way<'r>>,
    /// What is left to see of an event that takes the way.
    pub(super) left: Left<'r>,
}

/// What an event that took a rule's way must have besides.
#[derive(Debug)]
pub(super) enum Left<'r> {
    /// These leaves, each at its field, are all that the pattern asks for: it holds for an object
    /// that has them. Without any the rule holds for whatever takes the way.
    Leaves(Vec<(FieldId, &'r Arc<Leaf>)>),
    /// More than that: the rule must be evaluated.
    Rule,
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

/// What one operator of a leaf list allows: each way alone is one to all that it fits.
fn ways<'r>(operator: &'r Operator, field: FieldId) -> Vec<Key<'r>> {
    let text = |part, bytes: &'r [u8]| {
        (!bytes.is_empty() || part == Part::Whole).then_some(Test::Text(part, bytes))
    };
    let folded = |part, text: &'r str| {
        (!text.is_empty() || part == Part::Whole).then_some(Test::Folded(part, text.as_bytes()))
    };
    let test = match operator {
        Operator::Exists(false) => return vec![Key::Absent(field)],
        Operator::All(listed) => {
            return listed
                .iter()
                .flat_map(|operator| ways(operator, field))
                .collect();
        }
        Operator::Wildcard(wildcard) => {
            let Some(last) = wildcard.last() else {
                return vec![Key::Scalar(
                    field,
                    Test::Text(Part::Whole, wildcard.first()),
                )];
            };
            let ends = [
                text(Part::Beginning, wildcard.first()),
                text(Part::End, last),
            ]
            .into_iter()
            .flatten();
            return ends
                .chain(
                    wildcard
                        .middle()
                        .map(|part| Test::Text(Part::Anywhere, part)),
                )
                .map(|test| Key::Scalar(field, test))
                .collect();
        }
        Operator::Text(expected) => text(Part::Whole, expected),
        Operator::Prefix(prefix) => text(Part::Beginning, prefix),
        Operator::Suffix(suffix) => text(Part::End, suffix),
        Operator::Contains(part) => text(Part::Anywhere, part),
        Operator::EqualsIgnoreCase(expected) => folded(Part::Whole, expected.as_str()),
        Operator::PrefixIgnoreCase(prefix) => folded(Part::Beginning, prefix.as_str()),
        Operator::SuffixIgnoreCase(suffix) => folded(Part::End, suffix.as_str()),
        Operator::Number(number) => Some(Test::Number(Range::only(*number).widened())),
        Operator::Numeric(range) => Some(Test::Number(range.widened())),
        Operator::Boolean(value) => Some(Test::Boolean(*value)),
        Operator::Null => Some(Test::Null),
        Operator::Cidr(net) => Some(Test::Network(*net)),
        Operator::AnythingBut(_) | Operator::CompareTo(..) | Operator::Exists(true) => None,
    };
    test.into_iter()
        .map(|test| Key::Scalar(field, test))
        .collect()
}

/// How often the rules name what events may have.
#[derive(Default)]
struct Statistics<'r> {
    origins: HashMap<Origin, u32>,
    /// Of all origins together.
    from: u32,
    texts: HashMap<(FieldId, bool, Part, &'r [u8]), u32>,
    networks: HashMap<(FieldId, IpNet), u32>,
    /// Of texts and networks together.
    named: HashMap<FieldId, u32>,
    numbers: HashMap<FieldId, Vec<Number>>,
}

impl<'r> Statistics<'r> {
    fn count(&mut self, key: &Key<'r>) {
        match key {
            Key::Origin(origin) => {
                *self.origins.entry(*origin).or_default() += 1;
                self.from += 1;
            }
            Key::Scalar(field, test) => {
                let counted = match test {
                    Test::Text(part, bytes) => {
                        self.texts.entry((*field, false, *part, bytes)).or_default()
                    }
                    Test::Folded(part, bytes) => {
                        self.texts.entry((*field, true, *part, bytes)).or_default()
                    }
                    Test::Network(net) => self.networks.entry((*field, *net)).or_default(),
                    Test::Number(range) => {
                        let bounds = [range.from, range.to]
                            .into_iter()
                            .flatten()
                            .map(|(number, _)| number);
                        return self.numbers.entry(*field).or_default().extend(bounds);
                    }
                    Test::Boolean(_) | Test::Null | Test::Leaf(_) => return,
                };
                *counted += 1;
                *self.named.entry(*field).or_default() += 1;
            }
            Key::Absent(_) => {}
        }
    }

    fn sort(&mut self) {
        for numbers in self.numbers.values_mut() {
            numbers.sort_unstable();
            numbers.dedup();
        }
    }

    /// The share of events that are expected to have a key.
    fn likelihood(&self, key: &Key<'r>) -> f64 {
        let share = |count: Option<&u32>, total: u32| {
            f64::from(count.copied().unwrap_or_default()) / f64::from(total + 2)
        };
        let named = |field: &FieldId| self.named.get(field).copied().unwrap_or_default();
        let text = |field: &FieldId, folded, part, bytes: &'r [u8]| {
            let share = share(self.texts.get(&(*field, folded, part, bytes)), named(field));
            // What is short stands in many texts, whoever names it.
            if part == Part::Whole {
                share
            } else {
                share.max(0.5_f64.powi(bytes.len().min(64) as i32))
            }
        };
        match key {
            Key::Origin(origin) => share(self.origins.get(origin), self.from),
            Key::Absent(_) => UNTOLD,
            Key::Scalar(field, test) => match test {
                Test::Text(part, bytes) => text(field, false, *part, bytes),
                Test::Folded(part, bytes) => text(field, true, *part, bytes),
                Test::Network(net) => share(self.networks.get(&(*field, *net)), named(field))
                    .max(0.5_f64.powi(net.prefix_len().into())),
                Test::Number(range) => {
                    let bounds = self
                        .numbers
                        .get(field)
                        .map(Vec::as_slice)
                        .unwrap_or_default();
                    range.places(bounds).len() as f64 / (2 * bounds.len() + 1) as f64
                }
                Test::Boolean(_) | Test::Null => 0.5,
                Test::Leaf(_) => UNTOLD,
            },
        }
    }
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

    /// What the keys of a pattern's way leave to be seen.
    fn left(&self, rule: &'r Rule, way: &[Key<'r>]) -> Left<'r> {
        let mut leaves = Vec::new();
        let is_joined = rule.filter.condition.is_none()
            && rule.filter.filters.is_none()
            && rule
                .filter
                .pattern
                .as_ref()
                .is_some_and(|pattern| join(&pattern.root, &mut leaves));
        if !is_joined {
            return Left::Rule;
        }
        let is_in_data = |field: FieldId| self.data.contains(&field);
        // What a pattern asks for below an attribute is never there.
        let is_there = |(field, _): &(FieldId, _)| {
            is_in_data(*field) || self.fields.attribute(*field).is_some()
        };
        if !leaves.iter().all(is_there) {
            return Left::Rule;
        }
        // One value in an array has fitted, and another leaf may want the element to have its own.
        let is_alone = leaves.len() == 1;
        leaves.retain(|(field, leaf)| {
            is_in_data(*field) && !is_alone || !is_told_by(way, *field, leaf)
        });
        leaves.sort_by_key(|(field, _)| is_in_data(*field));
        Left::Leaves(leaves)
    }

    fn all_of(&self, way: Way<'r>) -> Costed<'r> {
        let cost: f64 = way.iter().map(|key| self.statistics.likelihood(key)).sum();
        let data = way.iter().any(|key| matches!(key, Key::Scalar(field, _) | Key::Absent(field) if self.data.contains(field)));
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

    /// Of an expression that is true without an error. Its operators of one precedence are applied
    /// from left to right.
    fn sql(&self, expression: &'r cesql::Expression) -> Option<Costed<'r>> {
        let logic = |rest: &[(cesql::Operator, _)]| {
            rest.iter()
                .all(|(operator, _)| operator.level() == cesql::Level::Logic)
        };
        match &expression.kind {
            cesql::Kind::Chain { first, rest } if logic(rest) => {
                rest.iter()
                    .fold(self.sql(first), |left, (operator, right)| {
                        let sides = [left, self.sql(right)];
                        if *operator == cesql::Operator::And {
                            cheapest(sides.into_iter().flatten())
                        } else {
                            together(sides.into_iter())
                        }
                    })
            }
            _ => cheapest(
                self.predicate(expression)
                    .into_iter()
                    .map(|way| self.all_of(way)),
            ),
        }
    }

    /// The ways to what a comparison of an attribute with texts takes; each alone is one.
    fn predicate(&self, expression: &'r cesql::Expression) -> Vec<Way<'r>> {
        use cesql::Kind::{Attribute, Chain, In, Like, String};
        let one = |name, part, text| self.text(name, part, text).map(|key| vec![key]);
        match &expression.kind {
            Chain { first, rest } => match (&first.kind, rest.as_slice()) {
                (
                    Attribute(name),
                    [
                        (
                            cesql::Operator::Equal,
                            cesql::Expression {
                                kind: String(text), ..
                            },
                        ),
                    ],
                )
                | (
                    String(text),
                    [
                        (
                            cesql::Operator::Equal,
                            cesql::Expression {
                                kind: Attribute(name),
                                ..
                            },
                        ),
                    ],
                ) => one(name, Part::Whole, text).into_iter().collect(),
                _ => Vec::new(),
            },
            Like {
                text,
                like,
                negated: false,
            } => match (&text.kind, like.literals()) {
                (Attribute(name), Some(Literals::Whole(whole))) => {
                    one(name, Part::Whole, whole).into_iter().collect()
                }
                (Attribute(name), Some(Literals::Parts(prefix, inner, suffix))) => {
                    let inner = inner
                        .iter()
                        .filter_map(|part| std::str::from_utf8(part.needle()).ok())
                        .map(|part| (Part::Anywhere, part));
                    let all = [(Part::Beginning, prefix), (Part::End, suffix)]
                        .into_iter()
                        .chain(inner);
                    all.filter_map(|(part, text)| one(name, part, text))
                        .collect()
                }
                _ => Vec::new(),
            },
            In {
                value,
                set,
                negated: false,
            } => {
                let Attribute(name) = &value.kind else {
                    return Vec::new();
                };
                let key = |element: &'r cesql::Expression| match &element.kind {
                    String(text) => self.text(name, Part::Whole, text),
                    _ => None,
                };
                set.iter()
                    .map(key)
                    .collect::<Option<Way<'r>>>()
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
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

/// Lists the leaves of a pattern, and returns whether it only joins them.
fn join<'r>(group: &'r Group, leaves: &mut Vec<(FieldId, &'r Arc<Leaf>)>) -> bool {
    group.any.is_empty()
        && group.fields.iter().all(|field| match &field.body {
            Body::Leaf(leaf) => {
                leaves.push((field.id, leaf));
                true
            }
            Body::Group(group) => join(group, leaves),
        })
}

/// Whether what takes this way, which is that of one leaf, fits a leaf at a field.
fn is_told_by(way: &[Key<'_>], at: FieldId, leaf: &Leaf) -> bool {
    let operators = leaf.list.operators();
    let is_scalar_there = |key: &Key<'_>| matches!(key, Key::Scalar(field, _) if *field == at);
    match way {
        [] => false,
        [Key::Scalar(field, Test::Leaf(_))] => *field == at,
        keys => {
            keys.iter().all(is_scalar_there)
                && keys.len() == operators.len()
                && operators.iter().all(is_told)
        }
    }
}

/// Whether an operator fits whatever its way leads to.
fn is_told(operator: &Operator) -> bool {
    match operator {
        Operator::Text(_) | Operator::Boolean(_) | Operator::Null | Operator::Cidr(_) => true,
        Operator::Prefix(_) | Operator::Suffix(_) => true,
        Operator::EqualsIgnoreCase(_)
        | Operator::PrefixIgnoreCase(_)
        | Operator::SuffixIgnoreCase(_) => true,
        Operator::Number(number) => Range::only(*number) == Range::only(*number).widened(),
        Operator::Numeric(range) => *range == range.widened(),
        Operator::Wildcard(wildcard) => wildcard.is_one_end(),
        // Where there are many, any value counts as a hit of theirs.
        Operator::Contains(_) => false,
        Operator::AnythingBut(_)
        | Operator::CompareTo(..)
        | Operator::All(_)
        | Operator::Exists(_) => false,
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
