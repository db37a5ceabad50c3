//! The thread that tidies up: checkpoints, retention, and giving space back. Everything it deletes
//! goes through the writer in small steps.

mod events;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::Shared;
use super::ballast::Share;
use super::full::Cut;
use super::schema::{self, PAGE_BYTES, Purpose};

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

/// Pages given back in one step: some 2 ms of the writer's time. Fewer where the ballast is small,
/// as each takes some pages of the log.
const PAGES_PER_STEP: u32 = 64;
const LOG_PAGES_PER_PAGE: u64 = 3;

/// Free pages that are kept for what comes next, beside an eighth of those in use.
const PAGES_SPARE: u64 = 256;

/// How often deduplication's memory is looked through.
const IDENTITIES_EVERY: Duration = Duration::from_secs(300);

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
    waiting: Vec<tokio::sync::oneshot::Sender<()>>,
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

    /// Asks for a whole round; it is answered when that has ended, and dropped where there will be
    /// none.
    pub(super) fn round(&self) -> tokio::sync::oneshot::Receiver<()> {
        let (reply, ended) = tokio::sync::oneshot::channel();
        let mut requests = self.state.lock();
        if !requests.is_closed {
            requests.rounds.push(reply);
        }
        self.changed.notify_one();
        ended
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
            waiting: std::mem::take(&mut requests.rounds),
        })
    }
}

pub(super) struct Upkeep {
    shared: Arc<Shared>,
    connection: Option<(u64, Connection)>,
    /// Where what is deleted for want of room goes on.
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
            let is_whole = !round.waiting.is_empty();
            if let Err(error) = self.round(is_whole, round.needs_room) {
                tracing::warn!(%error, "tidying up the store");
                self.connection = None;
                shared.suspect(error);
            }
            for waiting in round.waiting {
                let _ = waiting.send(());
            }
        }
    }

    pub(super) fn round(&mut self, is_whole: bool, needs_room: bool) -> rusqlite::Result<()> {
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
        self.retain_history(&connection, needs_room)?;
        self.retain(&connection, is_whole || needs_room, needs_room)?;
        if is_whole
            || self
                .identities_at
                .is_none_or(|at| at.elapsed() >= IDENTITIES_EVERY)
        {
            self.identities_at = Some(std::time::Instant::now());
            self.forget_identities(&connection)?;
            if schema::has_keys_until(&connection, self.shared.clock.now())? {
                self.forget_keys();
            }
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
        let waiting = self.shared.log_waiting();
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
        if waiting > LOGS_WHILE_LOOKING * limit {
            self.shared.look.stop();
        }
        if cut == Cut::Never && (waiting < limit || !is_new) || self.shared.log_length() == 0 {
            return Ok(());
        }
        self.shared.room_to_grow(connection)?;
        let database = self.shared.database.open(&self.shared.directory);
        // Each pass moves what was written during the one before. SQLite syncs the database only
        // where it catches up with the writer, which would wait for all of it then.
        for _ in 0..PASSES_MAX {
            let began = std::time::Instant::now();
            self.but_full(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))?;
            if let Ok(Some(database)) = &database {
                // A failure is told to each who has opened the file: SQLite learns of it as well.
                let _ = database.sync_data();
            }
            if began.elapsed() < PASS_SHORT {
                break;
            }
        }
        self.shared.ballast.lock().forget_database();
        // The writer waits for this one, for which little is left to do: it never leaves the
        // database alone by itself. A reader in the middle of the log is not waited for; the next
        // look comes soon.
        let _exclusive = self.shared.exclusive.lock();
        self.but_full(self.shared.rewind_log(connection, READER_WAIT, cut))
    }

    /// Where the disk has no room for the log to be moved, what makes some is done all the same.
    fn but_full(&self, moved: rusqlite::Result<()>) -> rusqlite::Result<()> {
        match moved {
            Err(error) if self.shared.is_full(&error) => {
                tracing::debug!(
                    %error,
                    "moving the write-ahead log into the database on a full disk"
                );
                Ok(())
            }
            other => other,
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

#[cfg(test)]
mod tests;
