//! The settings of a connection: their mistakes, and the address that they resolve to.

use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{
    AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism,
};
use percent_encoding::percent_decode_str;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::connection::Address;
use crate::OpenError;
use crate::files::Files;
use crate::net::guard::Guard;
use crate::net::tls::ClientTls;
use crate::parameter::resolve;

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

    fn heartbeat_seconds(&self) -> u64 {
        let every = self.heartbeat.map_or(HEARTBEAT, |every| every.0);
        every.min(HEARTBEAT_MAX).as_secs()
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
        tls.map_or(Ok(()), check_tls)?;
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
                heartbeat: u16::try_from(self.heartbeat_seconds()).ok(),
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

/// Checks what the client library does not: it takes a text without any certificate for no text.
fn check_tls(tls: &TlsSettings) -> Result<(), OpenError> {
    let files = ClientTls {
        ca: tls.ca.as_ref(),
        certificate: tls.certificate.as_ref(),
        key: tls.key.as_ref(),
        insecure: false,
        any_name: false,
    };
    let checked = files.config();
    checked
        .map(drop)
        .map_err(|OpenError(problem)| OpenError(problem.at("tls")))
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
}
