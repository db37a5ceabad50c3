//! What is known of each object: what has been told last, and by whom.
//!
//! ```text
//! 2                                                                           version of this encoding
//! generation | length | region | created                                      of the bucket
//! { shared | length | rest | state | etag | at | seen − at | generation }*    by key
//! ```
//!
//! In a cursor numbers are LEB128, times zigzag, an eTag is eight bytes of its hash; `shared` is
//! how many bytes the key has in common with the one before, `rest` the `length` others. An object
//! takes about 31 bytes. Encoding 1 knew nothing of the bucket and no generations; it is read, and
//! never written.

use std::collections::BTreeMap;

use super::happening::{Kind, Mark};
use crate::leb128::{read, unzigzag, write, zigzag};

const ENCODING: u8 = 2;

/// The encoding before generations.
const ENCODING_PLAIN: u8 = 1;

/// The longest key of S3.
pub(super) const KEY_BYTES_MAX: usize = 1_024;

/// By how much the time of a notification and that of a listing may differ for the same write:
/// listings of many stores know whole seconds.
const ROUNDING: i64 = 1_000;

/// For how long it is remembered that an object is gone, milliseconds.
const GONE_KEPT: i64 = 60 * 60 * 1_000;

/// The longest name of a region that is read back.
const REGION_BYTES_MAX: usize = 255;

/// What is known of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The generation of a key that comes next: higher than that of any key which is forgotten, so
    /// that one which comes back is told by another id without a memory of all that are gone.
    pub(super) generation: u64,
    /// Which bucket it is.
    pub(super) identity: Identity,
    pub(super) objects: Objects,
}

/// What is known of each object, by key.
pub(super) type Objects = BTreeMap<String, Entry>;

/// What tells a bucket from another one of its name, as far as the store tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its region; empty where that is not told.
    pub(super) region: String,
    /// When it was created, milliseconds since 1970.
    pub(super) created: Option<i64>,
}

impl Identity {
    /// True where this cannot be the other bucket. Some stores change the time when only the
    /// bucket's settings have changed.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let elsewhere =
            self.region != other.region && !self.region.is_empty() && !other.region.is_empty();
        elsewhere
            || self
                .created
                .zip(other.created)
                .is_some_and(|(one, two)| one != two)
    }

    /// Takes in what the store tells now; what it does not tell is kept.
    pub(super) fn learn(&mut self, told: Self) {
        if !told.region.is_empty() {
            self.region = told.region;
        }
        self.created = told.created.or(self.created);
    }
}

/// What is known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: State,
    /// Of its content; zero where that was not told.
    pub(super) etag: u64,
    /// When that was last changed, milliseconds since 1970: the time of the notification, or the
    /// object's own where a listing saw it.
    pub(super) at: i64,
    /// When the listing began that saw it last, milliseconds since 1970; `at` where a notification
    /// alone told.
    pub(super) seen: i64,
    /// How many changes of it listings have told, as far as it matters: see [`Known::generation`].
    /// What notifications tell has ids of its own, and may come in another order after a crash.
    pub(super) generation: u64,
}

/// Whether an object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Present,
    /// It was told as gone. Kept for a while, for notifications that come late or out of order.
    Gone,
    /// One of its versions went away: the next listing is believed, and nothing told of it.
    Unsure,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Without quotes.
    pub(super) etag: String,
    /// The hash of it.
    pub(super) hash: u64,
    pub(super) size: u64,
    /// Milliseconds since 1970.
    pub(super) modified: i64,
}

impl Entry {
    /// True where a listing has seen it so.
    fn is_seen(&self) -> bool {
        self.seen > self.at
    }

    /// True where what a listing shows is what has been told already.
    pub(super) fn covers(&self, listed: &Listed) -> bool {
        let same_content = self.etag == listed.hash || self.etag == 0;
        match self.state {
            State::Unsure => true,
            State::Gone => false,
            State::Present if self.is_seen() => same_content && self.at == listed.modified,
            // The notification came after the write. A later write of the same content is a
            // happening of its own.
            State::Present => same_content && listed.modified <= self.at + ROUNDING,
        }
    }

