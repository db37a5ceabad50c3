//! Bytes to and from a server.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::net::explain::explain;
use crate::net::stream::Stream;

/// How long a server may take to let us in, TLS and login included.
pub(crate) const LOGIN_WITHIN: Duration = Duration::from_secs(10);

/// How long an answer may take that asks for little.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long something of a few bytes may take to be sent.
const SENT_WITHIN: Duration = Duration::from_secs(20);

/// How much is read at once, at least, where it is there.
const READ_BYTES: usize = 32 << 10;

/// A stream, and what of it has come and is not read yet. Dropped, it is closed.
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) incoming: BytesMut,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            incoming: BytesMut::new(),
        }
    }

    /// Waits for more bytes. Nothing is lost where this is dropped.
    ///
    /// # Errors
    /// How the connection broke.
    pub(crate) async fn fill(&mut self) -> Result<(), String> {
        self.incoming.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.incoming).await {
            Ok(0) => Err("the server closed it".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// How the connection broke.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(SENT_WITHIN, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_elapsed) => Err("it takes nothing".to_owned()),
        }
    }
}
