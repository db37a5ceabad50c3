//! Notices that rule files have changed.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use pointsman_schemas::setting::read_regular;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::files::{may_pass, yaml_files};
use crate::config::schema_files_of;
use crate::config::yaml::FILE_BYTES_MAX;

/// Editors write a file in several steps: what follows within this time is one change.
const SETTLE: Duration = Duration::from_millis(100);

/// How long to wait where the files cannot be read for want of descriptors or memory.
const AGAIN: Duration = Duration::from_secs(2);

/// Waits for the content of rule files to change, or for SIGHUP.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    /// None where it could not be looked at.
    seen: Option<u64>,
    /// Something has happened and has not been looked at yet.
    stirred: bool,
    /// How long to wait before the next look.
    wait: Duration,
    changes: mpsc::Receiver<()>,
    hangup: Signal,
    /// Watches as long as it lives.
    watcher: RecommendedWatcher,
    /// Folders of schemas that are watched beside those of the rule files.
    folders: HashSet<PathBuf>,
}

/// The files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system refuses to watch a folder.
    #[error("cannot watch the rule files for changes: {0}")]
    Notify(#[from] notify::Error),
    /// The system refuses to hand over SIGHUP.
    #[error("cannot listen for SIGHUP: {0}")]
    Signal(#[from] std::io::Error),
}

impl Watch {
    /// Begins to watch files, and folders of them.
    ///
    /// # Errors
    /// Where the system refuses to.
    pub fn begin(paths: Vec<PathBuf>) -> Result<Self, WatchError> {
        let (changed, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event| {
            if !is_only_read(&event) {
                // One that is waiting already stands for this one too.
                let _ = changed.try_send(());
            }
        })?;
        for path in &paths {
            // A file is watched through its folder, so that one that is replaced is still seen.
            let folder = if path.is_dir() {
                path.as_path()
            } else {
                path.parent()
                    .filter(|parent| *parent != Path::new(""))
                    .unwrap_or(Path::new("."))
            };
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        let hangup = signal(SignalKind::hangup())?;
        let mut watch = Self {
            seen: None,
            stirred: false,
            wait: SETTLE,
            paths,
            changes,
            hangup,
            watcher,
            folders: HashSet::new(),
        };
        watch.seen = watch.look().ok();
        Ok(watch)
    }

    /// A hash of what the rule files hold, and the schemas that they name, whose folders are watched
    /// from then on.
    fn look(&mut self) -> std::io::Result<u64> {
        loop {
            let Content { hash, folders } = content(&self.paths)?;
            let mut is_new = false;
            for folder in folders {
                // One that is not there is told of by whoever reads the rules; once it comes, the
                // folder above it stirs. One that was replaced by another is no longer watched, and
                // nobody says so: each is asked for every time.
                let watched = self.watcher.watch(&folder, RecursiveMode::NonRecursive);
                is_new |= watched.is_ok() && self.folders.insert(folder);
            }
            // What has changed before it was watched is not missed.
            if !is_new {
                return Ok(hash);
            }
        }
    }

    /// Waits for the next change. Cancel-safe. Files that cannot be looked at have not changed:
    /// they are looked at again.
    pub async fn changed(&mut self) {
        loop {
            if !self.stirred {
                tokio::select! {
                    Some(()) = self.changes.recv() => self.stirred = true,
                    _ = self.hangup.recv() => return,
                }
            }
            tokio::time::sleep(self.wait).await;
            match self.look() {
                Ok(content) => {
                    (self.stirred, self.wait) = (false, SETTLE);
                    if self.seen.replace(content) != Some(content) {
                        return;
                    }
                }
                Err(error) => {
                    if self.wait < AGAIN {
                        tracing::warn!(
                            %error,
                            "cannot look at the rule files now; the rules in force stay, and it is \
                             tried again"
                        );
                    }
                    self.wait = AGAIN;
                }
            }
        }
    }

    /// What was seen last could not be read: the next look counts as a change.
    pub fn look_again(&mut self) {
        (self.seen, self.stirred, self.wait) = (None, true, AGAIN);
    }
}

/// Whether something was opened or closed without being changed. Looking at the files does that,
/// and must not make this look at them again.
fn is_only_read(event: &notify::Result<notify::Event>) -> bool {
    let kind = event.as_ref().map(|event| event.kind);
    matches!(kind, Ok(EventKind::Access(kind)) if kind != AccessKind::Close(AccessMode::Write))
}

/// What rule files hold.
struct Content {
    /// Of all that they and the schemas hold that they name, and of which there are.
    hash: u64,
    /// The folders below that of the rule files in which those schemas lie.
    folders: Vec<PathBuf>,
}

/// Reads what rule files hold.
///
/// # Errors
/// Something cannot be read for a reason that may pass.
fn content(paths: &[PathBuf]) -> std::io::Result<Content> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        match yaml_files(path) {
            Ok(found) => files.extend(found),
            Err(error) if path.is_dir() && may_pass(&error) => return Err(error),
            Err(_) => files.push(path.clone()),
        }
    }
    // Paths in rule files begin where the first one lies, which is watched for their sake.
    let root = files
        .first()
        .and_then(|file| file.parent())
        .unwrap_or(Path::new(""));
    let root = root.to_owned();
    files.sort();
    let mut hasher = DefaultHasher::new();
    let mut schemas = BTreeSet::new();
    for file in files {
        let read = or_none(read_regular(&file, FILE_BYTES_MAX))?;
        let text = read
            .as_deref()
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        schemas.extend(text.map(schema_files_of).unwrap_or_default());
        (read, file).hash(&mut hasher);
    }
    let mut folders = Vec::new();
    for name in schemas {
        let file = root.join(name);
        (or_none(read_regular(&file, FILE_BYTES_MAX))?, &file).hash(&mut hasher);
        let above = file.ancestors().skip(1);
        folders.extend(above.take_while(|one| *one != root).map(Path::to_owned));
    }
    folders.sort();
    folders.dedup();
    let hash = hasher.finish();
    Ok(Content { hash, folders })
}

