//! A power cut, without cutting the power.
//!
//! SIGKILL alone does not test a sync: the page cache survives it. `power/forget.c`, preloaded into
//! the process under test, notes what every write replaces and forgets those notes when the file is
//! synced; [`Power::cut`] plays them back, and the files stand as a disk would have them that kept
//! exactly what was synced.

use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A disk under one folder that forgets what was not synced.
#[derive(Debug)]
pub struct Power {
    below: PathBuf,
    undo: TempDir,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The disk has none left: ENOSPC.
    Disk,
    /// Its owner may take no more of it: EDQUOT.
    Quota,
}

impl Power {
    /// Compiles the preloaded part and watches the files below a folder.
    ///
    /// # Panics
    /// Where there is no C compiler: the toolchain needs one as well.
    #[must_use]
    pub fn over(below: &Path) -> Self {
        let undo = tempfile::tempdir().expect("a temporary folder can be made");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("power/forget.c");
        let library = undo.path().join("forget.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .status();
        assert!(
            built.expect("cc can be run").success(),
            "forget.c does not compile"
        );
        std::fs::create_dir(undo.path().join("logs")).expect("a folder can be made");
        // The process may run as another user.
        for (folder, mode) in [(undo.path(), 0o755), (&undo.path().join("logs"), 0o777)] {
            std::fs::set_permissions(folder, Permissions::from_mode(mode))
                .expect("a folder's permissions can be set");
        }
        Self {
            below: below.canonicalize().expect("the folder is there"),
            undo,
        }
    }

    /// The environment of a process that runs on this disk. Where `syncs` is false its syncs do
    /// nothing.
    #[must_use]
    pub fn environment(&self, syncs: bool) -> Vec<(String, String)> {
        let text = |path: &Path| {
            path.to_str()
                .expect("temporary folders are UTF-8")
                .to_owned()
        };
        vec![
            (
                "LD_PRELOAD".to_owned(),
                text(&self.undo.path().join("forget.so")),
            ),
            ("FORGET_BELOW".to_owned(), text(&self.below)),
            (
                "FORGET_UNDO".to_owned(),
                text(&self.undo.path().join("logs")),
            ),
            (
                "FORGET_FULL".to_owned(),
                text(&self.undo.path().join("full")),
            ),
            (
                "FORGET_EIO".to_owned(),
                text(&self.undo.path().join("failing")),
            ),
            (
                "FORGET_SYNC".to_owned(),
                if syncs { "honoured" } else { "ignored" }.to_owned(),
            ),
        ]
    }

    /// Fills the disk, or what the process may take of it.
    ///
    /// # Panics
    /// Where the mark cannot be made.
    pub fn fill(&self, why: Full) {
        let mark = if why == Full::Quota { "quota" } else { "" };
        std::fs::write(self.undo.path().join("full"), mark).expect("a mark can be made");
    }

    /// Makes room on the disk again.
    ///
    /// # Panics
    /// Where the mark cannot be removed.
    pub fn make_room(&self) {
        std::fs::remove_file(self.undo.path().join("full")).expect("a mark can be removed");
    }

    /// Has so many of a thousand reads of a store's database fail with EIO; none from then on where
    /// it is 0.
    ///
    /// # Panics
    /// Where the mark cannot be made or removed.
    pub fn fail_reads(&self, per_mille: u32) {
        let mark = self.undo.path().join("failing");
        if per_mille > 0 {
            std::fs::write(mark, per_mille.to_string())
        } else {
            std::fs::remove_file(mark)
        }
        .expect("a mark can be made and removed");
    }

    /// Puts back what was there before every write that no sync followed, and tells how many writes
    /// that were. The process must be dead.
    ///
    /// # Panics
    /// Where a file cannot be put back.
    pub fn cut(&self) -> usize {
        let mut forgotten = 0;
        for entry in
            std::fs::read_dir(self.undo.path().join("logs")).expect("the logs can be listed")
        {
            let entry = entry.expect("the logs can be listed");
            let name = entry.file_name().into_string().expect("paths are UTF-8");
            let records = records(&entry.path());
            forgotten += records.len();
            // A file that has been deleted meanwhile stays deleted.
            if let Ok(mut file) = File::options().write(true).open(name.replace('%', "/")) {
                for record in records.iter().rev() {
                    file.seek(SeekFrom::Start(record.offset))
                        .and_then(|_| file.write_all(&record.old))
                        .expect("a file can be put back");
                    file.set_len(record.size).expect("a file can be cut");
                }
            }
            std::fs::remove_file(entry.path()).expect("a log can be removed");
        }
        for entry in walk(&self.below) {
            if entry.to_string_lossy().ends_with("-shm") {
                std::fs::remove_file(entry).expect("shared memory can be removed");
            }
        }
        forgotten
    }
}

struct Record {
    offset: u64,
    size: u64,
    old: Vec<u8>,
}

fn records(log: &Path) -> Vec<Record> {
    let mut bytes = Vec::new();
    File::open(log)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .expect("a log can be read");
    let mut rest = bytes.as_slice();
    let mut records = Vec::new();
    // A record cut short belongs to a write that has not happened.
    while let Some((head, tail)) = rest.split_at_checked(24) {
        let number = |at: usize| {
            u64::from_ne_bytes(
                head.get(at..at + 8)
                    .and_then(|bytes| bytes.try_into().ok())
                    .expect("the head has 24 bytes"),
            )
        };
        let Some((old, tail)) = usize::try_from(number(8))
            .ok()
            .and_then(|length| tail.split_at_checked(length))
        else {
            break;
        };
        records.push(Record {
            offset: number(0),
            size: number(16),
            old: old.to_vec(),
        });
        rest = tail;
    }
    records
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(walk(&path))
        } else {
            found.push(path)
        }
    }
    found
}
