//! Sources by their numbers, and sets of them.

/// The number by which the caller knows a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub u16);

/// From which sources a rule takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSet {
    /// Bit n of word m stands for the origin 64·m + n.
    words: Vec<u64>,
    /// What holds for origins past the words.
    others: bool,
}

impl OriginSet {
    /// Every source but these.
    #[must_use]
    pub fn all_but(origins: &[Origin]) -> Self {
        Self::new(origins, true)
    }

    /// These sources alone.
    #[must_use]
    pub fn only(origins: &[Origin]) -> Self {
        Self::new(origins, false)
    }

    fn new(origins: &[Origin], others: bool) -> Self {
        let length = origins
            .iter()
            .map(|origin| usize::from(origin.0) / 64 + 1)
            .max()
            .unwrap_or(0);
        let mut words = vec![if others { u64::MAX } else { 0 }; length];
        for origin in origins {
            if let Some(word) = words.get_mut(usize::from(origin.0) / 64) {
                let bit = 1 << (origin.0 % 64);
                if others {
                    *word &= !bit;
                } else {
                    *word |= bit;
                }
            }
        }
        Self { words, others }
    }

    /// Its origins, where they are listed.
    pub(crate) fn listed(&self) -> Option<impl Iterator<Item = Origin>> {
        let bits = || (0..64_u16).map(|bit| (bit, 1_u64 << bit));
        let origins = (0..).zip(&self.words).flat_map(move |(word, set)| {
            bits()
                .filter(move |(_, mask)| set & mask != 0)
                .map(move |(bit, _)| Origin(64 * word + bit))
        });
        (!self.others).then_some(origins)
    }

    /// Whether an origin is one of them.
    #[must_use]
    pub fn contains(&self, origin: Origin) -> bool {
        self.words
            .get(usize::from(origin.0) / 64)
            .map_or(self.others, |word| word & 1 << (origin.0 % 64) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let (only, but) = (
            OriginSet::only(&[Origin(0), Origin(64)]),
            OriginSet::all_but(&[Origin(0), Origin(64)]),
        );
        for origin in [0, 1, 63, 64, 65, 128, u16::MAX] {
            let listed = origin == 0 || origin == 64;
            assert_eq!(
                (only.contains(Origin(origin)), but.contains(Origin(origin))),
                (listed, !listed),
                "{origin}"
            );
        }
    }
}
