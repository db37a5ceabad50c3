//! Why a text is not YAML, in the words of who wrote it.
//!
//! The scanner tells where it gave up and what it wanted there. What went wrong often stands before
//! that: an indentation that fits nothing, a ` #` that began a comment, a template whose brackets
//! YAML took for its own.

use pointsman_schemas::template::lexer::{self, Token};

use super::Span;
use crate::config::mistake::Mistake;

/// The mistake for the scanner's complaint `info` at the byte `at`.
pub(super) fn explain(text: &str, at: usize, info: &str) -> Mistake {
    let place = Place::of(text, at);
    let found = place
        .indentation(info)
        .or_else(|| place.swallowed())
        .or_else(|| place.bare(info))
        .or_else(|| place.quotes(info));
    found.unwrap_or_else(|| place.other(info))
}

/// Where the scanner gave up.
struct Place<'x> {
    text: &'x str,
    at: usize,
    /// Of the line in which that is: where it begins, and all of it.
    start: usize,
    line: &'x str,
}

impl<'x> Place<'x> {
    fn of(text: &'x str, at: usize) -> Self {
        let at = text.floor_char_boundary(at);
        let start = text
            .get(..at)
            .and_then(|before| before.rfind('\n'))
            .map_or(0, |newline| newline + 1);
        Self {
            text,
            at,
            start,
            line: line_at(text, start),
        }
    }

    fn number(&self, start: usize) -> usize {
        self.text
            .get(..start)
            .unwrap_or_default()
            .matches('\n')
            .count()
            + 1
    }

    /// A line of a mapping that begins further right than the keys above it, and further left than
    /// those inside of them.
    fn indentation(&self, info: &str) -> Option<Mistake> {
        let here = indent(self.line);
        if !info.contains("block mapping") && !info.contains("block collection")
            || self.at != self.start + here
        {
            return None;
        }
        let (mut inner, mut outer) = (None, None);
        let before = self.text.get(..self.start)?;
        let mut end = before.len();
        for line in before.split_inclusive('\n').rev() {
            end -= line.len();
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            match indent(line) {
                deep if deep > here && outer.is_none() => inner = Some((end, deep)),
                deep if deep < here => {
                    outer = Some((end, deep));
                    break;
                }
                _ => {}
            }
        }
        let (outer, outer_indent) = outer?;
        let span = Span {
            start: self.at,
            end: self.start + self.line.len(),
        };
        let fits = |start: usize, indent: usize| {
            format!(
                "{indent} for what stands beside line {}",
                self.number(start)
            )
        };
        let help = match inner {
            Some((inner, inner_indent)) => {
                format!(
                    "indent it by {}, or by {}",
                    fits(outer, outer_indent),
                    fits(inner, inner_indent)
                )
            }
            None => format!("indent it by {}", fits(outer, outer_indent)),
        };
        let mistake = Mistake::new(
            span,
            format!("this line is indented by {here}, as no line above it is"),
        )
        .help(help);
        let outer_line = line_at(self.text, outer);
        Some(mistake.also(
            Span {
                start: outer + outer_indent,
                end: outer + outer_line.len(),
            },
            "this one is the nearest to the left",
        ))
    }

    /// A ` #` inside of braces or brackets that are not closed before it: here, or in a line above.
    fn swallowed(&self) -> Option<Mistake> {
        /// An opening brace is not far from what it holds.
        const LINES_MAX: usize = 20;
        let mut start = self.start;
        for _ in 0..LINES_MAX {
            let line = line_at(self.text, start);
            if let Some(comment) = comment(line)
                && open(line.get(..comment)?) > 0
            {
                let swallowed = line.get(comment..)?;
                let mended = swallowed.split([']', '}', ',']).next().unwrap_or(swallowed);
                let span = Span {
                    start: start + comment,
                    end: start + line.len(),
                };
                let help = format!(
                    "if it is meant as text, quote it: \"{}\"",
                    mended.trim_end()
                );
                return Some(
                    Mistake::new(
                        span,
                        "a comment begins here, and what is open before it is not closed",
                    )
                    .help(help),
                );
            }
            start = self
                .text
                .get(..start.checked_sub(1)?)?
                .rfind('\n')
                .map_or(0, |newline| newline + 1);
        }
        None
    }

    /// A text that YAML takes for something else where it is not quoted.
    fn bare(&self, info: &str) -> Option<Mistake> {
        let up_to_here = self.line.get(..self.at - self.start)?;
        self.bare_template(up_to_here)
            .or_else(|| self.shell_variable(up_to_here))
            .or_else(|| self.two_keys(info))
            .or_else(|| self.bare_word(info))
    }

