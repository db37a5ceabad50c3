//! Calls of gRPC over one connection: requests of HTTP/2 whose messages have five bytes before them,
//! and whose status is in the trailers.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::refusal::Refusal;
use crate::net::explain::explain;
use crate::net::stream::{Host, Stream};

/// How long the head of a message is: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// How large a message may be: a proxy takes none that is larger.
const MESSAGE_BYTES_MAX: usize = 130 << 20;

/// How much may come before it is read, of one call and of all.
const WINDOW_BYTES: u32 = 1 << 20;

const SERVICE: &str = "apache.rocketmq.v2.MessagingService";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// Nothing was sent.
    Unsent(String),
    /// The connection broke, or nothing came in time: it may have been done.
    Cut(String),
    /// It is refused.
    Refused(Refusal),
    /// What answers does not speak gRPC.
    Foreign(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(why) | Self::Cut(why) | Self::Foreign(why) => f.write_str(why),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// A connection. Dropped, it is closed, whatever waits for an answer.
pub(super) struct Channel {
    sender: http2::SendRequest<Body>,
    base: String,
    driving: AbortOnDropHandle<()>,
}

impl Channel {
    /// Begins to speak.
    pub(super) async fn begin(stream: Stream, host: &Host, is_secure: bool) -> hyper::Result<Self> {
        // Without pings: a proxy ends a connection over which more than a few come in five minutes. The
        // session has heartbeats.
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        let driving = tokio::spawn(async move {
            // Whoever waits for an answer is told why it ended.
            let _ = driver.await;
        });
        let scheme = if is_secure { "https" } else { "http" };
        Ok(Self {
            sender,
            base: format!("{scheme}://{host}/{SERVICE}/"),
            driving: AbortOnDropHandle::new(driving),
        })
    }

    /// Closes it: whoever waits for an answer hears so.
    pub(super) fn close(&self) {
        self.driving.abort();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The answer to one message that is one message.
    pub(super) async fn ask<A: Message + Default>(
        &self,
        method: &str,
        headers: HeaderMap,
        message: &impl Message,
        within: Duration,
    ) -> Result<A, CallError> {
        let asked = async {
            let mut answers = self.stream(method, headers, message, within).await?;
            let answer = answers.next().await?;
            answer.ok_or_else(|| CallError::Cut("the answer has no message".to_owned()))
        };
        let late = || CallError::Cut("no answer in time".to_owned());
        timeout(within, asked).await.map_err(|_| late())?
    }

    /// The answer to one message that is several.
    pub(super) async fn stream<A: Message + Default>(
        &self,
        method: &str,
        mut headers: HeaderMap,
        message: &impl Message,
        within: Duration,
    ) -> Result<Answers<A>, CallError> {
        let millis = HeaderValue::try_from(format!("{}m", within.as_millis()));
        headers.extend(millis.ok().map(|value| (TIMEOUT.clone(), value)));
        let body = Full::new(framed(message));
        self.call(method, headers, body.boxed_unsync()).await
    }

    /// A call whose messages go on both ways.
    pub(super) async fn both_ways<A: Message + Default>(
        &self,
        method: &str,
        headers: HeaderMap,
        messages: mpsc::Receiver<Bytes>,
    ) -> Result<Answers<A>, CallError> {
        let frames = stream::unfold(messages, async |mut messages| {
            let message = messages.recv().await?;
            Some((Ok(Frame::data(message)), messages))
        });
        let body = StreamBody::new(frames).boxed_unsync();
        self.call(method, headers, body).await
    }

    async fn call<A: Message + Default>(
        &self,
        method: &str,
        mut headers: HeaderMap,
        body: Body,
    ) -> Result<Answers<A>, CallError> {
        let agent = concat!("pointsman/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let uri = format!("{}{method}", self.base).parse::<Uri>();
        let uri = uri.map_err(|error| CallError::Unsent(error.to_string()))?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let mut sender = self.sender.clone();
        let answer = match sender.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut failed) => {
                let is_unsent = failed.take_message().is_some();
                let why = explain(failed.error());
                return Err(match is_unsent {
                    true => CallError::Unsent(why),
                    false => CallError::Cut(why),
                });
            }
        };
        let (head, body) = answer.into_parts();
        let media_type = head.headers.get(CONTENT_TYPE);
        let is_grpc = media_type.is_some_and(|is| is.as_bytes().starts_with(b"application/grpc"));
        if head.status != StatusCode::OK || !is_grpc {
            let why = format!("it answers {}, and not by gRPC", head.status);
            return Err(CallError::Foreign(why));
        }
        // Where there is no message at all the trailers are the headers.
        status(&head.headers).unwrap_or(Ok(()))?;
        Ok(Answers {
            body,
            buffer: BytesMut::new(),
            of: std::marker::PhantomData,
        })
    }
}

static TIMEOUT: http::HeaderName = http::HeaderName::from_static("grpc-timeout");

/// The messages of an answer.
pub(super) struct Answers<A> {
    body: Incoming,
    buffer: BytesMut,
    of: std::marker::PhantomData<fn() -> A>,
}

impl<A: Message + Default> Answers<A> {
    /// The next message; none once there is no further one. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Option<A>, CallError> {
        loop {
            if let Some(message) = take(&mut self.buffer)? {
                let decoded = A::decode(message);
                return decoded.map(Some).map_err(|error| {
                    CallError::Cut(format!("the answer cannot be read: {error}"))
                });
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| CallError::Cut(explain(&error)))?;
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        status(trailers).unwrap_or(Ok(()))?;
                    }
                }
            }
        }
    }
}

/// Takes a message that is whole.
fn take(buffer: &mut BytesMut) -> Result<Option<Bytes>, CallError> {
    let Some((head, _)) = buffer.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let [packed, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if packed != 0 {
        let why = "the answer is compressed, which nobody asked for";
        return Err(CallError::Cut(why.to_owned()));
    }
    if length > MESSAGE_BYTES_MAX {
        let why = format!("the answer has a message of {length} bytes");
        return Err(CallError::Cut(why));
    }
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// A message with its head.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(HEAD_BYTES + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // It grows as it has to.
    let _ = message.encode(&mut framed);
    framed.freeze()
}

/// What the status of a call says, where there is one.
fn status(trailers: &HeaderMap) -> Option<Result<(), CallError>> {
    let of = |name: &str| trailers.get(name)?.to_str().ok();
    let status = of("grpc-status")?.trim().parse::<u32>().ok()?;
    if status == 0 {
        return Some(Ok(()));
    }
    let message = of("grpc-message").unwrap_or_default();
    let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
    Some(Err(match Refusal::of_grpc(status, &message) {
        Some(refusal) => CallError::Refused(refusal),
        None => CallError::Cut(format!("the status {status} of gRPC: {message}")),
    }))
}
