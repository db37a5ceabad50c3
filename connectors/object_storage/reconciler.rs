//! Brings together what notifications told and what the bucket holds.
//!
//! ```text
//! notification ──(stored)──▶ known ◀──(handed over with its cursor)── told
//!                              ▲                                       ▲
//! listing ──(differs)──────────┴──▶ suspects ──(after the grace)───────┘
//! ```
//!
//! What a listing shows and nobody told is a suspect. Its notification may be on its way, so it is
//! given a grace; where the notification comes meanwhile the suspicion is dropped. Nothing here
//! does IO or waits.
//!
//! **Position.** What a message tells goes with the rows that say so, so that either both are
//! stored or neither is. A notification carries the rows that it leaves where nothing else happens
//! meanwhile; where something else did, or a listing shows more than was known, rows are owed and
//! go with a batch of what listings found. Those have a cursor, for which the bus stores one after
//! the other, and none of them has a row of a key whose notification is in hand.
//!
//! **Identity.** The id of what a listing tells names the key's generation, which its row keeps: a
//! change that is told again after a crash has the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::{Cursor, PositionChange};
use tokio::time::Instant;

use super::happening::{Kind, Mark};
use super::known::{CURSOR, Entry, Identity, Known, Listed, State, Stored, noted, object_row};
use crate::rows::Form;

/// How many rows go with a batch at most beside those of what it tells.
const BATCH_ROWS_MAX: usize = 1_000;

/// How many graces a suspect waits at most for a queue that never runs empty.
const PATIENCE: u32 = 10;

/// The shortest such wait: a short grace is soon over ten times while a queue is still being
/// emptied.
const PATIENCE_MIN: Duration = Duration::from_secs(60);

/// Something that a listing shows and nobody has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) key: String,
    /// What is there now; none where the object is gone.
    pub(super) listed: Option<Listed>,
    /// What was known of it.
    pub(super) before: Option<Entry>,
    /// The generation that the change is told with.
    pub(super) generation: u64,
    /// When the listing began that shows it, milliseconds since 1970.
    seen: i64,
}

/// What a listing brought.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) objects: BTreeMap<String, Listed>,
    /// When it began, milliseconds since 1970.
    pub(super) began: i64,
    /// Which bucket it is of.
    pub(super) identity: Identity,
}

/// A listing is not believed: it is of another bucket than the one that was followed, and shows
/// less than half of what was known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnotherBucket;

/// What reconciling is set to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) fingerprint: u64,
    /// How long a suspect is left to the notifications.
    pub(super) grace: Duration,
    /// How long the queue may still hide messages that were handed out before, and whose events may
    /// have been stored: a crash leaves them so.
    pub(super) hidden: Duration,
    /// True where what lies there at the very first start is to be taken as known.
    pub(super) skip_existing: bool,
    /// True where a listing of another bucket than the one that was followed is not believed.
    pub(super) holds: bool,
}

/// The reconciler. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Reconciler(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    terms: Terms,
    known: Known,
    /// Until when the queue may hide what was handed out before the start.
    hidden_until: Instant,
    /// Keys of which a notification told since the listing under way began: it may show what was
    /// before.
    touched: HashSet<String>,
    /// Keys whose notifications are handed over and not yet stored, with how many.
    in_hand: HashMap<String, u32>,
    /// With when the grace of each is over.
    suspects: HashMap<String, (Suspect, Instant)>,
    /// When to look at which suspect.
    looks: BTreeSet<(Instant, String)>,
    /// True where the row of the bucket does not say what is known, or there is none yet.
    bucket_owed: bool,
    /// Keys whose rows do not say what is known, though no message is to.
    owed: BTreeSet<String>,
    /// From which key on rows have to be written, where none are stored yet. Until they are,
    /// nothing else happens.
    unwritten: Option<Bound<String>>,
    /// True until the first listing where what lies there is to be taken as known.
    skip_existing: bool,
}

/// Notifications in hand; dropped, it lets go of them.
#[derive(Debug)]
pub(super) struct Hand {
    reconciler: Reconciler,
    marks: Vec<Mark>,
    /// What its message's rows say.
    carried: HashMap<String, Entry>,
}

/// Rows to be handed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) positions: Vec<PositionChange>,
    /// None where more have to follow before it may be said that there are rows.
    pub(super) cursor: Option<Cursor>,
}

