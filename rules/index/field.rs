//! The values that rules ask of one field.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::access::{Part, Test};
use super::prefixes::Prefixes;
use super::ranges::Ranges;
use crate::document::Document;
use crate::hits::{Hits, List, Lists};
use crate::json::Scalar;
use crate::pattern::{self, Leaf};
use crate::scratch::Room;
use crate::workings::Workings;

/// What is asked of one field, and by which rules.
#[derive(Debug)]
pub(super) struct Values {
    texts: Texts,
    /// Of texts in lower case.
    folded: Texts,
    truth: [Option<List>; 2],
    null: Option<List>,
    numbers: Ranges,
    networks: Prefixes,
    /// Leaf lists that are held against each scalar; equal ones are one.
    leaves: Vec<(Arc<Leaf>, List)>,
}

/// Texts by what of them is asked for.
#[derive(Debug)]
struct Texts {
    whole: HashMap<Box<[u8]>, List, RandomState>,
    beginnings: Prefixes,
    /// Reversed.
    ends: Prefixes,
    anywhere: Option<Anywhere>,
}

/// Texts that may stand anywhere in a value.
#[derive(Debug)]
struct Anywhere {
    /// None where they are too many for it; then any value counts as a hit.
    searcher: Option<AhoCorasick>,
    /// By the searcher's numbers.
    found: Vec<List>,
}

/// Texts of so many bytes together are searched for by a DFA, which is the fastest and takes up to
/// a KiB for each byte; more of them by what the crate thinks best, which takes a few bytes for
/// each.
const DFA_BYTES_MAX: usize = 4 * 1024;

/// The bits of an address behind a mark of its family.
const ADDRESS_LENGTH: usize = 129;

impl Values {
    pub(super) fn new(tests: Vec<(Test<'_>, u32)>, lists: &mut Lists) -> Self {
        let (mut texts, mut folded) = (Vec::new(), Vec::new());
        let (mut truth, mut null, mut numbers, mut networks, mut leaves) =
            ([vec![], vec![]], vec![], vec![], vec![], vec![]);
        for (test, rule) in tests {
            match test {
                Test::Text(part, bytes) => texts.push((part, bytes, rule)),
                Test::Folded(part, bytes) => folded.push((part, bytes, rule)),
                Test::Boolean(false) => truth[0].push(rule),
                Test::Boolean(true) => truth[1].push(rule),
                Test::Null => null.push(rule),
                Test::Number(range) => numbers.push((range, rule)),
                Test::Network(net) => networks.push((network(net), rule)),
                Test::Leaf(leaf) => leaves.push((ByText(leaf), rule)),
            }
        }
        let mut some = |rules: Vec<u32>| (!rules.is_empty()).then(|| lists.add(rules));
        let (truth, null) = (truth.map(&mut some), some(null));
        Self {
            texts: Texts::new(texts, lists),
            folded: Texts::new(folded, lists),
            truth,
            null,
            numbers: Ranges::new(&numbers, lists),
            networks: Prefixes::new(lists.group(networks)),
            leaves: lists
                .group(leaves)
                .into_iter()
                .map(|(leaf, list)| (Arc::clone(leaf.0), list))
                .collect(),
        }
    }

    /// Hits all that a scalar fits.
    pub(super) fn hit(
        &self,
        scalar: Scalar<'_>,
        document: &Document<'_>,
        workings: &mut Workings,
        room: &mut Room,
        lists: &Lists,
        hits: &mut Hits,
    ) {
        match scalar {
            Scalar::Text(text) => {
                self.texts.hit(text, &mut room.reversed, lists, hits);
                if !self.folded.is_empty() && pattern::fold(text, &mut room.folded) {
                    self.folded
                        .hit(room.folded.as_bytes(), &mut room.reversed, lists, hits);
                }
                if !self.networks.is_empty()
                    && let Some(bits) = pattern::address(text).map(bits_of)
                {
                    self.networks
                        .hit(bits.0.get(..bits.1).unwrap_or_default(), lists, hits);
                }
            }
            Scalar::Number(number) => self.numbers.hit(number, lists, hits),
            Scalar::Boolean(value) => self
                .truth
                .get(usize::from(value))
                .copied()
                .flatten()
                .into_iter()
                .for_each(|list| hits.hit(lists, list)),
            Scalar::Null => self.null.into_iter().for_each(|list| hits.hit(lists, list)),
        }
        for (leaf, list) in &self.leaves {
            if !hits.has(*list) && leaf.list.fits(scalar, document, workings) {
                hits.hit(lists, *list);
            }
        }
    }
}

impl Texts {
    fn new(tests: Vec<(Part, &[u8], u32)>, lists: &mut Lists) -> Self {
        let of = |wanted: Part| {
            tests
                .iter()
                .filter(move |(part, ..)| *part == wanted)
                .map(|(_, bytes, rule)| (*bytes, *rule))
        };
        let reversed =
            |(bytes, rule): (&[u8], u32)| (bytes.iter().rev().copied().collect::<Vec<_>>(), rule);
        let whole = lists
            .group(of(Part::Whole).collect())
            .into_iter()
            .map(|(text, list)| (text.into(), list))
            .collect();
        let beginnings = Prefixes::new(lists.group(of(Part::Beginning).collect()));
        let ends = Prefixes::new(lists.group(of(Part::End).map(reversed).collect()));
        let (parts, found): (Vec<_>, Vec<_>) = lists
            .group(of(Part::Anywhere).collect())
            .into_iter()
            .unzip();
        let kind = (parts.iter().map(|part| part.len()).sum::<usize>() <= DFA_BYTES_MAX)
            .then_some(AhoCorasickKind::DFA);
        let searcher = || {
            AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .kind(kind)
                .build(parts)
                .ok()
        };
        let anywhere = (!found.is_empty()).then(|| Anywhere {
            searcher: searcher(),
            found,
        });
        Self {
            whole,
            beginnings,
            ends,
            anywhere,
        }
    }

