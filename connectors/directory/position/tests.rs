use std::path::PathBuf;

use pointsman_schemas::Cursor;

use super::super::listing::Inodes;
use super::*;
use crate::suite::Stored as Journal;

fn known(n: i64) -> Known {
    let access = u16::try_from(n.unsigned_abs() % 65_536)
        .ok()
        .filter(|access| *access != 0);
    let version = Version {
        modified: n,
        changed: n / 3,
        size: n.unsigned_abs(),
        inode: n.unsigned_abs() / 7,
        access,
    };
    Known {
        version,
        generation: n.unsigned_abs() / 5,
    }
}

fn position() -> Position {
    Position {
        generation: u64::MAX,
        mounts: [
            (Key::new(), (2_049, 12)),
            (b"a/share".to_vec(), (u64::MAX, 1)),
        ]
        .into(),
        files: [
            (b"a".to_vec(), known(0)),
            (b"a/b".to_vec(), known(1_700_000_000_123_456_789)),
            (b"a/bc\xff\n".to_vec(), known(i64::MIN)),
            (b"z".repeat(4_096), known(i64::MAX)),
        ]
        .into(),
    }
}

/// What is stored of a position in rows.
fn rows(position: &Position) -> Journal {
    let mut journal = Journal {
        cursor: Some(Cursor {
            fingerprint: 1,
            position: CURSOR.into(),
        }),
        ..Journal::default()
    };
    let files = position.files.keys().map(|key| position.file_row(key));
    for row in files.chain([position.folder_row()]) {
        journal.rows.insert(row.key, row.value.unwrap());
    }
    journal
}

/// What is read, where files whose names end with `.tmp` are not looked at.
pub(in crate::directory) async fn read_back(journal: &Journal) -> Option<Stored> {
    let scope = Scope {
        root: PathBuf::from("/"),
        identity: (1, 1),
        inodes: Inodes::Lasting,
        recursive: true,
        ignore: vec!["*.tmp".to_owned()],
    };
    Stored::read(&journal.context(), &scope).await.unwrap()
}

fn stored(position: Position, form: Form) -> Stored {
    Stored {
        position,
        form,
        stale: Vec::new(),
    }
}

#[tokio::test]
async fn a_position_is_read_back_and_damage_is_seen() {
    let nothing = Stored::default();
    assert_eq!(read_back(&Journal::default()).await, Some(nothing));
    let journal = rows(&position());
    let expect = stored(position(), Form::Rows);
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
}

#[tokio::test]
async fn what_is_no_longer_looked_at_is_left_out_and_its_row_goes() {
    let mut position = position();
    let journal = {
        let mut all = position.clone();
        all.files.insert(b"a/x.tmp".to_vec(), known(1));
        rows(&all)
    };
    let read = read_back(&journal).await.unwrap();
    assert_eq!(read.position, position);
    assert_eq!(read.stale, [b"a/x.tmp"]);
    // A cursor that was damaged and set aside leaves rows that say the same.
    let without = Journal {
        cursor: None,
        ..journal.clone()
    };
    assert_eq!(read_back(&without).await.unwrap(), read);
    // Where the row of the folder was, no generation may come back.
    let mut folderless = journal.clone();
    folderless.rows.remove(FOLDER);
    let read_without = read_back(&folderless).await.unwrap();
    assert_eq!(read_without.form, Form::Rows);
    assert_eq!(
        read_without.position.generation,
        i64::MIN.unsigned_abs() / 5 + 1
    );
    // Rows without that of the folder are of a first start that was cut off.
    let mut started = without;
    started.rows.remove(FOLDER);
    let read = read_back(&started).await.unwrap();
    assert_eq!(read.form, Form::Nothing);
    (position.generation, position.mounts) = Default::default();
    assert_eq!(read.position, position);
}

/// As version 2 of the encoding wrote it.
const LISTING: &[u8] = b"\x02\xac\x02\x02\x00\x81\x10\x0c\x05share\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\
    \x00\x01a\x00\xaa\xb4\xae\xd8\xc7\xbf\xce\x97/\xc0\x84=\x80\x87\xa7\x0e\x00\x00\
    \x00\x15photos/2026/IMG_1.jpg\xac\x02\xac\xb4\xae\xd8\xc7\xbf\xce\x97/\xbe\x84=\x81\x87\xa7\x0e\xff\x95\x03\x03\
    \x10\x072\xff\n.jpg\xd8\x04\xa6\xb4\xae\xd8\xc7\xbf\xce\x97/\xc4\x84=\x82\x87\xa7\x0e\x01\xc8\x01";

