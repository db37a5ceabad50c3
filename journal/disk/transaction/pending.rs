//! Rows of `pending`: written, parked behind an earlier one of their order key, promoted and taken.

use rusqlite::{OptionalExtension, params};

use super::{Failure, Transaction};
use crate::disk::queues::Effect;
use crate::disk::row::{BLOCK_DELIVERIES_MAX, BLOCK_RUN, PendingRow, RowKey, read_row};

/// A block as it stands in the database, and which of its deliveries have ended since.
pub(super) struct EndedIn {
    row: PendingRow,
    pub(super) ended: Vec<u64>,
}

impl<'c> Transaction<'c> {
    /// Writes a row of its own for a delivery that has none; of each order key the earliest alone
    /// is not parked.
    pub(super) fn insert(&mut self, mut row: PendingRow) -> Result<(), Failure> {
        self.changes.freed.remove(&row.key.sequence);
        row.parked = false;
        if let Some(first) = self.first_of_key(&row)? {
            if (first.key.sequence, first.key.run) < (row.key.sequence, row.key.run) {
                row.parked = true;
            } else if !first.parked {
                self.park(first)?;
            }
        }
        self.touch_pending(row.key);
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO pending VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let RowKey {
            subscription,
            sequence,
            ..
        } = row.key;
        insert.execute(params![
            subscription,
            sequence.cast_signed(),
            row.key.run_column(),
            row.due_column(),
            row.order_column(),
            row.encode()
        ])?;
        if row.is_queued() {
            self.changes.effects.push(Effect::Insert(row));
        }
        Ok(())
    }

    /// An earlier one of its key has come: a delivery waits for that, in flight or not.
    pub(super) fn park(&mut self, mut row: PendingRow) -> Result<(), Failure> {
        self.withheld.insert(row.key.subscription);
        self.queues.lock().withhold(row.key, row.due);
        self.changes.effects.push(Effect::Remove {
            key: row.key,
            due: row.due,
        });
        row.parked = true;
        self.update(&row)
    }

    fn touch_pending(&self, key: RowKey) {
        let sequence = key.sequence.cast_signed();
        self.touch(
            "pending",
            [key.subscription.into(), sequence, key.run_column()],
        );
    }

    pub(super) fn update(&self, row: &PendingRow) -> Result<(), Failure> {
        self.touch_pending(row.key);
        let RowKey {
            subscription,
            sequence,
            ..
        } = row.key;
        let mut update = self.connection.prepare_cached(
            "UPDATE pending SET due = ?4, value = ?5
             WHERE subscription = ?1 AND sequence = ?2 AND run = ?3",
        )?;
        update.execute(params![
            subscription,
            sequence.cast_signed(),
            row.key.run_column(),
            row.due_column(),
            row.encode()
        ])?;
        Ok(())
    }

    /// The earliest delivery with the row's order key, if it has one.
    pub(super) fn first_of_key(&mut self, row: &PendingRow) -> Result<Option<PendingRow>, Failure> {
        let Some(order_key) = row.order_column() else {
            return Ok(None);
        };
        loop {
            let mut select = self.connection.prepare_cached(
                "SELECT subscription, sequence, run, due, order_key, value
                 FROM pending INDEXED BY by_key
                 WHERE subscription = ?1 AND order_key = ?2 ORDER BY sequence, run LIMIT 1",
            )?;
            match select
                .query_row(params![row.key.subscription, order_key], read_row)
                .optional()?
            {
                None => return Ok(None),
                Some((_, Ok(first))) => return Ok(Some(first)),
                Some((key, Err(damage))) => self.quarantine_row(key, &damage)?,
            }
        }
    }

    /// The end of one frees the next of its order key.
    pub(super) fn promote(&mut self, subscription: u32, order_key: u64) -> Result<(), Failure> {
        let key = RowKey {
            subscription,
            sequence: 0,
            run: 0,
        };
        let like = PendingRow {
            order_key: Some(order_key),
            ..PendingRow::immediate(key, self.now)
        };
        let Some(mut first) = self.first_of_key(&like)? else {
            return Ok(());
        };
        if first.parked {
            first.parked = false;
            self.update(&first)?;
            if first.is_queued() {
                self.changes.effects.push(Effect::Insert(first));
            }
        }
        Ok(())
    }

    /// One row by its key.
    pub(super) fn row(&mut self, key: RowKey) -> Result<Option<PendingRow>, Failure> {
        let mut select = self.connection.prepare_cached(
            "SELECT subscription, sequence, run, due, order_key, value FROM pending
             WHERE subscription = ?1 AND sequence = ?2 AND run = ?3",
        )?;
        match select
            .query_row(
                params![
                    key.subscription,
                    key.sequence.cast_signed(),
                    key.run_column()
                ],
                read_row,
            )
            .optional()?
        {
            None => Ok(None),
            Some((_, Ok(row))) => Ok(Some(row)),
            Some((key, Err(damage))) => self.quarantine_row(key, &damage).map(|()| None),
        }
    }

    pub(super) fn delete(&self, key: RowKey) -> Result<bool, Failure> {
        self.touch_pending(key);
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM pending WHERE subscription = ?1 AND sequence = ?2 AND run = ?3",
        )?;
        Ok(delete.execute(params![
            key.subscription,
            key.sequence.cast_signed(),
            key.run_column()
        ])? > 0)
    }

    /// Takes a delivery from disk; false where it is not there, or not any more: its row may have
    /// been set aside under its lease.
    pub(super) fn take(&mut self, key: RowKey, block: Option<u64>) -> Result<bool, Failure> {
        self.free(key.sequence);
        let Some(first) = block else {
            return self.delete(key);
        };
        let block = (key.subscription, first);
        if !self.ended.contains_key(&block) {
            let Some(row) = self.row(RowKey {
                sequence: first,
                run: BLOCK_RUN,
                ..key
            })?
            else {
                return Ok(false);
            };
            self.ended.insert(
                block,
                EndedIn {
                    row,
                    ended: Vec::new(),
                },
            );
        }
        let Some(EndedIn { row, ended }) = self.ended.get_mut(&block) else {
            return Ok(false);
        };
        let is_there =
            row.sequences.binary_search(&key.sequence).is_ok() && !ended.contains(&key.sequence);
        if is_there {
            ended.push(key.sequence);
        }
        Ok(is_there)
    }

    /// Writes the blocks: what operations on single rows must not overlook.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO pending VALUES (?1, ?2, ?3, ?4, NULL, ?5)")?;
        for (subscription, sequences) in std::mem::take(&mut self.fresh) {
            for chunk in sequences.chunks(BLOCK_DELIVERIES_MAX) {
                let row = match chunk {
                    [sequence] => PendingRow::immediate(
                        RowKey {
                            subscription,
                            sequence: *sequence,
                            run: 0,
                        },
                        self.now,
                    ),
                    _ => PendingRow::block(subscription, chunk, self.now),
                };
                self.touch_pending(row.key);
                insert.execute(params![
                    subscription,
                    row.key.sequence.cast_signed(),
                    row.key.run_column(),
                    row.due_column(),
                    row.encode()
                ])?;
                self.changes.effects.push(Effect::Insert(row));
            }
        }
        for EndedIn { mut row, mut ended } in std::mem::take(&mut self.ended).into_values() {
            ended.sort_unstable();
            row.sequences
                .retain(|sequence| ended.binary_search(sequence).is_err());
            if row.sequences.is_empty() {
                self.delete(row.key)?;
            } else {
                self.update(&row)?;
            }
        }
        Ok(())
    }
}
