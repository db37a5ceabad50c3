//! Following a folder: what is known of it, what may have changed, what has.
//!
//! ```text
//! hints ──┐
//!         ├──▶ to look at ──▶ seen ──(the same after `settle`)──▶ changed ──▶ batch, known
//! listing ┘                    ▲ │ (not the same)
//!                              └─┘
//! ```
//!
//! Everything stands in the source itself, so that `next` may be dropped at any await; `known` changes only as a batch is handed over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use notify::Watcher;
use pointsman_schemas::{Cursor, Data, Event, EventBuilder, InvalidEvent};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::EVENT_TYPE_PREFIX;
use super::hints::{Hints, Kept};
use super::listing::{FILES_MAX, Key, Listing, Scope, Version};
use super::position::{decode, encode};
use crate::{Acknowledgement, Arrival, Batch, Message, Plain, Reject, Source, SourceContext, SourceError};

/// How many changes a batch holds at most.
pub const BATCH_MESSAGES_MAX: usize = 100;

/// Up to this size a cursor goes with every batch.
const CURSOR_SMALL_BYTES: usize = 64 * 1024;

/// How much larger ones may make the journal write.
const CURSOR_BYTES_PER_SECOND: usize = 1024 * 1024;

/// How large a cursor may be at all: the largest folder, with long names.
const CURSOR_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a folder is followed with.
pub(super) struct Setup {
    pub(super) context: SourceContext,
    pub(super) scope: Scope,
    pub(super) hints: Arc<Hints>,
    /// Kept so that hints come.
    pub(super) _watcher: Option<Box<dyn Watcher + Send>>,
    pub(super) settle: Duration,
    pub(super) reconcile: Duration,
    pub(super) fingerprint: u64,
    /// True where what lies there at the very first start is not to be told.
    pub(super) skip_existing: bool,
}

/// An open folder.
pub(super) struct Folder {
    setup: Setup,
    /// True once the cursor has been read.
    started: bool,
    /// What has been told.
    known: BTreeMap<Key, Version>,
    /// When to list next.
    list_at: Instant,
    /// The listing under way.
    listing: Option<JoinHandle<io::Result<Listing>>>,
    /// What was seen of files that may have changed (none: no file), and since when; each stands in `looks` once.
    seen: HashMap<Key, Option<(Option<Version>, Instant)>>,
    /// When to look at which.
    looks: BTreeSet<(Instant, Key)>,
    /// What has changed and settled, and is not yet told.
    changed: Vec<(Key, Option<Version>)>,
    /// True where `known` is not what the last cursor says.
    cursor_owed: bool,
    /// From when on the next cursor may go.
    cursor_at: Instant,
}

impl Folder {
    pub(super) fn new(setup: Setup) -> Self {
        let now = Instant::now();
        Self {
            setup,
            started: false,
            known: BTreeMap::new(),
            list_at: now,
            listing: None,
            seen: HashMap::new(),
            looks: BTreeSet::new(),
            changed: Vec::new(),
            cursor_owed: false,
            cursor_at: now,
        }
    }

    fn start(&mut self) -> Result<(), SourceError> {
        if let Some(cursor) = &self.setup.context.cursor {
            let mismatch = |what: &str| {
                let (name, root) = (&self.setup.context.name, self.setup.scope.root.display());
                SourceError::CursorMismatch(format!("the listing stored for {name} is {what}, not of {root}; give the source another name"))
            };
            if cursor.fingerprint != self.setup.fingerprint {
                return Err(mismatch("of another folder"));
            }
            self.known = decode(&cursor.position).ok_or_else(|| mismatch("damaged"))?;
            // Settings may have changed since: what is no longer looked at has not been deleted.
            self.known.retain(|key, _| self.setup.scope.covers(key));
        }
        // Only the very first start has nothing stored.
        self.setup.skip_existing &= self.setup.context.cursor.is_none();
        self.started = true;
        Ok(())
    }

