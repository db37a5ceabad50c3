//! The listener: HTTP/1.1 for whatever comes in.
//!
//! hyper does the protocol; around it stand the bounds that it leaves to others. Each connection
//! has a deadline for its headers and for each body and an idle time; connections, headers, bodies
//! and the bytes in hand are bounded, and what is past a bound is refused, never queued. At the
//! bound of connections those that say nothing give way. A `guard::Guard` between socket and hyper
//! refuses what two readers could understand in two ways. Every refusal is a problem document.
//!
//! [`serve`] is all of that in front of any service: the admin listener has it too.
//!
//! HTTP/2 is not offered: hyper has no deadline for its headers, and a sender of events gains
//! little by it.

mod caller;
mod coding;
mod connections;
mod exchange;
mod framing;
mod guard;
mod keys;
mod refusal;
mod routes;
mod serving;
mod settings;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use pointsman_schemas::{Problem, Secret, Text};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::OpenError;
use crate::net::tls::server_config;

pub use caller::Caller;
pub use connections::ConnectionCounts;
pub use keys::Keys;
pub use refusal::{ProblemDocument, Refusal};
pub use routes::{Attachment, Handler, PathTaken, Request, Routes};
pub use serving::{Endless, Serving, Watched, connections_max, serve};
pub use settings::{ADDRESS_PATTERN, ListenSettings, TlsSettings};
pub(crate) use settings::{check_max_body, is_address};

/// Where CloudEvents come in, which no connector may take for itself.
pub(crate) const EVENTS_PATH: &str = "/events";

/// An answer.
pub type Response = http::Response<Full<Bytes>>;

/// Of the descriptors of the process, connections take a half at most: the store and the targets
/// need some too.
const DESCRIPTORS_PART: u64 = 2;

/// How long a caller is asked to wait where all bytes that may be in hand are.
pub(crate) const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Deadlines and bounds that are no settings of the rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a head may take: from the connection's opening for the first, from its first byte
    /// for the others. TLS handshakes too.
    pub head_timeout: Duration,
    /// How long a body may take from its head on.
    pub body_timeout: Duration,
    /// How long a connection may lie idle between requests. Longer than the minute that load
    /// balancers keep theirs.
    pub idle_timeout: Duration,
    /// How long a shutdown waits for requests in flight.
    pub drain_timeout: Duration,
    /// How many bytes are taken in and not yet answered, over all requests; past that the answer is
    /// 429.
    pub in_flight_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(30),
            in_flight_bytes: 64 << 20,
        }
    }
}

/// A bound socket that does not serve yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    max_connections: usize,
    routes: Routes,
    counts: Arc<ConnectionCounts>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Takes the address and reads the certificate.
    ///
    /// # Errors
    /// What is missing or wrong, with its place in the settings: a variable, a file, an address in
    /// use.
    pub async fn bind(settings: &ListenSettings, limits: Limits) -> Result<Self, OpenError> {
        let resolve = |text: &Text, key: &str| {
            text.resolve()
                .map_err(|error| OpenError(Problem::new(error.to_string()).at(key)))
        };
        let tls = match &settings.tls {
            None => None,
            Some(tls) => {
                let at = |OpenError(problem): OpenError| OpenError(problem.at("tls"));
                let (certificate, key) = (
                    resolve(&tls.certificate, "certificate").map_err(at)?,
                    resolve(&tls.key, "key").map_err(at)?,
                );
                Some(
                    acceptor(&certificate, &key)
                        .map_err(|reason| OpenError(Problem::new(reason).at("tls")))?,
                )
            }
        };
        let address = resolve(&settings.address, "address")?;
        let bind = async {
            let socket = TcpListener::bind(address.expose()).await?;
            io::Result::Ok((socket.local_addr()?, socket))
        };
        let (address, socket) = bind.await.map_err(|error| {
            let problem = Problem::new(format!("cannot listen on {}: {error}", address.expose()))
                .at("address");
            OpenError(problem.help("choose another port, or stop what has it"))
        })?;
        let wanted = usize::try_from(settings.max_connections).unwrap_or(usize::MAX);
        let max_connections = connections_max(wanted, DESCRIPTORS_PART);
        if max_connections < wanted {
            tracing::warn!(
                max_connections,
                wanted,
                "the limit of open files allows fewer connections than listen.max_connections \
                 (ulimit -n)"
            );
        }
        let routes = Routes::new(settings.max_body.bytes, limits);
        Ok(Self {
            socket,
            address,
            tls,
            max_connections,
            routes,
            counts: Arc::default(),
        })
    }

    /// The address that it has taken, with the port that port 0 came to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where to attach who answers.
    #[must_use]
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// What it counts of its connections.
    #[must_use]
    pub fn counts(&self) -> Arc<ConnectionCounts> {
        Arc::clone(&self.counts)
    }

    /// Serves until `shutdown`; then takes no more connections, finishes the requests in flight for
    /// as long as [`Limits::drain_timeout`], and returns. Dropping the future breaks all
    /// connections off.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self {
            socket,
            tls,
            max_connections,
            routes,
            counts,
            ..
        } = self;
        let serving = Serving {
            limits: routes.limits().clone(),
            max_connections,
            tls,
            probes: &[],
            // To look for callers who hang up, hyper would read, and into another buffer than the
            // one that the request lies in: an allocation and three reads for each request.
            half_close: true,
            counts,
        };
        let service = service_fn(move |request| routes.clone().answer(request));
        serving::serve(socket, service, serving, shutdown).await;
    }
}

fn acceptor(certificate: &Secret, key: &Secret) -> Result<TlsAcceptor, String> {
    let mut config = server_config(certificate.expose(), key.expose(), None)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
