//! A folder as the simplest object store: a file written or removed is an object created, updated
//! or deleted.
//!
//! ```yaml
//! inbox:
//!   directory: { path: ./uploads, settle: 500ms, reconcile: 5m }
//! ```
//!
//! **Events** are of type `com.pointsman.directory.object.created`, `….updated` or `….deleted`,
//! source `/directories/<name>`, subject the key: the path below the folder. Their time is when the
//! file was last written, or when it was found missing; data `{ "key", "path", "size", "modified"
//! }`, of a deleted file as it was last. The id is made of key, version and generation, which
//! counts how often the key has come, gone and changed: the same change has the same id whenever it
//! is found, and a file that comes back a new one. With an `event:` mapping these are its defaults,
//! and its root has the data as `body`.
//!
//! **A change** is another size, time of writing or inode, or that the file was touched in any
//! other way than by mode, owner or links: so a file is told that was replaced by one of equal size
//! and time (`rsync -t`, `touch -r`, `cp -p`).
//!
//! **A file still being written** waits until it has not changed for `settle`. A writer that pauses
//! longer makes a second event, `updated`; who does not want that writes under an ignored name and
//! renames. What comes and goes within that time is not told.
//!
//! **Left out** are names that match `ignore` (hidden files and common names of unfinished ones,
//! unless it is given), and symbolic links. A renamed file is one deleted and one created. A name
//! that is not UTF-8, or has control characters in it, is percent-encoded and the data says
//! `"encoded": true`.
//!
//! **Found** are changes by the operating system's hints, and by a listing at the start and every
//! `reconcile`, which also finds what happened while nothing ran. What lies in the folder at the
//! very first start is told, too, unless `existing: skip`. Each folder inside is watched by itself:
//! one that cannot be read, or watched, does not hide the others.
//!
//! **Another folder** in the place of the one that was followed, known by device and inode, is most
//! likely an empty mount point whose share is not mounted. Nothing is told of it unless half of the
//! known files lie there unchanged, or `replaced: tell`. The same holds for mount points below the
//! folder. See `directory/mounts.rs`.
//!
//! **Position**: one row for each file, which is stored in the append that tells of it, whatever
//! their number. What a crash keeps from being stored is told again, with the ids that it had
//! unless the file has changed meanwhile.

mod follow;
mod hints;
mod listing;
mod mounts;
mod position;

use std::fs::Metadata;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::existing::Existing;
use crate::parameter::resolve;
use crate::replaced::Replaced;
use crate::source::fingerprint;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};
use follow::{Folder, Setup};
use hints::{Hints, Watches};
use listing::{Inodes, Scope};
use position::Stored;

pub use follow::BATCH_MESSAGES_MAX;

/// What the types of all events begin with.
pub const EVENT_TYPE_PREFIX: &str = "com.pointsman.directory.object.";

/// The shortest time between two listings.
const RECONCILE_MIN: Duration = Duration::from_secs(1);

/// Watches a folder: files written and removed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectorySource {
    /// The folder.
    #[schemars(extend("minLength" = 1, "examples" = ["./uploads"]))]
    path: Text,
    /// Whether to look into folders inside it.
    #[serde(default = "yes")]
    recursive: bool,
    /// Names of files and folders to leave out, with `*` and `?`; hidden and unfinished ones unless
    /// it is given.
    #[serde(default = "unfinished")]
    #[schemars(inner(regex(pattern = "^[^/]+$")))]
    ignore: Vec<String>,
    /// How long a file must not change before it counts as written.
    #[serde(default = "settle")]
    settle: Interval,
    /// How often to list the folder, for what no hint told of.
    #[serde(default = "reconcile")]
    reconcile: Interval,
    /// Whether to make the folder where it is missing.
    #[serde(default)]
    create: bool,
    /// What becomes of files that lie there at the very first start.
    #[serde(default)]
    existing: Existing,
    /// What to do where another folder lies in the place of the one that was followed.
    #[serde(default)]
    replaced: Replaced,
}

fn yes() -> bool {
    true
}

fn unfinished() -> Vec<String> {
    [
        ".*",
        "*.tmp",
        "*.part",
        "*.partial",
        "*.crdownload",
        "*.filepart",
        "*~",
        "~$*",
    ]
    .map(str::to_owned)
    .into()
}

fn settle() -> Interval {
    Interval(Duration::from_millis(500))
}

fn reconcile() -> Interval {
    Interval(Duration::from_secs(300))
}

