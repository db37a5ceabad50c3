//! Opening connections: name, address and TLS, only to where the guard lets them lead.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower::Service;

use super::guard::{Denied, Guard};
use super::names::{LookupError, Names};
use super::wire::Wire;

/// How long one address may take to answer before the next is tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an address is waited for before the next one is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// How long a name, an address and TLS may take together: well below the usual timeout of an
/// attempt, so that a host that cannot be reached counts as unavailable and not as failed.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client dials by.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Where it may lead.
    pub(crate) guard: Guard,
    /// Looks names up.
    pub(crate) names: Names,
    /// What TLS is made of.
    pub(crate) tls: ClientConfig,
}

/// Makes what opens a client's connections.
pub(crate) fn connector(Way { guard, names, tls }: Way) -> Connector {
    let dialer = Dialer { guard, names };
    Connector(
        HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(dialer),
    )
}

/// A connection, above TLS.
pub(crate) type Stream = MaybeHttpsStream<TokioIo<Wire>>;

/// Connects: name, address, TLS, all within [`CONNECT_TIMEOUT`].
#[derive(Clone)]
pub(crate) struct Connector(HttpsConnector<Dialer>);

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async {
            timeout(CONNECT_TIMEOUT, connecting)
                .await
                .unwrap_or_else(|_| Err(DialError::Slow.into()))
        })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the URL has no host")]
    NoHost,
    #[error("cannot resolve {host}")]
    Resolve { host: String, source: LookupError },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot tell whom the connection leads to")]
    Peer { source: io::Error },
    #[error("connecting took longer than {} s", CONNECT_TIMEOUT.as_secs())]
    Slow,
}

/// Opens TCP connections, only to addresses that the guard lets through.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    guard: Guard,
    names: Names,
}

impl Dialer {
    /// What dials only to where the guard lets it.
    #[cfg(any(
        feature = "amqp",
        feature = "mqtt",
        feature = "mysql-cdc",
        feature = "postgres",
        feature = "postgres-cdc",
        feature = "redis",
        feature = "smtp"
    ))]
    pub(super) fn new(guard: Guard, names: Names) -> Self {
        Self { guard, names }
    }

    async fn dial(self, uri: Uri) -> Result<TokioIo<Wire>, DialError> {
        let host = uri
            .host()
            .map(|host| host.trim_start_matches('[').trim_end_matches(']'))
            .filter(|host| !host.is_empty());
        let host = host.ok_or(DialError::NoHost)?;
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            });
        let stream = self.connect(host, port).await?;
        Ok(TokioIo::new(Wire::new(stream)))
    }

    /// Connects to a host, which is a name or an address without brackets.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let found: Arc<[IpAddr]> = match host.parse::<IpAddr>() {
            Ok(address) => Arc::new([address]),
            Err(_) => self
                .names
                .look_up(host)
                .await
                .map_err(|source| DialError::Resolve {
                    host: host.to_owned(),
                    source,
                })?,
        };
        let mut error = DialError::NoAddress {
            host: host.to_owned(),
        };
        let mut allowed = Vec::with_capacity(found.len());
        for address in found.iter() {
            match self.guard.check(*address) {
                Ok(()) => allowed.push(SocketAddr::from((*address, port))),
                Err(denied) => error = denied.into(),
            }
        }
        match first(allowed).await {
            Some(Ok(stream)) => {
                let peer = stream
                    .peer_addr()
                    .map_err(|source| DialError::Peer { source })?;
                self.guard.check(peer.ip())?;
                // Small requests must not wait for acknowledgements; a socket that refuses the
                // option works without.
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Some(Err((address, source))) => Err(DialError::Connect { address, source }),
            None => Err(error),
        }
    }
}

/// The first of these addresses to take a connection, each a moment after the one before it or when
/// that has failed (RFC 8305, section 5); where none does, why the last one does not.
async fn first(addresses: Vec<SocketAddr>) -> Option<Result<TcpStream, (SocketAddr, io::Error)>> {
    let mut waiting = addresses.into_iter();
    let mut dials = FuturesUnordered::new();
    let mut failed = None;
    loop {
        match waiting.next() {
            Some(address) => dials.push(async move {
                let connected = timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await;
                connected
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(|error| (address, error))
            }),
            None if dials.is_empty() => return failed.map(Err),
            None => {}
        }
        let head_start = async {
            match waiting.len() {
                0 => std::future::pending().await,
                _ => sleep(NEXT_ADDRESS_AFTER).await,
            }
        };
        tokio::select! {
            Some(dialled) = dials.next() => match dialled {
                Ok(stream) => return Some(Ok(stream)),
                Err(error) => failed = Some(error),
            },
            () = head_start => {}
        }
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Wire>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}
