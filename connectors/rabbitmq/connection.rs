//! The connection to a server: its settings, connecting within a time limit, and what errors mean.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use futures::io::AsyncReadExt;
use lapin::protocol::AMQPError;
use lapin::tcp::{AsyncTcpStream, OwnedIdentity, OwnedTLSConfig};
use lapin::types::{LongString, ShortString};
use lapin::uri::{
    AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism,
};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use pointsman_schemas::{Class, Interval, Outcome, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::Url;

use super::fault::{Advice, advice};
use super::greeting::{Greeting, greet};
use crate::OpenError;
use crate::files::Files;
use crate::net::client::explain;
use crate::net::guard::Guard;
use crate::net::tls::ClientTls;
use crate::parameter::resolve;

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

/// How often the two sides tell each other that they live, unless it is set: a connection that is
/// silent for twice as long is broken.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Heartbeats are counted in whole seconds.
const HEARTBEAT_MAX: Duration = Duration::from_secs(3_600);

/// The settings of a source or a target that say how to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionSettings<'s> {
    pub(super) url: &'s Text,
    pub(super) username: Option<&'s Text>,
    pub(super) password: Option<&'s Text>,
    pub(super) vhost: Option<&'s str>,
    pub(super) heartbeat: Option<Interval>,
    pub(super) tls: Option<&'s TlsSettings>,
}

/// Certificates of a connection by `amqps`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificates that are trusted besides the system's, in PEM.
    ca: Option<Text>,
    /// The client's own certificate chain in PEM.
    certificate: Option<Text>,
    /// Its private key in PEM.
    #[schemars(extend("writeOnly" = true))]
    key: Option<Text>,
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct AmqpUrl {
    secure: bool,
    host: String,
    port: u16,
    vhost: Option<String>,
    user: Option<(String, String)>,
}

impl AmqpUrl {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text)
            .map_err(|_| "the URL cannot be read; write one such as amqp://127.0.0.1:5672")?;
        let secure = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err("the URL must begin with amqp:// or amqps://"),
        };
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or("the URL names no host")?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("options have settings of their own, beside the URL");
        }
        let decode = |part: &str| {
            percent_decode_str(part)
                .decode_utf8()
                .map(String::from)
                .map_err(|_| "the URL is not UTF-8")
        };
        let vhost = match url.path().trim_start_matches('/') {
            "" => None,
            path if path.contains('/') => {
                return Err("a slash in the name of a vhost is written %2F");
            }
            path => Some(decode(path)?),
        };
        let user = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decode(user)?, decode(password.unwrap_or_default())?)),
        };
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            secure,
            host,
            port: url.port().unwrap_or(if secure { 5671 } else { 5672 }),
            vhost,
            user,
        })
    }
}

