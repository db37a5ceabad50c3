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

use std::ops::Range;

use crate::json::{self, Key, Members};

/// The number of a field in its tree.
pub(crate) type FieldId = u32;

/// The root of every tree: the whole document.
pub(crate) const ROOT: FieldId = 0;

/// Collects paths; [`FieldsBuilder::finish`] numbers them.
pub(crate) struct FieldsBuilder {
    /// Parent's children by name, in order of arrival; the first one is the root.
    nodes: Vec<Vec<(Box<str>, usize)>>,
}

impl FieldsBuilder {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Vec::new()] }
    }

    /// The provisional number of a field under another one.
    pub(crate) fn field(&mut self, parent: FieldId, name: &str) -> FieldId {
        let next = self.nodes.len();
        let Some(children) = self.nodes.get_mut(parent as usize) else { return parent };
        if let Some((_, known)) = children.iter().find(|(key, _)| &**key == name) {
            return *known as FieldId;
        }
        children.push((name.into(), next));
        self.nodes.push(Vec::new());
        next as FieldId
    }

    /// The tree, and the final number of each provisional one.
    pub(crate) fn finish(mut self) -> (Fields, Vec<FieldId>) {
        let mut fields = Fields { nodes: Vec::with_capacity(self.nodes.len()) };
        let mut renumbered = vec![ROOT; self.nodes.len()];
        self.number(0, &mut fields, &mut renumbered);
        (fields, renumbered)
    }

    fn number(&mut self, provisional: usize, fields: &mut Fields, renumbered: &mut [FieldId]) -> FieldId {
        let id = fields.nodes.len() as FieldId;
        if let Some(slot) = renumbered.get_mut(provisional) {
            *slot = id;
        }
        fields.nodes.push(Node { children: Vec::new(), lengths: 0, end: id + 1 });
        let mut names = self.nodes.get_mut(provisional).map(std::mem::take).unwrap_or_default();
        names.sort_unstable();
        let lengths = names.iter().fold(0_u64, |bits, (name, _)| bits | 1 << (name.len() % 64));
        let children: Vec<_> = names.into_iter().map(|(name, child)| (name, self.number(child, fields, renumbered))).collect();
        let end = fields.nodes.len() as FieldId;
        if let Some(node) = fields.nodes.get_mut(id as usize) {
            *node = Node { children, lengths, end };
        }
        id
    }
}

/// The tree of mentioned fields.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    /// By name, sorted.
    children: Vec<(Box<str>, FieldId)>,
    /// Bit n is set where a child's name has n (modulo 64) bytes: most members of an event are told apart by this alone.
    lengths: u64,
    /// One past the last field under this one.
    end: FieldId,
}

impl Fields {
    fn node(&self, id: FieldId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    /// How many slots a frame for what lies under a field takes, the field's own included.
    fn span(&self, id: FieldId) -> usize {
        self.node(id).map_or(0, |node| (node.end - id) as usize)
    }

    fn has_children(&self, id: FieldId) -> bool {
        self.node(id).is_some_and(|node| !node.children.is_empty())
    }

    pub(crate) fn child(&self, parent: FieldId, name: &[u8]) -> Option<FieldId> {
        let node = self.node(parent)?;
        if node.lengths & 1 << (name.len() % 64) == 0 {
            return None;
        }
        let found = node.children.binary_search_by(|(key, _)| key.as_bytes().cmp(name)).ok()?;
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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    /// True where the field was spelt with dots (`{"a.b": 1}`), which patterns take for nesting and JSONPath does not.
    pub(crate) dotted: bool,
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
}

/// The slots of all frames in use, one behind the other. Reused from event to event, so that it seldom allocates.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
}

impl Slots {
    /// Drops all frames.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    /// Opens a frame for a value that stands at a field, and reads it if it is an object. `at` is where the value begins.
    pub(crate) fn open(&mut self, fields: &Fields, field: FieldId, text: &[u8], at: usize) -> Frame {
        let frame = Frame { base: self.slots.len(), origin: field };
        self.slots.resize(frame.base + fields.span(field), Slot::default());
        if self.read(fields, frame, field, text, at, false).is_none() {
            // This is no JSON: nothing of it is found.
            self.reset(fields, frame, field);
        }
        frame
    }

    /// Closes the frame that was opened last.
    pub(crate) fn close(&mut self, frame: Frame) {
        self.slots.truncate(frame.base);
    }

    pub(crate) fn get(&self, frame: Frame, field: FieldId) -> Slot {
        field.checked_sub(frame.origin).and_then(|offset| self.slots.get(frame.base + offset as usize)).copied().unwrap_or_default()
    }

    fn set(&mut self, frame: Frame, field: FieldId, slot: Slot) {
        if let Some(own) = field.checked_sub(frame.origin).and_then(|offset| self.slots.get_mut(frame.base + offset as usize)) {
            *own = slot;
        }
    }

    fn reset(&mut self, fields: &Fields, frame: Frame, field: FieldId) {
        let from = frame.base + (field - frame.origin) as usize;
        if let Some(slots) = self.slots.get_mut(from..from + fields.span(field)) {
            slots.fill(Slot::default());
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
                self.reset(fields, frame, field);
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
        self.set(frame, field, Slot { kind, dotted, start: at, end });
        Some(end)
    }

    fn members(&mut self, fields: &Fields, frame: Frame, parent: FieldId, text: &[u8], at: usize) -> Option<usize> {
        let mut members = Members::new(text, at)?;
        while let Some(key) = members.next_key()? {
            match Self::known(fields, parent, key) {
                Some((child, dotted)) => {
                    let end = self.read(fields, frame, child, text, members.at(), dotted)?;
                    if dotted {
                        self.bridge(fields, frame, parent, child, members.at()..end);
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
    fn known(fields: &Fields, parent: FieldId, key: Key<'_>) -> Option<(FieldId, bool)> {
        let unescaped;
        let name = if key.escaped {
            unescaped = key.to_vec();
            &unescaped[..]
        } else {
            key.raw
        };
        if let Some(child) = fields.child(parent, name) {
            return Some((child, false));
        }
        memchr::memchr(b'.', name)?;
        let field = name.split(|byte| *byte == b'.').try_fold(parent, |field, step| fields.child(field, step))?;
        Some((field, true))
    }

    /// Marks what a dotted key jumped over as objects, so that patterns go down through it.
    fn bridge(&mut self, fields: &Fields, frame: Frame, parent: FieldId, child: FieldId, range: Range<usize>) {
        let mut at = parent;
        while let Some(next) =
            fields.node(at).and_then(|node| node.children.iter().rev().map(|(_, id)| *id).find(|id| *id <= child)).filter(|id| *id < child)
        {
            // Children are sorted by name and numbered in that order: the last one not past the goal leads to it.
            if self.get(frame, next).kind == Kind::Nothing {
                self.set(frame, next, Slot { kind: Kind::Object, dotted: true, start: range.start, end: range.end });
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
            (r#"{"a.b.c":7}"#, [some("7"), some("7"), some("7"), None, None]),
            (r#"{"a":{"b":{"c":1}},"a.b.c":7}"#, [some(r#"{"b":{"c":1}}"#), some(r#"{"c":1}"#), some("1"), None, None]),
            (r#"{"a":{"b":{"c":1}"#, [None, None, None, None, None]),
            ("[]", [None, None, None, None, None]),
            ("", [None, None, None, None, None]),
        ] {
            assert_eq!(find(paths, text), expect, "{text}");
        }
    }
}
