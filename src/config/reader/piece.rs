//! A value of a file, and how mistakes in it are reported.

use pointsman_schemas::Problem;

use crate::config::mistake::{Mistake, Mistakes, visible};
use crate::config::suggest;
use crate::config::yaml::{Entry, Node, Span, Value};

/// A piece of a file, with where its mistakes go.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'t> {
    /// The value.
    pub node: &'t Node,
    /// The entry whose value it is, where it is one's.
    pub entry: Option<&'t Entry>,
    /// The file's text.
    pub text: &'t str,
    /// Where mistakes are reported.
    pub mistakes: &'t Mistakes,
}

impl<'t> Piece<'t> {
    /// A value inside of this one.
    #[must_use]
    pub fn child(self, entry: Option<&'t Entry>, node: &'t Node) -> Self {
        Self {
            node,
            entry,
            ..self
        }
    }

    /// The value under a key.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Self> {
        self.node
            .entry(key)
            .map(|entry| self.child(Some(entry), &entry.value))
    }

    /// The value as it is written.
    #[must_use]
    pub fn source(self) -> &'t str {
        self.text
            .get(self.node.span.start..self.node.span.end)
            .unwrap_or_default()
    }

    /// What to underline where all of the value is meant.
    #[must_use]
    pub fn span(self) -> Span {
        visible(self.entry, self.node, self.text)
    }

    /// Reports a mistake in the value.
    pub fn report(self, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes
            .report(Mistake::new(self.span(), message).help(help));
    }

    /// Reports a mistake whose place is the key.
    pub fn report_key(self, message: impl Into<String>, help: impl Into<String>) {
        let span = self
            .entry
            .map_or_else(|| self.span(), |entry| entry.key_span);
        self.mistakes.report(Mistake::new(span, message).help(help));
    }

    /// Reports problems that somebody found inside of the value.
    pub fn report_problems(self, problems: impl IntoIterator<Item = Problem>) {
        for problem in problems {
            if self.mistakes.is_silenced(self.node.follow(&problem.path).1) {
                continue;
            }
            self.mistakes
                .report(Mistake::of(problem, self.entry, self.node, self.text));
        }
    }

    /// Reports what a type that was read of the value finds wrong with it. Of a value that could be
    /// read in part only, not what may be wrong for that reason: what is odd about it, and what is
    /// wrong with all of it.
    pub fn report_check(self, problems: Vec<Problem>) {
        let whole = self.is_whole();
        self.report_problems(
            problems
                .into_iter()
                .filter(|problem| whole || !problem.warning && !problem.path.is_empty()),
        );
    }

    /// Reports a key that is not known here, and what it was probably meant to be.
    pub fn report_unknown_key(self, entry: &Entry, known: &[&str]) {
        let (mut meant, mut help) = suggest::help(&entry.key, known);
        // A pattern is a mapping, a condition a text.
        if meant == Some("where")
            && matches!(entry.value.value, Value::Map(_))
            && known.contains(&"match")
        {
            (meant, help) = (Some("match"), "did you mean `match`?".to_owned());
        }
        if let Some(meant) = meant {
            self.mistakes.note_meant(self.node, meant);
        }
        self.mistakes.report(
            Mistake::new(entry.key_span, format!("unknown key `{}`", entry.key)).help(help),
        );
    }

    /// True where no value is written, not even `null`.
    #[must_use]
    pub fn is_unwritten(self) -> bool {
        self.node.value == Value::Null && self.source().trim().is_empty()
    }

    /// True where nothing in the value was impossible to read, so that it can be looked at whole.
    #[must_use]
    pub fn is_whole(self) -> bool {
        !self.mistakes.any_hidden_inside(self.node)
    }
}
