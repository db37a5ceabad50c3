use std::time::Duration;

use pointsman_schemas::Cursor;
use tokio::time::Instant;

use super::super::happening::{Kind, Mark, content_hash};
use super::super::known::tests::{listing_of, read_back, rows};
use super::super::known::{Entry, Identity, Known, Listed, State, Stored};
use super::output::BATCH_ROWS_MAX;
use super::*;
use crate::rows::Form;
use crate::suite::Stored as Journal;

const GRACE: Duration = Duration::from_secs(60);

const TERMS: Terms = Terms {
    fingerprint: 1,
    grace: GRACE,
    hidden: Duration::ZERO,
    skip_existing: false,
    holds: true,
};

fn reconciler() -> Reconciler {
    Reconciler::new(TERMS, Stored::default())
}

/// Stores what notifications told, as their message's append does.
fn store(reconciler: &Reconciler, marks: Vec<Mark>, journal: &mut Journal) {
    let hand = reconciler.take(marks);
    journal.change(&hand.rows());
    hand.stored();
}

/// Stores the rows that are owed.
fn store_owed(reconciler: &Reconciler, journal: &mut Journal) {
    while let Some(Rows { positions, cursor }) =
        reconciler.unwritten().or_else(|| reconciler.rows(false))
    {
        journal.change(&positions);
        journal.cursor = cursor.or(journal.cursor.take());
    }
}

/// What the next start knows.
async fn again(journal: &Journal) -> Reconciler {
    Reconciler::new(TERMS, read_back(journal).await.unwrap())
}

/// A listing that began at that second; each object was written at a second.
fn listing(began: i64, objects: &[(&str, &str, i64)]) -> Listing {
    let listed = |(key, etag, modified): &(&str, &str, i64)| {
        (
            (*key).to_owned(),
            Listed {
                etag: (*etag).to_owned(),
                hash: content_hash(etag),
                size: 1,
                modified: modified * 1_000,
            },
        )
    };
    Listing {
        objects: objects.iter().map(listed).collect(),
        began: began * 1_000,
        identity: Identity::default(),
    }
}

fn mark(key: &str, etag: &str, at: i64) -> Mark {
    Mark {
        key: key.to_owned(),
        kind: Kind::Created,
        etag: content_hash(etag),
        at: at * 1_000,
    }
}

