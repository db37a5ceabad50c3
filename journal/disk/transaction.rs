//! One transaction: what a group of jobs does to the database, and what that will change in memory
//! once it is committed.
//!
//! A job either refuses before it has written anything, or succeeds, or fails with the database:
//! then the whole transaction is rolled back. Counters and the ledger are changed in copies here
//! and written once at the end.

mod append;
mod empty;
mod operate;
mod quarantine;
mod retain;
mod settle;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_schemas::{Epoch, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

pub(super) use self::append::size_bytes;
pub(super) use self::operate::{Page, ROWS_PER_PAGE};
use super::check::placeholder;
use super::epochs::Epochs;
use super::queues::{Effect, Queues};
use super::record::{Damage, DeadRow, Subscribed};
use super::row::{BLOCK_DELIVERIES_MAX, BLOCK_RUN, PendingRow, RowKey};
use super::schema::{self, Ledger};
use crate::{Counts, DeadReason, JournalError, LeaseToken, NewDelivery, SubscriptionIdentity};

/// Why a job did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was written for it.
    Refused(JournalError),
    /// The database failed, and the transaction with it.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::Refused(error)
    }
}

/// What the last commit left: the writer's own copy of the small tables.
#[derive(Debug, Default)]
pub(super) struct CommittedState {
    pub(super) ledger: Ledger,
    pub(super) subscriptions: BTreeMap<u32, Subscribed>,
    pub(super) epochs: Arc<Epochs>,
    /// Subscriptions that were dropped since the store was opened, the latest of them.
    pub(super) dropped: BTreeMap<u32, SubscriptionIdentity>,
    /// The last epoch is written with the first commit in it, and the format with it: opening a
    /// store writes nothing.
    pub(super) is_epoch_new: bool,
}

/// Dropped subscriptions that are remembered: an append may still come for one, matched by the
/// rules of before.
const DROPPED_MAX: usize = 10_000;

impl CommittedState {
    /// Takes over what a transaction has committed.
    pub(super) fn apply(&mut self, ledger: Ledger, subscriptions: HashMap<u32, Subscribed>) {
        (self.ledger, self.is_epoch_new) = (ledger, false);
        for (number, subscribed) in subscriptions {
            if subscribed.is_nothing_left() {
                self.subscriptions.remove(&number);
                self.dropped.insert(number, subscribed.identity);
            } else {
                self.subscriptions.insert(number, subscribed);
            }
        }
        while self.dropped.len() > DROPPED_MAX {
            self.dropped.pop_first();
        }
    }

    /// Begins an epoch: the store has just been opened. Where `skip` is set, what was given out
    /// last is not sure, and numbers go on far behind it.
    pub(super) fn begin_epoch(&mut self, now: Timestamp, skip: bool, file: u64) {
        let ledger = &mut self.ledger;
        let (last_sequence, last_run) = self.epochs.given_out();
        ledger.last_run = ledger.last_run.max(last_run);
        let mut last_sequence = ledger.last_sequence.max(last_sequence);
        if skip {
            last_sequence += SEQUENCES_SKIPPED + u64::from(rand::random::<u32>());
            ledger.last_subscription += SUBSCRIPTIONS_SKIPPED;
        }
        // Two clones of one machine may draw the same number, but not at the same time.
        let epoch = Epoch(rand::random::<u64>() ^ now.0.cast_unsigned());
        Arc::make_mut(&mut self.epochs).begin(epoch, last_sequence, ledger.last_run, file);
        self.is_epoch_new = true;
    }
}

/// Numbers that are left out where the last one given out is not known: more than any power cut can
/// hide.
pub(super) const SEQUENCES_SKIPPED: u64 = 1 << 32;
pub(super) const SUBSCRIPTIONS_SKIPPED: u32 = 1024;

/// What a committed transaction changes in memory.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) ledger: Ledger,
    pub(super) subscriptions: HashMap<u32, Subscribed>,
    pub(super) effects: Vec<Effect>,
    /// Events that got a new reference, other than by their own append.
    pub(super) pinned: HashSet<u64>,
}

