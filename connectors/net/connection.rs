//! One connection of a client, and a call over it.
//!
//! An HTTP/1.1 connection has no task of its own: whoever calls over it drives it, so that a
//! request is written, and its answer read, without another task being woken. While it is idle
//! nobody reads from it; that its server has closed it shows when it is taken for the next call.
//! HTTP/2 connections are shared, and driven by a task.

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{Extensions, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::dial::Stream;
use super::replay::Replay;
use super::wire::Usage;

/// How large a response's headers may be.
const RESPONSE_HEADERS_BYTES_MAX: usize = 64 * 1024;

/// How many headers a response may have; their bytes are bounded too.
const RESPONSE_HEADERS_MAX: usize = 1_000;

/// How often an HTTP/2 connection is asked whether it still lives, and how long the answer may
/// take: a peer that has gone without a word is noticed by that alone.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection that is let go of may take to say so to its server.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

type Body = Full<Bytes>;

/// A request that was not answered.
pub(super) struct Unanswered {
    pub(super) error: hyper::Error,
    /// The request, where nothing of it has been written.
    pub(super) unsent: Option<Box<Request<Body>>>,
}

impl From<TrySendError<Request<Body>>> for Unanswered {
    fn from(mut failed: TrySendError<Request<Body>>) -> Self {
        Self {
            unsent: failed.take_message().map(Box::new),
            error: failed.into_error(),
        }
    }
}

impl From<hyper::Error> for Unanswered {
    fn from(error: hyper::Error) -> Self {
        Self {
            error,
            unsent: None,
        }
    }
}

/// A connection, or a share of one, for one call.
pub(super) enum Connection {
    Http1(Box<Http1>),
    Http2(Http2, Spoil),
}

pub(super) struct Http1 {
    sender: http1::SendRequest<Body>,
    driver: Driver,
    /// What `Host` says.
    host: HeaderValue,
    pub(super) is_tls: bool,
    usage: Usage,
}

/// What reads and writes.
enum Driver {
    Usual(http1::Connection<Stream, Body>),
    /// An answer with very many headers is read a second time; no other call is made after it.
    Replayed(http1::Connection<Replay, Body>),
    /// With what is left of the connection.
    Ended(Option<http1::Parts<Stream>>),
}

/// A connection that calls share.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Body>,
    usage: Usage,
    /// Whether a call over it has not got its whole answer.
    is_spoilt: Arc<AtomicBool>,
}

/// Spoils a shared connection when it is dropped, unless the call has had its answer.
pub(super) struct Spoil(Option<Arc<AtomicBool>>);

impl Drop for Spoil {
    fn drop(&mut self) {
        if let Some(is_spoilt) = &self.0 {
            is_spoilt.store(true, Ordering::Relaxed);
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
                .max_header_list_size(RESPONSE_HEADERS_BYTES_MAX as u32)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .handshake(stream)
                .await?;
            // It ends with its connection, or with the last share of it; whoever calls is told why.
            tokio::spawn(driver);
            let is_spoilt = Arc::default();
            let shared = Http2 {
                sender,
                usage,
                is_spoilt,
            };
            return Ok(shared.lend());
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_HEADERS_BYTES_MAX)
            .handshake(stream)
            .await?;
        let opened = Http1 {
            sender,
            driver: Driver::Usual(connection),
            host: host(uri),
            is_tls: uri.scheme() == Some(&Scheme::HTTPS),
            usage,
        };
        Ok(Self::Http1(Box::new(opened)))
    }

    pub(super) fn usage(&self) -> &Usage {
        match self {
            Self::Http1(connection) => &connection.usage,
            Self::Http2(connection, _) => &connection.usage,
        }
    }

    /// Sends a request, whose URI is absolute, and waits for its answer.
    pub(super) async fn send(
        &mut self,
        request: Box<Request<Body>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        match self {
            Self::Http1(connection) => connection.send(request).await,
            Self::Http2(connection, _) => Ok(connection.sender.try_send_request(*request).await?),
        }
    }

    /// Waits for something that comes over this connection.
    pub(super) async fn drive<F: Future>(&mut self, future: Pin<&mut F>) -> F::Output {
        match self {
            Self::Http1(connection) => connection.drive(future).await,
            Self::Http2(..) => future.await,
        }
    }
}

impl Http1 {
    /// Whether another request can be sent, as far as anybody knows. That the server has closed it
    /// meanwhile shows when one is.
    pub(super) fn is_ready(&mut self) -> bool {
        // What is left of the answer may have been read and not looked at. Nobody waits.
        if !self.sender.is_ready() {
            self.poll_driver(&mut Context::from_waker(Waker::noop()));
        }
        matches!(self.driver, Driver::Usual(_)) && self.sender.is_ready()
    }

    fn poll_driver(&mut self, context: &mut Context<'_>) {
        let polled = match &mut self.driver {
            Driver::Usual(connection) => connection.poll_without_shutdown(context).map(drop),
            Driver::Replayed(connection) => connection.poll_without_shutdown(context).map(drop),
            Driver::Ended(_) => return,
        };
        // What went wrong is told to whoever waits for an answer.
        if polled.is_ready() {
            let ended = mem::replace(&mut self.driver, Driver::Ended(None));
            if let Driver::Usual(connection) = ended {
                self.driver = Driver::Ended(Some(connection.into_parts()));
            }
        }
    }

    async fn drive<F: Future>(&mut self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            self.poll_driver(context);
            future.as_mut().poll(context)
        })
        .await
    }

    async fn send(
        &mut self,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        request
            .headers_mut()
            .entry(header::HOST)
            .or_insert_with(|| self.host.clone());
        let method = request.method().clone();
        let answer = pin!(self.sender.try_send_request(*request));
        let failed = match self.drive(answer).await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        match mem::replace(&mut self.driver, Driver::Ended(None)) {
            Driver::Ended(Some(parts)) if failed.error().is_parse_too_large() => {
                Box::pin(self.replay(parts, method)).await
            }
            _ => Err(failed.into()),
        }
    }

    /// Reads an answer that has more headers than hyper takes without being told: room for very
    /// many would cost every answer.
    async fn replay(
        &mut self,
        http1::Parts { io, read_buf, .. }: http1::Parts<Stream>,
        method: Method,
    ) -> Result<Response<Incoming>, Unanswered> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_HEADERS_BYTES_MAX)
            .max_headers(RESPONSE_HEADERS_MAX)
            .handshake(Replay::new(read_buf, io))
            .await?;
        (self.sender, self.driver) = (sender, Driver::Replayed(connection));
        // It is answered already; what decides how the answer is read is the method.
        let mut answered = Request::new(Body::default());
        *answered.method_mut() = method;
        let answer = pin!(self.sender.try_send_request(answered));
        Ok(self.drive(answer).await?)
    }

    /// Lets go of the connection. Over TLS its server is told (RFC 8446, section 6.1).
    pub(super) fn close(self) {
        let Self {
            sender,
            driver: Driver::Usual(connection),
            is_tls: true,
            ..
        } = self
        else {
            return;
        };
        drop(sender);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(CLOSED_WITHIN, connection));
        }
    }
}

impl Http2 {
    pub(super) fn is_ready(&self) -> bool {
        !self.sender.is_closed() && !self.is_spoilt.load(Ordering::Relaxed)
    }

    pub(super) fn lend(&self) -> Connection {
        let spoil = Spoil(Some(Arc::clone(&self.is_spoilt)));
        Connection::Http2(self.clone(), spoil)
    }
}

impl Spoil {
    /// The call has had its answer.
    pub(super) fn spare(mut self) {
        self.0 = None;
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
