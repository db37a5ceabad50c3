//! The listener: HTTP/1.1 for whatever comes in.
//!
//! hyper does the protocol; around it stand the bounds that it leaves to others. Each connection has a deadline for its headers and for each body
//! and an idle time; connections, headers, bodies and the bytes in hand are bounded, and what is past a bound is refused, never queued. A
//! `guard::Guard` between socket and hyper refuses what two readers could understand in two ways. Every refusal is a problem document.
//!
//! HTTP/2 is not offered: hyper has no deadline for its headers, and a sender of events gains little by it.

mod coding;
mod exchange;
mod framing;
mod guard;
mod refusal;
mod routes;
mod settings;
#[cfg(test)]
pub(crate) mod tests;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pointsman_schemas::{Problem, Secret, Text};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::OpenError;
use guard::Guard;

pub use refusal::Refusal;
pub use routes::{Attachment, Handler, PathTaken, Request, Routes};
pub(crate) use settings::check_max_body;
pub use settings::{KEY_BYTES_MIN, ListenSettings, TlsSettings};

/// An answer.
pub type Response = http::Response<Full<Bytes>>;

/// How long a caller is asked to wait where all bytes that may be in hand are.
pub(crate) const BUSY_WAIT: Duration = Duration::from_secs(1);

/// How long accepting rests after an error, which is a lack of descriptors most of the time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How much of a connection hyper buffers; also the largest piece of a body. A head must fit: [`framing::HEAD_BYTES_MAX`].
const BUFFER_BYTES: usize = 64 * 1024;

/// Deadlines and bounds that are no settings of the rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a head may take: from the connection's opening for the first, from its first byte for the others. TLS handshakes too.
    pub head_timeout: Duration,
    /// How long a body may take from its head on.
    pub body_timeout: Duration,
    /// How long a connection may lie idle between requests. Longer than the minute that load balancers keep theirs.
    pub idle_timeout: Duration,
    /// How long a shutdown waits for requests in flight.
    pub drain_timeout: Duration,
    /// How many bytes are taken in and not yet answered, over all requests; past that the answer is 429.
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
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Listener {
    /// Takes the address and reads the certificate.
    ///
    /// # Errors
    /// What is missing or wrong, with its place in the settings: a variable, a file, an address in use.
    pub async fn bind(settings: &ListenSettings, limits: Limits) -> Result<Self, OpenError> {
        let resolve = |text: &Text, key: &str| text.resolve().map_err(|error| OpenError(Problem::new(error.to_string()).at(key)));
        let tls = match &settings.tls {
            None => None,
            Some(tls) => {
                let at = |OpenError(problem): OpenError| OpenError(problem.at("tls"));
                let (certificate, key) = (resolve(&tls.certificate, "certificate").map_err(at)?, resolve(&tls.key, "key").map_err(at)?);
                Some(acceptor(&certificate, &key).map_err(|reason| OpenError(Problem::new(reason).at("tls")))?)
            }
        };
        let address = resolve(&settings.address, "address")?;
        let bind = async {
            let socket = TcpListener::bind(address.expose()).await?;
            io::Result::Ok((socket.local_addr()?, socket))
        };
        let (address, socket) = bind.await.map_err(|error| {
            let problem = Problem::new(format!("cannot listen on {}: {error}", address.expose())).at("address");
            OpenError(problem.help("choose another port, or stop what has it"))
        })?;
        let max_connections = usize::try_from(settings.max_connections).unwrap_or(usize::MAX);
        Ok(Self { socket, address, tls, max_connections, routes: Routes::new(settings.max_body.bytes, limits) })
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

    /// Serves until `shutdown`; then takes no more connections, finishes the requests in flight for as long as [`Limits::drain_timeout`], and
    /// returns. Dropping the future breaks all connections off.
    pub async fn serve(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next() => report(ended),
                accepted = self.socket.accept(), if connections.len() < self.max_connections => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(connect(stream, self.tls.clone(), self.routes.clone(), shutdown.clone()))),
                    Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                    Err(error) => {
                        tracing::warn!(address = %self.address, %error, "cannot take a connection; trying again");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.socket);
        let drain = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if timeout(self.routes.limits().drain_timeout, drain).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests were still in flight at the end of the drain; broke them off");
            connections.shutdown().await;
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

async fn connect(stream: TcpStream, tls: Option<TlsAcceptor>, routes: Routes, shutdown: CancellationToken) {
    // Answers are small and awaited: Nagle's algorithm would hold them back. A failure here costs speed only.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return converse(stream, routes, shutdown).await };
    match timeout(routes.limits().head_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, routes, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, routes: Routes, shutdown: CancellationToken) {
    let limits = routes.limits().clone();
    let service = service_fn(move |request| {
        let routes = routes.clone();
        async move { Ok::<_, Infallible>(routes.answer(request).await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_header_size(framing::HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES)
        .writev(false)
        .serve_connection(TokioIo::new(Guard::new(stream, limits.head_timeout)), service);
    let ended = tokio::select! {
        // An answer that is ready at the same moment then says that the connection ends.
        biased;
        () = shutdown.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
        ended = &mut connection => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection broke off");
    }
    connection.into_parts().io.into_inner().linger().await;
}

fn acceptor(certificate: &Secret, key: &Secret) -> Result<TlsAcceptor, String> {
    let chain = CertificateDer::pem_slice_iter(certificate.expose().as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the certificate is not in PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|error| format!("the key is not in PEM: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| format!("the certificate and the key are of no use: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
