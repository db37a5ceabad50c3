//! A target whose settings are read again when the files that they are taken from change.
//!
//! Tokens and certificates are replaced while the bus runs. The files are looked at before an attempt: at most once a second, and always
//! where the target has refused the one before, since that is when somebody replaces them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome};
use tokio::time::Instant;

use super::HttpTarget;
use super::request::Caller;
use crate::{Attempt, OpenError, TargetContext};

/// How often the files are looked at while all is well.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What tells one content of a file from another; none where there is no file.
type Stamp = Option<(SystemTime, u64, u64)>;

/// A target, open, with the settings of which it was made.
pub(super) struct Renewed {
    settings: HttpTarget,
    context: TargetContext,
    files: Vec<PathBuf>,
    current: Mutex<Current>,
}

struct Current {
    caller: Arc<Caller>,
    stamps: Vec<Stamp>,
    looked_at: Instant,
    was_refused: bool,
}

impl Renewed {
    pub(super) fn open(settings: HttpTarget, context: TargetContext) -> Result<Self, OpenError> {
        let files = settings.files();
        // Before they are read: what changes meanwhile is read again.
        let stamps = stamps(&files);
        let caller = Arc::new(settings.caller(&context)?);
        let current = Mutex::new(Current { caller, stamps, looked_at: Instant::now(), was_refused: false });
        Ok(Self { settings, context, files, current })
    }

    pub(super) async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
        if self.files.is_empty() {
            let caller = Arc::clone(&self.current.lock().caller);
            return caller.attempt(attempt).await;
        }
        let outcomes = self.caller().attempt(attempt).await;
        self.current.lock().was_refused = outcomes.iter().any(|outcome| outcome.class == Class::Refused);
        outcomes
    }

    /// What makes the calls, by what the files hold now.
    fn caller(&self) -> Arc<Caller> {
        let mut current = self.current.lock();
        let now = Instant::now();
        if current.was_refused || now.duration_since(current.looked_at) >= LOOK_EVERY {
            current.looked_at = now;
            let stamps = stamps(&self.files);
            if stamps != current.stamps {
                let target = &self.context.name;
                match self.settings.caller(&self.context) {
                    Ok(caller) => {
                        tracing::info!(%target, "the files of the target's settings have changed and were read again");
                        current.caller = Arc::new(caller);
                    }
                    Err(error) => tracing::warn!(%target, %error, "the target goes on with what its settings were before"),
                }
                current.stamps = stamps;
            }
        }
        Arc::clone(&current.caller)
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    files.iter().map(stamp).collect()
}
