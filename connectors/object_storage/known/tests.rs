use pointsman_schemas::Cursor;

use super::*;
use crate::suite::Stored as Journal;

fn numbered(state: State, n: i64) -> Entry {
    Entry {
        state,
        etag: n.unsigned_abs(),
        at: n,
        seen: n.saturating_add(5),
        generation: n.unsigned_abs() / 3,
    }
}

fn known() -> Known {
    Known {
        generation: 7,
        identity: Identity {
            region: "eu-central-1".to_owned(),
            created: Some(-5),
        },
        objects: [
            ("a".to_owned(), numbered(State::Present, 0)),
            ("a/b".to_owned(), numbered(State::Gone, 1_700_000_000_123)),
            ("a/ü\n".to_owned(), numbered(State::Unsure, i64::MIN)),
            ("z".repeat(1_024), numbered(State::Present, i64::MAX)),
        ]
        .into(),
    }
}

/// What is stored in rows.
pub(in crate::object_storage) fn rows(known: &Known) -> Journal {
    let mut journal = in_cursor(CURSOR);
    let objects = known.objects.keys().map(|key| known.object_row(key));
    for row in objects.chain([known.bucket_row()]) {
        journal.rows.insert(row.key, row.value.unwrap());
    }
    journal
}

pub(in crate::object_storage) fn in_cursor(position: &[u8]) -> Journal {
    Journal::from(Some(Cursor {
        fingerprint: 1,
        position: position.to_vec().into(),
    }))
}

/// Writes what is known as version 2 of the encoding did.
pub(in crate::object_storage) fn listing_of(known: &Known) -> Vec<u8> {
    let bucket = known.bucket_row().value.unwrap();
    let mut out = [&[2], &bucket[1..]].concat();
    let mut previous: &[u8] = &[];
    for (key, entry) in &known.objects {
        let key = key.as_bytes();
        let shared = key.iter().zip(previous).take_while(|(a, b)| a == b).count();
        write(&mut out, shared as u64);
        write(&mut out, (key.len() - shared) as u64);
        out.extend_from_slice(&key[shared..]);
        out.extend_from_slice(&encode_object(entry)[1..]);
        previous = key;
    }
    out
}

/// What is read, where keys that end with `.tmp` are not looked at.
pub(in crate::object_storage) async fn read_back(journal: &Journal) -> Option<Stored> {
    let covers = |key: &str| !key.ends_with(".tmp");
    Stored::read(&journal.context(), covers).await.unwrap()
}

#[tokio::test]
async fn what_is_known_is_read_back_and_damage_is_seen() {
    let nothing = read_back(&Journal::default()).await;
    assert_eq!(nothing, Some(Stored::default()));
    let journal = rows(&known());
    let expect = Stored {
        known: known(),
        form: Form::Rows,
        stale: Vec::new(),
    };
    assert_eq!(read_back(&journal).await, Some(expect));
    for (key, value) in &journal.rows {
        for bad in (0..value.len())
            .map(|end| value.slice(..end))
            .chain([b"\x04".to_vec().into(), [value, &b"\0"[..]].concat().into()])
        {
            let mut damaged = journal.clone();
            damaged.rows.insert(key.clone(), bad.clone());
            assert_eq!(read_back(&damaged).await, None, "{key:?} {bad:?}");
        }
    }
    let mut damaged = journal;
    let row = damaged.rows[&b"a"[..]].clone();
    damaged.rows.insert(b"\xff".to_vec().into(), row);
    assert_eq!(read_back(&damaged).await, None, "a key that is no text");
}

#[tokio::test]
async fn what_is_no_longer_looked_at_is_left_out_and_its_row_goes() {
    let mut all = known();
    all.objects
        .insert("b.tmp".to_owned(), numbered(State::Present, 1));
    let journal = rows(&all);
    let read = read_back(&journal).await.unwrap();
    assert_eq!((&read.known, read.form), (&known(), Form::Rows));
    assert_eq!(read.stale, ["b.tmp"]);
    // A cursor that was damaged and set aside leaves rows that say the same.
    let mut without = Journal {
        cursor: None,
        ..journal.clone()
    };
    assert_eq!(read_back(&without).await.unwrap(), read);
    // Where the row of the bucket was, no generation may come back.
    let mut bucketless = journal;
    bucketless.rows.remove(BUCKET.as_bytes());
    let read = read_back(&bucketless).await.unwrap();
    assert_eq!(read.form, Form::Rows);
    assert_eq!(read.known.generation, i64::MIN.unsigned_abs() / 3 + 1);
    // Rows without both are of a first start that was cut off.
    without.rows.remove(BUCKET.as_bytes());
    let read = read_back(&without).await.unwrap();
    assert_eq!(read.form, Form::Nothing);
    assert_eq!(read.known.objects, known().objects);
}

