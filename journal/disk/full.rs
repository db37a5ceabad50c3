//! Writing on a disk that is full.
//!
//! The write-ahead log can be written from its beginning again, which takes no room, once all of it
//! is in the database, which may have to grow for that. So no transaction is committed for which
//! the database could not grow any more: the ballast covers that, or the room is taken at once. On
//! a full disk the log keeps its length, as what it gave back would be gone.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ffi};

use super::Shared;
use super::ballast::Share;
use super::schema::{self, PAGE_BYTES};
use super::writer::{Failed, Job, Writer, answer};
use crate::JournalError;

/// How long readers in the middle of the log are waited for when it is to be written from its
/// beginning again.
const READER_WAIT: Duration = Duration::from_millis(50);

/// How long a disk that was full is taken to be still, where nobody tries: readiness comes back by
/// itself, so that somebody does.
const DISK_FULL_FOR: Duration = Duration::from_secs(10);

/// How often one job gets more room for the log.
const LOG_PARTS_MAX: u64 = 8;

/// Whether the log's file is cut once all of it is in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    Never,
    /// Where room is not scarce.
    WherePlenty,
    /// Also where it makes the ballast whole: nothing is left to be done that needs the log.
    ForBallast,
}

impl Writer {
    /// Without its whole ballast the disk has room for what is there already: what is new is
    /// refused.
    pub(super) fn refuse_new(&self, group: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        if self.shared.ballast.lock().restore() {
            return group;
        }
        let (refused, others): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|job| job.share() == Share::New);
        if !refused.is_empty() {
            self.shared.note_full_disk();
            answer(refused, &Err(JournalError::DiskFull));
        }
        others
    }

    /// Does what the disk had no room for: together once the log may be written from its beginning
    /// again, else one job after another, so that what fits is done.
    pub(super) fn serve_on_full_disk(&mut self, mut group: Vec<Box<dyn Job>>) {
        self.shared.upkeep.make_room();
        self.shared.look.stop();
        self.rewind_log();
        if group.len() > 1 {
            match self.commit(&mut group) {
                Ok(()) => return answer(group, &Ok(())),
                Err(Failed::Store(error)) if !self.shared.is_full(&error) => {
                    return self.fail(group, error);
                }
                Err(Failed::Log(refused)) => return self.refuse(group, &refused),
                Err(Failed::Growth | Failed::Store(_)) => {}
            }
        }
        let mut jobs = group.into_iter();
        while let Some(job) = jobs.next() {
            let mut alone = vec![job];
            match self.commit_alone(&mut alone) {
                Ok(()) => answer(alone, &Ok(())),
                Err(Failed::Store(error)) if !self.shared.is_full(&error) => {
                    alone.extend(jobs);
                    return self.fail(alone, error);
                }
                Err(Failed::Log(refused)) => {
                    alone.extend(jobs);
                    return self.refuse(alone, &refused);
                }
                Err(Failed::Growth | Failed::Store(_)) => {
                    if alone.iter().any(|job| job.share() == Share::New) {
                        self.shared.note_full_disk();
                    }
                    answer(alone, &Err(JournalError::DiskFull));
                }
            }
        }
    }

    /// What is not new may draw on the ballast for the log as well.
    fn commit_alone(&mut self, job: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let share = share_of(job);
        for parts in 1..=LOG_PARTS_MAX {
            match self.commit(job) {
                Err(Failed::Growth) => self.rewind_log(),
                Err(Failed::Store(error)) if share != Share::New && self.shared.is_full(&error) => {
                    self.rewind_log();
                    if !self.draw_for_log(share, parts) {
                        return Err(Failed::Store(error));
                    }
                }
                other => return other,
            }
        }
        self.commit(job)
    }

    /// Takes room for the log to grow into; false where there is none, or what there is will be
    /// needed by the database.
    fn draw_for_log(&self, share: Share, parts: u64) -> bool {
        let draw = || -> std::io::Result<()> {
            let growth = self
                .connection
                .as_ref()
                .and_then(|connection| self.shared.growth(connection).ok())
                .unwrap_or_default();
            let log = std::fs::OpenOptions::new()
                .write(true)
                .open(schema::log(&self.shared.directory))?;
            let length = log.metadata()?.len();
            let mut ballast = self.shared.ballast.lock();
            let bytes = parts * ballast.part_bytes();
            let keep = ballast.kept_from(share) + growth;
            ballast.draw(&log, length, bytes, keep)
        };
        draw().is_ok()
    }

    /// Empties a log that has outgrown what the ballast leaves room for, faster than it was looked
    /// at. Where a reader is in the way it is tried again once the log has grown by as much. While
    /// the disk has plenty of room it is left to the upkeep thread: the writer would wait for it,
    /// and a log that was cut costs more with each sync.
    pub(super) fn keep_log_small(&mut self) {
        if self.capacity.as_ref().is_some_and(|known| known.is_plenty) {
            return;
        }
        let max = 2 * self.shared.ballast.lock().log_bytes_max();
        let log = self.shared.log_length();
        if log <= max.max(self.log_bytes) || self.shared.ballast.lock().leaves_room_for(log) {
            return;
        }
        self.rewind_log();
        let left = self.shared.log_length();
        self.log_bytes = if left > max { left + max } else { 0 };
    }

    fn rewind_log(&self) {
        let Some(connection) = &self.connection else {
            return;
        };
        let _exclusive = self.shared.exclusive.lock();
        if let Err(error) = self
            .shared
            .rewind_log(connection, READER_WAIT, Cut::WherePlenty)
        {
            tracing::warn!(%error, "moving the write-ahead log into the database");
        }
    }
}

