//! The body of a response, read as far as it is wanted.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use pointsman_schemas::outcome::RESPONSE_BYTES_MAX;
use tokio::time::Instant;

use crate::http::client::explain;

/// The beginning of a body.
pub(super) struct Answer {
    /// At most [`RESPONSE_BYTES_MAX`].
    pub(super) bytes: Bytes,
    /// Why this is not all of it, if it is not.
    pub(super) cut: Option<String>,
}

impl Answer {
    /// Reads a body until it ends, breaks, is long enough, or `until` has come. Never fails: the status has been told already.
    pub(super) async fn read(mut body: Incoming, until: Option<Instant>) -> Self {
        let (mut bytes, mut cut) = (BytesMut::new(), None);
        let reading = async {
            while let Some(frame) = body.frame().await {
                match frame.map(Frame::into_data) {
                    // Most bodies are one frame, which is then not copied.
                    Ok(Ok(data)) if bytes.is_empty() => bytes = data.into(),
                    Ok(Ok(data)) => bytes.extend_from_slice(&data),
                    // Trailers say nothing here.
                    Ok(Err(_)) => {}
                    Err(error) => {
                        cut = Some(format!("it broke off: {}", explain(&error)));
                        break;
                    }
                }
                if bytes.len() > RESPONSE_BYTES_MAX {
                    bytes.truncate(RESPONSE_BYTES_MAX);
                    cut = Some(format!("it is longer than {RESPONSE_BYTES_MAX} bytes"));
                    break;
                }
            }
        };
        let late = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        // First the body: what is there already is taken even where there is no time left.
        let in_time = tokio::select! { biased; () = reading => true, () = late => false };
        if !in_time {
            cut = Some("it did not end in time".into());
        }
        Self { bytes: bytes.freeze(), cut }
    }
}

/// When to stop reading a body so that the attempt ends before its timeout, which would make a failure of a success.
pub(super) fn until(start: Instant, timeout: Duration) -> Instant {
    start + timeout.saturating_sub((timeout / 10).min(Duration::from_secs(1)))
}
