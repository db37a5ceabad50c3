//! The directory of a store: its lock and its mark.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::OpenError;

/// Held as long as a journal has its store open; the operating system lets go of it when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join("lock");
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open().map_err(|error| OpenError::io("opening", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(OpenError::Locked { path: directory.to_owned(), process: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io("locking", &path, &error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|error| OpenError::io("writing", &path, &error))?;
        Ok(Self { _file: file })
    }
}

/// The number of the last commit, written beside the database after each commit and never synced.
///
/// SQLite takes the first frame of its write-ahead log that does not pass its check for the log's end: a flipped bit there drops every later
/// commit without a word. A store that is behind its mark has lost commits.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
}

const MARK_BYTES: usize = 12;

impl Mark {
    pub(super) fn open(directory: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(directory.join("mark"))?;
        Ok(Self { file })
    }

    /// What it says; none where it is empty, and an error where it is damaged.
    pub(super) fn read(&mut self) -> std::io::Result<Option<Result<u64, ()>>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let parsed = bytes.split_first_chunk::<8>().and_then(|(commit, check)| {
            let check = u32::from_le_bytes(check.try_into().ok()?);
            (crc32fast::hash(commit) == check).then_some(u64::from_le_bytes(*commit))
        });
        Ok(Some(parsed.ok_or(())))
    }

    pub(super) fn write(&mut self, commit: u64) -> std::io::Result<()> {
        let mut bytes = [0; MARK_BYTES];
        let commit = commit.to_le_bytes();
        if let Some((number, check)) = bytes.split_first_chunk_mut::<8>() {
            *number = commit;
            check.copy_from_slice(&crc32fast::hash(&commit).to_le_bytes());
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&bytes)
    }
}
