//! Connections for protocols that are not HTTP: TCP under the guard, and TLS above it.

use std::error::Error;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::dial::{CONNECT_TIMEOUT, DialError, Dialer};
use super::guard::Guard;
use super::names::Names;

/// What is read from and written to.
pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> ReadWrite for S {}

/// A connection, above TLS where there is some.
pub(crate) type Stream = Box<dyn ReadWrite>;

/// Why there is no connection.
pub(crate) type ConnectError = Box<dyn Error + Send + Sync>;

/// A server's host, a name or an address without brackets, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Connects to a host, with TLS where its configuration is given, all within 10 s.
///
/// # Errors
/// The name, the address, the guard or the handshake, each in its own words.
pub(crate) async fn connect(
    host: &Host,
    tls: Option<Arc<ClientConfig>>,
    guard: Guard,
    names: Names,
) -> Result<Stream, ConnectError> {
    let connecting = async {
        let stream = Dialer::new(guard, names)
            .connect(&host.name, host.port)
            .await?;
        match tls {
            Some(tls) => Ok(Box::new(secured(stream, &host.name, tls).await?) as Stream),
            None => Ok(Box::new(stream) as Stream),
        }
    };
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_elapsed| Err(DialError::Slow.into()))
}

/// Shakes hands with a server of this name.
///
/// # Errors
/// It cannot be trusted, or speaks no TLS.
pub(crate) async fn secured<S: ReadWrite>(
    stream: S,
    name: &str,
    tls: Arc<ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<S>, ConnectError> {
    let name = ServerName::try_from(name.to_owned())?;
    Ok(TlsConnector::from(tls).connect(name, stream).await?)
}
