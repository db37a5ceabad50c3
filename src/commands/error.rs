//! How a command fails: with what happened, and what to do next.

use crate::output::plain;

/// A command's failure, shown to a person: what outsiders said stands in it, and does nothing to a terminal.
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
        Self { message: plain(&message.into()).into_owned(), help: None }
    }

    /// What to do next; empty where nobody knows.
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
