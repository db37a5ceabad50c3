//! How many bytes of events may be in flight, and in whose name. Pure.
//!
//! What a target holds it holds until its slowest attempt has ended, so no target may hold so much
//! that nothing is left for the others.
//!
//! ```text
//! the bound ──▶ shares: of what is free and what it holds, a target may hold half (dynamic thresholds, Choudhury and Hahne 1998)
//! twice that ─▶ beside: one event of each subscription that its share has no room for, up to half of what is left here
//! one more ───▶ giant:  one event in all that is larger than that
//! ```
//!
//! Each of the first two leaves as much to whoever comes next as it gives, so a small event finds
//! room however many large ones hang. The last makes sure that an event of any size goes out.

/// Where an event's bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its target's share.
    Share,
    /// Beside the shares.
    Beside,
    /// Nowhere: it is the one that is larger than anything else.
    Giant,
}

/// The bytes of the events in flight.
#[derive(Debug)]
pub(super) struct Bytes {
    max: usize,
    shares: usize,
    beside: usize,
    has_giant: bool,
}

impl Bytes {
    /// Nothing in flight, and shares of so many bytes in all.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            shares: 0,
            beside: 0,
            has_giant: false,
        }
    }

    /// What is left of all shares.
    pub(super) fn free(&self) -> usize {
        self.max.saturating_sub(self.shares)
    }

    /// What a target may still take that holds so much, of so much that is free.
    pub(super) fn share(free: usize, held: usize) -> usize {
        (free.saturating_add(held) / 2).saturating_sub(held)
    }

    /// Where an event is to be counted that its target's share has no room for, if it may go out at
    /// all now.
    pub(super) fn place_beside(&self, event_bytes: usize) -> Option<Place> {
        let all = self.max.saturating_mul(2);
        if event_bytes > all / 2 {
            return (!self.has_giant).then_some(Place::Giant);
        }
        (event_bytes <= all.saturating_sub(self.beside) / 2).then_some(Place::Beside)
    }

    pub(super) fn take(&mut self, place: Place, event_bytes: usize) {
        match place {
            Place::Share => self.shares += event_bytes,
            Place::Beside => self.beside += event_bytes,
            Place::Giant => self.has_giant = true,
        }
    }

    pub(super) fn give_back(&mut self, place: Place, event_bytes: usize) {
        match place {
            Place::Share => self.shares = self.shares.saturating_sub(event_bytes),
            Place::Beside => self.beside = self.beside.saturating_sub(event_bytes),
            Place::Giant => self.has_giant = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_held_leaves_room_for_a_smaller_one() {
        let mut bytes = Bytes::new(1 << 20);
        let mut shares = Vec::new();
        while let share @ 1.. = Bytes::share(bytes.free(), 0) {
            bytes.take(Place::Share, share);
            shares.push(share);
        }
        assert_eq!((shares[0], shares[1], shares.len()), (1 << 19, 1 << 18, 20));
        for large in [900_000, 500_000, 100_000, 100_000, 50_000, 10_000] {
            assert_eq!(bytes.place_beside(large), Some(Place::Beside), "{large}");
            bytes.take(Place::Beside, large);
        }
        assert_eq!(
            (bytes.place_beside(500_000), bytes.place_beside(1_000)),
            (None, Some(Place::Beside))
        );
        for (place, event_bytes) in [(Place::Beside, 900_000), (Place::Share, 1 << 19)] {
            bytes.give_back(place, event_bytes);
        }
        assert_eq!(
            (bytes.place_beside(500_000), bytes.free()),
            (Some(Place::Beside), (1 << 19) + 1)
        );
    }

    #[test]
    fn one_larger_than_all_goes_out_alone() {
        let mut bytes = Bytes::new(1_000);
        assert_eq!(bytes.place_beside(1_001), Some(Place::Giant));
        bytes.take(Place::Giant, 1_001);
        assert_eq!(
            (
                bytes.place_beside(1 << 30),
                bytes.place_beside(1_000),
                bytes.free()
            ),
            (None, Some(Place::Beside), 1_000)
        );
        bytes.give_back(Place::Giant, 1_001);
        assert_eq!(bytes.place_beside(1 << 30), Some(Place::Giant));
    }

    #[test]
    fn a_target_alone_holds_half() {
        assert_eq!(
            [0, 300, 500, 600].map(|held| Bytes::share(1_000 - held, held)),
            [500, 200, 0, 0]
        );
    }
}