/// The share of what is done together: that of the one who may count on least.
pub(super) fn share_of(group: &[Box<dyn Job>]) -> Share {
    group
        .iter()
        .map(|job| job.share())
        .min()
        .unwrap_or(Share::Freeing)
}

impl Shared {
    /// Whether an error says that there is no room: on the disk, in what its owner may take of it,
    /// or in the size that the database may take. SQLite has a code of its own for the first alone,
    /// and not where it is a file of its own that cannot grow.
    pub(super) fn is_full(&self, error: &rusqlite::Error) -> bool {
        let has_no_room = || self.ballast.lock().is_disk_full();
        match error.sqlite_error().map_or(0, |error| error.extended_code) {
            ffi::SQLITE_IOERR_SHMSIZE => true,
            // There may be some again since: a write that fails while the disk is known to be full
            // is no other failure.
            ffi::SQLITE_IOERR_WRITE => self.is_disk_full() || has_no_room(),
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_TRUNCATE => has_no_room(),
            _ => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
        }
    }

    /// By how much the database grows when all is in it that a connection sees.
    fn growth(&self, connection: &Connection) -> rusqlite::Result<u64> {
        Ok((schema::page_count(connection)? * PAGE_BYTES).saturating_sub(self.database_length()))
    }

    /// Whether the database will have room to grow by what is in a transaction and before it:
    /// because of the ballast, or because that room is taken now. Most commits are answered by what
    /// the last look has found.
    pub(super) fn may_grow(&self, connection: &Connection, share: Share) -> rusqlite::Result<bool> {
        let database_bytes = schema::page_count(connection)? * PAGE_BYTES;
        if self.ballast.lock().is_sure_of(database_bytes) {
            return Ok(true);
        }
        let length = self.database_length();
        let growth = database_bytes.saturating_sub(length);
        let mut ballast = self.ballast.lock();
        if ballast.covers(growth, share) {
            ballast.note_database(length, 0);
            return Ok(true);
        }
        drop(ballast);
        let Ok(Some(database)) = self.database.open(&self.directory) else {
            return Ok(true);
        };
        // Where there is plenty, so much at once that the next commits need not ask.
        let mut ballast = self.ballast.lock();
        let taken = [growth + ballast.log_bytes_max(), growth]
            .into_iter()
            .find(|bytes| ballast.reserve(&database, *bytes));
        if let Some(taken) = taken {
            ballast.note_database(length, taken);
        }
        Ok(taken.is_some())
    }

    fn database_length(&self) -> u64 {
        schema::database(&self.directory)
            .metadata()
            .map_or(0, |metadata| metadata.len())
    }

    /// Moves the write-ahead log into the database, which gets the room for that first, and has the
    /// log written from its beginning again. Call it with `exclusive` held.
    pub(super) fn rewind_log(
        &self,
        connection: &Connection,
        wait: Duration,
        cut: Cut,
    ) -> rusqlite::Result<()> {
        self.room_to_grow(connection)?;
        let log = self.log_length();
        let is_cut = {
            let ballast = self.ballast.lock();
            cut != Cut::Never && !ballast.is_disk_tight()
                || cut == Cut::ForBallast && ballast.is_completed_by(log)
        };
        connection.busy_timeout(wait)?;
        let mode = if is_cut { "TRUNCATE" } else { "RESTART" };
        let done = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
        connection.busy_timeout(schema::BUSY_WAIT)?;
        self.ballast.lock().refill();
        done
    }

    /// Takes the room by which the database grows when the log is moved into it.
    pub(super) fn room_to_grow(&self, connection: &Connection) -> rusqlite::Result<()> {
        let growth = self.growth(connection)?;
        if growth == 0 || self.ballast.lock().leaves_room_for(growth) {
            return Ok(());
        }
        let drawn = self
            .database
            .open(&self.directory)
            .and_then(|database| match database {
                Some(database) => {
                    let length = database.metadata()?.len();
                    let mut ballast = self.ballast.lock();
                    let keep = ballast.kept_from(Share::Freeing);
                    ballast.draw(&database, length, growth, keep)
                }
                None => Ok(()),
            });
        if let Err(error) = drawn {
            tracing::warn!(
                %error,
                growth,
                "taking room for the database to grow by what is in its log"
            );
        }
        Ok(())
    }

    /// An append has failed for want of room on the disk. Told once while that lasts.
    pub(super) fn note_full_disk(&self) {
        let before = self.disk_full.lock().replace(std::time::Instant::now());
        if before.is_none_or(|before| before.elapsed() >= DISK_FULL_FOR) {
            tracing::error!(
                store = ?self.directory,
                "the disk is full; nothing is taken in until there is room on it"
            );
        }
    }

    /// Whether an append has failed lately because the disk is full, and none has succeeded since,
    /// or one would.
    pub(super) fn is_disk_full(&self) -> bool {
        !self.ballast.lock().is_whole()
            || self
                .disk_full
                .lock()
                .is_some_and(|noted| noted.elapsed() < DISK_FULL_FOR)
    }
}
