//! Where a request's head ends and the next one begins, read strictly, so that what two readers
//! could understand in two ways is refused.
//!
//! hyper takes a bare LF for a line's end and lets `Transfer-Encoding` win over `Content-Length`. A
//! proxy in front that decides otherwise would see other requests than we do (request smuggling:
//! RFC 9112, sections 2.2, 6.1 and 11.2). This scanner goes over the same bytes before hyper does,
//! changes nothing, and says where it would refuse. Whatever else is wrong is left for hyper to
//! find.

use http::StatusCode;

use super::refusal::Refusal;

/// The longest head: request line and headers.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Why a head or a chunk is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    BareLineFeed,
    Lengths,
    TransferCoding,
    HeadTooLarge,
    HeadTooSlow,
}

impl Fault {
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::BareLineFeed => Refusal::new(
                StatusCode::BAD_REQUEST,
                "a line ends with LF alone; end every line with CR LF",
            ),
            Self::Lengths => Refusal::new(
                StatusCode::BAD_REQUEST,
                "the length of the body is not clear; send either one Content-Length or \
                 Transfer-Encoding: chunked",
            ),
            Self::TransferCoding => Refusal::new(
                StatusCode::BAD_REQUEST,
                "the only Transfer-Encoding that is understood is chunked, given once",
            ),
            Self::HeadTooLarge => Refusal::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request line and the headers take more than 32 KiB or 100 headers; send less \
                 in them",
            ),
            Self::HeadTooSlow => Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the headers did not arrive in time; send them at once when the connection is open",
            ),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the lines of a head, or between two requests.
    Head,
    /// In a body, or in a chunk with the line end behind it; how many bytes are left.
    Body(u64),
    Chunk(u64),
    ChunkSize,
    Trailers,
}

#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// How much of the current head, or of the current chunk's lines, has come.
    head_bytes: usize,
    request_line: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            head_bytes: 0,
            request_line: false,
            length: None,
            chunked: false,
        }
    }

    /// True where a head has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        self.state == State::Head && self.head_bytes > 0
    }

    /// True where a body has begun and not ended.
    pub(super) fn in_body(&self) -> bool {
        self.state != State::Head
    }

    /// Goes over what came next.
    ///
    /// # Errors
    /// The first fault, with the offset in `bytes` at which the line with it ends: that byte must
    /// not be handed on.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<(), (usize, Fault)> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let State::Body(left) | State::Chunk(left) = self.state {
                at += self.skip(left, rest.len());
                continue;
            }
            let end = memchr::memchr(b'\n', rest);
            let taken = end.map_or(rest.len(), |end| end + 1);
            self.head_bytes += taken;
            if self.head_bytes > HEAD_BYTES_MAX {
                return Err((at + taken - 1, Fault::HeadTooLarge));
            }
            let part = rest.get(..taken).unwrap_or_default();
            if end.is_none() {
                self.line.extend_from_slice(part);
            } else if self.line.is_empty() {
                self.line(part).map_err(|fault| (at + taken - 1, fault))?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.line(&line).map_err(|fault| (at + taken - 1, fault))?;
                line.clear();
                self.line = line;
            }
            at += taken;
        }
        Ok(())
    }

    fn skip(&mut self, left: u64, available: usize) -> usize {
        let skipped = usize::try_from(left).map_or(available, |left| left.min(available));
        let left = left - skipped as u64;
        self.state = match (self.state, left) {
            (State::Chunk(_), 0) => State::ChunkSize,
            (State::Chunk(_), left) => State::Chunk(left),
            (_, 0) => State::Head,
            (_, left) => State::Body(left),
        };
        skipped
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let line = line.strip_suffix(b"\r\n").ok_or(Fault::BareLineFeed)?;
        match self.state {
            State::Head if line.is_empty() && self.request_line => self.end_head()?,
            // Empty lines before a request are let through: RFC 9112, section 2.2.
            State::Head if line.is_empty() => self.head_bytes = 0,
            State::Head if !self.request_line => self.request_line = true,
            State::Head => self.header(line)?,
            State::ChunkSize => {
                let digits = line
                    .iter()
                    .take_while(|byte| byte.is_ascii_hexdigit())
                    .count();
                let size = line
                    .get(..digits)
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                // What is no size hyper refuses in a moment; one that is too large it refuses too.
                let size = size
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                    .unwrap_or_default();
                self.head_bytes = 0;
                self.state = if size == 0 {
                    State::Trailers
                } else {
                    State::Chunk(size.saturating_add(2))
                };
            }
            State::Trailers if line.is_empty() => self.reset(State::Head),
            State::Trailers | State::Body(_) | State::Chunk(_) => {}
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Fault> {
        if let Some(value) = value_of(b"content-length:", line) {
            let digits = std::str::from_utf8(value)
                .ok()
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits
                .and_then(|digits| digits.parse().ok())
                .ok_or(Fault::Lengths)?;
            if self
                .length
                .replace(length)
                .is_some_and(|before| before != length)
            {
                return Err(Fault::Lengths);
            }
        } else if let Some(value) = value_of(b"transfer-encoding:", line) {
            let twice = std::mem::replace(&mut self.chunked, true);
            if twice || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::TransferCoding);
            }
        }
        Ok(())
    }

    fn end_head(&mut self) -> Result<(), Fault> {
        let next = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Fault::Lengths),
            (true, None) => State::ChunkSize,
            (false, None | Some(0)) => State::Head,
            (false, Some(length)) => State::Body(length),
        };
        self.reset(next);
        Ok(())
    }

    fn reset(&mut self, state: State) {
        (
            self.state,
            self.head_bytes,
            self.request_line,
            self.length,
            self.chunked,
        ) = (state, 0, false, None, false);
    }
}

