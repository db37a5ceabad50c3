//! What lies in a folder: files by their key, each with its version.

use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file's path below the folder, byte for byte, its parts joined by `/`.
pub(super) type Key = Vec<u8>;

/// What tells one content of a file from the next, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// When the content was last written, nanoseconds since 1970. Writers can set it to anything.
    pub(super) modified: i64,
    /// When the file was last changed in any way, moved included; nanoseconds since 1970. Nobody
    /// can set it.
    pub(super) changed: i64,
    /// Bytes.
    pub(super) size: u64,
    /// Its inode, which tells a file from its like that took its place; zero where the file system
    /// gives out others each time.
    pub(super) inode: u64,
    /// A digest of mode, owner, group and number of links, whose changes count as a change of the
    /// file, too; none where it was not kept.
    pub(super) access: Option<u16>,
}

impl Version {
    /// The version of a file; none for what is none.
    pub(super) fn of(metadata: &Metadata, inodes: Inodes) -> Option<Self> {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        metadata.is_file().then(|| Self {
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
            inode: if inodes == Inodes::Lasting {
                metadata.ino()
            } else {
                0
            },
            access: Some(access(metadata)),
        })
    }

    /// True where the content may have been written between this version and a later one.
    pub(super) fn differs(self, later: Self) -> bool {
        let replaced = self.inode != later.inode && self.inode != 0 && later.inode != 0;
        // `cp -p` over a file and `touch -r` after a write leave nothing but this. So do `chmod`,
        // `chown` and `ln`, which are no change of the content, but they show in the digest.
        let touched =
            self.changed != later.changed && self.access.is_some() && self.access == later.access;
        !self.looks_like(later) || replaced || touched
    }

    /// True where size and time of the content are the same.
    pub(super) fn looks_like(self, other: Self) -> bool {
        (self.modified, self.size) == (other.modified, other.size)
    }
}

fn access(metadata: &Metadata) -> u16 {
    let parts = [
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        u32::try_from(metadata.nlink()).unwrap_or(u32::MAX),
    ];
    // FNV-1a, folded: the same in every build, since it is stored.
    let hash = parts
        .iter()
        .flat_map(|part| part.to_le_bytes())
        .fold(0x811C_9DC5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
    (hash ^ (hash >> 16)) as u16
}

/// Whether a file keeps its inode for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inodes {
    /// It does.
    Lasting,
    /// The file system makes them up as it goes: another one may be seen after a while, or after
    /// the next mount.
    Fleeting,
}

impl Inodes {
    /// Those of the file system at this path.
    pub(super) fn at(path: &Path) -> Self {
        // By statfs(2) and linux/magic.h: FUSE, SMB and CIFS, FAT, exFAT.
        const FLEETING: [u32; 6] = [
            0x6573_5546,
            0x517B,
            0xFF53_4D42,
            0xFE53_4D42,
            0x4D44,
            0x2011_BAB0,
        ];
        match rustix::fs::statfs(path) {
            Ok(found) if FLEETING.contains(&(found.f_type as u32)) => Self::Fleeting,
            _ => Self::Lasting,
        }
    }
}

/// Which files are looked at.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The folder.
    pub(super) root: PathBuf,
    /// Its device and number: another folder in its place is not it, and is not watched.
    pub(super) identity: Identity,
    /// What its files' inodes are worth.
    pub(super) inodes: Inodes,
    /// Whether folders inside it are looked into.
    pub(super) recursive: bool,
    /// Names that are left out, with `*` for anything and `?` for any byte.
    pub(super) ignore: Vec<String>,
}

/// A folder's device and inode.
pub(super) type Identity = (u64, u64);

/// The folders with a file system of their own: the root under the empty key, and mount points
/// below it.
pub(super) type Mounts = BTreeMap<Key, Identity>;

/// A folder's content at one time.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: BTreeMap<Key, Version>,
    /// The beginnings of keys about which nothing can be said, because their folder cannot be read,
    /// with why.
    pub(super) unreadable: BTreeMap<Key, String>,
    pub(super) mounts: Mounts,
    /// All folders in it that could be read, the root among them.
    pub(super) folders: HashSet<PathBuf>,
}

