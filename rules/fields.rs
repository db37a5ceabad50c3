//! Which fields a set of rules mentions, and where in an event's text they stand.
//!
//! All paths that patterns and conditions mention are one tree, numbered so that the fields under a field follow it:
//!
//! ```text
//!   mentioned: data.s3.bucket, data.s3.object.size, data.total
//!
//!     0 root ── 1 data ─┬─ 2 s3 ─┬─ 3 bucket
//!                       │        └─ 4 object ── 5 size
//!                       └─ 6 total
//! ```
//!
//! One pass over the text, guided by the tree, writes each mentioned field's byte range into its slot; all else is skipped and nothing
//! is built. A slot is a number, so a rule finds its field without a look at its name. Where an array stands between two fields, its
//! elements get frames of their own, which hold the slots of the fields under it.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::json::{self, Key, Members};

/// The number of a field in its tree.
pub(crate) type FieldId = u32;

/// The root of every tree: the whole document.
pub(crate) const ROOT: FieldId = 0;

/// Collects paths; [`FieldsBuilder::finish`] numbers them.
pub(crate) struct FieldsBuilder {
    /// Parent's children by name; the first one is the root.
    nodes: Vec<HashMap<Box<str>, FieldId>>,
}

impl FieldsBuilder {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![HashMap::new()] }
    }

    /// The provisional number of a field under another one.
    pub(crate) fn field(&mut self, parent: FieldId, name: &str) -> FieldId {
        let next = self.nodes.len() as FieldId;
        let Some(children) = self.nodes.get_mut(parent as usize) else { return parent };
        if let Some(known) = children.get(name) {
            return *known;
        }
        children.insert(name.into(), next);
        self.nodes.push(HashMap::new());
        next
    }

    /// The tree, and the final number of each provisional one.
    pub(crate) fn finish(mut self) -> (Fields, Vec<FieldId>) {
        let mut fields = Fields { nodes: Vec::with_capacity(self.nodes.len()) };
        let mut renumbered = vec![ROOT; self.nodes.len()];
        self.number(ROOT, &mut fields, &mut renumbered);
        (fields, renumbered)
    }

    fn number(&mut self, provisional: FieldId, fields: &mut Fields, renumbered: &mut [FieldId]) -> FieldId {
        let id = fields.nodes.len() as FieldId;
        if let Some(slot) = renumbered.get_mut(provisional as usize) {
            *slot = id;
        }
        fields.nodes.push(Node { end: id + 1, ..Node::default() });
        let mut names: Vec<_> = self.nodes.get_mut(provisional as usize).map(std::mem::take).unwrap_or_default().into_iter().collect();
        names.sort_unstable();
        let lengths = names.iter().fold(0_u64, |bits, (name, _)| bits | 1 << (name.len() % 64));
        let children: Vec<_> = names.into_iter().map(|(name, child)| (name, self.number(child, fields, renumbered))).collect();
        let mut marks: Vec<_> = children.iter().map(|(name, _)| Mark::new(name.as_bytes())).collect();
        let mut places = HashMap::default();
        if marks.len() > MARKS_MAX {
            places.extend(marks.drain(..).enumerate().map(|(place, mark)| (mark, place)));
        }
        let end = fields.nodes.len() as FieldId;
        let nested = (end - id) as usize > 1 + children.len();
        if let Some(node) = fields.nodes.get_mut(id as usize) {
            *node = Node { children, marks, places, lengths, nested, end };
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
    /// Bit n is set where a child's name has n (modulo 64) bytes: most members of an event are told apart by this alone.
    lengths: u64,
    /// Whether there is more below the children, to which a key with dots could lead.
    nested: bool,
    /// One past the last field under this one.
    end: FieldId,
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
        let (head, tail) = match (name.first_chunk(), name.last_chunk(), name.first_chunk(), name.last_chunk()) {
            (Some(head), Some(tail), ..) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
            (_, _, Some(head), Some(tail)) => (u32::from_le_bytes(*head).into(), u32::from_le_bytes(*tail).into()),
            _ => (name.iter().fold(0, |head, byte| head << 8 | u64::from(*byte)), 0),
        };
        Self { length: name.len(), head, tail }
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
        // Children are sorted by name and numbered in that order: the last one not past the goal leads to it.
        let children = self.children(at);
        let last = children.partition_point(|(_, id)| *id <= goal).checked_sub(1)?;
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

    fn has_children(&self, id: FieldId) -> bool {
        self.node(id).is_some_and(|node| !node.children.is_empty())
    }

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
            _ => node.children.binary_search_by(|(key, _)| key.as_bytes().cmp(name)).ok()?,
        };
        node.children.get(found).map(|(_, id)| *id)
    }
}