impl ConnectionSettings<'_> {
    /// Every mistake that can be found without resolving a text.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(url) = self.url.literal() {
            match AmqpUrl::parse(url) {
                Err(mistake) => problems.push(Problem::new(mistake).at("url")),
                Ok(AmqpUrl { user: Some(_), .. }) => problems.push(
                    Problem::new("a URL that is written out must not hold a user or a password")
                        .at("url")
                        .help(
                            "write username: … and password: { env: NAME }, or take the whole URL \
                             from { env: NAME }",
                        ),
                ),
                Ok(AmqpUrl { vhost: Some(_), .. }) if self.vhost.is_some() => {
                    problems.push(Problem::new("the URL names a vhost, too").at("vhost"));
                }
                Ok(AmqpUrl { secure: false, .. }) if self.tls.is_some() => {
                    problems.push(
                        Problem::new("certificates are of use with amqps:// alone").at("tls"),
                    );
                }
                Ok(_) => {}
            }
        }
        match (self.username, self.password) {
            (Some(_), None) => problems.push(
                Problem::new("there is a user and no password")
                    .help("write password, too")
                    .at("username"),
            ),
            (None, Some(_)) => problems.push(
                Problem::new("there is a password and no user")
                    .help("write username, too")
                    .at("password"),
            ),
            _ => {}
        }
        if self.heartbeat.is_some_and(|every| {
            every.0.subsec_nanos() != 0 || every.0.is_zero() || every.0 > HEARTBEAT_MAX
        }) {
            problems.push(
                Problem::new("a heartbeat is whole seconds, an hour at most").at("heartbeat"),
            );
        }
        match self.tls {
            Some(TlsSettings {
                certificate: Some(_),
                key: None,
                ..
            }) => {
                problems.push(
                    Problem::new("the certificate's key is missing")
                        .at("certificate")
                        .at("tls"),
                );
            }
            Some(TlsSettings {
                certificate: None,
                key: Some(_),
                ..
            }) => {
                problems.push(
                    Problem::new("the key's certificate is missing")
                        .at("key")
                        .at("tls"),
                );
            }
            _ => {}
        }
        problems
    }

    /// The files that they are taken from.
    pub(super) fn files(&self) -> Files {
        let tls = self
            .tls
            .into_iter()
            .flat_map(|tls| [&tls.ca, &tls.certificate, &tls.key])
            .flatten();
        Files::of(
            [self.url]
                .into_iter()
                .chain(self.username)
                .chain(self.password)
                .chain(tls),
        )
    }

    /// Resolves the texts. `client` is what the server shows as the connection's name.
    pub(super) fn resolve(&self, client: String, guard: Guard) -> Result<Address, OpenError> {
        let url_parts = AmqpUrl::parse(&resolve(self.url, &["url".into()])?);
        let url_parts = url_parts.map_err(|mistake| OpenError(Problem::new(mistake).at("url")))?;
        let pem = |text: Option<&Text>, key: &str| {
            text.map(|text| resolve(text, &["tls".into(), key.into()]))
                .transpose()
        };
        let tls = self.tls;
        if let Some(TlsSettings {
            ca,
            certificate,
            key,
        }) = tls
        {
            // The client library takes a text without any certificate for no text.
            let files = ClientTls {
                ca: ca.as_ref(),
                certificate: certificate.as_ref(),
                key: key.as_ref(),
                insecure: false,
            };
            files
                .config()
                .map_err(|OpenError(problem)| OpenError(problem.at("tls")))?;
        }
        let certificate = pem(tls.and_then(|tls| tls.certificate.as_ref()), "certificate")?;
        let key = pem(tls.and_then(|tls| tls.key.as_ref()), "key")?;
        let identity = certificate
            .zip(key)
            .map(|(certificate, key)| OwnedIdentity::PKCS8 {
                pem: certificate.into_bytes(),
                key: key.into_bytes(),
            });
        let user = match (self.username, self.password) {
            (Some(user), Some(password)) => Some((
                resolve(user, &["username".into()])?,
                resolve(password, &["password".into()])?,
            )),
            _ => url_parts.user,
        };
        // A client with a certificate and no name is who the certificate says.
        let by_certificate = user.is_none() && identity.is_some();
        let (username, password) = user.unwrap_or_else(|| ("guest".to_owned(), "guest".to_owned()));
        let heartbeat = self
            .heartbeat
            .map_or(HEARTBEAT, |every| every.0)
            .min(HEARTBEAT_MAX);
        let uri = AMQPUri {
            scheme: if url_parts.secure {
                AMQPScheme::AMQPS
            } else {
                AMQPScheme::AMQP
            },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username, password },
                host: url_parts.host,
                port: url_parts.port,
            },
            vhost: self
                .vhost
                .map(str::to_owned)
                .or(url_parts.vhost)
                .unwrap_or_else(|| "/".to_owned()),
            query: AMQPQueryString {
                heartbeat: u16::try_from(heartbeat.as_secs()).ok(),
                auth_mechanism: by_certificate.then_some(SASLMechanism::External),
                ..AMQPQueryString::default()
            },
        };
        let tls = OwnedTLSConfig {
            identity,
            cert_chain: pem(tls.and_then(|tls| tls.ca.as_ref()), "ca")?,
        };
        Ok(Address {
            uri,
            tls,
            client,
            guard,
        })
    }
}

/// The address of a server and the credentials for it. It holds secrets and shows none.
pub(super) struct Address {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    client: String,
    guard: Guard,
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

/// Why a server could not be asked, or what it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokerError {
    /// What it means for a delivery.
    pub(super) class: Class,
    /// The server's own code, where it gave one.
    pub(super) code: Option<u16>,
    /// One line for a person.
    pub(super) message: String,
    /// Where the mistake is, and what to do, where more is known of that than the class says.
    pub(super) advice: Option<Advice>,
}

impl BrokerError {
    /// The server cannot be reached.
    pub(super) fn unavailable(message: String) -> Self {
        Self {
            class: Class::Unavailable,
            code: None,
            message,
            advice: None,
        }
    }

