//! The bytes of a record of the log.
//!
//! ```text
//! version 1 │ kind 1 │ epoch 8 │ number 8 │ chain 4 │ body … │ CRC-32 over all before 4
//! ```
//!
//! The version is the first one that has such records. Numbers are little endian. `number` counts what one owner appends in its epoch, from 1; `chain`
//! is the CRC of the numbered record before it, whichever epoch that is of. A claim and a release
//! have neither. The changes of a commit are packed as an
//! [LZ4 block](https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md) behind their length,
//! where that makes them shorter: what an event is costs the engine more than what packing takes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pointsman_log::BODY_BYTES_MAX;
use pointsman_schemas::Name;
use serde::{Deserialize, Serialize};

/// The version that every program can read.
const VERSION: u8 = 1;
/// That of commits with packed changes.
pub(crate) const VERSION_PACKED: u8 = 2;
/// The last one that this program can read.
pub(crate) const VERSION_LAST: u8 = VERSION_PACKED;

const HEADER_BYTES: usize = 2 + 8 + 8 + 4;
const CHECK_BYTES: usize = 4;

/// What a part of a commit has before its changes.
const PART_BYTES: usize = 3;

/// How many bytes of changes one record takes.
pub(crate) const CHANGES_BYTES_MAX: usize =
    BODY_BYTES_MAX - HEADER_BYTES - PART_BYTES - CHECK_BYTES;

/// Flags of a part of a commit.
const FIRST: u8 = 1;
const LAST: u8 = 2;
const ENDS_WALK: u8 = 4;
/// Its changes are packed.
const PACKED: u8 = 8;

/// Fewer bytes of changes than this are not packed.
const PACKED_LEAST: usize = 256;

/// A record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) epoch: u64,
    pub(crate) what: What,
    /// The CRC at its end.
    pub(crate) check: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A node wants to own the shard from here on.
    Claim(Owner),
    /// The owner has stopped.
    Release,
    /// What follows, up to the commit that ends the walk, has every row of the store.
    Walk { at: Numbered, owner: Owner },
    /// A commit, or a part of one.
    Commit { at: Numbered, part: Part },
}

/// Where a record stands among those of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) chain: u32,
}

/// A commit, whole where it is the first and the last of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) format: u16,
    pub(crate) is_first: bool,
    pub(crate) is_last: bool,
    pub(crate) ends_walk: bool,
    pub(crate) changes: Changes,
}

/// What a part of a commit changes, as it is in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    Plain(Bytes),
    /// An LZ4 block, behind the length of what is in it.
    Packed(Bytes),
}

impl Changes {
    /// Packs changes where that makes them shorter by an eighth at least.
    pub(crate) fn pack(plain: Bytes) -> Self {
        if plain.len() < PACKED_LEAST {
            return Self::Plain(plain);
        }
        let packed = lz4_flex::compress_prepend_size(&plain);
        if packed.len() > plain.len() - plain.len() / 8 {
            return Self::Plain(plain);
        }
        Self::Packed(packed.into())
    }

    fn bytes(&self) -> &Bytes {
        let (Self::Plain(bytes) | Self::Packed(bytes)) = self;
        bytes
    }

    /// What was packed.
    pub(crate) fn unpack(self) -> Result<Bytes, Unreadable> {
        let packed = match self {
            Self::Plain(plain) => return Ok(plain),
            Self::Packed(packed) => packed,
        };
        let (length, block) =
            lz4_flex::block::uncompressed_size(&packed).map_err(|_| Unreadable::Damaged)?;
        if length > CHANGES_BYTES_MAX {
            return Err(Unreadable::Damaged);
        }
        let plain = lz4_flex::decompress(block, length).map_err(|_| Unreadable::Damaged)?;
        if plain.len() != length {
            return Err(Unreadable::Damaged);
        }
        Ok(plain.into())
    }
}

/// Who owns a shard, as it said in its claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The node's name.
    #[serde(with = "name")]
    pub(crate) node: Name,
    /// The process: drawn at its start.
    pub(crate) incarnation: u64,
    /// For how long it has to be silent before another may claim, in milliseconds.
    pub(crate) takeover_ms: u64,
    /// Whether it brings a store along that was never in a log.
    #[serde(default)]
    pub(crate) imports: bool,
}

