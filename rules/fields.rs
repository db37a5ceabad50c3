//! Which fields a set of rules mentions, and where in an event's text they stand.
//!
//! All paths that patterns and conditions mention are one tree, numbered so that the fields under a
//! field follow it:
//!
//! ```text
//!   mentioned: data.s3.bucket, data.s3.object.size, data.total
//!
//!     0 root ── 1 data ─┬─ 2 s3 ─┬─ 3 bucket
//!                       │        └─ 4 object ── 5 size
//!                       └─ 6 total
//! ```
//!
//! One pass over the text, guided by the tree, writes each mentioned field's byte range into its
//! slot; all else is skipped and nothing is built. A slot is a number, so a rule finds its field
//! without a look at its name. Where an array stands between two fields, its elements get frames of
//! their own, which hold the slots of the fields under it.
//!
//! A key with dots stands for nesting, in rules as in events: `a.b` in a rule finds `{"a": {"b":
//! 1}}` and `{"a.b": 1}`, both of them where both are there. So names in the tree have no dots. A
//! JSONPath query that names a key with dots (`$.data['a.b']`) is entered as if it were nested, by
//! which the index finds it, and then read from the text.

mod slots;

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

pub(crate) use slots::{Found, Frame, Kind, Slots};

/// The number of a field in its tree.
pub(crate) type FieldId = u32;

/// The root of every tree: the whole document.
pub(crate) const ROOT: FieldId = 0;

/// Collects paths; [`FieldsBuilder::finish`] numbers them.
pub(crate) struct FieldsBuilder {
    /// Parent's children by name; the first one is the root.
    nodes: Vec<HashMap<Box<str>, FieldId>>,
    /// Paths whose values are looked for once in each document.
    paths: HashMap<Box<str>, usize>,
}

impl FieldsBuilder {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![HashMap::new()],
            paths: HashMap::new(),
        }
    }

    /// The number of a path, the same wherever it is mentioned.
    pub(crate) fn path(&mut self, text: &str) -> usize {
        let next = self.paths.len();
        *self.paths.entry(text.into()).or_insert(next)
    }

    /// The provisional number of a field under another one, however many steps down its name spells
    /// with dots.
    pub(crate) fn dotted(&mut self, parent: FieldId, name: &str) -> FieldId {
        name.split('.')
            .fold(parent, |parent, step| self.field(parent, step))
    }

    /// The provisional number of a field right under another one. The name has no dots.
    pub(crate) fn field(&mut self, parent: FieldId, name: &str) -> FieldId {
        let next = self.nodes.len() as FieldId;
        let Some(children) = self.nodes.get_mut(parent as usize) else {
            return parent;
        };
        if let Some(known) = children.get(name) {
            return *known;
        }
        children.insert(name.into(), next);
        self.nodes.push(HashMap::new());
        next
    }

    /// The tree, and the final number of each provisional one.
    pub(crate) fn finish(mut self) -> (Fields, Vec<FieldId>) {
        let mut fields = Fields {
            nodes: Vec::with_capacity(self.nodes.len()),
        };
        let mut renumbered = vec![ROOT; self.nodes.len()];
        self.number(ROOT, &mut fields, &mut renumbered);
        (fields, renumbered)
    }

    fn number(
        &mut self,
        provisional: FieldId,
        fields: &mut Fields,
        renumbered: &mut [FieldId],
    ) -> FieldId {
        let id = fields.nodes.len() as FieldId;
        if let Some(slot) = renumbered.get_mut(provisional as usize) {
            *slot = id;
        }
        fields.nodes.push(Node {
            end: id + 1,
            ..Node::default()
        });
        let mut names: Vec<_> = self
            .nodes
            .get_mut(provisional as usize)
            .map(std::mem::take)
            .unwrap_or_default()
            .into_iter()
            .collect();
        names.sort_unstable();
        let lengths = names
            .iter()
            .fold(0_u64, |bits, (name, _)| bits | 1 << (name.len() % 64));
        let children: Vec<_> = names
            .into_iter()
            .map(|(name, child)| (name, self.number(child, fields, renumbered)))
            .collect();
        let mut marks: Vec<_> = children
            .iter()
            .map(|(name, _)| Mark::new(name.as_bytes()))
            .collect();
        let mut places = HashMap::default();
        if marks.len() > MARKS_MAX {
            places.extend(
                marks
                    .drain(..)
                    .enumerate()
                    .map(|(place, mark)| (mark, place)),
            );
        }
        let end = fields.nodes.len() as FieldId;
        let above_others = children
            .iter()
            .filter(|(_, child)| fields.has_children(*child));
        let nested = above_others.fold(0, |bits, (name, _)| {
            bits | first_bit(name.bytes().next().unwrap_or(b'.'))
        });
        if let Some(node) = fields.nodes.get_mut(id as usize) {
            *node = Node {
                children,
                marks,
                places,
                lengths,
                nested,
                end,
            };
        }
        id
    }
}

