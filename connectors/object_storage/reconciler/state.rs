//! What the reconciler knows, and what a listing changes in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::Duration;

use pointsman_schemas::{Cursor, PositionChange};
use tokio::time::Instant;

use crate::object_storage::known::{CURSOR, Entry, Identity, Known, Listed, State, Stored};
use crate::rows::Form;

/// Something that a listing shows and nobody has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::object_storage) struct Suspect {
    pub(in crate::object_storage) key: String,
    /// What is there now; none where the object is gone.
    pub(in crate::object_storage) listed: Option<Listed>,
    /// What was known of it.
    pub(in crate::object_storage) before: Option<Entry>,
    /// The generation that the change is told with.
    pub(in crate::object_storage) generation: u64,
    /// When the listing began that shows it, milliseconds since 1970.
    pub(super) seen: i64,
}

/// What a listing brought.
#[derive(Debug, Default)]
pub(in crate::object_storage) struct Listing {
    pub(in crate::object_storage) objects: BTreeMap<String, Listed>,
    /// When it began, milliseconds since 1970.
    pub(in crate::object_storage) began: i64,
    /// Which bucket it is of.
    pub(in crate::object_storage) identity: Identity,
}

/// A listing is not believed: it is of another bucket than the one that was followed, and shows
/// less than half of what was known.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::object_storage) struct AnotherBucket;

/// What reconciling is set to.
#[derive(Clone, Copy, Debug)]
pub(in crate::object_storage) struct Terms {
    pub(in crate::object_storage) fingerprint: u64,
    /// How long a suspect is left to the notifications.
    pub(in crate::object_storage) grace: Duration,
    /// How long the queue may still hide messages that were handed out before, and whose events may
    /// have been stored: a crash leaves them so.
    pub(in crate::object_storage) hidden: Duration,
    /// True where what lies there at the very first start is to be taken as known.
    pub(in crate::object_storage) skip_existing: bool,
    /// True where a listing of another bucket than the one that was followed is not believed.
    pub(in crate::object_storage) holds: bool,
}

/// Rows to be handed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::object_storage) struct Rows {
    pub(in crate::object_storage) positions: Vec<PositionChange>,
    /// None where more have to follow before it may be said that there are rows.
    pub(in crate::object_storage) cursor: Option<Cursor>,
}

#[derive(Debug)]
pub(super) struct ReconcilerState {
    pub(super) terms: Terms,
    pub(super) known: Known,
    /// Until when the queue may hide what was handed out before the start.
    pub(super) hidden_until: Instant,
    /// Keys of which a notification told since the listing under way began: it may show what was
    /// before.
    pub(super) touched: HashSet<String>,
    /// Keys whose notifications are handed over and not yet stored, with how many.
    pub(super) in_flight: HashMap<String, u32>,
    /// With when the grace of each is over.
    pub(super) suspects: HashMap<String, (Suspect, Instant)>,
    /// When to look at which suspect.
    pub(super) looks: BTreeSet<(Instant, String)>,
    /// True where the row of the bucket does not say what is known, or there is none yet.
    pub(super) bucket_owed: bool,
    /// Keys whose rows do not say what is known, though no message is to.
    pub(super) owed: BTreeSet<String>,
    /// From which key on rows have to be written, where none are stored yet. Until they are,
    /// nothing else happens.
    pub(super) unwritten: Option<Bound<String>>,
    /// True until the first listing where what lies there is to be taken as known.
    pub(super) skip_existing: bool,
}

impl ReconcilerState {
    /// Starts from what is stored.
    pub(super) fn new(terms: Terms, stored: Stored) -> Self {
        let Stored { known, form, stale } = stored;
        Self {
            terms,
            known,
            hidden_until: Instant::now() + terms.hidden,
            touched: HashSet::new(),
            in_flight: HashMap::new(),
            suspects: HashMap::new(),
            looks: BTreeSet::new(),
            bucket_owed: form != Form::Rows,
            owed: stale.into_iter().collect(),
            unwritten: (form == Form::Cursor).then_some(Bound::Unbounded),
            skip_existing: terms.skip_existing && form == Form::Nothing,
        }
    }

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

    pub(super) fn cursor(&self) -> Cursor {
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

    /// A listing has ended: suspects what it shows, but for what was written within the time of
    /// `settle` before it. False where there was such.
    ///
    /// # Errors
    /// The listing is not believed; nothing has changed.
    pub(super) fn compare(
        &mut self,
        listing: Listing,
        settle: Duration,
        now: Instant,
    ) -> Result<bool, AnotherBucket> {
        let Listing {
            objects,
            began,
            identity,
        } = listing;
        self.recognise(identity, &objects)?;
        let settled = began.saturating_sub(i64::try_from(settle.as_millis()).unwrap_or(i64::MAX));
        let mut all_settled = true;
        let mut suspects = Vec::new();
        let all = std::mem::take(&mut self.skip_existing);
        for (key, listed) in &objects {
            let before = self.known.objects.get(key).copied();
            if self.touched.contains(key) {
                continue;
            } else if all || before.is_some_and(|known| known.covers(listed)) {
                // From now on its own time is known.
                let generation = before.map_or(self.known.generation, |before| before.generation);
                let seen = seen(began, listed.modified);
                let entry = Entry {
                    state: State::Present,
                    etag: listed.hash,
                    at: listed.modified,
                    seen,
                    generation,
                };
                self.know(key, entry);
            } else if !settle.is_zero() && listed.modified > settled {
                all_settled = false;
            } else {
                suspects.push(self.suspect(key, Some(listed.clone()), before, began));
            }
        }
        let gone = |entry: &Entry| entry.state == State::Present;
        let untouched = |key: &String| !objects.contains_key(key) && !self.touched.contains(key);
        let missing: Vec<_> = self
            .known
            .objects
            .iter()
            .filter(|(key, entry)| gone(entry) && untouched(key))
            .collect();
        let missing: Vec<_> = missing
            .into_iter()
            .map(|(key, entry)| self.suspect(key, None, Some(*entry), began))
            .collect();
        suspects.extend(missing);
        self.forget(&objects, began);
        if all {
            // Left are rows of a first start that was cut off.
            let known = &self.known.objects;
            self.owed.retain(|key| !known.contains_key(key));
            self.unwritten = Some(Bound::Unbounded);
        }
        self.replace_suspects(suspects, now);
        Ok(all_settled)
    }
}

/// When an entry was seen by a listing: later than it was written, whatever the clocks say.
pub(super) fn seen(began: i64, modified: i64) -> i64 {
    began.max(modified + 1)
}
