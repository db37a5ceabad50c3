//! A folder as the simplest object store: a file written or removed is an object created, updated or deleted.
//!
//! ```yaml
//! inbox:
//!   directory: { path: ./uploads, settle: 500ms, reconcile: 5m }
//! ```
//!
//! **Events** are of type `com.pointsman.directory.object.created`, `….updated` or `….deleted`, source `/directories/<name>`, subject
//! the key: the path below the folder. Their time is when the file was last written, or when it was found missing; data `{ "key",
//! "path", "size", "modified" }`, of a deleted file as it was last. The id is made of key and version, so that the same change has the
//! same id whenever it is found. With an `event:` mapping these are its defaults, and its root has the data as `body`.
//!
//! **A file still being written** waits until its size and time have not changed for `settle`. A writer that pauses longer makes a
//! second event, `updated`; who does not want that writes under an ignored name and renames. What comes and goes within that time is
//! not told.
//!
//! **Left out** are names that match `ignore` (hidden files and common names of unfinished ones, unless it is given), and symbolic
//! links. A renamed file is one deleted and one created. A name that is not UTF-8, or has control characters in it, is percent-encoded
//! and the data says `"encoded": true`.
//!
//! **Found** are changes by the operating system's hints, and by a listing at the start and every `reconcile`, which also finds what
//! happened while nothing ran. What lies in the folder at the very first start is told, too, unless `existing: skip`.
//!
//! **Position**: the cursor holds the whole listing, at most 100,000 files; a fuller folder is an error. While it is small (64 KiB,
//! about 2,500 files) it goes with every batch. A larger one goes at most with 1 MiB a second; a crash then makes some changes come
//! again, with the ids that they had unless the file has changed twice meanwhile.

mod follow;
mod hints;
mod listing;
mod position;

use std::fs::Metadata;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::parameter::resolve;
use crate::source::fingerprint;
use crate::{Guarantee, OpenError, Source, SourceContext, SourceSettings};
use follow::{Folder, Setup};
use hints::Hints;
use listing::Scope;

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
    path: Text,
    /// Whether to look into folders inside it.
    #[serde(default = "yes")]
    recursive: bool,
    /// Names of files and folders to leave out, with `*` and `?`; hidden and unfinished ones unless it is given.
    #[serde(default = "unfinished")]
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
}

/// What becomes of files that lie there at the very first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Existing {
    /// They are told as created.
    #[default]
    Tell,
    /// They are taken to be known.
    Skip,
}

fn yes() -> bool {
    true
}

fn unfinished() -> Vec<String> {
    [".*", "*.tmp", "*.part", "*.partial", "*.crdownload", "*~"].map(str::to_owned).into()
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
        let path = (self.path.literal() == Some("")).then(|| Problem::new("a folder's path must not be empty").at("path"));
        let reconcile =
            (self.reconcile.0 < RECONCILE_MIN).then(|| Problem::new("a folder is listed at most once a second").at("reconcile"));
        let ignore = self.ignore.iter().enumerate().filter(|(_, pattern)| pattern.is_empty() || pattern.contains('/'));
        let ignore =
            ignore.map(|(index, _)| Problem::new("this is matched with one name, so it must hold some and no /").at(index).at("ignore"));
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

    async fn probe(&self) -> Result<String, OpenError> {
        let written = resolve(&self.path, &["path".into()])?;
        match find(&written).await {
            Ok((root, _)) => {
                drop(tokio::fs::read_dir(&root).await.map_err(|error| cannot("list", &written, &error))?);
                Ok(format!("the folder {} can be listed", root.display()))
            }
            Err(_) if self.create && tokio::fs::symlink_metadata(&written).await.is_err() => {
                Ok(format!("the folder {written} is not there and will be made"))
            }
            Err(error) => Err(error),
        }
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let written = resolve(&self.path, &["path".into()])?;
        if self.create {
            tokio::fs::create_dir_all(&written).await.map_err(|error| cannot("make", &written, &error))?;
        }
        let (root, metadata) = find(&written).await?;
        let scope = Scope { root, identity: listing::identity(&metadata), recursive: self.recursive, ignore: self.ignore.clone() };
        let hints = Arc::new(Hints::default());
        let watching = {
            let (scope, hints) = (scope.clone(), Arc::clone(&hints));
            // A large tree takes a while: a watch for each folder in it.
            tokio::task::spawn_blocking(move || hints::watch(&scope.root, scope.recursive, &hints)).await
        };
        let watcher = match watching {
            Ok(Ok(watcher)) => Some(watcher),
            Ok(Err(error)) => {
                tracing::warn!(source = %context.name, %error, every = %self.reconcile, "cannot watch the folder; it is listed only");
                None
            }
            Err(error) => return Err(cannot("watch", &written, &io::Error::other(error))),
        };
        Ok(Box::new(Folder::new(Setup {
            context,
            scope,
            hints,
            _watcher: watcher,
            settle: self.settle.0,
            reconcile: self.reconcile.0,
            fingerprint: fingerprint(&["directory", &written]),
            skip_existing: self.existing == Existing::Skip,
        })))
    }
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
    let metadata = tokio::fs::metadata(&root).await.map_err(|error| cannot("open", written, &error))?;
    if metadata.is_dir() { Ok((root, metadata)) } else { Err(OpenError(Problem::new(format!("{written} is not a folder")).at("path"))) }
}

#[cfg(test)]
mod tests;
