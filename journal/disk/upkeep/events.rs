//! Which events go: old ones that nothing refers to, those whose own time is over, and near the
//! store's size any, oldest first. What is looked at, and when, is said at
//! [`Walk`](crate::disk::schema::Walk).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_schemas::Timestamp;
use rusqlite::{Connection, params};

use super::{PAUSE, Upkeep};
use crate::disk::ballast::Share;
use crate::disk::reader::{first_since, replays};
use crate::disk::record::HELD;
use crate::disk::row::read_row;
use crate::disk::schema::{self, PAGE_BYTES, Walk};
use crate::disk::sweep::Sweep;
use crate::disk::transaction::{Failure, Looked, Transaction};

/// Events looked at, and deleted at most, in one step: some 3 ms of the writer's time. Fewer where
/// the ballast is small, as each may take a page of the log.
const EVENTS_PER_STEP: usize = 1_000;

/// Pages that one with a time of its own may take: the event's, its row's and that of the index.
const PAGES_OF_KEPT: usize = 3;

/// How often the second walk begins from the first event.
const WALK_AGAIN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Events that lie further apart than this are looked for by themselves: there may be a lot in
/// between that is no concern.
const GAP_MAX: u64 = 1_000;

/// How long a round may go on.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    is_whole: bool,
    began: Instant,
}

impl Pace {
    fn is_over(self) -> bool {
        !self.is_whole && self.began.elapsed() > PAUSE / 4
    }
}

impl Upkeep {
    /// Deletes the events whose time is over.
    pub(super) fn retain(
        &mut self,
        connection: &Connection,
        is_whole: bool,
        needs_room: bool,
    ) -> rusqlite::Result<()> {
        let pace = Pace {
            is_whole,
            began: Instant::now(),
        };
        self.end_kept(connection, pace)?;
        self.walk(connection, pace)?;
        self.walk_again(connection, pace)?;
        self.make_room(connection, needs_room, pace)
    }

    /// Whether the store is so near its size, or the disk so full, that what is not needed goes
    /// early.
    pub(super) fn is_tight(
        &self,
        connection: &Connection,
        needs_room: bool,
    ) -> rusqlite::Result<bool> {
        let shared = &self.shared;
        Ok(needs_room && shared.is_disk_full()
            || shared.room(connection)? * 2 < shared.options.max_size_bytes / 8)
    }

    /// Rows that one transaction may delete, each of which may take a page of the log.
    pub(super) fn rows_affordable(&self) -> usize {
        let pages = self.shared.ballast.lock().commit_bytes_max() / PAGE_BYTES;
        usize::try_from(pages).unwrap_or(usize::MAX)
    }

    fn events_per_step(&self) -> usize {
        EVENTS_PER_STEP.min(self.rows_affordable())
    }

