//! Which of many ranges a number lies in.
//!
//! The bounds of all ranges cut the numbers into places: each bound is one, and so is each gap
//! beside it. Over the places stands a segment tree (Bentley, 1977), in which a range lies at the
//! few nodes that make it up, at most two for each level:
//!
//! ```text
//!   bounds 0 and 10, range 0 <= n < 10           ┌─────── 1 ───────┐
//!                                            ┌── 2 ──┐         ┌── 3
//!                                          ...      ...       ...
//!   places                    n < 0   n = 0   0 < n < 10   n = 10   n > 10
//! ```
//!
//! A number's place is found by a binary search, and what stands from there up to the root is hit.
//! So n ranges take at most n · 2 log n entries, however they overlap.

use crate::hits::{Hits, List, Lists};
use crate::number::Number;
use crate::pattern::Range;

#[derive(Debug, Default)]
pub(super) struct Ranges {
    bounds: Vec<Number>,
    /// The list at each node; the children of node n are 2n and 2n + 1, and the places are the last
    /// nodes.
    nodes: Vec<Option<List>>,
}

impl Ranges {
    pub(super) fn new(ranges: &[(Range, u32)], lists: &mut Lists) -> Self {
        if ranges.is_empty() {
            return Self::default();
        }
        let mut bounds: Vec<_> = ranges
            .iter()
            .flat_map(|(range, _)| [range.from, range.to])
            .flatten()
            .map(|(number, _)| number)
            .collect();
        bounds.sort_unstable();
        bounds.dedup();
        let places = 2 * bounds.len() + 1;
        let mut entries = Vec::new();
        for (range, rule) in ranges {
            let taken = range.places(&bounds);
            let (mut from, mut to) = (taken.start + places, taken.end + places);
            while from < to {
                if from % 2 == 1 {
                    entries.push((from, *rule));
                    from += 1;
                }
                if to % 2 == 1 {
                    to -= 1;
                    entries.push((to, *rule));
                }
                (from, to) = (from / 2, to / 2);
            }
        }
        let mut nodes = vec![None; 2 * places];
        for (node, list) in lists.group(entries) {
            if let Some(slot) = nodes.get_mut(node) {
                *slot = Some(list);
            }
        }
        Self { bounds, nodes }
    }

    /// Hits all ranges that the number lies in.
    pub(super) fn hit(&self, number: Number, lists: &Lists, hits: &mut Hits) {
        if self.nodes.is_empty() {
            return;
        }
        let place = match self.bounds.binary_search(&number) {
            Ok(at) => 2 * at + 1,
            Err(at) => 2 * at,
        };
        let mut node = place + self.nodes.len() / 2;
        while node > 0 {
            if let Some(list) = self.nodes.get(node).copied().flatten() {
                hits.hit(lists, list);
            }
            node /= 2;
        }
    }
}
