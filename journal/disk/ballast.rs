//! A file that only takes up room, and lends it once the disk is full: settling and deleting then
//! go on, and make room in the end.
//!
//! What is lent is handed over by making the ballast shorter and taking the same room for the file
//! that needs it at once, before that file grows. Room that is simply free on a full disk belongs
//! to whoever comes first.
//!
//! ```text
//! ballast  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
//!          opening│ freeing │  known      │ new   until where each may draw: see Share
//! ```
//!
//! Nothing is taken in while the ballast is not whole. What becomes free meanwhile is the ballast's
//! first of all.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::Rng;
use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};
use rustix::io::Errno;

use super::{schema, store};

/// Its size at most. Before the write-ahead log can be written from its beginning again the
/// database grows by what is in it, so the ballast is several times what the log may hold: see
/// [`Ballast::log_bytes_max`].
const BYTES_MAX: u64 = 64 * 1024 * 1024;
const BYTES_MIN: u64 = 1024 * 1024;

/// What it takes of a small disk at most: one part of so many.
const PART_OF_DISK: u64 = 8;

/// What is kept for what makes room, and, half of it, for opening the store: a quarter, but no more
/// than this.
const LAST_BYTES_MAX: u64 = 512 * 1024;

/// What the index of a short write-ahead log takes, and the unit in which room is taken.
const INDEX_BYTES: u64 = 32 * 1024;
const BLOCK_BYTES: u64 = 4096;

/// What the log is given for the opening of a store.
const OPENING_LOG_BYTES: u64 = 64 * 1024;

/// It is drawn on in so many parts, of no less than this.
const PARTS: u64 = 16;
const PART_BYTES_MIN: u64 = 64 * 1024;

/// Less than this no transaction needs to be.
const COMMIT_BYTES_MIN: u64 = 128 * 1024;

/// Room without which a disk is full: what SQLite needs to open a store.
const ROOM_LEAST: u64 = 256 * 1024;

/// A disk has plenty of room where so many times the ballast and the write-ahead log are free.
const PLENTY: u64 = 4;

/// How soon after it found no room it is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// On how much of the ballast something may count; the first is the first to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Share {
    /// It brings something new.
    New,
    /// It goes on with what is there: retries, dead letters, subscriptions.
    Known,
    /// It ends or deletes something, or no start can do without it.
    Freeing,
}

/// The ballast of a store.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    size_bytes: u64,
    /// What of it is in place.
    bytes: u64,
    /// Whether it cannot be made, for want of something other than room: the store does without.
    is_impossible: bool,
    tried: Option<Instant>,
    /// How long the database may become without another look at what lets it: whatever becomes of
    /// the disk, there is room for that. 0 where it is to be found out.
    database_bytes: u64,
}

impl Ballast {
    /// The ballast of a store that may give up so much of its size for it; it is in place where it
    /// was left.
    pub(super) fn of(directory: &Path, bytes_max: u64) -> Self {
        let path = directory.join("ballast");
        let disk = room(directory).map_or(u64::MAX, |(_, all)| all / PART_OF_DISK);
        let size_bytes = bytes_max.min(BYTES_MAX).min(disk.max(BYTES_MIN));
        let bytes = length(&path);
        Self {
            path,
            size_bytes,
            bytes,
            is_impossible: false,
            tried: None,
            database_bytes: 0,
        }
    }

    /// Whether all of it is in place.
    pub(super) fn is_whole(&self) -> bool {
        self.is_impossible || self.bytes >= self.size_bytes
    }

    /// How large the write-ahead log may become before it is moved into the database: where the
    /// disk may soon be full there must be room for that.
    pub(super) fn log_bytes_max(&self) -> u64 {
        self.size_bytes / 4
    }

    /// What one transaction should write at most, so that several of them find their room.
    pub(super) fn commit_bytes_max(&self) -> u64 {
        (self.size_bytes / 8).max(COMMIT_BYTES_MIN)
    }

    /// Whether a log of this size is no trouble: the disk will not be full before it has been
    /// looked at again.
    pub(super) fn leaves_room_for(&self, log_bytes: u64) -> bool {
        self.is_whole()
            && self
                .free()
                .is_none_or(|free| free >= PLENTY * (self.size_bytes + log_bytes))
    }

