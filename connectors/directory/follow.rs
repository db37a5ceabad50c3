//! Following a folder: what is known of it, what may have changed, what has.
//!
//! ```text
//! hints ──┐
//!         ├──▶ to look at ──▶ seen ──(the same after `settle`)──▶ changed ──▶ batch, known
//! listing ┘                    ▲ │ (not the same)
//!                              └─┘
//! ```
//!
//! Everything stands in the source itself, so that `next` may be dropped at any await; the position
//! changes only as a batch is handed over.
//!
//! **Position.** Each change goes with the row of its file, so that either both are stored or
//! neither is. Where rows change without an event (a file's mode, the mount points), they go along
//! with the next batch. Every batch has a cursor, for which the bus stores one after the other.
//!
//! **Identity.** An event's id names the key, its version and its generation, which the row keeps.
//! So that a change has the same id when it is told again after a crash, its generation follows
//! from the batches before, and from nothing else: of one key at most one change goes with a batch,
//! and a second one waits for the next.

mod batch;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::hints::{Hints, Kept, Watches};
use super::listing::{Key, Listing, Mounts, Scope, Version};
use super::mounts;
use super::position::{Known, Position, Stored};
use crate::readable::readable_path;
use crate::rows::Form;
use crate::{Batch, Source, SourceContext, SourceError};

/// How many changes a batch holds at most.
pub const BATCH_MESSAGES_MAX: usize = 100;

/// How many rows go with a batch at most beside those of its changes.
pub(super) const BATCH_ROWS_MAX: usize = 1_000;

/// What a folder is followed with.
pub(super) struct Setup {
    pub(super) context: SourceContext,
    pub(super) scope: Scope,
    /// What is stored; none where it is damaged.
    pub(super) stored: Option<Stored>,
    pub(super) hints: Arc<Hints>,
    /// None where nothing can be watched.
    pub(super) watches: Option<Arc<Mutex<Watches>>>,
    pub(super) settle: Duration,
    pub(super) reconcile: Duration,
    pub(super) fingerprint: u64,
    /// True where what lies there at the very first start is not to be told.
    pub(super) skip_existing: bool,
    /// True where nothing is told of files whose mount point has another file system on it, or
    /// none.
    pub(super) holds: bool,
}

/// An open folder.
pub(super) struct Folder {
    setup: Setup,
    /// True once what is stored has been looked at.
    started: bool,
    /// What has been told; its generation is that of the batches handed over.
    position: Position,
    /// The generation from the next batch on.
    generation: u64,
    /// True where the row of the folder does not say what is known.
    folder_owed: bool,
    /// Files whose rows do not say what is known, though nothing is to be told of them.
    owed: BTreeSet<Key>,
    /// From which file on rows have to be written, where none are stored yet. Until they are,
    /// nothing is told.
    unwritten: Option<Bound<Key>>,
    /// When to list next.
    list_at: Instant,
    /// The listing under way.
    listing: Option<JoinHandle<io::Result<Listed>>>,
    /// The beginnings of keys about which the last listing could say nothing; the log has been
    /// told.
    unreadable: HashSet<Key>,
    /// What the last look at files that may have changed has shown: none yet, no file, or a
    /// version. Each stands in `looks` once.
    seen: HashMap<Key, Option<Option<Version>>>,
    /// When to look at which.
    looks: BTreeSet<(Instant, Key)>,
    /// What has changed and settled, and is not yet told.
    changed: Vec<(Key, Option<Version>)>,
}

/// A listing, and whether the watches have to be set once more.
struct Listed {
    listing: Listing,
    rewatch: bool,
}

impl Folder {
    pub(super) fn new(setup: Setup) -> Self {
        let now = Instant::now();
        Self {
            setup,
            started: false,
            position: Position::default(),
            generation: 0,
            folder_owed: false,
            owed: BTreeSet::new(),
            unwritten: None,
            list_at: now,
            listing: None,
            unreadable: HashSet::new(),
            seen: HashMap::new(),
            looks: BTreeSet::new(),
            changed: Vec::new(),
        }
    }

