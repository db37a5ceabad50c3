//! An expression's text cut into tokens.

use std::borrow::Cow;
use std::ops::Range;

use pointsman_schemas::Problem;

use super::Operator;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// Letters, digits and underscores, with something else than digits among them: a name or a
    /// keyword.
    Word(&'t str),
    Digits(&'t str),
    /// A string literal's content.
    Text(Cow<'t, str>),
    /// An operator that is not a word.
    Operator(Operator),
    Open,
    Close,
    Comma,
    /// The end of the text.
    End,
}

/// Cuts a text into tokens, each with its place; the last one is the end.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token<'_>, Range<usize>)>, Problem> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(character) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        let (token, length) = match character {
            ' ' | '\t' | '\r' | '\n' => {
                at += 1;
                continue;
            }
            '\'' | '"' => string(rest, character).ok_or_else(|| {
                let problem = Problem::new("this quote is never closed").inside(at..at + 1);
                problem.help(format!(
                    "end it with {character}; inside of it that is written \\{character}"
                ))
            })?,
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => {
                let length = rest
                    .bytes()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                    .count();
                let word = rest.get(..length).unwrap_or_default();
                let digits = word.bytes().all(|byte| byte.is_ascii_digit());
                (
                    if digits {
                        Token::Digits(word)
                    } else {
                        Token::Word(word)
                    },
                    length,
                )
            }
            _ => symbol(rest).ok_or_else(|| unknown(rest, character, at))?,
        };
        tokens.push((token, at..at + length));
        at += length;
    }
    tokens.push((Token::End, text.len()..text.len()));
    Ok(tokens)
}

fn symbol(rest: &str) -> Option<(Token<'_>, usize)> {
    /// Longer ones first: `<=` begins with `<`.
    const SYMBOLS: [(&str, Token<'static>); 15] = [
        ("!=", Token::Operator(Operator::Unequal)),
        ("<>", Token::Operator(Operator::Unequal)),
        ("<=", Token::Operator(Operator::LessOrEqual)),
        (">=", Token::Operator(Operator::GreaterOrEqual)),
        ("=", Token::Operator(Operator::Equal)),
        ("<", Token::Operator(Operator::Less)),
        (">", Token::Operator(Operator::Greater)),
        ("+", Token::Operator(Operator::Add)),
        ("-", Token::Operator(Operator::Subtract)),
        ("*", Token::Operator(Operator::Multiply)),
        ("/", Token::Operator(Operator::Divide)),
        ("%", Token::Operator(Operator::Remainder)),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ];
    SYMBOLS
        .into_iter()
        .find(|(symbol, _)| rest.starts_with(symbol))
        .map(|(symbol, token)| (token, symbol.len()))
}

/// Reads a string literal and how long it is, quotes included; none where it has no end.
///
/// Section 2.2: a backslash escapes the quote that opened it. Before anything else it is a
/// backslash, as `LIKE` needs it.
fn string(rest: &str, quote: char) -> Option<(Token<'_>, usize)> {
    let inner = rest.get(1..)?;
    let (mut content, mut copied, mut characters) = (Cow::Borrowed(""), 0, inner.char_indices());
    while let Some((at, character)) = characters.next() {
        if character == quote {
            let tail = inner.get(copied..at)?;
            let content = if copied == 0 {
                Cow::Borrowed(tail)
            } else {
                content + tail
            };
            return Some((Token::Text(content), at + 2));
        }
        if character == '\\' && characters.next()?.1 == quote {
            content += inner.get(copied..at)?;
            // The quote itself goes with what follows.
            copied = at + 1;
        }
    }
    None
}

fn unknown(rest: &str, character: char, at: usize) -> Problem {
    let (length, help) = match character {
        '&' if rest.starts_with("&&") => (2, "write AND"),
        '|' if rest.starts_with("||") => (2, "write OR, or CONCAT(a, b) for texts"),
        '!' => (1, "write NOT, or != between two values"),
        '.' | '[' | ']' => (
            1,
            "CESQL sees the context attributes alone; hold the data against `match` or `where` \
             beside `filters`",
        ),
        '$' => (
            1,
            "this is CESQL; a JSONPath condition stands under `where`",
        ),
        '`' | '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => {
            (character.len_utf8(), "write texts between ' or \"")
        }
        _ => (
            character.len_utf8(),
            "there are attributes, literals, functions, parentheses and operators (CESQL 1.0, \
             section 2)",
        ),
    };
    let shown = rest.get(..length).unwrap_or_default();
    Problem::new(format!("{shown:?} has no meaning in CESQL"))
        .inside(at..at + length)
        .help(help)
}
