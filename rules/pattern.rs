//! Event patterns: what `match` holds.
//!
//! A pattern has the shape of what it matches. Leaf lists hold alternatives, objects nest, a dotted
//! key equals nesting, all keys must match, `$or` holds alternatives of whole patterns. It follows
//! the event patterns of Amazon EventBridge ("Comparison operators for use in event patterns",
//! "Arrays in event patterns", "Null values and empty strings"):
//!
//! - An array in an event is a set: one value in it that fits is enough. Where objects lie in an
//!   array, a pattern over them holds within one of them.
//! - Exact strings, `prefix`, `suffix` and the like fit text alone, `numeric` numbers alone.
//!   Numbers are equal by value.
//! - `anything-but` fits any value that is there and is not one of the listed ones, of whatever
//!   type.
//! - `exists` looks at leaves: an object or an empty array does not exist.
//!
//! What EventBridge refuses is refused, as far as its documentation and the rule compiler of
//! event-ruler tell. Departures: `contains` (a substring), `compare-to` (another field) and `all`
//! (several operators on one value) are ours, under names that it refuses; numbers are not held to
//! ±5·10⁹ and 15 digits but to what 64 bits and a double hold; of `cidr` the whole length (`/32`,
//! `/128`) is taken too, and leading zeros are refused; a path that is tested twice is refused
//! where the last test would count there. Where `$or` tests one array and a key beside the `$or`
//! tests it too, each may hold in an element of its own. Where keys with dots spell several arrays
//! at one path, or something beside an array, each array is looked into by itself.

mod compile;
mod evaluate;
mod list;
mod network;
mod operator;
mod wildcard;

use std::sync::Arc;

use pointsman_schemas::Problem;
use serde_json::Value;

use crate::document::Document;
use crate::fields::{FieldId, Fields, FieldsBuilder, ROOT};
use crate::scratch::Scratch;

pub(crate) use evaluate::Evaluation;
pub(crate) use list::List;
pub(crate) use network::address;
pub(crate) use operator::{Operator, Range, fold};

/// A compiled event pattern.
#[derive(Debug)]
pub struct Pattern {
    pub(crate) root: Group,
    /// Of this pattern alone; in a set of rules the set's stand in its place.
    pub(crate) fields: Fields,
    warnings: Vec<Problem>,
}

/// An object of a pattern: all of its fields and one alternative of each `$or` must hold.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) fields: Vec<Field>,
    pub(crate) any: Vec<Vec<Group>>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) id: FieldId,
    pub(crate) body: Body,
    /// True where the body holds if there is nothing at the field.
    pub(crate) holds_absent: bool,
}

#[derive(Debug)]
pub(crate) enum Body {
    Leaf(Arc<Leaf>),
    Group(Group),
}

/// A leaf list: one of its operators must fit one value.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) list: List,
    /// The list as it was written, for explanations.
    pub(crate) written: Box<str>,
}

impl Pattern {
    /// Compiles a pattern over CloudEvents: attributes at the top, parsed JSON data under `data`.
    ///
    /// # Errors
    /// Every mistake in it, each with its path inside the pattern.
    pub fn compile(pattern: &Value) -> Result<Self, Vec<Problem>> {
        Self::new(pattern, true)
    }

    /// Compiles a pattern over any JSON document.
    ///
    /// # Errors
    /// As [`Pattern::compile`].
    pub fn compile_for_any_json(pattern: &Value) -> Result<Self, Vec<Problem>> {
        Self::new(pattern, false)
    }

    fn new(pattern: &Value, cloudevents: bool) -> Result<Self, Vec<Problem>> {
        let (root, warnings) = compile::compile(pattern, cloudevents)?;
        let mut pattern = Self {
            root,
            fields: Fields::default(),
            warnings,
        };
        let mut builder = FieldsBuilder::new();
        pattern.root.register(&mut builder, ROOT);
        let (fields, renumbered) = builder.finish();
        pattern.root.renumber(&renumbered);
        pattern.fields = fields;
        Ok(pattern)
    }

    /// What is odd about the pattern but not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Whether the pattern holds for a document.
    #[must_use]
    pub fn matches(&self, document: &Document<'_>, scratch: &mut Scratch) -> bool {
        scratch.start();
        Evaluation::new(&self.fields, document, scratch).pattern(&self.root)
    }
}

impl Group {
    /// Enters all fields into a tree, with provisional numbers.
    pub(crate) fn register(&mut self, builder: &mut FieldsBuilder, parent: FieldId) {
        for field in &mut self.fields {
            field.id = builder.field(parent, &field.name);
            match &mut field.body {
                Body::Group(group) => group.register(builder, field.id),
                // A leaf is shared only once all have been entered.
                Body::Leaf(leaf) => Arc::get_mut(leaf)
                    .into_iter()
                    .for_each(|leaf| leaf.register(builder)),
            }
        }
        for group in self.any.iter_mut().flatten() {
            group.register(builder, parent);
        }
    }

    /// Replaces the provisional numbers by the tree's own, and gives back the room that was only
    /// needed for building.
    pub(crate) fn renumber(&mut self, renumbered: &[FieldId]) {
        self.fields.shrink_to_fit();
        self.any.shrink_to_fit();
        for field in &mut self.fields {
            field.id = renumbered.get(field.id as usize).copied().unwrap_or(ROOT);
            if let Body::Group(group) = &mut field.body {
                group.renumber(renumbered);
            }
        }
        for group in self.any.iter_mut().flatten() {
            group.renumber(renumbered);
        }
    }

    /// True where all of it holds if there is nothing.
    pub(crate) fn holds_absent(&self) -> bool {
        self.fields.iter().all(|field| field.holds_absent)
            && self
                .any
                .iter()
                .all(|groups| groups.iter().any(Self::holds_absent))
    }
}

impl Leaf {
    /// Numbers the paths that it compares with.
    fn register(&mut self, builder: &mut FieldsBuilder) {
        self.list.each_mut(&mut |operator| {
            if let Operator::CompareTo(_, path, number) = operator {
                *number = builder.path(path.as_str());
            }
        });
    }
}

#[cfg(test)]
mod tests;