    /// Has the writer do what a look at events has led to; false where there is to be no more.
    fn conclude(
        &self,
        pace: Pace,
        work: impl Fn(&mut Transaction<'_>, &Sweep) -> Result<(), Failure> + Send + 'static,
    ) -> bool {
        let shared = Arc::clone(&self.shared);
        let done = self
            .shared
            .ask_blocking(Share::Freeing, move |transaction| {
                work(transaction, &shared.swept())
            });
        *self.shared.sweep.lock() = None;
        done && !self.shared.upkeep.is_closed() && !pace.is_over()
    }

    /// Looks at the events that have a time of their own, once it is over.
    fn end_kept(&self, connection: &Connection, pace: Pace) -> rusqlite::Result<()> {
        loop {
            let now = self.shared.clock.now();
            let due = kept_until(
                connection,
                now,
                self.events_per_step().div_ceil(PAGES_OF_KEPT),
            )?;
            let Some(last) = due.last().copied() else {
                return Ok(());
            };
            self.shared.begin_sweep(last);
            let pinned = pinned(connection, &ranges(&due))?;
            let is_replayed = replayed(connection, false)?;
            let mut looked = Looked::default();
            for sequence in due {
                let found = if pinned.contains(&sequence) {
                    &mut looked.referenced
                } else if is_replayed(sequence) {
                    &mut looked.replayed
                } else {
                    &mut looked.free
                };
                found.push(sequence);
            }
            if !self.conclude(pace, move |transaction, sweep| {
                transaction.end_kept(&looked, sweep)
            }) {
                return Ok(());
            }
        }
    }

    /// Goes on over the events that are older than the journal's retention by now.
    fn walk(&self, connection: &Connection, pace: Pace) -> rusqlite::Result<()> {
        let before = self.shared.clock.now().minus(self.shared.options.retention);
        let old = first_since(connection, Timestamp(before.0.saturating_add(1)))?.saturating_sub(1);
        loop {
            let Walk { reached, .. } = schema::read_walk(connection)?.unwrap_or_default();
            // The retention was shorter when the walk came by.
            if !events_between(connection, old, reached, 1)?.is_empty() {
                self.conclude(pace, move |transaction, sweep| {
                    transaction.walk_to(old, &[], sweep)
                });
                return Ok(());
            }
            let Some((last, free)) = self.look(connection, reached, old, false)? else {
                return Ok(());
            };
            if !self.conclude(pace, move |transaction, sweep| {
                transaction.walk_to(last, &free, sweep)
            }) {
                return Ok(());
            }
        }
    }

    /// Goes on over what the walk has left, where there is reason to; in small steps, as nothing
    /// waits for it.
    fn walk_again(&self, connection: &Connection, pace: Pace) -> rusqlite::Result<()> {
        loop {
            let walk = schema::read_walk(connection)?.unwrap_or_default();
            let Some(again) = walk.again else {
                let is_due = self.shared.clock.now().since(walk.began) >= WALK_AGAIN_EVERY;
                if !is_due || walk.reached == 0 || !self.conclude(pace, begin_again) {
                    return Ok(());
                }
                continue;
            };
            let found = self.look(connection, again, walk.reached, false)?;
            let (last, free) = found.map_or((None, Vec::new()), |(last, free)| (Some(last), free));
            let goes_on = self.conclude(pace, move |transaction, sweep| {
                transaction.walk_again_to(last, &free, sweep)
            });
            if !goes_on || !pace.is_whole {
                return Ok(());
            }
        }
    }

    /// Deletes what nothing refers to, whatever its time, as long as room is wanted.
    fn make_room(
        &mut self,
        connection: &Connection,
        needs_room: bool,
        pace: Pace,
    ) -> rusqlite::Result<()> {
        if pace.is_whole {
            self.swept = 0;
        }
        // Looked at again after each step: what is deleted makes room.
        while self.is_tight(connection, needs_room)? {
            let Some((last, free)) = self.look(connection, self.swept, u64::MAX >> 1, true)? else {
                break;
            };
            self.swept = last;
            if !self.conclude(pace, move |transaction, sweep| {
                transaction.forget_events(&free, sweep)
            }) {
                return Ok(());
            }
        }
        self.swept = 0;
        Ok(())
    }

    /// Looks at the next events behind one and up to another, and begins a sweep that ends with
    /// them. Returns the last of them and those that nothing needs; where room is wanted their own
    /// times count for nothing.
    fn look(
        &self,
        connection: &Connection,
        after: u64,
        until: u64,
        needs_room: bool,
    ) -> rusqlite::Result<Option<(u64, Vec<u64>)>> {
        let events = events_between(connection, after, until, self.events_per_step())?;
        let Some(last) = events.last().copied() else {
            return Ok(None);
        };
        self.shared.begin_sweep(last);
        let kept = if needs_room {
            HashSet::new()
        } else {
            kept_between(connection, after, last)?
        };
        let pinned = pinned(connection, &[(after + 1, last)])?;
        let is_replayed = replayed(connection, needs_room)?;
        let is_free = |sequence: &u64| {
            !kept.contains(sequence) && !pinned.contains(sequence) && !is_replayed(*sequence)
        };
        Ok(Some((last, events.into_iter().filter(is_free).collect())))
    }
}

fn begin_again(transaction: &mut Transaction<'_>, _: &Sweep) -> Result<(), Failure> {
    transaction.walk_again();
    Ok(())
}

fn events_between(
    connection: &Connection,
    after: u64,
    until: u64,
    count: usize,
) -> rusqlite::Result<Vec<u64>> {
    let mut select = connection.prepare_cached(
        "SELECT sequence FROM events
         WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let (after, until) = (after.cast_signed(), until.cast_signed());
    let rows = select.query_map(params![after, until, schema::limit(count)], |row| {
        row.get::<_, i64>(0)
    })?;
    rows.map(|sequence| sequence.map(i64::cast_unsigned))
        .collect()
}

/// The events that have a time of their own which is over, some of them, in their order.
fn kept_until(connection: &Connection, now: Timestamp, count: usize) -> rusqlite::Result<Vec<u64>> {
    let mut select = connection.prepare_cached(
        "SELECT sequence FROM kept INDEXED BY kept_by_end
         WHERE until <= ?1 ORDER BY until, sequence LIMIT ?2",
    )?;
    let rows = select.query_map(params![now.0, schema::limit(count)], |row| {
        row.get::<_, i64>(0)
    })?;
    let due: rusqlite::Result<Vec<i64>> = rows.collect();
    let mut due: Vec<u64> = due?.into_iter().map(i64::cast_unsigned).collect();
    due.sort_unstable();
    Ok(due)
}

/// The events behind one and up to another that have a time of their own.
fn kept_between(connection: &Connection, after: u64, until: u64) -> rusqlite::Result<HashSet<u64>> {
    let mut select = connection.prepare_cached(
        "SELECT sequence FROM kept WHERE sequence > ?1 AND sequence <= ?2 AND until <> ?3",
    )?;
    let (after, until) = (after.cast_signed(), until.cast_signed());
    let rows = select.query_map(params![after, until, HELD.0], |row| row.get::<_, i64>(0))?;
    rows.map(|sequence| sequence.map(i64::cast_unsigned))
        .collect()
}

/// Sequences in their order as ranges, from and to, without the larger gaps.
fn ranges(sequences: &[u64]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &sequence in sequences {
        match ranges.last_mut() {
            Some((_, to)) if sequence - *to <= GAP_MAX => *to = sequence,
            _ => ranges.push((sequence, sequence)),
        }
    }
    ranges
}

/// Tells of an event whether a replay still looks at it.
fn replayed(
    connection: &Connection,
    needs_room: bool,
) -> rusqlite::Result<impl Fn(u64) -> bool + use<>> {
    let all = replays(connection)?.into_iter();
    let sound = all.filter_map(|(_, replay)| replay.ok());
    let pins: Vec<_> = sound
        .filter_map(|replay| replay.pinned(needs_room))
        .collect();
    Ok(move |sequence| {
        pins.iter()
            .any(|(behind, until)| behind.0 < sequence && sequence <= until.0)
    })
}

/// Which events of some ranges a delivery or a dead letter refers to.
fn pinned(connection: &Connection, ranges: &[(u64, u64)]) -> rusqlite::Result<HashSet<u64>> {
    // One snapshot: a delivery that dies or is sent on while this looks would else be seen in
    // neither place.
    let snapshot = connection.unchecked_transaction()?;
    let mut numbers = snapshot.prepare_cached("SELECT number FROM subscriptions")?;
    let numbers: Vec<u32> = numbers
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut pinned = HashSet::new();
    for range in ranges {
        pinned_in(&snapshot, *range, &numbers, &mut pinned)?;
    }
    Ok(pinned)
}

fn pinned_in(
    snapshot: &Connection,
    (from, to): (u64, u64),
    subscriptions: &[u32],
    pinned: &mut HashSet<u64>,
) -> rusqlite::Result<()> {
    let mut dead =
        snapshot.prepare_cached("SELECT sequence FROM dead WHERE sequence BETWEEN ?1 AND ?2")?;
    for sequence in dead.query_map([from.cast_signed(), to.cast_signed()], |row| {
        row.get::<_, i64>(0)
    })? {
        pinned.insert(sequence?.cast_unsigned());
    }
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
    for number in subscriptions {
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
    Ok(())
}
