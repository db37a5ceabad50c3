//! Accepts connections and serves them, whoever answers.

use std::convert::Infallible;
use std::error::Error;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::caller::{Caller, Peer};
use super::connections::{ConnectionCounts, Connections, Line, Open};
use super::guard::Guard;
use super::refusal::Refusal;
use super::{Limits, framing};
use crate::LogLimit;

/// How long accepting rests after an error that nothing could be done about.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much of a connection hyper buffers; also the largest piece of a body. A head must fit:
/// [`framing::HEAD_BYTES_MAX`].
const BUFFER_BYTES: usize = 64 * 1024;

/// Connections past the bound, for probes alone: several probers, each with a connection of its
/// own.
const PROBE_CONNECTIONS: usize = 16;

/// Marks an answer, by an extension, that goes on for as long as somebody reads it: its connection
/// is never idle, gives way to nobody, and ends with it.
#[derive(Clone, Copy, Debug)]
pub struct Endless;

/// How a socket is served.
pub struct Serving {
    /// Deadlines and bounds of each connection.
    pub limits: Limits,
    /// How many connections are open at once.
    pub max_connections: usize,
    /// Serve over TLS.
    pub tls: Option<TlsAcceptor>,
    /// Paths that are answered even where every connection is at work or no descriptor is left.
    /// Whoever answers them must be quick and open nothing.
    pub probes: &'static [&'static str],
    /// Answer also who has closed the sending side of the connection: whoever hangs up keeps its
    /// place until it is answered, and nothing is read in the meantime. For a service that answers
    /// within a bounded time whatever becomes of its caller.
    pub half_close: bool,
    /// Where to count.
    pub counts: Arc<ConnectionCounts>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving")
            .field("max_connections", &self.max_connections)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// As many connections as `part` of the descriptors that the process may have, such as 2 for a
/// half, and at most `wanted`.
#[must_use]
pub fn connections_max(wanted: usize, part: u64) -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX);
    usize::try_from(descriptors / part.max(1))
        .unwrap_or(usize::MAX)
        .min(wanted)
        .max(1)
}

/// A request's body, which tells when all of it has come.
#[derive(Debug)]
pub struct Watched {
    body: Incoming,
    line: Arc<Line>,
}

impl Watched {
    /// Whoever sends it.
    pub(super) fn caller(&self) -> Caller {
        Caller::new(&self.line)
    }

    /// Whether all of it has come from the caller, so that there is nothing to wait for.
    pub(super) fn has_come(&self) -> bool {
        self.line.has_all()
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ended = matches!(&polled, Poll::Ready(None))
            || (polled.is_ready() && self.body.is_end_stream());
        // One that gives way is dropped by its own task: what reads here is not to go on.
        if ended && !self.line.read() {
            Poll::Pending
        } else {
            polled
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves until `shutdown`; then takes no more connections, finishes the requests in flight for as
/// long as [`Limits::drain_timeout`], and returns. Dropping the future breaks all connections off.
pub async fn serve<S, B>(
    socket: TcpListener,
    service: S,
    serving: Serving,
    shutdown: CancellationToken,
) where
    S: Service<http::Request<Watched>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: Body + From<Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut tasks = JoinSet::new();
    let mut accepting = Accepting::new(socket, &serving);
    let serving = Arc::new(serving);
    loop {
        let (stream, open) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = tasks.join_next() => {
                report(ended);
                continue;
            }
            next = accepting.next() => next,
        };
        tasks.spawn(connect(stream, open, service.clone(), Arc::clone(&serving)));
    }
    accepting.connections.finish();
    drop(accepting);
    let drain = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if timeout(serving.limits.drain_timeout, drain).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            "requests were still in flight at the end of the drain; broke them off"
        );
        tasks.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

/// The socket, and what is needed to get something out of it when descriptors have run out.
struct Accepting {
    socket: TcpListener,
    connections: Arc<Connections>,
    counts: Arc<ConnectionCounts>,
    past_bound: usize,
    /// Accepted and not placed yet.
    accepted: Option<TcpStream>,
    /// A descriptor that is let go of for a probe when there is no other.
    spare: Option<File>,
    on_spare: bool,
    failed_log: LogLimit,
}

impl Accepting {
    fn new(socket: TcpListener, serving: &Serving) -> Self {
        Self {
            socket,
            connections: Connections::new(serving.max_connections, Arc::clone(&serving.counts)),
            counts: Arc::clone(&serving.counts),
            past_bound: if serving.probes.is_empty() {
                0
            } else {
                PROBE_CONNECTIONS
            },
            accepted: None,
            spare: None,
            on_spare: false,
            failed_log: LogLimit::default(),
        }
    }

    /// The next connection, with its place among the others. Cancel-safe: what is accepted and not
    /// placed is kept.
    async fn next(&mut self) -> (TcpStream, Open) {
        loop {
            if self.past_bound > 0 && !self.on_spare {
                self.keep_spare();
            }
            if self.accepted.is_none() {
                match self.socket.accept().await {
                    Ok((stream, _)) => self.accepted = Some(stream),
                    Err(error) => {
                        self.failed(&error).await;
                        continue;
                    }
                }
            }
            // Where there is another descriptor by now, this connection is like any other.
            let on_spare = std::mem::take(&mut self.on_spare) && !self.keep_spare();
            let open = if on_spare {
                self.connections.place_on_spare()
            } else {
                self.connections.place(self.past_bound).await
            };
            if let Some(stream) = self.accepted.take() {
                return (stream, open);
            }
        }
    }

