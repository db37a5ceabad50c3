//! Which of many texts a value begins with.
//!
//! The texts lie sorted, and each one knows the longest other one that it begins with itself:
//!
//! ```text
//!   a ◀── abc ◀── abcd
//!     ◀── abx               the value "abcz" sorts behind "abcd", which it shares "abc" with: abc and a are hit
//!   b
//! ```
//!
//! What a value begins with sorts before it, and whatever sorts between the two begins the same. So
//! one binary search finds the only text from which all that fit can be reached. It looks at eight
//! bytes at a time, behind what all of the texts begin with. Suffixes are prefixes of the reversed
//! value, and an address range is a prefix of bits.

use crate::hits::{Hits, List, Lists};

#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// All texts, one behind the other.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Of each text the eight bytes behind what all have in common.
    heads: Vec<u64>,
    common: usize,
    longest: usize,
}

#[derive(Debug)]
struct Entry {
    start: u32,
    length: u32,
    /// The longest other text that this one begins with.
    parent: Option<u32>,
    list: List,
}

impl Prefixes {
    /// Of texts that are sorted and differ.
    pub(super) fn new(texts: impl IntoIterator<Item = (impl AsRef<[u8]>, List)>) -> Self {
        let mut prefixes = Self::default();
        let mut open: Vec<u32> = Vec::new();
        for (text, list) in texts {
            let text = text.as_ref();
            while let Some(last) = open.last()
                && !prefixes
                    .entries
                    .get(*last as usize)
                    .is_some_and(|entry| text.starts_with(prefixes.text(entry)))
            {
                open.pop();
            }
            let entry = Entry {
                start: prefixes.bytes.len() as u32,
                length: text.len() as u32,
                parent: open.last().copied(),
                list,
            };
            open.push(prefixes.entries.len() as u32);
            prefixes.bytes.extend_from_slice(text);
            prefixes.entries.push(entry);
            prefixes.longest = prefixes.longest.max(text.len());
        }
        // Sorted as they are, what the first and the last one share is shared by all.
        if let (Some(first), Some(last)) = (prefixes.entries.first(), prefixes.entries.last()) {
            prefixes.common = shared(prefixes.text(first), prefixes.text(last));
        }
        prefixes.heads = prefixes
            .entries
            .iter()
            .map(|entry| {
                head(
                    prefixes
                        .text(entry)
                        .get(prefixes.common..)
                        .unwrap_or_default(),
                )
            })
            .collect();
        prefixes.bytes.shrink_to_fit();
        prefixes.entries.shrink_to_fit();
        prefixes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How long the longest text is: no more of a value is looked at.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    fn text(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        self.bytes
            .get(start..start + entry.length as usize)
            .unwrap_or_default()
    }

    /// Hits all that the value begins with.
    pub(super) fn hit(&self, value: &[u8], lists: &Lists, hits: &mut Hits) {
        let Some(first) = self.entries.first() else {
            return;
        };
        let Some(rest) = self
            .text(first)
            .get(..self.common)
            .and_then(|common| value.strip_prefix(common))
        else {
            return;
        };
        let head = head(rest);
        let below = self.heads.partition_point(|other| *other < head);
        let alike = self
            .heads
            .get(below..)
            .unwrap_or_default()
            .partition_point(|other| *other == head);
        let alike = self
            .entries
            .get(below..below + alike)
            .unwrap_or_default()
            .partition_point(|entry| self.text(entry) <= value);
        let mut at = (below + alike).checked_sub(1);
        let Some(last) = at.and_then(|at| self.entries.get(at)) else {
            return;
        };
        let shared = shared(self.text(last), value);
        while let Some(entry) = at.and_then(|at| self.entries.get(at)) {
            if entry.length as usize <= shared {
                hits.hit(lists, entry.list);
            }
            at = entry.parent.map(|parent| parent as usize);
        }
    }
}

/// The first eight bytes, in the order in which texts sort.
fn head(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => (0..8).fold(0, |head, at| {
            head << 8 | text.get(at).copied().map_or(0, u64::from)
        }),
    }
}

/// How many bytes two texts begin with alike.
fn shared(left: &[u8], right: &[u8]) -> usize {
    let mut length = 0;
    while let (Some(left), Some(right)) = (
        left.get(length..).and_then(<[u8]>::first_chunk),
        right.get(length..).and_then(<[u8]>::first_chunk),
    ) {
        let differing = u64::from_le_bytes(*left) ^ u64::from_le_bytes(*right);
        if differing != 0 {
            return length + (differing.trailing_zeros() / 8) as usize;
        }
        length += size_of::<u64>();
    }
    let (left, right) = (
        left.get(length..).unwrap_or_default(),
        right.get(length..).unwrap_or_default(),
    );
    length
        + left
            .iter()
            .zip(right)
            .take_while(|(left, right)| left == right)
            .count()
}
