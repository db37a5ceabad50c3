//! What is left to see of an event that has taken the way to a rule.

use std::sync::Arc;

use super::Chooser;
use super::key::{Key, Test};
use crate::fields::FieldId;
use crate::pattern::{Body, Group, Leaf, Operator, Range};
use crate::rule::Rule;

/// What an event that took a rule's way must have besides.
#[derive(Debug)]
pub(in crate::index) enum Left<'r> {
    /// These leaves, each at its field, are all that the pattern asks for: it holds for an object
    /// that has them. Without any the rule holds for whatever takes the way.
    Leaves(Vec<(FieldId, &'r Arc<Leaf>)>),
    /// More than that: the rule must be evaluated.
    Rule,
}

impl<'r> Chooser<'_, 'r> {
    /// What the keys of a pattern's way leave to be seen.
    pub(super) fn left(&self, rule: &'r Rule, way: &[Key<'r>]) -> Left<'r> {
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
