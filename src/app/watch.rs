//! Notices that rule files have changed.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Editors write a file in several steps: what follows within this time is one change.
const SETTLE: Duration = Duration::from_millis(100);

/// Waits for the content of rule files to change, or for SIGHUP.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    seen: u64,
    /// Something has happened and has not been looked at yet.
    stirred: bool,
    changes: mpsc::Receiver<()>,
    hangup: Signal,
    /// Watches as long as it lives.
    _watcher: RecommendedWatcher,
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
        let mut watcher = notify::recommended_watcher(move |_| {
            // One that is waiting already stands for this one too.
            let _ = changed.try_send(());
        })?;
        for path in &paths {
            // A file is watched through its folder, so that one that is replaced is still seen.
            let folder = if path.is_dir() {
                path.as_path()
            } else {
                path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
            };
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(Self { seen: content(&paths), stirred: false, paths, changes, hangup: signal(SignalKind::hangup())?, _watcher: watcher })
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            if !self.stirred {
                tokio::select! {
                    Some(()) = self.changes.recv() => self.stirred = true,
                    _ = self.hangup.recv() => return,
                }
            }
            tokio::time::sleep(SETTLE).await;
            self.stirred = false;
            let content = content(&self.paths);
            if std::mem::replace(&mut self.seen, content) != content {
                return;
            }
        }
    }
}

/// A hash of what the rule files hold, and of which there are.
fn content(paths: &[PathBuf]) -> u64 {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        match std::fs::read_dir(path) {
            Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| is_rule_file(path))),
            Err(_) => files.push(path.clone()),
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        (std::fs::read(&file).ok(), file).hash(&mut hasher);
    }
    hasher.finish()
}

fn is_rule_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
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
            assert!(tokio::time::timeout(Duration::from_millis(500), watch.changed()).await.is_err(), "nothing has changed");
            std::fs::write(folder.path().join("draft"), "two").unwrap();
            std::fs::rename(folder.path().join("draft"), &file).unwrap();
            tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.expect("the file was replaced");
        }
    }
}
