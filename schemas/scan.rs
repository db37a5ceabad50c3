//! Reads JSON text (RFC 8259) without building anything: one pass that checks the grammar and the
//! depth and finds where values end.
//!
//! serde_json can skip a value too, but does so without a limit on depth, which would cost a second
//! pass over the data. Here the open arrays and objects are bits of one `u128`, so that the limit
//! of 128 costs nothing, and nothing recurses.

mod inner;
pub(crate) mod outline;
pub(crate) mod stops;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

pub use inner::{elements, members};
use outline::Listener;
use stops::Stops;

/// The depth to which JSON is read: deeper data is refused at the door.
pub const JSON_DEPTH_MAX: usize = 128;

/// The open containers must fit the bits that remember them, and [`TOO_DEEP`] names the limit.
const _: () = assert!(JSON_DEPTH_MAX == u128::BITS as usize);

const TOO_DEEP: &str = "nested deeper than 128 levels";

/// A mistake in the text: at which byte, and what was wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    pub at: usize,
    pub what: &'static str,
}

impl Syntax {
    /// The mistake for a person, with line and column (in characters), both from 1.
    pub fn describe(self, text: &str) -> String {
        let before = text.get(..self.at).unwrap_or(text);
        let (lines, last) = before
            .rsplit_once('\n')
            .map_or((0, before), |(above, last)| {
                (above.matches('\n').count() + 1, last)
            });
        format!(
            "{} at line {} column {}",
            self.what,
            lines + 1,
            last.chars().count() + 1
        )
    }
}

/// A string as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonString<'t> {
    /// Between the quotes; the text itself where nothing is escaped.
    pub inner: &'t str,
    /// With its quotes.
    pub quoted: &'t str,
    /// True where there are escapes.
    pub escaped: bool,
}

/// Checks that a text is one JSON value of at most [`JSON_DEPTH_MAX`] levels, with nothing but
/// whitespace around it.
pub(crate) fn validate(text: &str) -> Result<(), Syntax> {
    let mut scanner = Scanner::new(text);
    scanner.value()?;
    scanner.end()
}

/// A place in a JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    stops: Stops,
}

