//! The sockets. Whoever asks for messages reads them, and nobody else does: what is not asked for
//! waits in the kernel, or with its sender.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use socket2::SockRef;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};
use tokio_rustls::TlsAcceptor;

use super::connection::{AT_ONCE_MAX, Accepted, Came, Received, Transport, messages};
use super::drops::dropped;
use super::frames::Frame;
use crate::{Link, LogLimit};

/// How large a datagram may be.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// How much the kernel is asked to keep of datagrams that nobody has read. It grants as much as its
/// own bound allows (`net.core.rmem_max`).
const WAITING_BYTES: usize = 8 << 20;

/// How long accepting rests after it failed, as where there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked at what the kernel has dropped.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How large things may get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) message_bytes: usize,
    pub(super) connections: usize,
}

/// All sockets of a source.
pub(super) struct Receiver {
    datagrams: Option<Datagrams>,
    listeners: SelectAll<BoxStream<'static, Accepted>>,
    connections: SelectAll<BoxStream<'static, Came>>,
    /// How many connections have not ended.
    open: usize,
    bounds: Bounds,
    /// When it is looked at what is lost.
    look: Interval,
    full_log: LogLimit,
    link: Link,
}

impl Receiver {
    /// One that has no socket yet.
    pub(super) fn new(bounds: Bounds, link: Link) -> Self {
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            datagrams: None,
            listeners: SelectAll::new(),
            connections: SelectAll::new(),
            open: 0,
            bounds,
            look,
            full_log: LogLimit::default(),
            link,
        }
    }

    /// Takes datagrams, too.
    pub(super) fn read(&mut self, socket: UdpSocket) {
        let asked = SockRef::from(&socket).set_recv_buffer_size(WAITING_BYTES);
        if let Err(error) = asked {
            tracing::debug!(%error, "the queue of datagrams is as long as it is by default");
        }
        self.datagrams = Some(Datagrams {
            socket,
            buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
            message_bytes_max: self.bounds.message_bytes,
            dropped: 0,
            failures: LogLimit::default(),
        });
    }

    /// Takes connections, too.
    pub(super) fn accept(&mut self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        self.listeners.push(accepted(listener, tls).boxed());
    }

    /// Takes no more connections.
    pub(super) fn stop_accepting(&mut self) {
        self.listeners.clear();
    }

    /// The next messages, of one sender or several. Cancel-safe: nothing has been read that is not
    /// returned.
    pub(super) async fn receive(&mut self) -> Vec<Received> {
        loop {
            let has_room = self.open < self.bounds.connections;
            if !has_room && let Some(times) = self.full_log.admit(1) {
                let max = self.bounds.connections;
                tracing::warn!(
                    max,
                    times,
                    "as many senders of syslog are connected as may be; others wait"
                );
            }
            tokio::select! {
                Some(came) = self.connections.next() => match came {
                    Came::Messages(messages) => return messages,
                    Came::End => self.open -= 1,
                },
                received = next_datagrams(&mut self.datagrams) => {
                    if !received.is_empty() {
                        return received;
                    }
                }
                Some(accepted) = self.listeners.next(), if has_room => {
                    self.open += 1;
                    self.connections.push(messages(accepted, self.bounds.message_bytes).boxed());
                }
                _ = self.look.tick() => self.count_dropped(),
            }
        }
    }

    /// Tells of what has been dropped since it was told last.
    pub(super) fn count_dropped(&mut self) {
        let Some(datagrams) = &mut self.datagrams else {
            return;
        };
        let Some(dropped) = dropped(&datagrams.socket) else {
            return;
        };
        let more = dropped.saturating_sub(datagrams.dropped);
        datagrams.dropped = dropped;
        if more > 0 {
            let why = "the kernel's queue of datagrams was full (net.core.rmem_max bounds it)";
            self.link.skipped(more, why);
        }
    }
}

/// The connections that a listener accepts.
fn accepted(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
) -> impl futures::Stream<Item = Accepted> + Send {
    let state = (listener, tls, LogLimit::default());
    futures::stream::unfold(state, |(listener, tls, mut failures)| async move {
        loop {
            let error = match listener.accept().await {
                Ok((stream, address)) => {
                    let accepted = Accepted {
                        stream,
                        peer: address.ip().to_canonical(),
                        tls: tls.clone(),
                    };
                    return Some((accepted, (listener, tls, failures)));
                }
                Err(error) => error,
            };
            if let Some(failures) = failures.admit(1) {
                tracing::warn!(%error, failures, "cannot take a connection, trying again");
            }
            sleep(ACCEPT_PAUSE).await;
        }
    })
}

/// A socket of datagrams.
struct Datagrams {
    socket: UdpSocket,
    buffer: Box<[u8]>,
    message_bytes_max: usize,
    /// How many the kernel had dropped when it was looked at last.
    dropped: u64,
    failures: LogLimit,
}

/// The datagrams that are there, and none for ever where there is no socket.
async fn next_datagrams(datagrams: &mut Option<Datagrams>) -> Vec<Received> {
    let Some(datagrams) = datagrams else {
        return std::future::pending().await;
    };
    if datagrams.socket.readable().await.is_err() {
        sleep(ACCEPT_PAUSE).await;
    }
    // Nothing is waited for from here on.
    datagrams.take()
}

impl Datagrams {
    fn take(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        while received.len() < AT_ONCE_MAX {
            match self.socket.try_recv_from(&mut self.buffer) {
                Ok((length, from)) => received.extend(self.received(length, from)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if let Some(failures) = self.failures.admit(1) {
                        tracing::warn!(%error, failures, "cannot read a datagram");
                    }
                    break;
                }
            }
        }
        received
    }

    fn received(&self, length: usize, from: SocketAddr) -> Option<Received> {
        let taken = length.min(self.message_bytes_max);
        let bytes = Bytes::copy_from_slice(self.buffer.get(..taken)?);
        Some(Received {
            frame: Frame::of(bytes, taken < length)?,
            peer: from.ip().to_canonical(),
            transport: Transport::Udp,
        })
    }
}