    /// Whether room that is given back now may be missing soon: the log then keeps what it has.
    pub(super) fn is_disk_tight(&self) -> bool {
        !self.is_whole() || self.free().is_some_and(|free| free < self.size_bytes)
    }

    /// Whether what a log of this size gives back would make it whole, and little is lost should
    /// somebody else come first.
    pub(super) fn is_completed_by(&self, log_bytes: u64) -> bool {
        let missing = self.size_bytes.saturating_sub(self.bytes);
        !self.is_whole() && missing <= log_bytes.min(self.size_bytes / 2)
    }

    /// Whether the ballast alone lets the database grow by so much.
    pub(super) fn covers(&self, growth: u64, share: Share) -> bool {
        growth <= self.credit(share)
    }

    /// By how much the ballast lets the database grow.
    fn credit(&self, share: Share) -> u64 {
        let credit = self.bytes.saturating_sub(self.kept_from(share));
        if share == Share::New {
            credit / 2
        } else {
            credit
        }
    }

    /// Whether the database may become so long for all that is known since the last look.
    pub(super) fn is_sure_of(&self, database_bytes: u64) -> bool {
        database_bytes <= self.database_bytes
    }

    /// Notes how long the database file is, and how much room it has taken behind its end.
    pub(super) fn note_database(&mut self, length: u64, taken: u64) {
        self.database_bytes = length + taken.max(self.credit(Share::New));
    }

    /// The database file has another length, or has given back what it had taken.
    pub(super) fn forget_database(&mut self) {
        self.database_bytes = 0;
    }

    /// What is left alone by those with a share.
    pub(super) fn kept_from(&self, share: Share) -> u64 {
        let last = (self.size_bytes / 4).min(LAST_BYTES_MAX);
        if share == Share::Freeing {
            last / 2
        } else {
            last
        }
    }