/// The value of the header in a line where it has this name, which ends with its colon. hyper
/// refuses a space between the two.
fn value_of<'l>(name: &[u8], line: &'l [u8]) -> Option<&'l [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans it whole and byte by byte: both must come to the same.
    fn scan(bytes: &[u8]) -> Result<bool, Fault> {
        let run = |parts: &mut dyn Iterator<Item = &[u8]>| {
            let mut framing = Framing::new();
            for part in parts {
                framing.scan(part).map_err(|(_, fault)| fault)?;
            }
            Ok(!framing.in_body() && !framing.in_head())
        };
        let whole = run(&mut std::iter::once(bytes));
        assert_eq!(
            whole,
            run(&mut bytes.chunks(1)),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
        whole
    }

    #[test]
    fn requests_end_where_they_say() {
        let long = format!(
            "GET / HTTP/1.1\r\nx: {}\r\n\r\n",
            "x".repeat(HEAD_BYTES_MAX)
        );
        let table: &[(&[u8], Result<bool, Fault>)] = &[
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Ok(true)),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Ok(true)),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", Ok(false)),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\r\n\r\n", Ok(true)),
            (b"POST / HTTP/1.1\r\ncontent-length:3\r\nContent-Length: 3 \r\n\r\na\n", Ok(false)),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nt: u\r\n\r\nGET / HTTP/1.1\r\n\r\n", Ok(true)),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nA\r\n0123456789\r\n", Ok(false)),
            (b"GET / HTTP/1.1\nHost: x\r\n\r\n", Err(Fault::BareLineFeed)),
            (b"GET / HTTP/1.1\r\nHost: x\n\r\n", Err(Fault::BareLineFeed)),
            (b"\nGET / HTTP/1.1\r\n\r\n", Err(Fault::BareLineFeed)),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", Err(Fault::BareLineFeed)),
            (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n", Err(Fault::Lengths)),
            (b"POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\n", Err(Fault::Lengths)),
            (b"POST / HTTP/1.1\r\ncontent-length: 3, 3\r\n\r\n", Err(Fault::Lengths)),
            (b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n", Err(Fault::Lengths)),
            (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", Err(Fault::Lengths)),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", Err(Fault::Lengths)),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Err(Fault::TransferCoding)),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Fault::TransferCoding)),
            (long.as_bytes(), Err(Fault::HeadTooLarge)),
        ];
        for (given, expect) in table {
            assert_eq!(
                scan(given),
                *expect,
                "{:?}",
                String::from_utf8_lossy(given)
                    .chars()
                    .take(200)
                    .collect::<String>()
            );
        }
    }
}