    /// Puts a file on the list of those to look at.
    fn suspect(&mut self, key: Key, now: Instant) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.seen.entry(key) {
            self.looks.insert((now, entry.key().clone()));
            entry.insert(None);
        }
    }

    /// Lists the folder, where it is time for it.
    async fn list(&mut self) -> Result<(), SourceError> {
        if self.listing.is_none() && Instant::now() < self.list_at {
            return Ok(());
        }
        let scope = &self.setup.scope;
        let running = self.listing.get_or_insert_with(|| {
            let scope = scope.clone();
            tokio::task::spawn_blocking(move || scope.list())
        });
        let listed = running.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        self.listing = None;
        let listing = listed.map_err(|error| self.unavailable("list", &error))?;
        let now = Instant::now();
        self.list_at = now + self.setup.reconcile;
        if std::mem::take(&mut self.setup.skip_existing) {
            self.known = listing.files;
            self.cursor_owed = true;
            return Ok(());
        }
        let new = listing.files.iter().filter(|(key, version)| self.known.get(*key).is_none_or(|known| known.differs(**version)));
        let readable = |key: &&Key| !listing.unreadable.iter().any(|folder| key.starts_with(folder));
        let gone = self.known.keys().filter(|key| !listing.files.contains_key(*key)).filter(readable);
        let suspects: Vec<_> = new.map(|(key, _)| key.clone()).chain(gone.cloned()).collect();
        for key in suspects {
            self.suspect(key, now);
        }
        Ok(())
    }

    fn unavailable(&self, doing: &str, error: &io::Error) -> SourceError {
        SourceError::Unavailable(format!("cannot {doing} the folder {}: {error}", self.setup.scope.root.display()))
    }

    /// Takes the hints in.
    fn take_hints(&mut self) {
        let Kept { paths, list } = self.setup.hints.take();
        let now = Instant::now();
        if list {
            self.list_at = now;
        }
        for path in paths {
            if path == self.setup.scope.root {
                self.list_at = now;
            }
            if let Some(key) = self.setup.scope.key(&path) {
                self.suspect(key, now);
            }
        }
    }

    /// Looks at the files whose time has come, until a batch is full.
    async fn look(&mut self) {
        while self.changed.len() < BATCH_MESSAGES_MAX {
            let Some((at, key)) = self.looks.first().filter(|(at, _)| *at <= Instant::now()).cloned() else { break };
            let metadata = tokio::fs::symlink_metadata(self.setup.scope.path(&key)).await;
            // From here on there is no await: what was looked at is put where it belongs.
            let now = Instant::now();
            self.looks.remove(&(at, key.clone()));
            let version = match &metadata {
                Ok(metadata) => Version::of(metadata),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
                Err(error) => {
                    tracing::warn!(file = %self.setup.scope.path(&key).display(), %error, "cannot look at a file; it is taken to be unchanged");
                    self.seen.remove(&key);
                    continue;
                }
            };
            if version.is_none() && (metadata.is_ok_and(|metadata| metadata.is_dir()) || self.knows_under(&key)) {
                // A folder came, went, or took a file's place: what is in it came with no hint of its own.
                self.list_at = self.list_at.min(now + self.setup.settle);
            }
            match self.seen.get(&key).copied().flatten() {
                Some((before, since)) if before == version && now >= since + self.setup.settle => {
                    self.seen.remove(&key);
                    self.changed.push((key, version));
                }
                before => {
                    let same = before.filter(|(before, _)| *before == version);
                    let since = same.map_or(now, |(_, since)| since);
                    self.looks.insert((since + self.setup.settle, key.clone()));
                    self.seen.insert(key, Some((version, since)));
                }
            }
        }
    }

    /// True where a known file lies in this folder.
    fn knows_under(&self, folder: &[u8]) -> bool {
        let start = [folder, b"/"].concat();
        self.known.range(start.clone()..).next().is_some_and(|(key, _)| key.starts_with(&start))
    }

    /// Makes a batch of what has changed, and of the cursor; none where there is neither.
    fn batch(&mut self) -> Result<Option<Batch>, SourceError> {
        let mut messages = Vec::new();
        for (key, version) in std::mem::take(&mut self.changed) {
            let known = self.known.get(&key).copied();
            let (what, told) = match (known, version) {
                (None, Some(version)) => ("created", version),
                (Some(known), Some(version)) if known.differs(version) => ("updated", version),
                (Some(known), None) => ("deleted", known),
                _ => continue,
            };
            match version {
                Some(version) => drop(self.known.insert(key.clone(), version)),
                None => drop(self.known.remove(&key)),
            }
            self.cursor_owed = true;
            messages.push(self.message(&key, what, told));
        }
        if self.known.len() > FILES_MAX {
            let error = io::Error::other(format!("it holds more than {FILES_MAX} files; move those away that are done with"));
            return Err(self.unavailable("follow", &error));
        }
        let cursor = self.cursor()?;
        Ok((!messages.is_empty() || cursor.is_some()).then_some(Batch { messages, cursor }))
    }

    /// The cursor, where one is owed and its time has come.
    fn cursor(&mut self) -> Result<Option<Cursor>, SourceError> {
        let now = Instant::now();
        if !self.cursor_owed || now < self.cursor_at {
            return Ok(None);
        }
        let position = encode(&self.known);
        if position.len() > CURSOR_BYTES_MAX {
            let error = io::Error::other("the names in it are too many and too long to be remembered; move files away that are done with");
            return Err(self.unavailable("follow", &error));
        }
        if position.len() > CURSOR_SMALL_BYTES {
            self.cursor_at = now + Duration::from_millis((position.len() * 1_000 / CURSOR_BYTES_PER_SECOND) as u64);
        }
        self.cursor_owed = false;
        Ok(Some(Cursor { fingerprint: self.setup.fingerprint, position: position.into() }))
    }

    fn message(&self, key: &[u8], what: &str, version: Version) -> Message {
        let (arrivals, rejects) = match self.arrival(key, what, version) {
            Ok(arrival) => ([arrival].into_iter().collect(), Vec::new()),
            Err(error) => {
                let reason = format!("the file's name makes no event: {error}");
                (Default::default(), vec![Reject { raw: Bytes::copy_from_slice(key), reason }])
            }
        };
        Message { arrivals, rejects, acknowledgement: Acknowledgement::None }
    }

    fn arrival(&self, key: &[u8], what: &str, version: Version) -> Result<Arrival, InvalidEvent> {
        let name = &self.setup.context.name;
        let (subject, is_encoded) = readable(key);
        let time = |nanoseconds: i64| jiff::Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default().to_string();
        let path = readable_path(&self.setup.scope.path(key));
        let mut data = json!({ "key": subject, "path": path, "size": version.size, "modified": time(version.modified) });
        if let (true, Some(data)) = (is_encoded, data.as_object_mut()) {
            data.insert("encoded".into(), true.into());
        }
        let is_deleted = what == "deleted";
        let Version { modified, changed, size } = version;
        let suffix = if is_deleted { "-deleted" } else { "" };
        let id = format!("{subject}/{modified:x}-{changed:x}-{size:x}{suffix}");
        let happened = if is_deleted { self.setup.context.clock.now().to_string() } else { time(modified) };
        let defaults: EventBuilder = Event::builder(id, format!("/directories/{name}"), format!("{EVENT_TYPE_PREFIX}{what}"))
            .subject(subject)
            .time(happened)
            .datacontenttype("application/json")
            .data(Data::json(Bytes::from(data.to_string()))?);
        Ok(if self.setup.context.mapped {
            let root = json!({ "body": data, "headers": {} });
            Arrival::Plain(Box::new(Plain { root: Bytes::from(root.to_string()), defaults }))
        } else {
            Arrival::Event(Arc::new(defaults.build()?))
        })
    }
}

