//! What is deleted in time beside events: the history, and keys and identities whose window has
//! passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pointsman_schemas::Timestamp;
use rusqlite::{Connection, params};

use super::Upkeep;
use crate::disk::ballast::Share;
use crate::disk::record::{HistoryKey, HistoryRow, Seen};
use crate::disk::schema;
use crate::disk::transaction::ROW_BYTES;

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
            let excess = if self.is_tight(connection, needs_room)? {
                u64::MAX
            } else {
                bytes.saturating_sub(bounds.max_size_bytes)
            };
            let rows = HISTORY_PER_STEP.min(self.rows_affordable());
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
