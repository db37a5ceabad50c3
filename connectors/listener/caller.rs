//! Whether a caller is still there who waits for an answer.
//!
//! hyper does not look at the socket while it waits for the service: nothing in the protocol tells
//! a caller who has gone from one who has only closed his sending side, and the latter is to be
//! answered. So it is looked at for those alone who wait long, once in a while.

use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::connections::Line;

/// How often it is looked whether somebody who waits is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whoever waits for the answer to a request.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Line>);

impl Caller {
    pub(super) fn new(line: &Arc<Line>) -> Self {
        Self(Arc::clone(line))
    }

    /// Ends once the caller has closed his sending side, or the connection, a second or two later.
    /// To be waited for within the request's own future.
    pub async fn hangs_up(&self) {
        self.0.watch();
        while !self.0.is_gone() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A socket that can tell whether its other side sends nothing more.
pub(super) trait Peer {
    fn has_left(&self) -> bool;
}

impl Peer for TcpStream {
    fn has_left(&self) -> bool {
        let mut socket = [PollFd::new(self, PollFlags::RDHUP)];
        poll(&mut socket, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Peer for TlsStream<TcpStream> {
    fn has_left(&self) -> bool {
        self.get_ref().0.has_left()
    }
}
