//! Where the operating system says that something has changed.
//!
//! A hint is never believed: it only says where to look. So nothing is lost by a hint that is, but time until the next listing.

use std::collections::HashSet;
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

    fn keep(&self, event: notify::Result<notify::Event>) {
        let mut kept = self.kept.lock();
        match event {
            // Looking at a folder opens it, which must not make it look at it again.
            Ok(event) if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) => return,
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

/// Starts to watch. What is returned has to be kept for as long.
///
/// # Errors
/// The system has no more watches, or none for this file system.
pub(super) fn watch(root: &Path, recursive: bool, hints: &Arc<Hints>) -> notify::Result<Box<dyn Watcher + Send>> {
    let hints = Arc::clone(hints);
    let mut watcher = notify::recommended_watcher(move |event| hints.keep(event))?;
    watcher.watch(root, if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive })?;
    Ok(Box::new(watcher))
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
        hints.keep(Ok(notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)));
        assert!(hints.take().list);
        hints.keep(Err(notify::Error::generic("lost")));
        assert!(hints.take().list);
        hints.keep(Ok(notify::Event::new(EventKind::Access(AccessKind::Open(AccessMode::Any))).add_path("/x".into())));
        assert!(hints.take().paths.is_empty());
    }
}