impl<'t> Scanner<'t> {
    pub fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            stops: Stops::new(),
        }
    }

    /// How many bytes have been read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes the text has.
    pub fn length(&self) -> usize {
        self.text.len()
    }

    /// The byte at which the next token begins: whitespace is skipped, the token is not.
    #[inline(always)]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte(self.at);
            match byte {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                _ => return byte,
            }
        }
    }

    /// Skips the next token where it is this one.
    #[inline(always)]
    pub fn eat(&mut self, token: u8) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.at += 1;
        }
        found
    }

    /// Skips one token that has to stand here.
    #[inline(always)]
    pub fn expect(&mut self, token: u8, what: &'static str) -> Result<(), Syntax> {
        if self.eat(token) {
            Ok(())
        } else {
            self.fail(what)
        }
    }

    /// Checks that nothing but whitespace follows.
    pub fn end(&mut self) -> Result<(), Syntax> {
        if self.peek().is_none() {
            Ok(())
        } else {
            self.fail("unexpected text behind the end")
        }
    }

    /// Reads an object's key and the colon behind it.
    #[inline(always)]
    pub fn key(&mut self) -> Result<JsonString<'t>, Syntax> {
        let (start, end, escaped) = self.pass_key()?;
        Ok(self.string_at(start, end, escaped))
    }

    #[inline(always)]
    fn pass_key(&mut self) -> Result<(usize, usize, bool), Syntax> {
        if self.peek() != Some(b'"') {
            return self.fail("expected a key in double quotes");
        }
        let start = self.at;
        let escaped = self.pass_string()?;
        let end = self.at;
        self.expect(b':', "expected a colon")?;
        Ok((start, end, escaped))
    }

    /// Reads a string; the scanner must stand before its opening quote.
    #[inline(always)]
    pub fn string(&mut self) -> Result<JsonString<'t>, Syntax> {
        let start = self.at;
        let escaped = self.pass_string()?;
        Ok(self.string_at(start, self.at, escaped))
    }

    /// The string with its quotes at these places.
    #[inline(always)]
    fn string_at(&self, start: usize, end: usize, escaped: bool) -> JsonString<'t> {
        JsonString {
            inner: self.slice(start + 1, end - 1),
            quoted: self.slice(start, end),
            escaped,
        }
    }

    /// Skips a string, and returns whether there are escapes in it.
    #[inline(always)]
    fn pass_string(&mut self) -> Result<bool, Syntax> {
        self.at = self.stops.next(self.text.as_bytes(), self.at + 1);
        let is_plain = self.byte(self.at) == Some(b'"');
        if is_plain {
            self.at += 1;
        } else {
            self.at = pass_escaped(self.text, self.at)?;
        }
        Ok(!is_plain)
    }

    /// Reads one value of any kind and returns its text, without the whitespace around it.
    pub fn value(&mut self) -> Result<&'t str, Syntax> {
        self.walk(&mut ())
    }

    /// As [`value`](Self::value), and tells of all values in it and of itself.
    pub fn walk(&mut self, listener: &mut impl Listener) -> Result<&'t str, Syntax> {
        // A copy, all of whose parts the compiler can keep in registers.
        let mut here = self.clone();
        let outcome = here.pass_value(listener);
        self.at = here.at;
        outcome
    }

    #[inline(always)]
    fn pass_value(&mut self, listener: &mut impl Listener) -> Result<&'t str, Syntax> {
        let mut next = self.peek();
        let first = self.at;
        // The innermost open container is the lowest bit: set for an object, clear for an array.
        let (mut containers, mut depth) = (0_u128, 0_usize);
        loop {
            let start = self.at;
            match next {
                Some(open @ (b'{' | b'[')) => {
                    if depth == JSON_DEPTH_MAX {
                        return self.fail(TOO_DEEP);
                    }
                    self.at += 1;
                    let (object, close) = if open == b'{' { (1, b'}') } else { (0, b']') };
                    if !self.eat(close) {
                        listener.enter(start);
                        depth += 1;
                        containers = containers << 1 | object;
                        if object == 1 {
                            self.member_key(listener)?;
                        }
                        next = self.peek();
                        continue;
                    }
                }
                Some(b'"') => _ = self.pass_string()?,
                Some(b'-' | b'0'..=b'9') => self.pass_number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return self.fail("expected a value"),
            }
            listener.value(start, self.at);
            // A value has ended: so do its containers, until one of them goes on.
            loop {
                if depth == 0 {
                    return Ok(self.slice(first, self.at));
                }
                let object = containers & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.member_key(listener)?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ if object => return self.fail("expected , or }"),
                    _ => return self.fail("expected , or ]"),
                }
                self.at += 1;
                listener.leave(self.at);
                containers >>= 1;
                depth -= 1;
            }
            next = self.peek();
        }
    }

    #[inline(always)]
    fn member_key(&mut self, listener: &mut impl Listener) -> Result<(), Syntax> {
        let (start, end, escaped) = self.pass_key()?;
        listener.key(start + 1, end - 1, escaped);
        Ok(())
    }

    /// Reads a number; the scanner must stand at its beginning.
    pub fn number(&mut self) -> Result<&'t str, Syntax> {
        let start = self.at;
        self.pass_number()?;
        Ok(self.slice(start, self.at))
    }

    #[inline(always)]
    fn pass_number(&mut self) -> Result<(), Syntax> {
        self.at += usize::from(self.byte(self.at) == Some(b'-'));
        match self.byte(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte(self.at) == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn digits(&mut self) -> Result<(), Syntax> {
        let start = self.at;
        while self.byte(self.at).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            self.fail("expected a digit")
        } else {
            Ok(())
        }
    }

    /// Skips a word that has to stand here.
    #[inline(always)]
    pub fn literal(&mut self, word: &'static str) -> Result<(), Syntax> {
        if self
            .text
            .as_bytes()
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word.as_bytes()))
        {
            self.at += word.len();
            return Ok(());
        }
        self.fail("expected a value")
    }

    /// The mistake at this place; at the text's end that is what is wrong.
    #[inline(always)]
    pub fn fail<T>(&self, what: &'static str) -> Result<T, Syntax> {
        Err(mistake(self.text, self.at, what))
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Both ends lie beside ASCII characters, so the slice is always there.
    #[inline(always)]
    fn slice(&self, start: usize, end: usize) -> &'t str {
        self.text.get(start..end).unwrap_or_default()
    }
}

#[cold]
fn mistake(text: &str, at: usize, what: &'static str) -> Syntax {
    Syntax {
        at,
        what: if at >= text.len() {
            "the text ends too early"
        } else {
            what
        },
    }
}

/// The end, behind the closing quote, of a string whose plain part ends at `at` with something else
/// than that.
#[inline(never)]
fn pass_escaped(text: &str, mut at: usize) -> Result<usize, Syntax> {
    let (bytes, mut stops) = (text.as_bytes(), Stops::new());
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u')
                    if bytes
                        .get(at + 2..at + 6)
                        .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) =>
                {
                    at += 6
                }
                _ => return Err(mistake(text, at, "invalid escape")),
            },
            Some(_) => {
                return Err(mistake(
                    text,
                    at,
                    "a control character must be escaped in a string",
                ));
            }
            None => return Err(mistake(text, at, "the string is not closed")),
        }
        at = stops.next(bytes, at);
    }
}
