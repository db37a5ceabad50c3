//! The HTTP client: connections that are kept, dialled under the guard, and nothing that an HTTP
//! client may do by itself.
//!
//! It follows no redirects, asks no proxy, decompresses nothing and keeps no cookies. HTTP/1.1 is
//! spoken, and HTTP/2 where TLS offers it.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use foldhash::HashMap;
use http::response::Parts;
use http::uri::{Authority, Scheme};
use http::{Request, Uri};
use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::Body;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tower::ServiceExt;

use super::connection::{Answering, Connection, Own, Shared, Unanswered};
use super::dial::{Connector, Way, connector};
use super::guard::Guard;
use super::names::Names;
use super::tls::Trust;

/// How long an idle connection is kept. Common servers close theirs after five seconds; a request
/// sent into that would be lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A client with connections of its own; cloning it shares them. They are closed with the last
/// clone, or once they have been idle for a while.
#[derive(Clone)]
pub struct Client(Arc<Pool>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Makes a client.
pub(crate) fn client(way: Way) -> Client {
    speaking(way, false)
}

fn speaking(way: Way, is_http2: bool) -> Client {
    Client(Arc::new(Pool {
        connector: connector(way),
        is_http2,
        hosts: Mutex::default(),
        is_swept: AtomicBool::new(false),
    }))
}

/// Makes a client that may call any address, since its user names it.
///
/// # Errors
/// The certificates to trust cannot be had.
pub fn unguarded(trust: Trust<'_>) -> Result<Client, String> {
    Ok(client(anywhere(trust)?))
}

/// As [`unguarded`], of a client that speaks HTTP/2 without TLS too, knowing that its server does
/// (RFC 9113, section 3.3).
///
/// # Errors
/// As of [`unguarded`].
pub fn unguarded_http2(trust: Trust<'_>) -> Result<Client, String> {
    Ok(speaking(anywhere(trust)?, true))
}

fn anywhere(trust: Trust<'_>) -> Result<Way, String> {
    Ok(Way {
        guard: Guard {
            allow_private_addresses: true,
        },
        names: Names::default(),
        tls: trust.config()?,
    })
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection: nothing was sent.
    #[error("cannot connect")]
    Connect(#[source] Box<dyn Error + Send + Sync>),
    /// There was none in time: nothing was sent.
    #[error("no connection in time")]
    Late,
    /// The connection broke before an answer came.
    #[error("the connection broke before an answer came")]
    Broken {
        /// What broke it.
        source: Box<dyn Error + Send + Sync>,
        /// Whether nothing of the request was sent.
        is_unsent: bool,
        /// Whether it was a kept one over which nothing has come since: its server closed it while
        /// the request was on its way.
        is_stale: bool,
    },
}

/// An answer, whose body is still to be read. Where it is dropped, and not [kept](Self::keep), its
/// connection is not used again: what is wrong may be that.
pub struct Answered {
    /// Its status and headers.
    pub head: Parts,
    body: Answering,
    host: Arc<Host>,
    pool: Arc<Pool>,
}

impl Client {
    /// The host that a URI leads to. Whoever calls it often asks once.
    pub(crate) fn host(&self, uri: &Uri) -> Arc<Host> {
        let origin = Origin::of(uri);
        let mut hosts = self.0.hosts.lock();
        Arc::clone(hosts.entry(origin).or_default())
    }

    /// Sends a request with an absolute URI over a kept connection or a new one, and waits for the
    /// head of its answer. There must be a connection by `connected`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        request: Request<Bytes>,
        connected: Option<Instant>,
    ) -> Result<Answered, CallError> {
        let host = self.host(request.uri());
        self.call_host(host, Box::new(request), connected).await
    }

    /// As [`Client::call`], where the host is known already. The request is handed down through
    /// several futures, each of which would have room for it, and twice: so it is boxed.
    pub(crate) async fn call_host(
        &self,
        host: Arc<Host>,
        mut request: Box<Request<Bytes>>,
        connected: Option<Instant>,
    ) -> Result<Answered, CallError> {
        let uri = request.uri().clone();
        loop {
            let (connection, is_kept) = match host.take() {
                Some(connection) => (connection, true),
                // Rare and large: in place, each call would carry room for it.
                None => {
                    let dialled = Box::pin(self.0.dial(&uri, &host, connected)).await?;
                    (dialled, false)
                }
            };
            let mark = connection.usage().mark();
            match connection.send(request).await {
                Ok((head, body)) => {
                    return Ok(Answered {
                        head,
                        body,
                        host,
                        pool: Arc::clone(&self.0),
                    });
                }
                // It had been closed before anything was written: another one serves.
                Err(Unanswered {
                    unsent: Some(unsent),
                    ..
                }) if is_kept => {
                    request = unsent;
                    *request.uri_mut() = uri.clone();
                }
                Err(Unanswered { error, unsent }) => {
                    return Err(CallError::Broken {
                        source: error,
                        is_unsent: unsent.is_some(),
                        is_stale: mark.is_stale(uri.scheme() == Some(&Scheme::HTTPS)),
                    });
                }
            }
        }
    }
}

impl Answered {
    /// The body, of which nothing has been read yet or a part.
    pub fn body(
        &mut self,
    ) -> &mut (impl Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Unpin + use<>) {
        &mut self.body
    }

    /// Nothing is wrong with the connection: it is kept, as far as it can be used again.
    pub fn keep(self) -> Parts {
        self.pool.keep(&self.host, self.body);
        self.head
    }

    /// The whole body, of so many bytes at most.
    ///
    /// # Errors
    /// Inside: it is longer, or broke off.
    pub async fn whole(
        mut self,
        bytes_max: usize,
    ) -> (Parts, Result<Bytes, Box<dyn Error + Send + Sync>>) {
        match Limited::new(&mut self.body, bytes_max).collect().await {
            Ok(body) => (self.keep(), Ok(Collected::to_bytes(body))),
            Err(error) => (self.head, Err(error)),
        }
    }
}

/// Whom a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin {
    is_tls: bool,
    authority: Option<Authority>,
}