impl Scope {
    /// The key of a path below the root, if it is looked at.
    pub(super) fn key(&self, path: &Path) -> Option<Key> {
        let key = path
            .strip_prefix(&self.root)
            .ok()?
            .as_os_str()
            .as_bytes()
            .to_vec();
        self.covers(&key).then_some(key)
    }

    /// True for keys that are looked at.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        let mut parts = key.split(|byte| *byte == b'/').peekable();
        let ignored = |part: &[u8]| {
            part.is_empty()
                || self
                    .ignore
                    .iter()
                    .any(|pattern| matches(pattern.as_bytes(), part))
        };
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
        if identity(&found) == self.identity {
            Ok(())
        } else {
            Err(io::Error::other("another one has taken its place"))
        }
    }

    /// Which of these mount points below the root are not there any more.
    pub(super) fn unmounted(&self, mounts: &Mounts) -> Vec<Key> {
        let is_gone = |key: &&Key| {
            std::fs::metadata(self.path(key))
                .map(|found| identity(&found))
                .ok()
                .as_ref()
                != mounts.get(*key)
        };
        mounts
            .keys()
            .filter(|key| !key.is_empty())
            .filter(is_gone)
            .cloned()
            .collect()
    }

    /// Lists the folder. Symbolic links are neither followed nor listed. `enter` is called with
    /// each folder before it is read.
    ///
    /// # Errors
    /// The root cannot be read.
    pub(super) fn list(&self, enter: &mut dyn FnMut(&Path)) -> io::Result<Listing> {
        self.check()?;
        let mut listing = Listing::default();
        listing.mounts.insert(Key::new(), self.identity);
        let mut folders = vec![(self.root.clone(), self.identity.0)];
        while let Some((folder, device)) = folders.pop() {
            enter(&folder);
            match self.read(&folder, device, &mut listing, &mut folders) {
                Err(error) if folder == self.root => return Err(error),
                // It went away since its parent was read; what was in it is gone with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let key = self.key(&folder).unwrap_or_default();
                    listing
                        .unreadable
                        .insert([&key[..], b"/"].concat(), error.to_string());
                }
                Ok(()) => drop(listing.folders.insert(folder)),
            }
        }
        Ok(listing)
    }

    /// Reads one folder, of this device, and puts those inside it on the list. Where that fails,
    /// part of it may be listed.
    fn read(
        &self,
        folder: &Path,
        device: u64,
        listing: &mut Listing,
        folders: &mut Vec<(PathBuf, u64)>,
    ) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(key) = self.key(&path) else { continue };
            let metadata = match std::fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Left out without a word it would look deleted.
                Err(error) => return Err(error),
            };
            if metadata.is_dir() && self.recursive {
                if metadata.dev() != device {
                    listing.mounts.insert(key, identity(&metadata));
                }
                folders.push((path, metadata.dev()));
            } else if let Some(version) = Version::of(&metadata, self.inodes) {
                listing.files.insert(key, version);
            }
        }
        Ok(())
    }
}

/// What tells a folder from another one of its name.
pub(super) fn identity(metadata: &Metadata) -> Identity {
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
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
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
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expect,
                "{pattern} {text}"
            );
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
            let scope = Scope {
                root: root.to_owned(),
                identity,
                inodes: Inodes::Lasting,
                recursive,
                ignore: ignore.iter().map(|text| (*text).to_owned()).collect(),
            };
            scope
                .list(&mut |_| {})
                .unwrap()
                .files
                .into_keys()
                .map(|key| String::from_utf8(key).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(list(true, &[".*", "*.tmp"]), ["a", "b/c", "b/d/e"]);
        assert_eq!(list(false, &["a"]), [".hidden", "x.tmp"]);
        let other = Scope {
            root: root.join("b"),
            identity: (0, 0),
            inodes: Inodes::Lasting,
            recursive: true,
            ignore: Vec::new(),
        };
        assert!(
            other
                .list(&mut |_| {})
                .is_err_and(|error| error.to_string().contains("taken its place"))
        );
    }
}
