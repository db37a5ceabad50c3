//! What is known of each object: what has been told last, and by whom. How it is stored.
//!
//! ```text
//! cursor             3                                        version of this encoding
//! row of no key      3 | generation | length | region | created    of the bucket
//! row of an object   3 | state | etag | at | seen − at | generation
//! ```
//!
//! Numbers are LEB128, times zigzag, an eTag is eight bytes of its hash.
//!
//! Encodings 1 and 2 kept everything in the cursor ([`listing`]). They are read, and never written:
//! their objects are moved into rows before anything else happens, and with the last rows goes the
//! cursor that says so.

mod listing;

use std::collections::BTreeMap;

use pointsman_schemas::PositionChange;

use super::happening::{Kind, Mark};
use crate::leb128::{read, unzigzag, write, zigzag};
use crate::rows::{Form, next_generation};
use crate::{OpenError, SourceContext};

const ENCODING: u8 = 3;

/// The position in the cursor of a bucket that has rows.
pub(super) const CURSOR: &[u8] = &[ENCODING];

/// The key of the row that is of no object.
const BUCKET: &str = "";

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
    /// True where a row that says the one need not be written again for the other: that a listing
    /// has seen the same once more is not worth it.
    pub(super) fn is_stored_like(&self, other: &Self) -> bool {
        let content = |entry: &Self| (entry.state, entry.etag, entry.at, entry.generation);
        content(self) == content(other) && self.is_seen() == other.is_seen()
    }

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

/// What is known of an object once a notification is stored; none where that changes nothing. What
/// happened before what is known changes nothing.
pub(super) fn noted(known: &Known, old: Option<&Entry>, mark: &Mark) -> Option<Entry> {
    if old.is_some_and(|old| mark.at < old.at) {
        return None;
    }
    let state = match mark.kind {
        Kind::Created => State::Present,
        Kind::Removed => State::Gone,
        Kind::VersionRemoved if old.is_some() => State::Unsure,
        Kind::VersionRemoved | Kind::Other => return None,
    };
    Some(Entry {
        state,
        etag: mark.etag,
        at: mark.at,
        seen: mark.at,
        generation: old.map_or(known.generation, |old| old.generation),
    })
}

/// What was known, as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) known: Known,
    pub(super) form: Form,
    /// Rows of objects that are not known: they are to be deleted.
    pub(super) stale: Vec<String>,
}

impl Stored {
    /// Reads what is stored; none where that is damaged. What is no longer looked at, since the
    /// settings have changed, is left out: it has not been deleted.
    ///
    /// # Errors
    /// It cannot be read now.
    pub(super) async fn read(
        context: &SourceContext,
        covers: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<Option<Self>, OpenError> {
        let (form, listing) = Form::of(context, CURSOR);
        let mut stored = Self {
            form,
            ..Self::default()
        };
        if let Some(listing) = listing {
            let Some(known) = listing::decode(listing) else {
                return Ok(None);
            };
            stored.known = known;
            stored.known.objects.retain(|key, _| covers(key));
        }
        let (mut is_sound, mut has_bucket) = (true, false);
        context
            .each_position(|row| {
                is_sound &= stored.take(&row.key, &row.value, &covers);
                has_bucket |= row.key.is_empty();
            })
            .await?;
        if stored.form == Form::Rows && !has_bucket {
            let known = stored.known.objects.values();
            stored.known.generation = next_generation(known.map(|entry| entry.generation));
        }
        Ok(is_sound.then_some(stored))
    }

    /// Takes a row in; false where it is damaged.
    fn take(&mut self, key: &[u8], value: &[u8], covers: impl Fn(&str) -> bool) -> bool {
        let Ok(key) = std::str::from_utf8(key) else {
            return false;
        };
        let known = &mut self.known;
        if self.form == Form::Cursor {
            // Rows beside a listing are what was moved of it before the bus stopped.
            if key != BUCKET && !known.objects.contains_key(key) {
                self.stale.push(key.to_owned());
            }
            return true;
        }
        if key == BUCKET {
            // Where the cursor was damaged and set aside, this tells of the rows.
            self.form = Form::Rows;
            let Some((generation, identity)) = decode_bucket(value) else {
                return false;
            };
            known.generation = generation;
            known.identity = identity;
            return true;
        }
        let Some(entry) = decode_object(value) else {
            return false;
        };
        if covers(key) {
            known.objects.insert(key.to_owned(), entry);
        } else {
            self.stale.push(key.to_owned());
        }
        true
    }
}

impl Known {
    /// The row of the bucket, as it is to be stored.
    pub(super) fn bucket_row(&self) -> PositionChange {
        let mut out = vec![ENCODING];
        write(&mut out, self.generation);
        let Identity { region, created } = &self.identity;
        write(&mut out, region.len() as u64);
        out.extend_from_slice(region.as_bytes());
        let created = created.map_or(0, |created| zigzag(created).saturating_add(1));
        write(&mut out, created);
        PositionChange {
            key: BUCKET.into(),
            value: Some(out.into()),
        }
    }

    /// The row of an object, as it is to be stored: deleted where the object is not known.
    pub(super) fn object_row(&self, key: &str) -> PositionChange {
        object_row(key, self.objects.get(key))
    }
}

/// The row of an object, as it is to be stored: deleted where nothing is known of it.
pub(super) fn object_row(key: &str, entry: Option<&Entry>) -> PositionChange {
    PositionChange {
        key: key.to_owned().into(),
        value: entry.map(|entry| encode_object(entry).into()),
    }
}

fn encode_object(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    out.push(ENCODING);
    out.push(match entry.state {
        State::Present => 0,
        State::Gone => 1,
        State::Unsure => 2,
    });
    out.extend_from_slice(&entry.etag.to_be_bytes());
    write(&mut out, zigzag(entry.at));
    write(&mut out, zigzag(entry.seen.wrapping_sub(entry.at)));
    write(&mut out, entry.generation);
    out
}

/// Reads generation and identity from the row of a bucket.
fn decode_bucket(value: &[u8]) -> Option<(u64, Identity)> {
    let mut rest = value.strip_prefix(&[ENCODING])?;
    let bucket = bucket(&mut rest)?;
    rest.is_empty().then_some(bucket)
}

fn bucket(rest: &mut &[u8]) -> Option<(u64, Identity)> {
    let generation = read(rest)?;
    let length = usize::try_from(read(rest)?)
        .ok()
        .filter(|length| *length <= REGION_BYTES_MAX)?;
    let (region, after) = rest.split_at_checked(length)?;
    *rest = after;
    let identity = Identity {
        region: std::str::from_utf8(region).ok()?.to_owned(),
        created: read(rest)?.checked_sub(1).map(unzigzag),
    };
    Some((generation, identity))
}

fn decode_object(value: &[u8]) -> Option<Entry> {
    let mut rest = value.strip_prefix(&[ENCODING])?;
    let entry = seen_entry(&mut rest)?;
    let generation = read(&mut rest)?;
    rest.is_empty().then_some(Entry {
        generation,
        ..entry
    })
}

/// Reads what is known of an object but for its generation.
fn seen_entry(rest: &mut &[u8]) -> Option<Entry> {
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
    Some(Entry {
        state,
        etag: u64::from_be_bytes(*etag),
        at,
        seen,
        generation: 0,
    })
}

#[cfg(test)]
pub(super) mod tests;
