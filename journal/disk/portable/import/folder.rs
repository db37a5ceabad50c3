//! The folder in which stores are filled until they are whole.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use super::super::PortableError;
use crate::disk::store::{Lock, create_directory, sync_directory};

/// The stores in it, as they are to lie.
const STORES: &str = "stores";

/// A folder beside the one where the stores are to lie. It goes with what is in it, once that has
/// been put in place or was cut short.
pub(super) struct Folder {
    path: PathBuf,
    _lock: Lock,
}

impl Folder {
    /// Makes the folder for stores that are to lie at a path. What an import has left there that
    /// was killed is removed.
    pub(super) fn create(wanted: &Path) -> Result<Self, PortableError> {
        let occupied = || PortableError::Occupied(wanted.to_owned());
        match fs::read_dir(wanted).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(occupied()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("reading", wanted, &error)),
        }
        let name = wanted.file_name().ok_or_else(occupied)?.to_string_lossy();
        let path = wanted.with_file_name(format!(".{name}.importing"));
        create_directory(&path).map_err(|error| failed("creating", &path, &error))?;
        // Whoever has the lock is at work here.
        let lock = Lock::take(&path)?;
        let folder = Self { path, _lock: lock };
        let left = [
            fs::remove_dir_all(folder.store(0)),
            fs::remove_file(folder.places()),
        ];
        for removed in left {
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("removing what is left in", &folder.path, &error));
                }
                _ => {}
            }
        }
        Ok(folder)
    }

    /// Where a store of it lies.
    pub(super) fn store(&self, shard: u16) -> PathBuf {
        let first = self.path.join(STORES);
        match shard {
            0 => first,
            _ => first.join(format!("shard-{shard}")),
        }
    }

    /// Where the file with the places lies, which is needed until then.
    pub(super) fn places(&self) -> PathBuf {
        self.path.join("places")
    }

    /// Puts the stores where they are to lie.
    pub(super) fn put_in_place(self, wanted: &Path) -> Result<(), PortableError> {
        let put = || {
            fs::rename(self.path.join(STORES), wanted)?;
            match wanted.parent() {
                Some(parent) if parent != Path::new("") => sync_directory(parent),
                _ => sync_directory(Path::new(".")),
            }
        };
        put().map_err(|error| failed("putting the stores into", wanted, &error))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = ?self.path, %error, "removing what an import has left");
        }
    }
}

fn failed(doing: &'static str, path: &Path, error: &Error) -> PortableError {
    PortableError::Folder {
        doing,
        path: path.to_owned(),
        what: error.to_string(),
    }
}
