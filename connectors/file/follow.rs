//! Following files: which there are, and what is new in each.
//!
//! ```text
//! every `every`   patterns ──▶ files ──(inode; or beginning)──▶ streams, new ones beside them
//! each round      streams, by turns ──▶ records ──▶ batch: a message and a row for each file
//! ```
//!
//! A round runs on a thread that may wait for the disk. Everything that it knows lies in [`Follow`],
//! which is handed to it and back, so that `next` may be dropped at any await.
//!
//! **A file is known** by its inode while the bus runs. After a start it is one with the inode and the
//! beginning that are stored, or, where that alone tells it from others, one with that beginning at the
//! stored path. One that no pattern leads to any more is read on from what is open, or is looked for in
//! its folder, and forgotten after a day.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use glob::Pattern;
use pointsman_schemas::{Clock, Data, Event, Name, PositionChange, Reject, json};
use regex::bytes::Regex;
use serde_json::{Value, json};

use super::position::{Number, Stored, cursor, gone, row_of_all};
use super::records::RECORD_BYTES_MAX;
use super::source::Format;
use super::stream::{Looked, Record, Stream, head};
use crate::readable::readable_path;
use crate::{Arrival, Batch, Message, Plain};

/// How many files a batch has lines of at most.
pub const BATCH_FILES_MAX: usize = 64;

/// How many records, and about how many bytes.
const BATCH_RECORDS_MAX: usize = 1_000;
const BATCH_BYTES: usize = 1024 * 1024;

/// For how long a file that has gone is known, should it come back.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How many files are kept open, those aside that have more to be read.
const OPEN_MAX: usize = 500;

/// What files are followed with.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) name: Name,
    pub(super) mapped: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) paths: Vec<Pattern>,
    pub(super) exclude: Vec<Pattern>,
    pub(super) starts: Option<Regex>,
    pub(super) format: Format,
    pub(super) every: Duration,
    /// Whether what is there at the very first start is taken for told.
    pub(super) skips_existing: bool,
}

/// Files by device and inode, each with a path that leads to it.
type Found = BTreeMap<(u64, u64), (PathBuf, Metadata)>;

/// Files that are followed.
#[derive(Debug)]
pub(super) struct Follow {
    setup: Setup,
    streams: BTreeMap<Number, Stream>,
    /// The number of the next new file.
    next: Number,
    /// Rows that are to be deleted.
    gone: Vec<Number>,
    /// Rows of files of which nothing is to be told.
    owed: Vec<Number>,
    /// The row of all files does not say what it should.
    is_all_owed: bool,
    /// Whether this is the very first look.
    is_first: bool,
    /// Whose turn was last.
    turn: Number,
    look_at: Instant,
    /// What could not be read, and has been told of.
    unreadable: HashSet<PathBuf>,
}

impl Follow {
    pub(super) fn begin(setup: Setup, stored: Stored) -> Self {
        let now = Instant::now();
        let streams = stored.files.into_iter();
        let streams = streams.map(|(number, known)| (number, Stream::stored(known, now)));
        Self {
            streams: streams.collect(),
            next: stored.next,
            gone: Vec::new(),
            owed: Vec::new(),
            is_all_owed: false,
            is_first: !stored.is_there,
            turn: 0,
            look_at: now,
            unreadable: HashSet::new(),
            setup,
        }
    }

    /// What is new; none where nothing is.
    pub(super) fn round(&mut self) -> Option<Batch> {
        let now = Instant::now();
        if now >= self.look_at {
            self.look(now);
            self.look_at = now + self.setup.every;
        }
        let mut messages = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let (before, behind) = (
            self.streams.range(..=self.turn),
            self.streams.range(self.turn + 1..),
        );
        let turns: Vec<Number> = behind.chain(before).map(|(number, _)| *number).collect();
        for number in turns {
            if messages.len() == BATCH_FILES_MAX
                || records >= BATCH_RECORDS_MAX
                || bytes >= BATCH_BYTES
            {
                break;
            }
            self.turn = number;
            if let Some((message, own)) = self.read(number, BATCH_RECORDS_MAX - records, now) {
                records += message.arrivals.len() + message.rejects.len();
                bytes += own;
                messages.push(message);
            }
        }
        self.close_some();
        let rows = self.rows_owed();
        match messages.first_mut() {
            Some(message) => message.positions.extend(rows),
            None if rows.is_empty() => return None,
            None => messages.push(Message::position(rows)),
        }
        Some(Batch {
            messages,
            cursor: Some(cursor()),
        })
    }

