//! The rows on a page, read from its cells: whatever the pages above it say.
//!
//! Format: <https://www.sqlite.org/fileformat2.html>, sections 1.6 and 2.1.

use std::io;

use rusqlite::types::Value;

use super::{Image, PAGE};

/// Bytes of a row at most: more than any event.
const PAYLOAD_MAX: u64 = 1 << 30;

/// Kinds of pages with rows on them: the leaves of a table, and those of an index or of a table
/// without row numbers, whose inner pages hold rows as well.
const TABLE_LEAF: u8 = 0x0D;
const INDEX_LEAF: u8 = 0x0A;
const INDEX_INNER: u8 = 0x02;
const TABLE_INNER: u8 = 0x05;

/// A row as it stands in a cell.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::disk) struct Row {
    /// Its number, in tables that have them.
    pub(in crate::disk) number: Option<i64>,
    pub(in crate::disk) values: Vec<Value>,
}

/// Whether a page says that it holds rows.
pub(super) fn has_rows(page: &[u8]) -> bool {
    matches!(page.first(), Some(&(TABLE_LEAF | INDEX_LEAF | INDEX_INNER)))
}

/// Every row on a page; what cannot be one is left out.
pub(super) fn rows(image: &Image, page: &[u8]) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in kinds(page) {
        let head = head_bytes(kind);
        for cell in 0..cells(page, kind, head) {
            let at = usize::from(two(page, head + 2 * cell));
            if at >= head
                && let Some(row) = row(image, page, kind, at)?
            {
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// The kinds that a page may be of: what it says, unless its bytes add up to a page of another kind
/// alone. Each kind is one wrong bit away from another.
fn kinds(page: &[u8]) -> Vec<u8> {
    let all = [TABLE_LEAF, INDEX_LEAF, INDEX_INNER];
    let says = page.first().copied().unwrap_or_default();
    let count = usize::from(two(page, 3));
    let fitting: Vec<u8> = all
        .into_iter()
        .filter(|kind| count > 0 && adds_up(page, *kind, head_bytes(*kind), count))
        .collect();
    match says {
        says if fitting.contains(&says) => vec![says],
        _ if !fitting.is_empty() => fitting,
        TABLE_LEAF | INDEX_LEAF | INDEX_INNER => vec![says],
        TABLE_INNER => Vec::new(),
        // A kind that there is none of: it is tried as each of those. What comes of the wrong one
        // does not pass its checks.
        _ => all.to_vec(),
    }
}

/// How long the head of a page is; the places of its cells follow.
fn head_bytes(kind: u8) -> usize {
    if kind == INDEX_INNER { 12 } else { 8 }
}

/// How many cells a page has: as it says, or where its bytes do not add up to a page, the number
/// that is a bit from it and with which they do.
fn cells(page: &[u8], kind: u8, head: usize) -> usize {
    let says = two(page, 3);
    let near = (0..16).map(|bit| says ^ (1 << bit));
    let fits = |count: &u16| adds_up(page, kind, head, usize::from(*count));
    let count = Some(says)
        .filter(fits)
        .or_else(|| near.into_iter().find(fits))
        .unwrap_or(says);
    usize::from(count).min((PAGE - head) / 2)
}

/// Whether a page's head, cells, free blocks and fragments are together as large as the page.
fn adds_up(page: &[u8], kind: u8, head: usize, count: usize) -> bool {
    let begin = match two(page, 5) {
        0 => PAGE,
        begin => usize::from(begin),
    };
    if head + 2 * count > begin {
        return false;
    }
    let mut used = usize::from(page.get(7).copied().unwrap_or_default());
    let mut block = usize::from(two(page, 1));
    // Blocks follow each other in the order of their places.
    while block != 0 && used <= PAGE {
        used += usize::from(two(page, block + 2));
        let next = usize::from(two(page, block));
        block = if next > block { next } else { 0 };
    }
    for cell in 0..count {
        match Cell::at(page, kind, usize::from(two(page, head + 2 * cell))) {
            Some(cell) if used <= PAGE => used += cell.size_bytes(),
            _ => return false,
        }
    }
    begin.checked_add(used) == Some(PAGE)
}

/// Where the parts of a cell are.
struct Cell {
    begin: usize,
    number: Option<i64>,
    /// Where its payload begins, how long it is, and how much of it is on this page.
    payload: usize,
    length: usize,
    local: usize,
}

impl Cell {
    fn at(page: &[u8], kind: u8, begin: usize) -> Option<Self> {
        let mut at = begin + if kind == INDEX_INNER { 4 } else { 0 };
        let (length, size) = varint(page.get(at..)?)?;
        at += size;
        let mut number = None;
        if kind == TABLE_LEAF {
            let (key, size) = varint(page.get(at..)?)?;
            at += size;
            number = Some(key.cast_signed());
        }
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length as u64 <= PAYLOAD_MAX)?;
        let local = local(length, kind == TABLE_LEAF);
        Some(Self {
            begin,
            number,
            payload: at,
            length,
            local,
        })
    }

    fn size_bytes(&self) -> usize {
        let overflow = if self.local < self.length { 4 } else { 0 };
        // A freed cell must have room for the head of a free block.
        (self.payload - self.begin + self.local + overflow).max(4)
    }
}

/// How much of a payload lies in its cell.
fn local(length: usize, is_table: bool) -> usize {
    let max = if is_table {
        PAGE - 35
    } else {
        (PAGE - 12) * 64 / 255 - 23
    };
    if length <= max {
        return length;
    }
    let min = (PAGE - 12) * 32 / 255 - 23;
    let part = min + (length - min) % (PAGE - 4);
    if part <= max { part } else { min }
}

fn row(image: &Image, page: &[u8], kind: u8, at: usize) -> io::Result<Option<Row>> {
    let Some(cell) = Cell::at(page, kind, at) else {
        return Ok(None);
    };
    let Some(own) = page.get(cell.payload..cell.payload + cell.local) else {
        return Ok(None);
    };
    let mut payload = own.to_vec();
    let mut next = four(page, cell.payload + cell.local);
    while payload.len() < cell.length {
        let Some(overflow) = image.page(next)?.filter(|_| next > 0) else {
            return Ok(None);
        };
        next = four(&overflow, 0);
        let part = (cell.length - payload.len()).min(PAGE - 4);
        payload.extend_from_slice(overflow.get(4..4 + part).unwrap_or_default());
    }
    Ok(values(&payload).map(|values| Row {
        number: cell.number,
        values,
    }))
}

/// The values of a record.
fn values(payload: &[u8]) -> Option<Vec<Value>> {
    let (head, mut at) = varint(payload)?;
    let head = usize::try_from(head).ok()?;
    let mut body = payload.get(head..)?;
    let mut values = Vec::new();
    while at < head {
        let (kind, size) = varint(payload.get(at..head)?)?;
        at += size;
        let (value, size) = value(kind, body)?;
        values.push(value);
        body = body.get(size..)?;
    }
    body.is_empty().then_some(values)
}

fn value(kind: u64, body: &[u8]) -> Option<(Value, usize)> {
    let integer = |size: usize| {
        let bytes = body.get(..size)?;
        let sign = if bytes.first()? & 0x80 == 0 { 0 } else { -1 };
        Some((
            Value::Integer(
                bytes
                    .iter()
                    .fold(sign, |number: i64, byte| number << 8 | i64::from(*byte)),
            ),
            size,
        ))
    };
    match kind {
        0 => Some((Value::Null, 0)),
        1..=4 => integer(usize::try_from(kind).ok()?),
        5 => integer(6),
        6 => integer(8),
        8 => Some((Value::Integer(0), 0)),
        9 => Some((Value::Integer(1), 0)),
        // No table of ours has real numbers.
        7 | 10 | 11 => None,
        _ => {
            let size = usize::try_from((kind - 12) / 2).ok()?;
            let bytes = body.get(..size)?.to_vec();
            let value = if kind.is_multiple_of(2) {
                Value::Blob(bytes)
            } else {
                Value::Text(String::from_utf8(bytes).ok()?)
            };
            Some((value, size))
        }
    }
}

/// A number of one to nine bytes, most significant first.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0_u64;
    for at in 0..8 {
        let byte = *bytes.get(at)?;
        number = number << 7 | u64::from(byte & 0x7F);
        if byte < 0x80 {
            return Some((number, at + 1));
        }
    }
    Some((number << 8 | u64::from(*bytes.get(8)?), 9))
}

fn two(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u16::from_be_bytes)
}

fn four(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}
