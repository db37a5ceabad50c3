//! What is said before TLS (RFC 3207), and the connection that is handed to the client behind it.
//!
//! It is said here and not by the client, so that TLS is the one that everything else uses, and so
//! that nothing which came before the handshake counts after it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use lettre::transport::smtp::extension::ClientId;
use rustls::ClientConfig;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf,
};

use crate::net::explain::explain;
use crate::net::stream::{Host, Stream, secured};

/// How long one answer may be, with all its lines.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What the client reads in the place of the greeting, which was before TLS.
const GREETING: &[u8] = b"220 TLS\r\n";

/// Why there is no TLS.
pub(super) enum Trouble {
    /// The server does not offer it.
    NotOffered,
    /// The server answered something else than was hoped for.
    Answer(String),
    /// The connection broke, or cannot be trusted.
    Broken(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(explain(&error))
    }
}

/// Asks a server for TLS, and shakes hands.
pub(super) async fn upgrade(
    stream: Stream,
    host: &Host,
    tls: Arc<ClientConfig>,
    hello: &ClientId,
) -> Result<Wire, Trouble> {
    let mut plain = BufReader::new(stream);
    answer(&mut plain, "220").await?;
    say(&mut plain, &format!("EHLO {hello}\r\n")).await?;
    let offered = answer(&mut plain, "250").await?;
    let mut words = offered.iter().filter_map(|line| line.get(4..));
    if !words.any(|word| word.trim().eq_ignore_ascii_case("STARTTLS")) {
        return Err(Trouble::NotOffered);
    }
    say(&mut plain, "STARTTLS\r\n").await?;
    answer(&mut plain, "220").await?;
    // What came along may be from anybody, and would be read as said under TLS.
    if !plain.buffer().is_empty() {
        let words = "the server said more before TLS than it was asked";
        return Err(Trouble::Broken(words.to_owned()));
    }
    let secured = secured(plain.into_inner(), &host.name, tls).await;
    let stream = secured.map_err(|error| Trouble::Broken(explain(&*error)))?;
    Ok(Wire {
        before: GREETING,
        stream: Box::new(stream),
    })
}

async fn say(stream: &mut BufReader<Stream>, words: &str) -> io::Result<()> {
    stream.write_all(words.as_bytes()).await?;
    stream.flush().await
}

/// The lines of the next answer, which must be of this code.
async fn answer(stream: &mut BufReader<Stream>, code: &str) -> Result<Vec<String>, Trouble> {
    let mut lines = Vec::new();
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    loop {
        let mut line = String::new();
        limited.read_line(&mut line).await?;
        if !line.ends_with('\n') {
            let words = "unexpected end of file within an answer".to_owned();
            return Err(Trouble::Broken(words));
        }
        let goes_on = line.get(3..4) == Some("-");
        lines.push(line.trim_end().to_owned());
        if !goes_on {
            break;
        }
    }
    match lines.iter().all(|line| line.get(..3) == Some(code)) {
        true => Ok(lines),
        false => Err(Trouble::Answer(lines.join(" "))),
    }
}

/// A connection as the client takes it.
pub(super) struct Wire {
    /// What is read before the stream is.
    before: &'static [u8],
    stream: Stream,
}

impl Wire {
    /// A connection on which nothing has been said.
    pub(super) fn new(stream: Stream) -> Self {
        let before = &[];
        Self { before, stream }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        Pin::new(&mut self.before).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