    /// A template that begins before this place and whose brackets YAML takes for its own.
    fn bare_template(&self, up_to_here: &str) -> Option<Mistake> {
        let dollar = up_to_here
            .rfind(lexer::OPEN)
            .filter(|dollar| !is_quoted(self.line, *dollar))?;
        let template = template(self.line.get(dollar..)?);
        let quote = if template.contains('"') { '\'' } else { '"' };
        Some(bare_text(
            self.start + dollar,
            template,
            "YAML takes the brackets of this template for its own",
            format!("quote it: {quote}{template}{quote}"),
        ))
    }

    /// `${NAME}`, as a shell has it.
    fn shell_variable(&self, up_to_here: &str) -> Option<Mistake> {
        // The scanner stops behind the dollar, or further on.
        let dollar = self
            .line
            .match_indices("${")
            .map(|(at, _)| at)
            .filter(|at| *at <= up_to_here.len())
            .last()
            .filter(|dollar| !is_quoted(self.line, *dollar))?;
        let variable = self.line.get(dollar..)?.split_inclusive('}').next()?;
        let name = variable.trim_start_matches("${").trim_end_matches('}');
        Some(bare_text(
            self.start + dollar,
            variable,
            "variables are not filled in like this",
            format!("write `{{ env: {name} }}`"),
        ))
    }

    fn two_keys(&self, info: &str) -> Option<Mistake> {
        let (start, source) = self.second_colon(info)?;
        let name = source.split_once(':').map_or("", |(_, name)| name.trim());
        let kind = source.split(':').next().unwrap_or_default();
        Some(bare_text(
            start,
            source,
            "two keys stand on one line",
            format!("write `{{ {kind}: {name} }}`"),
        ))
    }

    /// A word at this place that begins with a character that YAML has a use for.
    fn bare_word(&self, info: &str) -> Option<Mistake> {
        let rest = self.line.get(self.at - self.start..)?;
        let word = rest
            .split([',', ']', '}'])
            .next()
            .unwrap_or(rest)
            .trim_end();
        let (message, help) = if info.contains("unknown anchor") {
            (
                format!("`{word}` is how YAML names an anchor, and there is none"),
                help_for_alias(word),
            )
        } else if rest.starts_with('#') && info.contains("comments must be separated") {
            (
                format!("a comment begins with `{word}`"),
                format!("quote it: \"{word}\""),
            )
        } else if rest.starts_with(['@', '`', '%']) {
            (
                "a bare text cannot begin with this character".to_owned(),
                format!("quote it: \"{word}\""),
            )
        } else {
            return None;
        };
        Some(bare_text(self.at, word, message, help))
    }

    /// `env: NAME` or `file: path` behind another key, without its braces.
    fn second_colon(&self, info: &str) -> Option<(usize, &'x str)> {
        if !info.contains("mapping values are not allowed") && !info.contains("flow mapping") {
            return None;
        }
        let at = [": env: ", ": file: "]
            .into_iter()
            .find_map(|second| self.line.find(second))?;
        if is_quoted(self.line, at) {
            return None;
        }
        let source = self.line.get(at + 2..)?;
        let source = source
            .split([',', '}', '#'])
            .next()
            .unwrap_or(source)
            .trim_end();
        Some((self.start + at + 2, source))
    }

    /// Quotes within the same quotes, and backslashes within double ones.
    fn quotes(&self, info: &str) -> Option<Mistake> {
        if info.contains("quoted scalar")
            && (info.contains("escape") || info.contains("hexadecimal"))
        {
            let rest = self.line.get(self.at - self.start..)?;
            // The scanner tells where the quote opens.
            let open = rest.strip_prefix('"').map_or_else(
                || self.line.get(..self.at - self.start)?.rfind('"'),
                |_| Some(self.at - self.start),
            )?;
            let inner = self.line.get(open + 1..)?;
            let inner = inner.split('"').next().unwrap_or(inner);
            let span = Span {
                start: self.start + open,
                end: (self.start + open + inner.len() + 2).min(self.start + self.line.len()),
            };
            let mistake = Mistake::new(
                span,
                "a backslash within double quotes begins an escape, and this is none",
            );
            return Some(mistake.help(format!("put it into single quotes: '{inner}'")));
        }
        if !info.contains("trailing content after") {
            return None;
        }
        let span = Span {
            start: self.at,
            end: self.start + self.line.len(),
        };
        let help = if info.contains("double-quoted") {
            "write a quote within quotes as `\\\"`, put the whole into single quotes, or on lines \
             of its own behind `|`"
        } else {
            "write a single quote within single quotes twice, put the whole into double quotes, \
             or on lines of its own behind `|`"
        };
        Some(Mistake::new(span, "the quoted text ends before this").help(help))
    }

