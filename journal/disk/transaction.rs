//! One transaction: what a group of jobs does to the database, and what that will change in memory
//! once it is committed.
//!
//! A job either refuses before it has written anything, or succeeds, or fails with the database:
//! then the whole transaction is rolled back. Counters and the ledger are changed in copies here
//! and written once at the end.

mod append;
mod empty;
mod history;
mod keys;
mod operate;
mod pending;
mod quarantine;
mod replay;
mod retain;
mod settle;
mod steer;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::Timestamp;
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, params};

pub(super) use self::append::size_bytes;
pub(super) use self::history::ROW_BYTES;
pub(super) use self::operate::{Page, ROWS_PER_PAGE};
use self::pending::EndedIn;
pub(super) use self::retain::Looked;
pub(super) use self::steer::Steer;
use super::committed::CommittedState;
use super::queues::{Effect, Queues};
use super::record::{DeadRow, ManyNotes, Subscribed};
use super::replication::{CarriedTo, Commit, Touched};
use super::row::{PendingRow, RowKey};
use super::schema::{self, Ledger, Walk};
use crate::quota::Arrived;
use crate::{
    BacklogQuota, Counts, DeadReason, JournalError, LeaseToken, NewDelivery, NumberMap, Priority,
    Replay, ReplayId, ShardNumber, TaskState,
};

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

/// What a committed transaction changes in memory.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) ledger: Ledger,
    pub(super) walk: Walk,
    pub(super) subscriptions: NumberMap<u32, Subscribed>,
    /// Replays that have changed, by number; none of one that is forgotten.
    pub(super) replays: BTreeMap<u64, Option<Replay>>,
    pub(super) effects: Vec<Effect>,
    /// Quotas in the place of those before.
    pub(super) quotas: Option<Vec<BacklogQuota>>,
    /// Events that got a new reference, other than by their own append.
    pub(super) pinned: HashSet<u64>,
    /// Events of which a reference has ended, of those that retention has looked at or looks at.
    pub(super) freed: BTreeSet<u64>,
}

/// Why a delivery is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A rule has taken the event as it was appended. Where the subscription's replay has not come
    /// so far, the replay makes it.
    Match,
    /// Somebody has it run, with the mark of a replay or without.
    Run(Option<ReplayId>),
}