/// Whom a listing tells of at that time after it, where the queue was just seen empty.
fn told(reconciler: &Reconciler, now: Instant) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(suspect) = reconciler.due(now, Some(now)) {
        if reconciler.is_news(&suspect) {
            drop(reconciler.tell(&suspect));
            told.push(suspect.key);
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_told_after_the_grace_unless_its_notification_comes() {
    let (reconciler, now) = (reconciler(), Instant::now());
    reconciler.begin();
    assert_eq!(
        reconciler.compare(
            listing(100, &[("a", "1", 99), ("b", "1", 99), ("c", "1", 99)]),
            Duration::ZERO,
            now
        ),
        Ok(true)
    );
    assert!(told(&reconciler, now + GRACE / 2).is_empty());
    reconciler.take(vec![mark("a", "1", 100)]).stored();
    let hand = reconciler.take(vec![mark("b", "1", 100)]);
    assert_eq!(
        told(&reconciler, now + GRACE),
        ["c"],
        "of a it has been told, and b is in hand"
    );
    drop(hand);
    assert_eq!(
        told(&reconciler, now + 2 * GRACE),
        ["b"],
        "it was not stored"
    );
    reconciler.begin();
    assert_eq!(
        reconciler.compare(
            listing(200, &[("a", "1", 99), ("b", "1", 99), ("c", "1", 99)]),
            Duration::ZERO,
            now
        ),
        Ok(true)
    );
    assert_eq!(reconciler.due_at(), None);
    assert!(
        reconciler.has_told(&mark("c", "1", 100)) && !reconciler.has_told(&mark("c", "1", 300))
    );
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_not_read_to_its_end_is_waited_for_but_not_for_ever() {
    let (reconciler, now) = (reconciler(), Instant::now());
    reconciler.begin();
    assert_eq!(
        reconciler.compare(listing(100, &[("a", "1", 99)]), Duration::ZERO, now),
        Ok(true)
    );
    assert_eq!(reconciler.due(now + 5 * GRACE, None), None);
    assert_eq!(
        reconciler.due(now + 6 * GRACE, Some(now - GRACE / 2)),
        None,
        "it was seen empty before the listing"
    );
    assert!(reconciler.due(now + 7 * GRACE, Some(now + GRACE)).is_some());
    reconciler.begin();
    assert_eq!(
        reconciler.compare(listing(100, &[("a", "1", 99)]), Duration::ZERO, now),
        Ok(true)
    );
    assert!(reconciler.due(now + 11 * GRACE, None).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_a_notification_tells_while_the_bucket_is_listed_is_newer_than_the_listing() {
    let (reconciler, now) = (reconciler(), Instant::now());
    reconciler
        .take(vec![mark("a", "1", 10), mark("b", "1", 10)])
        .stored();
    reconciler.begin();
    let gone = Mark {
        kind: Kind::Removed,
        ..mark("b", "1", 101)
    };
    reconciler
        .take(vec![mark("a", "2", 101), mark("new", "1", 101), gone])
        .stored();
    assert_eq!(
        reconciler.compare(
            listing(100, &[("a", "1", 9), ("b", "1", 9)]),
            Duration::ZERO,
            now
        ),
        Ok(true)
    );
    assert_eq!(reconciler.due_at(), None);
}

#[tokio::test(start_paused = true)]
async fn what_notifications_tell_is_known_after_a_restart_where_it_was_stored() {
    let (reconciler, now) = (reconciler(), Instant::now());
    let mut journal = Journal::default();
    store_owed(&reconciler, &mut journal);
    assert!(journal.cursor.is_some(), "from the start on there are rows");
    let marks = vec![mark("a", "1", 10), mark("b", "1", 10)];
    store(&reconciler, marks, &mut journal);
    // This one is not stored.
    drop(reconciler.take(vec![mark("c", "1", 10)]));
    // What changes nothing has no row.
    let other = Mark {
        kind: Kind::Other,
        ..mark("d", "1", 10)
    };
    assert_eq!(reconciler.take(vec![other, mark("a", "0", 9)]).rows(), []);
    assert_eq!(reconciler.rows(false), None, "all is said");
    let again = again(&journal).await;
    again.begin();
    assert_eq!(
        again.compare(
            listing(100, &[("a", "1", 10), ("c", "1", 10)]),
            Duration::ZERO,
            now
        ),
        Ok(true)
    );
    let mut found = told(&again, now + GRACE);
    found.sort();
    assert_eq!(found, ["b", "c"], "one is gone, the other was never stored");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_something_else_has_overtaken_is_mended() {
    for order in [[0, 1], [1, 0]] {
        let (reconciler, mut journal) = (reconciler(), Journal::default());
        store_owed(&reconciler, &mut journal);
        // Both are made ready before either is stored, and stored in any order.
        let marks = [mark("a", "1", 10), mark("a", "2", 20)];
        let mut hands = marks.map(|mark| Some(reconciler.take(vec![mark])));
        for index in order {
            let hand = hands[index].take().unwrap();
            journal.change(&hand.rows());
            assert_eq!(reconciler.rows(false), None, "one is still in hand");
            hand.stored();
        }
        store_owed(&reconciler, &mut journal);
        let stored = read_back(&journal).await.unwrap();
        assert_eq!(stored.known.objects, reconciler.0.lock().known.objects);
        assert_eq!(stored.known.objects["a"].etag, content_hash("2"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_listings_show_is_written_once_and_not_again_with_each() {
    let (reconciler, now) = (reconciler(), Instant::now());
    let mut journal = Journal::default();
    store_owed(&reconciler, &mut journal);
    let objects = [("a", "1", 9), ("b", "1", 9)];
    let marks = vec![mark("a", "1", 10), mark("b", "1", 10)];
    store(&reconciler, marks, &mut journal);
    for began in [100, 200] {
        reconciler.begin();
        let compared = reconciler.compare(listing(began, &objects), Duration::ZERO, now);
        assert_eq!(compared, Ok(true));
        let owed = reconciler.rows(false);
        // The first shows when they were written.
        let count = owed.as_ref().map_or(0, |rows| rows.positions.len());
        assert_eq!(count, if began == 100 { 2 } else { 0 }, "{owed:?}");
        journal.change(&owed.unwrap_or_default().positions);
    }
    let at = |entry: &Entry| (entry.state, entry.at);
    let stored = read_back(&journal).await.unwrap();
    let stored: Vec<_> = stored.known.objects.values().map(at).collect();
    assert_eq!(stored, [(State::Present, 9_000); 2]);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_stored_is_moved_into_rows_wherever_that_is_cut_off() {
    let entry = |generation| Entry {
        state: State::Present,
        etag: content_hash("1"),
        at: 99_000,
        seen: 99_000,
        generation,
    };
    let count = 2 * BATCH_ROWS_MAX + 500;
    let keys = || (0..count as u64).map(|n| format!("{n:04}"));
    let known = Known {
        generation: 7,
        identity: Identity::default(),
        objects: keys().zip((0..9).cycle().map(entry)).collect(),
    };
    let before = Journal::from(Some(Cursor {
        fingerprint: TERMS.fingerprint,
        position: listing_of(&known).into(),
    }));
    for stops_after in 0..3 {
        let mut journal = before.clone();
        let moving = again(&journal).await;
        for _ in 0..stops_after {
            let Rows { positions, cursor } = moving.unwritten().unwrap();
            assert_eq!((positions.len(), cursor), (BATCH_ROWS_MAX, None));
            journal.change(&positions);
        }
        let moving = again(&journal).await;
        for is_last in [false, false, true] {
            let Rows { positions, cursor } = moving.unwritten().unwrap();
            assert_eq!(cursor.is_some(), is_last);
            journal.change(&positions);
            journal.cursor = cursor.or(journal.cursor.take());
        }
        assert_eq!((moving.unwritten(), moving.rows(false)), (None, None));
        assert_eq!(journal.rows, rows(&known).rows);
        // One went while the bus was off, one is another: they alone are told.
        let now = Instant::now();
        let moved = again(&journal).await;
        moved.begin();
        let keys: Vec<_> = keys().collect();
        let mut objects: Vec<_> = keys.iter().map(|key| (&**key, "1", 98)).collect();
        objects[4].1 = "2";
        objects.remove(5);
        let compared = moved.compare(listing(200, &objects), Duration::ZERO, now);
        assert_eq!(compared, Ok(true));
        let mut told = Vec::new();
        while let Some(suspect) = moved.due(now + GRACE, Some(now + GRACE)) {
            told.push((suspect.key, suspect.listed.is_some(), suspect.generation));
        }
        told.sort();
        let expect = [("0004".to_owned(), true, 5), ("0005".to_owned(), false, 6)];
        assert_eq!(told, expect);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_skips_what_is_there_and_is_cut_off_skips_it_the_next_time() {
    let now = Instant::now();
    let terms = Terms {
        skip_existing: true,
        ..TERMS
    };
    let keys: Vec<_> = (0..BATCH_ROWS_MAX + 500)
        .map(|n| format!("{n:04}"))
        .collect();
    let objects: Vec<_> = keys.iter().map(|key| (&**key, "1", 99)).collect();
    let skip = |reconciler: &Reconciler| {
        reconciler.begin();
        let compared = reconciler.compare(listing(100, &objects), Duration::ZERO, now);
        assert_eq!((compared, reconciler.due_at()), (Ok(true), None));
    };
    let mut journal = Journal::default();
    let first = Reconciler::new(terms, Stored::default());
    // What comes before the listing does not end the first start.
    store(&first, vec![mark("0000", "1", 9)], &mut journal);
    store_owed(&first, &mut journal);
    assert_eq!((journal.rows.len(), &journal.cursor), (1, &None));
    skip(&first);
    let Rows { positions, cursor } = first.unwritten().unwrap();
    assert_eq!((positions.len(), cursor), (BATCH_ROWS_MAX, None));
    journal.change(&positions);
    let second = Reconciler::new(terms, read_back(&journal).await.unwrap());
    skip(&second);
    store_owed(&second, &mut journal);
    assert!(journal.cursor.is_some());
    assert_eq!(journal.rows.len(), keys.len() + 1);
    let third = Reconciler::new(terms, read_back(&journal).await.unwrap());
    third.begin();
    let compared = third.compare(listing(200, &[]), Duration::ZERO, now);
    assert_eq!(compared, Ok(true));
    assert_eq!(told(&third, now + GRACE).len(), keys.len(), "they are gone");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_just_now_is_left_to_the_next_listing() {
    let (reconciler, now) = (reconciler(), Instant::now());
    reconciler.begin();
    let listed = reconciler.compare(
        listing(100, &[("new", "1", 99), ("old", "1", 90)]),
        Duration::from_secs(5),
        now,
    );
    assert_eq!(
        (listed, told(&reconciler, now + GRACE)),
        (Ok(false), vec!["old".to_owned()])
    );
}

/// What listings tell from here on, each with its generation, and store.
fn told_with_generations(
    reconciler: &Reconciler,
    now: &mut Instant,
    listing: Listing,
    journal: &mut Journal,
) -> Vec<(String, bool, u64)> {
    reconciler.begin();
    reconciler.compare(listing, Duration::ZERO, *now).unwrap();
    *now += 2 * GRACE;
    let mut told = Vec::new();
    while let Some(suspect) = reconciler.due(*now, Some(*now)) {
        journal.change(&[reconciler.tell(&suspect)]);
        told.push((suspect.key, suspect.listed.is_some(), suspect.generation));
    }
    store_owed(reconciler, journal);
    told
}

#[tokio::test(start_paused = true)]
async fn an_object_that_comes_back_as_it_was_is_told_with_another_generation_however_long_it_was_gone()
 {
    let mut now = Instant::now();
    let (mut reconciler, mut journal) = (reconciler(), Journal::default());
    let (hours, mut at) = (3_600, 100);
    let mut told = Vec::new();
    // Under the same key, with the same content and time: a version that was current before.
    for (objects, later) in [
        (&[("a", "1", 99)][..], 10),
        (&[("a", "2", 99)][..], 10),
        (&[("a", "1", 99)][..], 10),
        (&[][..], 10),
        (&[("a", "1", 99)][..], 10),
        (&[][..], 2 * hours),
        // Here what is gone is forgotten.
        (&[][..], 10),
        (&[("a", "1", 99)][..], 10),
    ] {
        told.extend(told_with_generations(
            &reconciler,
            &mut now,
            listing(at, objects),
            &mut journal,
        ));
        journal.cursor = reconciler.rows(true).unwrap().cursor;
        reconciler = again(&journal).await;
        at += later;
    }
    let a = |is_there, generation| ("a".to_owned(), is_there, generation);
    assert_eq!(
        told,
        [
            a(true, 0),
            a(true, 1),
            a(true, 2),
            a(false, 3),
            a(true, 4),
            a(false, 5),
            a(true, 6)
        ]
    );
    assert_eq!(
        reconciler.0.lock().known.generation,
        6,
        "nothing else is remembered of what is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_told_again_after_a_crash_has_the_same_generation() {
    let (mut now, reconciler) = (Instant::now(), reconciler());
    let mut journal = Journal::default();
    let a = |generation| vec![("a".to_owned(), true, generation)];
    let mut told = |reconciler: &Reconciler, began, etag, journal: &mut Journal| {
        let listing = listing(began, &[("a", etag, began - 1)]);
        told_with_generations(reconciler, &mut now, listing, journal)
    };
    assert_eq!(told(&reconciler, 100, "1", &mut journal), a(0));
    journal.cursor = reconciler.rows(true).unwrap().cursor;
    let mut lost = journal.clone();
    assert_eq!(told(&reconciler, 200, "2", &mut lost), a(1));
    assert_eq!(told(&reconciler, 300, "1", &mut lost), a(2));
    let crashed = again(&journal).await;
    // A notification that comes again, or is told in another order, changes nothing of it.
    store(&crashed, vec![mark("a", "3", 150)], &mut journal);
    assert_eq!(told(&crashed, 200, "2", &mut journal), a(1));
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_has_left_hidden_in_the_queue_is_waited_for() {
    let now = Instant::now();
    let (grace, hidden) = (Duration::from_secs(2), Duration::from_secs(30));
    let reconciler = Reconciler::new(
        Terms {
            grace,
            hidden,
            ..TERMS
        },
        Stored::default(),
    );
    reconciler.begin();
    assert_eq!(
        reconciler.compare(
            listing(100, &[("a", "1", 99), ("b", "1", 99)]),
            Duration::ZERO,
            now
        ),
        Ok(true)
    );
    for seconds in [2, 10, 29] {
        let empty = now + Duration::from_secs(seconds);
        assert_eq!(
            reconciler.due(empty, Some(empty)),
            None,
            "empty, but for what is hidden"
        );
    }
    let later = now + Duration::from_secs(33);
    assert_eq!(
        reconciler.due(later, Some(now + Duration::from_secs(29))),
        None
    );
    reconciler.take(vec![mark("a", "1", 100)]).stored();
    let told: Vec<_> = std::iter::from_fn(|| reconciler.due(later + grace, Some(later)))
        .map(|suspect| suspect.key)
        .collect();
    assert_eq!(told, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn another_bucket_in_its_place_is_not_believed_unless_it_holds_the_same() {
    let now = Instant::now();
    let of = |created, objects: &[(&str, &str, i64)]| {
        let identity = Identity {
            region: "eu-west-1".to_owned(),
            created: Some(created),
        };
        Listing {
            identity,
            ..listing(100 + created, objects)
        }
    };
    let all = [("a", "1", 99), ("b", "1", 99), ("c", "1", 99)];
    let reconciler = reconciler();
    assert_eq!(
        reconciler.compare(of(1, &all), Duration::ZERO, now),
        Ok(true)
    );
    assert_eq!(told(&reconciler, now + GRACE).len(), 3);
    let stored = Stored {
        known: reconciler.0.lock().known.clone(),
        form: Form::Rows,
        stale: Vec::new(),
    };
    let opened = |holds| Reconciler::new(Terms { holds, ..TERMS }, stored.clone());
    for (holds, created, objects, expect) in [
        (true, 2, &[][..], Err(AnotherBucket)),
        (true, 2, &[("a", "1", 120)][..], Err(AnotherBucket)),
        (
            true,
            2,
            &[("a", "1", 120), ("b", "2", 120)][..],
            Err(AnotherBucket),
        ),
        (true, 2, &[("a", "1", 120), ("b", "1", 120)][..], Ok(true)),
        (true, 1, &[][..], Ok(true)),
        (false, 2, &[][..], Ok(true)),
    ] {
        let reconciler = opened(holds);
        let gone = if expect.is_ok() { 3 - objects.len() } else { 0 };
        assert_eq!(
            reconciler.compare(of(created, objects), Duration::ZERO, now),
            expect,
            "{objects:?}"
        );
        let missing = std::iter::from_fn(|| reconciler.due(now + GRACE, Some(now + GRACE)))
            .filter(|suspect| suspect.listed.is_none());
        assert_eq!(missing.count(), gone, "{objects:?}");
    }
    // The old one is back.
    let reconciler = opened(true);
    assert!(reconciler.compare(of(2, &[]), Duration::ZERO, now).is_err());
    assert_eq!(
        reconciler.compare(of(1, &all), Duration::ZERO, now),
        Ok(true)
    );
}