impl Reconciler {
    /// Starts from what is stored.
    pub(super) fn new(terms: Terms, stored: Stored) -> Self {
        let Stored { known, form, stale } = stored;
        Self(Arc::new(Mutex::new(Inner {
            terms,
            known,
            hidden_until: Instant::now() + terms.hidden,
            touched: HashSet::new(),
            in_hand: HashMap::new(),
            suspects: HashMap::new(),
            looks: BTreeSet::new(),
            bucket_owed: form != Form::Rows,
            owed: stale.into_iter().collect(),
            unwritten: (form == Form::Cursor).then_some(Bound::Unbounded),
            skip_existing: terms.skip_existing && form == Form::Nothing,
        })))
    }

    /// True where a listing has told already what a notification tells.
    pub(super) fn has_told(&self, mark: &Mark) -> bool {
        self.0
            .lock()
            .known
            .objects
            .get(&mark.key)
            .is_some_and(|known| known.has_told(mark))
    }

    /// Notifications are handed over.
    pub(super) fn take(&self, marks: Vec<Mark>) -> Hand {
        let mut inner = self.0.lock();
        let mut carried: HashMap<String, Entry> = HashMap::new();
        for mark in &marks {
            *inner.in_hand.entry(mark.key.clone()).or_default() += 1;
            let old = carried.get(&mark.key);
            let old = old.or_else(|| inner.known.objects.get(&mark.key));
            if let Some(entry) = noted(&inner.known, old, mark) {
                carried.insert(mark.key.clone(), entry);
            }
        }
        Hand {
            reconciler: self.clone(),
            marks,
            carried,
        }
    }

    /// A listing begins.
    pub(super) fn begin(&self) {
        self.0.lock().touched.clear();
    }

