//! Where `<$…>` stands in a text: the one lexer of templates.
//!
//! `<$` opens a slot, and the first `>` outside brackets and quotes closes it. Inside quotes a
//! backslash takes the next character for itself. Any other `<` is plain text, and so is `<$$`,
//! which stands for a literal `<$`. What stands in a slot is not looked at here: templates of rules
//! have a JSONPath in it, signatures of webhooks the name of a part of the request.

use std::iter::FusedIterator;

/// What opens a slot.
pub const OPEN: &str = "<$";

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'t> {
    /// Text as it is; the `<$` of `<$$` is a token of its own.
    Text(&'t str),
    /// A slot.
    Slot {
        /// What stands between `<` and `>`, its `$` included.
        inside: &'t str,
        /// Where that begins, in bytes of the whole text.
        at: usize,
    },
}

/// The slot that is opened here is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclosed {
    /// Where its `<` is, in bytes of the whole text.
    pub at: usize,
}

/// Cuts a text at its slots. An unclosed one is the last item.
#[must_use]
pub fn tokens(text: &str) -> Tokens<'_> {
    Tokens { text, at: 0 }
}

/// The pieces of a text; see [`tokens`].
#[derive(Clone, Debug)]
pub struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Result<Token<'t>, Unclosed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let open = match rest.find(OPEN) {
            Some(0) => self.at,
            found => {
                let plain = found.map_or(rest, |open| rest.get(..open).unwrap_or(rest));
                self.at += plain.len();
                return Some(Ok(Token::Text(plain)));
            }
        };
        let inside = open + 1;
        if rest.get(OPEN.len()..)?.starts_with('$') {
            self.at = inside + OPEN.len();
            return Some(Ok(Token::Text(OPEN)));
        }
        let Some(close) = closing(self.text.get(inside..)?) else {
            self.at = self.text.len();
            return Some(Err(Unclosed { at: open }));
        };
        self.at = inside + close + 1;
        Some(Ok(Token::Slot {
            inside: self.text.get(inside..inside + close)?,
            at: inside,
        }))
    }
}

impl FusedIterator for Tokens<'_> {}

/// Where the slot is closed whose inside begins here: the first `>` outside brackets and quotes.
fn closing(inside: &str) -> Option<usize> {
    outside(inside)
        .find(|(_, rest)| rest.starts_with('>'))
        .map(|(at, _)| at)
}

/// The places of a slot's inside that are outside brackets and quotes, each with the text from
/// there on.
pub fn outside(inside: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    inside.char_indices().filter_map(move |(at, character)| {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(mark), _) if mark == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '[' | '(' | '{') => depth += 1,
            (None, ']' | ')' | '}') => depth = depth.saturating_sub(1),
            (None, _) if depth == 0 => return inside.get(at..).map(|rest| (at, rest)),
            (None, _) => {}
        }
        None
    })
}

/// True where a text is not what it stands for: it has a slot in it, or a `<$$`.
#[must_use]
pub fn is_template(text: &str) -> bool {
    text.contains(OPEN)
}

/// True where a text has a slot in it, be it one that is not closed.
#[must_use]
pub fn has_slot(text: &str) -> bool {
    tokens(text).any(|token| !matches!(token, Ok(Token::Text(_))))
}

/// The inside of the slot that a text consists of alone.
#[must_use]
pub fn only_slot(text: &str) -> Option<&str> {
    let mut tokens = tokens(text);
    match (tokens.next(), tokens.next()) {
        (Some(Ok(Token::Slot { inside, .. })), None) => Some(inside),
        _ => None,
    }
}

/// Returns a template that stands for this text as it is.
#[must_use]
pub fn literal(text: &str) -> String {
    text.replace(OPEN, "<$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens as a text: slots in ⟨⟩, `!` and a place for one that is not closed.
    fn shown(text: &str) -> String {
        let shown = tokens(text).map(|token| match token {
            Ok(Token::Text(plain)) => plain.to_owned(),
            Ok(Token::Slot { inside, at }) => {
                assert_eq!(&text[at..at + inside.len()], inside);
                format!("⟨{inside}⟩")
            }
            Err(Unclosed { at }) => format!("!{at}"),
        });
        shown.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn slots_are_found_past_brackets_quotes_and_escapes() {
        for (text, expect) in [
            ("", ""),
            ("plain", "plain"),
            ("<", "<"),
            ("a < b > c", "a < b > c"),
            ("<$>", "⟨$⟩"),
            ("<$.a>", "⟨$.a⟩"),
            ("x<$.a>y<$.b>", "x|⟨$.a⟩|y|⟨$.b⟩"),
            ("<$.a><$.b>", "⟨$.a⟩|⟨$.b⟩"),
            // Braces, brackets and parentheses.
            ("<$.a[?@.b > 1].c>d", "⟨$.a[?@.b > 1].c⟩|d"),
            ("<$[?(@.b > 1)]>", "⟨$[?(@.b > 1)]⟩"),
            ("<$.a ?? {\"b\": \">\"}>c", "⟨$.a ?? {\"b\": \">\"}⟩|c"),
            ("<$.a ?? [1, [2]]>", "⟨$.a ?? [1, [2]]⟩"),
            ("<$.a]>b", "⟨$.a]⟩|b"),
            ("<$.a[?@.b > 1>", "!0"),
            // Quotes.
            ("<$['a>b']>", "⟨$['a>b']⟩"),
            ("<$.a ?? \"]>\">", "⟨$.a ?? \"]>\"⟩"),
            ("<$.a ?? \"it's\">", "⟨$.a ?? \"it's\"⟩"),
            ("<$['a\"b']>", "⟨$['a\"b']⟩"),
            ("<$.a ?? \"x>", "!0"),
            ("it's <$.a> isn't", "it's |⟨$.a⟩| isn't"),
            // Escapes.
            (r#"<$.a ?? "\">">"#, r#"⟨$.a ?? "\">"⟩"#),
            (r"<$['it\'s>']>", r"⟨$['it\'s>']⟩"),
            (r#"<$.a ?? "\\">b"#, r#"⟨$.a ?? "\\"⟩|b"#),
            ("<$$.a>", "<$|.a>"),
            ("a<$$", "a|<$"),
            ("<$$<$.a>", "<$|⟨$.a⟩"),
            ("<$$$.a>", "<$|$.a>"),
            ("<<$.a>>", "<|⟨$.a⟩|>"),
            // What is not closed.
            ("<$", "!0"),
            ("a<$.b", "a|!1"),
            ("<$.a <$.b>", "⟨$.a <$.b⟩"),
            ("ü<$.ü>ü", "ü|⟨$.ü⟩|ü"),
        ] {
            assert_eq!(shown(text), expect, "{text}");
            assert_eq!(has_slot(text), expect.contains(['⟨', '!']), "{text}");
            let only = expect
                .strip_prefix('⟨')
                .and_then(|rest| rest.strip_suffix('⟩'));
            let only = only.filter(|inside| !inside.contains('⟩'));
            assert_eq!(only_slot(text), only, "{text}");
            assert_eq!(is_template(text), text.contains("<$"));
            // What is made literal has no slot, and stands for the text.
            let literal = literal(text);
            let read: String = tokens(&literal)
                .map(|token| match token {
                    Ok(Token::Text(plain)) => plain,
                    other => panic!("{other:?} in {literal}"),
                })
                .collect();
            assert_eq!(read, text);
        }
    }
}
