//! Entries that are gone before a group has read them.
//!
//! Redis does not tell of them. It knows how many entries a stream ever had, how many it has, and
//! how many of the first ones a group has read. Where the first that is left lies behind what the
//! group was last handed, all that it has read is gone, and what is gone besides was not read:
//!
//! ```text
//!            read          lost        left
//!   |------------------|...........|---------|
//!   0                 read      removed    added      removed = added - length
//! ```
//!
//! Up to Redis 7.0 a group's own count does not leap over such a gap: it stays behind by what was
//! lost. So what has been told of, and was read after it, is counted here as well.

use redis::Value;

use super::reply::{field, number, text};

/// The id of an entry: milliseconds, and a number within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId(pub(super) u64, pub(super) u64);

impl EntryId {
    /// Reads an id; none where the text is no such.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (milliseconds, number) = text.split_once('-').unwrap_or((text, "0"));
        Some(Self(milliseconds.parse().ok()?, number.parse().ok()?))
    }
}

/// What a server says of a stream and of a group of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Entries that are there.
    length: u64,
    /// Entries that ever were.
    added: u64,
    /// The first that is there; none in an empty stream.
    first: Option<EntryId>,
    /// The last that ever was.
    last: EntryId,
    /// The last that the group was handed.
    delivered: EntryId,
    /// How many it was handed, where that is known.
    read: Option<u64>,
    /// How many wait for it, where that is known.
    lag: Option<u64>,
}

impl Look {
    /// Reads what `XINFO STREAM` and `XINFO GROUPS` say; none where they say too little, as before
    /// Redis 7.0, or where there is no such group.
    pub(super) fn read(stream: &Value, groups: &Value, group: &str) -> Option<Self> {
        let group = found(groups, group)?;
        let count = |name| field(stream, name).and_then(number);
        let id = |of, name| EntryId::read(&text(field(of, name)?)?);
        let length = count("length")?;
        Some(Self {
            length,
            added: count("entries-added")?,
            first: id(stream, "recorded-first-entry-id").filter(|_| length > 0),
            last: id(stream, "last-generated-id")?,
            delivered: id(group, "last-delivered-id")?,
            read: field(group, "entries-read").and_then(number),
            lag: field(group, "lag").and_then(number),
        })
    }
}

/// What `XINFO GROUPS` says of a group.
pub(super) fn found<'v>(groups: &'v Value, group: &str) -> Option<&'v Value> {
    let Value::Array(groups) = groups else {
        return None;
    };
    let is_it = |value: &&Value| field(value, "name").and_then(text).as_deref() == Some(group);
    groups.iter().find(is_it)
}

/// How many entries of a stream are known to be read, or told of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position(Option<u64>);

impl Position {
    /// How many more were lost; to be asked before each read.
    pub(super) fn lost(&mut self, look: &Look) -> u64 {
        let removed = look.added.saturating_sub(look.length);
        let has_gap = look.first.unwrap_or(look.last) > look.delivered;
        let known = self.0.max(look.read);
        self.0 = match known {
            // A group that begins here has lost nothing of what was gone before it.
            None if has_gap => Some(removed),
            Some(known) if has_gap => Some(known.max(removed)),
            known => known,
        };
        match known {
            Some(known) if has_gap => removed.saturating_sub(known),
            _ => 0,
        }
    }

    /// So many were read.
    pub(super) fn advance(&mut self, entries: u64) {
        self.0 = self.0.map(|known| known + entries);
    }

    /// How many wait for the group.
    pub(super) fn waiting(self, look: &Look) -> Option<u64> {
        let ahead = self.0.zip(look.read);
        let ahead = ahead.map_or(0, |(known, read)| known.saturating_sub(read));
        look.lag.map(|lag| lag.saturating_sub(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of `added` entries with ids that count from 1, of which the last `length` are left.
    fn look(added: u64, length: u64, delivered: u64, read: Option<u64>) -> Look {
        Look {
            length,
            added,
            first: (length > 0).then(|| EntryId(added - length + 1, 0)),
            last: EntryId(added, 0),
            delivered: EntryId(delivered, 0),
            read,
            lag: read.map(|read| added.saturating_sub(read)),
        }
    }

    #[test]
    fn what_is_gone_unread_is_told_once() {
        // Of ten, three were read, and four are left.
        let mut position = Position::default();
        assert_eq!(position.lost(&look(10, 4, 3, Some(3))), 3);
        assert_eq!(position.lost(&look(10, 4, 3, Some(3))), 0);
        for leaps in [true, false] {
            let mut position = position;
            position.advance(2);
            let read = if leaps { 8 } else { 5 };
            let now = look(10, 4, 8, Some(read));
            assert_eq!(position.lost(&now), 0, "{leaps}");
            assert_eq!(position.waiting(&now), Some(2), "{leaps}");
            // What was read is trimmed as well, and then what was not.
            assert_eq!(position.lost(&look(12, 5, 8, Some(read))), 0, "{leaps}");
            assert_eq!(position.lost(&look(20, 5, 8, Some(read))), 7, "{leaps}");
            assert_eq!(position.lost(&look(20, 0, 8, Some(read))), 5, "{leaps}");
        }
    }

    #[test]
    fn what_was_read_or_was_gone_before_the_group_is_not_lost() {
        for (given, what) in [
            (look(10, 4, 10, Some(10)), "all is read"),
            (look(10, 0, 10, Some(10)), "read, and deleted"),
            (look(0, 0, 0, None), "an empty stream"),
            (look(10, 4, 0, None), "a new group of a trimmed stream"),
            (look(10, 4, 7, None), "one in the middle of it"),
            (look(10, 4, 6, Some(6)), "trimmed as far as it is read"),
        ] {
            assert_eq!(Position::default().lost(&given), 0, "{what}");
        }
    }

    #[test]
    fn a_new_group_loses_what_goes_after_it_was_made() {
        let mut position = Position::default();
        assert_eq!(position.lost(&look(10, 4, 0, None)), 0);
        assert_eq!(position.lost(&look(12, 4, 0, None)), 2);
    }

    #[test]
    fn ids() {
        assert_eq!(
            EntryId::read("1526919030474-55"),
            Some(EntryId(1_526_919_030_474, 55))
        );
        assert_eq!(EntryId::read("7"), Some(EntryId(7, 0)));
        for text in ["", "-", "a-1", "1-", "1-2-3", "-1"] {
            assert_eq!(EntryId::read(text), None, "{text}");
        }
        assert!(EntryId(9, 9) < EntryId(10, 0));
    }
}
