//! Rows of several stores in the order of their times; those of one store stay in their own order.

use bytes::Bytes;
use pointsman_schemas::Timestamp;
use rusqlite::{Row, Rows, Statement};

use super::super::event::PortableEvent;
use super::super::line::{Base64, EventLine, HistoryLine, Line, NotedLine, RejectLine};
use super::Unread;
use super::store::Store;
use crate::disk::record::{Damage, DeadRow, EventRow, HistoryKey, HistoryRow};

/// The events of a store with their dead letters, and what no event could be made of.
const EVENTS: &str = "SELECT sequence, record FROM events ORDER BY sequence";
const DEAD: &str = "SELECT sequence, subscription, run, value FROM dead
     ORDER BY sequence, subscription, run";
const HISTORY: &str =
    "SELECT number, subscription, first, last, value FROM history ORDER BY number";

/// Lines that come one after the other, each with its time.
trait Source {
    fn next(&mut self, unread: &mut Unread) -> rusqlite::Result<Option<(Timestamp, Line)>>;
}

/// Hands over the events of all stores.
pub(super) fn events<E: From<rusqlite::Error>>(
    stores: &[Store],
    unread: &mut Unread,
    each: impl FnMut(Line) -> Result<(), E>,
) -> Result<(), E> {
    let (mut events, mut dead) = (prepare(stores, EVENTS)?, prepare(stores, DEAD)?);
    let statements = events.iter_mut().zip(&mut dead);
    let sources = stores
        .iter()
        .zip(statements)
        .map(|(store, (events, dead))| {
            Ok(Events {
                store,
                events: events.query([])?,
                dead: dead.query([])?,
                next_event: None,
                next_dead: None,
            })
        });
    merge(sources.collect::<rusqlite::Result<Vec<_>>>()?, unread, each)
}

/// Hands over the history of all stores.
pub(super) fn history<E: From<rusqlite::Error>>(
    stores: &[Store],
    unread: &mut Unread,
    each: impl FnMut(Line) -> Result<(), E>,
) -> Result<(), E> {
    let mut statements = prepare(stores, HISTORY)?;
    let sources = stores.iter().zip(&mut statements).map(|(store, rows)| {
        Ok(History {
            store,
            rows: rows.query([])?,
        })
    });
    merge(sources.collect::<rusqlite::Result<Vec<_>>>()?, unread, each)
}

fn prepare<'s>(stores: &'s [Store], sql: &str) -> rusqlite::Result<Vec<Statement<'s>>> {
    let prepared = stores.iter().map(|store| store.connection.prepare(sql));
    prepared.collect()
}

/// Hands over what comes of all sources, the earliest first.
fn merge<S: Source, E: From<rusqlite::Error>>(
    sources: Vec<S>,
    unread: &mut Unread,
    mut each: impl FnMut(Line) -> Result<(), E>,
) -> Result<(), E> {
    let mut ahead = Vec::with_capacity(sources.len());
    for mut source in sources {
        if let Some((at, line)) = source.next(unread)? {
            ahead.push((at, line, source));
        }
    }
    // There are few sources, and of several with one time the first comes first.
    while let Some(place) = (0..ahead.len()).min_by_key(|place| ahead.get(*place).map(|it| it.0)) {
        let (_, line, mut source) = ahead.remove(place);
        each(line)?;
        if let Some((at, line)) = source.next(unread)? {
            ahead.insert(place, (at, line, source));
        }
    }
    Ok(())
}

struct Events<'s> {
    store: &'s Store,
    events: Rows<'s>,
    dead: Rows<'s>,
    next_event: Option<(u64, EventRow)>,
    next_dead: Option<([u64; 3], DeadRow)>,
}

