//! How much may be appended, and whether the disk has plenty of room: looked at now and then, and
//! reckoned in between, as most commits are small against what is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::Shared;
use super::schema::{self, PAGE_BYTES};

/// How long a look holds. Deleting, settling and others on the disk change what it found, and
/// nobody counts that.
const HOLDS_FOR: Duration = Duration::from_millis(100);

/// The part of what was found that may be used up before the next look: what a row takes on disk is
/// not known exactly.
const PART_USED: u64 = 8;

/// What the last look has found, and what is left of it.
#[derive(Debug)]
pub(super) struct Capacity {
    /// Bytes that could be appended then, and that may be now.
    found: u64,
    left: u64,
    /// Whether the write-ahead log is no trouble at its size.
    pub(super) is_plenty: bool,
    at: Instant,
}

impl Capacity {
    /// Bytes that may be appended.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The same after something was appended.
    pub(super) fn with_left(self, left: u64) -> Self {
        Self { left, ..self }
    }

    /// Whether it holds for a transaction that brings so much along.
    pub(super) fn holds(&self, bytes: u64) -> bool {
        let used = self.found.saturating_sub(self.left).saturating_add(bytes);
        used <= self.found / PART_USED && self.at.elapsed() < HOLDS_FOR
    }
}

impl Shared {
    pub(super) fn capacity(&self, connection: &Connection) -> rusqlite::Result<Capacity> {
        let room = self.room(connection)?;
        Ok(Capacity {
            found: room,
            left: room,
            is_plenty: self.ballast.lock().leaves_room_for(self.log_length()),
            at: Instant::now(),
        })
    }

    /// Bytes that may be appended: what is kept for settling and deleting is not among them.
    pub(super) fn room(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let used = self.used_bytes(connection)?;
        Ok(self
            .options
            .max_size_bytes
            .saturating_sub(self.reserve_bytes() + used)
            / 2)
    }

    /// Database pages in use, and the write-ahead log.
    pub(super) fn used_bytes(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let (pages, free) = schema::pages(connection)?;
        Ok((pages - free) * PAGE_BYTES + self.log_length())
    }

    /// The length of the write-ahead log's file.
    pub(super) fn log_length(&self) -> u64 {
        schema::log(&self.directory)
            .metadata()
            .map_or(0, |metadata| metadata.len())
    }

    /// Has the connection that writes tell how many pages its commits leave in the write-ahead log.
    pub(super) fn count_log_pages(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let counted = Arc::clone(&self.log_pages);
        connection.wal_hook(Some(move |_: &mut Wal, pages| {
            counted.store(i32::cast_unsigned(pages).into(), Ordering::Relaxed);
            Ok(())
        }))
    }

    /// How much of the write-ahead log waits to be moved into the database, in bytes. Its file is
    /// as long as it has ever been.
    pub(super) fn log_waiting(&self) -> u64 {
        self.log_pages.load(Ordering::Relaxed) * PAGE_BYTES
    }

    fn reserve_bytes(&self) -> u64 {
        reserve_bytes(self.options.max_size_bytes)
    }
}

/// Room kept for settling: a sixteenth, but enough for the largest transactions of a small store.
/// Half of it is the ballast's.
pub(super) fn reserve_bytes(bytes_max: u64) -> u64 {
    (bytes_max / 16).clamp(512 * 1024, 256 * 1024 * 1024)
}
