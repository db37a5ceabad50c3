//! The files of a store read without SQLite: for when SQLite will not, and to know a read that
//! failed from bytes that are wrong.
//!
//! Nothing here writes to the database. Every error is one of reading; what the bytes say is never
//! an error here.

pub(super) mod cells;
pub(super) mod log;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use self::cells::Row;
use self::log::Log;
use super::schema::{self, PAGE_BYTES};
use super::tables::table_of;

/// A page's size in memory.
const PAGE: usize = PAGE_BYTES as usize;

/// SQLite never uses the page that this byte lies in.
const LOCK_BYTE: u64 = 0x4000_0000;

/// Pages that one page of the pointer map describes: five bytes each.
const PAGES_PER_MAP: u32 = PAGE as u32 / 5;

/// What the pointer map says of a page that nothing uses.
const FREE: u8 = 2;
/// What it says of pages with rows: the first of its tree, and others.
const WITH_ROWS: [u8; 2] = [1, 5];

/// Fields of the header on page 1 that are the same in every store: their place and their bytes
/// (<https://www.sqlite.org/fileformat2.html>, section 1.3).
const FIXED: [(usize, &[u8]); 6] = [
    (0, b"SQLite format 3\0"),
    // Pages of 8 KiB, a write-ahead log for writers and for readers, no reserved bytes, and the
    // payload fractions.
    (16, &[0x20, 0x00, 2, 2, 0, 64, 32, 32]),
    // The schema's format is 4.
    (44, &[0, 0, 0, 4]),
    // Texts are UTF-8.
    (56, &[0, 0, 0, 1]),
    // Space is given back step by step.
    (64, &[0, 0, 0, 1]),
    (72, &[0; 20]),
];

/// The database's file, opened beside SQLite and never closed while a connection to it may be open.
///
/// As soon as a process closes any descriptor of a file, the operating system drops all locks that
/// the process has on that file (fcntl(2), record locks), those of SQLite's connections too, and
/// SQLite does not notice. Whoever closes the store in another process then believes to be the last
/// who uses it, and removes the write-ahead log under this one.
#[derive(Debug, Default)]
pub(super) struct DatabaseFile(Mutex<Option<Arc<File>>>);

impl DatabaseFile {
    /// The file that is there now; none where there is none. One that a salvage has replaced is let
    /// go of: what is locked there concerns nobody.
    pub(super) fn open(&self, directory: &Path) -> io::Result<Option<Arc<File>>> {
        let path = schema::database(directory);
        let mut kept = self.0.lock();
        let number = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let is_same = match (&*kept, path.metadata()) {
            (Some(file), Ok(there)) => number(file.metadata()?) == number(there),
            _ => false,
        };
        if !is_same {
            // For writing as well: room is taken for it, though nothing but SQLite writes into it.
            *kept = existing(OpenOptions::new().read(true).write(true), &path)?.map(Arc::new);
        }
        Ok(kept.clone())
    }
}

/// The pages of a database with its write-ahead log laid over them.
pub(super) struct Image {
    database: Option<Arc<File>>,
    length: u64,
    log: Option<(File, Log)>,
    /// Where in the log the last version of a page is.
    frames: HashMap<u32, usize>,
    pages: u32,
}