    /// What an error of the client library means; `doing` says what was tried.
    pub(super) fn of(doing: &str, error: &lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => {
                let code = error.get_id();
                let advice = Advice::of(error);
                Self {
                    class: class(code),
                    code: Some(code),
                    message: format!("{doing}: {}", server_message(error)),
                    advice,
                }
            }
            ErrorKind::IOError(error) => {
                Self::unavailable(format!("{doing}: {}", explain(&**error)))
            }
            _ => Self::unavailable(format!("{doing}: {error}")),
        }
    }

    /// The same, where more is known.
    fn advised(self, doing: &str, advice: Option<Advice>) -> Self {
        let Some(advice) = advice else { return self };
        let message = match &advice.what {
            Some(what) => format!("{doing}: {what}"),
            None => self.message,
        };
        Self {
            message,
            advice: Some(advice),
            ..self
        }
    }

    /// The outcome of a delivery.
    pub(super) fn outcome(self) -> Outcome {
        Outcome {
            code: self.code.map(i32::from),
            ..Outcome::new(self.class, self.message)
        }
    }

    /// The problem of a source or target that cannot be opened.
    pub(super) fn problem(self, at: &str) -> OpenError {
        let (at, help) = match (self.class, self.code) {
            _ if let Some(advice) = self.advice => (advice.at.unwrap_or(at), advice.help),
            // The way to the server is at fault, and not what was looked for there.
            (Class::Unavailable, _) => ("url", "check that RabbitMQ runs and listens there"),
            (_, Some(530)) => ("vhost", "make the vhost, or let the user use it"),
            (Class::Refused, _) => (at, "check username, password and what the user may do"),
            _ => return OpenError(Problem::new(self.message).at(at)),
        };
        OpenError(Problem::new(self.message).help(help).at(at))
    }
}

/// AMQP 0.9.1, section 1.2, as RabbitMQ uses its codes.
fn class(code: u16) -> Class {
    match code {
        // Access refused, and not allowed: the vhost is not there or not ours.
        403 | 530 => Class::Refused,
        // Too large a message, and what the server can never do with this one.
        311 | 406 => Class::Rejected,
        // No such exchange, and a queue that somebody else has locked.
        404 | 405 => Class::Failed,
        _ => Class::Unavailable,
    }
}

/// The server's message, without its name in capitals.
fn server_message(error: &AMQPError) -> String {
    let text = error.get_message().as_str();
    match text.split_once(" - ") {
        Some((_, message)) if !message.is_empty() => format!("{message} (code {})", error.get_id()),
        _ => format!("{text} (code {})", error.get_id()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url_parts = |secure, host: &str, port, vhost: Option<&str>| AmqpUrl {
            secure,
            host: host.to_owned(),
            port,
            vhost: vhost.map(str::to_owned),
            user: None,
        };
        for (url, expect) in [
            (
                "amqp://127.0.0.1",
                Ok(url_parts(false, "127.0.0.1", 5672, None)),
            ),
            ("amqp://h:1/", Ok(url_parts(false, "h", 1, None))),
            (
                "amqps://h.example/a%2Fb",
                Ok(url_parts(true, "h.example", 5671, Some("a/b"))),
            ),
            (
                "amqp://[::1]:7/v",
                Ok(url_parts(false, "::1", 7, Some("v"))),
            ),
            (
                "amqp://u:p%40@h/v",
                Ok(AmqpUrl {
                    user: Some(("u".to_owned(), "p@".to_owned())),
                    ..url_parts(false, "h", 5672, Some("v"))
                }),
            ),
            ("amqp://", Err("the URL names no host")),
            (
                "127.0.0.1:5672",
                Err("the URL cannot be read; write one such as amqp://127.0.0.1:5672"),
            ),
            (
                "http://h",
                Err("the URL must begin with amqp:// or amqps://"),
            ),
            (
                "amqp://h/a/b",
                Err("a slash in the name of a vhost is written %2F"),
            ),
            (
                "amqp://h?heartbeat=5",
                Err("options have settings of their own, beside the URL"),
            ),
        ] {
            assert_eq!(AmqpUrl::parse(url), expect, "{url}");
        }
    }

    #[test]
    fn codes() {
        for (code, expect) in [
            (403, Class::Refused),
            (404, Class::Failed),
            (406, Class::Rejected),
            (320, Class::Unavailable),
            (530, Class::Refused),
            (541, Class::Unavailable),
        ] {
            assert_eq!(class(code), expect, "{code}");
        }
    }
}