/// Writes a position as version 2 of the encoding did.
pub(in crate::directory) fn listing_of(position: &Position) -> Vec<u8> {
    let folder = position.folder_row().value.unwrap();
    let mut out = [&[2], &folder[1..]].concat();
    let mut previous: &[u8] = &[];
    for (key, known) in &position.files {
        let shared = key.iter().zip(previous).take_while(|(a, b)| a == b).count();
        write(&mut out, shared as u64);
        write(&mut out, (key.len() - shared) as u64);
        out.extend_from_slice(&key[shared..]);
        out.extend_from_slice(&encode_file(known)[1..]);
        previous = key;
    }
    out
}

fn in_cursor(listing: &[u8]) -> Journal {
    Journal::from(Some(Cursor {
        fingerprint: 1,
        position: listing.to_vec().into(),
    }))
}

#[tokio::test]
async fn what_earlier_versions_stored_in_the_cursor_is_read() {
    let version = |n: i64, access| Version {
        modified: 1_700_000_000_123_456_789 + n,
        changed: 1_700_000_000_123_956_789,
        size: 300 * n.unsigned_abs(),
        inode: 30_000_000 + n.unsigned_abs(),
        access,
    };
    let file = |key: &[u8], version, generation| {
        let known = Known {
            version,
            generation,
        };
        (key.to_vec(), known)
    };
    let files = [
        file(b"a", version(0, None), 0),
        file(b"photos/2026/IMG_1.jpg", version(1, Some(51_966)), 3),
        file(b"photos/2026/IMG_2\xff\n.jpg", version(-2, Some(0)), 200),
    ];
    let expect = Position {
        generation: 300,
        mounts: [
            (Key::new(), (2_049, 12)),
            (b"share".to_vec(), (u64::MAX, 1)),
        ]
        .into(),
        files: files.into(),
    };
    assert_eq!(listing_of(&expect), LISTING);
    let mut journal = in_cursor(LISTING);
    let read = read_back(&journal).await.unwrap();
    assert_eq!(read, stored(expect.clone(), Form::Cursor));
    // Beside it lies what was moved of it before the bus stopped.
    journal.rows = rows(&expect).rows;
    journal
        .rows
        .insert(b"a.tmp".to_vec().into(), b"?".to_vec().into());
    let again = read_back(&journal).await.unwrap();
    assert_eq!((again.position, again.form), (expect, Form::Cursor));
    assert_eq!(again.stale, [b"a.tmp"]);

    // The version before knew neither generations nor inodes.
    let version = Version {
        modified: -1,
        changed: 1,
        size: 300,
        inode: 0,
        access: None,
    };
    let files = [file(b"a/b", version, 0), file(b"a/c", version, 0)].into();
    let plain = b"\x01\x00\x03a/b\xac\x02\x01\x04\x02\x01c\xac\x02\x01\x04";
    let read = read_back(&in_cursor(plain)).await.unwrap();
    let expect = Position {
        files,
        ..Position::default()
    };
    assert_eq!(read, stored(expect, Form::Cursor));
    // A file as it lies there now has not changed by what was not kept of it.
    let now = Version {
        inode: 5,
        access: Some(1),
        changed: 7,
        ..version
    };
    assert!(!version.differs(now) && version.differs(Version { size: 301, ..now }));
}

#[tokio::test]
async fn a_damaged_listing_in_the_cursor_is_refused() {
    for end in 0..LISTING.len() {
        let read = read_back(&in_cursor(&LISTING[..end])).await;
        assert!(
            read.is_none_or(|read| read.position.files.len() < 3),
            "cut at {end}"
        );
    }
    for bad in [
        &b""[..],
        b"\x04",
        b"\x03\x00",
        b"\x01\x01",
        b"\x01\x00\x00\x00\x00\x00",
        b"\x01\x00\x05a",
        b"\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x02",
        b"\x02\x00\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x02\x00\x01\x00\x01",
        b"\x02\x00\x00\x00\x01a\x00\x00\x00\x00\xff\xff\x7f\x00",
    ] {
        assert_eq!(read_back(&in_cursor(bad)).await, None, "{bad:?}");
    }
}