    fn start(&mut self) -> Result<(), SourceError> {
        let mismatch = |what: &str| {
            let (name, root) = (&self.setup.context.name, self.setup.scope.root.display());
            SourceError::CursorMismatch(format!(
                "the listing stored for {name} is {what}, not of {root}; give the source another \
                 name"
            ))
        };
        if let Some(cursor) = &self.setup.context.cursor
            && cursor.fingerprint != self.setup.fingerprint
        {
            return Err(mismatch("of another folder"));
        }
        let stored = self.setup.stored.take();
        let Stored {
            position,
            form,
            stale,
        } = stored.ok_or_else(|| mismatch("damaged"))?;
        self.generation = position.generation;
        self.position = position;
        self.owed.extend(stale);
        // Only the very first start has nothing stored.
        self.setup.skip_existing &= form == Form::Nothing;
        self.unwritten = (form == Form::Cursor).then_some(Bound::Unbounded);
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
        let (scope, watches) = (&self.setup.scope, &self.setup.watches);
        let running = self.listing.get_or_insert_with(|| {
            let (scope, watches) = (scope.clone(), watches.clone());
            tokio::task::spawn_blocking(move || list(&scope, watches.as_deref()))
        });
        let listed = running
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.listing = None;
        let Listed { listing, rewatch } =
            listed.map_err(|error| self.unavailable("list", &error))?;
        let now = Instant::now();
        self.list_at = now
            + if rewatch {
                self.setup.reconcile.min(self.setup.settle)
            } else {
                self.setup.reconcile
            };
        self.compare(listing, now);
        Ok(())
    }

    /// Puts what a listing shows and is not known, or not so, on the list of files to look at.
    fn compare(&mut self, mut listing: Listing, now: Instant) {
        let skips = std::mem::take(&mut self.setup.skip_existing);
        if self.setup.holds {
            mounts::hold(&self.position, &mut listing);
        }
        self.tell_unreadable(&listing);
        if self.position.mounts != listing.mounts {
            self.position.mounts = std::mem::take(&mut listing.mounts);
            self.folder_owed = true;
        }
        if skips {
            let known = |version| Known {
                version,
                generation: self.position.generation,
            };
            let files = listing
                .files
                .into_iter()
                .map(|(key, version)| (key, known(version)))
                .collect();
            let before = std::mem::replace(&mut self.position.files, files);
            // Rows of a first start that was cut off.
            let is_gone = |key: &Key| !self.position.files.contains_key(key);
            self.owed.extend(before.into_keys().filter(is_gone));
            self.unwritten = Some(Bound::Unbounded);
            return;
        }
        let mut suspects = Vec::new();
        for (key, version) in &listing.files {
            match self.position.files.get_mut(key) {
                Some(known) if known.version.differs(*version) => suspects.push(key.clone()),
                // Later changes are seen by what it is now.
                Some(known) if known.version != *version => {
                    known.version = *version;
                    self.owed.insert(key.clone());
                }
                Some(_) => {}
                None => suspects.push(key.clone()),
            }
        }
        let readable = |key: &&Key| !listing.unreadable.keys().any(|folder| lies_in(key, folder));
        suspects.extend(
            self.position
                .files
                .keys()
                .filter(|key| !listing.files.contains_key(*key))
                .filter(readable)
                .cloned(),
        );
        for key in suspects {
            self.suspect(key, now);
        }
    }

    /// Tells the log which folders could not be read, each once.
    fn tell_unreadable(&mut self, listing: &Listing) {
        for (folder, error) in listing
            .unreadable
            .iter()
            .filter(|(folder, _)| !self.unreadable.contains(*folder))
        {
            let folder = self
                .setup
                .scope
                .path(folder.strip_suffix(b"/").unwrap_or(folder));
            let (source, folder) = (&self.setup.context.name, readable_path(&folder));
            tracing::warn!(
                %source, folder, error,
                "cannot read a folder; its files are taken to be unchanged, and what lies beside \
                 it is told"
            );
        }
        self.unreadable = listing.unreadable.keys().cloned().collect();
    }

    fn unavailable(&self, doing: &str, error: &io::Error) -> SourceError {
        SourceError::Unavailable(format!(
            "cannot {doing} the folder {}: {error}",
            self.setup.scope.root.display()
        ))
    }

