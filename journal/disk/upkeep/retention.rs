//! What is deleted in time: events that nothing refers to, and identities whose window has passed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pointsman_schemas::Timestamp;
use rusqlite::{Connection, params};

use super::{PAUSE, Upkeep};
use crate::disk::ballast::Share;
use crate::disk::reader::{first_since, replays};
use crate::disk::record::{HistoryKey, HistoryRow, Seen};
use crate::disk::row::read_row;
use crate::disk::schema::{self, PAGE_BYTES};
use crate::disk::transaction::ROW_BYTES;

/// Events looked at, and deleted at most, in one step: some 3 ms of the writer's time. Fewer where
/// the ballast is small, as each may take a page of the log.
const EVENTS_PER_STEP: usize = 1_000;

const IDENTITIES_PER_STEP: usize = 2_000;

/// Rows of the history deleted in one step: each is a page of the log at most, and mostly far less.
const HISTORY_PER_STEP: usize = 500;

const KEYS_PER_STEP: u32 = 1_000;

impl Upkeep {
    /// Deletes the oldest rows of the history: those past its time or size, and near the store's
    /// size any.
    pub(super) fn retain_history(
        &self,
        connection: &Connection,
        needs_room: bool,
    ) -> rusqlite::Result<()> {
        let shared = &self.shared;
        let bounds = shared.options.history;
        let before = shared.clock.now().minus(bounds.keep);
        loop {
            let Ok(ledger) = schema::read_ledger(connection)? else {
                return Ok(());
            };
            let bytes = ledger.history_bytes + ledger.history * ROW_BYTES;
            let is_tight = needs_room && shared.is_disk_full()
                || shared.room(connection)? * 2 < shared.options.max_size_bytes / 8;
            let excess = if is_tight {
                u64::MAX
            } else {
                bytes.saturating_sub(bounds.max_size_bytes)
            };
            let pages = shared.ballast.lock().commit_bytes_max() / PAGE_BYTES;
            let rows = HISTORY_PER_STEP.min(usize::try_from(pages).unwrap_or(usize::MAX));
            let Some(until) = oldest_history(connection, before, excess, rows)? else {
                return Ok(());
            };
            let deleted = shared.ask_blocking(Share::Freeing, move |transaction| {
                transaction.forget_history(until)
            });
            if !deleted || shared.upkeep.is_closed() {
                return Ok(());
            }
        }
    }

    /// Deletes events that nothing refers to: old ones, and near the store's size any, oldest
    /// first.
    pub(super) fn retain(
        &mut self,
        connection: &Connection,
        is_whole: bool,
        needs_room: bool,
    ) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        let before = shared.clock.now().minus(shared.options.retention);
        let old = first_since(connection, Timestamp(before.0.saturating_add(1)))?.saturating_sub(1);
        let began = std::time::Instant::now();
        if is_whole {
            self.swept = 0;
        }
        loop {
            // Looked at again after each step: what is deleted makes room.
            let is_tight = needs_room && shared.is_disk_full()
                || shared.room(connection)? * 2 < (shared.options.max_size_bytes / 8);
            let until = if is_tight { u64::MAX >> 1 } else { old };
            *shared.sweep.lock() = Some(HashSet::new());
            let pages = usize::try_from(shared.ballast.lock().commit_bytes_max() / PAGE_BYTES)
                .unwrap_or(usize::MAX);
            let candidates =
                events_after(connection, self.swept, until, EVENTS_PER_STEP.min(pages))?;
            let Some(last) = candidates.last().copied() else {
                self.swept = 0;
                *shared.sweep.lock() = None;
                return Ok(());
            };
            let pinned = pinned(connection, self.swept + 1, last)?;
            let replays = pins(connection, is_tight)?;
            let is_replayed = |sequence: u64| {
                replays
                    .iter()
                    .any(|(behind, until)| *behind < sequence && sequence <= *until)
            };
            let free: Vec<u64> = candidates
                .into_iter()
                .filter(|sequence| !pinned.contains(sequence) && !is_replayed(*sequence))
                .collect();
            self.swept = last;
            let in_writer = Arc::clone(&shared);
            let deleted = free.is_empty()
                || shared.ask_blocking(Share::Freeing, move |transaction| {
                    let spare = in_writer.sweep.lock().clone().unwrap_or_default();
                    transaction.forget_events(&free, &spare)
                });
            *shared.sweep.lock() = None;
            if !deleted || shared.upkeep.is_closed() || (!is_whole && began.elapsed() > PAUSE / 4) {
                return Ok(());
            }
        }
    }

    /// Forgets keys whose window has passed.
    pub(super) fn forget_keys(&self) {
        let now = self.shared.clock.now();
        let forgotten = Arc::new(AtomicU64::new(0));
        loop {
            let count = Arc::clone(&forgotten);
            let has_asked = self
                .shared
                .ask_blocking(Share::Freeing, move |transaction| {
                    let forgotten = transaction.forget_keys(now, KEYS_PER_STEP)?;
                    count.store(forgotten, Ordering::Relaxed);
                    Ok(forgotten)
                });
            let is_last = forgotten.load(Ordering::Relaxed) < u64::from(KEYS_PER_STEP);
            if !has_asked || is_last || self.shared.upkeep.is_closed() {
                return;
            }
        }
    }

    /// Forgets identities whose window has passed.
    pub(super) fn forget_identities(&self, connection: &Connection) -> rusqlite::Result<()> {
        let now = self.shared.clock.now();
        let (mut high, mut low) = (i64::MIN, i64::MIN);
        loop {
            let mut select = connection.prepare_cached(
                "SELECT high, low, value FROM identities
                 WHERE (high, low) >= (?1, ?2) ORDER BY high, low LIMIT ?3",
            )?;
            let mut rows = select.query(params![high, low, schema::limit(IDENTITIES_PER_STEP)])?;
            let (mut past, mut seen) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                (high, low) = (row.get(0)?, row.get(1)?);
                let key = [high.cast_unsigned(), low.cast_unsigned()];
                let identity = Seen::decode(key, row.get_ref(2)?.as_blob().unwrap_or_default());
                if identity.as_ref().is_ok_and(|seen| seen.until <= now) {
                    past.push(key);
                }
                seen += 1;
            }
            drop(rows);
            if !past.is_empty()
                && !self
                    .shared
                    .ask_blocking(Share::Freeing, move |transaction| {
                        transaction.forget_identities(&past)
                    })
            {
                return Ok(());
            }
            if seen < IDENTITIES_PER_STEP || self.shared.upkeep.is_closed() {
                return Ok(());
            }
        }
    }
}