/// What stands at a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Nothing,
    Scalar,
    Array,
    Object,
}

/// Where in the text a field's value stands.
///
/// What a key with dots jumped over is an object without text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    /// True where the field was spelt with dots (`{"a.b": 1}`), which patterns take for nesting and JSONPath does not.
    pub(crate) dotted: bool,
    /// Of the frame that wrote it; to all others the slot is empty.
    stamp: u64,
    start: usize,
    end: usize,
}

impl Slot {
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// The slots of one object's fields: of the document's, or of an array element's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    base: usize,
    origin: FieldId,
    stamp: u64,
    /// From where on what was found in it is listed.
    found: usize,
}

/// The slots of all frames in use, one behind the other. Reused from event to event, so that it seldom allocates.
///
/// A frame has a slot for every field under its own, and most of them stay empty: so slots are not cleared for a new frame but carry
/// the stamp of the frame that wrote them, and the fields that were written are listed.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// How many of them belong to open frames.
    top: usize,
    /// Of the frame that was opened last.
    stamp: u64,
    found: Vec<FieldId>,
    /// Room for a key with escapes.
    key: Vec<u8>,
}

impl Slots {
    /// Drops all frames.
    pub(crate) fn clear(&mut self) {
        self.top = 0;
        self.found.clear();
    }

    /// Opens a frame for a value that stands at a field, and reads it if it is an object. `at` is where the value begins.
    pub(crate) fn open(&mut self, fields: &Fields, field: FieldId, text: &[u8], at: usize) -> Frame {
        self.stamp += 1;
        let mut frame = Frame { base: self.top, origin: field, stamp: self.stamp, found: self.found.len() };
        self.top += fields.span(field);
        if self.slots.len() < self.top {
            self.slots.resize(self.top, Slot::default());
        }
        if self.read(fields, frame, field, text, at, false).is_none() {
            // This is no JSON: nothing of it is found.
            self.found.truncate(frame.found);
            self.stamp += 1;
            frame.stamp = self.stamp;
        }
        frame
    }

    /// Closes the frame that was opened last.
    pub(crate) fn close(&mut self, frame: Frame) {
        self.top = frame.base;
        self.found.truncate(frame.found);
    }

    pub(crate) fn get(&self, frame: Frame, field: FieldId) -> Slot {
        let slot = field.checked_sub(frame.origin).and_then(|offset| self.slots.get(frame.base + offset as usize));
        slot.copied().filter(|slot| slot.stamp == frame.stamp).unwrap_or_default()
    }

    /// The field that was found at this place among those of the frame that was opened last; each is listed once.
    pub(crate) fn found(&self, frame: Frame, place: usize) -> Option<FieldId> {
        self.found.get(frame.found + place).copied()
    }

    fn set(&mut self, frame: Frame, field: FieldId, slot: Slot) {
        if let Some(own) = field.checked_sub(frame.origin).and_then(|offset| self.slots.get_mut(frame.base + offset as usize)) {
            if own.stamp != frame.stamp {
                self.found.push(field);
            }
            *own = Slot { stamp: frame.stamp, ..slot };
        }
    }

