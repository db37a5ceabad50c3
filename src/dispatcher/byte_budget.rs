//! How many bytes of events may be in flight, and for which target. Pure.
//!
//! What a target holds it holds until its slowest attempt has ended, so no target may hold so much
//! that nothing is left for the others.
//!
//! ```text
//! the bound ──▶ shares:    of what is free and what it holds, a target may hold half
//!                          (dynamic thresholds, Choudhury and Hahne 1998)
//! twice that ─▶ overflow:  one event of each subscription that does not fit into its target's
//!                          share, up to half of what is left here
//! one more ───▶ oversized: one event in all that is larger than that
//! ```
//!
//! Each of the first two leaves at least as much free as it grants, so that a small event can go
//! out however many large ones are stuck. The last makes sure that an event of any size goes out.

/// The pool that an event's bytes are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    /// In its target's share.
    Share,
    /// The one for events that do not fit into their target's share.
    Overflow,
    /// The one for a single event that fits into no other pool.
    Oversized,
}

/// The bytes of the events in flight.
#[derive(Debug)]
pub(super) struct ByteBudget {
    max: usize,
    shares: usize,
    overflow: usize,
    has_oversized: bool,
}

impl ByteBudget {
    /// A budget with nothing in flight, whose shares may have `max` bytes in all.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            shares: 0,
            overflow: 0,
            has_oversized: false,
        }
    }

    /// The bytes that are left for all shares.
    pub(super) fn free(&self) -> usize {
        self.max.saturating_sub(self.shares)
    }

    /// How many more bytes a target may take that holds `held`, where `free` are left.
    pub(super) fn share(free: usize, held: usize) -> usize {
        (free.saturating_add(held) / 2).saturating_sub(held)
    }

    /// The pool for an event that does not fit into its target's share; none where it may not go
    /// out now.
    pub(super) fn overflow_pool(&self, event_bytes: usize) -> Option<Pool> {
        let all = self.max.saturating_mul(2);
        if event_bytes > all / 2 {
            return (!self.has_oversized).then_some(Pool::Oversized);
        }
        (event_bytes <= all.saturating_sub(self.overflow) / 2).then_some(Pool::Overflow)
    }

    pub(super) fn take(&mut self, pool: Pool, event_bytes: usize) {
        match pool {
            Pool::Share => self.shares += event_bytes,
            Pool::Overflow => self.overflow += event_bytes,
            Pool::Oversized => self.has_oversized = true,
        }
    }

    pub(super) fn give_back(&mut self, pool: Pool, event_bytes: usize) {
        match pool {
            Pool::Share => self.shares = self.shares.saturating_sub(event_bytes),
            Pool::Overflow => self.overflow = self.overflow.saturating_sub(event_bytes),
            Pool::Oversized => self.has_oversized = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_held_leaves_room_for_a_smaller_one() {
        let mut bytes = ByteBudget::new(1 << 20);
        let mut shares = Vec::new();
        while let share @ 1.. = ByteBudget::share(bytes.free(), 0) {
            bytes.take(Pool::Share, share);
            shares.push(share);
        }
        assert_eq!((shares[0], shares[1], shares.len()), (1 << 19, 1 << 18, 20));
        for large in [900_000, 500_000, 100_000, 100_000, 50_000, 10_000] {
            assert_eq!(bytes.overflow_pool(large), Some(Pool::Overflow), "{large}");
            bytes.take(Pool::Overflow, large);
        }
        assert_eq!(
            (bytes.overflow_pool(500_000), bytes.overflow_pool(1_000)),
            (None, Some(Pool::Overflow))
        );
        for (pool, event_bytes) in [(Pool::Overflow, 900_000), (Pool::Share, 1 << 19)] {
            bytes.give_back(pool, event_bytes);
        }
        assert_eq!(
            (bytes.overflow_pool(500_000), bytes.free()),
            (Some(Pool::Overflow), (1 << 19) + 1)
        );
    }

    #[test]
    fn one_larger_than_all_goes_out_alone() {
        let mut bytes = ByteBudget::new(1_000);
        assert_eq!(bytes.overflow_pool(1_001), Some(Pool::Oversized));
        bytes.take(Pool::Oversized, 1_001);
        assert_eq!(
            (
                bytes.overflow_pool(1 << 30),
                bytes.overflow_pool(1_000),
                bytes.free()
            ),
            (None, Some(Pool::Overflow), 1_000)
        );
        bytes.give_back(Pool::Oversized, 1_001);
        assert_eq!(bytes.overflow_pool(1 << 30), Some(Pool::Oversized));
    }

    #[test]
    fn a_target_alone_holds_half() {
        assert_eq!(
            [0, 300, 500, 600].map(|held| ByteBudget::share(1_000 - held, held)),
            [500, 200, 0, 0]
        );
    }
}
