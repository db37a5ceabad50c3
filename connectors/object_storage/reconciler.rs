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
//! **Identity.** The id of what a listing tells names the key's generation, which the cursor keeps.
//! So that a change has the same id when it is told again after a crash, its generation follows
//! from the last cursor that was handed over: of one key listings tell at most one change between
//! two cursors, and a second one waits for the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::Cursor;
use tokio::time::Instant;

use super::happening::{Kind, Mark};
use super::known::{Entry, Identity, Known, Listed, State, decode, encode, note};
use crate::Acknowledgement;

/// How many objects a bucket may hold under the prefix for its listing to fit a cursor.
pub(super) const OBJECTS_MAX: usize = 100_000;

/// With so many a cursor is small, some 64 KiB.
const OBJECTS_SMALL: usize = 2_000;

/// How large a cursor may be at all.
const CURSOR_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How often a cursor goes that only says what notifications told: each holds up the appends for a
/// moment. Until it has gone, a listing after a crash would tell that again; so a queue's messages
/// are held back until then, come again after the crash, and are known by their ids.
const CURSOR_EVERY: Duration = Duration::from_millis(200);

/// How soon one is tried again that was too large.
const CURSOR_AGAIN: Duration = Duration::from_secs(60);

/// How much cursors may make the journal write.
const CURSOR_BYTES_PER_SECOND: usize = 1024 * 1024;

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

/// Why a listing is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Disbelief {
    /// See [`TooMany`].
    TooMany,
    /// It is of another bucket than the one that was followed, and shows less than half of what was
    /// known.
    AnotherBucket,
}

impl From<TooMany> for Disbelief {
    fn from(TooMany: TooMany) -> Self {
        Self::TooMany
    }
}

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

/// There are too many objects to be remembered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The reconciler. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Reconciler(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    terms: Terms,
    /// Its generation is that of the last cursor handed over.
    known: Known,
    /// Until when the queue may hide what was handed out before the start.
    hidden_until: Instant,
    /// Keys of which listings have told since the last cursor was handed over.
    told: HashSet<String>,
    /// Keys of which a notification told since the listing under way began: it may show what was
    /// before.
    touched: HashSet<String>,
    /// Keys whose notifications are handed over and not yet stored, with how many.
    in_hand: HashMap<String, u32>,
    /// With when the grace of each is over.
    suspects: HashMap<String, (Suspect, Instant)>,
    /// When to look at which suspect.
    looks: BTreeSet<(Instant, String)>,
    /// True where the cursor does not say yet what is known.
    owed: bool,
    cursor_at: Instant,
    /// How many cursors have been handed over.
    cursors: u64,
    /// Acknowledgements that wait for a cursor to say what they acknowledge: from which one on they
    /// may be told.
    held_back: Vec<(u64, Acknowledgement)>,
    /// True until the first listing where what lies there is to be taken as known.
    skip_existing: bool,
    /// When the last listing began that was compared, milliseconds since 1970.
    listed_at: i64,
}

/// Notifications in hand; dropped, it lets go of them.
#[derive(Debug)]
pub(super) struct Hand {
    reconciler: Reconciler,
    marks: Vec<Mark>,
}

impl Reconciler {
    /// Starts from what is stored; none where that is damaged.
    pub(super) fn new(terms: Terms, stored: Option<&Cursor>) -> Option<Self> {
        let known = stored.map_or(Some(Known::default()), |cursor| decode(&cursor.position))?;
        Some(Self(Arc::new(Mutex::new(Inner {
            terms,
            known,
            hidden_until: Instant::now() + terms.hidden,
            told: HashSet::new(),
            touched: HashSet::new(),
            in_hand: HashMap::new(),
            suspects: HashMap::new(),
            looks: BTreeSet::new(),
            owed: false,
            cursor_at: Instant::now(),
            cursors: 0,
            held_back: Vec::new(),
            skip_existing: terms.skip_existing && stored.is_none(),
            listed_at: i64::MIN,
        }))))
    }

