use super::super::happening::content_hash;
use super::*;

const GRACE: Duration = Duration::from_secs(60);

const TERMS: Terms = Terms {
    fingerprint: 1,
    grace: GRACE,
    hidden: Duration::ZERO,
    skip_existing: false,
    holds: true,
};

fn reconciler() -> Reconciler {
    Reconciler::new(TERMS, None).unwrap()
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
    assert_eq!(
        reconciler.compare(
            listing(100, &[("a", "1", 99), ("b", "1", 99), ("c", "1", 99)]),
            Duration::ZERO,
            now
        ),
        Ok(true)
    );
    assert!(told(&reconciler, now + GRACE / 2).is_empty());
    reconciler
        .take(vec![mark("a", "1", 100)])
        .stored(Acknowledgement::None, false);
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
        .stored(Acknowledgement::None, false);
    reconciler.begin();
    let gone = Mark {
        kind: Kind::Removed,
        ..mark("b", "1", 101)
    };
    reconciler
        .take(vec![mark("a", "2", 101), mark("new", "1", 101), gone])
        .stored(Acknowledgement::None, false);
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
async fn what_is_known_goes_with_the_cursor() {
    let (reconciler, now) = (reconciler(), Instant::now());
    assert_eq!(reconciler.cursor(false, now), Ok(None));
    reconciler
        .take(vec![mark("a", "1", 10), mark("b", "1", 10)])
        .stored(Acknowledgement::None, false);
    let cursor = reconciler.cursor(false, now).unwrap().unwrap();
    reconciler
        .take(vec![mark("c", "1", 10)])
        .stored(Acknowledgement::None, false);
    assert_eq!(reconciler.cursor(false, now), Ok(None), "not at once again");
    let again = Reconciler::new(
        Terms {
            skip_existing: true,
            ..TERMS
        },
        Some(&cursor),
    )
    .unwrap();
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
    assert_eq!(
        found,
        ["b", "c"],
        "one is gone, the other was told after the cursor"
    );
    assert!(
        Reconciler::new(
            TERMS,
            Some(&Cursor {
                fingerprint: 1,
                position: "\u{3}".into()
            })
        )
        .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_is_held_back_until_the_cursor_that_knows_of_it_is_stored() {
    let (reconciler, now) = (reconciler(), Instant::now());
    let store = |mark: Mark| {
        reconciler
            .take(vec![mark])
            .stored(Acknowledgement::None, true)
            .is_some()
    };
    assert!(!store(mark("a", "1", 10)) && reconciler.vouch().is_empty());
    assert!(
        store(Mark {
            kind: Kind::Other,
            ..mark("a", "1", 10)
        }),
        "nothing to be remembered"
    );
    assert!(reconciler.cursor(false, now).unwrap().is_some());
    assert!(!store(mark("b", "1", 10)), "while that cursor is stored");
    assert_eq!((reconciler.vouch().len(), reconciler.vouch().len()), (1, 0));
    assert!(
        reconciler
            .cursor(false, now + CURSOR_EVERY)
            .unwrap()
            .is_some()
    );
    assert_eq!(reconciler.vouch().len(), 1);
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

#[tokio::test(start_paused = true)]
async fn too_much_is_said_and_changes_nothing() {
    let (reconciler, now) = (reconciler(), Instant::now());
    reconciler.begin();
    let entry = Listed {
        etag: String::new(),
        hash: 1,
        size: 0,
        modified: 0,
    };
    let objects: BTreeMap<_, _> = (0..=OBJECTS_MAX)
        .map(|n| (n.to_string(), entry.clone()))
        .collect();
    let listing = Listing {
        objects,
        ..Listing::default()
    };
    assert_eq!(
        reconciler.compare(listing, Duration::ZERO, now),
        Err(Disbelief::TooMany)
    );
    assert_eq!(
        (reconciler.due_at(), reconciler.cursor(false, now)),
        (None, Ok(None))
    );
}

/// What listings tell from here on, each with its generation; every time that something is told its
/// cursor goes along.
fn told_with_generations(
    reconciler: &Reconciler,
    now: &mut Instant,
    listing: Listing,
) -> Vec<(String, bool, u64)> {
    reconciler.begin();
    reconciler.compare(listing, Duration::ZERO, *now).unwrap();
    *now += 2 * GRACE;
    let mut told = Vec::new();
    while let Some(suspect) = reconciler.due(*now, Some(*now)) {
        reconciler.tell(&suspect);
        told.push((suspect.key, suspect.listed.is_some(), suspect.generation));
    }
    told
}

#[tokio::test(start_paused = true)]
async fn an_object_that_comes_back_as_it_was_is_told_with_another_generation_however_long_it_was_gone()
 {
    let mut now = Instant::now();
    let mut reconciler = reconciler();
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
        ));
        if let Some(cursor) = reconciler.cursor(true, now).unwrap() {
            let again = Reconciler::new(TERMS, Some(&cursor)).unwrap();
            reconciler = again;
        }
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
async fn a_second_change_waits_for_the_cursor_that_knows_of_the_first_and_after_a_crash_has_the_same_generation()
 {
    let (mut now, reconciler) = (Instant::now(), reconciler());
    let a = |generation| vec![("a".to_owned(), true, generation)];
    assert_eq!(
        told_with_generations(&reconciler, &mut now, listing(100, &[("a", "1", 99)])),
        a(0)
    );
    let cursor = reconciler.cursor(true, now).unwrap().unwrap();
    assert_eq!(
        told_with_generations(&reconciler, &mut now, listing(200, &[("a", "2", 199)])),
        a(1)
    );
    assert_eq!(
        told_with_generations(&reconciler, &mut now, listing(300, &[("a", "1", 299)])),
        []
    );
    let crashed = Reconciler::new(TERMS, Some(&cursor)).unwrap();
    // A notification that comes again, or is told in another order, changes nothing of it.
    crashed
        .take(vec![mark("a", "3", 150)])
        .stored(Acknowledgement::None, false);
    assert_eq!(
        told_with_generations(&crashed, &mut now, listing(200, &[("a", "2", 199)])),
        a(1)
    );
    assert!(reconciler.cursor(true, now).unwrap().is_some());
    assert_eq!(
        told_with_generations(&reconciler, &mut now, listing(300, &[("a", "1", 299)])),
        a(2)
    );
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
        None,
    )
    .unwrap();
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
    reconciler
        .take(vec![mark("a", "1", 100)])
        .stored(Acknowledgement::None, false);
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
    let cursor = reconciler.cursor(true, now + GRACE).unwrap();
    let opened = |holds| Reconciler::new(Terms { holds, ..TERMS }, cursor.as_ref()).unwrap();
    for (holds, created, objects, expect) in [
        (true, 2, &[][..], Err(Disbelief::AnotherBucket)),
        (
            true,
            2,
            &[("a", "1", 120)][..],
            Err(Disbelief::AnotherBucket),
        ),
        (
            true,
            2,
            &[("a", "1", 120), ("b", "2", 120)][..],
            Err(Disbelief::AnotherBucket),
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
