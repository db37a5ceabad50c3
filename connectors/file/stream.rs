//! One file that is followed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use regex::bytes::Regex;

use super::position::{HEAD_BYTES, Known};
use super::records::{Behind, RECORD_BYTES_MAX, records};
use crate::readable::readable_path;

/// How much is read at once: more than the longest record.
const READ_BYTES: usize = 2 * RECORD_BYTES_MAX;

/// After how long without anything new a record of several lines is whole.
const PAUSE: Duration = Duration::from_secs(1);

/// For how long something may come to a file that no pattern leads to any more, since it came last:
/// whoever writes may have been told of a rotation late.
const LINGERS: Duration = Duration::from_secs(300);

/// A record as it was read.
#[derive(Debug)]
pub(super) struct Record {
    /// Where it begins.
    pub(super) offset: u64,
    /// Of one that is too long the beginning.
    pub(super) text: Bytes,
    pub(super) is_too_long: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) records: Vec<Record>,
    /// Whether its row has changed.
    pub(super) has_moved: bool,
}

/// What a look at a file comes to.
#[derive(Debug)]
pub(super) enum Looked {
    Read(Read),
    /// It has been truncated, or another one lies in its place: what is there now is to be read from
    /// the beginning.
    Anew(Stream),
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) known: Known,
    /// Where it is now.
    path: PathBuf,
    handle: Option<File>,
    /// Since when no pattern leads to it.
    pub(super) gone: Option<Instant>,
    /// Whether it has been found since the start.
    pub(super) is_found: bool,
    /// Size and time of writing, as they were seen last.
    seen: Option<(u64, i64, i64)>,
    /// When something new was seen last.
    pub(super) stirred: Instant,
    /// Whether there is nothing behind what was read.
    is_at_end: bool,
}

impl Stream {
    /// A file of which something is stored, and which is yet to be found.
    pub(super) fn stored(known: Known, now: Instant) -> Self {
        Self {
            path: PathBuf::from(&known.path),
            known,
            handle: None,
            gone: Some(now),
            is_found: false,
            seen: None,
            stirred: now,
            is_at_end: false,
        }
    }

    /// A file that was found.
    pub(super) fn new(path: &Path, metadata: &Metadata, now: Instant) -> Self {
        let identity = (metadata.dev(), metadata.ino());
        Self {
            known: Known::new(readable_path(path), identity),
            path: path.to_owned(),
            handle: None,
            gone: None,
            is_found: true,
            seen: None,
            stirred: now,
            is_at_end: false,
        }
    }

