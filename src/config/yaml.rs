//! A YAML document as a tree that knows where everything stands.
//!
//! YAML 1.2, narrowed to what cannot be misread: only `true` and `false` are booleans (`no`, `y`
//! and `on` are text), a key stands once, there is one document, and there are no tags and no merge
//! keys. Anchors and aliases work, within a bound on what they expand to. A number that is not
//! spelt as JSON spells it is kept as [`Value::Odd`], for the reader to refuse where it is looked
//! at.

mod build;
mod scalar;
#[cfg(test)]
mod tests;
mod unreadable;

pub use build::read;

use std::hash::{Hash, Hasher};

use pointsman_schemas::Segment;

/// The largest file that is read. Ten thousand rules take about three of these sixteen.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The deepest nesting that is read.
pub const DEPTH_MAX: usize = 128;

/// How much memory the copies that anchors and aliases make of a file's values may take, in bytes.
/// Values that hold one another a hundred levels deep, each with an anchor, would otherwise be
/// copied a hundred times.
pub const COPIED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where in a file's text something stands, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands. Of a value that came by an alias: where the anchor's value stands.
    pub span: Span,
}

/// What a YAML node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number in JSON's spelling that 64 bits can hold.
    Number(serde_json::Number),
    /// Something that many would read as a number and JSON would not: why.
    Odd(OddNumber),
    /// A text.
    Text(String, Style),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file; no key stands twice.
    Map(Vec<Entry>),
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bare.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// As a block behind `|` or `>`.
    Block,
}

/// Why something is not taken for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddNumber {
    /// JSON spells numbers in another way: `0x10`, `1_000`, `.5`, `+1`, `1.`, `010`.
    Spelling,
    /// 64 bits do not hold it.
    Range,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The entries of a mapping; none of anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value {
            entries
        } else {
            &[]
        }
    }

    /// The entry of a mapping with this key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The text, where the node is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text, _) = &self.value {
            Some(text)
        } else {
            None
        }
    }

    /// A number that differs where what is written differs, wherever it stands. It holds within one
    /// process.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.hash_into(&mut hasher);
        hasher.finish()
    }

    fn hash_into(&self, hasher: &mut impl Hasher) {
        std::mem::discriminant(&self.value).hash(hasher);
        match &self.value {
            Value::Null | Value::Odd(_) => {}
            Value::Boolean(value) => value.hash(hasher),
            Value::Number(number) => number.hash(hasher),
            Value::Text(text, _) => text.hash(hasher),
            Value::List(items) => {
                items.len().hash(hasher);
                items.iter().for_each(|item| item.hash_into(hasher));
            }
            Value::Map(entries) => {
                entries.len().hash(hasher);
                for entry in entries {
                    entry.key.hash(hasher);
                    entry.value.hash_into(hasher);
                }
            }
        }
    }

    /// Follows a path as far as the tree goes: the entry last entered by key, and the value arrived
    /// at.
    #[must_use]
    pub fn follow<'t>(&'t self, path: &[Segment]) -> (Option<&'t Entry>, &'t Node) {
        let (mut entry, mut node) = (None, self);
        for segment in path {
            match (segment, &node.value) {
                (Segment::Key(key), Value::Map(entries)) => {
                    match entries.iter().find(|entry| entry.key == *key) {
                        Some(found) => (entry, node) = (Some(found), &found.value),
                        None => break,
                    }
                }
                (Segment::Index(index), Value::List(items)) => match items.get(*index) {
                    Some(item) => (entry, node) = (None, item),
                    None => break,
                },
                // One item is often allowed to stand for a list of one.
                (Segment::Index(0), _) => {}
                _ => break,
            }
        }
        (entry, node)
    }

    /// Calls `visit` with every key and every value below this node.
    pub fn walk<'t>(&'t self, visit: &mut impl FnMut(Option<&'t Entry>, &'t Node)) {
        match &self.value {
            Value::List(items) => {
                for item in items {
                    visit(None, item);
                    item.walk(visit);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    visit(Some(entry), &entry.value);
                    entry.value.walk(visit);
                }
            }
            _ => {}
        }
    }
}
