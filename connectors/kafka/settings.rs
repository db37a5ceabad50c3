//! The settings of a connection: where the servers are, as whom, and what they resolve to.

use std::borrow::Cow;

use krafka::auth::{AuthConfig, OAuthBearerToken, TlsConfig};
use pointsman_schemas::{Problem, Segment, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::cluster::Cluster;
use crate::OpenError;
use crate::files::Files;
use crate::net::tls::ClientTls;
use crate::parameter::resolve;
use crate::texts::Texts;

/// The port of a broker that names none.
const PORT: u16 = 9092;

/// What a user may write.
const EXAMPLE: &str = "write one such as 127.0.0.1:9092";

/// The settings of a source or a target that say how to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection<'s> {
    pub(super) brokers: &'s Brokers,
    pub(super) auth: Option<&'s Auth>,
    pub(super) tls: Option<&'s Tls>,
}

/// Brokers of one cluster, which tell of the others.
#[derive(Clone, Debug)]
pub(super) struct Brokers(Vec<Text>);

/// How the servers are shown who connects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "KafkaAuth")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Auth {
    /// A user and a password, as they are: SASL PLAIN.
    Plain(User),
    /// A user and a password, which is not sent: SASL SCRAM-SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256(User),
    /// The same by SCRAM-SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512(User),
    /// An OAuth 2 access token: SASL OAUTHBEARER. One from a file is read again at each connection.
    #[schemars(extend("writeOnly" = true))]
    Token(Text),
}

/// A user.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "KafkaUser")]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name.
    username: Text,
    /// Its password.
    #[schemars(extend("writeOnly" = true))]
    password: Text,
}

/// Certificates of a connection by TLS, which is spoken where these settings are there: `tls: {}`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "KafkaTls")]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates to trust in place of the system's, in PEM.
    ca: Option<Text>,
    /// The certificate chain to show to the servers, in PEM, one's own first.
    certificate: Option<Text>,
    /// Its key, in PEM.
    #[schemars(extend("writeOnly" = true))]
    key: Option<Text>,
}

impl<'de> Deserialize<'de> for Brokers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Texts::deserialize(deserializer).map(|Texts(brokers)| Self(brokers))
    }
}

impl JsonSchema for Brokers {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Brokers".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut broker = generator.subschema_for::<Text>();
        broker.insert("pattern".to_owned(), "^[^:/\\s]+(:[0-9]+)?".into());
        json_schema!({
            "description": "A broker such as 127.0.0.1:9092, or several of one cluster.",
            "examples": ["127.0.0.1:9092"],
            "if": { "type": "array" },
            "then": { "items": broker, "minItems": 1 },
            "else": broker,
        })
    }
}

impl Brokers {
    fn check(&self) -> Vec<Problem> {
        if self.0.is_empty() {
            return vec![Problem::new("name at least one broker").help(EXAMPLE)];
        }
        let mistake = |broker: &Text| {
            let mistake = addresses(broker.literal()?).err()?;
            Some(Problem::new(mistake).help(EXAMPLE))
        };
        let found = self.0.iter().enumerate();
        found
            .filter_map(|(index, broker)| {
                let problem = mistake(broker)?;
                Some(if self.0.len() > 1 {
                    problem.at(index)
                } else {
                    problem
                })
            })
            .collect()
    }

    /// As the client library takes them.
    fn resolve(&self) -> Result<String, OpenError> {
        let mut all = Vec::new();
        for broker in &self.0 {
            let text = resolve(broker, &["brokers".into()])?;
            let addresses = addresses(&text)
                .map_err(|mistake| OpenError(Problem::new(mistake).help(EXAMPLE).at("brokers")))?;
            all.extend(addresses);
        }
        Ok(all.join(","))
    }
}

/// The brokers of a text, which may name several as Kafka's own clients have them, each with its
/// port.
fn addresses(text: &str) -> Result<Vec<String>, String> {
    text.split(',')
        .map(|broker| address(broker.trim()))
        .collect()
}

fn address(broker: &str) -> Result<String, String> {
    if broker.contains("://") || broker.contains(['/', '@', ' ']) {
        return Err("a broker is a host and a port, without anything before or behind them".into());
    }
    let (host, port) = match broker.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, rest))) => (format!("[{host}]"), rest.strip_prefix(':')),
        Some(None) => return Err("the bracket behind the address is missing".into()),
        None => match broker.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (broker.to_owned(), None),
        },
    };
    if host.is_empty() || host == "[]" {
        return Err("the broker names no host".into());
    }
    let port = match port {
        None => PORT,
        Some(port) => port
            .parse()
            .map_err(|_| "the broker's port is no number up to 65535")?,
    };
    Ok(format!("{host}:{port}"))
}

impl User {
    fn texts(&self, kind: &'static str) -> Vec<(&Text, [&'static str; 2])> {
        vec![
            (&self.username, [kind, "username"]),
            (&self.password, [kind, "password"]),
        ]
    }
}