    /// Takes all that is there for told.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn skip(&mut self) -> io::Result<()> {
        let file = File::open(&self.path)?;
        let size = file.metadata()?.len();
        self.known.told(size, &head(&file)?);
        Ok(())
    }

    /// A pattern, or a look for it, leads to it here.
    pub(super) fn found(&mut self, path: &Path, metadata: &Metadata) {
        if self.path != path {
            self.path = path.to_owned();
        }
        self.is_found = true;
        (self.known.device, self.known.inode) = (metadata.dev(), metadata.ino());
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_open(&self) -> bool {
        self.handle.is_some()
    }

    /// Closes it until something comes, where nothing is left to be read.
    pub(super) fn close(&mut self) {
        if self.is_at_end && self.gone.is_none() {
            self.handle = None;
        }
    }

    /// Whether nobody can write to it any more without being found, and all of it is told.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.gone
            .is_some_and(|gone| now - gone.max(self.stirred) >= LINGERS)
    }

    /// Reads on: so many records at most.
    ///
    /// # Errors
    /// It cannot be read now.
    pub(super) fn read(
        &mut self,
        starts: Option<&Regex>,
        many: usize,
        now: Instant,
    ) -> io::Result<Looked> {
        let nothing = Ok(Looked::Read(Read::default()));
        if self.handle.is_none() && !self.open()? {
            return nothing;
        }
        let Some(file) = &self.handle else {
            return nothing;
        };
        let metadata = file.metadata()?;
        let seen = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        let (is_over, is_paused) = (self.is_over(now), now - self.stirred >= PAUSE);
        if self.seen == Some(seen) && self.is_at_end && !is_over && !(is_paused && starts.is_some())
        {
            return nothing;
        }
        if self.seen != Some(seen) {
            (self.seen, self.stirred) = (Some(seen), now);
        }
        let head = head(file)?;
        if metadata.len() < self.known.offset || !self.known.begins(&head) {
            return Ok(Looked::Anew(self.anew(&metadata, now)));
        }
        let text = read_at(file, self.known.offset, READ_BYTES)?;
        let ends = self.known.offset + text.len() as u64;
        self.is_at_end = ends >= metadata.len();
        let behind = match self.is_at_end {
            true if is_over => Behind::Nothing,
            true if is_paused => Behind::Pause,
            _ => Behind::More,
        };
        let read = self.take(&text, &head, starts, behind, many);
        if is_over && self.is_at_end && self.known.offset == ends {
            self.handle = None;
        }
        Ok(Looked::Read(read))
    }

    /// Takes the records out of what was read.
    fn take(
        &mut self,
        text: &[u8],
        head: &[u8],
        starts: Option<&Regex>,
        behind: Behind,
        many: usize,
    ) -> Read {
        let (before, skipped) = (self.known.offset, self.known.skips);
        let from = match (skipped, text.iter().position(|byte| *byte == b'\n')) {
            (false, _) => 0,
            (true, Some(end)) => end + 1,
            (true, None) => text.len(),
        };
        self.known.skips = skipped && from == text.len() && text.last() != Some(&b'\n');
        let rest = text.get(from..).unwrap_or_default();
        let found = records(rest, starts, behind, many);
        let at = before + from as u64;
        let mut read = Read::default();
        for record in found.all {
            let offset = at + record.start as u64;
            let text = rest.get(record).unwrap_or_default();
            read.records.push(Record::of(offset, text));
        }
        let mut end = found.end;
        if end == 0 && rest.len() > RECORD_BYTES_MAX {
            // Its end is not in sight.
            read.records.push(Record::of(at, rest));
            end = rest.len();
            self.known.skips = rest.last() != Some(&b'\n');
        }
        let offset = at + end as u64;
        read.has_moved = offset != before || self.known.skips != skipped;
        // What was left for the next look is not the end.
        self.is_at_end &= read.records.len() < many;
        self.known.path = readable_path(&self.path);
        self.known.told(offset, head);
        read
    }

    /// The same file, or what lies in its place, from the beginning.
    fn anew(&mut self, metadata: &Metadata, now: Instant) -> Self {
        Self {
            handle: self.handle.take(),
            gone: self.gone,
            ..Self::new(&self.path, metadata, now)
        }
    }

    /// Opens it, if it is still there.
    fn open(&mut self) -> io::Result<bool> {
        if self.gone.is_some() && !self.is_found {
            return Ok(false);
        }
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let seen = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        if self.is_at_end && self.seen == Some(seen) || metadata.ino() != self.known.inode {
            return Ok(false);
        }
        let file = File::open(&self.path)?;
        // Another one may lie there since.
        if file.metadata()?.ino() != self.known.inode {
            return Ok(false);
        }
        self.handle = Some(file);
        Ok(true)
    }
}

impl Record {
    fn of(offset: u64, text: &[u8]) -> Self {
        let kept = text.get(..RECORD_BYTES_MAX).unwrap_or(text);
        Self {
            offset,
            text: Bytes::copy_from_slice(kept),
            is_too_long: kept.len() < text.len(),
        }
    }
}

/// What a file begins with.
pub(super) fn head(file: &File) -> io::Result<Vec<u8>> {
    read_at(file, 0, HEAD_BYTES)
}

/// So many bytes from a place on, or fewer where the file ends.
fn read_at(file: &File, offset: u64, count: usize) -> io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(offset);
    let count = usize::try_from(left).map_or(count, |left| left.min(count));
    let (mut bytes, mut read) = (vec![0; count], 0);
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}
