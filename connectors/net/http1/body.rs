//! How the body of an answer is framed (RFC 9112, sections 6, 7 and 9.3).

use bytes::{Buf, Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, Method, StatusCode, Version, header};

use super::Broken;

/// How long the line before a chunk may be, and how long what follows the last one.
const CHUNK_HEAD_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_BYTES_MAX: usize = 64 * 1024;

/// How what is left of a body comes.
#[derive(Debug)]
pub(super) enum Framing {
    Ended,
    /// So many bytes.
    Length(u64),
    Chunked(Chunked),
    /// All that comes until the server closes the connection.
    UntilClosed,
}

/// Where a body in chunks is.
#[derive(Debug)]
pub(super) enum Chunked {
    /// Before the size of the next one.
    Size,
    /// In one of which so many bytes are left.
    Data(u64),
    /// Behind its data.
    DataEnd,
    /// Behind the last one, after so many bytes of trailers.
    Trailers(usize),
}

/// What can be taken from what was read.
pub(super) enum Taken {
    Piece(Bytes),
    /// More has to be read.
    Nothing,
    /// The body is whole.
    End,
}

impl Framing {
    /// How the body of an answer comes, and whether the connection ends with it.
    pub(super) fn of(method: &Method, head: &Parts) -> Result<(Self, bool), Broken> {
        let headers = &head.headers;
        let is_old = head.version == Version::HTTP_10;
        let is_switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let is_last = is_switched
            || has_token(headers, header::CONNECTION, "close")
            || (is_old && !has_token(headers, header::CONNECTION, "keep-alive"));
        let is_bare = is_switched
            || method == Method::HEAD
            || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&head.status);
        if is_bare {
            return Ok((Self::Ended, is_last));
        }
        if let Some(codings) = headers
            .get_all(header::TRANSFER_ENCODING)
            .iter()
            .next_back()
        {
            if is_old {
                return Err(Broken::Malformed("HTTP/1.0 knows no Transfer-Encoding"));
            }
            let last = codings.as_bytes().rsplit(|byte| *byte == b',').next();
            let is_chunked =
                last.is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            // Whoever says the length as well may be understood otherwise by somebody on the way.
            return Ok(match is_chunked {
                true => (
                    Self::Chunked(Chunked::Size),
                    is_last || headers.contains_key(header::CONTENT_LENGTH),
                ),
                false => (Self::UntilClosed, true),
            });
        }
        Ok(match length(headers)? {
            Some(0) => (Self::Ended, is_last),
            Some(length) => (Self::Length(length), is_last),
            None => (Self::UntilClosed, true),
        })
    }

    /// Takes the next piece of the body from what was read.
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<Taken, Broken> {
        loop {
            match self {
                Self::Ended => return Ok(Taken::End),
                Self::UntilClosed => {
                    return Ok(match read.is_empty() {
                        true => Taken::Nothing,
                        false => Taken::Piece(read.split().freeze()),
                    });
                }
                Self::Length(left) => {
                    let piece = piece(left, read);
                    if *left == 0 {
                        *self = Self::Ended;
                    }
                    return Ok(piece);
                }
                Self::Chunked(chunked) => match chunked.take(read)? {
                    Step::Taken(taken) => return Ok(taken),
                    Step::Next(next) => *chunked = next,
                    Step::Last => *self = Self::Ended,
                },
            }
        }
    }

    /// The server has closed the connection, and all that was read has been taken.
    pub(super) fn close(&mut self) -> Result<(), Broken> {
        match self {
            Self::Ended => {}
            Self::UntilClosed => *self = Self::Ended,
            Self::Length(_) | Self::Chunked(_) => return Err(Broken::Closed),
        }
        Ok(())
    }
}

/// What follows a look at what was read of a body in chunks.
enum Step {
    Taken(Taken),
    Next(Chunked),
    Last,
}

impl Chunked {
    fn take(&mut self, read: &mut BytesMut) -> Result<Step, Broken> {
        let malformed = |mistake| Err(Broken::Malformed(mistake));
        let nothing = Ok(Step::Taken(Taken::Nothing));
        match self {
            Self::Size => match httparse::parse_chunk_size(read) {
                Ok(httparse::Status::Complete((end, size))) => {
                    read.advance(end);
                    Ok(Step::Next(match size {
                        0 => Self::Trailers(0),
                        size => Self::Data(size),
                    }))
                }
                Ok(httparse::Status::Partial) if read.len() <= CHUNK_HEAD_BYTES_MAX => nothing,
                Ok(httparse::Status::Partial) => {
                    malformed("the line before a chunk is longer than 16 KiB")
                }
                Err(httparse::InvalidChunkSize) => {
                    malformed("a chunk does not begin with its size")
                }
            },
            Self::Data(0) => Ok(Step::Next(Self::DataEnd)),
            Self::Data(left) => Ok(Step::Taken(piece(left, read))),
            Self::DataEnd => match &read[..] {
                [b'\r', b'\n', ..] => {
                    read.advance(2);
                    Ok(Step::Next(Self::Size))
                }
                [] | [b'\r'] => nothing,
                _ => malformed("a chunk is longer than its size"),
            },
            // They say nothing here.
            Self::Trailers(before) => match memchr::memchr(b'\n', read) {
                Some(at) => {
                    let line = read.split_to(at + 1);
                    *before += line.len();
                    match line.trim_ascii().is_empty() {
                        true => Ok(Step::Last),
                        false if *before <= TRAILERS_BYTES_MAX => {
                            Ok(Step::Next(Self::Trailers(*before)))
                        }
                        false => malformed("its trailers are longer than 64 KiB"),
                    }
                }
                None if *before + read.len() <= TRAILERS_BYTES_MAX => nothing,
                None => malformed("its trailers are longer than 64 KiB"),
            },
        }
    }
}

/// Takes what was read of so many bytes.
fn piece(left: &mut u64, read: &mut BytesMut) -> Taken {
    let count = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
    if count == 0 {
        return Taken::Nothing;
    }
    *left -= count as u64;
    Taken::Piece(read.split_to(count).freeze())
}

/// What `Content-Length` says; the same several times is said once.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Broken> {
    let values = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut lengths = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let Some(first) = lengths.next().map(<[u8]>::trim_ascii) else {
        return Ok(None);
    };
    let is_one = lengths.all(|other| other.trim_ascii() == first);
    let length = std::str::from_utf8(first).ok().filter(|text| {
        // No sign, which parsing would take.
        is_one && text.bytes().all(|byte| byte.is_ascii_digit())
    });
    match length.and_then(|text| text.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => Err(Broken::Malformed("its Content-Length is not one number")),
    }
}

/// Whether a list of tokens has this one.
fn has_token(headers: &HeaderMap, name: http::HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut tokens = value.as_bytes().split(|byte| *byte == b',');
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}