    /// Takes a descriptor to let go of later; false where there is none.
    fn keep_spare(&mut self) -> bool {
        if self.spare.is_none() {
            self.spare = File::open("/dev/null").ok();
        }
        self.spare.is_some()
    }

    /// Makes room where descriptors have run out, and rests where that cannot be done.
    async fn failed(&mut self, error: &io::Error) {
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        ) {
            return;
        }
        // accept(2) looks for a descriptor before it looks for a connection: where nobody waits,
        // nobody has to give way.
        if is_lack_of_descriptors(error) && !self.is_somebody_waiting() {
            return tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        self.counts.accept_errors.fetch_add(1, Ordering::Relaxed);
        self.tell(error);
        // One try with the descriptor that was let go of is enough: somebody else has taken it.
        let spent = std::mem::take(&mut self.on_spare);
        if is_lack_of_descriptors(error) && !spent {
            if self.connections.make_room() {
                // Its end ends this wait too: whoever serves looks after ended connections first.
                return tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            if self.spare.take().is_some() {
                self.on_spare = true;
                return;
            }
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Whether a connection waits in the system's backlog; where that cannot be told, one does.
    fn is_somebody_waiting(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
        !matches!(poll(&mut socket, Some(&Timespec::default())), Ok(0))
    }

    fn tell(&mut self, error: &io::Error) {
        if let Some(failures) = self.failed_log.admit(1) {
            let address = self
                .socket
                .local_addr()
                .map_or_else(|_| "?".to_owned(), |address| address.to_string());
            let advice = if is_lack_of_descriptors(error) {
                "; raise the limit of open files (ulimit -n), or lower max_connections"
            } else {
                ""
            };
            tracing::warn!(
                %address, %error, failures,
                "cannot take a connection, trying again{advice}"
            );
        }
    }
}

fn is_lack_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

async fn connect<S, B>(stream: TcpStream, open: Open, service: S, serving: Arc<Serving>)
where
    S: Service<http::Request<Watched>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: Body + From<Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Answers are small and awaited: Nagle's algorithm would hold them back. A failure here costs
    // speed only.
    let _ = stream.set_nodelay(true);
    let line = &open.line;
    let talk = async {
        let Some(tls) = &serving.tls else {
            return converse(stream, line, service, &serving).await;
        };
        match timeout(serving.limits.head_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(stream, line, service, &serving).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    };
    // Dropping the conversation closes its socket, before its place is given up.
    tokio::select! {
        biased;
        () = line.leaves() => tracing::debug!("an idle connection gave way"),
        () = talk => {}
    }
}

async fn converse<T, S, B>(stream: T, line: &Arc<Line>, service: S, serving: &Arc<Serving>)
where
    T: AsyncRead + AsyncWrite + Peer + Unpin,
    S: Service<http::Request<Watched>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body + From<Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let service = service_fn(|request| answer(request, line, &service, serving));
    // The guard sees to heads that are slow and to connections that are idle; hyper would make and
    // set a timer for each request.
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(serving.half_close)
        .max_header_size(framing::HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES)
        .writev(false)
        .serve_connection(
            TokioIo::new(Guard::new(stream, &serving.limits, Arc::clone(line))),
            service,
        );
    let ended = tokio::select! {
        // An answer that is ready at the same moment then says that the connection ends.
        biased;
        () = line.finishes() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
        ended = &mut connection => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection broke off");
    }
    connection.into_parts().io.into_inner().linger().await;
}

/// One request; past the bound a probe alone, and the last one on its connection.
async fn answer<S, B>(
    request: http::Request<Incoming>,
    line: &Arc<Line>,
    service: &S,
    serving: &Serving,
) -> Result<http::Response<B>, Infallible>
where
    S: Service<http::Request<Watched>, Response = http::Response<B>, Error = Infallible>,
    B: From<Bytes>,
{
    if !line.began(request.body().is_end_stream()) {
        // The connection is dropped in a moment; nothing of it may begin.
        std::future::pending::<()>().await;
    }
    let is_probe = serving.probes.contains(&request.uri().path());
    let mut response = if line.past_bound && !is_probe {
        serving.counts.turned_away.fetch_add(1, Ordering::Relaxed);
        turned_away()
    } else {
        let request = request.map(|body| Watched {
            body,
            line: Arc::clone(line),
        });
        service.call(request).await?
    };
    if line.past_bound {
        serving
            .counts
            .probes_past_bound
            .fetch_add(u64::from(is_probe), Ordering::Relaxed);
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if response.extensions().get::<Endless>().is_some() {
        // It is at work for as long as it is written, and ends with that.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    } else {
        line.answered();
    }
    Ok(response)
}

fn turned_away<B: From<Bytes>>() -> http::Response<B> {
    let refusal = Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many requests are being answered; send it again a little later",
    );
    let mut response = http::Response::new(refusal.document().into());
    *response.status_mut() = refusal.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(Refusal::MEDIA_TYPE));
    response
}