    /// A listing has ended: suspects what it shows, but for what was written within the time of
    /// `settle` before it. False where there was such.
    ///
    /// # Errors
    /// The listing is not believed; nothing has changed.
    pub(super) fn compare(
        &self,
        listing: Listing,
        settle: Duration,
        now: Instant,
    ) -> Result<bool, AnotherBucket> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let Listing {
            objects,
            began,
            identity,
        } = listing;
        inner.recognise(identity, &objects)?;
        let settled = began.saturating_sub(i64::try_from(settle.as_millis()).unwrap_or(i64::MAX));
        let mut all_settled = true;
        let mut suspects = Vec::new();
        let all = std::mem::take(&mut inner.skip_existing);
        for (key, listed) in &objects {
            let before = inner.known.objects.get(key).copied();
            if inner.touched.contains(key) {
                continue;
            } else if all || before.is_some_and(|known| known.covers(listed)) {
                // From now on its own time is known.
                let generation = before.map_or(inner.known.generation, |before| before.generation);
                let seen = seen(began, listed.modified);
                let entry = Entry {
                    state: State::Present,
                    etag: listed.hash,
                    at: listed.modified,
                    seen,
                    generation,
                };
                inner.know(key, entry);
            } else if !settle.is_zero() && listed.modified > settled {
                all_settled = false;
            } else {
                suspects.push(inner.suspect(key, Some(listed.clone()), before, began));
            }
        }
        let gone = |entry: &Entry| entry.state == State::Present;
        let untouched = |key: &String| !objects.contains_key(key) && !inner.touched.contains(key);
        let missing: Vec<_> = inner
            .known
            .objects
            .iter()
            .filter(|(key, entry)| gone(entry) && untouched(key))
            .collect();
        let missing: Vec<_> = missing
            .into_iter()
            .map(|(key, entry)| inner.suspect(key, None, Some(*entry), began))
            .collect();
        suspects.extend(missing);
        inner.forget(&objects, began);
        if all {
            // Left are rows of a first start that was cut off.
            let known = &inner.known.objects;
            inner.owed.retain(|key| !known.contains_key(key));
            inner.unwritten = Some(Bound::Unbounded);
        }
        inner.replace_suspects(suspects, now);
        Ok(all_settled)
    }

    /// A suspect whose grace is over and of whom still nobody has told. `emptied` is when the last
    /// look began that found no notification waiting, if there was one.
    pub(super) fn due(&self, now: Instant, emptied: Option<Instant>) -> Option<Suspect> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        loop {
            let (at, key) = inner.looks.first().filter(|(at, _)| *at <= now)?.clone();
            inner.looks.remove(&(at, key.clone()));
            let Some((suspect, since)) = inner.suspects.get(&key) else {
                continue;
            };
            let grace = inner.terms.grace;
            let unseen = emptied
                .is_none_or(|emptied| emptied + grace < *since || emptied < inner.hidden_until);
            let may_be_on_its_way = unseen
                && now < (*since).max(inner.hidden_until) + (grace * PATIENCE).max(PATIENCE_MIN);
            if may_be_on_its_way || inner.in_hand.contains_key(&key) {
                let again = now + (grace / 4).max(Duration::from_millis(100));
                inner.looks.insert((again, key));
                continue;
            }
            let suspect = suspect.clone();
            inner.suspects.remove(&key);
            return Some(suspect);
        }
    }

    /// When the next suspect is to be looked at.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.0.lock().looks.first().map(|(at, _)| *at)
    }

    /// True where what a listing showed has not become known since, nor is being told.
    pub(super) fn is_news(&self, suspect: &Suspect) -> bool {
        let inner = self.0.lock();
        inner.known.objects.get(&suspect.key).copied() == suspect.before
            && !inner.in_hand.contains_key(&suspect.key)
    }

    /// A suspect is told, with the row that says so.
    pub(super) fn tell(&self, suspect: &Suspect) -> PositionChange {
        let mut inner = self.0.lock();
        let generation = suspect.generation;
        let entry = match (&suspect.listed, suspect.before) {
            (Some(listed), _) => {
                let seen = seen(suspect.seen, listed.modified);
                Entry {
                    state: State::Present,
                    etag: listed.hash,
                    at: listed.modified,
                    seen,
                    generation,
                }
            }
            (None, before) => {
                let (etag, at) =
                    before.map_or((0, suspect.seen), |before| (before.etag, before.at));
                Entry {
                    state: State::Gone,
                    etag,
                    at,
                    seen: seen(suspect.seen, at),
                    generation,
                }
            }
        };
        inner.known.objects.insert(suspect.key.clone(), entry);
        inner.owed.remove(&suspect.key);
        object_row(&suspect.key, Some(&entry))
    }

    /// The next of the rows that have to be written before anything else happens. The last go with
    /// the cursor that says that there are rows; a start that is cut off before begins anew.
    pub(super) fn unwritten(&self) -> Option<Rows> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let from = inner.unwritten.take()?;
        let objects = inner.known.objects.range((from, Bound::Unbounded));
        let mut positions = Vec::new();
        let (mut last, mut left) = (None, BATCH_ROWS_MAX);
        for (key, entry) in objects.take(BATCH_ROWS_MAX) {
            if inner.in_hand.contains_key(key) {
                inner.owed.insert(key.clone());
            } else {
                positions.push(object_row(key, Some(entry)));
            }
            (last, left) = (Some(key), left - 1);
        }
        if let Some(last) = last.filter(|_| left == 0) {
            inner.unwritten = Some(Bound::Excluded(last.clone()));
            let cursor = None;
            return Some(Rows { positions, cursor });
        }
        inner.bucket_owed = false;
        positions.push(inner.known.bucket_row());
        let cursor = Some(inner.cursor());
        Some(Rows { positions, cursor })
    }

    /// Rows that are owed, as many as may go with a batch; none where there are none and the batch
    /// holds nothing that listings `found`.
    pub(super) fn rows(&self, found: bool) -> Option<Rows> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let mut positions = Vec::new();
        // What is in hand has rows of its own, which may be stored before these or behind them.
        let free = |key: &&String| !inner.in_hand.contains_key(*key);
        let keys = inner.owed.iter().filter(free).take(BATCH_ROWS_MAX);
        let keys: Vec<_> = keys.cloned().collect();
        for key in keys {
            positions.push(inner.known.object_row(&key));
            inner.owed.remove(&key);
        }
        // That there are rows is said once what lies there at the very first start is among them.
        let cursor = (!inner.skip_existing).then(|| inner.cursor());
        if inner.bucket_owed && cursor.is_some() {
            inner.bucket_owed = false;
            positions.push(inner.known.bucket_row());
        }
        (found || !positions.is_empty()).then_some(Rows { positions, cursor })
    }
}

