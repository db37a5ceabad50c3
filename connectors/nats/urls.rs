//! The URLs of the servers.

use std::borrow::Cow;
use std::str::FromStr;

use async_nats::ServerAddr;
use pointsman_schemas::{Problem, Segment, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::OpenError;
use crate::parameter::resolve;
use crate::texts::Texts;

/// Servers of one system, one or several.
#[derive(Clone, Debug)]
pub(super) struct Urls(pub(super) Vec<Text>);

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Texts::deserialize(deserializer).map(|Texts(urls)| Self(urls))
    }
}

impl JsonSchema for Urls {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Urls".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut server = generator.subschema_for::<Text>();
        server.insert(
            "pattern".to_owned(),
            "^[A-Za-z]+://|^[^:/\\s]+(:[0-9]+)?$".into(),
        );
        json_schema!({
            "description": "A URL such as nats://127.0.0.1:4222, or several of one cluster.",
            "examples": ["nats://127.0.0.1:4222"],
            "if": { "type": "array" },
            "then": { "items": server, "minItems": 1 },
            "else": server,
        })
    }
}

impl Urls {
    pub(super) fn check(&self) -> Vec<Problem> {
        if self.0.is_empty() {
            return vec![
                Problem::new("name at least one server")
                    .help("write one such as nats://127.0.0.1:4222"),
            ];
        }
        let mistake = |url: &Text| {
            let literal = url.literal()?;
            match server(literal) {
                Err(mistake) => {
                    Some(Problem::new(mistake).help("write one such as nats://127.0.0.1:4222"))
                }
                Ok(address) => address.has_user_pass().then(|| {
                    Problem::new("a URL that is written out must not say who calls")
                        .help("write auth: { basic: { username, password } }")
                }),
            }
        };
        let place = |(index, problem): (usize, Problem)| {
            if self.0.len() > 1 {
                problem.at(index)
            } else {
                problem
            }
        };
        self.0
            .iter()
            .enumerate()
            .filter_map(|(index, url)| Some((index, mistake(url)?)))
            .map(place)
            .collect()
    }

    pub(super) fn resolve(&self) -> Result<Vec<ServerAddr>, OpenError> {
        let each = |url: &Text| {
            let at: [Segment; 1] = ["url".into()];
            server(&resolve(url, &at)?)
                .map_err(|mistake| OpenError(Problem::new(mistake).at("url")))
        };
        self.0.iter().map(each).collect()
    }
}

fn server(url: &str) -> Result<ServerAddr, String> {
    // The message leaves out the URL, which may hold a password.
    let address =
        ServerAddr::from_str(url).map_err(|_| "this is no URL of a NATS server".to_owned())?;
    match address.scheme() {
        "nats" | "tls" if !address.host().is_empty() => Ok(address),
        "nats" | "tls" => Err("this URL names no host".to_owned()),
        "ws" | "wss" => Err(
            "WebSocket is not spoken here; name the server's port for clients by nats:// or tls://"
                .to_owned(),
        ),
        other => Err(format!(
            "a NATS server is reached by nats:// or tls://, not by {other}://"
        )),
    }
}
