//! What is known of a folder, as a cursor keeps it.
//!
//! ```text
//! 2                                                                              version of this encoding
//! generation | mounts | { length | key | device | inode }*                       by key
//! { shared | length | rest | size | modified | changed | inode | access | generation }*   by key
//! ```
//!
//! `shared` is how many bytes the key has in common with the one before, `rest` the `length`
//! others, `changed` is counted from `modified`, `access` is zero for none. All numbers are LEB128,
//! times zigzag. A file takes about 33 bytes, so that the largest folder allowed takes about 3.3
//! MB.
//!
//! Encoding 1 knew neither mounts nor generations, and of a file neither inode nor access. It is
//! read, and never written.

use std::collections::BTreeMap;

use super::listing::{FILES_MAX, Key, Mounts, Version};
use crate::leb128::{read, unzigzag, write, zigzag};

const ENCODING: u8 = 2;

/// The encoding before generations.
const ENCODING_PLAIN: u8 = 1;

/// The longest key that is read back: Linux's own bound on a path.
const KEY_BYTES_MAX: usize = 4_096;

/// How many mount points are read back: Linux's own bound on the mounts of a namespace.
const MOUNTS_MAX: u64 = 100_000;

/// What is known of a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) version: Version,
    /// How often the key has come, gone or changed, as far as it matters: see
    /// [`Position::generation`].
    pub(super) generation: u64,
}

/// What is known of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The generation of a key that comes next: higher than that of any key which has gone, so that
    /// one which comes back is told by another id without a memory of the keys that are gone.
    pub(super) generation: u64,
    /// None where they were not kept.
    pub(super) mounts: Mounts,
    pub(super) files: BTreeMap<Key, Known>,
}

/// Writes a position.
pub(super) fn encode(position: &Position) -> Vec<u8> {
    let mut out = vec![ENCODING];
    write(&mut out, position.generation);
    write(&mut out, position.mounts.len() as u64);
    for (key, (device, inode)) in &position.mounts {
        write(&mut out, key.len() as u64);
        out.extend_from_slice(key);
        write(&mut out, *device);
        write(&mut out, *inode);
    }
    let mut previous: &[u8] = &[];
    for (
        key,
        Known {
            version,
            generation,
        },
    ) in &position.files
    {
        let shared = key.iter().zip(previous).take_while(|(a, b)| a == b).count();
        let rest = key.get(shared..).unwrap_or_default();
        write(&mut out, shared as u64);
        write(&mut out, rest.len() as u64);
        out.extend_from_slice(rest);
        write(&mut out, version.size);
        write(&mut out, zigzag(version.modified));
        write(
            &mut out,
            zigzag(version.changed.wrapping_sub(version.modified)),
        );
        write(&mut out, version.inode);
        write(
            &mut out,
            version.access.map_or(0, |access| u64::from(access) + 1),
        );
        write(&mut out, *generation);
        previous = key;
    }
    out
}

/// Reads a position; none where it is damaged, or of an encoding to come.
pub(super) fn decode(bytes: &[u8]) -> Option<Position> {
    let (encoding, mut rest) = bytes.split_first()?;
    let mut position = Position::default();
    match *encoding {
        ENCODING => {
            position.generation = read(&mut rest)?;
            let count = read(&mut rest).filter(|count| *count <= MOUNTS_MAX)?;
            for _ in 0..count {
                let length = length(&mut rest)?;
                let key = take(&mut rest, length)?.to_vec();
                position
                    .mounts
                    .insert(key, (read(&mut rest)?, read(&mut rest)?));
            }
        }
        ENCODING_PLAIN => {}
        _ => return None,
    }
    let mut previous = Key::new();
    while !rest.is_empty() {
        let mut key = previous
            .get(..usize::try_from(read(&mut rest)?).ok()?)?
            .to_vec();
        let length = length(&mut rest)?;
        key.extend_from_slice(take(&mut rest, length)?);
        let known = known(&mut rest, *encoding)?;
        // Keys go up, or something is damaged.
        if key <= previous || position.files.len() >= FILES_MAX {
            return None;
        }
        previous.clone_from(&key);
        position.files.insert(key, known);
    }
    Some(position)
}

