//! Bodies that come packed: `Content-Encoding` (RFC 9110, section 8.4).
//!
//! A packed body is bounded twice, as it comes and as it unpacks, by the same bound; what it
//! unpacks to is counted among the bytes in hand while it grows, so that neither one bomb nor many
//! of them take more memory than bodies that come as they are.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::exchange::{busy, too_large};
use super::refusal::Refusal;
use super::routes::Routes;

/// How much is unpacked before others have their turn: less than a millisecond's work.
const TURN_BYTES: usize = 128 * 1024;

/// True where the body is packed by gzip.
///
/// # Errors
/// It is packed in another way, or more than once.
pub(super) fn is_packed(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut packed = 0;
    for value in headers.get_all(CONTENT_ENCODING) {
        for coding in value
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
        {
            // RFC 9110, section 8.4.1.3: the two names mean the same.
            if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
                packed += 1;
            } else if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") {
                return Err(unsupported());
            }
        }
    }
    if packed > 1 {
        Err(unsupported())
    } else {
        Ok(packed == 1)
    }
}

fn unsupported() -> Refusal {
    let detail = "the only Content-Encoding that is understood is gzip, once; pack the body so, or \
                  send it as it is";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        .with(ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity"))
}

impl Routes {
    /// Unpacks a body of at most `max` bytes, and holds them.
    ///
    /// # Errors
    /// It is longer, no gzip, or all bytes that may be in hand are.
    pub(super) async fn unpack(
        &self,
        packed: &[u8],
        max: u64,
        held: &mut OwnedSemaphorePermit,
    ) -> Result<Bytes, Refusal> {
        let mut decoder = MultiGzDecoder::new(packed);
        let mut body = Vec::new();
        loop {
            // One byte past the bound tells that there is more.
            let room = max
                .saturating_add(1)
                .saturating_sub(body.len() as u64)
                .min(TURN_BYTES as u64);
            let before = body.len();
            let unpacked = (&mut decoder).take(room).read_to_end(&mut body).map_err(|_| {
                Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "the body is not what Content-Encoding says; pack it with gzip, whole, or send \
                     it as it is",
                )
            })?;
            if body.len() as u64 > max {
                return Err(too_large(max));
            }
            held.merge(self.reserve(body.len() - before).ok_or_else(busy)?);
            if (unpacked as u64) < room {
                return Ok(body.into());
            }
            tokio::task::yield_now().await;
        }
    }
}
