//! The connection to a server, made within a time limit, and its answers, which are waited for no
//! longer than that.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use futures::io::AsyncReadExt;
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::types::{LongString, ShortString};
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::error::BrokerError;
use super::fault::{Advice, advice};
use super::greeting::{Greeting, greet};
use crate::net::guard::Guard;

/// How long one address may take to answer before the next is tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long name, address, TLS and login may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take for one answer on a connection that stands.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to say what it is.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);

/// How soon after the handshake a server refuses a certificate: a server of AMQP says nothing
/// before its client does.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// The address of a server and the credentials for it. It holds secrets and shows none.
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    pub(super) tls: OwnedTLSConfig,
    pub(super) client: String,
    pub(super) guard: Guard,
}

impl Address {
    /// Host and port.
    pub(super) fn host(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    /// The virtual host.
    pub(super) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Which server this is and where, for a person.
    pub(super) fn describe(&self, greeting: Option<&Greeting>) -> String {
        let product = match greeting {
            Some(Greeting::Amqp {
                product: Some(product),
                ..
            }) => product.to_string(),
            _ => "RabbitMQ".to_owned(),
        };
        format!("{product} at {}, vhost {}", self.host(), self.vhost())
    }

    /// What answers there before anybody has logged in; none where nothing does.
    pub(super) async fn greeting(&self) -> Option<Greeting> {
        self.listen().await.0
    }

    /// The same, and what a refusal of TLS says.
    async fn listen(&self) -> (Option<Greeting>, Option<Advice>) {
        let heard = Arc::default();
        // The connection ends with the greeting, so that this fails whatever was heard.
        let ended = timeout(GREETING_TIMEOUT, self.dial(Some(Arc::clone(&heard)))).await;
        let error = ended.ok().and_then(Result::err);
        let greeting = heard.lock().take();
        (greeting, error.and_then(|error| self.advice(&error)))
    }

    /// What is wrong with the connection, and what to do.
    fn advice(&self, error: &lapin::Error) -> Option<Advice> {
        let is_secure = self.uri.scheme == AMQPScheme::AMQPS;
        advice(is_secure, self.tls.identity.is_some(), error)
    }

    /// Connects and logs in.
    ///
    /// Dropping the future breaks off. Each connection is a thread of the client library, which
    /// ends with it.
    pub(super) async fn connect(&self) -> Result<Connection, BrokerError> {
        let doing = format!("cannot connect to RabbitMQ at {}", self.host());
        let silent = || {
            BrokerError::unavailable(format!(
                "{doing}: it does not answer within {} s",
                CONNECT_TIMEOUT.as_secs()
            ))
        };
        let error = match timeout(CONNECT_TIMEOUT, self.dial(None)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => Some(error),
            Err(_elapsed) => None,
        };
        let broken = error
            .as_ref()
            .map_or_else(silent, |error| BrokerError::of(&doing, error));
        if broken.code.is_some() {
            return Err(broken);
        }
        // What listens there may be something else, and may say so; and a server that closes the
        // connection may have said why before its end, which is heard where nothing is sent.
        let advice = match self.listen().await {
            (Some(greeting), _) => {
                greeting.advice(self.uri.query.auth_mechanism == Some(SASLMechanism::External))
            }
            (None, refusal) => refusal.or_else(|| self.advice(error.as_ref()?)),
        };
        Err(broken.advised(&doing, advice))
    }

    /// Connects and logs in, or only listens to what is said before that.
    async fn dial(&self, heard: Option<Arc<Mutex<Option<Greeting>>>>) -> lapin::Result<Connection> {
        let properties = ConnectionProperties::default()
            .with_connection_name(self.client.as_str().into())
            .with_client_property("product".into(), LongString::from("Pointsman"))
            .with_client_property(
                "version".into(),
                LongString::from(env!("CARGO_PKG_VERSION")),
            );
        let runtime = lapin::runtime::default_runtime()?;
        let abort = AbortOnDrop::default();
        let (state, tls, guard) = (abort.0.clone(), self.tls.clone(), self.guard);
        // The library's own types for a runtime and its streams have no name here, so this cannot
        // be a function.
        let dialled = Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                let AMQPAuthority { host, port, .. } = &uri.authority;
                let mut stream = Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the name has no address",
                ));
                for address in resolved(host, *port, guard).await? {
                    let connecting =
                        timeout(ADDRESS_TIMEOUT, AsyncTcpStream::connect(&runtime, address)).await;
                    stream = connecting.unwrap_or_else(|_| {
                        Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            format!("{address} does not answer"),
                        ))
                    });
                    if stream.is_ok() {
                        break;
                    }
                }
                let stream = stream?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    state.lock().connected(plain.get_ref())?;
                }
                let mut stream = match uri.scheme {
                    AMQPScheme::AMQP => stream,
                    AMQPScheme::AMQPS => stream.into_tls(host, tls.as_ref()).await?,
                };
                if let Some(heard) = &heard {
                    // With TLS 1.3 a server that wants another certificate says so after the
                    // handshake and resets what is sent meanwhile, which its words are lost with:
                    // it is heard first.
                    if uri.scheme == AMQPScheme::AMQPS
                        && let Ok(Err(refusal)) =
                            timeout(REFUSAL_TIMEOUT, stream.read(&mut [0])).await
                    {
                        return Err(refusal.into());
                    }
                    let greeting = greet(&mut stream).await?;
                    *heard.lock() = Some(greeting);
                    return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
                }
                Ok(stream)
            },
            properties,
        );
        let connection = dialled.await?;
        abort.disarm();
        Ok(connection)
    }
}

/// The addresses of a host that may be called.
async fn resolved(host: &str, port: u16, guard: Guard) -> io::Result<Vec<SocketAddr>> {
    let (mut allowed, mut denied) = (Vec::new(), None);
    for address in lookup_host((host, port)).await? {
        match guard.check(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(error) => denied = Some(error),
        }
    }
    match denied {
        Some(denied) if allowed.is_empty() => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            denied.to_string(),
        )),
        _ => Ok(allowed),
    }
}

/// Shuts a connection down that is still being made when nobody waits for it any more. The client
/// library itself would wait for a silent server for ever, with a thread and a socket for each try.
#[derive(Default)]
struct AbortOnDrop(Arc<Mutex<DialState>>);

#[derive(Default)]
enum DialState {
    #[default]
    Dialling,
    Connected(std::net::TcpStream),
    Finished,
}

impl DialState {
    fn connected(&mut self, stream: &impl AsFd) -> io::Result<()> {
        if matches!(self, Self::Finished) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let stream = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        stream.set_nodelay(true)?;
        *self = Self::Connected(stream);
        Ok(())
    }
}

impl AbortOnDrop {
    /// The connection is made: from here on its heartbeat watches over it.
    fn disarm(self) {
        *self.0.lock() = DialState::Finished;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let DialState::Connected(stream) =
            std::mem::replace(&mut *self.0.lock(), DialState::Finished)
        {
            // It may have been closed already, which is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Waits for the server's answer, but not for ever.
pub(super) async fn answer<T>(
    doing: &str,
    call: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match timeout(ANSWER_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| BrokerError::of(doing, &error)),
        Err(_) => Err(BrokerError::unavailable(format!(
            "{doing}: no answer within {} s",
            ANSWER_TIMEOUT.as_secs()
        ))),
    }
}

/// A name as the protocol carries it: 255 bytes at most.
pub(super) fn short(what: &str, text: &str) -> Result<ShortString, String> {
    ShortString::try_new(text).map_err(|_| format!("{what} is longer than 255 bytes"))
}
