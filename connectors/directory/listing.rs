//! What lies in a folder: files by their key, each with its version.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many files a folder may hold: their listing has to fit a cursor.
pub(super) const FILES_MAX: usize = 100_000;

/// A file's path below the folder, byte for byte, its parts joined by `/`.
pub(super) type Key = Vec<u8>;

/// What tells one content of a file from the next, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// When the content was last written, nanoseconds since 1970.
    pub(super) modified: i64,
    /// When the file was last changed in any way, moved included; nanoseconds since 1970. It tells a file from its like that took its place.
    pub(super) changed: i64,
    /// Bytes.
    pub(super) size: u64,
}

impl Version {
    /// The version of a file; none for what is none.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        metadata.is_file().then(|| Self {
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
        })
    }

    /// True where the content may have been written in between; a changed mode or name of the same content is none.
    pub(super) fn differs(self, other: Self) -> bool {
        (self.modified, self.size) != (other.modified, other.size)
    }
}

/// Which files are looked at.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The folder.
    pub(super) root: PathBuf,
    /// Its device and number: another folder in its place is not it, and is not watched.
    pub(super) identity: (u64, u64),
    /// Whether folders inside it are looked into.
    pub(super) recursive: bool,
    /// Names that are left out, with `*` for anything and `?` for any byte.
    pub(super) ignore: Vec<String>,
}

/// A folder's content at one time.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: BTreeMap<Key, Version>,
    /// The beginnings of keys about which nothing can be said, because their folder cannot be read.
    pub(super) unreadable: Vec<Key>,
}

impl Scope {
    /// The key of a path below the root, if it is looked at.
    pub(super) fn key(&self, path: &Path) -> Option<Key> {
        let key = path.strip_prefix(&self.root).ok()?.as_os_str().as_bytes().to_vec();
        self.covers(&key).then_some(key)
    }

    /// True for keys that are looked at.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        let mut parts = key.split(|byte| *byte == b'/').peekable();
        let ignored = |part: &[u8]| part.is_empty() || self.ignore.iter().any(|pattern| matches(pattern.as_bytes(), part));
        !key.is_empty() && (self.recursive || !key.contains(&b'/')) && !parts.any(ignored)
    }

    /// Where a key's file lies.
    pub(super) fn path(&self, key: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsString::from_vec(key.to_vec()))
    }

    /// Checks that the folder is there, and the same.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check(&self) -> io::Result<()> {
        let found = std::fs::metadata(&self.root)?;
        if identity(&found) == self.identity { Ok(()) } else { Err(io::Error::other("another one has taken its place")) }
    }

    /// Lists the folder. Symbolic links are neither followed nor listed.
    ///
    /// # Errors
    /// The root cannot be read, or holds too much.
    pub(super) fn list(&self) -> io::Result<Listing> {
        self.check()?;
        let mut listing = Listing::default();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if folder == self.root => return Err(error),
                // It went away since its parent was read; what was in it is gone with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "cannot read a folder; its files are taken to be unchanged");
                    if let Some(key) = self.key(&folder) {
                        listing.unreadable.push([&key[..], b"/"].concat());
                    }
                    continue;
                }
            };
            for entry in entries {
                // Part of a listing would make files look deleted.
                let path = entry?.path();
                let Some(key) = self.key(&path) else { continue };
                let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
                if metadata.is_dir() && self.recursive {
                    folders.push(path);
                } else if let Some(version) = Version::of(&metadata) {
                    listing.files.insert(key, version);
                }
            }
            if listing.files.len() > FILES_MAX {
                return Err(io::Error::other(format!("it holds more than {FILES_MAX} files; move those away that are done with")));
            }
        }
        Ok(listing)
    }
}

/// What tells a folder from another one of its name.
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// `*` stands for any bytes, `?` for one; in time linear in both but for the last star.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || text.get(from) == Some(byte) => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    (at, from) = (behind, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched() {
        for (pattern, text, expect) in [
            (".*", ".hidden", true),
            (".*", "a.b", false),
            ("*.tmp", "a.tmp", true),
            ("*.tmp", "a.tmp.b", false),
            ("*.tmp", ".tmp", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*aab", "aaaaab", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("**", "a", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expect, "{pattern} {text}");
        }
    }

    #[test]
    fn a_listing_holds_files_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["a", "b/c", "b/d/e", ".hidden", ".git/config", "x.tmp"] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), path).unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        std::os::unix::fs::symlink("a", root.join("alias")).unwrap();
        let list = |recursive, ignore: &[&str]| {
            let identity = identity(&std::fs::metadata(root).unwrap());
            let scope =
                Scope { root: root.to_owned(), identity, recursive, ignore: ignore.iter().map(|text| (*text).to_owned()).collect() };
            scope.list().unwrap().files.into_keys().map(|key| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(list(true, &[".*", "*.tmp"]), ["a", "b/c", "b/d/e"]);
        assert_eq!(list(false, &["a"]), [".hidden", "x.tmp"]);
        let other = Scope { root: root.join("b"), identity: (0, 0), recursive: true, ignore: Vec::new() };
        assert!(other.list().is_err_and(|error| error.to_string().contains("taken its place")));
    }
}