#[async_trait]
impl SourceSettings for DirectorySource {
    fn check(&self) -> Vec<Problem> {
        let path = (self.path.literal() == Some(""))
            .then(|| Problem::new("a folder's path must not be empty").at("path"));
        let reconcile = (self.reconcile.0 < RECONCILE_MIN)
            .then(|| Problem::new("a folder is listed at most once a second").at("reconcile"));
        let ignore = self
            .ignore
            .iter()
            .enumerate()
            .filter(|(_, pattern)| pattern.is_empty() || pattern.contains('/'));
        let ignore = ignore.map(|(index, _)| {
            Problem::new("this is matched with one name, so it must hold some and no /")
                .at(index)
                .at("ignore")
        });
        path.into_iter().chain(reconcile).chain(ignore).collect()
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::One
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let written = resolve(&self.path, &["path".into()])?;
        match find(&written).await {
            Ok((root, _)) => {
                drop(
                    tokio::fs::read_dir(&root)
                        .await
                        .map_err(|error| cannot("list", &written, &error))?,
                );
                Ok(format!("the folder {} can be listed", root.display()))
            }
            Err(_) if self.create && tokio::fs::symlink_metadata(&written).await.is_err() => Ok(
                format!("the folder {written} is not there and will be made"),
            ),
            Err(error) => Err(error),
        }
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let written = resolve(&self.path, &["path".into()])?;
        if self.create {
            tokio::fs::create_dir_all(&written)
                .await
                .map_err(|error| cannot("make", &written, &error))?;
        }
        let (root, metadata) = find(&written).await?;
        let inodes = Inodes::at(&root);
        let identity = listing::identity(&metadata);
        let scope = Scope {
            root,
            identity,
            inodes,
            recursive: self.recursive,
            ignore: self.ignore.clone(),
        };
        let fingerprint = fingerprint(&["directory", &written]);
        let cursor = context.cursor.as_ref();
        let stored = if cursor.is_some_and(|cursor| cursor.fingerprint != fingerprint) {
            None
        } else {
            Stored::read(&context, &scope).await?
        };
        let holds = self.replaced == Replaced::Hold;
        let stored = match stored {
            // What cannot be read is the source's to tell.
            Some(stored) if holds => Some(accept(&scope, stored, &written).await?),
            stored => stored,
        };
        let hints = Arc::new(Hints::default());
        let watches = Watches::new(&hints).inspect_err(|error| {
            tracing::warn!(
                source = %context.name, %error, every = %self.reconcile,
                "cannot watch the folder; it is listed only"
            );
        });
        Ok(Box::new(Folder::new(Setup {
            context,
            scope,
            stored,
            hints,
            watches: watches.ok().map(|watches| Arc::new(Mutex::new(watches))),
            settle: self.settle.0,
            reconcile: self.reconcile.0,
            fingerprint,
            skip_existing: self.existing == Existing::Skip,
            holds,
        })))
    }
}

/// Checks that the folder is the one that was followed, or may be followed in its place.
async fn accept(scope: &Scope, stored: Stored, written: &str) -> Result<Stored, OpenError> {
    let scope = scope.clone();
    let accept = move || mounts::accept(&scope, &stored.position).map(|is| is.then_some(stored));
    let accepted = tokio::task::spawn_blocking(accept)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| cannot("list", written, &error))?;
    accepted.ok_or_else(|| {
        let problem = Problem::new(format!(
            "{written} is another folder than the one that was followed, and holds none of its \
             files; nothing is told until that one is back"
        ));
        OpenError(problem.at("path").help(
            "mount its share again, or set replaced: tell to follow this one and have the others \
             told as deleted",
        ))
    })
}

fn cannot(doing: &str, folder: &str, error: &io::Error) -> OpenError {
    OpenError(Problem::new(format!("cannot {doing} the folder {folder}: {error}")).at("path"))
}

/// The folder under its own path, whatever links lead to it.
async fn find(written: &str) -> Result<(PathBuf, Metadata), OpenError> {
    let root = tokio::fs::canonicalize(written).await.map_err(|error| {
        let OpenError(problem) = cannot("open", written, &error);
        OpenError(problem.help("make it, or set create: true"))
    })?;
    let metadata = tokio::fs::metadata(&root)
        .await
        .map_err(|error| cannot("open", written, &error))?;
    if metadata.is_dir() {
        Ok((root, metadata))
    } else {
        Err(OpenError(
            Problem::new(format!("{written} is not a folder")).at("path"),
        ))
    }
}

#[cfg(test)]
mod tests;
