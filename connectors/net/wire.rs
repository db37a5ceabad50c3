//! A client's connection that remembers what has come of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What the notice of a TLS connection's end takes at most, sealed by any of rustls's suites (RFC
/// 8446, section 5.2; RFC 5288), and less than HTTP/2's GOAWAY or any answer.
const TLS_CLOSE_BYTES: u64 = 31;

/// What has come over a connection, shared with whoever captures it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Bytes read, as they are on the wire.
    read: AtomicU64,
    answers: AtomicU64,
}

impl Usage {
    /// A whole answer has come.
    pub(crate) fn answered(&self) {
        self.0.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// How far the connection has come.
    pub(crate) fn mark(&self) -> Mark {
        let [read, answers] =
            [&self.0.read, &self.0.answers].map(|count| count.load(Ordering::Relaxed));
        Mark {
            usage: self.clone(),
            read,
            answers,
        }
    }
}

/// How far a connection had come when a request was sent over it.
#[derive(Debug)]
pub(crate) struct Mark {
    usage: Usage,
    read: u64,
    answers: u64,
}

impl Mark {
    /// Whether the connection was used before the mark, and nothing has come since but perhaps its
    /// end.
    pub(crate) fn is_stale(&self, is_tls: bool) -> bool {
        let read = self.usage.0.read.load(Ordering::Relaxed);
        self.answers > 0
            && read.saturating_sub(self.read) <= if is_tls { TLS_CLOSE_BYTES } else { 0 }
    }
}

/// A connection, below TLS.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    usage: Usage,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            usage: Usage::default(),
        }
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.usage.clone())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, usage } = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(stream).poll_read(context, buffer);
        usage
            .0
            .read
            .fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, bytes)
    }
}