/// Reads what stands behind a file's key.
fn known(rest: &mut &[u8], encoding: u8) -> Option<Known> {
    let size = read(rest)?;
    let modified = unzigzag(read(rest)?);
    let changed = unzigzag(read(rest)?).wrapping_add(modified);
    let version = Version {
        modified,
        changed,
        size,
        inode: 0,
        access: None,
    };
    if encoding == ENCODING_PLAIN {
        return Some(Known {
            version,
            generation: 0,
        });
    }
    let inode = read(rest)?;
    let access = read(rest)?
        .checked_sub(1)
        .map(u16::try_from)
        .transpose()
        .ok()?;
    Some(Known {
        version: Version {
            inode,
            access,
            ..version
        },
        generation: read(rest)?,
    })
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(read(rest)?)
        .ok()
        .filter(|length| *length <= KEY_BYTES_MAX)
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_position_is_read_back_and_damage_is_seen() {
        let files: BTreeMap<Key, Known> = [
            (b"a".to_vec(), known(0)),
            (b"a/b".to_vec(), known(1_700_000_000_123_456_789)),
            (b"a/bc\xff\n".to_vec(), known(i64::MIN)),
            (b"z".repeat(4_096), known(i64::MAX)),
        ]
        .into();
        let mounts = [
            (Key::new(), (2_049, 12)),
            (b"a/share".to_vec(), (u64::MAX, 1)),
        ]
        .into();
        let position = Position {
            generation: u64::MAX,
            mounts,
            files,
        };
        let bytes = encode(&position);
        assert_eq!(decode(&bytes), Some(position));
        assert_eq!(
            decode(&encode(&Position::default())),
            Some(Position::default())
        );
        for end in 0..bytes.len() {
            assert!(
                decode(&bytes[..end]).is_none_or(|some| some.files.len() < 4),
                "cut at {end}"
            );
        }
        for bad in [
            &b""[..],
            b"\x03",
            b"\x01\x01",
            b"\x01\x00\x00\x00\x00\x00",
            b"\x01\x00\x05a",
            b"\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x02",
            b"\x02\x00\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x02\x00\x01\x00\x01",
            b"\x02\x00\x00\x00\x01a\x00\x00\x00\x00\xff\xff\x7f\x00",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_an_earlier_version_stored_is_read() {
        let version = Version {
            modified: -1,
            changed: 1,
            size: 300,
            inode: 0,
            access: None,
        };
        let known = Known {
            version,
            generation: 0,
        };
        let files = [(b"a/b".to_vec(), known), (b"a/c".to_vec(), known)].into();
        let stored = b"\x01\x00\x03a/b\xac\x02\x01\x04\x02\x01c\xac\x02\x01\x04";
        assert_eq!(
            decode(stored),
            Some(Position {
                files,
                ..Position::default()
            })
        );
        // A file as it lies there now has not changed by what was not kept of it.
        let now = Version {
            inode: 5,
            access: Some(1),
            changed: 7,
            ..version
        };
        assert!(!version.differs(now) && version.differs(Version { size: 301, ..now }));
    }

    #[test]
    fn a_file_takes_few_bytes() {
        let known = |n: u64| {
            let (modified, changed) = (1_700_000_000_123_456_789, 1_700_000_000_123_956_789);
            let version = Version {
                modified,
                changed,
                size: 1_000_000,
                inode: 30_000_000 + n,
                access: Some(51_966),
            };
            Known {
                version,
                generation: n % 100,
            }
        };
        let files = (0..10_000)
            .map(|n| {
                (
                    format!("photos/2026/11/IMG_{n:05}.jpg").into_bytes(),
                    known(n),
                )
            })
            .collect();
        assert!(
            encode(&Position {
                files,
                ..Position::default()
            })
            .len()
                < 36 * 10_000
        );
    }
}
