//! What is read from files again once they have changed.

use std::fmt;

use parking_lot::Mutex;

use crate::OpenError;
use crate::files::Files;

/// A value that depends on files. What it was goes on where they cannot be read.
pub(crate) struct Reread<T> {
    /// What it is, for the log.
    what: &'static str,
    read: Box<dyn Fn() -> Result<T, OpenError> + Send + Sync>,
    current: Mutex<(Files, T)>,
}

impl<T> fmt::Debug for Reread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reread").field(&self.what).finish()
    }
}

impl<T: Clone> Reread<T> {
    /// Reads it for the first time. `files` are those that it depends on, looked at before that.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn open(
        what: &'static str,
        files: Files,
        read: impl Fn() -> Result<T, OpenError> + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let value = read()?;
        Ok(Self {
            what,
            read: Box::new(read),
            current: Mutex::new((files, value)),
        })
    }

    /// What it is now.
    pub(crate) fn current(&self) -> T {
        let (files, value) = &mut *self.current.lock();
        if files.have_changed(false) {
            match (self.read)() {
                Ok(renewed) => *value = renewed,
                Err(error) => {
                    let what = self.what;
                    tracing::warn!(
                        %error,
                        "{what} have changed and cannot be read; the former go on"
                    )
                }
            }
        }
        value.clone()
    }
}
