//! An event whose time is not the journal's own retention, or that is to be looked at again.

use pointsman_schemas::Timestamp;

use super::{Damage, Decoder, Encoder, Table};

/// The time of an event whose own has passed while something still refers to it.
pub(in crate::disk) const HELD: Timestamp = Timestamp(i64::MAX);

/// A row says all by its key and its time; its value is their checksum alone.
pub(in crate::disk) fn encode_kept(sequence: u64, until: Timestamp) -> Vec<u8> {
    Encoder::new(4).seal(Table::Kept, &check_key(sequence, until))
}

/// Checks what a row says against its value.
pub(in crate::disk) fn check_kept(
    sequence: u64,
    until: Timestamp,
    value: &[u8],
) -> Result<(), Damage> {
    Decoder::open(Table::Kept, &check_key(sequence, until), value).map(drop)
}

fn check_key(sequence: u64, until: Timestamp) -> [u64; 2] {
    [sequence, until.0.cast_unsigned()]
}