    /// Takes so much room for a file behind `from`, without making it longer: what is free first,
    /// then the ballast's, of which `keep` is left.
    ///
    /// # Errors
    /// There is no room, or none could be taken.
    pub(super) fn draw(&mut self, file: &File, from: u64, bytes: u64, keep: u64) -> io::Result<()> {
        let (mut at, end) = (from, from + bytes);
        while at < end {
            let part = self.part_bytes().min(end - at);
            match take(file, at, part) {
                Ok(()) => at += part,
                Err(Errno::NOSPC | Errno::DQUOT) => {
                    let lent = part
                        .next_multiple_of(BLOCK_BYTES)
                        .min(self.bytes.saturating_sub(keep));
                    if lent == 0 {
                        return Err(Errno::NOSPC.into());
                    }
                    self.shorten(lent)?;
                }
                // A file system that takes no room beforehand: it is free, for as long as nobody
                // else comes.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.free_up(end - at, keep),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes room for a file of which some must stay free for others: it is taken only where twice
    /// as much is there.
    pub(super) fn reserve(&self, file: &File, bytes: u64) -> bool {
        let has_room = self.free().is_none_or(|free| free >= 2 * bytes);
        let taken = || {
            take(
                file,
                file.metadata().map_or(0, |metadata| metadata.len()),
                bytes,
            )
        };
        has_room && !matches!(taken(), Err(Errno::NOSPC | Errno::DQUOT))
    }

    fn free_up(&mut self, bytes: u64, keep: u64) -> io::Result<()> {
        let missing = bytes.saturating_sub(self.free().unwrap_or(bytes));
        if missing > self.bytes.saturating_sub(keep) {
            return Err(Errno::NOSPC.into());
        }
        self.shorten(missing)
    }

    /// Takes the room that SQLite needs to open the store: for the index of the write-ahead log,
    /// which it makes anew where it is the first to open it, and for some frames of that log,
    /// should something have to be mended. False where there is none left. No connection to the
    /// store may be open: closing the index drops the locks of this process on it.
    pub(super) fn draw_for_opening(&mut self) -> bool {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let (index, log) = (
            self.path.with_file_name("journal.db-shm"),
            schema::log(directory),
        );
        let drawn =
            store::create_file(&index).and_then(|index| self.draw(&index, 0, INDEX_BYTES, 0));
        if drawn.is_ok()
            && let Ok(file) = OpenOptions::new().write(true).open(&log)
        {
            let _ = self.draw(&file, length(&log), OPENING_LOG_BYTES, 0);
        }
        drawn.is_ok()
    }

    /// Gives up some room for an opening during which other connections may be open.
    pub(super) fn give_up_for_opening(&mut self) {
        let lent = INDEX_BYTES.min(self.bytes.saturating_sub(self.kept_from(Share::Freeing)));
        let _ = self.shorten(lent);
    }

    /// So much is taken or given at once.
    pub(super) fn part_bytes(&self) -> u64 {
        (self.size_bytes / PARTS)
            .next_multiple_of(PART_BYTES_MIN)
            .max(PART_BYTES_MIN)
    }

    fn shorten(&mut self, bytes: u64) -> io::Result<()> {
        // Where somebody has removed it, its room is not there to be lent.
        let there = length(&self.path).min(self.bytes);
        let left = there.saturating_sub(bytes);
        let shortened = OpenOptions::new()
            .write(true)
            .open(&self.path)
            .and_then(|file| file.set_len(left));
        self.measure();
        match shortened {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::error!(path = ?self.path, %error, "drawing on the ballast of the store");
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Takes for the ballast what room there is, unless it has just been tried; tells whether it is
    /// whole.
    pub(super) fn restore(&mut self) -> bool {
        if !self.is_whole()
            && self
                .tried
                .is_none_or(|tried| tried.elapsed() >= AGAIN_AFTER)
        {
            self.refill();
            self.tried = Some(Instant::now());
        }
        self.is_whole()
    }

    /// Takes for the ballast what room there is; tells whether it is whole.
    pub(super) fn refill(&mut self) -> bool {
        self.measure();
        let missing = self.size_bytes.saturating_sub(self.bytes);
        let mut part = missing.min(self.free().unwrap_or(missing));
        while part > 0 && !self.is_whole() {
            match self.grow(part) {
                Ok(()) => break,
                Err(error) if is_no_room(&error) => part /= 2,
                Err(error) => {
                    tracing::warn!(
                        path = ?self.path,
                        %error,
                        "making the ballast of the store: without it a full disk cannot be drained"
                    );
                    self.is_impossible = true;
                }
            }
        }
        self.measure();
        self.is_whole()
    }

    /// Looks at what of it is in place.
    fn measure(&mut self) {
        self.bytes = length(&self.path);
        self.forget_database();
    }

    fn grow(&self, bytes: u64) -> io::Result<()> {
        let file = store::create_file(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), self.bytes, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_noise(&file, self.bytes, bytes),
            other => Ok(other?),
        }
    }

    /// Whether the disk is full, or what its owner may take of it: the file system tells of the
    /// one, and a write of the other.
    pub(super) fn is_disk_full(&self) -> bool {
        let probe = || {
            let file = store::create_file(&self.path)?;
            let length = file.metadata()?.len();
            let written = write_noise(&file, length, INDEX_BYTES);
            file.set_len(length)?;
            written
        };
        self.free().is_some_and(|free| free < ROOM_LEAST)
            || probe().is_err_and(|error| is_no_room(&error))
    }

    fn free(&self) -> Option<u64> {
        room(self.path.parent().unwrap_or(Path::new("."))).map(|(free, _)| free)
    }
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Takes room for a part of a file that may lie behind its end.
fn take(file: &File, from: u64, bytes: u64) -> Result<(), Errno> {
    fallocate(file, FallocateFlags::KEEP_SIZE, from, bytes)
}

/// Writes what no file system makes smaller, as some do with zeros.
fn write_noise(file: &File, mut from: u64, bytes: u64) -> io::Result<()> {
    let (mut noise, end) = ([0; 64 * 1024], from + bytes);
    rand::rng().fill_bytes(&mut noise);
    while from < end {
        let part = noise
            .get(
                ..usize::try_from(end - from)
                    .unwrap_or(usize::MAX)
                    .min(noise.len()),
            )
            .unwrap_or(&noise);
        file.write_all_at(part, from)?;
        from += part.len() as u64;
    }
    file.sync_data()
}

/// Whether an error says that there is no room.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// What a disk has to spare, and its size; none where it does not tell.
fn room(directory: &Path) -> Option<(u64, u64)> {
    let StatVfs {
        f_bavail,
        f_blocks,
        f_frsize,
        ..
    } = statvfs(directory).ok()?;
    Some((f_bavail * f_frsize, f_blocks * f_frsize))
}