    /// Looks whether the folder is there, before files are told as deleted: where it is gone, or a
    /// mount point below it (a share that is no longer there), nothing says that they were.
    async fn check(&mut self) -> Result<(), SourceError> {
        let (scope, mounts) = (
            self.setup.scope.clone(),
            if self.setup.holds {
                self.position.mounts.clone()
            } else {
                Mounts::new()
            },
        );
        let check = move || scope.check().map(|()| scope.unmounted(&mounts));
        let checked = tokio::task::spawn_blocking(check)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let unmounted = checked.map_err(|error| self.unavailable("find", &error))?;
        if !unmounted.is_empty() {
            // The listing decides what becomes of them.
            self.changed.retain(|(key, version)| {
                version.is_some() || !unmounted.iter().any(|mount| lies_in(key, mount))
            });
            self.list_at = self.list_at.min(Instant::now() + self.setup.settle);
        }
        Ok(())
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
            let Some((at, key)) = self
                .looks
                .first()
                .filter(|(at, _)| *at <= Instant::now())
                .cloned()
            else {
                break;
            };
            let metadata = tokio::fs::symlink_metadata(self.setup.scope.path(&key)).await;
            // From here on there is no await: what was looked at is put where it belongs.
            let now = Instant::now();
            self.looks.remove(&(at, key.clone()));
            let version = match &metadata {
                Ok(metadata) => Version::of(metadata, self.setup.scope.inodes),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    None
                }
                Err(error) => {
                    tracing::warn!(
                        file = %self.setup.scope.path(&key).display(), %error,
                        "cannot look at a file; it is taken to be unchanged"
                    );
                    self.seen.remove(&key);
                    continue;
                }
            };
            if version.is_none()
                && (metadata.is_ok_and(|metadata| metadata.is_dir()) || self.knows_under(&key))
            {
                // A folder came, went, or took a file's place: what is in it came with no hint of
                // its own.
                self.list_at = self.list_at.min(now + self.setup.settle);
            }
            if self.seen.get(&key) == Some(&Some(version)) {
                self.seen.remove(&key);
                self.changed.push((key, version));
            } else {
                self.looks.insert((now + self.setup.settle, key.clone()));
                self.seen.insert(key, Some(version));
            }
        }
    }

    /// True where a known file lies in this folder.
    fn knows_under(&self, folder: &[u8]) -> bool {
        let start = [folder, b"/"].concat();
        self.position
            .files
            .range(start.clone()..)
            .next()
            .is_some_and(|(key, _)| key.starts_with(&start))
    }
}

#[async_trait]
impl Source for Folder {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        if !self.started {
            self.start()?;
        }
        if let Some(batch) = self.unwritten() {
            return Ok(batch);
        }
        loop {
            self.take_hints();
            self.list().await?;
            self.look().await;
            if self.changed.iter().any(|(_, version)| version.is_none()) {
                self.check().await?;
            }
            if let Some(batch) = self.batch() {
                return Ok(batch);
            }
            let look_at = self.looks.first().map(|(at, _)| *at);
            let wake = look_at.map_or(self.list_at, |at| at.min(self.list_at));
            tokio::select! { () = self.setup.hints.wait() => {}, () = sleep_until(wake) => {} }
        }
    }
}

/// Lists the folder, and watches what it finds before it reads it, so that nothing comes unseen in
/// between.
fn list(scope: &Scope, watches: Option<&Mutex<Watches>>) -> io::Result<Listed> {
    let Some(watches) = watches else {
        return Ok(Listed {
            listing: scope.list(&mut |_| {})?,
            rewatch: false,
        });
    };
    let mut watches = watches.lock();
    let listing = scope.list(&mut |folder| watches.enter(folder))?;
    let rewatch = watches.leave_all_but(&listing.folders);
    Ok(Listed { listing, rewatch })
}

/// True for a file's key in a folder, whose own may end with a slash; all lie in the root.
fn lies_in(key: &[u8], folder: &[u8]) -> bool {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    folder.is_empty()
        || key
            .strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with(b"/"))
}