    /// True where it has been gone for so long, at the time of a listing, that no notification
    /// comes late any more.
    pub(super) fn is_forgotten(&self, listed_at: i64) -> bool {
        self.state == State::Gone && self.seen.max(self.at) <= listed_at.saturating_sub(GONE_KEPT)
    }

    /// True where a listing has told already what this notification, come late, tells.
    pub(super) fn has_told(&self, mark: &Mark) -> bool {
        let within = self.is_seen() && self.at - ROUNDING <= mark.at && mark.at <= self.seen;
        match (self.state, mark.kind) {
            (State::Present, Kind::Created) => within && self.etag == mark.etag,
            (State::Gone, Kind::Removed | Kind::VersionRemoved) => within,
            _ => false,
        }
    }
}

/// Takes in what a notification told. What happened before what is known changes nothing.
pub(super) fn note(known: &mut Known, mark: &Mark) {
    let old = known.objects.get(&mark.key);
    if old.is_some_and(|old| mark.at < old.at) {
        return;
    }
    let state = match mark.kind {
        Kind::Created => State::Present,
        Kind::Removed => State::Gone,
        Kind::VersionRemoved if old.is_some() => State::Unsure,
        Kind::VersionRemoved | Kind::Other => return,
    };
    let generation = old.map_or(known.generation, |old| old.generation);
    known.objects.insert(
        mark.key.clone(),
        Entry {
            state,
            etag: mark.etag,
            at: mark.at,
            seen: mark.at,
            generation,
        },
    );
}

/// Writes what is known.
pub(super) fn encode(known: &Known) -> Vec<u8> {
    let mut out = vec![ENCODING];
    write(&mut out, known.generation);
    let region: &[u8] = known.identity.region.as_bytes();
    write(&mut out, region.len() as u64);
    out.extend_from_slice(region);
    write(
        &mut out,
        known
            .identity
            .created
            .map_or(0, |created| zigzag(created).saturating_add(1)),
    );
    let mut previous: &[u8] = &[];
    for (key, entry) in &known.objects {
        let key = key.as_bytes();
        let shared = key.iter().zip(previous).take_while(|(a, b)| a == b).count();
        let rest = key.get(shared..).unwrap_or_default();
        write(&mut out, shared as u64);
        write(&mut out, rest.len() as u64);
        out.extend_from_slice(rest);
        out.push(match entry.state {
            State::Present => 0,
            State::Gone => 1,
            State::Unsure => 2,
        });
        out.extend_from_slice(&entry.etag.to_be_bytes());
        write(&mut out, zigzag(entry.at));
        write(&mut out, zigzag(entry.seen.wrapping_sub(entry.at)));
        write(&mut out, entry.generation);
        previous = key;
    }
    out
}

/// Reads what was known; none where it is damaged, or of an encoding to come.
pub(super) fn decode(bytes: &[u8]) -> Option<Known> {
    let (encoding, mut rest) = bytes.split_first()?;
    let mut known = Known::default();
    match *encoding {
        ENCODING => {
            known.generation = read(&mut rest)?;
            let length = usize::try_from(read(&mut rest)?)
                .ok()
                .filter(|length| *length <= REGION_BYTES_MAX)?;
            let (region, after) = rest.split_at_checked(length)?;
            rest = after;
            let region = std::str::from_utf8(region).ok()?.to_owned();
            known.identity = Identity {
                region,
                created: read(&mut rest)?.checked_sub(1).map(unzigzag),
            };
        }
        ENCODING_PLAIN => {}
        _ => return None,
    }
    let mut previous = Vec::new();
    while !rest.is_empty() {
        let mut key = previous
            .get(..usize::try_from(read(&mut rest)?).ok()?)?
            .to_vec();
        let length = usize::try_from(read(&mut rest)?)
            .ok()
            .filter(|length| *length <= KEY_BYTES_MAX)?;
        let (end, after) = rest.split_at_checked(length)?;
        key.extend_from_slice(end);
        rest = after;
        let entry = entry(&mut rest, *encoding)?;
        // Keys go up, or something is damaged.
        if key <= previous {
            return None;
        }
        known
            .objects
            .insert(String::from_utf8(key.clone()).ok()?, entry);
        previous = key;
    }
    Some(known)
}