/// Why bytes are no record that this version can go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("its checksum does not fit")]
    Damaged,
    #[error(
        "it was written by a later version of pointsman, which this one does not understand; run that one here too"
    )]
    Later,
}

mod name {
    use pointsman_schemas::Name;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(name: &Name, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        Name::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl What {
    /// The first version of records that has it.
    fn version(&self) -> u8 {
        match self {
            Self::Commit { part, .. } if matches!(part.changes, Changes::Packed(_)) => {
                VERSION_PACKED
            }
            _ => VERSION,
        }
    }

    /// Writes it as a record of an epoch.
    pub(crate) fn encode(&self, epoch: u64) -> Bytes {
        const NOWHERE: Numbered = Numbered {
            number: 0,
            chain: 0,
        };
        let (kind, at) = match self {
            Self::Claim(_) => (1, NOWHERE),
            Self::Release => (2, NOWHERE),
            Self::Walk { at, .. } => (3, *at),
            Self::Commit { at, .. } => (4, *at),
        };
        let changes = match self {
            Self::Commit { part, .. } => part.changes.bytes().len(),
            _ => 0,
        };
        let mut out = BytesMut::with_capacity(HEADER_BYTES + PART_BYTES + changes + CHECK_BYTES);
        out.put_u8(self.version());
        out.put_u8(kind);
        out.put_u64_le(epoch);
        out.put_u64_le(at.number);
        out.put_u32_le(at.chain);
        match self {
            Self::Release => {}
            Self::Claim(owner) | Self::Walk { owner, .. } => {
                // It has nothing that JSON could not say.
                out.put_slice(&serde_json::to_vec(owner).unwrap_or_default());
            }
            Self::Commit { part, .. } => {
                let flags = [
                    (part.is_first, FIRST),
                    (part.is_last, LAST),
                    (part.ends_walk, ENDS_WALK),
                    (matches!(part.changes, Changes::Packed(_)), PACKED),
                ];
                let flags = flags.iter().filter(|(is_set, _)| *is_set);
                out.put_u16_le(part.format);
                out.put_u8(flags.fold(0, |all, (_, flag)| all | flag));
                out.put_slice(part.changes.bytes());
            }
        }
        let check = crc32fast::hash(&out);
        out.put_u32_le(check);
        out.freeze()
    }
}

impl Record {
    /// Reads a record.
    pub(crate) fn decode(body: &Bytes) -> Result<Self, Unreadable> {
        let end = body.len().checked_sub(CHECK_BYTES);
        let end = end.filter(|end| *end >= HEADER_BYTES);
        let end = end.ok_or(Unreadable::Damaged)?;
        let check = body.slice(end..).get_u32_le();
        let mut rest = body.slice(..end);
        if crc32fast::hash(&rest) != check {
            return Err(Unreadable::Damaged);
        }
        let (version, kind, epoch) = (rest.get_u8(), rest.get_u8(), rest.get_u64_le());
        if !(VERSION..=VERSION_LAST).contains(&version) {
            return Err(Unreadable::Later);
        }
        let at = Numbered {
            number: rest.get_u64_le(),
            chain: rest.get_u32_le(),
        };
        let owner = |rest: &[u8]| serde_json::from_slice(rest).map_err(|_| Unreadable::Later);
        let what = match kind {
            1 => What::Claim(owner(&rest)?),
            2 => What::Release,
            3 => What::Walk {
                at,
                owner: owner(&rest)?,
            },
            4 if rest.len() >= PART_BYTES => {
                let (format, flags) = (rest.get_u16_le(), rest.get_u8());
                let part = Part {
                    format,
                    is_first: flags & FIRST != 0,
                    is_last: flags & LAST != 0,
                    ends_walk: flags & ENDS_WALK != 0,
                    changes: match flags & PACKED {
                        0 => Changes::Plain(rest),
                        _ => Changes::Packed(rest),
                    },
                };
                if flags & !(FIRST | LAST | ENDS_WALK | PACKED) != 0 {
                    return Err(Unreadable::Later);
                }
                What::Commit { at, part }
            }
            _ => return Err(Unreadable::Later),
        };
        Ok(Self { epoch, what, check })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner() -> impl Strategy<Value = Owner> {
        ("[a-z0-9-]{1,63}", any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
            |(node, incarnation, takeover_ms, imports)| Owner {
                node: Name::new(&node).unwrap(),
                incarnation,
                takeover_ms,
                imports,
            },
        )
    }

    fn numbered() -> impl Strategy<Value = Numbered> {
        (any::<u64>(), any::<u32>()).prop_map(|(number, chain)| Numbered { number, chain })
    }

    fn part() -> impl Strategy<Value = Part> {
        let plain = proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let changes = (plain, 1..20_usize)
            .prop_map(|(plain, times)| Changes::pack(plain.repeat(times).into()));
        (any::<u16>(), any::<[bool; 3]>(), changes).prop_map(
            |(format, [is_first, is_last, ends_walk], changes)| Part {
                format,
                is_first,
                is_last,
                ends_walk,
                changes,
            },
        )
    }

    fn what() -> impl Strategy<Value = What> {
        prop_oneof![
            owner().prop_map(What::Claim),
            Just(What::Release),
            (numbered(), owner()).prop_map(|(at, owner)| What::Walk { at, owner }),
            (numbered(), part()).prop_map(|(at, part)| What::Commit { at, part }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(epoch: u64, what in what()) {
            let bytes = what.encode(epoch);
            let check = bytes.slice(bytes.len() - 4..).get_u32_le();
            prop_assert_eq!(Record::decode(&bytes), Ok(Record { epoch, what, check }));
        }

        #[test]
        fn a_changed_or_cut_record_is_refused(what in what(), at: prop::sample::Index, bit in 0..8_u8) {
            let bytes = what.encode(7);
            let at = at.index(bytes.len());
            prop_assert!(Record::decode(&bytes.slice(..at)).is_err());
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            prop_assert!(Record::decode(&flipped.into()).is_err());
        }

        #[test]
        fn no_bytes_are_read_out_of_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut sealed = bytes.clone();
            sealed.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            let _ = Record::decode(&bytes.into());
            let _ = Record::decode(&sealed.into());
        }
    }

    #[test]
    fn a_version_or_kind_of_later_says_so() {
        for at in [0, 1] {
            let mut bytes = What::Release.encode(1).to_vec();
            bytes.truncate(bytes.len() - CHECK_BYTES);
            bytes[at] = 200;
            let check = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&check.to_le_bytes());
            assert_eq!(Record::decode(&bytes.into()), Err(Unreadable::Later));
        }
    }

    #[test]
    fn changes_are_packed_where_that_makes_them_shorter() {
        let event = br#"{"type":"order.paid","data":{"customer":"c-1042","total":250}}"#;
        let plain = Bytes::from(event.repeat(20));
        let packed = Changes::pack(plain.clone());
        assert!(matches!(&packed, Changes::Packed(bytes) if bytes.len() * 4 < plain.len()));
        assert_eq!(packed.unpack(), Ok(plain));
        let random: Vec<u8> = (0..2_000_u32)
            .map(|at| crc32fast::hash(&at.to_le_bytes()) as u8)
            .collect();
        for plain in [Bytes::from(random), Bytes::from_static(event)] {
            assert_eq!(Changes::pack(plain.clone()), Changes::Plain(plain));
        }
    }

    #[test]
    fn what_does_not_unpack_to_what_it_says_is_damaged() {
        let Changes::Packed(packed) = Changes::pack(vec![7; 9_000].into()) else {
            panic!("it is not packed");
        };
        let with_length = |length: u32| {
            let mut bytes = packed.to_vec();
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            Changes::Packed(bytes.into()).unpack()
        };
        assert_eq!(with_length(9_000).map(|plain| plain.len()), Ok(9_000));
        for length in [0, 8_999, 9_001, u32::MAX] {
            assert_eq!(with_length(length), Err(Unreadable::Damaged), "{length}");
        }
        for end in [0, 3, packed.len() - 1] {
            assert_eq!(
                Changes::Packed(packed.slice(..end)).unpack(),
                Err(Unreadable::Damaged)
            );
        }
    }

    #[test]
    fn a_full_part_is_as_large_as_a_record_may_be() {
        let part = Part {
            format: 5,
            is_first: true,
            is_last: true,
            ends_walk: false,
            changes: Changes::Plain(vec![0; CHANGES_BYTES_MAX].into()),
        };
        let at = Numbered {
            number: 1,
            chain: 2,
        };
        let what = What::Commit { at, part };
        assert_eq!(what.encode(1).len(), BODY_BYTES_MAX);
    }
}
