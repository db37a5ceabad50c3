//! A row of the table `pending`: one delivery, or a block of fresh ones.
//!
//! Deliveries that one transaction makes for one subscription, unordered and due at once, lie
//! together in one row, since most of them are also settled together: appending and settling ten
//! deliveries of an event then costs little more than one. The row's sequence is the first of the
//! block, also after that one has ended. A delivery that leaves a block pending (to be tried again)
//! gets a row of its own.

use std::num::NonZeroU32;

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use smallvec::SmallVec;

use super::record::{Damage, Decoder, Encoder, Table, decode_last, encode_last};
use crate::queue::{DeliveryKey, ReadyKey};
use crate::{Due, LastOutcome, ReplayId};

/// Deliveries in a block at most: a damaged row loses no more than these, and rewriting one costs
/// no more than this.
pub(super) const BLOCK_DELIVERIES_MAX: usize = 128;

/// The run in the key of a block, so that a delivery of it that gets a row of its own does not meet
/// it. Its deliveries are first runs.
pub(super) const BLOCK_RUN: u64 = u64::MAX;

const IMMEDIATE: u8 = 1;
const PARKED: u8 = 2;
const BLOCK: u8 = 4;
const SUSPENDED: u8 = 8;
const HALVED: u8 = 16;
/// It was made by a replay, whose number stands at the end.
const REPLAYED: u8 = 32;

/// The key of a row within the whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowKey {
    pub(super) subscription: u32,
    /// Of a block: its first sequence when it was made.
    pub(super) sequence: u64,
    /// Of a block: [`BLOCK_RUN`].
    pub(super) run: u64,
}

impl RowKey {
    /// The column `run`: that of a block is -1, so that it comes before a delivery that left it.
    pub(super) fn run_column(self) -> i64 {
        self.run.cast_signed()
    }
}

impl From<DeliveryKey> for RowKey {
    fn from(key: DeliveryKey) -> Self {
        Self {
            subscription: key.subscription.0,
            sequence: key.sequence,
            run: key.run,
        }
    }
}

impl From<RowKey> for DeliveryKey {
    fn from(key: RowKey) -> Self {
        Self {
            subscription: SubscriptionNumber(key.subscription),
            sequence: key.sequence,
            run: key.run,
        }
    }
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PendingRow {
    pub(super) key: RowKey,
    pub(super) due: Due,
    pub(super) since: Timestamp,
    /// Made to be due at once: so it is, whatever the clock says later.
    pub(super) immediate: bool,
    /// Waits for an earlier one of its order key, and not for its time.
    pub(super) parked: bool,
    /// Held back by somebody, and not for its time either.
    pub(super) suspended: bool,
    pub(super) order_key: Option<u64>,
    pub(super) attempts: u32,
    pub(super) failures: u32,
    /// How many deliveries a call may carry that carries this one, once such a call has failed.
    pub(super) batch_max: Option<NonZeroU32>,
    pub(super) last: Option<LastOutcome>,
    /// The replay that made it; none of a block.
    pub(super) replay: Option<ReplayId>,
    /// The sequences of what is left of a block, increasing; of a single delivery its own.
    pub(super) sequences: SmallVec<[u64; 1]>,
}

impl PendingRow {
    /// A delivery that is due at once.
    pub(super) fn immediate(key: RowKey, now: Timestamp) -> Self {
        let sequences = SmallVec::from_buf([key.sequence]);
        let (order_key, last) = (None, None);
        Self {
            key,
            due: now.into(),
            since: now,
            immediate: true,
            parked: false,
            suspended: false,
            order_key,
            attempts: 0,
            failures: 0,
            batch_max: None,
            last,
            replay: None,
            sequences,
        }
    }

    /// A block of deliveries, at least one, in the order of their sequences.
    pub(super) fn block(subscription: u32, sequences: &[u64], now: Timestamp) -> Self {
        let key = RowKey {
            subscription,
            sequence: sequences.first().copied().unwrap_or_default(),
            run: BLOCK_RUN,
        };
        Self {
            sequences: SmallVec::from_slice(sequences),
            ..Self::immediate(key, now)
        }
    }

    /// Its key in the ready queue, which orders as the index by due time does.
    pub(super) fn ready_key(&self) -> ReadyKey {
        ReadyKey {
            due: self.due,
            sequence: self.key.sequence,
            run: self.key.run_column(),
        }
    }

    pub(super) fn is_block(&self) -> bool {
        self.key.run == BLOCK_RUN
    }

