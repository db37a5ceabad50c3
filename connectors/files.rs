//! Files that settings are taken from: tokens, passwords and certificates are replaced while the
//! bus runs.
//!
//! Files are looked at by their time, size and inode, so that a look costs next to nothing. What
//! reads them again is the connector's own: it knows what can be exchanged under a connection, and
//! what needs another one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pointsman_schemas::Text;
use tokio::time::{Instant, sleep_until};

/// How often files are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What tells one content of a file from another; none where there is no file.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Files, and what they were when they were last looked at.
#[derive(Clone, Debug)]
pub struct Files {
    files: Vec<(PathBuf, Stamp)>,
    looked_at: Instant,
}

impl Files {
    /// The files that texts are taken from, as they are now. To be made before they are read: what
    /// changes meanwhile is read again.
    #[must_use]
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t Text>) -> Self {
        let file = |text: &Text| match text {
            Text::File(path) => Some((path.clone(), stamp(path))),
            Text::Literal(_) | Text::Env(_) => None,
        };
        Self {
            files: texts.into_iter().filter_map(file).collect(),
            looked_at: Instant::now(),
        }
    }

    /// True where nothing comes from a file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// True where any of them has changed since they were last looked at, which is at most once in
    /// a second unless it is `urgent`.
    pub fn have_changed(&mut self, urgent: bool) -> bool {
        let now = Instant::now();
        if self.files.is_empty() || !urgent && now < self.looked_at + LOOK_EVERY {
            return false;
        }
        self.looked_at = now;
        let mut changed = false;
        for (path, before) in &mut self.files {
            // One that is being replaced may be missing for a moment, and what it held goes on to
            // hold.
            if let Some(now) = stamp(path)
                && *before != Some(now)
            {
                (*before, changed) = (Some(now), true);
            }
        }
        changed
    }

    /// Waits until any of them has changed, for ever where there are none. Safe to cancel.
    pub async fn changed(&mut self) {
        if self.files.is_empty() {
            std::future::pending().await
        }
        while !self.have_changed(false) {
            sleep_until(self.looked_at + LOOK_EVERY).await;
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let [token, missing] = ["token", "missing"].map(|name| folder.path().join(name));
        fs::write(&token, "old").unwrap();
        let texts = [
            Text::File(token.clone()),
            Text::File(missing.clone()),
            "written out".into(),
        ];
        let mut files = Files::of(&texts);
        let replace = || {
            fs::write(folder.path().join("next"), "new").unwrap();
            fs::rename(folder.path().join("next"), &token).unwrap();
        };
        replace();
        assert!(!files.have_changed(false), "they have just been looked at");
        assert!(files.have_changed(true));
        assert!(!files.have_changed(true), "told once");

        replace();
        advance(LOOK_EVERY).await;
        assert!(files.have_changed(false));

        fs::remove_file(&token).unwrap();
        assert!(!files.have_changed(true), "it may come back at once");
        fs::write(&missing, "here").unwrap();
        timeout(LOOK_EVERY * 2, files.changed()).await.unwrap();
        assert!(timeout(LOOK_EVERY * 10, files.changed()).await.is_err());
        assert!(
            timeout(LOOK_EVERY * 10, Files::of([]).changed())
                .await
                .is_err()
        );
        assert!(Files::of(&texts[2..]).is_empty());
    }
}
