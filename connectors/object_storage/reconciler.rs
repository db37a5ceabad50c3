//! Brings together what notifications told and what the bucket holds.
//!
//! ```text
//! notification ──(stored)──▶ known ◀──(handed over with its cursor)── told
//!                              ▲                                       ▲
//! listing ──(differs)──────────┴──▶ suspects ──(after the grace)───────┘
//! ```
//!
//! What a listing shows and nobody told is a suspect. Its notification may be on its way, so it is given a grace; where the notification
//! comes meanwhile the suspicion is dropped. Nothing here does IO or waits.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::Cursor;
use tokio::time::Instant;

use super::happening::{Kind, Mark};
use super::known::{Entry, Known, Listed, State, decode, encode, note};
use crate::Acknowledgement;

/// How many objects a bucket may hold under the prefix for its listing to fit a cursor.
pub(super) const OBJECTS_MAX: usize = 100_000;

/// With so many a cursor is small, some 64 KiB.
const OBJECTS_SMALL: usize = 2_000;

/// How large a cursor may be at all.
const CURSOR_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How often a cursor goes that only says what notifications told: each holds up the appends for a moment. Until it has gone, a listing after a
/// crash would tell that again; so a queue's messages are held back until then, come again after the crash, and are known by their ids.
const CURSOR_EVERY: Duration = Duration::from_millis(200);

/// How soon one is tried again that was too large.
const CURSOR_AGAIN: Duration = Duration::from_secs(60);

/// How much cursors may make the journal write.
const CURSOR_BYTES_PER_SECOND: usize = 1024 * 1024;

/// For how long it is remembered that an object is gone, milliseconds.
const GONE_KEPT: i64 = 60 * 60 * 1_000;

/// How many graces a suspect waits at most for a queue that never runs empty.
const PATIENCE: u32 = 10;

/// Something that a listing shows and nobody has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) key: String,
    /// What is there now; none where the object is gone.
    pub(super) listed: Option<Listed>,
    /// What was known of it.
    pub(super) before: Option<Entry>,
    /// When the listing began that shows it, milliseconds since 1970.
    seen: i64,
}

/// What a listing brought.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) objects: BTreeMap<String, Listed>,
    /// When it began, milliseconds since 1970.
    pub(super) began: i64,
}

/// There are too many objects to be remembered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The reconciler. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Reconciler(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    fingerprint: u64,
    grace: Duration,
    known: Known,
    /// Keys of which a notification told since the listing under way began: it may show what was before.
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
    /// Acknowledgements that wait for a cursor to say what they acknowledge: from which one on they may be told.
    held_back: Vec<(u64, Acknowledgement)>,
    /// True until the first listing where what lies there is to be taken as known.
    skip_existing: bool,
}

/// Notifications in hand; dropped, it lets go of them.
#[derive(Debug)]
pub(super) struct Hand {
    reconciler: Reconciler,
    marks: Vec<Mark>,
}

impl Reconciler {
    /// Starts from what is stored; none where that is damaged.
    pub(super) fn new(fingerprint: u64, grace: Duration, stored: Option<&Cursor>, skip_existing: bool) -> Option<Self> {
        let known = stored.map_or(Some(Known::new()), |cursor| decode(&cursor.position))?;
        Some(Self(Arc::new(Mutex::new(Inner {
            fingerprint,
            grace,
            known,
            touched: HashSet::new(),
            in_hand: HashMap::new(),
            suspects: HashMap::new(),
            looks: BTreeSet::new(),
            owed: false,
            cursor_at: Instant::now(),
            cursors: 0,
            held_back: Vec::new(),
            skip_existing: skip_existing && stored.is_none(),
        }))))
    }

    /// Forgets what is no longer looked at: it has not been deleted.
    pub(super) fn retain(&self, covers: impl Fn(&str) -> bool) {
        self.0.lock().known.retain(|key, _| covers(key));
    }

    /// True where a listing has told already what a notification tells.
    pub(super) fn has_told(&self, mark: &Mark) -> bool {
        self.0.lock().known.get(&mark.key).is_some_and(|known| known.has_told(mark))
    }

    /// Notifications are handed over.
    pub(super) fn take(&self, marks: Vec<Mark>) -> Hand {
        let mut inner = self.0.lock();
        for mark in &marks {
            *inner.in_hand.entry(mark.key.clone()).or_default() += 1;
        }
        Hand { reconciler: self.clone(), marks }
    }

