//! How a command fails: with what happened, and what to do next.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::output::plain;

/// A command's failure, shown to a person: what outsiders said stands in it, and does nothing to a
/// terminal.
#[derive(Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct CommandError {
    message: String,
    #[help]
    help: Option<String>,
}

impl CommandError {
    /// A failure: what was being done, to what, and what came of it.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: plain(&message.into()).into_owned(),
            help: None,
        }
    }

    /// What to do next; empty where nobody knows.
    #[cfg(test)]
    #[must_use]
    pub fn help_text(&self) -> &str {
        self.help.as_deref().unwrap_or_default()
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(plain(&help.into()).into_owned());
        self
    }
}

/// Writes a file; one that is there already stays unless it is to be replaced.
///
/// # Errors
/// It is there, or cannot be written.
pub fn write_new(path: &Path, text: &str, replace: bool) -> Result<(), CommandError> {
    let opened = if replace {
        File::create(path)
    } else {
        File::create_new(path)
    };
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                CommandError::new(format!("there is a file {} already", path.display()))
                    .help("name another one, or replace it with --force")
            }
            _ => CommandError::new(format!("cannot write {}: {error}", path.display())),
        })
}