    /// Forgets what is no longer looked at: it has not been deleted.
    pub(super) fn retain(&self, covers: impl Fn(&str) -> bool) {
        self.0.lock().known.objects.retain(|key, _| covers(key));
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
        for mark in &marks {
            *inner.in_hand.entry(mark.key.clone()).or_default() += 1;
        }
        Hand {
            reconciler: self.clone(),
            marks,
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
    ) -> Result<bool, Disbelief> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let Listing {
            objects,
            began,
            identity,
        } = listing;
        let known_gone = inner
            .known
            .objects
            .values()
            .filter(|entry| entry.state == State::Gone)
            .count();
        if objects.len() + known_gone > OBJECTS_MAX {
            return Err(Disbelief::TooMany);
        }
        inner.recognise(identity, &objects)?;
        inner.listed_at = began;
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
                inner.known.objects.insert(key.clone(), entry);
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
        // Of one that went with one of its versions, nothing is to be told; it is forgotten as one
        // that is gone.
        for (key, entry) in &mut inner.known.objects {
            if entry.state == State::Unsure
                && !objects.contains_key(key)
                && !inner.touched.contains(key)
            {
                entry.state = State::Gone;
            }
        }
        inner.owed |= all
            || inner
                .known
                .objects
                .values()
                .any(|entry| entry.is_forgotten(began));
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
            if may_be_on_its_way || inner.in_hand.contains_key(&key) || inner.told.contains(&key) {
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

    /// True where what a listing showed has not become known since.
    pub(super) fn is_news(&self, suspect: &Suspect) -> bool {
        let inner = self.0.lock();
        inner.known.objects.get(&suspect.key).copied() == suspect.before
    }

    /// A suspect is told, with the cursor that will say so.
    pub(super) fn tell(&self, suspect: &Suspect) {
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
        inner.told.insert(suspect.key.clone());
        inner.owed = true;
    }

    /// The cursor, where one is owed and its time has come. A small one always goes with what a
    /// listing `found`.
    ///
    /// # Errors
    /// There is too much to be remembered.
    pub(super) fn cursor(&self, found: bool, now: Instant) -> Result<Option<Cursor>, TooMany> {
        let mut inner = self.0.lock();
        let goes_along = found && inner.known.objects.len() <= OBJECTS_SMALL;
        if !inner.owed || (now < inner.cursor_at && !goes_along) {
            return Ok(None);
        }
        inner.forget();
        let position = encode(&inner.known);
        // Past the bound by notifications alone, up to twice that fits; then the next listing says
        // so.
        if position.len() > CURSOR_BYTES_MAX || inner.known.objects.len() > 2 * OBJECTS_MAX {
            inner.cursor_at = now + CURSOR_AGAIN;
            // None will come soon: nothing is held back for it.
            inner.cursors += 1;
            return Err(TooMany);
        }
        let paid = Duration::from_millis((position.len() * 1_000 / CURSOR_BYTES_PER_SECOND) as u64);
        inner.cursor_at = now + paid.max(CURSOR_EVERY);
        inner.owed = false;
        inner.cursors += 1;
        inner.told.clear();
        Ok(Some(Cursor {
            fingerprint: inner.terms.fingerprint,
            position: position.into(),
        }))
    }

    /// The cursors that were handed over are stored: what was held back for them and may be told.
    pub(super) fn vouch(&self) -> Vec<Acknowledgement> {
        let mut inner = self.0.lock();
        let cursors = inner.cursors;
        inner
            .held_back
            .extract_if(.., |(from, _)| *from <= cursors)
            .map(|(_, acknowledgement)| acknowledgement)
            .collect()
    }

    /// When a cursor is to go, where one is owed.
    pub(super) fn cursor_at(&self) -> Option<Instant> {
        let inner = self.0.lock();
        inner.owed.then_some(inner.cursor_at)
    }
}

impl Inner {
    /// Takes in which bucket a listing is of.
    fn recognise(
        &mut self,
        identity: Identity,
        objects: &BTreeMap<String, Listed>,
    ) -> Result<(), Disbelief> {
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
                return Err(Disbelief::AnotherBucket);
            }
        }
        let before = self.known.identity.clone();
        self.known.identity.learn(identity);
        self.owed |= before != self.known.identity;
        Ok(())
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

    /// Forgets the objects that are long gone, in favour of a generation above theirs. Both become
    /// true with the next cursor.
    fn forget(&mut self) {
        let listed_at = self.listed_at;
        for (_, entry) in self
            .known
            .objects
            .extract_if(.., |_, entry| entry.is_forgotten(listed_at))
        {
            self.known.generation = self
                .known
                .generation
                .max(entry.generation.saturating_add(1));
        }
    }
}

/// When an entry was seen by a listing: later than it was written, whatever the clocks say.
fn seen(began: i64, modified: i64) -> i64 {
    began.max(modified + 1)
}

impl Hand {
    /// They are stored: what they told is known. Gives back what is to be told now, if it is not to
    /// be held back until a cursor says so.
    pub(super) fn stored(
        self,
        acknowledgement: Acknowledgement,
        hold_back: bool,
    ) -> Option<Acknowledgement> {
        let mut inner = self.reconciler.0.lock();
        let mut changed = false;
        for mark in self.marks.iter().filter(|mark| mark.kind != Kind::Other) {
            note(&mut inner.known, mark);
            inner.touched.insert(mark.key.clone());
            inner.suspects.remove(&mark.key);
            changed = true;
        }
        inner.owed |= changed;
        if !changed || !hold_back {
            return Some(acknowledgement);
        }
        let from = inner.cursors + 1;
        inner.held_back.push((from, acknowledgement));
        None
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