    /// Whether it waits for its time and nothing else, so that it is in the queue.
    pub(super) fn is_queued(&self) -> bool {
        !self.parked && !self.suspended
    }

    /// The column `due`: rows that are not queued have none, so that the index by due time does not
    /// know them.
    pub(super) fn due_column(&self) -> Option<i64> {
        self.is_queued().then_some(self.due.column())
    }

    /// The column `order_key`.
    pub(super) fn order_column(&self) -> Option<i64> {
        self.order_key.map(u64::cast_signed)
    }

    fn check_key(&self) -> [u64; 5] {
        check_key(self.key, self.due_column(), self.order_column())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(
            24 + if self.is_block() {
                self.sequences.len() + 8
            } else {
                0
            },
        );
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.byte(
            flag(self.immediate, IMMEDIATE)
                | flag(self.parked, PARKED)
                | flag(self.suspended, SUSPENDED)
                | flag(self.replay.is_some() && !self.is_block(), REPLAYED)
                | flag(self.batch_max.is_some(), HALVED)
                | flag(self.is_block(), BLOCK),
        );
        out.time(self.since);
        if self.is_block() {
            out.number(self.sequences.len() as u64);
            let mut previous = self.key.sequence;
            for sequence in &self.sequences {
                out.number(sequence - previous);
                previous = *sequence;
            }
        } else {
            if !self.is_queued() {
                out.time(Timestamp(self.due.column()));
            }
            out.number(u64::from(self.attempts))
                .number(u64::from(self.failures));
            encode_last(&mut out, self.last.as_ref());
            if let Some(max) = self.batch_max {
                out.number(u64::from(max.get()));
            }
            if let Some(replay) = self.replay {
                out.number(replay.number());
            }
        }
        out.seal(Table::Pending, &self.check_key())
    }

    pub(super) fn decode(
        key: RowKey,
        due: Option<i64>,
        order_key: Option<i64>,
        value: &[u8],
    ) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Pending, &check_key(key, due, order_key), value)?;
        let flags = from.byte()?;
        let since = from.time()?;
        let (immediate, parked, is_block) = (
            flags & IMMEDIATE != 0,
            flags & PARKED != 0,
            flags & BLOCK != 0,
        );
        let suspended = flags & SUSPENDED != 0;
        if is_block != (key.run == BLOCK_RUN) || (parked || suspended) != due.is_none() {
            return Err(Damage("it does not fit its key"));
        }
        let due = due.map(due_of).transpose()?;
        let order_key = order_key.map(i64::cast_unsigned);
        let mut row = Self {
            key,
            due: due.unwrap_or_else(|| since.into()),
            since,
            immediate,
            parked,
            suspended,
            order_key,
            attempts: 0,
            failures: 0,
            batch_max: None,
            last: None,
            replay: None,
            sequences: SmallVec::new(),
        };
        if is_block {
            let mut previous = key.sequence;
            for _ in 0..from.number()? {
                previous = previous
                    .checked_add(from.number()?)
                    .ok_or(Damage("a number in it is too large"))?;
                row.sequences.push(previous);
            }
        } else {
            if parked || suspended {
                row.due = due_of(from.time()?.0)?;
            }
            (row.attempts, row.failures) = (from.narrow()?, from.narrow()?);
            row.last = decode_last(&mut from)?;
            if flags & HALVED != 0 {
                let max = NonZeroU32::new(from.narrow()?);
                row.batch_max = Some(max.ok_or(Damage("a number in it is zero"))?);
            }
            if flags & REPLAYED != 0 {
                row.replay = ReplayId::of(from.number()?);
            }
            row.sequences.push(key.sequence);
        }
        if from.is_empty() {
            Ok(row)
        } else {
            Err(Damage("it goes on after its end"))
        }
    }
}

fn due_of(column: i64) -> Result<Due, Damage> {
    Due::from_column(column).ok_or(Damage("its due time is none"))
}

fn check_key(key: RowKey, due: Option<i64>, order_key: Option<i64>) -> [u64; 5] {
    // Runs were numbers of 32 bits once, and lie above the bits that say which columns are there.
    let run = if key.run == BLOCK_RUN {
        u64::from(u32::MAX)
    } else {
        key.run
    };
    // One number for both options: a column that was there and is gone must not pass either.
    let present =
        (u64::from(due.is_some()) | u64::from(order_key.is_some()) << 1) ^ run.rotate_left(32);
    let column = |column: Option<i64>| column.map_or(0, i64::cast_unsigned);
    [
        u64::from(key.subscription),
        key.sequence,
        present,
        column(due),
        column(order_key),
    ]
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
