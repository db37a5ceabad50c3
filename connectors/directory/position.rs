//! A listing as a cursor keeps it.
//!
//! ```text
//! 1                                                         version of this encoding
//! { shared | length | rest | size | modified | changed }*   by key
//! ```
//!
//! `shared` is how many bytes the key has in common with the one before, `rest` the `length` others, `changed` is counted from `modified`. All
//! numbers are LEB128, times zigzag. A file takes about 25 bytes, so that the largest folder allowed takes about 2.5 MB.

use std::collections::BTreeMap;

use super::listing::{FILES_MAX, Key, Version};
use crate::leb128::{read, unzigzag, write, zigzag};

const ENCODING: u8 = 1;

/// The longest key that is read back: Linux's own bound on a path.
const KEY_BYTES_MAX: usize = 4_096;

/// Writes a listing.
pub(super) fn encode(files: &BTreeMap<Key, Version>) -> Vec<u8> {
    let mut out = vec![ENCODING];
    let mut previous: &[u8] = &[];
    for (key, version) in files {
        let shared = key.iter().zip(previous).take_while(|(a, b)| a == b).count();
        let rest = key.get(shared..).unwrap_or_default();
        write(&mut out, shared as u64);
        write(&mut out, rest.len() as u64);
        out.extend_from_slice(rest);
        write(&mut out, version.size);
        write(&mut out, zigzag(version.modified));
        write(&mut out, zigzag(version.changed.wrapping_sub(version.modified)));
        previous = key;
    }
    out
}

/// Reads a listing; none where it is damaged, or of an encoding to come.
pub(super) fn decode(bytes: &[u8]) -> Option<BTreeMap<Key, Version>> {
    let (encoding, mut rest) = bytes.split_first()?;
    let mut files = BTreeMap::new();
    let mut previous = Key::new();
    while *encoding == ENCODING && !rest.is_empty() {
        let mut key = previous.get(..usize::try_from(read(&mut rest)?).ok()?)?.to_vec();
        let length = usize::try_from(read(&mut rest)?).ok().filter(|length| *length <= KEY_BYTES_MAX)?;
        key.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length..)?;
        let size = read(&mut rest)?;
        let modified = unzigzag(read(&mut rest)?);
        let changed = unzigzag(read(&mut rest)?).wrapping_add(modified);
        // Keys go up, or something is damaged.
        if key <= previous || files.len() >= FILES_MAX {
            return None;
        }
        previous.clone_from(&key);
        files.insert(key, Version { modified, changed, size });
    }
    (*encoding == ENCODING).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_back_and_damage_is_seen() {
        let version = |n: i64| Version { modified: n, changed: n / 3, size: n.unsigned_abs() };
        let files: BTreeMap<Key, Version> = [
            (b"a".to_vec(), version(0)),
            (b"a/b".to_vec(), version(1_700_000_000_123_456_789)),
            (b"a/bc\xff\n".to_vec(), version(i64::MIN)),
            (b"z".repeat(4_096), version(i64::MAX)),
        ]
        .into();
        let bytes = encode(&files);
        assert_eq!(decode(&bytes), Some(files));
        assert_eq!(decode(&encode(&BTreeMap::new())), Some(BTreeMap::new()));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_none_or(|some| some.len() < 4), "cut at {end}");
        }
        for bad in [
            &b""[..],
            b"\x02",
            b"\x01\x01",
            b"\x01\x00\x00\x00\x00\x00",
            b"\x01\x00\x05a",
            b"\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_file_takes_few_bytes() {
        let version = Version { modified: 1_700_000_000_123_456_789, changed: 1_700_000_000_123_956_789, size: 1_000_000 };
        let files = (0..10_000).map(|n| (format!("photos/2026/11/IMG_{n:05}.jpg").into_bytes(), version)).collect();
        assert!(encode(&files).len() < 30 * 10_000);
    }
}
