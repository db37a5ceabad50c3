//! `wildcard`: a text in which `*` stands for any characters, also none.

/// A compiled wildcard: the texts between its stars, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wildcard {
    /// What stands before the first star.
    first: Box<[u8]>,
    /// What stands between two stars.
    middle: Vec<Box<[u8]>>,
    /// What stands behind the last star; none where there is no star.
    last: Option<Box<[u8]>>,
}

/// The most prefixes of a wildcard that one text may match at the same time.
///
/// EventBridge refuses what is more complex ("Rule is too complex"); its documentation gives no
/// number, and this one agrees with its verdicts as far as they are known. The matching here is
/// linear and would not need it.
const COMPLEXITY_MAX: usize = 10;

/// How many sets of prefixes are looked at before a wildcard is let through.
const SETS_MAX: usize = 4_096;

/// How many steps the wildcards of one pattern may take together to be checked; each takes about a
/// tenth of a microsecond. Only those take any of which is not plain at once that they are simple
/// enough.
pub(crate) const STEPS_MAX: usize = 1_000_000;

/// Why a text is no wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// What is wrong at a byte.
    At(usize, &'static str),
    /// One text could match too many of its prefixes at the same time.
    TooComplex,
    /// There are no steps left to find out.
    TooMany,
}

impl Wildcard {
    /// Compiles a wildcard. Checking it takes some of the steps that are left.
    ///
    /// # Errors
    /// Why it cannot be compiled.
    pub(crate) fn compile(text: &str, steps_left: &mut usize) -> Result<Self, Refused> {
        let mut parts = vec![Vec::new()];
        let mut symbols = Vec::new();
        let mut bytes = text.bytes().enumerate().peekable();
        while let Some((at, byte)) = bytes.next() {
            let literal = match byte {
                b'*' => {
                    if bytes.peek().is_some_and(|(_, next)| *next == b'*') {
                        return Err(Refused::At(
                            at,
                            "two stars in a row mean no more than one; write *",
                        ));
                    }
                    parts.push(Vec::new());
                    symbols.push(None);
                    continue;
                }
                b'\\' => match bytes.next() {
                    Some((_, escaped @ (b'*' | b'\\'))) => escaped,
                    _ => {
                        return Err(Refused::At(
                            at,
                            r"in a wildcard a backslash stands before * or \ only; write \\ for a backslash",
                        ));
                    }
                },
                other => other,
            };
            if let Some(part) = parts.last_mut() {
                part.push(literal);
            }
            symbols.push(Some(literal));
        }
        if complexity_at_most(&parts) > COMPLEXITY_MAX
            && complexity(&symbols, steps_left).ok_or(Refused::TooMany)? > COMPLEXITY_MAX
        {
            return Err(Refused::TooComplex);
        }
        let mut parts = parts.into_iter().map(Vec::into_boxed_slice);
        let first = parts.next().unwrap_or_default();
        let mut middle: Vec<_> = parts.collect();
        let last = middle.pop();
        Ok(Self {
            first,
            middle,
            last,
        })
    }

    /// What stands before the first star; where there is no star, all of it.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }

    /// What stands between two stars.
    pub(crate) fn middle(&self) -> impl Iterator<Item = &[u8]> {
        self.middle.iter().map(|part| &**part)
    }

    /// What stands behind the last star; none where there is no star.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        self.last.as_deref()
    }

    /// Whether a text fits from its beginning to its end.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let Some(last) = &self.last else {
            return text == &*self.first;
        };
        let Some(rest) = text.strip_prefix(&*self.first) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&**last) else {
            return false;
        };
        // The earliest place for each part leaves the most room for those behind it.
        for part in &self.middle {
            match memchr::memmem::find(rest, part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        true
    }
}

/// More prefixes of a wildcard than these, the texts between its stars, no text can match at the
/// same time.
///
/// Behind each star that has been reached these are the prefix up to the star, and of the part
/// behind it all beginnings that the text ends with: each is a border of the longest one (Knuth,
/// Morris and Pratt, 1977).
fn complexity_at_most(parts: &[Vec<u8>]) -> usize {
    parts.iter().skip(1).fold(1, |sum, part| {
        let (mut borders, mut chains, mut longest) =
            (vec![0_usize], vec![0_usize, 1], 1.min(part.len()));
        for (at, byte) in part.iter().enumerate().skip(1) {
            let mut border = borders.last().copied().unwrap_or_default();
            while border > 0 && part.get(border) != Some(byte) {
                border = borders.get(border - 1).copied().unwrap_or_default();
            }
            border += usize::from(part.get(border) == Some(byte) && border < at);
            borders.push(border);
            let chain = chains.get(border).copied().unwrap_or_default() + 1;
            chains.push(chain);
            longest = longest.max(chain);
        }
        sum + 1 + longest
    })
}