    /// A listing begins.
    pub(super) fn begin(&self) {
        self.0.lock().touched.clear();
    }

    /// A listing has ended: suspects what it shows, but for what was written within the time of `settle` before it. False where there was such.
    ///
    /// # Errors
    /// There is too much to be remembered; nothing has changed.
    pub(super) fn compare(&self, listing: Listing, settle: Duration, now: Instant) -> Result<bool, TooMany> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let Listing { objects, began } = listing;
        let known_gone = inner.known.values().filter(|entry| entry.state == State::Gone).count();
        if objects.len() + known_gone > OBJECTS_MAX {
            return Err(TooMany);
        }
        let settled = began.saturating_sub(i64::try_from(settle.as_millis()).unwrap_or(i64::MAX));
        let mut all_settled = true;
        let mut suspects = Vec::new();
        let all = std::mem::take(&mut inner.skip_existing);
        for (key, listed) in &objects {
            let before = inner.known.get(key).copied();
            if inner.touched.contains(key) {
                continue;
            } else if all || before.is_some_and(|known| known.covers(listed)) {
                // From now on its own time is known.
                inner.known.insert(
                    key.clone(),
                    Entry { state: State::Present, etag: listed.hash, at: listed.modified, seen: seen(began, listed.modified) },
                );
            } else if !settle.is_zero() && listed.modified > settled {
                all_settled = false;
            } else {
                suspects.push(Suspect { key: key.clone(), listed: Some(listed.clone()), before, seen: began });
            }
        }
        inner.known.retain(|key, entry| {
            let stays = objects.contains_key(key) || inner.touched.contains(key);
            match entry.state {
                State::Gone => entry.seen.max(entry.at) > began - GONE_KEPT,
                State::Unsure => stays,
                State::Present => {
                    if !stays {
                        suspects.push(Suspect { key: key.clone(), listed: None, before: Some(*entry), seen: began });
                    }
                    true
                }
            }
        });
        inner.owed |= all;
        // Who is suspected already keeps his time.
        let old = std::mem::take(&mut inner.suspects);
        inner.looks.clear();
        for suspect in suspects {
            let at = old.get(&suspect.key).filter(|(same, _)| same.listed == suspect.listed).map_or(now + inner.grace, |(_, at)| *at);
            inner.looks.insert((at, suspect.key.clone()));
            inner.suspects.insert(suspect.key.clone(), (suspect, at));
        }
        Ok(all_settled)
    }

    /// A suspect whose grace is over and of whom still nobody has told. `emptied` is when the last look began that found no notification
    /// waiting, if there was one.
    pub(super) fn due(&self, now: Instant, emptied: Option<Instant>) -> Option<Suspect> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        loop {
            let (at, key) = inner.looks.first().filter(|(at, _)| *at <= now)?.clone();
            inner.looks.remove(&(at, key.clone()));
            let Some((suspect, since)) = inner.suspects.get(&key) else { continue };
            let may_be_on_its_way = emptied.is_none_or(|emptied| emptied + inner.grace < *since) && now < *since + inner.grace * PATIENCE;
            let waits = may_be_on_its_way || inner.in_hand.contains_key(&key);
            if waits {
                let again = now + (inner.grace / 4).max(Duration::from_millis(100));
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
        inner.known.get(&suspect.key).copied() == suspect.before
    }

    /// A suspect is told, with the cursor that will say so.
    pub(super) fn tell(&self, suspect: &Suspect) {
        let mut inner = self.0.lock();
        let entry = match (&suspect.listed, suspect.before) {
            (Some(listed), _) => {
                Entry { state: State::Present, etag: listed.hash, at: listed.modified, seen: seen(suspect.seen, listed.modified) }
            }
            (None, before) => {
                let (etag, at) = before.map_or((0, suspect.seen), |before| (before.etag, before.at));
                Entry { state: State::Gone, etag, at, seen: seen(suspect.seen, at) }
            }
        };
        inner.known.insert(suspect.key.clone(), entry);
        inner.owed = true;
    }

    /// The cursor, where one is owed and its time has come. A small one always goes with what a listing `found`.
    ///
    /// # Errors
    /// There is too much to be remembered.
    pub(super) fn cursor(&self, found: bool, now: Instant) -> Result<Option<Cursor>, TooMany> {
        let mut inner = self.0.lock();
        let goes_along = found && inner.known.len() <= OBJECTS_SMALL;
        if !inner.owed || (now < inner.cursor_at && !goes_along) {
            return Ok(None);
        }
        let position = encode(&inner.known);
        // Past the bound by notifications alone, up to twice that fits; then the next listing says so.
        if position.len() > CURSOR_BYTES_MAX || inner.known.len() > 2 * OBJECTS_MAX {
            inner.cursor_at = now + CURSOR_AGAIN;
            // None will come soon: nothing is held back for it.
            inner.cursors += 1;
            return Err(TooMany);
        }
        let paid = Duration::from_millis((position.len() * 1_000 / CURSOR_BYTES_PER_SECOND) as u64);
        inner.cursor_at = now + paid.max(CURSOR_EVERY);
        inner.owed = false;
        inner.cursors += 1;
        Ok(Some(Cursor { fingerprint: inner.fingerprint, position: position.into() }))
    }

    /// The cursors that were handed over are stored: what was held back for them and may be told.
    pub(super) fn vouch(&self) -> Vec<Acknowledgement> {
        let mut inner = self.0.lock();
        let cursors = inner.cursors;
        inner.held_back.extract_if(.., |(from, _)| *from <= cursors).map(|(_, acknowledgement)| acknowledgement).collect()
    }

    /// When a cursor is to go, where one is owed.
    pub(super) fn cursor_at(&self) -> Option<Instant> {
        let inner = self.0.lock();
        inner.owed.then_some(inner.cursor_at)
    }
}

