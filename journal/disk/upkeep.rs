//! The thread that tidies up: checkpoints, retention, and giving space back. Everything it deletes
//! goes through the writer in small steps.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pointsman_schemas::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::Shared;
use super::ballast::Share;
use super::full::Cut;
use super::record::Seen;
use super::schema::{self, PAGE_BYTES, Purpose};
use super::transaction::read_row;

/// How often it looks by itself.
const PAUSE: Duration = Duration::from_secs(1);

/// The write-ahead log is moved into the database past this size, or sooner in a small store or on
/// a small disk: large enough that pages written often are moved once.
pub(super) const LOG_BYTES: u64 = 32 * 1024 * 1024;

/// So many times that, and a look through the store is ended: the log is not written from its
/// beginning again while that goes on.
const LOGS_WHILE_LOOKING: u64 = 8;

/// Passes over the log before the writer is made to wait, at most; under a load that outruns them
/// they would never end.
const PASSES_MAX: u32 = 4;

/// After a pass as short as this so little is left that the writer may wait for it.
const PASS_SHORT: Duration = Duration::from_millis(20);

/// How long the writer is kept waiting for readers that are in the middle of the log.
const READER_WAIT: Duration = Duration::from_millis(20);

/// Looks without a commit between them, after which the log's file is cut: about a minute.
const ROUNDS_IDLE: u32 = 60;

/// Events looked at, and deleted at most, in one step: some 3 ms of the writer's time. Fewer where
/// the ballast is small, as each may take a page of the log.
const EVENTS_PER_STEP: usize = 1_000;

/// Pages given back in one step: some 2 ms of the writer's time. Fewer where the ballast is small,
/// as each takes some pages of the log.
const PAGES_PER_STEP: u32 = 64;
const LOG_PAGES_PER_PAGE: u64 = 3;

/// Free pages that are kept for what comes next, beside an eighth of those in use.
const PAGES_SPARE: u64 = 256;

/// How often deduplication's memory is looked through.
const IDENTITIES_EVERY: Duration = Duration::from_secs(300);

const IDENTITIES_PER_STEP: usize = 2_000;

/// Where the upkeep finds out that there is work.
#[derive(Default)]
pub(super) struct UpkeepHandle {
    state: Mutex<UpkeepRequests>,
    changed: Condvar,
}

#[derive(Default)]
struct UpkeepRequests {
    needs_room: bool,
    writes: u64,
    is_closed: bool,
    /// Who waits for a whole round.
    rounds: Vec<tokio::sync::oneshot::Sender<()>>,
}

/// Why a round begins.
struct Round {
    needs_room: bool,
    told: Vec<tokio::sync::oneshot::Sender<()>>,
}

impl UpkeepHandle {
    /// Something was committed.
    pub(super) fn written(&self) {
        self.state.lock().writes += 1;
    }

    fn writes(&self) -> u64 {
        self.state.lock().writes
    }

    /// An append was refused.
    pub(super) fn make_room(&self) {
        self.state.lock().needs_room = true;
        self.changed.notify_one();
    }

    /// Asks for a whole round; told when it has ended, dropped where there will be none.
    pub(super) fn round(&self) -> tokio::sync::oneshot::Receiver<()> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut requests = self.state.lock();
        if !requests.is_closed {
            requests.rounds.push(tell);
        }
        self.changed.notify_one();
        told
    }

    pub(super) fn close(&self) {
        let mut requests = self.state.lock();
        requests.is_closed = true;
        requests.rounds.clear();
        self.changed.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    fn wait(&self) -> Option<Round> {
        let mut requests = self.state.lock();
        if requests.rounds.is_empty() && !requests.needs_room && !requests.is_closed {
            self.changed.wait_for(&mut requests, PAUSE);
        }
        (!requests.is_closed).then(|| Round {
            needs_room: std::mem::take(&mut requests.needs_room),
            told: std::mem::take(&mut requests.rounds),
        })
    }
}

pub(super) struct Upkeep {
    shared: Arc<Shared>,
    connection: Option<(u64, Connection)>,
    /// Where retention goes on looking.
    swept: u64,
    identities_at: Option<std::time::Instant>,
    /// The commits that there had been at the last look, and for how many looks there have been no
    /// more.
    writes: u64,
    rounds_idle: u32,
}

