//! How long attempts at a target took, for a person who looks.

use super::durations::Durations;

/// Attempts at one target since the start, by how long they took, whatever came of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    bounds_micros: &'static [u64],
    /// One more than there are bounds: what took longer than the last.
    counts: Vec<u64>,
}

impl Attempts {
    pub(super) fn none(bounds_micros: &'static [u64]) -> Self {
        Self {
            bounds_micros,
            counts: vec![0; bounds_micros.len() + 1],
        }
    }

    pub(super) fn add(&mut self, durations: &Durations) {
        for (own, more) in self.counts.iter_mut().zip(durations.counts()) {
            *own += more;
        }
    }

    /// Those since an earlier look.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.counts.iter().zip(&before.counts);
        Self {
            bounds_micros: self.bounds_micros,
            counts: counts
                .map(|(now, before)| now.saturating_sub(*before))
                .collect(),
        }
    }

    /// The time in microseconds that a part of them stayed within, as if those of a bucket lay evenly
    /// in it; the last bound where they took longer than that, and none where there were none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    pub fn quantile_micros(&self, part: f64) -> Option<f64> {
        let all: u64 = self.counts.iter().sum();
        if all == 0 {
            return None;
        }
        let (wanted, mut below, mut start) = (all as f64 * part, 0.0, 0.0);
        for (end, count) in self.bounds_micros.iter().zip(&self.counts) {
            let (end, count) = (*end as f64, *count as f64);
            if count > 0.0 && below + count >= wanted {
                return Some(start + (end - start) * (wanted - below) / count);
            }
            (below, start) = (below + count, end);
        }
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        const BOUNDS: [u64; 3] = [10, 20, 40];
        let of = |counts: [u64; 4]| Attempts {
            bounds_micros: &BOUNDS,
            counts: counts.to_vec(),
        };
        for (counts, part, expect) in [
            ([0, 0, 0, 0], 0.5, None),
            ([4, 0, 0, 0], 0.5, Some(5.0)),
            ([0, 4, 0, 0], 0.5, Some(15.0)),
            ([1, 1, 2, 0], 0.75, Some(30.0)),
            ([1, 1, 2, 0], 1.0, Some(40.0)),
            ([50, 0, 49, 1], 0.99, Some(40.0)),
            ([0, 0, 0, 3], 0.5, Some(40.0)),
        ] {
            assert_eq!(
                of(counts).quantile_micros(part),
                expect,
                "{counts:?} {part}"
            );
        }
        let since = of([5, 1, 0, 2]).since(&of([4, 1, 3, 0]));
        assert_eq!(since, of([1, 0, 0, 2]));
    }
}
