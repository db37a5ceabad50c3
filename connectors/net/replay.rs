//! A stream whose beginning is read a second time, and that nothing is written to any more.
//!
//! Nothing is read before something is written: an answer that nobody has asked for is an error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::dial::Stream;

pub(super) struct Replay {
    beginning: Bytes,
    rest: Stream,
    was_written: bool,
    /// Waits for that.
    reader: Option<Waker>,
}

impl Replay {
    pub(super) fn new(beginning: Bytes, rest: Stream) -> Self {
        Self {
            beginning,
            rest,
            was_written: false,
            reader: None,
        }
    }
}

impl Read for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.was_written {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if self.beginning.is_empty() {
            return Pin::new(&mut self.rest).poll_read(context, buffer);
        }
        let length = self.beginning.len().min(buffer.remaining());
        buffer.put_slice(&self.beginning.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl Write for Replay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.was_written = true;
        self.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
