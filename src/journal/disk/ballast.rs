//! A file that only takes up room, given up once the disk is full: settling and deleting then go on, and make room in the end.
//!
//! Nothing is taken in while the ballast is not in place, so that the room which it gave up is left to what makes room. It is put back when the
//! disk has twice as much to spare.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};

use super::store;

/// Its size at most. Before the write-ahead log can be written from its beginning again the database grows by what is in it, so the ballast is
/// several times what the log may hold: see [`Ballast::log_bytes_max`].
const BYTES_MAX: u64 = 64 * 1024 * 1024;
const BYTES_MIN: u64 = 1024 * 1024;

/// What it takes of a small disk at most: one part of so many.
const PART_OF_DISK: u64 = 8;

/// Room without which a disk is full: what SQLite needs to open a store.
const ROOM_LEAST: u64 = 256 * 1024;

/// A disk has plenty of room where so many times the ballast and the write-ahead log are free.
const PLENTY: u64 = 4;

/// How soon after it found no room it is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The ballast of a store.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    size_bytes: u64,
    is_there: bool,
    tried: Option<Instant>,
}

impl Ballast {
    /// The ballast of a store that may give up so much of its size for it; it is in place where it was left.
    pub(super) fn of(directory: &Path, bytes_max: u64) -> Self {
        let path = directory.join("ballast");
        let disk = room(directory).map_or(u64::MAX, |(_, all)| all / PART_OF_DISK);
        let size_bytes = bytes_max.min(BYTES_MAX).min(disk.max(BYTES_MIN));
        let is_there = path.metadata().is_ok_and(|metadata| metadata.len() > 0);
        Self { path, size_bytes, is_there, tried: None }
    }

    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// How large the write-ahead log may become before it is moved into the database: where the disk may soon be full there must be room for that.
    pub(super) fn log_bytes_max(&self) -> u64 {
        self.size_bytes / 4
    }

    /// Whether a log of this size is no trouble: the disk will not be full before it has been looked at again.
    pub(super) fn leaves_room_for(&self, log_bytes: u64) -> bool {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        self.is_there && room(directory).is_some_and(|(free, _)| free >= PLENTY * (self.size_bytes + log_bytes))
    }

    /// Gives the room up; false where that was done before.
    pub(super) fn release(&mut self) -> bool {
        let was_there = std::mem::take(&mut self.is_there);
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::error!(path = ?self.path, %error, "giving up the ballast of the store");
        }
        was_there
    }

    /// Puts it in place where there is room; tells whether it is.
    pub(super) fn restore(&mut self) -> bool {
        if self.is_there || self.tried.is_some_and(|tried| tried.elapsed() < AGAIN_AFTER) {
            return self.is_there;
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let has_room = room(directory).is_none_or(|(free, _)| free >= 2 * self.size_bytes);
        self.is_there = has_room
            && match self.fill() {
                Ok(()) => true,
                Err(error) if is_no_room(&error) => false,
                Err(error) => {
                    // Something other than room is missing: the store does without, as it did before there was a ballast.
                    tracing::warn!(path = ?self.path, %error, "making the ballast of the store: without it a full disk cannot be drained");
                    true
                }
            };
        if !self.is_there {
            self.release();
            self.tried = Some(Instant::now());
        }
        self.is_there
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = store::create_file(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.size_bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_zeros(&mut file, self.size_bytes),
            other => Ok(other?),
        }
    }
}

fn write_zeros(file: &mut File, bytes: u64) -> io::Result<()> {
    let zeros = [0; 64 * 1024];
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let part = zeros.get(..left.min(zeros.len())).unwrap_or(&zeros);
        file.write_all(part)?;
        left -= part.len();
    }
    file.sync_all()
}

/// Whether an error says that there is no room.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Whether the disk of a directory is full.
pub(super) fn is_full(directory: &Path) -> bool {
    room(directory).is_some_and(|(free, _)| free < ROOM_LEAST)
}

/// What a disk has to spare, and its size; none where it does not tell.
fn room(directory: &Path) -> Option<(u64, u64)> {
    let StatVfs { f_bavail, f_blocks, f_frsize, .. } = statvfs(directory).ok()?;
    Some((f_bavail * f_frsize, f_blocks * f_frsize))
}
