//! The HTTP client: connections that are kept, dialled under the guard, and nothing that an HTTP client may do by itself.
//!
//! It follows no redirects, asks no proxy, decompresses nothing and keeps no cookies. HTTP/1.1 is spoken, and HTTP/2 where TLS offers it.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tower::Service;

use super::guard::{Denied, Guard};

/// How long one address may take to answer before the next is tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a name, an address and TLS may take together: well below the usual timeout of an attempt, so that a host that cannot be
/// reached counts as unavailable and not as failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept. Common servers close theirs after five seconds; a request sent into that would be lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How large a response's headers may be.
const RESPONSE_HEADERS_BYTES_MAX: usize = 64 * 1024;

/// A client with connections of its own; cloning it shares them. Each connection is a task that ends with it, idle or with the last clone.
pub(crate) type Client = legacy::Client<Connector, Full<Bytes>>;

/// What certificates are trusted.
#[derive(Debug)]
pub(crate) enum Trust {
    /// None: there will be no TLS.
    Nobody,
    /// Those that the system trusts.
    System,
    /// These.
    #[cfg(test)]
    Roots(RootCertStore),
}

/// Makes a client.
///
/// # Errors
/// As [`connector`].
pub(crate) fn client(guard: Guard, trust: Trust) -> io::Result<Client> {
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_buf_size(RESPONSE_HEADERS_BYTES_MAX)
        .http2_max_header_list_size(RESPONSE_HEADERS_BYTES_MAX as u32)
        .build(connector(guard, trust)?))
}

/// Makes what opens a client's connections.
///
/// # Errors
/// The system's trusted certificates cannot be read, or there are none.
pub(crate) fn connector(guard: Guard, trust: Trust) -> io::Result<Connector> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = HttpsConnectorBuilder::new();
    let with_roots = |roots| {
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        config.map(|config| config.with_root_certificates(roots).with_no_client_auth()).map_err(io::Error::other)
    };
    let builder = match trust {
        Trust::Nobody => builder.with_tls_config(with_roots(RootCertStore::empty())?),
        Trust::System => builder.with_provider_and_native_roots(provider)?,
        #[cfg(test)]
        Trust::Roots(roots) => builder.with_tls_config(with_roots(roots)?),
    };
    Ok(Connector(builder.https_or_http().enable_all_versions().wrap_connector(Dialer { guard })))
}

/// An error with its causes, in one line.
pub(crate) fn explain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// Connects: name, address, TLS, all within [`CONNECT_TIMEOUT`].
#[derive(Clone)]
pub(crate) struct Connector(HttpsConnector<Dialer>);

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async { timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(DialError::Slow.into())) })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the URL has no host")]
    NoHost,
    #[error("cannot resolve {host}")]
    Resolve { host: String, source: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("cannot connect to {address}")]
    Connect { address: std::net::SocketAddr, source: io::Error },
    #[error("connecting took longer than {} s", CONNECT_TIMEOUT.as_secs())]
    Slow,
}

/// Opens TCP connections, only to addresses that the guard lets through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialer {
    guard: Guard,
}

impl Dialer {
    async fn dial(self, uri: Uri) -> Result<TokioIo<TcpStream>, DialError> {
        let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']')).filter(|host| !host.is_empty());
        let host = host.ok_or(DialError::NoHost)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses: Vec<_> = match host.parse::<IpAddr>() {
            Ok(address) => vec![(address, port).into()],
            Err(_) => {
                let found = lookup_host((host, port)).await;
                found.map_err(|source| DialError::Resolve { host: host.to_owned(), source })?.collect()
            }
        };
        let mut error = DialError::NoAddress { host: host.to_owned() };
        for address in addresses {
            if let Err(denied) = self.guard.check(address.ip()) {
                error = denied.into();
                continue;
            }
            let connected = timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).and_then(|stream| Ok((stream.peer_addr()?, stream))) {
                Ok((peer, stream)) => {
                    self.guard.check(peer.ip())?;
                    // Small requests must not wait for acknowledgements; a socket that refuses the option works without.
                    let _ = stream.set_nodelay(true);
                    return Ok(TokioIo::new(stream));
                }
                Err(source) => error = DialError::Connect { address, source },
            }
        }
        Err(error)
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.dial(uri))
    }
}
