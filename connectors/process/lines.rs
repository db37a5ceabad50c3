//! A stream of bytes cut into lines, none longer than a bound.

use bytes::Bytes;
use memchr::memchr;

/// A line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// All of it.
    Whole(Bytes),
    /// The beginning of one that is longer than the bound; the rest of it is passed over.
    Cut(Bytes),
}

/// Cuts what is read into lines. Holds at most the bound and what was read at once.
#[derive(Debug)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// How much behind `start` is known to hold no line break.
    searched: usize,
    line_bytes_max: usize,
    /// True while the rest of a line that was cut is passed over.
    passes_over: bool,
}

impl Lines {
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            searched: 0,
            line_bytes_max,
            passes_over: false,
        }
    }

    /// Where to read more into: at least so many bytes fit behind what is there.
    pub(crate) fn more(&mut self, at_least: usize) -> &mut Vec<u8> {
        // Only what is left of a line is moved, at most the bound.
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.reserve(at_least);
        &mut self.bytes
    }

    /// The next line whose end is here, or the beginning of one that is too long.
    pub(crate) fn next(&mut self) -> Option<Line> {
        loop {
            let rest = self.bytes.get(self.start..).unwrap_or_default();
            let Some(found) = memchr(b'\n', rest.get(self.searched..).unwrap_or_default()) else {
                break;
            };
            let end = self.searched + found;
            let line = line(rest.get(..end).unwrap_or_default(), self.line_bytes_max);
            self.start += end + 1;
            self.searched = 0;
            if !std::mem::take(&mut self.passes_over) {
                return Some(line);
            }
        }
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        self.searched = rest.len();
        // One more for a `\r` that does not count.
        let cut = (rest.len() > self.line_bytes_max + 1).then(|| line(rest, self.line_bytes_max));
        if self.passes_over || cut.is_some() {
            self.start = self.bytes.len();
            self.searched = 0;
        }
        cut.filter(|_| !std::mem::replace(&mut self.passes_over, true))
    }

    /// What stands behind the last line break, once nothing more comes; none where that is nothing.
    pub(crate) fn rest(&mut self) -> Option<Line> {
        let rest = self
            .bytes
            .get(self.start..)
            .filter(|rest| !rest.is_empty() && !self.passes_over);
        let rest = rest.map(|rest| line(rest, self.line_bytes_max));
        *self = Self::new(self.line_bytes_max);
        rest
    }
}

fn line(bytes: &[u8], bytes_max: usize) -> Line {
    let whole = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    // A copy, so that one line does not keep the others' buffer.
    match whole.get(..bytes_max) {
        Some(beginning) if whole.len() > bytes_max => Line::Cut(Bytes::copy_from_slice(beginning)),
        _ => Line::Whole(Bytes::copy_from_slice(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a text that comes in pieces of each size, with what is left at its end.
    fn cut(text: &str, line_bytes_max: usize) -> Vec<String> {
        let show = |line: Line| match line {
            Line::Whole(line) => String::from_utf8(line.to_vec()).unwrap(),
            Line::Cut(line) => format!("{}…", String::from_utf8(line.to_vec()).unwrap()),
        };
        let mut all = Vec::new();
        for size in 1..=text.len().max(1) {
            let mut lines = Lines::new(line_bytes_max);
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.more(piece.len()).extend_from_slice(piece);
                while let Some(line) = lines.next() {
                    found.push(show(line));
                }
                assert!(
                    lines.bytes.len() - lines.start <= line_bytes_max + 1,
                    "what is held is bounded"
                );
            }
            found.extend(lines.rest().map(|line| format!("{}_", show(line))));
            all.push(found);
        }
        all.dedup();
        assert_eq!(
            all.len(),
            1,
            "the lines do not depend on the pieces that they come in: {all:?}"
        );
        all.remove(0)
    }

    #[test]
    fn lines_are_cut_alike_in_whatever_pieces_they_come() {
        for (text, expect) in [
            ("", &[][..]),
            ("a\nbc\n", &["a", "bc"]),
            ("a\r\n\r\n\nb", &["a", "", "", "b_"]),
            ("12345\n123456\nx\n", &["12345", "12345…", "x"]),
            ("12345\r\n123456\r\n", &["12345", "12345…"]),
            ("12345678901234567890\nx", &["12345…", "x_"]),
            ("12345678901234567890", &["12345…"]),
            ("123456", &["12345…_"]),
        ] {
            assert_eq!(cut(text, 5), expect, "{text:?}");
        }
    }
}
