//! What is wrong with the rule files, as it is shown.

mod excerpt;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, Severity,
    SourceCode, SourceSpan, SpanContents,
};
use serde_json::json;

use self::excerpt::Excerpt;
pub(super) use self::excerpt::inert;
use super::mistake::Mistake;
use super::yaml::Span;
use crate::output::{Screen, line, plain, shortened};

/// How many are shown: nobody reads more, and the first ones are often the cause of the others.
const SHOWN_MAX: usize = 100;

/// How long a message and its help may be: they quote the user's own text.
const MESSAGE_CHARACTERS_MAX: usize = 1_000;

/// Where the lines of a text begin.
#[derive(Debug)]
pub struct Lines(Vec<usize>);

impl Lines {
    /// Finds them.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(
            std::iter::once(0)
                .chain(text.match_indices('\n').map(|(newline, _)| newline + 1))
                .collect(),
        )
    }

    /// Line and column of a byte of that text, both from 1; the column counts characters, as
    /// editors do.
    #[must_use]
    pub fn place(&self, text: &str, byte: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= byte);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(0);
        // Beginnings of characters, counted as bytes: a line may be all of a large file.
        let before = text.as_bytes().get(start..byte).unwrap_or_default();
        (
            line,
            before
                .iter()
                .filter(|byte| (**byte).cast_signed() >= -0x40)
                .count()
                + 1,
        )
    }
}

/// A file as it was read.
#[derive(Debug)]
pub struct File {
    /// Its path as it was given or found.
    pub name: String,
    /// Its text, with what must not be shown blotted out.
    shown: String,
    lines: Lines,
    /// True for a file that could not be read: then there is nothing to show of it.
    absent: bool,
    /// True where it could not be read for a reason that may pass: nothing is known to be wrong
    /// with it.
    passing: bool,
}

impl File {
    /// A file with what is to be shown of it: `secrets` are blotted out, and everything stays in
    /// its place.
    #[must_use]
    pub fn new(name: String, text: &str, secrets: &[Span]) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        for secret in secrets {
            if let Some(secret) = bytes.get_mut(secret.start..secret.end) {
                // What it was may span lines, and those stay where they are.
                secret
                    .iter_mut()
                    .filter(|byte| **byte != b'\n')
                    .for_each(|byte| *byte = b'*');
            }
        }
        // A secret is whole characters, and each of its bytes becomes one.
        let shown = inert(&String::from_utf8_lossy(&bytes));
        Self {
            name: line(&name).into_owned(),
            shown,
            lines: Lines::of(text),
            absent: false,
            passing: false,
        }
    }

    /// A file that could not be read.
    #[must_use]
    pub fn absent(name: String) -> Self {
        Self {
            name: line(&name).into_owned(),
            shown: String::new(),
            lines: Lines::of(""),
            absent: true,
            passing: false,
        }
    }

    /// Line and column of a byte, both from 1.
    #[must_use]
    pub fn line_and_column(&self, byte: usize) -> (usize, usize) {
        self.lines.place(&self.shown, byte)
    }
}

impl SourceCode for File {
    /// Whole lines where context is asked for, and none around them: a neighbouring line may hold
    /// what is nobody's business. Columns count characters, as editors do.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (mut start, mut end) = (span.offset(), span.offset() + span.len());
        let (line, column) = self.line_and_column(start);
        let mut column = column - 1;
        if before > 0 {
            let line_start = self
                .shown
                .get(..start)
                .and_then(|text| text.rfind('\n'))
                .map_or(0, |newline| newline + 1);
            let rest = self.shown.get(end..).unwrap_or_default();
            let line = rest.split('\n').next().unwrap_or_default();
            // A carriage return before the break would count as a line of its own.
            (start, end, column) = (
                line_start,
                end + line.strip_suffix('\r').unwrap_or(line).len(),
                0,
            );
        }
        let text = self.shown.get(start..end).ok_or(MietteError::OutOfBounds)?;
        let lines = text.matches('\n').count() + 1;
        let place = SourceSpan::new(start.into(), text.len());
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            text.as_bytes(),
            place,
            line - 1,
            column,
            lines,
        )))
    }
}

/// A mistake in the rule files, or an oddity, with its place.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// The file.
    pub file: Arc<File>,
    /// What, and where in it.
    pub mistake: Mistake,
}