#[async_trait]
impl Source for Folder {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        if !self.started {
            self.start()?;
        }
        loop {
            self.take_hints();
            self.list().await?;
            self.look().await;
            if self.changed.iter().any(|(_, version)| version.is_none()) {
                // Where the folder itself is gone (a share that is no longer there), nothing says that its files were deleted.
                let scope = self.setup.scope.clone();
                let there = tokio::task::spawn_blocking(move || scope.check()).await.unwrap_or_else(|error| Err(io::Error::other(error)));
                there.map_err(|error| self.unavailable("find", &error))?;
            }
            if let Some(batch) = self.batch()? {
                return Ok(batch);
            }
            let cursor_at = self.cursor_owed.then_some(self.cursor_at);
            let look_at = self.looks.first().map(|(at, _)| *at);
            let wake = [Some(self.list_at), look_at, cursor_at].into_iter().flatten().min().unwrap_or(self.list_at);
            tokio::select! { () = self.setup.hints.wait() => {}, () = sleep_until(wake) => {} }
        }
    }
}

/// A name as text: as it is, or percent-encoded where an attribute could not hold it, and which of the two.
fn readable(name: &[u8]) -> (String, bool) {
    let is_plain = |c: char| !c.is_control() && !matches!(u32::from(c), 0xFDD0..=0xFDEF) && u32::from(c) & 0xFFFE != 0xFFFE;
    if let Ok(text) = std::str::from_utf8(name)
        && text.chars().all(is_plain)
    {
        return (text.to_owned(), false);
    }
    let encode = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_plain(c) && c != '%' {
                text.push(c);
            } else {
                text.push_str(&encode(c.encode_utf8(&mut [0; 4]).as_bytes()));
            }
        }
        text.push_str(&encode(chunk.invalid()));
    }
    (text, true)
}

fn readable_path(path: &Path) -> String {
    readable(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_are_where_they_can_be() {
        for (name, expect, encoded) in [
            (&b"a b/\xc3\xbc%.jpg"[..], "a b/ü%.jpg", false),
            (b"a\xff%b", "a%FF%25b", true),
            (b"a\nb", "a%0Ab", true),
            (b"\xef\xbf\xbe", "%EF%BF%BE", true),
        ] {
            assert_eq!(readable(name), (expect.to_owned(), encoded));
        }
    }
}