/// Reads what stands behind a key.
fn entry(rest: &mut &[u8], encoding: u8) -> Option<Entry> {
    let (state, after) = rest.split_first()?;
    let state = match state {
        0 => State::Present,
        1 => State::Gone,
        2 => State::Unsure,
        _ => return None,
    };
    let (etag, after) = after.split_first_chunk::<8>()?;
    *rest = after;
    let at = unzigzag(read(rest)?);
    let seen = unzigzag(read(rest)?).wrapping_add(at);
    let generation = if encoding == ENCODING_PLAIN {
        0
    } else {
        read(rest)?
    };
    Some(Entry {
        state,
        etag: u64::from_be_bytes(*etag),
        at,
        seen,
        generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_back_and_damage_is_seen() {
        let entry = |state, n: i64| Entry {
            state,
            etag: n.unsigned_abs(),
            at: n,
            seen: n.saturating_add(5),
            generation: n.unsigned_abs() / 3,
        };
        let objects = [
            ("a".to_owned(), entry(State::Present, 0)),
            ("a/b".to_owned(), entry(State::Gone, 1_700_000_000_123)),
            ("a/ü\n".to_owned(), entry(State::Unsure, i64::MIN)),
            ("z".repeat(1_024), entry(State::Present, i64::MAX)),
        ]
        .into();
        let identity = Identity {
            region: "eu-central-1".to_owned(),
            created: Some(-5),
        };
        let known = Known {
            generation: 7,
            identity,
            objects,
        };
        let bytes = encode(&known);
        assert_eq!(decode(&bytes), Some(known));
        assert_eq!(decode(&encode(&Known::default())), Some(Known::default()));
        for end in 0..bytes.len() {
            assert!(
                decode(&bytes[..end]).is_none_or(|some| some.objects.len() < 4),
                "cut at {end}"
            );
        }
        for bad in [
            &b""[..],
            b"\x03",
            b"\x02",
            b"\x02\x00\x05abc",
            b"\x02\x00\xff\xff\x03",
            b"\x01\x01",
            b"\x01\x00\x01a\x03",
            b"\x01\x00\x05a",
            b"\x01\x00\x01\xff\x00\0\0\0\0\0\0\0\0\x00\x00",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
        let many = (0..10_000)
            .map(|n| {
                (
                    format!("photos/2026/11/IMG_{n:05}.jpg"),
                    entry(State::Present, 1_700_000_000_123),
                )
            })
            .collect();
        assert!(
            encode(&Known {
                objects: many,
                ..Known::default()
            })
            .len()
                < 36 * 10_000
        );
    }

    #[test]
    fn what_an_earlier_version_stored_is_read() {
        let stored = b"\x01\x00\x03a/b\x00\0\0\0\0\0\0\0\x07\x14\x02";
        let entry = Entry {
            state: State::Present,
            etag: 7,
            at: 10,
            seen: 11,
            generation: 0,
        };
        assert_eq!(
            decode(stored),
            Some(Known {
                objects: [("a/b".to_owned(), entry)].into(),
                ..Known::default()
            })
        );
    }

    #[test]
    fn a_bucket_is_another_one_where_the_store_says_so() {
        let identity = |region: &str, created| Identity {
            region: region.to_owned(),
            created,
        };
        for (one, two, differs) in [
            (identity("", None), identity("eu-west-1", Some(1)), false),
            (identity("eu-west-1", Some(1)), identity("", None), false),
            (
                identity("eu-west-1", None),
                identity("eu-west-1", Some(1)),
                false,
            ),
            (
                identity("eu-west-1", Some(1)),
                identity("eu-west-1", Some(2)),
                true,
            ),
            (
                identity("eu-west-1", Some(1)),
                identity("eu-west-2", Some(1)),
                true,
            ),
        ] {
            assert_eq!(one.differs(&two), differs, "{one:?} {two:?}");
            let mut learnt = one;
            learnt.learn(two.clone());
            assert!(!learnt.differs(&two));
        }
    }

    /// Times are seconds.
    fn entry(state: State, etag: u64, at: i64, seen: i64) -> Entry {
        Entry {
            state,
            etag,
            at: at * 1_000,
            seen: seen * 1_000,
            generation: 0,
        }
    }

    #[test]
    fn a_listing_shows_what_was_told_or_something_new() {
        let listed = |hash, modified: i64| Listed {
            etag: String::new(),
            hash,
            size: 0,
            modified: modified * 1_000,
        };
        for (known, shown, expect) in [
            (entry(State::Present, 1, 10, 10), listed(1, 9), true),
            (entry(State::Present, 1, 10, 10), listed(1, 11), true),
            (entry(State::Present, 1, 10, 10), listed(1, 12), false),
            (entry(State::Present, 1, 10, 10), listed(2, 9), false),
            (entry(State::Present, 0, 10, 10), listed(2, 9), true),
            (entry(State::Present, 1, 10, 20), listed(1, 10), true),
            (entry(State::Present, 1, 10, 20), listed(1, 11), false),
            (entry(State::Present, 1, 10, 20), listed(2, 10), false),
            (entry(State::Gone, 1, 10, 20), listed(1, 10), false),
            (entry(State::Unsure, 1, 10, 10), listed(2, 30), true),
        ] {
            assert_eq!(known.covers(&shown), expect, "{known:?} {shown:?}");
        }
    }

    #[test]
    fn a_notification_that_comes_late_is_known_by_its_time() {
        let mark = |kind, etag, at: i64| Mark {
            key: "a".to_owned(),
            kind,
            etag,
            at: at * 1_000,
        };
        for (known, late, expect) in [
            (
                entry(State::Present, 1, 10, 20),
                mark(Kind::Created, 1, 12),
                true,
            ),
            (
                entry(State::Present, 1, 10, 20),
                mark(Kind::Created, 1, 21),
                false,
            ),
            (
                entry(State::Present, 1, 10, 20),
                mark(Kind::Created, 1, 8),
                false,
            ),
            (
                entry(State::Present, 1, 10, 20),
                mark(Kind::Created, 2, 12),
                false,
            ),
            (
                entry(State::Present, 1, 10, 20),
                mark(Kind::Removed, 1, 12),
                false,
            ),
            // Handed over again before it was stored: not the listing's.
            (
                entry(State::Present, 1, 10, 10),
                mark(Kind::Created, 1, 10),
                false,
            ),
            (
                entry(State::Gone, 1, 10, 20),
                mark(Kind::Removed, 0, 15),
                true,
            ),
            (
                entry(State::Gone, 1, 10, 20),
                mark(Kind::Removed, 0, 25),
                false,
            ),
            (
                entry(State::Gone, 1, 10, 20),
                mark(Kind::Created, 1, 15),
                false,
            ),
        ] {
            assert_eq!(known.has_told(&late), expect, "{known:?} {late:?}");
        }
    }

    #[test]
    fn notifications_out_of_order_end_in_the_last_state() {
        let mark = |kind, etag, at| Mark {
            key: "a".to_owned(),
            kind,
            etag,
            at,
        };
        let create = |etag, at| mark(Kind::Created, etag, at);
        let gone = |at| mark(Kind::Removed, 0, at);
        for (marks, expect) in [
            (vec![create(1, 1), create(2, 2)], Some((State::Present, 2))),
            (vec![create(2, 2), create(1, 1)], Some((State::Present, 2))),
            (vec![gone(2), create(1, 1)], Some((State::Gone, 0))),
            (vec![create(1, 3), gone(2)], Some((State::Present, 1))),
            (
                vec![create(1, 1), mark(Kind::VersionRemoved, 0, 2)],
                Some((State::Unsure, 0)),
            ),
            (vec![mark(Kind::VersionRemoved, 0, 2)], None),
            (
                vec![create(1, 1), mark(Kind::Other, 2, 2)],
                Some((State::Present, 1)),
            ),
        ] {
            let mut known = Known::default();
            marks.iter().for_each(|mark| note(&mut known, mark));
            assert_eq!(
                known
                    .objects
                    .get("a")
                    .map(|entry| (entry.state, entry.etag)),
                expect,
                "{marks:?}"
            );
        }
    }
}
