//! How far a source has been read: its cursor, and the rows of its position.

use bytes::Bytes;
use pointsman_schemas::Cursor;

use super::{Damage, Decoder, Encoder, Table, key_of, key_of_bytes};

pub(in crate::disk) fn encode_cursor(key: u64, cursor: &Cursor) -> Vec<u8> {
    let mut out = Encoder::new(cursor.position.len() + 16);
    out.number(cursor.fingerprint).bytes(&cursor.position);
    out.seal(Table::Cursor, &[key])
}

pub(in crate::disk) fn decode_cursor(key: u64, value: &[u8]) -> Result<Cursor, Damage> {
    let mut from = Decoder::open(Table::Cursor, &[key], value)?;
    Ok(Cursor {
        fingerprint: from.number()?,
        position: Bytes::copy_from_slice(from.bytes()?),
    })
}

/// The key of a row of a source's position, for the checksum.
fn position_key(tenant: &str, source: &str, key: &[u8]) -> [u64; 2] {
    [key_of(&format!("{tenant}/{source}")), key_of_bytes(key)]
}

pub(in crate::disk) fn encode_position(
    tenant: &str,
    source: &str,
    key: &[u8],
    value: &[u8],
) -> Vec<u8> {
    let mut out = Encoder::new(value.len() + 8);
    out.bytes(value);
    out.seal(Table::Position, &position_key(tenant, source, key))
}

pub(in crate::disk) fn decode_position(
    tenant: &str,
    source: &str,
    key: &[u8],
    value: &[u8],
) -> Result<Bytes, Damage> {
    let mut from = Decoder::open(Table::Position, &position_key(tenant, source, key), value)?;
    let value = Bytes::copy_from_slice(from.bytes()?);
    if from.is_empty() {
        Ok(value)
    } else {
        Err(Damage("it goes on after its end"))
    }
}