impl Origin {
    fn of(uri: &Uri) -> Self {
        Self {
            is_tls: uri.scheme() == Some(&Scheme::HTTPS),
            authority: uri.authority().cloned(),
        }
    }
}

/// The hosts that a client calls.
struct Pool {
    connector: Connector,
    /// Whether HTTP/2 is spoken where TLS has not been asked.
    is_http2: bool,
    hosts: Mutex<HashMap<Origin, Arc<Host>>>,
    /// Whether a task closes what has been idle for long.
    is_swept: AtomicBool,
}

/// A host, with the connections to it that nobody calls over.
#[derive(Default)]
pub(crate) struct Host(Mutex<Idle>);

/// Idle connections, with when each was used last.
#[derive(Default)]
struct Idle {
    /// The one that was used last comes last, and is used next: so the others may go.
    own: Vec<(Box<Own>, Instant)>,
    shared: Option<(Shared, Instant)>,
}

impl Idle {
    /// Takes out what has been idle for too long.
    fn take_expired(&mut self, now: Instant) -> Vec<(Box<Own>, Instant)> {
        let is_expired = |used: Instant| now.saturating_duration_since(used) >= IDLE_TIMEOUT;
        self.shared.take_if(|(_, used)| is_expired(*used));
        let count = self.own.partition_point(|(_, used)| is_expired(*used));
        self.own.drain(..count).collect()
    }
}

impl Host {
    /// A kept connection, as far as anybody knows a sound one.
    fn take(&self) -> Option<Connection> {
        let now = Instant::now();
        loop {
            let (connection, expired) = {
                let mut idle = self.0.lock();
                let expired = idle.take_expired(now);
                idle.shared.take_if(|(shared, _)| !shared.is_ready());
                if let Some((shared, used)) = &mut idle.shared {
                    *used = now;
                    return Some(Connection::Share(shared.share()));
                }
                (idle.own.pop(), expired)
            };
            close(expired);
            let (mut connection, _) = connection?;
            if connection.is_ready() {
                return Some(Connection::Own(connection));
            }
        }
    }
}

impl Pool {
    /// A new connection. A shared one is kept at once.
    async fn dial(
        &self,
        uri: &Uri,
        host: &Host,
        connected: Option<Instant>,
    ) -> Result<Connection, CallError> {
        let dialling = async {
            let stream = self.connector.clone().oneshot(uri.clone()).await;
            let stream = stream.map_err(CallError::Connect)?;
            let connection = Connection::begin(stream, uri, self.is_http2).await;
            connection.map_err(|error| CallError::Connect(error.into()))
        };
        let connection = match connected {
            Some(at) => timeout_at(at, dialling)
                .await
                .map_err(|_| CallError::Late)??,
            None => dialling.await?,
        };
        Ok(match connection {
            Connection::Share(share) => {
                let shared = share.spare();
                let mut idle = host.0.lock();
                // Several may have dialled at the same time; one connection is enough for all.
                idle.shared.take_if(|(other, _)| !other.is_ready());
                let (shared, _) = idle.shared.get_or_insert((shared, Instant::now()));
                Connection::Share(shared.share())
            }
            own => own,
        })
    }

    /// Keeps a connection whose call is over for the next one.
    fn keep(self: &Arc<Self>, host: &Host, body: Answering) {
        body.usage().answered();
        match body {
            Answering::Share(_, share) => drop(share.spare()),
            Answering::Own(own) if own.can_go_on() => {
                host.0.lock().own.push((own, Instant::now()));
            }
            Answering::Own(own) => own.close(),
        }
        if !self.is_swept.load(Ordering::SeqCst) && !self.is_swept.swap(true, Ordering::SeqCst) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what has been idle for too long, and forgets hosts that nobody calls. Returns whether
    /// anything is left.
    fn close_expired(&self) -> bool {
        let now = Instant::now();
        let (mut expired, mut is_left) = (Vec::new(), false);
        self.hosts.lock().retain(|_, host| {
            let mut idle = host.0.lock();
            expired.append(&mut idle.take_expired(now));
            let has_idle = !idle.own.is_empty() || idle.shared.is_some();
            is_left |= has_idle;
            has_idle || Arc::strong_count(host) > 1
        });
        close(expired);
        is_left
    }
}

fn close(connections: Vec<(Box<Own>, Instant)>) {
    for (connection, _) in connections {
        connection.close();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for host in self.hosts.get_mut().values() {
            close(std::mem::take(&mut host.0.lock().own));
        }
    }
}

/// Closes idle connections while there are any.
async fn sweep(pool: Weak<Pool>) {
    loop {
        sleep(IDLE_TIMEOUT / 4).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        // Before it looks: whoever keeps a connection behind its back begins another sweep.
        pool.is_swept.store(false, Ordering::SeqCst);
        if !pool.close_expired() || pool.is_swept.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}
