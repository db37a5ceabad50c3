//! Parts of lines that are too long to be shown.

use std::fmt;

use miette::{
    LabeledSpan, MietteError, MietteSpanContents, Severity, SourceCode, SourceSpan, SpanContents,
};

use super::{Diagnostic, File};
use crate::config::yaml::Span;
use crate::output::plain;

/// The longest line that is shown whole, in bytes. A generated file may have all of its rules on
/// one.
const LINE_BYTES_MAX: usize = 400;

/// The most lines of one value that are shown.
const LINES_MAX: usize = 20;

/// How much is shown before and behind a place in a longer line, in bytes.
const AROUND_BYTES: usize = 60;

/// How much of a long value is underlined, in bytes.
const UNDERLINED_BYTES_MAX: usize = 80;

/// A diagnostic with the part of its line that it means, cut on both sides.
#[derive(Debug)]
pub(super) struct Excerpt<'d> {
    diagnostic: &'d Diagnostic,
    text: String,
    /// What is underlined in the text.
    label: SourceSpan,
    /// From 0.
    line: usize,
    column: usize,
}

impl<'d> Excerpt<'d> {
    /// Of a diagnostic whose lines are too long or too many; none of one that can be shown as it
    /// is.
    pub(super) fn of(diagnostic: &'d Diagnostic) -> Option<Self> {
        let (file, mistake) = (&*diagnostic.file, &diagnostic.mistake);
        let spans =
            std::iter::once(mistake.span).chain(mistake.also.as_ref().map(|(span, _)| *span));
        if file.absent || spans.into_iter().all(|span| is_short(file, span)) {
            return None;
        }
        let shown = &file.shown;
        let start = shown.floor_char_boundary(mistake.span.start);
        let line_start = shown
            .get(..start)?
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let rest = shown.get(start..)?;
        let line_end = start + rest.find('\n').unwrap_or(rest.len());
        let end = mistake
            .span
            .end
            .clamp(start, line_end)
            .min(start + UNDERLINED_BYTES_MAX);
        let end = shown.floor_char_boundary(end);
        let from = shown.ceil_char_boundary(start.saturating_sub(AROUND_BYTES).max(line_start));
        let to = shown.floor_char_boundary((end + AROUND_BYTES).min(line_end));
        let (before, behind) = (
            if from > line_start { "…" } else { "" },
            if to < line_end { "…" } else { "" },
        );
        let text = format!("{before}{}{behind}", shown.get(from..to)?);
        let (line, column) = file.line_and_column(start);
        let label = SourceSpan::new((start - from + before.len()).into(), end - start);
        Some(Self {
            diagnostic,
            text,
            label,
            line: line - 1,
            column: column - 1,
        })
    }
}

/// True where the lines that a place touches can be shown whole.
fn is_short(file: &File, span: Span) -> bool {
    let bytes = file.shown.as_bytes();
    // Looks no further than it must: the line may be all of a file, and there may be a hundred
    // mistakes on it.
    const LOOK_BYTES: usize = LINE_BYTES_MAX + 1;
    let before = bytes
        .get(span.start.saturating_sub(LOOK_BYTES)..span.start)
        .unwrap_or_default();
    let behind = bytes
        .get(span.end..bytes.len().min(span.end + LOOK_BYTES))
        .unwrap_or_default();
    let Some(inside) = bytes.get(span.start..span.end) else {
        return true;
    };
    if inside.len() > LINE_BYTES_MAX * LINES_MAX {
        return false;
    }
    let before = before
        .iter()
        .rev()
        .take_while(|byte| **byte != b'\n')
        .count();
    let behind = behind.iter().take_while(|byte| **byte != b'\n').count();
    let lines: Vec<usize> = inside
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::len)
        .collect();
    let longest = lines.iter().max().copied().unwrap_or_default();
    lines.len() <= LINES_MAX && before + longest + behind <= LINE_BYTES_MAX
}

impl SourceCode for Excerpt<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // Where the place itself is asked for, its column is the file's.
        let (start, end, column) = if before > 0 {
            (0, self.text.len(), 0)
        } else {
            (span.offset(), span.offset() + span.len(), self.column)
        };
        let text = self.text.get(start..end).ok_or(MietteError::OutOfBounds)?;
        let place = SourceSpan::new(start.into(), text.len());
        let name = self.diagnostic.file.name.clone();
        Ok(Box::new(MietteSpanContents::new_named(
            name,
            text.as_bytes(),
            place,
            self.line,
            column,
            1,
        )))
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}

impl std::error::Error for Excerpt<'_> {}

impl miette::Diagnostic for Excerpt<'_> {
    fn severity(&self) -> Option<Severity> {
        miette::Diagnostic::severity(self.diagnostic)
    }

    /// The second place may lie far from the first, so it is reported in words.
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = miette::Diagnostic::help(self.diagnostic).map(|help| help.to_string());
        let also = self.diagnostic.mistake.also.as_ref().map(|(span, what)| {
            let (line, column) = self.diagnostic.file.line_and_column(span.start);
            format!("{}: line {line}, column {column}", plain(what))
        });
        let parts: Vec<String> = help.into_iter().chain(also).collect();
        (!parts.is_empty()).then(|| Box::new(parts.join("\n")) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(
            LabeledSpan::new_primary_with_span(None, self.label),
        )))
    }
}

/// A text with the same bytes in the same places, but for what would act on a terminal or turn the
/// order of what is read: each such character becomes another one of as many bytes.
pub(in crate::config) fn inert(text: &str) -> String {
    let stand_in = |c: char| match c.len_utf8() {
        1 => '?',
        2 => '\u{BF}',
        _ => '\u{FFFD}',
    };
    // A carriage return is only inert at the end of a line.
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let ends_line = c == '\r' && characters.peek().is_none_or(|next| *next == '\n');
        out.push(if crate::output::acts(c) && !ends_line {
            stand_in(c)
        } else {
            c
        });
    }
    out
}
