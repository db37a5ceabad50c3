//! Patterns of `LIKE` (section 3.4.3).

use memchr::memmem::Finder;
use pointsman_schemas::Problem;

/// The most memory that a pattern's automaton may take.
const AUTOMATON_BYTES_MAX: usize = 256 * 1024;

/// A compiled pattern; matching is linear in the text.
#[derive(Debug)]
pub(crate) struct Like(Body);

#[derive(Debug)]
enum Body {
    /// Without `%` and `_`.
    Whole(Box<str>),
    /// What stands before the first `%`, between them, and after the last one.
    Parts {
        prefix: Box<str>,
        inner: Vec<Finder<'static>>,
        suffix: Box<str>,
    },
    /// With a `_`, which may be anywhere in what a `%` skips to: left to an automaton.
    Automaton(Box<regex::Regex>),
}

/// What is written out in a pattern.
pub(crate) enum Literals<'l> {
    Whole(&'l str),
    Parts(&'l str, &'l [Finder<'static>], &'l str),
}

enum Element {
    Character(char),
    One,
    Any,
}

impl Like {
    /// Compiles a pattern: `%` stands for any text, `_` for one character, and a backslash makes
    /// either literal.
    pub(crate) fn new(pattern: &str) -> Result<Self, Problem> {
        let (mut elements, mut characters) = (Vec::new(), pattern.chars().peekable());
        while let Some(character) = characters.next() {
            elements.push(match character {
                '\\' => Element::Character(
                    characters
                        .next_if(|next| matches!(next, '%' | '_'))
                        .unwrap_or('\\'),
                ),
                '%' => Element::Any,
                '_' => Element::One,
                other => Element::Character(other),
            });
        }
        let body = if elements
            .iter()
            .any(|element| matches!(element, Element::One))
        {
            automaton(&elements)?
        } else {
            literal(&elements)
        };
        Ok(Self(body))
    }

    /// Texts that whatever fits begins with, holds and ends with; where it is but one text, that.
    /// None where a `_` stands.
    pub(crate) fn literals(&self) -> Option<Literals<'_>> {
        match &self.0 {
            Body::Whole(whole) => Some(Literals::Whole(whole)),
            Body::Parts {
                prefix,
                inner,
                suffix,
            } => Some(Literals::Parts(prefix, inner, suffix)),
            Body::Automaton(_) => None,
        }
    }

    pub(crate) fn fits(&self, text: &str) -> bool {
        match &self.0 {
            Body::Whole(whole) => text == &**whole,
            Body::Parts {
                prefix,
                inner,
                suffix,
            } => {
                let Some(rest) = text
                    .strip_prefix(&**prefix)
                    .and_then(|rest| rest.strip_suffix(&**suffix))
                else {
                    return false;
                };
                let mut rest = rest.as_bytes();
                inner.iter().all(|part| {
                    let found = part
                        .find(rest)
                        .and_then(|at| rest.get(at + part.needle().len()..));
                    found.map(|after| rest = after).is_some()
                })
            }
            Body::Automaton(regex) => regex.is_match(text),
        }
    }
}

fn literal(elements: &[Element]) -> Body {
    let text = |part: &[Element]| -> String {
        part.iter()
            .filter_map(|element| {
                if let Element::Character(character) = element {
                    Some(*character)
                } else {
                    None
                }
            })
            .collect()
    };
    let parts: Vec<String> = elements
        .split(|element| matches!(element, Element::Any))
        .map(text)
        .collect();
    match parts.as_slice() {
        [prefix, inner @ .., suffix] => Body::Parts {
            prefix: prefix.as_str().into(),
            inner: inner
                .iter()
                .filter(|part| !part.is_empty())
                .map(|part| Finder::new(part).into_owned())
                .collect(),
            suffix: suffix.as_str().into(),
        },
        whole => Body::Whole(whole.concat().into()),
    }
}

fn automaton(elements: &[Element]) -> Result<Body, Problem> {
    let mut regex = String::from("^");
    for element in elements {
        match element {
            Element::Character(character) => {
                regex.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])))
            }
            Element::One => regex.push('.'),
            Element::Any => regex.push_str(".*"),
        }
    }
    regex.push('$');
    let built = regex::RegexBuilder::new(&regex)
        .dot_matches_new_line(true)
        .size_limit(AUTOMATON_BYTES_MAX)
        .build();
    let regex = built.map_err(|_| {
        Problem::new("this pattern is too large").help("shorten it, or use fewer _")
    })?;
    Ok(Body::Automaton(Box::new(regex)))
}
