//! The directory of a store: who may read it, its lock and its mark.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::{OpenError, schema};

/// What others than the owner may do: nothing.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const OTHERS: u32 = 0o077;
/// Set on folders that many share, as /tmp.
const STICKY: u32 = 0o1000;

/// Makes a directory that only the owner may look into, where it is not there.
pub(super) fn create_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
}

/// Makes an empty file that only the owner may read, where it is not there. SQLite gives its other
/// files the permissions of the database.
pub(super) fn create_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
}

/// Makes what was created and renamed in a directory durable.
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Takes from others what rights they have in a store, as earlier versions made them: on the
/// directory, its files, and those set aside in it. What belongs to somebody else stays as it is,
/// and so does a directory that holds more than a store.
pub(super) fn keep_private(directory: &Path) -> std::io::Result<()> {
    let is_store =
        schema::database(directory).exists() || std::fs::read_dir(directory)?.next().is_none();
    if is_store && directory.metadata()?.mode() & STICKY == 0 {
        restrict(&directory.canonicalize()?);
    }
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_directory = entry.file_type()?.is_dir();
        if is_directory && (name.starts_with("damaged-") || name.starts_with("salvage")) {
            restrict(&entry.path());
            std::fs::read_dir(entry.path())?
                .flatten()
                .filter(|inner| inner.file_type().is_ok_and(|kind| kind.is_file()))
                .for_each(|inner| restrict(&inner.path()));
        }
        if !is_directory
            && (name.starts_with("journal.db") || ["mark", "lock", "ballast"].contains(&&*name))
        {
            restrict(&entry.path());
        }
    }
    Ok(())
}

fn restrict(path: &Path) {
    let restricted = path.symlink_metadata().and_then(|metadata| {
        let mode = metadata.mode();
        if metadata.is_symlink() || mode & OTHERS == 0 {
            Ok(())
        } else {
            std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777 & !OTHERS))
        }
    });
    if let Err(error) = restricted {
        tracing::warn!(
            ?path,
            %error,
            "others can read this part of the store, and it cannot be taken from them"
        );
    }
}

/// Held as long as a journal has its store open; the operating system lets go of it when the
/// process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join("lock");
        let mut file =
            create_file(&path).map_err(|error| OpenError::io("opening", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(OpenError::Locked {
                    path: directory.to_owned(),
                    process: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io("locking", &path, &error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())
        };
        // On a full disk there is no room for it, and the lock holds without.
        if let Err(error) = write(&mut file) {
            tracing::warn!(
                ?path,
                %error,
                "writing the number of this process beside the lock of the store"
            );
        }
        Ok(Self { _file: file })
    }
}

/// The number of the last commit, written beside the database after each commit and never synced.
///
/// SQLite takes the first frame of its write-ahead log that does not pass its check for the log's
/// end: a flipped bit there drops every later commit without a word. A store that is behind its
/// mark has lost commits.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
}

const MARK_BYTES: usize = 12;

impl Mark {
    pub(super) fn open(directory: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: create_file(&directory.join("mark"))?,
        })
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
