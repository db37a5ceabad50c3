//! Where the operating system says that something has changed.
//!
//! A hint is never believed: it only says where to look. So nothing is lost by a hint that is, but
//! time until the next listing.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many paths are kept; past that the folder is listed instead.
const PATHS_MAX: usize = 10_000;

/// What has been hinted at and not yet looked at.
#[derive(Debug, Default)]
pub(super) struct Hints {
    kept: Mutex<Kept>,
    woken: Notify,
}

/// Hints that were kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) paths: HashSet<PathBuf>,
    /// True where hints were lost.
    pub(super) list: bool,
}

impl Hints {
    /// Takes what is there.
    pub(super) fn take(&self) -> Kept {
        std::mem::take(&mut self.kept.lock())
    }

    /// Waits until something may be there.
    pub(super) async fn wait(&self) {
        self.woken.notified().await;
    }

    /// Keeps what the system says.
    pub(super) fn keep(&self, event: notify::Result<notify::Event>) {
        let mut kept = self.kept.lock();
        match event {
            // Looking at a folder opens it, which must not make it look at it again.
            Ok(event) if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) =>
            {
                return;
            }
            Ok(event) => {
                kept.list |= event.need_rescan();
                kept.paths.extend(event.paths);
            }
            Err(error) => {
                tracing::warn!(%error, "a watched folder reports an error; it is listed anew");
                kept.list = true;
            }
        }
        if kept.paths.len() > PATHS_MAX {
            kept.paths.clear();
            kept.list = true;
        }
        drop(kept);
        self.woken.notify_one();
    }
}

/// The watches on a folder and those inside it, one for each: a folder that cannot be watched does
/// not hide the others.
pub(super) struct Watches {
    watcher: Box<dyn Watcher + Send>,
    watched: HashSet<PathBuf>,
    /// True once the log has been told that a folder cannot be watched.
    has_told: bool,
}

impl Watches {
    /// Prepares to watch.
    ///
    /// # Errors
    /// The system has no more instances of what watches.
    pub(super) fn new(hints: &Arc<Hints>) -> notify::Result<Self> {
        let hints = Arc::clone(hints);
        let watcher = notify::recommended_watcher(move |event| hints.keep(event))?;
        Ok(Self {
            watcher: Box::new(watcher),
            watched: HashSet::new(),
            has_told: false,
        })
    }

    /// Watches a folder. One that is watched already may be another one by now under the same name;
    /// where it is not, nothing changes.
    pub(super) fn enter(&mut self, folder: &Path) {
        match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => drop(self.watched.insert(folder.to_owned())),
            // The listing tells of what cannot be read, and what is gone is nothing to tell of.
            Err(error) if is_passed_over(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.has_told, true) {
                    let folder = folder.display();
                    tracing::warn!(
                        %folder, %error,
                        "cannot watch a folder, and maybe others; changes in them are found by \
                         listing alone"
                    );
                }
            }
        }
    }

    /// Ends the watches on all folders but these. True where there were any: the system may have
    /// known them under the same number as one of these, which was moved, so that each has to be
    /// entered once more.
    pub(super) fn leave_all_but(&mut self, folders: &HashSet<PathBuf>) -> bool {
        let gone: Vec<_> = self.watched.difference(folders).cloned().collect();
        for folder in &gone {
            // Where it was removed its watch has ended by itself.
            let _ = self.watcher.unwatch(folder);
            self.watched.remove(folder);
        }
        !gone.is_empty()
    }
}

fn is_passed_over(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_hints_become_a_listing() {
        let hints = Hints::default();
        let hint = |n: usize| notify::Event::new(EventKind::Any).add_path(format!("/{n}").into());
        (0..PATHS_MAX).for_each(|n| hints.keep(Ok(hint(n))));
        hints.keep(Ok(hint(0)));
        let Kept { paths, list } = hints.take();
        assert_eq!((paths.len(), list), (PATHS_MAX, false));
        (0..=PATHS_MAX).for_each(|n| hints.keep(Ok(hint(n))));
        let Kept { paths, list } = hints.take();
        assert_eq!((paths.len(), list), (0, true));
        hints.keep(Ok(
            notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)
        ));
        assert!(hints.take().list);
        hints.keep(Err(notify::Error::generic("lost")));
        assert!(hints.take().list);
        hints.keep(Ok(notify::Event::new(EventKind::Access(AccessKind::Open(
            AccessMode::Any,
        )))
        .add_path("/x".into())));
        assert!(hints.take().paths.is_empty());
    }
}