pub(super) struct Transaction<'c> {
    connection: &'c Connection,
    committed: &'c CommittedState,
    queues: &'c Mutex<Queues>,
    now: Timestamp,
    /// Bytes that may still be appended.
    room: u64,
    /// How many keys are remembered at most.
    keys_max: u64,
    /// How long an event is kept that says nothing else.
    retention: Duration,
    /// The last event that retention looks at just now.
    looked_at: u64,
    changes: Changes,
    /// Deliveries to be written as blocks, by subscription.
    fresh: BTreeMap<u32, Vec<u64>>,
    /// What the history is to say of deliveries that end, by subscription and state.
    ends: BTreeMap<(u32, TaskState), ManyNotes>,
    /// Whether there is room for the history at all.
    keeps_history: bool,
    /// Which of several journals this is.
    shard: Option<ShardNumber>,
    /// Blocks of which deliveries have ended, by the block's key.
    ended: BTreeMap<(u32, u64), EndedIn>,
    /// Tokens claimed in memory, to be given back where this is not committed.
    claimed: Vec<LeaseToken>,
    /// Subscriptions of which something was taken out of the window.
    withheld: BTreeSet<u32>,
    pinned: HashSet<u64>,
    /// What this transaction has wait, by quota. What ends in it makes room only once that is
    /// committed.
    arrived: Arrived,
    /// The statement that writes an event, once it has been asked for.
    insert_event: Option<CachedStatement<'c>>,
    /// The rows that it writes or deletes, where a log is to have them.
    touched: Option<Touched>,
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
            keys_max: u64::MAX,
            retention: Duration::MAX,
            looked_at: 0,
            changes: Changes {
                ledger: committed.ledger,
                walk: committed.walk,
                ..Changes::default()
            },
            fresh: BTreeMap::new(),
            ends: BTreeMap::new(),
            keeps_history: true,
            shard: None,
            ended: BTreeMap::new(),
            claimed: Vec::new(),
            withheld: BTreeSet::new(),
            pinned: HashSet::new(),
            arrived: Arrived::default(),
            insert_event: None,
            touched: None,
        }
    }

    /// Notes the rows that it writes or deletes: a log is to have them.
    pub(super) fn note_rows(&mut self) {
        self.touched = Some(Touched::default());
    }

    /// What it has changed so far, for the log.
    pub(super) fn commit(&self) -> Result<Option<Commit>, rusqlite::Error> {
        let touched = self.touched.as_ref();
        touched
            .map(|touched| touched.commit(self.connection))
            .transpose()
    }

    /// Has rows go to the log as they are; see [`Touched::carry`].
    pub(super) fn carry(
        &mut self,
        after: Option<CarriedTo>,
        bytes: usize,
    ) -> Result<Option<CarriedTo>, Failure> {
        self.flush()?;
        let Some(touched) = &mut self.touched else {
            return Ok(None);
        };
        Ok(touched.carry(self.connection, after, bytes)?)
    }

    /// Notes a row that is written or deleted.
    fn touch<const KEY: usize>(&self, table: &str, key: [i64; KEY]) {
        if let Some(touched) = &self.touched {
            touched.note(table, &key.map(Value::from).into());
        }
    }

    /// Notes a row whose key is of texts.
    fn touch_named(&self, table: &str, key: &[&str]) {
        if let Some(touched) = &self.touched {
            let key: Vec<_> = key
                .iter()
                .map(|text| Value::from((*text).to_owned()))
                .collect();
            touched.note(table, &key);
        }
    }

    /// Writes nothing into the history: there is no room for what can be done without.
    pub(super) fn leave_history(&mut self) {
        self.keeps_history = false;
    }

    /// Says which of several journals this is.
    pub(super) fn is_of(&mut self, shard: Option<ShardNumber>) {
        self.shard = shard;
    }

    /// Bounds how many keys are remembered.
    pub(super) fn limit_keys(&mut self, keys_max: u64) {
        self.keys_max = keys_max;
    }

    /// Says how long events are kept, and up to which retention looks at them just now.
    pub(super) fn retain(&mut self, retention: Duration, looked_at: u64) {
        (self.retention, self.looked_at) = (retention, looked_at);
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
        self.flush_history()?;
        let mut update = self
            .connection
            .prepare_cached("REPLACE INTO subscriptions VALUES (?1, ?2)")?;
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM subscriptions WHERE number = ?1")?;
        for (number, subscribed) in &self.changes.subscriptions {
            if let Some(touched) = &self.touched {
                touched.note("subscriptions", &vec![Value::from(*number)]);
            }
            if subscribed.is_nothing_left() {
                delete.execute([number])?;
                self.changes.ledger.dropped += &subscribed.counts;
                self.changes.effects.push(Effect::Forget(*number));
            } else {
                update.execute(params![number, subscribed.encode(*number)])?;
            }
        }
        self.write_replays()?;
        self.write_retention()?;
        if self.committed.is_epoch_new {
            schema::write_format(self.connection)?;
            schema::write_epochs(self.connection, &self.committed.epochs)?;
            self.touch_named("meta", &["journal"]);
            self.touch_named("meta", &["format"]);
            self.touch_named("meta", &["epochs"]);
            self.touch_named("meta", &["walk"]);
        }
        self.touch_named("meta", &["ledger"]);
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
        let placeholder = Subscribed::placeholder(number);
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
    /// so. Returns its key, and whether it is dead.
    fn deliver(
        &mut self,
        sequence: u64,
        run: u64,
        new: NewDelivery,
        origin: &pointsman_schemas::Name,
        cause: Cause,
    ) -> Result<Option<(RowKey, bool)>, Failure> {
        let (now, number) = (self.now, new.subscription.0);
        self.changes.ledger.last_run = self.changes.ledger.last_run.max(run);
        let number = self.resolve(number);
        let quotas = &self.committed.quotas;
        let is_over = quotas.is_dead(number, &self.arrived);
        let Some(subscribed) = self.subscription_mut(number) else {
            return Ok(None);
        };
        let replay = match cause {
            Cause::Match if subscribed.is_catching_up() => return Ok(None),
            Cause::Match => None,
            Cause::Run(replay) => replay,
        };
        subscribed.counts.created += 1;
        let key = RowKey {
            subscription: number,
            sequence,
            run,
        };
        let is_dead = subscribed
            .backlog
            .is_some_and(|backlog| backlog.dead_when_full && subscribed.waits() >= backlog.max);
        if is_dead || is_over {
            let (tenant, origin, reason) = (
                subscribed.identity.tenant.clone(),
                origin.clone(),
                DeadReason::Backlog,
            );
            let (order_key, last, reject) = (new.order_key, None, None);
            self.note_dead(key, reason)?;
            self.dead_letter(
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
                    replay,
                    edited: None,
                },
            )?;
            return Ok(Some((key, true)));
        }
        subscribed.counts.pending += 1;
        quotas.arrived(number, &mut self.arrived);
        let is_plain = new.order_key.is_none() && new.due.is_none() && replay.is_none();
        if run == 0 && is_plain && new.priority == Priority::USUAL {
            self.fresh.entry(number).or_default().push(sequence);
            return Ok(Some((key, false)));
        }
        let since = new.due.unwrap_or(now);
        let row = PendingRow {
            due: new.due_from(now),
            since,
            immediate: new.due.is_none(),
            order_key: new.order_key,
            replay,
            ..PendingRow::immediate(key, now)
        };
        self.insert(row)?;
        Ok(Some((key, false)))
    }

    fn touch_dead(&self, key: RowKey) {
        let (sequence, run) = (key.sequence.cast_signed(), key.run.cast_signed());
        self.touch("dead", [sequence, key.subscription.into(), run]);
    }

    fn dead_letter(&mut self, key: RowKey, dead: &DeadRow) -> Result<(), Failure> {
        self.changes.freed.remove(&key.sequence);
        self.touch_dead(key);
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
