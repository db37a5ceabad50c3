//! The body of a response, read as far as it is wanted.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::time::Instant;

use super::client::Answered;
use super::explain::explain;

/// The beginning of a body.
pub(crate) struct Answer {
    /// At most as many as were asked for.
    pub(crate) bytes: Bytes,
    /// Why this is not all of it, if it is not.
    pub(crate) cut: Option<String>,
}

impl Answer {
    /// Reads a body until it ends, breaks, is long enough, or `until` has come. Never fails: the
    /// status has been told already.
    pub(crate) async fn read(
        mut answered: Answered,
        bytes_max: usize,
        until: Option<Instant>,
    ) -> (Parts, Self) {
        let (mut bytes, mut cut, mut is_broken) = (BytesMut::new(), None, false);
        let reading = async {
            while let Some(frame) = answered.body().frame().await {
                match frame.map(Frame::into_data) {
                    Ok(Ok(data)) => bytes.extend_from_slice(&data),
                    // Trailers say nothing here.
                    Ok(Err(_)) => {}
                    Err(error) => {
                        (cut, is_broken) =
                            (Some(format!("it broke off: {}", explain(&*error))), true);
                        break;
                    }
                }
                if bytes.len() > bytes_max {
                    bytes.truncate(bytes_max);
                    cut = Some(format!("it is longer than {bytes_max} bytes"));
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
            (cut, is_broken) = (Some("it did not end in time".into()), true);
        }
        let head = match is_broken {
            true => answered.head,
            false => answered.keep(),
        };
        let bytes = bytes.freeze();
        (head, Self { bytes, cut })
    }
}

/// When to give up each part of a call, so that the attempt ends before its timeout: that makes a
/// failure of whatever it meets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// Where there is no connection by then, the target is unavailable.
    pub(crate) connected: Instant,
    /// What has come of a body by then is the answer.
    pub(crate) answered: Instant,
}

impl Deadlines {
    pub(crate) fn new(start: Instant, timeout: Duration) -> Self {
        let before =
            |longest: Duration| start + timeout.saturating_sub((timeout / 10).min(longest));
        Self {
            connected: before(Duration::from_millis(100)),
            answered: before(Duration::from_secs(1)),
        }
    }
}
