//! Both directions of a connection, for protocols that read and write at the same time.

use std::future::pending;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::stream::Stream;

/// There is room for so many bytes at least whenever something is read.
const READ_BYTES_MIN: usize = 16 << 10;

/// A connection, what has come over it and what is to go out. Both stay here where a future is
/// dropped.
pub(crate) struct Duplex {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    /// What has come and has not been taken.
    pub(crate) input: BytesMut,
    /// What is to be written.
    pub(crate) output: BytesMut,
    /// Bytes that TLS may still have.
    is_unflushed: bool,
    has_heard: bool,
}

impl Duplex {
    pub(crate) fn new(stream: Stream) -> Self {
        let (reader, writer) = split(stream);
        Self {
            reader,
            writer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            is_unflushed: false,
            has_heard: false,
        }
    }

    /// Whether everything has been written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.is_unflushed
    }

    /// Whether anything has come since this was last asked.
    pub(crate) fn has_heard(&mut self) -> bool {
        std::mem::take(&mut self.has_heard)
    }

    /// Waits until something was written or, where it `reads`, has come. Safe to cancel.
    ///
    /// # Errors
    /// The connection has ended.
    pub(crate) async fn turn(&mut self, reads: bool) -> io::Result<()> {
        let is_written = self.is_flushed();
        self.input.reserve(READ_BYTES_MIN);
        let Self {
            reader,
            writer,
            input,
            output,
            is_unflushed,
            has_heard,
        } = self;
        let write = async {
            while !output.is_empty() {
                *is_unflushed = true;
                writer.write_buf(output).await?;
            }
            writer.flush().await?;
            *is_unflushed = false;
            Ok(())
        };
        tokio::select! {
            read = reader.read_buf(input), if reads => match read? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {
                    *has_heard = true;
                    Ok(())
                }
            },
            written = write, if !is_written => written,
            else => pending().await,
        }
    }

    /// Writes all that waits, and ends the connection. Returns once the other side has ended it
    /// too: it has then taken what was written.
    ///
    /// # Errors
    /// The connection breaks before that.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        while !self.is_flushed() {
            self.turn(false).await?;
        }
        self.writer.shutdown().await?;
        loop {
            self.input.clear();
            if self.reader.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }
}