impl Upkeep {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            connection: None,
            swept: 0,
            identities_at: None,
            writes: 0,
            rounds_idle: 0,
        }
    }

    pub(super) fn work(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(round) = shared.upkeep.wait() {
            let is_whole = !round.told.is_empty();
            if let Err(error) = self.round(is_whole, round.needs_room) {
                tracing::warn!(%error, "tidying up the store");
                self.connection = None;
                shared.suspect(error);
            }
            for told in round.told {
                let _ = told.send(());
            }
        }
    }

    fn round(&mut self, is_whole: bool, needs_room: bool) -> rusqlite::Result<()> {
        if self.shared.trouble.lock().is_some() {
            return Ok(());
        }
        // On a full disk everything that can be given back is.
        let needs_room = needs_room || !self.shared.ballast.lock().refill();
        let epoch = self.shared.epoch();
        let connection = match self.connection.take() {
            Some((epoch, connection)) if epoch == self.shared.epoch() => connection,
            _ => schema::connect(&self.shared.directory, Purpose::Look)?,
        };
        self.checkpoint(
            &connection,
            if is_whole || needs_room {
                Cut::WherePlenty
            } else {
                Cut::Never
            },
        )?;
        self.retain(&connection, is_whole || needs_room, needs_room)?;
        if is_whole
            || self
                .identities_at
                .is_none_or(|at| at.elapsed() >= IDENTITIES_EVERY)
        {
            self.identities_at = Some(std::time::Instant::now());
            self.forget_identities(&connection)?;
        }
        self.give_back(&connection, needs_room && self.shared.is_disk_full())?;
        if is_whole || needs_room {
            self.checkpoint(&connection, Cut::ForBallast)?;
        }
        self.connection = Some((epoch, connection));
        Ok(())
    }

    /// Moves the write-ahead log into the database, and has it written from its beginning again.
    /// Its file is cut only where room is wanted or nothing was written for a while: a sync of a
    /// file that grows costs several times one that does not.
    fn checkpoint(&mut self, connection: &Connection, cut: Cut) -> rusqlite::Result<()> {
        let limit = self.shared.log_bytes_max();
        let size = self.shared.log_length();
        let writes = self.shared.upkeep.writes();
        self.rounds_idle = if writes == self.writes {
            self.rounds_idle + 1
        } else {
            0
        };
        let is_new = std::mem::replace(&mut self.writes, writes) != writes;
        let cut = if self.rounds_idle == ROUNDS_IDLE {
            cut.max(Cut::WherePlenty)
        } else {
            cut
        };
        if size > LOGS_WHILE_LOOKING * limit {
            self.shared.look.stop();
        }
        if size == 0 || cut == Cut::Never && (size < limit || !is_new) {
            return Ok(());
        }
        self.shared.room_to_grow(connection)?;
        // Each pass moves what was written during the one before.
        for _ in 0..PASSES_MAX {
            let began = std::time::Instant::now();
            self.but_full(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))?;
            if began.elapsed() < PASS_SHORT {
                break;
            }
        }
        self.shared.ballast.lock().forget_database();
        // The writer waits for this one, for which little is left to do: it never leaves the
        // database alone by itself. A reader in the middle of the log is not waited for; the next
        // look comes soon.
        let _turn = self.shared.turn.lock();
        self.but_full(self.shared.rewind_log(connection, READER_WAIT, cut))
    }

    /// Where the disk has no room for the log to be moved, what makes some is done all the same.
    fn but_full(&self, moved: rusqlite::Result<()>) -> rusqlite::Result<()> {
        match moved {
            Err(error) if self.shared.is_full(&error) => {
                tracing::debug!(%error, "moving the write-ahead log into the database on a full disk");
                Ok(())
            }
            other => other,
        }
    }

    /// Deletes events that nothing refers to: old ones, and near the store's size any, oldest
    /// first.
    fn retain(
        &mut self,
        connection: &Connection,
        is_whole: bool,
        needs_room: bool,
    ) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        let before = shared.clock.now().minus(shared.options.retention);
        let Some(old) = last_stored_before(connection, before)? else {
            return Ok(());
        };
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
            let free: Vec<u64> = candidates
                .into_iter()
                .filter(|sequence| !pinned.contains(sequence))
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

    /// Forgets identities whose window has passed.
    fn forget_identities(&self, connection: &Connection) -> rusqlite::Result<()> {
        let now = self.shared.clock.now();
        let (mut high, mut low) = (i64::MIN, i64::MIN);
        loop {
            let mut select = connection
                .prepare_cached("SELECT high, low, value FROM identities WHERE (high, low) >= (?1, ?2) ORDER BY high, low LIMIT ?3")?;
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

    /// Gives free pages back to the file system.
    fn give_back(&self, connection: &Connection, is_all: bool) -> rusqlite::Result<()> {
        let affordable =
            self.shared.ballast.lock().commit_bytes_max() / PAGE_BYTES / LOG_PAGES_PER_PAGE;
        let step = PAGES_PER_STEP.min(u32::try_from(affordable).unwrap_or(u32::MAX));
        loop {
            let (pages, free) = schema::pages(connection)?;
            let spare = PAGES_SPARE.min(self.shared.options.max_size_bytes / PAGE_BYTES / 16)
                + (pages - free) / 8;
            let spare = if is_all { 0 } else { spare };
            if free <= spare || self.shared.upkeep.is_closed() {
                return Ok(());
            }
            if !self
                .shared
                .ask_blocking(Share::Freeing, move |transaction| transaction.vacuum(step))
            {
                return Ok(());
            }
        }
    }
}

/// The last event that was stored before a time, found by halving: times grow with sequences. Asked
/// for together, `min` and `max` would make SQLite scan the table.
fn last_stored_before(connection: &Connection, before: Timestamp) -> rusqlite::Result<Option<u64>> {
    let ends = connection
        .prepare_cached(
            "SELECT (SELECT min(sequence) FROM events), (SELECT max(sequence) FROM events)",
        )?
        .query_row([], |row| {
            Ok((
                row.get::<_, Option<i64>>(0)?.map(i64::cast_unsigned),
                row.get::<_, Option<i64>>(1)?.map(i64::cast_unsigned),
            ))
        })?;
    let (Some(mut low), Some(last)) = ends else {
        return Ok(None);
    };
    let mut high = last.saturating_add(1);
    let mut select = connection.prepare_cached(
        "SELECT sequence, record FROM events WHERE sequence >= ?1 ORDER BY sequence LIMIT 1",
    )?;
    while low < high {
        let middle = low + (high - low) / 2;
        let found = select
            .query_row([middle.cast_signed()], |row| {
                let sequence = row.get::<_, i64>(0)?.cast_unsigned();
                let record =
                    bytes::Bytes::copy_from_slice(row.get_ref(1)?.as_blob().unwrap_or_default());
                Ok((
                    sequence,
                    super::record::EventRow::decode(sequence, &record).ok(),
                ))
            })
            .optional()?;
        match found {
            // A damaged one tells no time: its neighbour will.
            Some((sequence, Some(kept))) if kept.at <= before => low = sequence + 1,
            Some((sequence, None)) if sequence + 1 < high => low = sequence + 1,
            _ => high = middle,
        }
    }
    Ok(Some(low - 1))
}

fn events_after(
    connection: &Connection,
    after: u64,
    until: u64,
    count: usize,
) -> rusqlite::Result<Vec<u64>> {
    let mut select =
        connection.prepare_cached("SELECT sequence FROM events WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3")?;
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
    let mut alone =
        snapshot.prepare_cached("SELECT sequence FROM pending WHERE subscription = ?1 AND sequence BETWEEN ?2 AND ?3 AND run >= 0")?;
    let mut blocks = snapshot.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending INDEXED BY blocks
         WHERE subscription = ?1 AND run < 0 AND sequence <= ?3 AND sequence >= coalesce(
             (SELECT max(sequence) FROM pending INDEXED BY blocks WHERE subscription = ?1 AND run < 0 AND sequence <= ?2), 0)",
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
