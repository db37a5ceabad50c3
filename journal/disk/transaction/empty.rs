//! Taking everything that waits out of a subscription: ended, or moved to another one.

use std::collections::BTreeSet;

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use rusqlite::params;

use super::operate::{Page, not_found};
use super::{Cause, Failure, Transaction};
use crate::disk::queues::{Effect, Moment};
use crate::disk::reader;
use crate::disk::row::{PendingRow, RowKey, read_row};
use crate::disk::schema;
use crate::{Happening, JournalError, NewDelivery};

/// Sequence and run of the last row that was looked at.
type PageKey = (i64, i64);

impl Transaction<'_> {
    /// Looks whether both are there, and gives the last sequence that counts: what is appended
    /// meanwhile does not.
    pub(in crate::disk) fn begin_emptying(
        &mut self,
        from: u32,
        to: Option<u32>,
        now: Moment,
    ) -> Result<u64, Failure> {
        // Leases that have run out are none.
        self.queues.lock().advance(now);
        let tenant = |number| {
            self.subscription(number)
                .map(|subscribed| &subscribed.identity.tenant)
        };
        let own = tenant(from).ok_or_else(|| not_found(from))?;
        if let Some(to) = to {
            tenant(to).filter(|other| *other == own).ok_or_else(|| {
                JournalError::NotFound(format!("subscription {to} of tenant {own}"))
            })?;
        }
        // What its replay would still make is ended with the rest.
        if to.is_none() {
            self.cancel_start(from);
        }
        Ok(self.changes.ledger.last_sequence)
    }

    /// Takes out what a page of rows behind `after` holds, but for what is in flight.
    pub(in crate::disk) fn empty(
        &mut self,
        from: u32,
        to: Option<u32>,
        until: u64,
        after: Option<PageKey>,
        rows_max: usize,
    ) -> Result<Page<PageKey>, Failure> {
        self.flush()?;
        if to == Some(from)
            || self.subscription(from).is_none()
            || to.is_some_and(|to| self.subscription(to).is_none())
        {
            return Ok(Page::default());
        }
        let (sequence, run) = after.unwrap_or((-1, 0));
        let mut select = self.connection.prepare_cached(
            "SELECT subscription, sequence, run, due, order_key, value FROM pending
             WHERE subscription = ?1 AND (sequence, run) > (?2, ?3) AND sequence <= ?4
             ORDER BY sequence, run LIMIT ?5",
        )?;
        let rows = select.query_map(
            params![
                from,
                sequence,
                run,
                until.cast_signed(),
                schema::limit(rows_max)
            ],
            read_row,
        )?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        let last = rows
            .last()
            .map(|(key, _)| (key.sequence.cast_signed(), key.run_column()));
        let mut page = Page {
            count: 0,
            next: last.filter(|_| rows.len() == rows_max),
        };
        let mut waiting = Vec::new();
        for (key, row) in &rows {
            match row {
                Ok(row) => waiting.extend(
                    row.sequences
                        .iter()
                        .map(|sequence| (*sequence, if row.is_block() { 0 } else { key.run }, row)),
                ),
                Err(damage) => self.quarantine_row(*key, damage)?,
            }
        }
        waiting.sort_unstable_by_key(|(sequence, run, _)| (*sequence, *run));
        let leased = {
            let mut queues = self.queues.lock();
            queues.pause(from);
            queues.leased(from)
        };
        self.withheld.insert(from);
        let mut order_keys = BTreeSet::new();
        for (sequence, run, row) in waiting {
            let key = RowKey {
                subscription: from,
                sequence,
                run,
            };
            if !leased.contains(&(sequence, run)) && self.take_away(key, row, to)? {
                page.count += 1;
                order_keys.extend(row.order_key);
            }
        }
        self.flush()?;
        // Whether one was parked is not known any more: what was taken out before it may have freed
        // it, and it what comes behind.
        for order_key in order_keys {
            self.promote(from, order_key)?;
        }
        self.changes.effects.push(Effect::Resume(from));
        Ok(page)
    }

    /// Ends a delivery that is not in flight, and makes a run of it elsewhere; false where that
    /// cannot be done.
    fn take_away(
        &mut self,
        key: RowKey,
        row: &PendingRow,
        to: Option<u32>,
    ) -> Result<bool, Failure> {
        let origin = match to {
            None => None,
            // What cannot be read stays, and is set aside by whoever leases it.
            Some(_) => match reader::event(self.connection, key.sequence)? {
                Some(Ok(stored)) => Some(stored.origin),
                _ => return Ok(false),
            },
        };
        self.changes
            .effects
            .push(Effect::Remove { key, due: row.due });
        self.take(key, row.is_block().then_some(row.key.sequence))?;
        if let Ok(stopped) = self.state_after(row, Happening::Cancel) {
            self.note_end(key, stopped, None)?;
        }
        self.count(key.subscription, |counts| {
            counts.cancelled += 1;
            counts.pending -= 1;
            counts.retrying -= u64::from(row.attempts > 0);
        });
        if let (Some(to), Some(origin)) = (to, origin) {
            self.pinned.insert(key.sequence);
            let due = Some(row.due.time());
            let is_delayed =
                |due: &Timestamp| !row.immediate && row.attempts == 0 && *due > self.now;
            let new = NewDelivery {
                subscription: SubscriptionNumber(to),
                order_key: row.order_key,
                due: due.filter(is_delayed),
                priority: row.due.priority(),
            };
            let run = self.changes.ledger.last_run + 1;
            self.deliver(key.sequence, run, new, &origin, Cause::Run(row.replay))?;
        }
        Ok(true)
    }
}