    /// Reads on in one of the files; its message, and how many bytes it has.
    fn read(&mut self, number: Number, many: usize, now: Instant) -> Option<(Message, usize)> {
        let stream = self.streams.get_mut(&number)?;
        let read = match stream.read(self.setup.starts.as_ref(), many, now) {
            Ok(Looked::Read(read)) => read,
            Ok(Looked::Anew(new)) => {
                tracing::info!(
                    source = %self.setup.name, file = %new.known.path,
                    "a file was truncated or replaced; it is read from its beginning"
                );
                self.streams.remove(&number);
                self.gone.push(number);
                self.begin_with(new);
                // It is read in the next round, which comes at once: there are rows to be stored.
                return None;
            }
            Err(error) => {
                let path = stream.path().to_owned();
                self.tell_unreadable(path, &error);
                return None;
            }
        };
        if !read.has_moved {
            return None;
        }
        let (stream, setup) = (self.streams.get(&number)?, &self.setup);
        let mut message = Message::position(vec![stream.known.row(number)]);
        let mut bytes = 0;
        for record in read.records {
            bytes += record.text.len();
            match setup.arrival(stream, number, record) {
                Ok(arrival) => message.arrivals.push(arrival),
                Err(reject) => message.rejects.push(reject),
            }
        }
        Some((message, bytes))
    }

    fn begin_with(&mut self, stream: Stream) -> Number {
        let number = self.next;
        self.next += 1;
        self.is_all_owed = true;
        self.streams.insert(number, stream);
        number
    }

    fn rows_owed(&mut self) -> Vec<PositionChange> {
        let mut rows: Vec<_> = self.gone.drain(..).map(gone).collect();
        for number in self.owed.drain(..) {
            let stream = self.streams.get(&number);
            rows.extend(stream.map(|stream| stream.known.row(number)));
        }
        if std::mem::take(&mut self.is_all_owed) {
            rows.push(row_of_all(self.next));
        }
        rows
    }

    /// Looks which files there are.
    fn look(&mut self, now: Instant) {
        let (found, is_whole) = self.find();
        let is_first = std::mem::take(&mut self.is_first);
        let skips = is_first && self.setup.skips_existing;
        // That nothing is there yet is to be known at the next start.
        self.is_all_owed |= skips;
        let mut there = HashSet::new();
        let mut new = Vec::new();
        let known: HashMap<_, _> = self.known();
        for (identity, (path, metadata)) in &found {
            let number = known.get(identity).copied();
            match number.or_else(|| self.recognised(path, metadata, &there)) {
                Some(number) => {
                    there.insert(number);
                    if let Some(stream) = self.streams.get_mut(&number) {
                        stream.found(path, metadata);
                        stream.gone = None;
                    }
                }
                None => new.push((path, metadata)),
            }
        }
        for (path, metadata) in new {
            let mut stream = Stream::new(path, metadata, now);
            if skips && let Err(error) = stream.skip() {
                self.tell_unreadable(path.clone(), &error);
            }
            let number = self.begin_with(stream);
            there.insert(number);
            if skips {
                self.owed.push(number);
            }
        }
        self.look_for_others(&there, is_whole, now);
    }

    /// The files that the patterns lead to, and whether nothing kept that from being all.
    fn find(&mut self) -> (Found, bool) {
        let (mut found, mut is_whole) = (BTreeMap::new(), true);
        let mut unreadable = Vec::new();
        for pattern in &self.setup.paths {
            // It has been read before.
            let Ok(paths) = glob::glob(pattern.as_str()) else {
                continue;
            };
            for path in paths {
                let looked = path
                    .map_err(|error| (error.path().to_owned(), error.into()))
                    .and_then(|path| match std::fs::metadata(&path) {
                        Ok(metadata) => Ok((path, metadata)),
                        Err(error) => Err((path, error)),
                    });
                match looked {
                    Ok((path, metadata)) if metadata.is_file() && !self.setup.leaves_out(&path) => {
                        let identity = (metadata.dev(), metadata.ino());
                        found.entry(identity).or_insert((path, metadata));
                    }
                    Ok(_) => {}
                    // It went just now, or is a link to nothing.
                    Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                    Err((path, error)) => {
                        is_whole = false;
                        unreadable.push((path, error));
                    }
                }
            }
        }
        if is_whole {
            self.unreadable.clear();
        }
        for (path, error) in unreadable {
            self.tell_unreadable(path, &error);
        }
        (found, is_whole)
    }

    /// Those that have been found since the start, by device and inode.
    fn known(&self) -> HashMap<(u64, u64), Number> {
        let found = self.streams.iter().filter(|(_, stream)| stream.is_found);
        let known = found.map(|(number, stream)| {
            let known = &stream.known;
            ((known.device, known.inode), *number)
        });
        known.collect()
    }

    /// Which of the stored files this is, of those that have not been found yet.
    fn recognised(
        &self,
        path: &Path,
        metadata: &Metadata,
        there: &HashSet<Number>,
    ) -> Option<Number> {
        let written = readable_path(path);
        let is_like = |stream: &Stream| {
            let known = &stream.known;
            known.inode == metadata.ino() || known.is_distinct() && known.path == written
        };
        let is_free = |number, stream: &Stream| !stream.is_found && !there.contains(number);
        let mut likely: Vec<_> = (self.streams.iter())
            .filter(|(number, stream)| is_free(number, stream) && is_like(stream))
            .collect();
        if likely.is_empty() {
            return None;
        }
        let head = File::open(path).and_then(|file| head(&file)).ok()?;
        likely.sort_by_key(|(_, stream)| stream.known.inode != metadata.ino());
        let mut same = likely.into_iter().filter(|(_, stream)| {
            metadata.len() >= stream.known.offset && stream.known.begins(&head)
        });
        same.next().map(|(number, _)| *number)
    }