impl Inner {
    /// Takes in which bucket a listing is of.
    fn recognise(
        &mut self,
        identity: Identity,
        objects: &BTreeMap<String, Listed>,
    ) -> Result<(), AnotherBucket> {
        let known = || {
            self.known
                .objects
                .iter()
                .filter(|(_, entry)| entry.state == State::Present)
        };
        let is_there = |key: &String, entry: &Entry| {
            objects
                .get(key)
                .is_some_and(|listed| entry.etag == listed.hash || entry.etag == 0)
        };
        if self.terms.holds && self.known.identity.differs(&identity) {
            // Where the bucket's settings have changed alone, or a copy stands in its place, its
            // objects are there.
            let found = known().filter(|(key, entry)| is_there(key, entry)).count();
            if found * 2 < known().count() {
                return Err(AnotherBucket);
            }
        }
        let before = self.known.identity.clone();
        self.known.identity.learn(identity);
        self.bucket_owed |= before != self.known.identity;
        Ok(())
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            fingerprint: self.terms.fingerprint,
            position: CURSOR.into(),
        }
    }

    /// Takes in what a listing shows of an object and is nothing to be told.
    fn know(&mut self, key: &str, entry: Entry) {
        let before = self.known.objects.insert(key.to_owned(), entry);
        if before.is_none_or(|before| !before.is_stored_like(&entry)) {
            self.owed.insert(key.to_owned());
        }
    }

    fn suspect(
        &self,
        key: &str,
        listed: Option<Listed>,
        before: Option<Entry>,
        seen: i64,
    ) -> Suspect {
        let generation = before.map_or(self.known.generation, |before| {
            before.generation.saturating_add(1)
        });
        Suspect {
            key: key.to_owned(),
            listed,
            before,
            generation,
            seen,
        }
    }

    /// Suspects these alone. Who is suspected already keeps his time.
    fn replace_suspects(&mut self, suspects: Vec<Suspect>, now: Instant) {
        let old = std::mem::take(&mut self.suspects);
        self.looks.clear();
        for suspect in suspects {
            let at = old
                .get(&suspect.key)
                .filter(|(same, _)| same.listed == suspect.listed)
                .map_or(now + self.terms.grace, |(_, at)| *at);
            self.looks.insert((at, suspect.key.clone()));
            self.suspects.insert(suspect.key.clone(), (suspect, at));
        }
    }

    /// Forgets the objects that are long gone, in favour of a generation above theirs. Of one that
    /// went with one of its versions, nothing is to be told; it is gone now.
    fn forget(&mut self, objects: &BTreeMap<String, Listed>, listed_at: i64) {
        let Self {
            known,
            touched,
            owed,
            bucket_owed,
            ..
        } = self;
        let missing = |key: &String| !objects.contains_key(key) && !touched.contains(key);
        for (key, entry) in &mut known.objects {
            if entry.state == State::Unsure && missing(key) {
                entry.state = State::Gone;
                owed.insert(key.clone());
            }
        }
        // One that is there again is still to be told, with a generation above its own.
        let forgotten = known.objects.extract_if(.., |key, entry| {
            entry.is_forgotten(listed_at) && !objects.contains_key(key)
        });
        for (key, entry) in forgotten {
            let above = entry.generation.saturating_add(1);
            known.generation = known.generation.max(above);
            owed.insert(key);
            *bucket_owed = true;
        }
    }
}

/// When an entry was seen by a listing: later than it was written, whatever the clocks say.
fn seen(began: i64, modified: i64) -> i64 {
    began.max(modified + 1)
}

impl Hand {
    /// The rows of the message that hands them over.
    pub(super) fn rows(&self) -> Vec<PositionChange> {
        let row = |(key, entry): (&String, &Entry)| object_row(key, Some(entry));
        self.carried.iter().map(row).collect()
    }

    /// They are stored: what they told is known.
    pub(super) fn stored(self) {
        let mut inner = self.reconciler.0.lock();
        let inner = &mut *inner;
        for mark in self.marks.iter().filter(|mark| mark.kind != Kind::Other) {
            let old = inner.known.objects.get(&mark.key);
            let entry = noted(&inner.known, old, mark);
            if let Some(entry) = entry {
                inner.known.objects.insert(mark.key.clone(), entry);
            }
            inner.touched.insert(mark.key.clone());
            inner.suspects.remove(&mark.key);
            // Something else has happened to it since the message was made.
            if self.carried.get(&mark.key) != inner.known.objects.get(&mark.key)
                && (entry.is_some() || self.carried.contains_key(&mark.key))
            {
                inner.owed.insert(mark.key.clone());
            }
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let mut inner = self.reconciler.0.lock();
        for mark in &self.marks {
            if let Some(count) = inner.in_hand.get_mut(&mark.key) {
                *count -= 1;
                if *count == 0 {
                    inner.in_hand.remove(&mark.key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
