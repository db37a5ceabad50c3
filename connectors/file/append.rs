//! A file that lines are appended to, and that is rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// When a file is rotated, and how many of those before are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rotation {
    pub(super) bytes: u64,
    pub(super) keep: u32,
}

/// A file that lines are appended to. A flush syncs what was written since the last one, and where a
/// write fails nothing of that is left.
#[derive(Debug)]
pub(super) struct Appended {
    path: PathBuf,
    rotation: Option<Rotation>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Up to where it is whole and synced.
    whole: u64,
    /// Whether something has been written since.
    is_dirty: bool,
}

impl Appended {
    /// Opens the file, and makes it where it is not there.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: PathBuf, rotation: Option<Rotation>) -> io::Result<Self> {
        let open = Open::at(&path)?;
        Ok(Self {
            path,
            rotation,
            open: Some(open),
        })
    }

    /// What is written to now: another file where the last one has been moved away.
    fn current(&mut self) -> io::Result<&mut Open> {
        let is_kept = self.open.as_ref().is_some_and(|open| {
            open.is_dirty || is_same(&open.file, &self.path).unwrap_or_default()
        });
        if !is_kept {
            self.open = None;
        }
        let full = self.rotation.filter(|rotation| {
            let open = self.open.as_ref();
            open.is_some_and(|open| !open.is_dirty && open.whole >= rotation.bytes)
        });
        if let Some(Rotation { keep, .. }) = full {
            rotate(&self.path, keep)?;
            self.open = None;
        }
        match &mut self.open {
            Some(open) => Ok(open),
            none => Ok(none.insert(Open::at(&self.path)?)),
        }
    }
}

impl Write for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let open = self.current()?;
        open.is_dirty = true;
        let written = open.file.write(bytes);
        if written.is_err() {
            open.undo();
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if let Err(error) = open.file.sync_data() {
            // What of it is on the disk nobody knows: it is not read again from the page cache as if
            // it were.
            open.undo();
            self.open = None;
            return Err(error);
        }
        open.whole = open.file.metadata()?.len();
        open.is_dirty = false;
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).read(true).open(path)?;
        let mut whole = file.seek(SeekFrom::End(0))?;
        let mut last = [b'\n'];
        if whole > 0 {
            file.read_exact_at(&mut last, whole - 1)?;
        }
        // A line that a crash has cut off does not go on with the next one.
        if last != *b"\n" {
            file.write_all(b"\n")?;
            whole += 1;
        }
        // So that the file itself is there after a crash.
        if let Some(folder) = path.parent() {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            File::open(folder)?.sync_all()?;
        }
        Ok(Self {
            file,
            whole,
            is_dirty: false,
        })
    }

    /// Takes back what was written since the last sync; where that fails, too, the line that was cut
    /// off ends at least.
    fn undo(&mut self) {
        if self.file.set_len(self.whole).is_err() {
            let _ = self.file.write_all(b"\n");
        }
        self.is_dirty = false;
    }
}

/// Whether a path leads to an open file.
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let (own, there) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((own.dev(), own.ino()) == (there.dev(), there.ino()))
}

/// Moves a file to `<path>.1`, that one to `<path>.2`, and so on; the last one goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..keep).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, numbered(1))
}
