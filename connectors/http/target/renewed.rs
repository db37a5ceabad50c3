//! A target whose settings are read again when the files that they are taken from change.
//!
//! Tokens and certificates are replaced while the bus runs. The files are looked at before an
//! attempt: at most once a second, and always where the target has refused the one before, since
//! that is when somebody replaces them.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome};

use super::HttpTarget;
use super::request::Caller;
use crate::files::Files;
use crate::{Attempt, OpenError, TargetContext, TargetSettings};

/// A target, open, with the settings of which it was made.
pub(super) struct Renewed {
    settings: HttpTarget,
    context: TargetContext,
    current: Mutex<Current>,
}

struct Current {
    caller: Arc<Caller>,
    files: Files,
    was_refused: bool,
}

impl Renewed {
    pub(super) fn open(settings: HttpTarget, context: TargetContext) -> Result<Self, OpenError> {
        let files = settings.files();
        let caller = Arc::new(settings.caller(&context)?);
        Ok(Self {
            settings,
            context,
            current: Mutex::new(Current {
                caller,
                files,
                was_refused: false,
            }),
        })
    }

    pub(super) async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
        let outcomes = self.caller().attempt(attempt).await;
        self.current.lock().was_refused = outcomes
            .iter()
            .any(|outcome| outcome.class == Class::Refused);
        outcomes
    }

    /// What makes the calls, by what the files hold now.
    fn caller(&self) -> Arc<Caller> {
        let mut current = self.current.lock();
        let urgent = current.was_refused;
        if current.files.have_changed(urgent) {
            let target = &self.context.name;
            match self.settings.caller(&self.context) {
                Ok(caller) => {
                    tracing::info!(
                        %target,
                        "the files of the target's settings have changed and were read again"
                    );
                    current.caller = Arc::new(caller);
                }
                Err(error) => {
                    tracing::warn!(
                        %target, %error,
                        "the target goes on with what its settings were before"
                    )
                }
            }
        }
        Arc::clone(&current.caller)
    }
}