    fn is_empty(&self) -> bool {
        self.whole.is_empty()
            && self.beginnings.is_empty()
            && self.ends.is_empty()
            && self.anywhere.is_none()
    }

    fn hit(&self, text: &[u8], reversed: &mut Vec<u8>, lists: &Lists, hits: &mut Hits) {
        if !self.whole.is_empty()
            && let Some(list) = self.whole.get(text)
        {
            hits.hit(lists, *list);
        }
        if !self.beginnings.is_empty() {
            self.beginnings.hit(text, lists, hits);
        }
        if !self.ends.is_empty() {
            reversed.clear();
            reversed.extend(text.iter().rev().take(self.ends.longest()));
            self.ends.hit(reversed, lists, hits);
        }
        if let Some(anywhere) = &self.anywhere {
            anywhere.hit(text, lists, hits);
        }
    }
}

impl Anywhere {
    fn hit(&self, text: &[u8], lists: &Lists, hits: &mut Hits) {
        let Some(searcher) = &self.searcher else {
            return self.found.iter().for_each(|list| hits.hit(lists, *list));
        };
        let mut left = self.found.len();
        for list in searcher
            .find_overlapping_iter(text)
            .filter_map(|part| self.found.get(part.pattern().as_usize()))
        {
            if !hits.has(*list) {
                hits.hit(lists, *list);
                left -= 1;
                // Texts that lie in one another are found over and over in a long value.
                if left == 0 {
                    break;
                }
            }
        }
    }
}

/// A leaf list by how it was written.
struct ByText<'r>(&'r Arc<Leaf>);

impl PartialEq for ByText<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.written == other.0.written
    }
}

impl Eq for ByText<'_> {}

impl PartialOrd for ByText<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByText<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.written.cmp(&other.0.written)
    }
}

/// The bits that all addresses of a range begin with.
fn network(net: IpNet) -> Vec<u8> {
    let (bits, _) = bits_of(net.network());
    bits.into_iter()
        .take(1 + usize::from(net.prefix_len()))
        .collect()
}

/// An address as its bits, and how long that is.
fn bits_of(address: IpAddr) -> ([u8; ADDRESS_LENGTH], usize) {
    let (mark, left, length) = match address {
        IpAddr::V4(address) => (b'4', u128::from(address.to_bits()) << 96, 33),
        IpAddr::V6(address) => (b'6', address.to_bits(), ADDRESS_LENGTH),
    };
    let mut bits = [mark; ADDRESS_LENGTH];
    for (place, bit) in bits.iter_mut().skip(1).enumerate() {
        *bit = (left >> (127 - place) & 1) as u8;
    }
    (bits, length)
}
