//! Which deliveries are stored already.

use std::collections::{HashSet, VecDeque};

use sha2::{Digest, Sha256};

/// How many deliveries are remembered: at 100 in a second, a third of the window in which a
/// signature is valid and more; each takes about 50 bytes. Past that, and over a restart, the
/// journal knows duplicates by source of the rule file, `source` and `id`.
const REMEMBERED_MAX: usize = 10_000;

/// The newest deliveries that were stored, by a hash of their id: whoever chooses ids cannot fill
/// the memory with long ones.
#[derive(Debug)]
pub(super) struct Replay {
    known: HashSet<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
    max: usize,
}

impl Default for Replay {
    fn default() -> Self {
        Self::new(REMEMBERED_MAX)
    }
}

impl Replay {
    fn new(max: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: VecDeque::new(),
            max,
        }
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.known.contains(&digest(id))
    }

    pub(super) fn remember(&mut self, id: &str) {
        let digest = digest(id);
        if !self.known.insert(digest) {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

fn digest(id: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut()
        .zip(Sha256::digest(id))
        .for_each(|(to, from)| *to = from);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let mut replay = Replay::new(2);
        for id in ["a", "b", "b", "c"] {
            replay.remember(id);
        }
        assert_eq!(
            ["a", "b", "c"].map(|id| replay.knows(id)),
            [false, true, true]
        );
        assert_eq!((replay.known.len(), replay.order.len()), (2, 2));
    }
}
