//! One connection of HTTP/1.1 (RFC 9112), and a call over it.
//!
//! It has no task of its own: whoever calls over it writes the request and reads its answer. While
//! it is idle nobody reads from it; that its server has closed it shows when it is taken for the
//! next call.
//!
//! Each event takes this way: an attempt over hyper's client, which does the same, costs a quarter
//! more instructions (`docs/develop/performance.md`).

mod body;
mod head;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use self::body::{Framing, Taken};

/// How much is read at once: at first, and at most, where more has come each time.
const READ_BYTES_MIN: usize = 2 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;

/// How long a connection that is let go of may take to say so to its server.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the server closed the connection")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("what came is not HTTP/1.1: {0}")]
    Malformed(&'static str),
}

/// A request that was not answered.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) error: Broken,
    /// Whether nothing of it has been written.
    pub(super) is_unsent: bool,
}

pub(super) struct Http1<S> {
    stream: S,
    /// What has been read and not been taken.
    read: BytesMut,
    /// How much is read next.
    read_bytes: usize,
    /// How the rest of the answer comes.
    framing: Framing,
    /// Whether no other request can be sent.
    is_last: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            framing: Framing::Ended,
            is_last: false,
        }
    }

    /// Whether the last answer is whole, and another request can follow.
    pub(super) fn can_go_on(&self) -> bool {
        matches!(self.framing, Framing::Ended) && self.read.is_empty() && !self.is_last
    }

    /// Whether besides neither anything else nor the connection's end has come since, as far as
    /// anybody knows.
    pub(super) fn is_ready(&mut self) -> bool {
        // Nobody waits for it.
        let mut context = Context::from_waker(Waker::noop());
        let mut byte = [0];
        let mut room = ReadBuf::new(&mut byte);
        self.can_go_on()
            && Pin::new(&mut self.stream)
                .poll_read(&mut context, &mut room)
                .is_pending()
    }

    /// Sends a request to a host, and waits for the head of its answer. Where that comes before all
    /// of the request is written, the rest of it is not.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(super) async fn send(
        &mut self,
        request: &Request<Bytes>,
        host: &HeaderValue,
    ) -> Result<Parts, Unanswered> {
        let head = head::written(request, host);
        let whole = head.len() + request.body().len();
        let mut unsent = (&head[..]).chain(&request.body()[..]);
        self.read_bytes = READ_BYTES_MIN;
        let mut failed = None;
        let answered = poll_fn(|context| {
            if failed.is_none() {
                let written = self.poll_write(&mut unsent, context);
                failed = ready_error(written);
            }
            // There is no answer to what was not sent.
            if unsent.remaining() == whole
                && let Some(error) = failed.take()
            {
                return Poll::Ready(Err(error.into()));
            }
            let head = ready!(self.poll_head(request.method(), context));
            // Why nothing more could be written says more than that nothing more came.
            Poll::Ready(head.map_err(|error| match (error, failed.take()) {
                (Broken::Closed, Some(failed)) => failed.into(),
                (error, _) => error,
            }))
        })
        .await;
        self.is_last |= unsent.has_remaining() || answered.is_err();
        let is_unsent = unsent.remaining() == whole;
        answered.map_err(|error| Unanswered { error, is_unsent })
    }

    fn poll_write(
        &mut self,
        unsent: &mut impl Buf,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while unsent.has_remaining() {
            let written = poll_write_buf(Pin::new(&mut self.stream), context, unsent);
            if ready!(written)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_head(
        &mut self,
        method: &Method,
        context: &mut Context<'_>,
    ) -> Poll<Result<Parts, Broken>> {
        loop {
            while let Some(head) = head::take(&mut self.read)? {
                let is_final = head.status == StatusCode::SWITCHING_PROTOCOLS
                    || !head.status.is_informational();
                if is_final {
                    let (framing, is_last) = Framing::of(method, &head)?;
                    self.framing = framing;
                    self.is_last |= is_last;
                    return Poll::Ready(Ok(head));
                }
            }
            if ready!(self.poll_read(context))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// The next piece of the answer's body; none once it has ended.
    pub(super) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        let piece = ready!(self.poll_rest(context));
        if piece.is_err() {
            self.framing = Framing::Ended;
            self.is_last = true;
        }
        Poll::Ready(piece.transpose())
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        loop {
            match self.framing.take(&mut self.read)? {
                Taken::Piece(piece) => return Poll::Ready(Ok(Some(piece))),
                Taken::End => return Poll::Ready(Ok(None)),
                Taken::Nothing => {}
            }
            if ready!(self.poll_read(context))? == 0 {
                self.framing.close()?;
            }
        }
    }

    /// How many bytes more have been read; none at the connection's end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.read_bytes);
        let room = self.read.capacity() - self.read.len();
        let count = ready!(poll_read_buf(
            Pin::new(&mut self.stream),
            context,
            &mut self.read
        ))?;
        if count == room {
            self.read_bytes = READ_BYTES_MAX.min(2 * self.read_bytes);
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> Http1<S> {
    /// Lets go of a connection, and tells its server (over TLS: RFC 8446, section 6.1).
    pub(super) fn close(mut self) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { timeout(CLOSED_WITHIN, self.stream.shutdown()).await });
        }
    }
}

fn ready_error<T, E>(polled: Poll<Result<T, E>>) -> Option<E> {
    match polled {
        Poll::Ready(result) => result.err(),
        Poll::Pending => None,
    }
}