impl Auth {
    /// The texts that it is made of, each with its place.
    fn texts(&self) -> Vec<(&Text, [&'static str; 2])> {
        match self {
            Self::Plain(user) => user.texts("plain"),
            Self::ScramSha256(user) => user.texts("scram-sha-256"),
            Self::ScramSha512(user) => user.texts("scram-sha-512"),
            Self::Token(token) => vec![(token, ["token", ""])],
        }
    }

    fn resolve(&self) -> Result<AuthConfig, OpenError> {
        let mut values = Vec::new();
        for (text, path) in self.texts() {
            let path: Vec<Segment> = ["auth"]
                .into_iter()
                .chain(path.into_iter().filter(|part| !part.is_empty()))
                .map(Segment::from)
                .collect();
            values.push(resolve(text, &path)?);
        }
        Ok(match (self, values.as_slice()) {
            (Self::Plain(_), [user, password]) => AuthConfig::sasl_plain(user, password),
            (Self::ScramSha256(_), [user, password]) => {
                AuthConfig::sasl_scram_sha256(user, password)
            }
            (Self::ScramSha512(_), [user, password]) => {
                AuthConfig::sasl_scram_sha512(user, password)
            }
            (_, values) => {
                let read = values.first().cloned().unwrap_or_default();
                let Self::Token(text @ Text::File(_)) = self.clone() else {
                    return Ok(AuthConfig::sasl_oauthbearer(read.trim()));
                };
                // Whoever renews it does so beside a running bus.
                AuthConfig::sasl_oauthbearer_provider(move || {
                    let token = text.resolve().map_or_else(
                        |error| Err(krafka::KrafkaError::auth(error.to_string())),
                        |token| Ok(OAuthBearerToken::new(token.expose().trim())),
                    );
                    std::future::ready(token)
                })
            }
        })
    }
}

impl Tls {
    fn certificates(&self) -> ClientTls<'_> {
        ClientTls {
            ca: self.ca.as_ref(),
            certificate: self.certificate.as_ref(),
            key: self.key.as_ref(),
            insecure: false,
            any_name: false,
        }
    }

    fn resolve(&self) -> Result<TlsConfig, OpenError> {
        let at = |OpenError(problem)| OpenError(problem.at("tls"));
        // For what is wrong with them, in words.
        self.certificates().config().map_err(at)?;
        let text = |text: &Text, key: &str| resolve(text, &["tls".into(), key.into()]);
        let mut tls = match &self.ca {
            Some(ca) => TlsConfig::new().with_ca_cert_pem(text(ca, "ca")?),
            None => TlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = self.certificate.as_ref().zip(self.key.as_ref()) {
            let key = text(key, "key")?.into_bytes();
            tls = tls.with_client_cert_pem(text(certificate, "certificate")?, key);
        }
        Ok(tls)
    }
}

impl Connection<'_> {
    pub(super) fn check(self) -> Vec<Problem> {
        let brokers = self.brokers.check().into_iter();
        let tls = self.tls.and_then(|tls| tls.certificates().check());
        brokers
            .map(|problem| problem.at("brokers"))
            .chain(tls.map(|problem| problem.at("tls")))
            .collect()
    }

    /// The files that a connection is made of. A token is not among them: it is read anew by itself.
    pub(super) fn files(self) -> Files {
        let auth = self.auth.into_iter().flat_map(|auth| match auth {
            Auth::Token(_) => Vec::new(),
            _ => auth.texts(),
        });
        let tls = self.tls.into_iter().flat_map(|tls| {
            let texts = [&tls.ca, &tls.certificate, &tls.key];
            texts.into_iter().flatten()
        });
        Files::of(
            self.brokers
                .0
                .iter()
                .chain(auth.map(|(text, _)| text))
                .chain(tls),
        )
    }

    /// What a connection is made of, for a client of this name.
    ///
    /// # Errors
    /// What is missing, or cannot be used.
    pub(super) fn resolve(self, client: String) -> Result<Cluster, OpenError> {
        let mut security = match self.auth {
            Some(auth) => auth.resolve()?,
            None => AuthConfig::plaintext(),
        };
        if let Some(tls) = self.tls {
            security = security.with_tls(tls.resolve()?);
        }
        Ok(Cluster {
            brokers: self.brokers.resolve()?,
            security,
            client,
            is_secure: self.tls.is_some(),
            shows_certificate: self.tls.is_some_and(|tls| tls.certificate.is_some()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_ports() {
        for (text, expect) in [
            ("h", Ok("h:9092")),
            ("h:1", Ok("h:1")),
            ("a:1, b", Ok("a:1,b:9092")),
            ("[::1]", Ok("[::1]:9092")),
            ("[::1]:7", Ok("[::1]:7")),
            ("", Err("no host")),
            (":9092", Err("no host")),
            ("a,", Err("no host")),
            ("h:x", Err("no number")),
            ("h:65536", Err("no number")),
            ("kafka://h:1", Err("without anything before")),
            ("u:p@h:1", Err("without anything before")),
            ("[::1", Err("bracket")),
        ] {
            match (addresses(text).map(|all| all.join(",")), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
