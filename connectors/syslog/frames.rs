//! Messages in a stream (RFC 6587): each stands behind its length, or in front of a line break. A
//! sender may do either, and each message is looked at anew.

use bytes::{Buf, Bytes, BytesMut};

/// How many digits a length has at most.
const DIGITS_MAX: usize = 9;

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// Whether there was more of it: it was too long, or its sender went away.
    pub(super) is_cut: bool,
}

impl Frame {
    /// A message without what stands behind it; none where there is nothing else.
    pub(super) fn of(mut bytes: Bytes, is_cut: bool) -> Option<Self> {
        let end = bytes
            .iter()
            .rposition(|byte| !is_between(*byte))
            .map_or(0, |last| last + 1);
        bytes.truncate(end);
        (!bytes.is_empty()).then_some(Self { bytes, is_cut })
    }
}

/// Whether a byte may stand between two messages: a line break, or the zero that some send.
fn is_between(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 0)
}

/// What is left of a message that was too long.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    None,
    Bytes(usize),
    Line,
}

/// What has been read of a stream, and is no message yet.
#[derive(Debug)]
pub(super) struct Frames {
    /// What comes is added here.
    pub(super) buffer: BytesMut,
    message_bytes_max: usize,
    rest: Rest,
}

/// How the next message is delimited.
#[derive(Debug, PartialEq, Eq)]
enum Delimited {
    /// By its length, behind so many bytes.
    Counted { head: usize, length: usize },
    /// By a line break.
    Line,
    /// That takes more of it.
    Unknown,
}

impl Frames {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            message_bytes_max,
            rest: Rest::None,
        }
    }

    /// The next message that is there.
    pub(super) fn next(&mut self) -> Option<Frame> {
        loop {
            if !self.skip_rest() {
                return None;
            }
            let between = self.buffer.iter().take_while(|byte| is_between(**byte));
            self.buffer.advance(between.count());
            let (bytes, is_cut) = match delimited(&self.buffer) {
                Delimited::Unknown => return None,
                Delimited::Counted { head, length } => self.counted(head, length)?,
                Delimited::Line => self.line()?,
            };
            let frame = Frame::of(bytes, is_cut);
            if frame.is_some() {
                return frame;
            }
        }
    }

    /// The last message, once nothing comes any more.
    pub(super) fn last(&mut self) -> Option<Frame> {
        if self.rest != Rest::None {
            return None;
        }
        let is_cut = match delimited(&self.buffer) {
            Delimited::Counted { head, .. } => {
                self.buffer.advance(head);
                true
            }
            // Not every sender ends its last line.
            Delimited::Line | Delimited::Unknown => false,
        };
        Frame::of(self.buffer.split().freeze(), is_cut)
    }

    /// Leaves out what is left of a message that was too long. Returns whether that is done.
    fn skip_rest(&mut self) -> bool {
        let (skipped, rest) = match self.rest {
            Rest::None => return true,
            Rest::Bytes(left) => {
                let skipped = left.min(self.buffer.len());
                (skipped, Rest::Bytes(left - skipped))
            }
            Rest::Line => match line_end(&self.buffer) {
                Some(end) => (end, Rest::None),
                None => (self.buffer.len(), Rest::Line),
            },
        };
        self.buffer.advance(skipped);
        self.rest = match rest {
            Rest::Bytes(0) => Rest::None,
            rest => rest,
        };
        self.rest == Rest::None
    }

    fn counted(&mut self, head: usize, length: usize) -> Option<(Bytes, bool)> {
        let taken = length.min(self.message_bytes_max);
        if self.buffer.len() - head < taken {
            return None;
        }
        self.buffer.advance(head);
        if taken < length {
            self.rest = Rest::Bytes(length - taken);
        }
        Some((self.buffer.split_to(taken).freeze(), taken < length))
    }

    fn line(&mut self) -> Option<(Bytes, bool)> {
        match line_end(&self.buffer) {
            Some(end) if end <= self.message_bytes_max => {
                Some((self.buffer.split_to(end).freeze(), false))
            }
            None if self.buffer.len() <= self.message_bytes_max => None,
            _ => {
                self.rest = Rest::Line;
                let taken = self.buffer.split_to(self.message_bytes_max);
                Some((taken.freeze(), true))
            }
        }
    }
}

