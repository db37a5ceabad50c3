//! The header `Prefer`: RFC 7240.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// What a client would like.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What of it the server has done.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What a request prefers, as far as it is known here. Everything else is passed over: section 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// `return=representation`: section 4.2.
    pub(super) representation: bool,
    /// `wait`: section 4.3.
    pub(super) wait: Option<Duration>,
}

impl Preferences {
    /// Reads them. Several headers are one list, and of a preference that is there more than once
    /// the first counts.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let (mut returns, mut waits) = (None, None);
        for value in headers.get_all(PREFER) {
            let Ok(text) = value.to_str() else { continue };
            for preference in split(text, b',') {
                // Parameters behind a semicolon say more of it; those known here have none.
                let Some(whole) = split(preference, b';').next() else {
                    continue;
                };
                let (name, word) = whole.split_once('=').unwrap_or((whole, ""));
                let word = unquoted(word.trim());
                let first = if name.trim().eq_ignore_ascii_case("return") {
                    &mut returns
                } else if name.trim().eq_ignore_ascii_case("wait") {
                    &mut waits
                } else {
                    continue;
                };
                first.get_or_insert(word);
            }
        }
        Self {
            representation: returns.is_some_and(|word| word.eq_ignore_ascii_case("representation")),
            wait: waits.and_then(|word| seconds(&word)),
        }
    }
}

/// `delta-seconds`: digits alone. More than can be counted is for ever.
fn seconds(word: &str) -> Option<Duration> {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(word.parse().unwrap_or(u64::from(u32::MAX))))
}

/// The parts between separators that are not in a quoted string.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character: char| {
        if is_escaped {
            is_escaped = false;
        } else if is_quoted && character == '\\' {
            is_escaped = true;
        } else if character == '"' {
            is_quoted = !is_quoted;
        }
        !is_quoted && character == char::from(separator)
    })
}

/// A word without the quotes that it may stand in.
fn unquoted(word: &str) -> String {
    let inner = word
        .strip_prefix('"')
        .and_then(|word| word.strip_suffix('"'));
    let Some(inner) = inner else {
        return word.to_owned();
    };
    let mut characters = inner.chars();
    let mut plain = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        let character = match character {
            '\\' => characters.next(),
            character => Some(character),
        };
        plain.extend(character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Preferences {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_str(value).unwrap());
        }
        Preferences::of(&headers)
    }

    #[test]
    fn preferences_are_read_from_all_headers_and_the_first_counts() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        type Expected = (bool, Option<Duration>);
        let table: [(&[&str], Expected); 20] = [
            (&[], (false, None)),
            (&["return=representation"], (true, None)),
            (&["Return = Representation"], (true, None)),
            (&["return=minimal"], (false, None)),
            (&["return"], (false, None)),
            (&["return=minimal, return=representation"], (false, None)),
            (&["wait=30"], (false, seconds(30))),
            (&["WAIT=\"30\""], (false, seconds(30))),
            (&["wait=\"3\\0\""], (false, seconds(30))),
            (&["wait=0"], (false, seconds(0))),
            (
                &["wait=99999999999999999999"],
                (false, seconds(u64::from(u32::MAX))),
            ),
            (&["wait=-1"], (false, None)),
            (&["wait=1.5"], (false, None)),
            (&["wait="], (false, None)),
            (&["wait"], (false, None)),
            (&["wait=5; foo=bar, wait=9"], (false, seconds(5))),
            (&["respond-async, wait=5"], (false, seconds(5))),
            (
                &["wait=5", "return=representation;x=\"a,b;c\""],
                (true, seconds(5)),
            ),
            (&["foo=\"a, wait=7\", wait=5"], (false, seconds(5))),
            (&["foo=\"\\\", wait=7\", wait=5"], (false, seconds(5))),
        ];
        for (values, (representation, wait)) in table {
            let expect = Preferences {
                representation,
                wait,
            };
            assert_eq!(read(values), expect, "{values:?}");
        }
    }
}