/// The tree of mentioned fields.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// By name, sorted.
    children: Vec<(Box<str>, FieldId)>,
    /// What tells the children's names apart, in their order, where they are few.
    marks: Vec<Mark>,
    /// The place of each mark where there are more than [`MARKS_MAX`].
    places: HashMap<Mark, usize, RandomState>,
    /// Bit n is set where a child's name has n (modulo 64) bytes: most members of an event are told
    /// apart by this alone.
    lengths: u64,
    /// The [`first_bit`] of each child with others below it: a key with dots leads to those alone.
    /// Most members of an event are known by this to lead nowhere, without a look for dots in them.
    /// A name without characters is followed by a dot.
    nested: u64,
    /// One past the last field under this one.
    end: FieldId,
}

impl Node {
    /// Whether a key may lead to a field below, by its length and its first byte: most do not.
    #[inline(always)]
    fn may_know(&self, name: &[u8]) -> bool {
        let is_nested = || {
            let first = name.first();
            first.is_some_and(|byte| self.nested & first_bit(*byte) != 0)
        };
        self.lengths & 1 << (name.len() % 64) != 0 || self.nested != 0 && is_nested()
    }
}

/// The bit of a name's first byte, which it shares with a few others.
fn first_bit(byte: u8) -> u64 {
    1 << (byte % 64)
}

/// Up to so many children are looked through one by one, mark by mark.
const MARKS_MAX: usize = 16;

/// A name's length, its first eight bytes and its last eight, which are all of it up to sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark {
    length: usize,
    head: u64,
    tail: u64,
}

impl Mark {
    fn new(name: &[u8]) -> Self {
        let (head, tail) = match (
            name.first_chunk(),
            name.last_chunk(),
            name.first_chunk(),
            name.last_chunk(),
        ) {
            (Some(head), Some(tail), ..) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
            (_, _, Some(head), Some(tail)) => (
                u32::from_le_bytes(*head).into(),
                u32::from_le_bytes(*tail).into(),
            ),
            _ => (
                name.iter()
                    .fold(0, |head, byte| head << 8 | u64::from(*byte)),
                0,
            ),
        };
        Self {
            length: name.len(),
            head,
            tail,
        }
    }
}

impl Fields {
    fn node(&self, id: FieldId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    /// How many slots a frame for what lies under a field takes, the field's own included.
    fn span(&self, id: FieldId) -> usize {
        self.node(id).map_or(0, |node| (node.end - id) as usize)
    }

    /// How many fields there are, the root included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The fields under a field, of any depth.
    pub(crate) fn below(&self, id: FieldId) -> Range<FieldId> {
        self.node(id).map_or(0..0, |node| id + 1..node.end)
    }

    /// The next field on the way from one field down to another.
    fn toward(&self, at: FieldId, goal: FieldId) -> Option<FieldId> {
        // Children are sorted by name and numbered in that order: the last one not past the goal
        // leads to it.
        let children = self.children(at);
        let last = children
            .partition_point(|(_, id)| *id <= goal)
            .checked_sub(1)?;
        children.get(last).map(|(_, id)| *id)
    }

    /// The fields from one right under the root to this one.
    pub(crate) fn way(&self, field: FieldId) -> Box<[FieldId]> {
        std::iter::successors(self.toward(ROOT, field), |at| self.toward(*at, field)).collect()
    }

    /// The fields right under a field, by name.
    pub(crate) fn children(&self, id: FieldId) -> &[(Box<str>, FieldId)] {
        self.node(id).map_or(&[], |node| &node.children)
    }

    /// The place of an attribute of events among the fields under the root; none of what lies in
    /// the data.
    pub(crate) fn attribute(&self, field: FieldId) -> Option<usize> {
        let children = self.children(ROOT);
        let at = children.binary_search_by_key(&field, |(_, id)| *id).ok()?;
        children
            .get(at)
            .is_some_and(|(name, _)| &**name != "data")
            .then_some(at)
    }

    fn has_children(&self, id: FieldId) -> bool {
        self.node(id).is_some_and(|node| !node.children.is_empty())
    }

    #[inline]
    pub(crate) fn child(&self, parent: FieldId, name: &[u8]) -> Option<FieldId> {
        let node = self.node(parent)?;
        if node.lengths & 1 << (name.len() % 64) == 0 {
            return None;
        }
        let mark = Mark::new(name);
        let at = match node.places.is_empty() {
            true => node.marks.iter().position(|other| *other == mark)?,
            false => *node.places.get(&mark)?,
        };
        let found = match node.children.get(at) {
            Some((key, _)) if name.len() <= 16 || key.as_bytes() == name => at,
            // Longer names that begin and end the same are rare.
            _ => node
                .children
                .binary_search_by(|(key, _)| key.as_bytes().cmp(name))
                .ok()?,
        };
        node.children.get(found).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests;
