//! The wire between a socket and hyper: what must not reach hyper is stopped, and hyper's bare
//! refusals are given a problem document.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;
use super::caller::Peer;
use super::connections::Line;
use super::framing::{Fault, Framing};
use super::refusal::Refusal;

/// Handed to hyper in place of what is refused: no head and no chunk size may hold it, so hyper
/// refuses in its turn, behind the answers to whatever came before. The line ends are there because
/// hyper parses a head only when it is complete.
const POISON: &[u8] = b"\0\r\n\r\n";

/// How long, and for how many bytes, a connection is read on after its last answer. Closing while
/// the caller is still sending would make his system throw that answer away unread.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1 << 20;

/// A connection, watched.
#[derive(Debug)]
pub(super) struct Guard<S> {
    stream: S,
    framing: Framing,
    fault: Option<Fault>,
    /// What is left to hand over of [`POISON`].
    poison: &'static [u8],
    /// What is left to write of the answer that replaces hyper's.
    answer: Bytes,
    head_timeout: Duration,
    /// Runs while a head is incomplete.
    timer: Option<Pin<Box<Sleep>>>,
    idle_timeout: Duration,
    /// Runs always, and is set anew when it has run out while there was something to do: a request
    /// costs no timer.
    idle: Option<Pin<Box<Sleep>>>,
    /// True until the first byte has come.
    silent: bool,
    line: Arc<Line>,
}

impl<S> Guard<S> {
    pub(super) fn new(stream: S, limits: &Limits, line: Arc<Line>) -> Self {
        let Limits {
            head_timeout,
            idle_timeout,
            ..
        } = *limits;
        let (framing, answer, timer, idle) = (Framing::new(), Bytes::new(), None, None);
        Self {
            stream,
            framing,
            fault: None,
            poison: &[],
            answer,
            head_timeout,
            timer,
            idle_timeout,
            idle,
            silent: true,
            line,
        }
    }

    fn poison(&mut self, fault: Fault, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        (self.fault, self.poison) = (Some(fault), POISON);
        self.hand_over_poison(buf)
    }

    fn hand_over_poison(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.poison.split_at(self.poison.len().min(buf.remaining()));
        buf.put_slice(now);
        self.poison = later;
        Poll::Ready(Ok(()))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.silent && !self.framing.in_head() {
            return self.poll_idle(cx);
        }
        let timeout = self.head_timeout;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
        ready!(timer.as_mut().poll(cx));
        // Whoever has said nothing is told nothing: an end of input closes the connection.
        if self.silent {
            Poll::Ready(Ok(()))
        } else {
            self.poison(Fault::HeadTooSlow, buf)
        }
    }

    /// An end of input once nothing has been asked for the idle time.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // While something is asked there is nothing to wait for: hyper reads again behind its last
        // answer.
        let Some(since) = self.line.waiting_since() else {
            return Poll::Pending;
        };
        let until = since + self.idle_timeout;
        let timer = self
            .idle
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        while timer.as_mut().poll(cx).is_ready() {
            if until <= Instant::now() {
                return Poll::Ready(Ok(()));
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

/// The answer in place of a refusal that hyper wrote by itself, which has a 4xx status and no body.
fn replacement(written: &[u8], fault: Option<Fault>) -> Option<Bytes> {
    let refused = written.starts_with(b"HTTP/1.") && written.get(9) == Some(&b'4');
    if !refused || memchr::memmem::find(written, b"\r\ncontent-length: 0\r\n").is_none() {
        return None;
    }
    let refusal = fault
        .map(Fault::refusal)
        .unwrap_or_else(|| match written.get(9..12) {
            Some(b"431") => Fault::HeadTooLarge.refusal(),
            Some(b"414") => Refusal::new(
                StatusCode::URI_TOO_LONG,
                "the address is too long; send the data as the body",
            ),
            _ => Refusal::new(
                StatusCode::BAD_REQUEST,
                "this is not an HTTP/1.1 request; check the request line and the headers",
            ),
        });
    Some(refusal.wire())
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let guard = &mut *self;
        if guard.fault.is_some() {
            return guard.hand_over_poison(buf);
        }
        let before = buf.filled().len();
        match Pin::new(&mut guard.stream).poll_read(cx, buf) {
            Poll::Ready(read) => read?,
            Poll::Pending => return guard.poll_timer(cx, buf),
        }
        let came = buf.filled().get(before..).unwrap_or_default();
        guard.silent &= came.is_empty();
        match guard.framing.scan(came) {
            Err((at, fault)) => {
                buf.set_filled(before + at);
                guard.poison(fault, buf)
            }
            Ok(()) => {
                if !guard.framing.in_head() {
                    guard.timer = None;
                }
                guard.line.came(!guard.framing.in_body());
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.answer))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.answer.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Peer + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_answer(cx))?;
        // What a service answered is its own, even where it looks like a refusal of hyper's.
        if !self.line.is_answering()
            && let Some(answer) = replacement(buf, self.fault)
        {
            self.answer = answer;
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.line.flushed();
        // hyper flushes whenever the connection is woken.
        if self.line.is_watched() && self.stream.has_left() {
            self.line.left();
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Ends the connection after its last answer: reads on for a moment where the caller may still
    /// be sending.
    pub(super) async fn linger(self) {
        if self.fault.is_none() && !self.framing.in_body() {
            return;
        }
        let mut rest = self.stream.take(LINGER_BYTES);
        let mut sink = tokio::io::sink();
        let drain = tokio::io::copy(&mut rest, &mut sink);
        // Neither a timeout nor an error changes anything: the answer has been sent.
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::listener::connections::Connections;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_its_last_answer_on() {
        let open = Connections::new(1, Arc::default()).place(0).await;
        let limits = Limits {
            idle_timeout: Duration::from_secs(75),
            ..Limits::default()
        };
        let (mut caller, stream) = tokio::io::duplex(1024);
        let mut guard = Guard::new(stream, &limits, Arc::clone(&open.line));
        let mut buffer = [0; 1024];
        for _ in 0..3 {
            caller
                .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(guard.read(&mut buffer).await.unwrap(), 27);
            assert!(open.line.has_all() && open.line.began(true));
            // However long the answer takes, the caller is not idle.
            let mut next = Box::pin(guard.read(&mut buffer));
            for seconds in [70, 70, 70] {
                assert!(futures::poll!(&mut next).is_pending());
                tokio::time::advance(Duration::from_secs(seconds)).await;
            }
            open.line.answered();
            open.line.flushed();
            assert!(futures::poll!(&mut next).is_pending());
            tokio::time::advance(Duration::from_secs(74)).await;
            assert!(futures::poll!(&mut next).is_pending());
        }
        let mut next = Box::pin(guard.read(&mut buffer));
        assert!(futures::poll!(&mut next).is_pending());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(matches!(futures::poll!(&mut next), Poll::Ready(Ok(0))));
    }
}