    /// Looks for those that no pattern leads to, and forgets what has been gone for long.
    fn look_for_others(&mut self, there: &HashSet<Number>, is_whole: bool, now: Instant) {
        let mut forgotten = Vec::new();
        for (number, stream) in &mut self.streams {
            if there.contains(number) {
                continue;
            }
            let gone = *stream.gone.get_or_insert(now);
            if !is_whole {
                continue;
            }
            if now - gone.max(stream.stirred) >= FORGOTTEN_AFTER {
                forgotten.push(*number);
            } else if !stream.is_open()
                && !stream.is_over(now)
                && let Some((path, metadata)) = moved(stream)
            {
                stream.found(&path, &metadata);
            }
        }
        for number in forgotten {
            self.streams.remove(&number);
            self.gone.push(number);
        }
    }

    /// Closes files in which nothing happens, where too many are open.
    fn close_some(&mut self) {
        let mut open: Vec<_> = self
            .streams
            .values_mut()
            .filter(|one| one.is_open())
            .collect();
        let Some(many) = open.len().checked_sub(OPEN_MAX) else {
            return;
        };
        open.sort_by_key(|stream| stream.stirred);
        open.into_iter().take(many).for_each(Stream::close);
    }

    fn tell_unreadable(&mut self, path: PathBuf, error: &io::Error) {
        if !self.unreadable.contains(&path) {
            tracing::warn!(
                source = %self.setup.name, file = %readable_path(&path), %error,
                "cannot read a file; it is tried again, and what else there is is told"
            );
            self.unreadable.insert(path);
        }
    }
}

/// Where a file is now that was somewhere else in its folder.
fn moved(stream: &Stream) -> Option<(PathBuf, Metadata)> {
    let entries = std::fs::read_dir(stream.path().parent()?).ok()?;
    let metadata = |entry: std::fs::DirEntry| {
        use std::os::unix::fs::DirEntryExt;
        (entry.ino() == stream.known.inode).then(|| (entry.path(), entry.metadata().ok()))
    };
    let mut same = entries.filter_map(Result::ok).filter_map(metadata);
    same.find_map(|(path, metadata)| {
        let metadata = metadata.filter(Metadata::is_file)?;
        let head = File::open(&path).and_then(|file| head(&file)).ok()?;
        let is_same = metadata.len() >= stream.known.offset && stream.known.begins(&head);
        is_same.then_some((path, metadata))
    })
}

impl Setup {
    fn leaves_out(&self, path: &Path) -> bool {
        let name = path.file_name().map(Path::new);
        let matches = |pattern: &Pattern| {
            pattern.matches_path(path) || name.is_some_and(|name| pattern.matches_path(name))
        };
        self.exclude.iter().any(matches)
    }

    fn arrival(&self, stream: &Stream, number: Number, record: Record) -> Result<Arrival, Reject> {
        let Record {
            offset,
            text,
            is_too_long,
        } = record;
        if is_too_long {
            let reason =
                format!("the record is longer than {RECORD_BYTES_MAX} bytes: its beginning");
            return Err(Reject { raw: text, reason });
        }
        let known = &stream.known;
        let rejected = |reason: String| Reject {
            raw: text.clone(),
            reason: format!("{}, byte {offset}: {reason}", known.path),
        };
        let data = match self.format {
            Format::Cloudevents => {
                let event = json::decode(&text).map_err(|error| rejected(error.to_string()))?;
                return Ok(Arrival::Event(Arc::new(event)));
            }
            Format::Json => {
                Data::json(text.clone()).map_err(|error| rejected(format!("no JSON: {error}")))?
            }
            Format::Text => {
                let mut data = json!({ "path": known.path, "offset": offset });
                let (key, message) = match std::str::from_utf8(&text) {
                    Ok(line) => ("message", Value::from(line)),
                    Err(_) => ("message_base64", STANDARD.encode(&text).into()),
                };
                if let Some(data) = data.as_object_mut() {
                    data.insert(key.to_owned(), message);
                }
                let data = Data::json(Bytes::from(data.to_string()));
                data.map_err(|error| rejected(error.to_string()))?
            }
        };
        let id = format!("{:x}-{number:x}-{offset:x}", known.inode);
        let source = format!("/files/{}", self.name);
        let defaults = Event::builder(id, source, "com.pointsman.file.line")
            .subject(known.path.clone())
            .time(self.clock.now().to_string())
            .datacontenttype("application/json")
            .data(data);
        let fields = || {
            Plain::fields([
                ("headers", json!({})),
                ("path", known.path.clone().into()),
                ("offset", offset.into()),
            ])
        };
        Arrival::made(defaults, self.mapped.then(fields))
            .map_err(|error| rejected(error.to_string()))
    }
}