    fn other(&self, info: &str) -> Mistake {
        let rest = self.line.get(self.at - self.start..).unwrap_or_default();
        let before = self.line.get(..self.at - self.start).unwrap_or_default();
        let help = if before.contains('\t') || rest.starts_with('\t') {
            Some("YAML is indented by spaces; replace the tab")
        } else if info.contains("mapping values are not allowed") {
            Some(
                "a text that holds `: ` must be quoted, and a nested key begins on a line of its \
                 own",
            )
        } else if rest.starts_with(['"', '\'']) {
            Some("the quote that opens here does not close on its line")
        } else if rest.trim().is_empty() || info.contains("flow") {
            Some("is a `{`, a `[` or a quote left open?")
        } else {
            None
        };
        let mistake = Mistake::new(
            Span {
                start: self.at,
                end: self.at + rest.len(),
            },
            format!("this is not YAML: {info}"),
        );
        match help {
            Some(help) => mistake.help(help),
            None => mistake,
        }
    }
}

/// The mistake of a text that is to be quoted.
fn bare_text(start: usize, bare: &str, message: impl Into<String>, help: String) -> Mistake {
    let span = Span {
        start,
        end: start + bare.len(),
    };
    Mistake::new(span, message).help(help)
}

/// What to write in the place of a word that YAML takes for an alias.
fn help_for_alias(word: &str) -> String {
    let name = word.trim_start_matches('*');
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_name {
        format!("give the value this name in front of here, by `&{name}`, or quote it: \"{word}\"")
    } else if word.starts_with("*/") || word.starts_with("* ") {
        // A cron line.
        format!("quote it: \"{word}\"")
    } else {
        format!("quote it: \"{word}\"; in `match` a `*` works in {{ wildcard: \"{word}\" }}")
    }
}

/// The line that begins there, without its end.
fn line_at(text: &str, start: usize) -> &str {
    text.get(start..)
        .unwrap_or_default()
        .split('\n')
        .next()
        .unwrap_or_default()
        .trim_end_matches('\r')
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Calls `visit` with each byte of a line that stands in no quotes, and its place.
fn unquoted(line: &str, mut visit: impl FnMut(usize, u8) -> bool) {
    let mut quote = None;
    let mut before = b' ';
    for (at, byte) in line.bytes().enumerate() {
        match quote {
            Some(open) if byte == open && (open != b'"' || before != b'\\') => quote = None,
            Some(_) => {}
            // A quote inside of a word is an apostrophe.
            None if matches!(byte, b'"' | b'\'')
                && matches!(before, b' ' | b'[' | b'{' | b',' | b':') =>
            {
                quote = Some(byte)
            }
            None if !visit(at, byte) => return,
            None => {}
        }
        before = byte;
    }
}

/// Where a comment begins behind something.
fn comment(line: &str) -> Option<usize> {
    let mut found = None;
    unquoted(line, |at, byte| {
        let blank_before = line
            .as_bytes()
            .get(at.wrapping_sub(1))
            .is_none_or(|before| before.is_ascii_whitespace());
        if byte == b'#' && blank_before {
            found = Some(at);
        }
        found.is_none()
    });
    found.filter(|at| !line.get(..*at).unwrap_or_default().trim().is_empty())
}

/// How many braces and brackets of a line are open at its end.
fn open(line: &str) -> usize {
    let mut depth = 0_usize;
    unquoted(line, |_, byte| {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        true
    });
    depth
}

fn is_quoted(line: &str, at: usize) -> bool {
    let mut quoted = true;
    unquoted(line, |unquoted, _| {
        quoted &= unquoted != at;
        true
    });
    quoted
}

/// The template that a text begins with: up to the first `>` outside of brackets and quotes.
fn template(text: &str) -> &str {
    let first = lexer::tokens(text).next();
    let whole = match first {
        Some(Ok(Token::Slot { inside, at })) => text.get(..at + inside.len() + 1),
        _ => None,
    };
    whole.unwrap_or_else(|| text.split([',', '}']).next().unwrap_or(text).trim_end())
}
