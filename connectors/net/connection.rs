//! One connection of a client, or a share of one, and the body of an answer that comes over it.
//!
//! An HTTP/1.1 connection has one caller at a time, who drives it. HTTP/2 connections are shared,
//! and driven by a task.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::uri::Scheme;
use http::{Extensions, HeaderValue, Request, Uri};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::dial::Stream;
use super::http1::Http1;
use super::wire::Usage;

/// How large a response's headers may be over HTTP/2.
const RESPONSE_HEADERS_BYTES_MAX: u32 = 64 * 1024;

/// How often an HTTP/2 connection is asked whether it still lives, and how long the answer may
/// take: a peer that has gone without a word is noticed by that alone.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// A request that was not answered.
pub(super) struct Unanswered {
    pub(super) error: BoxError,
    /// The request, where nothing of it has been written.
    pub(super) unsent: Option<Box<Request<Bytes>>>,
}

/// A connection for one call.
pub(super) enum Connection {
    Own(Box<Own>),
    Share(Share),
}

/// A connection that is called over by one caller at a time: HTTP/1.1.
pub(super) struct Own {
    http: Http1<TokioIo<Stream>>,
    /// What `Host` says.
    host: HeaderValue,
    is_tls: bool,
    usage: Usage,
}

/// A connection that calls share: HTTP/2.
#[derive(Clone)]
pub(super) struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    usage: Usage,
    /// Whether a call over it has not got its whole answer.
    is_spoilt: Arc<AtomicBool>,
}

/// A share of one. It spoils the connection when it is dropped, unless the call has had its answer.
pub(super) struct Share {
    shared: Shared,
    is_answered: bool,
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.is_answered {
            self.shared.is_spoilt.store(true, Ordering::Relaxed);
        }
    }
}

impl Connection {
    /// Begins to speak over a stream to the host of a URI; HTTP/2 where that was agreed upon, or
    /// `is_http2` says so.
    pub(super) async fn begin(
        stream: Stream,
        uri: &Uri,
        is_http2: bool,
    ) -> Result<Self, hyper::Error> {
        let connected = stream.connected();
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        let usage: Usage = extensions.remove().unwrap_or_default();
        if connected.is_negotiated_h2() || is_http2 {
            let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(RESPONSE_HEADERS_BYTES_MAX)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .handshake(stream)
                .await?;
            // It ends with its connection, or with the last share of it; whoever calls is told why.
            tokio::spawn(driver);
            let is_spoilt = Arc::default();
            let shared = Shared {
                sender,
                usage,
                is_spoilt,
            };
            return Ok(Self::Share(shared.share()));
        }
        Ok(Self::Own(Box::new(Own {
            http: Http1::new(TokioIo::new(stream)),
            host: host(uri),
            is_tls: uri.scheme() == Some(&Scheme::HTTPS),
            usage,
        })))
    }

    pub(super) fn usage(&self) -> &Usage {
        match self {
            Self::Own(own) => &own.usage,
            Self::Share(share) => &share.shared.usage,
        }
    }

    /// Sends a request, whose URI is absolute, and waits for its answer.
    pub(super) async fn send(
        self,
        request: Box<Request<Bytes>>,
    ) -> Result<(Parts, Answering), Unanswered> {
        match self {
            Self::Own(mut own) => match own.http.send(&request, &own.host).await {
                Ok(head) => Ok((head, Answering::Own(own))),
                Err(failed) => Err(Unanswered {
                    error: failed.error.into(),
                    unsent: failed.is_unsent.then_some(request),
                }),
            },
            Self::Share(share) => Box::pin(share.send(*request)).await,
        }
    }
}

impl Own {
    /// Whether the last answer is whole, and another request can follow.
    pub(super) fn can_go_on(&self) -> bool {
        self.http.can_go_on()
    }

    /// Whether another request can be sent, as far as anybody knows.
    pub(super) fn is_ready(&mut self) -> bool {
        self.http.is_ready()
    }

    /// Lets go of the connection; over TLS its server is told (RFC 8446, section 6.1).
    pub(super) fn close(self) {
        if self.is_tls {
            self.http.close();
        }
    }
}

impl Share {
    async fn send(mut self, request: Request<Bytes>) -> Result<(Parts, Answering), Unanswered> {
        let body = request.body().clone();
        match self
            .shared
            .sender
            .try_send_request(request.map(Full::new))
            .await
        {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok((head, Answering::Share(body, self)))
            }
            Err(mut failed) => Err(Unanswered {
                unsent: failed
                    .take_message()
                    .map(|request| Box::new(request.map(|_| body))),
                error: failed.into_error().into(),
            }),
        }
    }

    /// The call has had its answer.
    pub(super) fn spare(mut self) -> Shared {
        self.is_answered = true;
        self.shared.clone()
    }
}

impl Shared {
    pub(super) fn is_ready(&self) -> bool {
        !self.sender.is_closed() && !self.is_spoilt.load(Ordering::Relaxed)
    }

    pub(super) fn share(&self) -> Share {
        Share {
            shared: self.clone(),
            is_answered: false,
        }
    }
}

/// The body of an answer, with the connection that it comes over.
pub(super) enum Answering {
    Own(Box<Own>),
    Share(Incoming, Share),
}

impl Answering {
    pub(super) fn usage(&self) -> &Usage {
        match self {
            Self::Own(own) => &own.usage,
            Self::Share(_, share) => &share.shared.usage,
        }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Own(own) => own
                .http
                .poll_piece(context)
                .map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(Into::into))),
            Self::Share(body, _) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        }
    }
}

/// What `Host` says (RFC 9110, section 7.2): the port only where it is not the scheme's own.
pub(super) fn host(uri: &Uri) -> HeaderValue {
    let usual = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let host = uri.host().unwrap_or_default();
    let text = match uri.port_u16().filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    // A URI's host has no character that a header may not have.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