impl Diagnostic {
    /// A mistake that is the whole file's: it cannot be read.
    #[must_use]
    pub fn of_file(name: String, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            file: Arc::new(File::absent(name)),
            mistake: Mistake::new(Span::default(), message).help(help),
        }
    }

    /// The same for a reason that may pass.
    #[must_use]
    pub(super) fn may_pass_of_file(
        name: String,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let file = File {
            passing: true,
            ..File::absent(name)
        };
        Self {
            file: Arc::new(file),
            mistake: Mistake::new(Span::default(), message).help(help),
        }
    }

    /// True where trying again may help, with the file as it is.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.file.passing
    }

    /// True for what stops nothing.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        self.mistake.warning
    }

    /// File, line and column, each from 1.
    #[must_use]
    pub fn place(&self) -> (&str, usize, usize) {
        let (line, column) = self.file.line_and_column(self.mistake.span.start);
        (&self.file.name, line, column)
    }

    /// All of it on one line, without the text that it means.
    #[must_use]
    pub fn line(&self) -> String {
        let place = match self.file.absent {
            true => String::new(),
            false => {
                let (file, line, column) = self.place();
                format!("{file}:{line}:{column}: ")
            }
        };
        let help = self.mistake.help.as_ref();
        let help = help.map_or_else(String::new, |help| format!(" ({})", plain(help)));
        line(&format!("{place}{self}{help}")).into_owned()
    }

    /// As JSON: `severity`, `file`, `line`, `column`, `end_line`, `end_column`, `message`, `help`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let (file, line, column) = self.place();
        let (end_line, end_column) = self.file.line_and_column(self.mistake.span.end);
        let severity = if self.is_warning() {
            "warning"
        } else {
            "error"
        };
        if self.file.absent {
            return json!({
                "severity": severity,
                "file": file,
                "message": self.mistake.message,
                "help": self.mistake.help,
            });
        }
        json!({
            "severity": severity,
            "file": file,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "message": self.mistake.message,
            "help": self.mistake.help,
        })
    }

    fn sort_key(&self) -> (&str, usize, usize) {
        (
            &self.file.name,
            self.mistake.span.start,
            self.mistake.span.end,
        )
    }
}

/// Sorts by file and place.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
}

/// Shows them with the text that each means, and a line that counts them. Of more than anybody
/// reads the first are shown, mistakes before what is only odd, and the others counted.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], screen: Screen) -> String {
    let theme = if screen.colours {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::none()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_context_lines(1)
        .with_links(false);
    let handler = match screen.width {
        Some(width) => handler.with_width(width),
        None => handler.with_wrap_lines(false),
    };
    let mut out = String::new();
    for diagnostic in shown(diagnostics) {
        // Writing into a string cannot fail, and a place outside of its file is shown without the
        // text.
        let written = match Excerpt::of(diagnostic) {
            Some(excerpt) => handler.render_report(&mut out, &excerpt),
            None => handler.render_report(&mut out, diagnostic),
        };
        if written.is_err() {
            out.push_str(&format!("{diagnostic}\n"));
        }
        out.push('\n');
    }
    if diagnostics.len() > SHOWN_MAX {
        out.push_str(&format!(
            "and {} more, which are not shown\n\n",
            diagnostics.len() - SHOWN_MAX
        ));
    }
    out.push_str(&count(diagnostics));
    out.push('\n');
    out
}

/// Those that are shown, in their order.
fn shown(diagnostics: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    let errors = diagnostics
        .iter()
        .filter(|diagnostic| !diagnostic.is_warning())
        .count();
    let (mut errors_left, mut warnings_left) = (SHOWN_MAX, SHOWN_MAX.saturating_sub(errors));
    diagnostics.iter().filter(move |diagnostic| {
        let left = if diagnostic.is_warning() {
            &mut warnings_left
        } else {
            &mut errors_left
        };
        let take = *left > 0;
        *left = left.saturating_sub(1);
        take
    })
}

/// How many there are: `2 errors, 1 warning`.
#[must_use]
pub fn count(diagnostics: &[Diagnostic]) -> String {
    let warnings = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_warning())
        .count();
    let of = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    match (diagnostics.len() - warnings, warnings) {
        (errors, 0) => of(errors, "error"),
        (0, warnings) => of(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", of(errors, "error"), of(warnings, "warning")),
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = shortened(&self.mistake.message, MESSAGE_CHARACTERS_MAX);
        if self.file.absent {
            return write!(f, "{}: {}", self.file.name, plain(&message));
        }
        f.write_str(&plain(&message))
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn severity(&self) -> Option<Severity> {
        Some(if self.is_warning() {
            Severity::Warning
        } else {
            Severity::Error
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.mistake.help.as_ref().map(|help| {
            Box::new(plain(&shortened(help, MESSAGE_CHARACTERS_MAX)).into_owned())
                as Box<dyn fmt::Display>
        })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.file.absent).then_some(&*self.file as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place =
            |span: Span| SourceSpan::new(span.start.into(), span.end.saturating_sub(span.start));
        let here = LabeledSpan::new_primary_with_span(None, place(self.mistake.span));
        let also = self
            .mistake
            .also
            .as_ref()
            .map(|(span, what)| LabeledSpan::new_with_span(Some(what.clone()), place(*span)));
        Some(Box::new(std::iter::once(here).chain(also)))
    }
}