/// The most prefixes of a wildcard that one text can match at the same time, or a bound where that
/// takes too many sets; none where there are no steps left.
fn complexity(symbols: &[Option<u8>], steps_left: &mut usize) -> Option<usize> {
    if symbols.iter().filter(|symbol| symbol.is_none()).count() == 0 {
        return Some(1);
    }
    // Sets of how many symbols have been matched, grown byte by byte.
    let close = |set: &mut Vec<usize>| {
        let mut at = 0;
        while let Some(matched) = set.get(at).copied() {
            if symbols.get(matched) == Some(&None) && !set.contains(&(matched + 1)) {
                set.push(matched + 1);
            }
            at += 1;
        }
        set.sort_unstable();
        set.dedup();
    };
    let mut start = vec![0];
    close(&mut start);
    let mut alphabet: Vec<u8> = symbols.iter().flatten().copied().collect();
    alphabet.sort_unstable();
    alphabet.dedup();
    let mut most = start.iter().filter(|matched| **matched > 0).count();
    let mut seen = std::collections::HashSet::from([start.clone()]);
    let mut waiting = vec![start];
    while let Some(set) = waiting.pop() {
        if seen.len() > SETS_MAX || most > COMPLEXITY_MAX {
            break;
        }
        match steps_left.checked_sub(alphabet.len()) {
            Some(left) => *steps_left = left,
            None => {
                *steps_left = 0;
                return None;
            }
        }
        for byte in &alphabet {
            let mut next = Vec::new();
            for matched in &set {
                // Behind a star the star may also take the byte.
                if matched
                    .checked_sub(1)
                    .is_some_and(|star| symbols.get(star) == Some(&None))
                {
                    next.push(*matched);
                }
                if symbols.get(*matched) == Some(&Some(*byte)) {
                    next.push(matched + 1);
                }
            }
            close(&mut next);
            most = most.max(next.len());
            if !next.is_empty() && seen.insert(next.clone()) {
                waiting.push(next);
            }
        }
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards() {
        for (wildcard, yes, no) in [
            (
                "a*c",
                &["ac", "abc", "abcc"][..],
                &["a", "c", "acd", "xac"][..],
            ),
            ("*", &["", "x"], &[]),
            ("abc", &["abc"], &["ab", "abcd"]),
            ("*/dir/*", &["/dir/", "x/dir/y"], &["dir/", "/dir"]),
            (r"a\*b\\*", &[r"a*b\", r"a*b\x"], &["axb"]),
            ("ab*ba", &["abba", "abxba"], &["aba"]),
            ("*a*a*", &["aa", "xaxa"], &["a"]),
            ("", &[""], &["x"]),
            ("ü*", &["über"], &["u"]),
        ] {
            let wildcard = compile(wildcard).unwrap();
            assert!(
                yes.iter().all(|text| wildcard.matches(text.as_bytes())),
                "{wildcard:?}"
            );
            assert!(
                !no.iter().any(|text| wildcard.matches(text.as_bytes())),
                "{wildcard:?}"
            );
        }
        for (bad, expect) in [("a**b", 1), (r"a\b", 1), ("a\\", 1)] {
            assert!(
                matches!(compile(bad), Err(Refused::At(at, _)) if at == expect),
                "{bad}"
            );
        }
        for complex in ["*:*:*:*:*:event-bus/*", "*a*a*a*a*a*a*a*a*"] {
            assert_eq!(compile(complex), Err(Refused::TooComplex), "{complex}");
        }
    }

    #[test]
    fn complexity_counts_the_prefixes_that_one_text_matches() {
        let of = |text: &str| exact(text).unwrap();
        for (text, expect) in [
            ("*ab", 2),
            ("*aa", 3),
            ("a*b", 2),
            ("aa*", 2),
            ("a*bb", 3),
            ("*ab*ad", 4),
            ("*aba*", 4),
            ("a*b*bb", 5),
            ("*ab*b*b*", 7),
        ] {
            assert_eq!(of(text), expect, "{text}");
        }
        // Neither long texts nor many stars take long.
        of(&format!("*{}*{}", "ab".repeat(2_000), "a".repeat(2_000)));
    }

    #[test]
    fn what_is_simple_takes_no_steps_to_check() {
        let mut steps = 0;
        for simple in [
            "abc",
            "a*",
            "*.jpg",
            "*/dir/*",
            "albums/*/2026/*.jpg",
            &format!("*{}*", "0123456789abcdef".repeat(30))[..400],
        ] {
            assert!(
                simple.len() < 400 || complexity_at_most(&parts(simple)) > COMPLEXITY_MAX,
                "repetitions are not simple"
            );
            assert!(
                simple.len() == 400 || Wildcard::compile(simple, &mut steps).is_ok(),
                "{simple}"
            );
        }
        assert_eq!(
            Wildcard::compile("*aaaaaaaaaaab*aaaaaaaaaaa", &mut steps),
            Err(Refused::TooMany)
        );
    }

    fn compile(text: &str) -> Result<Wildcard, Refused> {
        Wildcard::compile(text, &mut { STEPS_MAX })
    }

    fn exact(text: &str) -> Option<usize> {
        complexity(
            &text
                .bytes()
                .map(|byte| (byte != b'*').then_some(byte))
                .collect::<Vec<_>>(),
            &mut { usize::MAX },
        )
    }

    fn parts(text: &str) -> Vec<Vec<u8>> {
        text.split('*')
            .map(|part| part.as_bytes().to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn the_complexity_is_bounded_from_above(wildcard in "[ab*]{0,9}") {
            prop_assume!(!wildcard.contains("**"));
            prop_assert!(exact(&wildcard).unwrap() <= complexity_at_most(&parts(&wildcard)), "{}", wildcard);
        }

        #[test]
        fn agrees_with_a_regular_expression(wildcard in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assume!(!wildcard.contains("**"));
            if let Ok(compiled) = compile(&wildcard) {
                let regex = regex::Regex::new(&format!("^{}$", wildcard.replace('*', ".*"))).unwrap();
                prop_assert_eq!(compiled.matches(text.as_bytes()), regex.is_match(&text));
            }
        }
    }
}