/// As version 2 of the encoding wrote it.
const LISTING: &[u8] = b"\x02\xac\x02\x0ceu-central-1\x81\x80\xf4\xf6\x90]\
    \x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\xa0\xab\xfe\xf9b\xe8\x07\x00\
    \x00\x0fphotos/\xc3\xbc 1.jpg\x01\x01\x02\x03\x04\x05\x06\x07\x08\x82\xa0\xab\xfe\xf9b\xe6\x07d\
    \n\x052.jpg\x02\x02\x04\x06\x08\n\x0c\x0e\x10\x84\xa0\xab\xfe\xf9b\xe4\x07\xc8\x01";

#[tokio::test]
async fn what_earlier_versions_stored_in_the_cursor_is_read() {
    let entry = |state, n: i64| Entry {
        state,
        etag: 0x0102_0304_0506_0708 * n.unsigned_abs(),
        at: 1_700_000_000_000 + n,
        seen: 1_700_000_000_500,
        generation: 100 * n.unsigned_abs(),
    };
    let expect = Known {
        generation: 300,
        identity: Identity {
            region: "eu-central-1".to_owned(),
            created: Some(1_600_000_000_000),
        },
        objects: [
            ("a".to_owned(), entry(State::Present, 0)),
            ("photos/ü 1.jpg".to_owned(), entry(State::Gone, 1)),
            ("photos/ü 2.jpg".to_owned(), entry(State::Unsure, 2)),
        ]
        .into(),
    };
    assert_eq!(listing_of(&expect), LISTING);
    let mut journal = in_cursor(LISTING);
    let stored = Stored {
        known: expect.clone(),
        form: Form::Cursor,
        stale: Vec::new(),
    };
    assert_eq!(read_back(&journal).await, Some(stored));
    // Beside it lies what was moved of it before the bus stopped.
    journal.rows = rows(&expect).rows;
    journal
        .rows
        .insert(b"a.tmp".to_vec().into(), b"?".to_vec().into());
    let again = read_back(&journal).await.unwrap();
    assert_eq!((again.known, again.form), (expect, Form::Cursor));
    assert_eq!(again.stale, ["a.tmp"]);

    // The version before knew neither the bucket nor generations.
    let plain = b"\x01\x00\x03a/b\x00\0\0\0\0\0\0\0\x07\x14\x02";
    let entry = Entry {
        state: State::Present,
        etag: 7,
        at: 10,
        seen: 11,
        generation: 0,
    };
    let read = read_back(&in_cursor(plain)).await.unwrap();
    assert_eq!(read.known.objects, [("a/b".to_owned(), entry)].into());
}

#[tokio::test]
async fn a_damaged_listing_in_the_cursor_is_refused() {
    for end in 0..LISTING.len() {
        let read = read_back(&in_cursor(&LISTING[..end])).await;
        assert!(
            read.is_none_or(|read| read.known.objects.len() < 3),
            "cut at {end}"
        );
    }
    for bad in [
        &b""[..],
        b"\x04",
        b"\x03\x00",
        b"\x02",
        b"\x02\x00\x05abc",
        b"\x02\x00\xff\xff\x03",
        b"\x01\x01",
        b"\x01\x00\x01a\x03",
        b"\x01\x00\x05a",
        b"\x01\x00\x01\xff\x00\0\0\0\0\0\0\0\0\x00\x00",
    ] {
        assert_eq!(read_back(&in_cursor(bad)).await, None, "{bad:?}");
    }
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
        for mark in &marks {
            if let Some(entry) = noted(&known, known.objects.get("a"), mark) {
                known.objects.insert("a".to_owned(), entry);
            }
        }
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
