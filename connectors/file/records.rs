//! Records in what was read of a file.

use std::ops::Range;

use regex::bytes::Regex;

/// The longest record, in bytes.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;

/// What is known of what comes behind what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// More may come: the last line may go on, and so may the last record.
    More,
    /// Nothing has come for a while: the last record is whole, up to its last line break.
    Pause,
    /// Nothing will come.
    Nothing,
}

/// The records in a text, and how much of it they and the lines between them take.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Records {
    /// Without the breaks behind them; none is empty.
    pub(super) all: Vec<Range<usize>>,
    /// Up to where the text is done with.
    pub(super) end: usize,
}

/// Finds the records that are whole, `many` at most. With `starts` a line that matches begins one, and
/// others go on with it.
pub(super) fn records(text: &[u8], starts: Option<&Regex>, behind: Behind, many: usize) -> Records {
    let mut found = Records {
        all: Vec::new(),
        end: 0,
    };
    // The record under way.
    let mut open: Option<Range<usize>> = None;
    let mut at = 0;
    while at < text.len() && found.all.len() < many {
        let rest = text.get(at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            if behind == Behind::Nothing {
                let goes_on = open.is_some() && starts.is_some_and(|starts| !starts.is_match(rest));
                match &mut open {
                    Some(open) if goes_on => open.end = text.len(),
                    _ => {
                        found.close(&mut open, at);
                        open = Some(at..text.len());
                    }
                }
                at = text.len();
            }
            break;
        };
        let line = at..at + trimmed(rest.get(..length).unwrap_or_default());
        let content = text.get(line.clone()).unwrap_or_default();
        let goes_on = starts.is_some_and(|starts| !starts.is_match(content));
        match &mut open {
            Some(open) if goes_on => open.end = line.end,
            _ => {
                found.close(&mut open, at);
                open = Some(line);
            }
        }
        at += length + 1;
        if starts.is_none() {
            found.close(&mut open, at);
        }
    }
    if behind != Behind::More && found.all.len() < many {
        found.close(&mut open, at);
    }
    found
}

impl Records {
    /// Takes in the record under way, behind which the next begins at a place.
    fn close(&mut self, open: &mut Option<Range<usize>>, next: usize) {
        if let Some(record) = open.take() {
            if !record.is_empty() {
                self.all.push(record);
            }
            self.end = next;
        }
    }
}

/// How long a line is without a carriage return behind it.
fn trimmed(line: &[u8]) -> usize {
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'t>(text: &'t str, starts: Option<&str>, behind: Behind) -> (Vec<&'t str>, &'t str) {
        let starts = starts.map(|starts| Regex::new(starts).unwrap());
        let records = records(text.as_bytes(), starts.as_ref(), behind, 100);
        let all = records.all.into_iter().map(|record| &text[record]);
        (all.collect(), &text[records.end..])
    }

    #[test]
    fn lines_are_records() {
        for (text, expect, rest) in [
            ("", &[][..], ""),
            ("one", &[], "one"),
            ("one\ntwo\r\nthr", &["one", "two"], "thr"),
            ("\n\r\none\n\n", &["one"], ""),
        ] {
            assert_eq!(
                found(text, None, Behind::More),
                (expect.to_vec(), rest),
                "{text:?}"
            );
            assert_eq!(
                found(text, None, Behind::Pause),
                (expect.to_vec(), rest),
                "{text:?}"
            );
        }
        assert_eq!(
            found("one\ntw", None, Behind::Nothing),
            (vec!["one", "tw"], "")
        );
    }

    #[test]
    fn a_record_of_several_lines_is_whole_once_the_next_begins() {
        let starts = Some("^[0-9]");
        let text = "1 a\n at x\n at y\n2 b\n at z\n";
        let first = "1 a\n at x\n at y";
        assert_eq!(
            found(text, starts, Behind::More),
            (vec![first], "2 b\n at z\n")
        );
        assert_eq!(
            found(text, starts, Behind::Pause),
            (vec![first, "2 b\n at z"], "")
        );
        let torn = "1 a\n at x\n at";
        assert_eq!(found(torn, starts, Behind::More), (vec![], torn));
        assert_eq!(
            found(torn, starts, Behind::Pause),
            (vec!["1 a\n at x"], " at")
        );
        assert_eq!(found(torn, starts, Behind::Nothing), (vec![torn], ""));
        assert_eq!(
            found("1 a\n2", starts, Behind::Nothing),
            (vec!["1 a", "2"], "")
        );
        // What comes before the first beginning is one of its own.
        assert_eq!(
            found(" at\n1 a\n", starts, Behind::More),
            (vec![" at"], "1 a\n")
        );
        assert_eq!(
            found("1 a\r\n at\r\n2\n", starts, Behind::More),
            (vec!["1 a\r\n at"], "2\n")
        );
    }

    #[test]
    fn no_more_are_found_than_are_asked_for() {
        let of = |many| records(b"a\nb\nc\n", None, Behind::Pause, many);
        assert_eq!(
            of(2),
            Records {
                all: vec![0..1, 2..3],
                end: 4
            }
        );
        let starts = Regex::new("^[a-z]").unwrap();
        let of = |many| records(b"a\n1\nb\nc\n", Some(&starts), Behind::Pause, many);
        let one = of(1);
        assert_eq!((one.all.first(), one.end), (Some(&(0..3)), 4));
        assert_eq!(one.all.len(), 1);
        assert_eq!(
            of(9),
            Records {
                all: vec![0..3, 4..5, 6..7],
                end: 8
            }
        );
    }
}