impl Image {
    /// Opens the files of a store; one that is not there has no pages.
    pub(super) fn open(directory: &Path, database: &DatabaseFile) -> io::Result<Self> {
        let database = database.open(directory)?;
        let length = database
            .as_ref()
            .map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.len()))?;
        let log = match existing(OpenOptions::new().read(true), &schema::log(directory))? {
            Some(file) => {
                Log::read(&file, database.as_deref(), &sound_rows)?.map(|log| (file, log))
            }
            None => None,
        };
        let frames: HashMap<u32, usize> = log
            .iter()
            .flat_map(|(_, log)| log.frames().iter().enumerate())
            .map(|(at, frame)| (frame.page, at))
            .collect();
        let in_database = u32::try_from(length.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX);
        let pages = match &log {
            // Pages behind the size that the last commit gave are none.
            Some((_, log)) if log.pages() > 0 => log.pages(),
            _ => in_database,
        };
        Ok(Self {
            database,
            length,
            log,
            frames,
            pages,
        })
    }

    pub(super) fn log(&self) -> Option<&Log> {
        self.log.as_ref().map(|(_, log)| log)
    }

    /// How many pages there are, as far as the files say.
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// Reads a page; none where the files end before it. Of one that they end within the rest is
    /// zero.
    pub(super) fn page(&self, number: u32) -> io::Result<Option<Vec<u8>>> {
        if let (Some((file, log)), Some(at)) = (&self.log, self.frames.get(&number)) {
            return log.content(file, *at).map(Some);
        }
        let Some(offset) = u64::from(number)
            .checked_sub(1)
            .map(|before| before * PAGE_BYTES)
        else {
            return Ok(None);
        };
        let there = self.length.saturating_sub(offset).min(PAGE_BYTES);
        let (Some(file), true) = (&self.database, there > 0) else {
            return Ok(None);
        };
        let mut bytes = vec![0; PAGE];
        let part = bytes
            .get_mut(..usize::try_from(there).unwrap_or(PAGE))
            .unwrap_or_default();
        // The file was longer when it was opened: what ends earlier now is a failed read.
        file.read_exact_at(part, offset)?;
        Ok(Some(bytes))
    }

    /// The rows on a page; none of one that nothing uses, or that holds the rest of a long row.
    pub(super) fn rows(&self, number: u32, map: &mut PointerMap) -> io::Result<Vec<Row>> {
        let map_page = map_page_of(number);
        if map.number != map_page {
            *map = PointerMap {
                number: map_page,
                bytes: self.page(map_page)?.unwrap_or_default(),
            };
        }
        if number < 2 || number == map_page || is_lock(number) {
            return Ok(Vec::new());
        }
        let says = map.bytes.get((number - map_page - 1) as usize * 5);
        // What an event holds must not pass for rows: a page with the rest of one begins with the
        // number of the next, and that with a zero.
        let is_tried = |page: &Vec<u8>| {
            cells::has_rows(page) || says.is_some_and(|says| WITH_ROWS.contains(says))
        };
        match self.page(number)?.filter(is_tried) {
            Some(page) if says != Some(&FREE) => cells::rows(self, &page),
            _ => Ok(Vec::new()),
        }
    }

    /// Reads every page once, and thereby tells whether everything can be read now.
    pub(super) fn read_all(&self) -> io::Result<()> {
        (1..=self.pages).try_for_each(|number| self.page(number).map(drop))
    }

    /// What of the header and the files' lengths cannot be right; none where all may be.
    pub(super) fn wrong(&self) -> io::Result<Option<String>> {
        let Some(first) = self
            .page(1)?
            .filter(|_| self.length >= PAGE_BYTES || self.frames.contains_key(&1))
        else {
            return Ok(Some("its first page is not there".to_owned()));
        };
        for (at, expected) in FIXED {
            if first.get(at..at + expected.len()) != Some(expected) {
                return Ok(Some(format!("byte {at} of its header is wrong")));
            }
        }
        let pages = match self.log().map_or(0, Log::pages) {
            0 => first
                .get(28..32)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u32::from_be_bytes),
            pages => pages,
        };
        let whole = u32::try_from(self.length / PAGE_BYTES).unwrap_or(u32::MAX);
        let missing = (whole.saturating_add(1)..=pages)
            .filter(|page| !self.frames.contains_key(page) && !is_lock(*page))
            .take(PAGE)
            .count();
        Ok((missing > 0)
            .then(|| format!("it ends after {} bytes, and pages are missing", self.length)))
    }
}

/// How many rows of a page pass their checks, of those that lie on it whole.
fn sound_rows(page: &[u8]) -> usize {
    let nowhere = Image {
        database: None,
        length: 0,
        log: None,
        frames: HashMap::new(),
        pages: 0,
    };
    let rows = if cells::has_rows(page) {
        cells::rows(&nowhere, page).unwrap_or_default()
    } else {
        Vec::new()
    };
    rows.iter()
        .filter(|row| table_of(row.number, &row.values).is_some_and(|(_, is_sound)| is_sound))
        .count()
}

/// The page of the pointer map that was looked at last.
#[derive(Default)]
pub(super) struct PointerMap {
    number: u32,
    bytes: Vec<u8>,
}

/// Whether a page is never used, as SQLite locks the file by one of its bytes.
fn is_lock(number: u32) -> bool {
    u64::from(number) == LOCK_BYTE / PAGE_BYTES + 1
}

/// The page of the pointer map that describes a page.
fn map_page_of(number: u32) -> u32 {
    let page = number.saturating_sub(2) / (PAGES_PER_MAP + 1) * (PAGES_PER_MAP + 1) + 2;
    if is_lock(page) { page + 1 } else { page }
}

fn existing(how: &OpenOptions, path: &Path) -> io::Result<Option<File>> {
    match how.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
