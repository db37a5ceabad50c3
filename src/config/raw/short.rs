//! Entries that may be written short: as a text, or in full; as one, or as a list.

use std::borrow::Cow;
use std::fmt;

use pointsman_connectors::listener::ADDRESS_PATTERN;
use pointsman_rules::transform::RawTransform;
use pointsman_schemas::Text;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::{FollowUpContent, RawDelivery};
use crate::config::schema::{Address, RuleDelivery, TargetName};
use crate::telemetry::metrics::Detail;

/// `admin`: an address, or `{ address, auth, viewers, metrics }`.
#[derive(Clone, Debug, Default)]
pub struct RawAdmin {
    /// `host:port`.
    pub address: Option<Text>,
    /// Keys, one of which a caller must show.
    pub auth: Vec<Text>,
    /// Keys of those who may look and change nothing.
    pub viewers: Vec<Text>,
    /// What `/metrics` tells.
    pub metrics: Detail,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AdminInFull {
    /// `host:port`; `127.0.0.1:8081` by default.
    #[schemars(extend("pattern" = ADDRESS_PATTERN))]
    address: Option<Text>,
    /// Keys, one of which a caller must show as `Authorization: Bearer …`; needed wherever the
    /// address is not a loopback one.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    auth: Vec<Text>,
    /// Keys of callers who may look at everything and change nothing.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    viewers: Vec<Text>,
    /// Whether each source, subscription and target has numbers of its own in `/metrics`: `auto`,
    /// the default, where there are no more than 500 of a kind; `each`; or `summed`.
    #[serde(default)]
    metrics: Detail,
}

/// Where a rule's events go: a target's name, or `{ target, transform, delivery }`.
#[derive(Clone, Debug)]
#[expect(
    dead_code,
    reason = "a key that the schema shows; the loader reads its value where it stands"
)]
pub struct RawTo {
    /// The target.
    pub target: Option<String>,
    /// Stands in the place of the rule's transform.
    pub transform: Option<RawTransform>,
    /// Overrides the rule's and the target's.
    pub delivery: Option<RawDelivery>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ToInFull {
    /// The target's name.
    #[schemars(with = "TargetName")]
    target: Option<String>,
    /// Stands in the place of the rule's transform.
    transform: Option<RawTransform>,
    /// Overrides the rule's and the target's, key by key.
    #[schemars(with = "Option<RuleDelivery>")]
    delivery: Option<RawDelivery>,
}

/// Who is told how a delivery ended: a target's name, or `{ to, send, transform }`.
#[derive(Clone, Debug)]
#[expect(
    dead_code,
    reason = "a key that the schema shows; the loader reads its value where it stands"
)]
pub struct RawFollowUp {
    /// The target.
    pub to: Option<String>,
    /// What it is sent.
    pub send: FollowUpContent,
    /// What is made of that before it is sent.
    pub transform: Option<RawTransform>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FollowUpInFull {
    /// The target's name.
    #[schemars(with = "TargetName")]
    to: Option<String>,
    /// A report with the request's and the response's context, the default, or the original event.
    #[serde(default)]
    send: FollowUpContent,
    /// What the target gets of the report or the original event; the rule's own transform is not
    /// applied to either.
    transform: Option<RawTransform>,
}

/// The event of a test.
#[derive(Clone, Debug)]
pub enum RawEvent {
    /// Its attributes and data, in YAML.
    Fields(Map<String, Value>),
    /// Its JSON.
    Json(String),
}

impl<'de> Deserialize<'de> for RawEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawEvent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event, or a text with its JSON")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawEvent, E> {
                Ok(RawEvent::Json(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawEvent, A::Error> {
                Map::deserialize(MapAccessDeserializer::new(map)).map(RawEvent::Fields)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(de::value::StrDeserializer::new(text))
                    .map(|one| OneOrMany(vec![one]))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(OneOrMany(all))
            }
        }
        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({
            "if": { "type": "array" },
            "then": { "type": "array", "minItems": 1, "items": one },
            "else": one,
        })
    }
}

/// Reads a type that is written as a text or in full as a mapping.
macro_rules! text_or_in_full {
    ($type:ident, $full:ident, $written:ty, $expected:literal, |$text:ident| $of_text:expr, |$mapping:ident| $of_mapping:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> de::Visitor<'de> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, $text: &str) -> Result<$type, E> {
                        Ok($of_text)
                    }
                    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        let $mapping = $full::deserialize(MapAccessDeserializer::new(map))?;
                        Ok($of_mapping)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).trim_start_matches("Raw").into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let (written, full) = (generator.subschema_for::<$written>(), $full::json_schema(generator));
                json_schema!({ "if": { "type": "string" }, "then": written, "else": full })
            }
        }
    };
}

text_or_in_full!(
    RawAdmin,
    AdminInFull,
    Address,
    "an address such as 127.0.0.1:8081, or { address: …, auth: … }",
    |text| RawAdmin {
        address: Some(text.into()),
        ..RawAdmin::default()
    },
    |full| RawAdmin {
        address: full.address,
        auth: full.auth,
        viewers: full.viewers,
        metrics: full.metrics
    }
);
text_or_in_full!(
    RawTo,
    ToInFull,
    TargetName,
    "a target's name, or { target: …, transform: …, delivery: … }",
    |text| RawTo {
        target: Some(text.to_owned()),
        transform: None,
        delivery: None
    },
    |full| RawTo {
        target: full.target,
        transform: full.transform,
        delivery: full.delivery
    }
);
text_or_in_full!(
    RawFollowUp,
    FollowUpInFull,
    TargetName,
    "a target's name, or { to: …, send: report | original, transform: … }",
    |text| RawFollowUp {
        to: Some(text.to_owned()),
        send: FollowUpContent::default(),
        transform: None
    },
    |full| RawFollowUp {
        to: full.to,
        send: full.send,
        transform: full.transform
    }
);