/// Where the line ends that a text begins with.
fn line_end(text: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\n', 0, text)
}

/// A length is one only in front of a message's priority: a line may begin with a number.
fn delimited(text: &[u8]) -> Delimited {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > DIGITS_MAX || text.first().is_some_and(|first| *first == b'0') {
        return Delimited::Line;
    }
    let length = text.get(..digits).unwrap_or_default();
    match text.get(digits..).unwrap_or_default() {
        [] => Delimited::Unknown,
        [b' '] if digits > 0 => Delimited::Unknown,
        [b' ', b'<', ..] if digits > 0 => Delimited::Counted {
            head: digits + 1,
            length: length
                .iter()
                .fold(0, |length, digit| length * 10 + usize::from(digit - b'0')),
        },
        _ => Delimited::Line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 16;

    /// The messages in a stream that comes in pieces of a length, up to its end.
    fn read(stream: &[u8], piece: usize) -> Vec<(String, bool)> {
        let mut frames = Frames::new(BYTES_MAX);
        let mut all = Vec::new();
        for piece in stream.chunks(piece) {
            frames.buffer.extend_from_slice(piece);
            all.extend(std::iter::from_fn(|| frames.next()));
            assert!(frames.buffer.len() <= BYTES_MAX + DIGITS_MAX + 1);
        }
        all.extend(frames.last());
        let text = |frame: Frame| String::from_utf8(frame.bytes.to_vec()).unwrap();
        let shown = |frame: Frame| (frame.is_cut, text(frame));
        all.into_iter()
            .map(shown)
            .map(|(is_cut, text)| (text, is_cut))
            .collect()
    }

    #[test]
    fn messages_are_found_however_they_are_delimited_and_in_whatever_pieces_they_come() {
        for (stream, expect) in [
            ("", &[][..]),
            ("\n\r\n\u{0}", &[]),
            (
                "<1>a\n<2>b\r\n<3>c",
                &[("<1>a", false), ("<2>b", false), ("<3>c", false)],
            ),
            ("4 <1>a5 <2>bb", &[("<1>a", false), ("<2>bb", false)]),
            (
                "7 <1>a\n\nb\n<2>c\u{0}4 <3>d",
                &[("<1>a\n\nb", false), ("<2>c", false), ("<3>d", false)],
            ),
            // Neither is a length.
            (
                "12 monkeys\n2026-11-30 a\n",
                &[("12 monkeys", false), ("2026-11-30 a", false)],
            ),
            ("0 <1>a\n", &[("0 <1>a", false)]),
            ("1234567890 <1>a\n", &[("1234567890 <1>a", false)]),
            ("12", &[("12", false)]),
            ("12 ", &[("12 ", false)]),
            // What is too long, and what breaks off.
            (
                "<1>0123456789abcd\n<2>a\n",
                &[("<1>0123456789abc", true), ("<2>a", false)],
            ),
            (
                "<1>0123456789abc\n<2>a\n",
                &[("<1>0123456789abc", false), ("<2>a", false)],
            ),
            (
                "20 <1>0123456789abcdefg4 <2>a",
                &[("<1>0123456789abc", true), ("<2>a", false)],
            ),
            (
                "999999999 <1>0123456789abcdefg",
                &[("<1>0123456789abc", true)],
            ),
            ("9 <1>a", &[("<1>a", true)]),
        ] {
            let expect: Vec<_> = expect
                .iter()
                .map(|(text, is_cut)| ((*text).to_owned(), *is_cut))
                .collect();
            for piece in 1..=stream.len().max(1) {
                assert_eq!(
                    read(stream.as_bytes(), piece),
                    expect,
                    "{stream:?} by {piece}"
                );
            }
        }
    }
}