/// A block as it stands in the database, and which of its deliveries have ended since.
struct EndedIn {
    row: PendingRow,
    ended: Vec<u64>,
}

pub(super) struct Transaction<'c> {
    connection: &'c Connection,
    committed: &'c CommittedState,
    queues: &'c Mutex<Queues>,
    now: Timestamp,
    /// Bytes that may still be appended.
    room: u64,
    changes: Changes,
    /// Deliveries to be written as blocks, by subscription.
    fresh: BTreeMap<u32, Vec<u64>>,
    /// Blocks of which deliveries have ended, by the block's key.
    ended: BTreeMap<(u32, u64), EndedIn>,
    /// Tokens claimed in memory, to be given back where this is not committed.
    claimed: Vec<LeaseToken>,
    /// Subscriptions of which something was taken out of the window.
    withheld: BTreeSet<u32>,
    pinned: HashSet<u64>,
}

impl<'c> Transaction<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        committed: &'c CommittedState,
        queues: &'c Mutex<Queues>,
        now: Timestamp,
        room: u64,
    ) -> Self {
        Self {
            connection,
            committed,
            queues,
            now,
            room,
            changes: Changes {
                ledger: committed.ledger,
                ..Changes::default()
            },
            fresh: BTreeMap::new(),
            ended: BTreeMap::new(),
            claimed: Vec::new(),
            withheld: BTreeSet::new(),
            pinned: HashSet::new(),
        }
    }

    /// Keeps what the time is.
    pub(super) fn note_time(&mut self, clock_offset: i64) {
        let ledger = &mut self.changes.ledger;
        (ledger.time, ledger.clock_offset) = (ledger.time.max(self.now), clock_offset);
    }

    /// Bytes that may still be appended behind it.
    pub(super) fn room(&self) -> u64 {
        self.room
    }

    /// Gives back what this transaction has claimed in memory; it will not be committed.
    pub(super) fn abandon(self) {
        self.queues.lock().undo(&self.claimed, &self.withheld);
    }

    /// Writes what was collected.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.flush()?;
        let mut update = self
            .connection
            .prepare_cached("REPLACE INTO subscriptions VALUES (?1, ?2)")?;
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM subscriptions WHERE number = ?1")?;
        for (number, subscribed) in &self.changes.subscriptions {
            if subscribed.is_nothing_left() {
                delete.execute([number])?;
                self.changes.effects.push(Effect::Forget(*number));
            } else {
                update.execute(params![number, subscribed.encode(*number)])?;
            }
        }
        if self.committed.is_epoch_new {
            schema::write_format(self.connection)?;
            schema::write_epochs(self.connection, &self.committed.epochs)?;
        }
        self.changes.ledger.commit += 1;
        Ok(schema::write_ledger(self.connection, &self.changes.ledger)?)
    }

    /// What may be applied now that the database has committed.
    pub(super) fn into_changes(self) -> Changes {
        Changes {
            pinned: self.pinned,
            ..self.changes
        }
    }

    fn subscription(&self, number: u32) -> Option<&Subscribed> {
        self.changes
            .subscriptions
            .get(&number)
            .or_else(|| self.committed.subscriptions.get(&number))
    }

    fn subscription_mut(&mut self, number: u32) -> Option<&mut Subscribed> {
        match self.changes.subscriptions.entry(number) {
            std::collections::hash_map::Entry::Occupied(there) => Some(there.into_mut()),
            std::collections::hash_map::Entry::Vacant(vacant) => self
                .committed
                .subscriptions
                .get(&number)
                .map(|subscribed| vacant.insert(subscribed.clone())),
        }
    }

    /// The subscription under which something is to be kept that was matched before its own was
    /// dropped: the one that has its identity now, else itself, which comes back detached as it
    /// was.
    fn resolve(&mut self, number: u32) -> u32 {
        if self.subscription(number).is_some() {
            return number;
        }
        let placeholder = placeholder(number);
        let identity = self
            .committed
            .dropped
            .get(&number)
            .cloned()
            .unwrap_or_else(|| placeholder.identity.clone());
        let others = self
            .committed
            .subscriptions
            .iter()
            .chain(&self.changes.subscriptions);
        let heir = others
            .filter(|(_, other)| other.identity == identity)
            .map(|(number, _)| *number)
            .max();
        heir.unwrap_or_else(|| {
            self.changes.subscriptions.insert(
                number,
                Subscribed {
                    identity,
                    ..placeholder
                },
            );
            number
        })
    }

    fn next_sequence(&mut self) -> u64 {
        let ledger = &mut self.changes.ledger;
        ledger.last_sequence = ledger
            .last_sequence
            .max(self.committed.epochs.given_out().0)
            + 1;
        ledger.last_sequence
    }

    fn count(&mut self, subscription: u32, change: impl FnOnce(&mut Counts)) {
        if let Some(subscribed) = self.subscription_mut(subscription) {
            change(&mut subscribed.counts);
        }
    }

    /// Makes a delivery of a stored event, or a dead letter where the backlog is full and declared
    /// so.
    fn deliver(
        &mut self,
        sequence: u64,
        run: u64,
        new: NewDelivery,
        origin: &pointsman_schemas::Name,
    ) -> Result<(), Failure> {
        let (now, number) = (self.now, new.subscription.0);
        self.changes.ledger.last_run = self.changes.ledger.last_run.max(run);
        let number = self.resolve(number);
        let Some(subscribed) = self.subscription_mut(number) else {
            return Ok(());
        };
        subscribed.counts.created += 1;
        let key = RowKey {
            subscription: number,
            sequence,
            run,
        };
        if subscribed.backlog.is_some_and(|backlog| {
            backlog.dead_when_full && subscribed.counts.pending >= backlog.max
        }) {
            let (tenant, origin, reason) = (
                subscribed.identity.tenant.clone(),
                origin.clone(),
                DeadReason::Backlog,
            );
            let (order_key, last, reject) = (new.order_key, None, None);
            return self.dead_letter(
                key,
                &DeadRow {
                    tenant,
                    origin,
                    reason,
                    at: now,
                    attempts: 0,
                    order_key,
                    last,
                    reject,
                },
            );
        }
        subscribed.counts.pending += 1;
        if run == 0 && new.order_key.is_none() && new.due.is_none() {
            self.fresh.entry(number).or_default().push(sequence);
            return Ok(());
        }
        let due = new.due.unwrap_or(now);
        let row = PendingRow {
            due,
            since: due,
            immediate: new.due.is_none(),
            order_key: new.order_key,
            ..PendingRow::immediate(key, now)
        };
        self.place(row)
    }

    fn dead_letter(&mut self, key: RowKey, dead: &DeadRow) -> Result<(), Failure> {
        let RowKey {
            subscription,
            sequence,
            run,
        } = key;
        let value = dead.encode(&[sequence, u64::from(subscription), run]);
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO dead VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![
            sequence.cast_signed(),
            subscription,
            run.cast_signed(),
            value
        ])?;
        self.changes.ledger.dead += 1;
        self.changes.ledger.rejects += u64::from(dead.reject.is_some());
        self.count(subscription, |counts| counts.dead += 1);
        Ok(())
    }

    /// Writes a row of its own for a delivery that has none; of each order key the earliest alone
    /// is not parked.
    fn place(&mut self, mut row: PendingRow) -> Result<(), Failure> {
        row.parked = false;
        if let Some(first) = self.first_of_key(&row)? {
            if (first.key.sequence, first.key.run) < (row.key.sequence, row.key.run) {
                row.parked = true;
            } else if !first.parked {
                self.park(first)?;
            }
        }
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
        if !row.parked {
            self.changes.effects.push(Effect::Insert(row));
        }
        Ok(())
    }

    /// An earlier one of its key has come: a delivery waits for that, in flight or not.
    fn park(&mut self, mut row: PendingRow) -> Result<(), Failure> {
        self.withheld.insert(row.key.subscription);
        self.queues.lock().withhold(row.key, row.due);
        self.changes.effects.push(Effect::Remove {
            key: row.key,
            due: row.due,
        });
        row.parked = true;
        self.update(&row)
    }

    fn update(&self, row: &PendingRow) -> Result<(), Failure> {
        let RowKey {
            subscription,
            sequence,
            ..
        } = row.key;
        let mut update = self
            .connection
            .prepare_cached("UPDATE pending SET due = ?4, value = ?5 WHERE subscription = ?1 AND sequence = ?2 AND run = ?3")?;
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
    fn first_of_key(&mut self, row: &PendingRow) -> Result<Option<PendingRow>, Failure> {
        let Some(order_key) = row.order_column() else {
            return Ok(None);
        };
        loop {
            let mut select = self.connection.prepare_cached(
                "SELECT subscription, sequence, run, due, order_key, value FROM pending INDEXED BY by_key
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
    fn promote(&mut self, subscription: u32, order_key: u64) -> Result<(), Failure> {
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
            self.changes.effects.push(Effect::Insert(first));
        }
        Ok(())
    }

    /// One row by its key.
    fn row(&mut self, key: RowKey) -> Result<Option<PendingRow>, Failure> {
        let mut select = self.connection.prepare_cached(
            "SELECT subscription, sequence, run, due, order_key, value FROM pending WHERE subscription = ?1 AND sequence = ?2 AND run = ?3",
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

    fn delete(&self, key: RowKey) -> Result<bool, Failure> {
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
    fn take(&mut self, key: RowKey, block: Option<u64>) -> Result<bool, Failure> {
        let Some(first) = block else {
            return self.delete(key);
        };
        let place = (key.subscription, first);
        if !self.ended.contains_key(&place) {
            let Some(row) = self.row(RowKey {
                sequence: first,
                run: BLOCK_RUN,
                ..key
            })?
            else {
                return Ok(false);
            };
            self.ended.insert(
                place,
                EndedIn {
                    row,
                    ended: Vec::new(),
                },
            );
        }
        let Some(EndedIn { row, ended }) = self.ended.get_mut(&place) else {
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
    fn flush(&mut self) -> Result<(), Failure> {
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

/// A delivery is not pending any more. One that was not counted is counted now, so that the
/// counters add up.
fn leave_pending(counts: &mut Counts, was_tried: bool) {
    match counts.pending.checked_sub(1) {
        Some(left) => counts.pending = left,
        None => counts.created += 1,
    }
    counts.retrying = counts
        .retrying
        .saturating_sub(u64::from(was_tried))
        .min(counts.pending);
}

/// A dead letter is none any more, as [`leave_pending`].
fn leave_dead(counts: &mut Counts) {
    match counts.dead.checked_sub(1) {
        Some(left) => counts.dead = left,
        None => counts.created += 1,
    }
}

/// Reads a row of `pending` with the columns in their order; one that is damaged by its key alone.
pub(super) fn read_row(
    row: &rusqlite::Row<'_>,
) -> rusqlite::Result<(RowKey, Result<PendingRow, Damage>)> {
    let run: i64 = row.get(2)?;
    if run < BLOCK_RUN.cast_signed() {
        return Err(rusqlite::Error::IntegralValueOutOfRange(2, run));
    }
    let run = run.cast_unsigned();
    let key = RowKey {
        subscription: row.get(0)?,
        sequence: row.get::<_, i64>(1)?.cast_unsigned(),
        run,
    };
    let decoded = match (
        row.get_ref(3)?.as_i64_or_null(),
        row.get_ref(4)?.as_i64_or_null(),
        row.get_ref(5)?.as_blob(),
    ) {
        (Ok(due), Ok(order_key), Ok(value)) => PendingRow::decode(key, due, order_key, value),
        _ => Err(Damage("its columns have changed their types")),
    };
    Ok((key, decoded))
}
