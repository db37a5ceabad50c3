//! What the rule file says under `listen`.

use std::borrow::Cow;
use std::fmt;

use pointsman_schemas::{Duplicates, Interval, Problem, Size, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, de};

use super::Keys;

/// Past this one request could fill the memory of a small machine.
const MAX_BODY_BYTES_MAX: u64 = 1 << 30;

/// The form of an address to listen on, for the JSON Schema.
pub const ADDRESS_PATTERN: &str = r"^(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):[0-9]{1,5}$";

/// Where CloudEvents and webhooks come in: `127.0.0.1:8080`, or `{ address, tls, auth, max_body,
/// max_connections, origins }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSettings {
    /// `host:port`; port 0 takes a free one.
    pub address: Text,
    /// Serve over TLS.
    pub tls: Option<TlsSettings>,
    /// Keys of which a caller of the CloudEvents ingress must show one as `Authorization: Bearer
    /// …`; none means that anybody may send.
    pub auth: Vec<Text>,
    /// The longest body.
    pub max_body: Size,
    /// How many connections are open at once; further ones wait in the system's backlog.
    pub max_connections: u32,
    /// Which senders the CloudEvents ingress consents to in the webhook handshake: DNS names, or
    /// `*`.
    pub origins: Vec<String>,
    /// Which events of the CloudEvents ingress are duplicates of earlier ones.
    pub deduplicate: Option<Duplicates>,
    /// How long events of the CloudEvents ingress are kept once nothing waits for them.
    pub retention: Option<Interval>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate chain in PEM, the server's own first.
    pub certificate: Text,
    /// The private key in PEM.
    #[schemars(extend("writeOnly" = true))]
    pub key: Text,
}

/// [`ListenSettings`] in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Full {
    /// `host:port`.
    #[serde(default = "default_address")]
    #[schemars(extend("pattern" = ADDRESS_PATTERN))]
    address: Text,
    /// Serve over TLS.
    tls: Option<TlsSettings>,
    /// API keys of which a caller of the CloudEvents ingress must show one: `Authorization: Bearer
    /// …`.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    auth: Vec<Text>,
    /// The longest body; 1MiB by default.
    #[serde(default = "default_max_body")]
    max_body: Size,
    /// How many connections are open at once; 512 by default.
    #[serde(default = "default_max_connections")]
    max_connections: u32,
    /// Senders consented to in the CloudEvents webhook handshake: DNS names, or `*`, the default.
    #[serde(default = "default_origins")]
    origins: Vec<String>,
    /// Which events of the CloudEvents ingress are duplicates of earlier ones.
    deduplicate: Option<Duplicates>,
    /// How long events of the CloudEvents ingress are kept once nothing waits for them;
    /// `store.retention` by default.
    retention: Option<Interval>,
}

fn default_address() -> Text {
    "127.0.0.1:8080".into()
}

fn default_max_body() -> Size {
    Size { bytes: 1 << 20 }
}

/// Half of the 1,024 descriptors that a process usually has: the store and the targets need some
/// too.
fn default_max_connections() -> u32 {
    512
}

fn default_origins() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self::at(default_address())
    }
}

impl ListenSettings {
    /// An address, and the defaults for all else.
    #[must_use]
    pub fn at(address: Text) -> Self {
        Self {
            address,
            tls: None,
            auth: Vec::new(),
            max_body: default_max_body(),
            max_connections: default_max_connections(),
            origins: default_origins(),
            deduplicate: None,
            retention: None,
        }
    }

    /// Every mistake that can be found without touching the outside world.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(address) = self.address.literal() {
            match split_address(address) {
                None => problems.push(not_an_address(address).at("address")),
                Some(host) if self.auth.is_empty() && !is_loopback(host) => problems.push(
                    Problem::new("anybody who reaches this address can send events")
                        .at("address")
                        .warn()
                        .help("add auth: [{ env: POINTSMAN_KEY }], or listen on 127.0.0.1"),
                ),
                Some(_) => {}
            }
        }
        problems.extend(Keys::check("auth", &self.auth));
        problems.extend(check_max_body(self.max_body).map(|problem| problem.at("max_body")));
        if self.max_connections == 0 {
            problems.push(
                Problem::new("lets nobody in")
                    .at("max_connections")
                    .help("write at least 1"),
            );
        }
        problems
    }
}

/// What is wrong with a bound on bodies, if anything is.
pub(crate) fn check_max_body(size: Size) -> Option<Problem> {
    (!(1..=MAX_BODY_BYTES_MAX).contains(&size.bytes))
        .then(|| Problem::new("is not between 1B and 1GiB"))
}

