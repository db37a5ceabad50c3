//! Stored events, by sequence and by time.

use bytes::Bytes;
use pointsman_schemas::{Sequence, Timestamp};
use rusqlite::{Connection, OptionalExtension, Rows};

use crate::disk::record::{Damage, EventRow};
use crate::{EventPage, EventsFrom, StoredEvent};

/// Reads an event; none where there is none of this sequence.
pub(in crate::disk) fn event(
    connection: &Connection,
    sequence: u64,
) -> rusqlite::Result<Option<Result<EventRow, Damage>>> {
    let mut select = connection.prepare_cached("SELECT record FROM events WHERE sequence = ?1")?;
    let record = select
        .query_row([sequence.cast_signed()], |row| {
            Ok(row.get_ref(0)?.as_blob().map(Bytes::copy_from_slice))
        })
        .optional()?;
    Ok(record
        .map(|record| EventRow::decode(sequence, &record.map_err(|_| Damage("it is no blob"))?)))
}

/// The last event that can be read.
pub(super) fn last_event(connection: &Connection) -> rusqlite::Result<Option<StoredEvent>> {
    let mut select =
        connection.prepare_cached("SELECT sequence, record FROM events ORDER BY sequence DESC")?;
    Ok(first_sound(&mut select.query([])?)?.map(|(sequence, row)| row.into_stored(sequence)))
}

/// The first of some rows that can be read.
fn first_sound(rows: &mut Rows<'_>) -> rusqlite::Result<Option<(u64, EventRow)>> {
    while let Some(row) = rows.next()? {
        let sequence = row.get::<_, i64>(0)?.cast_unsigned();
        let record = row.get_ref(1)?.as_blob().unwrap_or_default();
        if let Ok(event) = EventRow::decode(sequence, &Bytes::copy_from_slice(record)) {
            return Ok(Some((sequence, event)));
        }
    }
    Ok(None)
}

/// A page of events that holds no more than it may, but one at least.
pub(super) fn event_page(
    connection: &Connection,
    from: EventsFrom,
    limit: usize,
    bytes_max: usize,
) -> rusqlite::Result<EventPage> {
    let first = match from {
        EventsFrom::After(after) | EventsFrom::AfterSince(after, _) => after.0.saturating_add(1),
        EventsFrom::Time(time) => first_since(connection, time)?,
    };
    let mut page = EventPage::default();
    let (mut seen, mut bytes, mut last) = (0, 0_usize, None);
    let mut select = connection.prepare_cached(
        "SELECT sequence, record FROM events WHERE sequence >= ?1 ORDER BY sequence",
    )?;
    let mut rows = select.query([i64::try_from(first).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let sequence = row.get::<_, i64>(0)?.cast_unsigned();
        let record = row.get_ref(1)?.as_blob().unwrap_or_default();
        bytes = bytes.saturating_add(record.len());
        if seen >= limit || (bytes > bytes_max && seen > 0) {
            page.next = last;
            break;
        }
        match EventRow::decode(sequence, &Bytes::copy_from_slice(record)) {
            Ok(event) => page.events.push(event.into_stored(sequence)),
            Err(_) => page.damaged += 1,
        }
        (seen, last) = (seen + 1, Some(Sequence(sequence)));
    }
    Ok(page)
}

/// The first sequence of which the event was appended at a time or later, or the one behind the
/// last: halves the sequences that there are, since their times grow with them and are in no index.
pub(in crate::disk) fn first_since(
    connection: &Connection,
    time: Timestamp,
) -> rusqlite::Result<u64> {
    // Asked for without a query of their own each, `min` and `max` make SQLite scan the table.
    let mut ends = connection.prepare_cached(
        "SELECT coalesce((SELECT min(sequence) FROM events), 1),
                coalesce((SELECT max(sequence) FROM events), 0)",
    )?;
    let (mut low, last): (i64, i64) = ends.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut high = last.saturating_add(1);
    let mut select = connection.prepare_cached(
        "SELECT sequence, record FROM events WHERE sequence >= ?1 AND sequence < ?2
         ORDER BY sequence",
    )?;
    while low < high {
        let middle = low + (high - low) / 2;
        // When a damaged one was appended is not known: the next one tells.
        match first_sound(&mut select.query([middle, high])?)? {
            Some((sequence, event)) if event.at < time => low = sequence.cast_signed() + 1,
            _ => high = middle,
        }
    }
    Ok(low.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_schemas::{Event, Name};
    use rusqlite::params;

    use super::*;

    #[test]
    fn the_first_event_since_a_time_is_found_over_gaps_and_damaged_ones() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE events (sequence INTEGER PRIMARY KEY, record BLOB)")
            .unwrap();
        assert_eq!(first_since(&connection, Timestamp(0)).unwrap(), 1);
        let row = |at| EventRow {
            tenant: Name::default_tenant(),
            origin: Name::default_tenant(),
            at: Timestamp(at),
            kept_until: None,
            event: Arc::new(Event::builder("1", "/test", "t").build().unwrap()),
        };
        // Sequence and time; none of a damaged one.
        let stored = [
            (3, Some(10)),
            (4, None),
            (5, Some(20)),
            (8, None),
            (9, None),
            (10, Some(30)),
            (11, Some(30)),
            (12, None),
        ];
        for (sequence, at) in stored {
            let record = at.map_or(vec![0], |at| row(at).encode(sequence));
            connection
                .execute(
                    "INSERT INTO events VALUES (?1, ?2)",
                    params![sequence.cast_signed(), record],
                )
                .unwrap();
        }
        for (time, expect) in [
            (0, 3),
            (10, 3),
            (11, 4),
            (20, 4),
            (21, 6),
            (30, 6),
            (31, 12),
        ] {
            let found = first_since(&connection, Timestamp(time)).unwrap();
            assert_eq!(found, expect, "since {time}");
        }
    }
}
