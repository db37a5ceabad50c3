//! What commands print: tables for a person, JSON for a program.

use std::borrow::Cow;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How a command prints.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Rows under headings, in aligned columns without lines: easy to read, to cut and to copy from.
/// Cells are made [`plain`].
#[must_use]
pub fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headings);
    for row in rows {
        table.add_row(row.map(|cell| plain(&cell).replace('\n', " ")));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// True of a character that does something to a terminal or to the order in which a line is read: a
/// control character, or one that turns the direction of what follows (Unicode Standard Annex 9,
/// section 2), behind which a text can look like another one.
#[must_use]
pub fn acts(c: char) -> bool {
    let turns = matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && !matches!(c, '\n' | '\t')
}

/// A text that does nothing to a terminal: what outsiders sent may hold escapes that move the
/// cursor or set its title.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(acts) {
        Cow::Owned(text.replace(acts, "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// As [`plain`], and on one line: a line break in what outsiders sent must not look like a line of
/// ours.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    let breaks = |c: char| acts(c) || c == '\n';
    if text.contains(breaks) {
        Cow::Owned(text.replace(breaks, "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A text's beginning, with a mark where it was cut.
#[must_use]
pub fn shortened(text: &str, characters_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// How something is shown.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Whether colours are wanted: a terminal does, unless `NO_COLOR` says otherwise.
    pub colours: bool,
    /// Where lines are broken; what is no terminal never breaks any.
    pub width: Option<usize>,
}

impl Screen {
    /// What is written there, as it wants it.
    #[must_use]
    pub fn of(stream: &impl anstream::stream::RawStream) -> Self {
        /// As wide as most terminals are, and as a sentence should be.
        const WIDTH: usize = 120;
        let colours = anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never;
        Self {
            colours,
            width: stream.is_terminal().then_some(WIDTH),
        }
    }

    /// For a text that somebody else shows.
    pub const TEXT: Self = Self {
        colours: false,
        width: None,
    };
}

/// Whether standard output wants colours: a terminal does, unless `NO_COLOR` says otherwise.
#[must_use]
pub fn colours() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// A value as JSON for a program and a person's eye.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Writes to standard output. That whoever reads has gone away (`… | head`) is no error.
///
/// # Errors
/// Standard output cannot be written to.
pub fn print(text: &str) -> io::Result<()> {
    print_on(text).map(drop)
}

/// As [`print`], and tells whether anybody still reads.
///
/// # Errors
/// As [`print`].
pub fn print_on(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_does_nothing_to_the_terminal() {
        let rows = [
            ["a".into(), "one\u{1b}[2J\nline".into()],
            ["long-name".into(), "ü".into()],
        ];
        insta::assert_snapshot!(table(["NAME", "WHAT"], rows), @r"
        NAME       WHAT
        a          one�[2J line
        long-name  ü
        ");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(
            (&*shortened("äöü", 3), &*shortened("äöü", 2)),
            ("äöü", "äö…")
        );
    }
}