    /// Empties what the value in a slot has written, by reading it again: the cost is that of its text, not of all fields under it.
    fn forget(&mut self, fields: &Fields, frame: Frame, field: FieldId, text: &[u8]) {
        let slot = self.get(frame, field);
        if slot.kind == Kind::Nothing {
            return;
        }
        self.set(frame, field, Slot::default());
        if slot.kind == Kind::Object && slot.start < slot.end && fields.has_children(field) {
            let mut members = Members::new(text, slot.start);
            while let Some(members) = &mut members
                && let Some(Some(key)) = members.next_key()
            {
                if let Some((child, _)) = Self::known(fields, field, key, &mut self.key) {
                    self.forget(fields, frame, child, text);
                }
                if members.skip().is_none() {
                    break;
                }
            }
        }
    }

    /// Reads the value at `at` into its slot and those under it; where it ends.
    ///
    /// The recursion is as deep as the tree of fields, which is bounded where patterns are compiled.
    fn read(&mut self, fields: &Fields, frame: Frame, field: FieldId, text: &[u8], at: usize, dotted: bool) -> Option<usize> {
        let before = self.get(frame, field);
        if before.kind != Kind::Nothing {
            // A duplicate key: the last one counts. A dotted spelling never hides a nested one, but stands beside it.
            if dotted {
                return json::value_end(text, at);
            }
            if !before.dotted {
                self.forget(fields, frame, field, text);
            }
        }
        let kind = match text.get(at)? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            _ => Kind::Scalar,
        };
        let end = if kind == Kind::Object && fields.has_children(field) {
            self.members(fields, frame, field, text, at)?
        } else {
            json::value_end(text, at)?
        };
        self.set(frame, field, Slot { kind, dotted, stamp: 0, start: at, end });
        Some(end)
    }

    fn members(&mut self, fields: &Fields, frame: Frame, parent: FieldId, text: &[u8], at: usize) -> Option<usize> {
        let mut members = Members::new(text, at)?;
        while let Some(key) = members.next_key()? {
            match Self::known(fields, parent, key, &mut self.key) {
                Some((child, dotted)) => {
                    let end = self.read(fields, frame, child, text, members.at(), dotted)?;
                    if dotted {
                        self.bridge(fields, frame, parent, child);
                    }
                    members.resume(end);
                }
                None => {
                    members.skip()?;
                }
            }
        }
        Some(members.at())
    }

    /// The field that a key means under a parent, and whether it took dots to get there.
    fn known(fields: &Fields, parent: FieldId, key: Key<'_>, buffer: &mut Vec<u8>) -> Option<(FieldId, bool)> {
        let name = if key.escaped {
            buffer.clear();
            json::unescape(key.raw, buffer);
            &buffer[..]
        } else {
            key.raw
        };
        if let Some(child) = fields.child(parent, name) {
            return Some((child, false));
        }
        if !fields.node(parent)?.nested {
            return None;
        }
        memchr::memchr(b'.', name)?;
        let field = name.split(|byte| *byte == b'.').try_fold(parent, |field, step| fields.child(field, step))?;
        Some((field, true))
    }

    /// Marks what a dotted key jumped over as objects, so that patterns go down through it.
    fn bridge(&mut self, fields: &Fields, frame: Frame, parent: FieldId, child: FieldId) {
        let mut at = parent;
        while let Some(next) = fields.toward(at, child).filter(|next| *next < child) {
            if self.get(frame, next).kind == Kind::Nothing {
                self.set(frame, next, Slot { kind: Kind::Object, dotted: true, ..Slot::default() });
            }
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(paths: &[&[&str]], text: &str) -> Vec<Option<String>> {
        let mut builder = FieldsBuilder::new();
        let ids: Vec<_> = paths.iter().map(|path| path.iter().fold(ROOT, |parent, name| builder.field(parent, name))).collect();
        let (fields, renumbered) = builder.finish();
        let mut slots = Slots::default();
        let frame = slots.open(&fields, ROOT, text.as_bytes(), 0);
        ids.iter()
            .map(|id| {
                let slot = slots.get(frame, renumbered[*id as usize]);
                (slot.kind != Kind::Nothing).then(|| text[slot.range()].to_owned())
            })
            .collect()
    }

    #[test]
    fn one_pass_finds_every_mentioned_field() {
        let paths: &[&[&str]] = &[&["a"], &["a", "b"], &["a", "b", "c"], &["z"], &["a", "x"]];
        let some = |text: &str| Some(text.to_owned());
        for (text, expect) in [
            (
                r#"{"q":[{}],"a":{"b":{"c":1},"x":"]"},"z":null}"#,
                [some(r#"{"b":{"c":1},"x":"]"}"#), some(r#"{"c":1}"#), some("1"), some("null"), some("\"]\"")],
            ),
            (r#"{"a":{"b":{"c":1}},"a":{"x":2}}"#, [some(r#"{"x":2}"#), None, None, None, some("2")]),
            (r#"{"a":{"x":2},"a":3}"#, [some("3"), None, None, None, None]),
            (r#"{"a":[{"b":1}]}"#, [some(r#"[{"b":1}]"#), None, None, None, None]),
            (r#"{"a.b.c":7}"#, [some(""), some(""), some("7"), None, None]),
            (r#"{"a":{"b":{"c":1},"x":1},"a":{"b":{}}}"#, [some(r#"{"b":{}}"#), some("{}"), None, None, None]),
            (r#"{"a.b.c":7,"a":{"x":1},"a":{}}"#, [some("{}"), some(""), some("7"), None, None]),
            (r#"{"a":{"b\u002ec":7},"a":{"x":1}}"#, [some(r#"{"x":1}"#), some(""), None, None, some("1")]),
            (r#"{"a":{"b":{"c":1}},"a.b.c":7}"#, [some(r#"{"b":{"c":1}}"#), some(r#"{"c":1}"#), some("1"), None, None]),
            (r#"{"a":{"b":{"c":1}"#, [None, None, None, None, None]),
            (r#"{"a.b":1,"a.b.x":2,"z.b":3}"#, [some(""), some("1"), None, None, None]),
            ("[]", [None, None, None, None, None]),
            ("", [None, None, None, None, None]),
        ] {
            assert_eq!(find(paths, text), expect, "{text}");
        }
    }

    #[test]
    fn names_are_told_apart_whatever_their_length() {
        let lengths = [1, 3, 4, 7, 8, 9, 16, 17, 24, 40];
        // A few children, which are told apart by their marks, and many.
        for count in [lengths.len(), 100] {
            let names: Vec<_> = lengths
                .iter()
                .cycle()
                .take(count)
                .enumerate()
                .map(|(index, length)| format!("{index:02}{}", "x".repeat(*length)))
                .collect();
            let twins = ["begins alike, 1, ends alike", "begins alike, 2, ends alike"].map(ToOwned::to_owned);
            let names: Vec<_> = names.into_iter().chain(twins).collect();
            let mut builder = FieldsBuilder::new();
            let ids: Vec<_> = names.iter().map(|name| builder.field(ROOT, name)).collect();
            let (fields, renumbered) = builder.finish();
            for (name, id) in names.iter().zip(ids) {
                assert_eq!(fields.child(ROOT, name.as_bytes()), Some(renumbered[id as usize]), "{name}");
                assert_eq!(fields.child(ROOT, format!("{name}y").as_bytes()), None);
                assert_eq!(fields.child(ROOT, name.replacen('x', "y", 1).replace(',', ";").as_bytes()), None);
            }
            assert_eq!(fields.child(ROOT, b"begins alike, 3, ends alike"), None);
        }
    }
}