/// When an entry was seen by a listing: later than it was written, whatever the clocks say.
fn seen(began: i64, modified: i64) -> i64 {
    began.max(modified + 1)
}

impl Hand {
    /// They are stored: what they told is known. Gives back what is to be told now, if it is not to be held back until a cursor says so.
    pub(super) fn stored(self, acknowledgement: Acknowledgement, hold_back: bool) -> Option<Acknowledgement> {
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
mod tests {
    use super::super::happening::content_hash;
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn reconciler() -> Reconciler {
        Reconciler::new(1, GRACE, None, false).unwrap()
    }

    /// A listing that began at that second; each object was written at a second.
    fn listing(began: i64, objects: &[(&str, &str, i64)]) -> Listing {
        let listed = |(key, etag, modified): &(&str, &str, i64)| {
            ((*key).to_owned(), Listed { etag: (*etag).to_owned(), hash: content_hash(etag), size: 1, modified: modified * 1_000 })
        };
        Listing { objects: objects.iter().map(listed).collect(), began: began * 1_000 }
    }

    fn mark(key: &str, etag: &str, at: i64) -> Mark {
        Mark { key: key.to_owned(), kind: Kind::Created, etag: content_hash(etag), at: at * 1_000 }
    }

    /// Whom a listing tells of at that time after it, where the queue was just seen empty.
    fn told(reconciler: &Reconciler, now: Instant) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(suspect) = reconciler.due(now, Some(now)) {
            if reconciler.is_news(&suspect) {
                reconciler.tell(&suspect);
                told.push(suspect.key);
            }
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspect_is_told_after_the_grace_unless_its_notification_comes() {
        let (reconciler, now) = (reconciler(), Instant::now());
        reconciler.begin();
        assert_eq!(reconciler.compare(listing(100, &[("a", "1", 99), ("b", "1", 99), ("c", "1", 99)]), Duration::ZERO, now), Ok(true));
        assert!(told(&reconciler, now + GRACE / 2).is_empty());
        reconciler.take(vec![mark("a", "1", 100)]).stored(Acknowledgement::None, false);
        let hand = reconciler.take(vec![mark("b", "1", 100)]);
        assert_eq!(told(&reconciler, now + GRACE), ["c"], "of a it has been told, and b is in hand");
        drop(hand);
        assert_eq!(told(&reconciler, now + 2 * GRACE), ["b"], "it was not stored");
        reconciler.begin();
        assert_eq!(reconciler.compare(listing(200, &[("a", "1", 99), ("b", "1", 99), ("c", "1", 99)]), Duration::ZERO, now), Ok(true));
        assert_eq!(reconciler.due_at(), None);
        assert!(reconciler.has_told(&mark("c", "1", 100)) && !reconciler.has_told(&mark("c", "1", 300)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_not_read_to_its_end_is_waited_for_but_not_for_ever() {
        let (reconciler, now) = (reconciler(), Instant::now());
        reconciler.begin();
        assert_eq!(reconciler.compare(listing(100, &[("a", "1", 99)]), Duration::ZERO, now), Ok(true));
        assert_eq!(reconciler.due(now + 5 * GRACE, None), None);
        assert_eq!(reconciler.due(now + 6 * GRACE, Some(now - GRACE / 2)), None, "it was seen empty before the listing");
        assert!(reconciler.due(now + 7 * GRACE, Some(now + GRACE)).is_some());
        reconciler.begin();
        assert_eq!(reconciler.compare(listing(100, &[("a", "1", 99)]), Duration::ZERO, now), Ok(true));
        assert!(reconciler.due(now + 11 * GRACE, None).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_notification_tells_while_the_bucket_is_listed_is_newer_than_the_listing() {
        let (reconciler, now) = (reconciler(), Instant::now());
        reconciler.take(vec![mark("a", "1", 10), mark("b", "1", 10)]).stored(Acknowledgement::None, false);
        reconciler.begin();
        let gone = Mark { kind: Kind::Removed, ..mark("b", "1", 101) };
        reconciler.take(vec![mark("a", "2", 101), mark("new", "1", 101), gone]).stored(Acknowledgement::None, false);
        assert_eq!(reconciler.compare(listing(100, &[("a", "1", 9), ("b", "1", 9)]), Duration::ZERO, now), Ok(true));
        assert_eq!(reconciler.due_at(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_goes_with_the_cursor() {
        let (reconciler, now) = (reconciler(), Instant::now());
        assert_eq!(reconciler.cursor(false, now), Ok(None));
        reconciler.take(vec![mark("a", "1", 10), mark("b", "1", 10)]).stored(Acknowledgement::None, false);
        let cursor = reconciler.cursor(false, now).unwrap().unwrap();
        reconciler.take(vec![mark("c", "1", 10)]).stored(Acknowledgement::None, false);
        assert_eq!(reconciler.cursor(false, now), Ok(None), "not at once again");
        let again = Reconciler::new(1, GRACE, Some(&cursor), true).unwrap();
        again.begin();
        assert_eq!(again.compare(listing(100, &[("a", "1", 10), ("c", "1", 10)]), Duration::ZERO, now), Ok(true));
        let mut found = told(&again, now + GRACE);
        found.sort();
        assert_eq!(found, ["b", "c"], "one is gone, the other was told after the cursor");
        assert!(Reconciler::new(1, GRACE, Some(&Cursor { fingerprint: 1, position: "\u{2}".into() }), false).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_held_back_until_the_cursor_that_knows_of_it_is_stored() {
        let (reconciler, now) = (reconciler(), Instant::now());
        let store = |mark: Mark| reconciler.take(vec![mark]).stored(Acknowledgement::None, true).is_some();
        assert!(!store(mark("a", "1", 10)) && reconciler.vouch().is_empty());
        assert!(store(Mark { kind: Kind::Other, ..mark("a", "1", 10) }), "nothing to be remembered");
        assert!(reconciler.cursor(false, now).unwrap().is_some());
        assert!(!store(mark("b", "1", 10)), "while that cursor is stored");
        assert_eq!((reconciler.vouch().len(), reconciler.vouch().len()), (1, 0));
        assert!(reconciler.cursor(false, now + CURSOR_EVERY).unwrap().is_some());
        assert_eq!(reconciler.vouch().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_just_now_is_left_to_the_next_listing() {
        let (reconciler, now) = (reconciler(), Instant::now());
        reconciler.begin();
        let listed = reconciler.compare(listing(100, &[("new", "1", 99), ("old", "1", 90)]), Duration::from_secs(5), now);
        assert_eq!((listed, told(&reconciler, now + GRACE)), (Ok(false), vec!["old".to_owned()]));
    }

    #[tokio::test(start_paused = true)]
    async fn too_much_is_said_and_changes_nothing() {
        let (reconciler, now) = (reconciler(), Instant::now());
        reconciler.begin();
        let entry = Listed { etag: String::new(), hash: 1, size: 0, modified: 0 };
        let objects: BTreeMap<_, _> = (0..=OBJECTS_MAX).map(|n| (n.to_string(), entry.clone())).collect();
        assert_eq!(reconciler.compare(Listing { objects, began: 0 }, Duration::ZERO, now), Err(TooMany));
        assert_eq!((reconciler.due_at(), reconciler.cursor(false, now)), (None, Ok(None)));
    }
}