impl Events<'_> {
    /// Reads the next event, where none has been read ahead.
    fn look_at_events(&mut self, unread: &mut Unread) -> rusqlite::Result<Option<u64>> {
        while self.next_event.is_none()
            && let Some(row) = self.events.next()?
        {
            let sequence = unsigned(row, 0)?;
            let record = blob(row, 1).map(Bytes::copy_from_slice);
            match record.and_then(|record| EventRow::decode(sequence, &record)) {
                Ok(row) => self.next_event = Some((sequence, row)),
                Err(damage) => unread.count("events", damage),
            }
        }
        Ok(self.next_event.as_ref().map(|(sequence, _)| *sequence))
    }

    /// Reads the next dead letter, likewise.
    fn look_at_dead(&mut self, unread: &mut Unread) -> rusqlite::Result<Option<u64>> {
        while self.next_dead.is_none()
            && let Some(row) = self.dead.next()?
        {
            let key = [unsigned(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?];
            match blob(row, 3).and_then(|value| DeadRow::decode(&key, value)) {
                Ok(row) => self.next_dead = Some((key, row)),
                Err(damage) => unread.count("dead", damage),
            }
        }
        Ok(self.next_dead.as_ref().map(|([sequence, ..], _)| *sequence))
    }

    fn event(&mut self, unread: &mut Unread) -> rusqlite::Result<Option<(Timestamp, Line)>> {
        let Some((sequence, row)) = self.next_event.take() else {
            return Ok(None);
        };
        let mut dead = Vec::new();
        while self.look_at_dead(unread)? == Some(sequence) {
            let Some((key, row)) = self.next_dead.take() else {
                break;
            };
            match self.store.dead(key, &row) {
                Ok(line) => dead.push(line),
                Err(damage) => unread.count("dead", damage),
            }
        }
        let at = self.store.shown(row.at);
        let line = EventLine {
            sequence,
            tenant: row.tenant,
            origin: row.origin,
            at,
            kept_until: row.kept_until.map(|until| self.store.shown(until)),
            event: PortableEvent::of(&row.event),
            dead,
        };
        Ok(Some((at, Line::Event(Box::new(line)))))
    }

    /// The line of a dead letter that has no event.
    fn without_event(&self, key: [u64; 3], row: DeadRow) -> Result<(Timestamp, Line), Damage> {
        let letter = self.store.dead(key, &row)?;
        let reject = row.reject.ok_or(Damage("its event is missing"))?;
        let line = RejectLine {
            sequence: key[0],
            why: reject.reason,
            raw: Base64(reject.raw),
            letter,
        };
        Ok((line.letter.at, Line::Reject(Box::new(line))))
    }
}

impl Source for Events<'_> {
    fn next(&mut self, unread: &mut Unread) -> rusqlite::Result<Option<(Timestamp, Line)>> {
        loop {
            let (event, dead) = (self.look_at_events(unread)?, self.look_at_dead(unread)?);
            if dead.is_none() || event.is_some() && event <= dead {
                return self.event(unread);
            }
            if let Some((key, row)) = self.next_dead.take() {
                match self.without_event(key, row) {
                    Ok(line) => return Ok(Some(line)),
                    Err(damage) => unread.count("dead", damage),
                }
            }
        }
    }
}

struct History<'s> {
    store: &'s Store,
    rows: Rows<'s>,
}

impl Source for History<'_> {
    fn next(&mut self, unread: &mut Unread) -> rusqlite::Result<Option<(Timestamp, Line)>> {
        while let Some(row) = self.rows.next()? {
            let key = HistoryKey {
                number: unsigned(row, 0)?,
                subscription: row.get(1)?,
                first: unsigned(row, 2)?,
                last: unsigned(row, 3)?,
            };
            match blob(row, 4).and_then(|value| HistoryRow::decode(key, value)) {
                Ok(row) => {
                    let line = self.line(key.subscription, row);
                    return Ok(Some((line.at, Line::History(line))));
                }
                Err(damage) => unread.count("history", damage),
            }
        }
        Ok(None)
    }
}

impl History<'_> {
    fn line(&self, subscription: u32, row: HistoryRow) -> HistoryLine {
        let entry = |noted| {
            let mut line = NotedLine::of(noted);
            if let Some((next, _)) = &mut line.next {
                *next = self.store.shown(*next);
            }
            if let Some(attempt) = &mut line.attempt {
                attempt.began = self.store.shown(attempt.began);
            }
            line
        };
        HistoryLine {
            subscription,
            at: self.store.shown(row.at),
            entries: row.entries.into_iter().map(entry).collect(),
        }
    }
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

/// The bytes in a column.
pub(super) fn blob<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], Damage> {
    let value = row.get_ref(column).ok();
    let blob = value.and_then(|value| value.as_blob().ok());
    blob.ok_or(Damage("it is no blob"))
}