/// The mistake of what is none, with the address that was probably meant: a port alone, or one
/// without a host.
fn not_an_address(text: &str) -> Problem {
    let bare = text
        .trim()
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let port = bare
        .strip_prefix(':')
        .or_else(|| bare.strip_prefix("*:"))
        .unwrap_or(bare);
    let meant = match (port.parse::<u16>(), split_address(bare)) {
        (Ok(port), _) => format!("127.0.0.1:{port}"),
        (Err(_), Some(_)) => bare.to_owned(),
        (Err(_), None) if !bare.is_empty() && !bare.contains([':', '/', ' ']) => {
            format!("{bare}:8080")
        }
        (Err(_), None) => "127.0.0.1:8080".to_owned(),
    };
    Problem::new(format!("`{text}` is not an address"))
        .help(format!("write host:port, such as {meant}"))
}

/// Whether a text is `host:port`.
pub(crate) fn is_address(text: &str) -> bool {
    split_address(text).is_some()
}

/// The host of `host:port`, where it is one.
fn split_address(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    (port.parse::<u16>().is_ok() && !host.is_empty() && (bracketed || !host.contains(':')))
        .then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || literal
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

impl<'de> Deserialize<'de> for ListenSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ListenSettings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as 127.0.0.1:8080, or { address: …, … }")
            }
            fn visit_str<E: de::Error>(self, address: &str) -> Result<ListenSettings, E> {
                Ok(ListenSettings::at(address.into()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ListenSettings, A::Error> {
                let Full {
                    address,
                    tls,
                    auth,
                    max_body,
                    max_connections,
                    origins,
                    deduplicate,
                    retention,
                } = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ListenSettings {
                    address,
                    tls,
                    auth,
                    max_body,
                    max_connections,
                    origins,
                    deduplicate,
                    retention,
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ListenSettings {
    fn schema_name() -> Cow<'static, str> {
        "ListenSettings".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = Full::json_schema(generator);
        let address = json_schema!({ "type": "string", "pattern": ADDRESS_PATTERN });
        json_schema!({
            "description": "Where CloudEvents and webhooks come in.",
            "examples": ["127.0.0.1:8080"],
            "if": { "type": "string" },
            "then": address,
            "else": full,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ListenSettings, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_alone_or_in_full() {
        assert_eq!(
            read(r#""0.0.0.0:1""#).unwrap(),
            ListenSettings::at("0.0.0.0:1".into())
        );
        let full = read(
            r#"{"address":"[::1]:0","auth":[{"env":"K"}],"max_body":"2MiB","tls":{"certificate":"c","key":{"file":"k"}}}"#,
        );
        let full = full.unwrap();
        assert_eq!(
            (full.max_body.bytes, full.auth, full.max_connections),
            (2 << 20, vec![Text::Env("K".into())], 512)
        );
        assert_eq!(read("{}").unwrap(), ListenSettings::default());
        assert!(
            read(r#"{"adress":"x"}"#)
                .unwrap_err()
                .contains("unknown field `adress`")
        );
    }

    #[test]
    fn mistakes_are_found() {
        let told = |json: &str| {
            read(json)
                .unwrap()
                .check()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        for fine in [
            r#""127.0.0.1:8080""#,
            r#""localhost:0""#,
            r#""[::1]:1""#,
            r#"{"address":{"env":"A"}}"#,
        ] {
            assert_eq!(told(fine), Vec::<String>::new(), "{fine}");
        }
        for bad in [
            r#""8080""#,
            r#"":8080""#,
            r#""::1:80""#,
            r#""a:99999""#,
            r#"{"max_body":"0B"}"#,
            r#"{"max_connections":0}"#,
        ] {
            assert_eq!(told(bad).len(), 1, "{bad}");
        }
        insta::assert_snapshot!(told(r#"{"address":"0.0.0.0:80"}"#).join("\n"), @"address: anybody who reaches this address can send events (add auth: [{ env: POINTSMAN_KEY }], or listen on 127.0.0.1)");
        insta::assert_snapshot!(told(r#"{"auth":["hunter2"]}"#).join("\n"), @"auth[0]: this key is shorter than 22 characters (make one with: openssl rand -hex 32)");
        for key in [
            "Bearer 0123456789abcdef0123456789abcdef",
            " bearer\thunter2",
        ] {
            let listen = serde_json::json!({ "auth": [{ "env": "K" }, key] }).to_string();
            assert_eq!(
                told(&listen),
                [
                    "auth[1]: this begins with the word Bearer, which would be sent twice (write \
                     what follows it alone, such as auth: [{ env: KEY }])"
                ]
            );
        }
    }
}