/// The number up to which the oldest rows of the history may go, some at a time: those written at
/// a time or before it, and others until so many bytes are free.
fn oldest_history(
    connection: &Connection,
    before: Timestamp,
    excess: u64,
    rows_max: usize,
) -> rusqlite::Result<Option<u64>> {
    let mut select = connection.prepare_cached(
        "SELECT number, subscription, first, last, value FROM history ORDER BY number LIMIT ?1",
    )?;
    let mut rows = select.query([schema::limit(rows_max)])?;
    let (mut until, mut freed) = (None, 0);
    while let Some(row) = rows.next()? {
        let key = HistoryKey {
            number: row.get::<_, i64>(0)?.cast_unsigned(),
            subscription: row.get(1)?,
            first: row.get::<_, i64>(2)?.cast_unsigned(),
            last: row.get::<_, i64>(3)?.cast_unsigned(),
        };
        // When a damaged one was written is not known: it goes with those around it.
        let value = row.get_ref(4)?.as_blob().unwrap_or_default();
        let read = HistoryRow::decode(key, value);
        if freed >= excess && read.is_ok_and(|row| row.at > before) {
            break;
        }
        freed += value.len() as u64 + ROW_BYTES;
        until = Some(key.number);
    }
    Ok(until)
}

fn events_after(
    connection: &Connection,
    after: u64,
    until: u64,
    count: usize,
) -> rusqlite::Result<Vec<u64>> {
    let mut select = connection.prepare_cached(
        "SELECT sequence FROM events
         WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let rows = select.query_map(
        params![
            after.cast_signed(),
            until.cast_signed(),
            schema::limit(count)
        ],
        |row| row.get::<_, i64>(0),
    )?;
    rows.map(|sequence| sequence.map(i64::cast_unsigned))
        .collect()
}

/// The events that replays still look at: behind the first of each pair, up to the second.
fn pins(connection: &Connection, needs_room: bool) -> rusqlite::Result<Vec<(u64, u64)>> {
    let all = replays(connection)?.into_iter();
    let sound = all.filter_map(|(_, replay)| replay.ok());
    let pins = sound.filter_map(|replay| replay.pinned(needs_room));
    Ok(pins.map(|(behind, until)| (behind.0, until.0)).collect())
}

/// Which events of a range a delivery or a dead letter refers to.
fn pinned(connection: &Connection, from: u64, to: u64) -> rusqlite::Result<HashSet<u64>> {
    // One snapshot: a delivery that dies or is sent on while this looks would else be seen in
    // neither place.
    let snapshot = connection.unchecked_transaction()?;
    let mut pinned = HashSet::new();
    let mut dead =
        snapshot.prepare_cached("SELECT sequence FROM dead WHERE sequence BETWEEN ?1 AND ?2")?;
    for sequence in dead.query_map([from.cast_signed(), to.cast_signed()], |row| {
        row.get::<_, i64>(0)
    })? {
        pinned.insert(sequence?.cast_unsigned());
    }
    let mut numbers = snapshot.prepare_cached("SELECT number FROM subscriptions")?;
    let numbers: Vec<u32> = numbers
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut alone = snapshot.prepare_cached(
        "SELECT sequence FROM pending
         WHERE subscription = ?1 AND sequence BETWEEN ?2 AND ?3 AND run >= 0",
    )?;
    let mut blocks = snapshot.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending INDEXED BY blocks
         WHERE subscription = ?1 AND run < 0 AND sequence <= ?3 AND sequence >= coalesce(
             (SELECT max(sequence) FROM pending INDEXED BY blocks
             WHERE subscription = ?1 AND run < 0 AND sequence <= ?2), 0)",
    )?;
    for number in numbers {
        let range = params![number, from.cast_signed(), to.cast_signed()];
        for sequence in alone.query_map(range, |row| row.get::<_, i64>(0))? {
            pinned.insert(sequence?.cast_unsigned());
        }
        for row in blocks.query_map(range, read_row)? {
            match row? {
                (_, Ok(row)) => pinned.extend(row.sequences),
                // What a damaged block held is not known: everything it may have held stays until
                // it is set aside.
                (_, Err(_)) => pinned.extend(from..=to),
            }
        }
    }
    Ok(pinned)
}