/// What was read; none where it cannot be.
///
/// # Errors
/// It may be possible later.
fn or_none(read: std::io::Result<Vec<u8>>) -> std::io::Result<Option<Vec<u8>>> {
    match read {
        Err(error) if may_pass(&error) => Err(error),
        read => Ok(read.ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_change_of_content_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "one").unwrap();
        for paths in [vec![file.clone()], vec![folder.path().to_owned()]] {
            std::fs::write(&file, "one").unwrap();
            let mut watch = Watch::begin(paths).unwrap();
            std::fs::write(folder.path().join("log"), "x").unwrap();
            std::fs::write(&file, "one").unwrap();
            assert!(
                tokio::time::timeout(Duration::from_millis(500), watch.changed())
                    .await
                    .is_err(),
                "nothing has changed"
            );
            std::fs::write(folder.path().join("draft"), "two").unwrap();
            std::fs::rename(folder.path().join("draft"), &file).unwrap();
            tokio::time::timeout(Duration::from_secs(30), watch.changed())
                .await
                .expect("the file was replaced");
        }
    }

    #[tokio::test]
    async fn who_reads_a_file_stirs_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "one").unwrap();
        let mut watch = Watch::begin(vec![file.clone()]).unwrap();
        let news = Duration::from_millis(500);
        drop(content(&watch.paths).unwrap());
        let heard = tokio::time::timeout(news, watch.changes.recv()).await;
        assert!(
            heard.is_err(),
            "looking at the files makes look at them again"
        );
        std::fs::write(&file, "one").unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(30), watch.changes.recv()).await;
        assert_eq!(heard, Ok(Some(())), "it was written");
    }

    #[tokio::test]
    async fn schemas_that_rule_files_name_are_watched_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = folder.path().join("schemas");
        let inner = schemas.join("orders");
        let rules = "schemas: { order.paid: { file: schemas/orders/paid.json } }";
        std::fs::write(folder.path().join("a.yaml"), rules).unwrap();
        let mut watch = Watch::begin(vec![folder.path().join("a.yaml")]).unwrap();
        let mut changed = async |what: &str| {
            tokio::time::timeout(Duration::from_secs(30), watch.changed())
                .await
                .unwrap_or_else(|_| panic!("{what}"));
        };
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("paid.json"), "{}").unwrap();
        changed("it has come").await;
        std::fs::write(inner.join("paid.json"), "true").unwrap();
        changed("it was written").await;
        std::fs::rename(&schemas, folder.path().join("old")).unwrap();
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("paid.json"), "false").unwrap();
        changed("its folders were replaced").await;
        std::fs::write(inner.join("paid.json"), "{}").unwrap();
        changed("it was written in its new folder").await;
    }

    #[tokio::test]
    async fn a_pipe_among_the_files_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "one").unwrap();
        let mut watch = Watch::begin(vec![folder.path().to_owned()]).unwrap();
        let pipe = folder.path().join("x.yaml");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        tokio::time::timeout(Duration::from_secs(30), watch.changed())
            .await
            .expect("there is one more");
        let told = crate::config::Config::load(&[folder.path().to_owned()]).unwrap_err();
        assert!(
            told.iter().any(|one| one
                .to_string()
                .ends_with("x.yaml: this is not a regular file")),
            "{told:?}"
        );
        std::fs::remove_file(&pipe).unwrap();
        tokio::time::timeout(Duration::from_secs(30), watch.changed())
            .await
            .expect("it has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_read_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "one").unwrap();
        let mut watch = Watch::begin(vec![folder.path().to_owned()]).unwrap();
        watch.look_again();
        watch.changed().await;
        assert_eq!(watch.wait, SETTLE);
    }

    #[test]
    fn only_a_lack_that_may_pass_is_no_change() {
        use std::io::{Error, ErrorKind};
        // EMFILE, ENFILE, ENOMEM, EIO of Linux.
        assert!(
            [24, 23, 12, 5]
                .into_iter()
                .all(|number| may_pass(&Error::from_raw_os_error(number)))
        );
        let lasting = [
            ErrorKind::NotFound,
            ErrorKind::PermissionDenied,
            ErrorKind::InvalidInput,
            ErrorKind::FileTooLarge,
        ];
        assert!(!lasting.into_iter().any(|kind| may_pass(&kind.into())));
    }
}
