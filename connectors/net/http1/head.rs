//! The heads of a request and of its answer (RFC 9112, sections 2 to 5).

use std::io::Write;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use memchr::memchr_iter;

use super::Broken;

/// How large the head of an answer may be.
const BYTES_MAX: usize = 64 * 1024;

/// How many headers there is room for: at first, and at most. The bytes are bounded too.
const HEADERS: usize = 64;
const HEADERS_MAX: usize = 1_000;

/// A request's head, as it goes out. What frames the body is not taken from its headers.
pub(super) fn written(request: &Request<Bytes>, host: &HeaderValue) -> Vec<u8> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let mut head = Vec::with_capacity(1024);
    for part in [request.method().as_str(), " ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let headers = request.headers();
    if !headers.contains_key(header::HOST) {
        write_header(&mut head, &header::HOST, host.as_bytes());
    }
    for (name, value) in headers {
        if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
            write_header(&mut head, name, value.as_bytes());
        }
    }
    let length = request.body().len();
    // Where a method means something by its body, none is one of no bytes (RFC 9110, section 8.6).
    let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    if has_body || length > 0 {
        let _infallible = write!(head, "content-length: {length}\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn write_header(head: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// Takes the head of an answer from what was read; none while it is not whole.
pub(super) fn take(read: &mut BytesMut) -> Result<Option<Parts>, Broken> {
    while let Some(end) = end(read) {
        let head = read.split_to(end).freeze();
        let mut room = [MaybeUninit::uninit(); HEADERS];
        let parsed = match parse(&head, &mut room) {
            Err(httparse::Error::TooManyHeaders) => {
                parse(&head, &mut vec![MaybeUninit::uninit(); HEADERS_MAX])
            }
            parsed => parsed,
        };
        // Empty lines before an answer are none.
        if let Some(head) = parsed.map_err(malformed)? {
            return Ok(Some(head));
        }
    }
    if read.len() > BYTES_MAX {
        return Err(Broken::Malformed("its head is longer than 64 KiB"));
    }
    Ok(None)
}

/// Where the first empty line ends.
fn end(read: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', read).find_map(|at| match read.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn parse<'h>(
    head: &'h Bytes,
    room: &mut [MaybeUninit<httparse::Header<'h>>],
) -> Result<Option<Parts>, httparse::Error> {
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    if config
        .parse_response_with_uninit_headers(&mut parsed, head, room)?
        .is_partial()
    {
        return Ok(None);
    }
    let (mut parts, ()) = Response::new(()).into_parts();
    let code = parsed.code.unwrap_or_default();
    parts.status = StatusCode::from_u16(code).map_err(|_| httparse::Error::Status)?;
    if parsed.version == Some(0) {
        parts.version = Version::HTTP_10;
    }
    parts.headers = HeaderMap::with_capacity(parsed.headers.len());
    for found in parsed.headers {
        let name = HeaderName::from_bytes(found.name.as_bytes())
            .map_err(|_| httparse::Error::HeaderName)?;
        // It shares the bytes of the head.
        let value = HeaderValue::from_maybe_shared(head.slice_ref(found.value))
            .map_err(|_| httparse::Error::HeaderValue)?;
        parts.headers.append(name, value);
    }
    Ok(Some(parts))
}

fn malformed(error: httparse::Error) -> Broken {
    use httparse::Error::{
        HeaderName, HeaderValue, NewLine, Status, Token, TooManyHeaders, Version,
    };
    Broken::Malformed(match error {
        HeaderName => "a header's name has a character that it must not have",
        HeaderValue => "a header's value has a character that it must not have",
        NewLine => "a line does not end as one should",
        Status => "its status is no number from 100 to 999",
        Token => "its first line has a character that it must not have",
        TooManyHeaders => "it has more than 1,000 headers",
        Version => "its first line does not begin with the protocol's name and version",
    })
}
