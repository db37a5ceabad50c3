//! A mistake in a rule file, told by whoever understands that part of it.

use std::fmt;

/// One step from a document's root to a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Into an object, by key.
    Key(String),
    /// Into a list, by index from 0.
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A mistake: where it is, relative to what was being checked, and what to do.
///
/// Whoever owns the file turns the path into file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From the root of what was checked to the mistaken value.
    pub path: Vec<Segment>,
    /// Where inside the text at `path` the mistake lies, as byte offsets into that text; none where
    /// all of it is meant.
    pub within: Option<std::ops::Range<usize>>,
    /// True where the key is the mistake, and not its value.
    pub at_key: bool,
    /// True for what is odd but not wrong.
    pub warning: bool,
    /// What is wrong: lower case, no trailing period.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A mistake in all of what was checked; narrow it with [`Problem::at`] and
    /// [`Problem::inside`].
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            within: None,
            at_key: false,
            warning: false,
            message: message.into(),
            help: None,
        }
    }

    /// Puts a step in front of the path: call it while returning outwards.
    #[must_use]
    pub fn at(mut self, segment: impl Into<Segment>) -> Self {
        self.path.insert(0, segment.into());
        self
    }

    /// Narrows the mistake to a part of the text.
    #[must_use]
    pub fn inside(mut self, range: std::ops::Range<usize>) -> Self {
        self.within = Some(range);
        self
    }

    /// Says that the last key of the path is the mistake.
    #[must_use]
    pub fn key(mut self) -> Self {
        self.at_key = true;
        self
    }

    /// Makes a warning of it.
    #[must_use]
    pub fn warn(mut self) -> Self {
        self.warning = true;
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.path.iter().enumerate() {
            match segment {
                Segment::Key(key) if index == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_path_message_help() {
        let problem = Problem::new("needs a list")
            .at(2)
            .at("type")
            .at("match")
            .help("write [x]");
        assert_eq!(
            problem.to_string(),
            "match.type[2]: needs a list (write [x])"
        );
    }
}
