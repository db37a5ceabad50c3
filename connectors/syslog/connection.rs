//! A sender's stream, over TCP or TLS.

use std::net::IpAddr;
use std::time::Duration;

use futures::Stream;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::frames::{Frame, Frames};

/// How long a sender may take to shake hands.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;

/// How many messages are handed over at once.
pub(super) const AT_ONCE_MAX: usize = 256;

/// How soon it is looked at whether a silent sender is still there, how often then, and after how
/// many looks without an answer it is gone. There may be nothing to say for days.
const SILENT_FOR: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LOOKS_MAX: u32 = 4;

/// How messages came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// A message, and where it came from.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) frame: Frame,
    pub(super) peer: IpAddr,
    pub(super) transport: Transport,
}

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) tls: Option<TlsAcceptor>,
}

/// What comes of a connection: messages, and at last its end.
#[derive(Debug)]
pub(super) enum Came {
    Messages(Vec<Received>),
    End,
}

/// An open connection.
struct Connection {
    /// None once nothing comes any more.
    stream: Option<Box<dyn AsyncRead + Send + Unpin>>,
    frames: Frames,
    peer: IpAddr,
    transport: Transport,
}

/// How far a connection is.
enum State {
    Accepted(Accepted),
    Open(Connection),
    Ended,
}

/// The messages of a connection. It is read as they are asked for, and no further.
pub(super) fn messages(
    accepted: Accepted,
    message_bytes_max: usize,
) -> impl Stream<Item = Came> + Send {
    futures::stream::unfold(State::Accepted(accepted), move |state| async move {
        let mut connection = match state {
            State::Ended => return None,
            State::Open(connection) => connection,
            State::Accepted(accepted) => {
                match Connection::open(accepted, message_bytes_max).await {
                    Some(connection) => connection,
                    None => return Some((Came::End, State::Ended)),
                }
            }
        };
        Some(match connection.next().await {
            Some(messages) => (Came::Messages(messages), State::Open(connection)),
            None => (Came::End, State::Ended),
        })
    })
}

impl Connection {
    async fn open(accepted: Accepted, message_bytes_max: usize) -> Option<Self> {
        let Accepted { stream, peer, tls } = accepted;
        let keepalive = TcpKeepalive::new()
            .with_time(SILENT_FOR)
            .with_interval(LOOK_EVERY)
            .with_retries(LOOKS_MAX);
        // Without it a sender that vanished keeps its connection, and nothing worse.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let transport = match tls {
            Some(_) => Transport::Tls,
            None => Transport::Tcp,
        };
        let stream: Box<dyn AsyncRead + Send + Unpin> = match tls {
            None => Box::new(stream),
            Some(tls) => match timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(error)) => {
                    tracing::warn!(%peer, %error, "a sender of syslog does not shake hands");
                    return None;
                }
                Err(_elapsed) => {
                    tracing::warn!(%peer, "a sender of syslog takes too long to shake hands");
                    return None;
                }
            },
        };
        Some(Self {
            stream: Some(stream),
            frames: Frames::new(message_bytes_max),
            peer,
            transport,
        })
    }

    /// The next messages, or none where there are no more.
    async fn next(&mut self) -> Option<Vec<Received>> {
        loop {
            let there = std::iter::from_fn(|| self.frames.next());
            let there: Vec<Frame> = there.take(AT_ONCE_MAX).collect();
            if !there.is_empty() {
                return Some(
                    there
                        .into_iter()
                        .map(|frame| self.received(frame))
                        .collect(),
                );
            }
            let stream = self.stream.as_mut()?;
            self.frames.buffer.reserve(READ_BYTES);
            let read = stream.read_buf(&mut self.frames.buffer).await;
            if let Ok(1..) = read {
                continue;
            }
            if let Err(error) = read {
                tracing::debug!(peer = %self.peer, %error, "a sender of syslog broke off");
            }
            self.stream = None;
            let last = self.frames.last()?;
            return Some(vec![self.received(last)]);
        }
    }

    fn received(&self, frame: Frame) -> Received {
        Received {
            frame,
            peer: self.peer,
            transport: self.transport,
        }
    }
}
