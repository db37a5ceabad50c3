//! The rule file as serde sees it, entity by entity. What the values mean together is found out in
//! `load`.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use pointsman_connectors::listener::ADDRESS_PATTERN;
use pointsman_rules::RawFilter;
use pointsman_rules::transform::RawTransform;
use pointsman_schemas::{Interval, Name, Rate, Size, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::schema::{
    Address, ConditionText, EventPattern, Expected, PathText, RuleDelivery, SourceName, TargetName,
    TestEvent,
};

/// The keys at the top of a rule file, beside `x-…`.
pub const TOP_KEYS: &[&str] = &[
    "listen", "admin", "store", "tenant", "sources", "targets", "rules", "pipes", "tests",
];

/// `admin`: an address, or `{ address, auth }`.
#[derive(Clone, Debug, Default)]
pub struct RawAdmin {
    /// `host:port`.
    pub address: Option<Text>,
    /// Keys, one of which a caller must show.
    pub auth: Vec<Text>,
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
}

/// `store`: where events and deliveries are kept.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Store")]
pub struct RawStore {
    /// The folder of the embedded store; `./pointsman-data` by default.
    pub path: Option<PathBuf>,
    /// How long events are kept once nothing waits for them; `24h` by default.
    pub retention: Option<Interval>,
    /// The room that the store may take; `20GiB` by default.
    pub max_size: Option<Size>,
    /// Not in this version.
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused with a reason of its own")]
    pub nats: Option<Value>,
}

/// One of `rules`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
#[expect(
    dead_code,
    reason = "a key that the schema shows; the loader reads its value where it stands"
)]
pub struct RawRule {
    /// What it is for, for people.
    pub description: Option<String>,
    /// The sources whose events it looks at; any where left out. `ingress` is the HTTP one,
    /// `replies` what targets answered.
    #[schemars(with = "Option<OneOrMany<SourceName>>")]
    pub from: Option<OneOrMany<String>>,
    /// An event pattern over the whole CloudEvent.
    #[serde(rename = "match")]
    #[schemars(with = "Option<EventPattern>")]
    pub pattern: Option<Map<String, Value>>,
    /// A JSONPath query or a logical expression, rooted at `$`.
    #[serde(rename = "where")]
    #[schemars(with = "Option<ConditionText>")]
    pub condition: Option<String>,
    /// Filters in the dialects of the CloudEvents Subscriptions API, all of which must hold.
    pub filters: Option<Vec<RawFilter>>,
    /// What the targets get: `set` for attributes, `data` for the data.
    pub transform: Option<RawTransform>,
    /// How it is delivered; overrides the targets'.
    #[schemars(with = "Option<RuleDelivery>")]
    pub delivery: Option<RawDelivery>,
    /// The targets: a name, `{ target, transform, delivery }`, or a list of these.
    #[schemars(required)]
    pub to: Option<OneOrMany<RawTo>>,
    /// Who is told of a success.
    pub on_success: Option<RawFollowUp>,
    /// Who is told of a dead letter.
    pub on_failure: Option<RawFollowUp>,
    /// The rule's name before: its pending deliveries are carried over.
    pub renamed_from: Option<Name>,
}

/// One of `pipes`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pipe")]
pub struct RawPipe {
    /// What it is for, for people.
    pub description: Option<String>,
    /// The one source whose events it takes; that source feeds nothing else.
    #[schemars(with = "SourceName")]
    pub from: Option<String>,
    /// An event pattern over the whole CloudEvent; what does not match is acknowledged at once.
    #[serde(rename = "match")]
    #[schemars(with = "Option<EventPattern>")]
    pub pattern: Option<Map<String, Value>>,
    /// A JSONPath query or a logical expression, rooted at `$`; where it does not hold, the event
    /// is acknowledged at once.
    #[serde(rename = "where")]
    #[schemars(with = "Option<ConditionText>")]
    pub condition: Option<String>,
    /// Filters in the dialects of the CloudEvents Subscriptions API; where they do not hold, the
    /// event is acknowledged at once.
    pub filters: Option<Vec<RawFilter>>,
    /// What the target gets: `set` for attributes, `data` for the data.
    pub transform: Option<RawTransform>,
    /// How it is delivered; overrides the target's.
    #[schemars(with = "Option<RuleDelivery>")]
    pub delivery: Option<RawDelivery>,
    /// The target: a name, or `{ target, transform, delivery }`.
    #[schemars(required)]
    pub to: Option<RawTo>,
    /// Who is told of a success.
    pub on_success: Option<RawFollowUp>,
    /// Who is told of a dead letter.
    pub on_failure: Option<RawFollowUp>,
    /// The pipe's name before: its dead letters are carried over.
    pub renamed_from: Option<Name>,
}

impl From<RawPipe> for RawRule {
    fn from(pipe: RawPipe) -> Self {
        let RawPipe {
            description,
            from,
            pattern,
            condition,
            filters,
            transform,
            delivery,
            to,
            on_success,
            on_failure,
            renamed_from,
        } = pipe;
        let (from, to) = (
            from.map(|from| OneOrMany(vec![from])),
            to.map(|to| OneOrMany(vec![to])),
        );
        Self {
            description,
            from,
            pattern,
            condition,
            filters,
            transform,
            delivery,
            to,
            on_success,
            on_failure,
            renamed_from,
        }
    }
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

/// What a follow-up target is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FollowUpContent {
    /// A report with the request's and the response's context.
    #[default]
    Report,
    /// The event as it came.
    Original,
}

/// `delivery`, on a target, on a rule or on a `to` entry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Delivery")]
pub struct RawDelivery {
    /// How long one attempt may take; `30s` by default.
    pub timeout: Option<Interval>,
    /// How long after its arrival an event is still tried; `24h` by default.
    pub max_age: Option<Interval>,
    /// What follows a failed attempt.
    pub retry: Option<RawRetry>,
    /// How many attempts run at once; on targets alone.
    pub concurrency: Option<RawConcurrency>,
    /// How many attempts begin in a time, such as `100/s`; on targets alone.
    pub rate: Option<Rate>,
    /// A JSONPath over the event as it came: what it finds orders the deliveries.
    #[schemars(with = "Option<PathText>")]
    pub order_by: Option<String>,
    /// The bound on what waits.
    pub backlog: Option<RawBacklog>,
}

/// `delivery.retry`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub struct RawRetry {
    /// How often it is tried, the first time included; 4 by default.
    pub attempts: Option<NonZeroU32>,
    /// How long it waits between.
    pub backoff: Option<RawBackoff>,
}

/// `delivery.retry.backoff`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Backoff")]
pub struct RawBackoff {
    /// Before the second attempt, at most; `1s` by default. It doubles from attempt to attempt.
    pub initial: Option<Interval>,
    /// What it never grows beyond; `5m` by default.
    pub max: Option<Interval>,
}

/// `delivery.concurrency`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Concurrency")]
pub struct RawConcurrency {
    /// At most this many; 64 by default. Below it the bus adapts to what the target can take.
    pub max: Option<NonZeroU32>,
}

/// `delivery.backlog`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Backlog")]
pub struct RawBacklog {
    /// How many deliveries may wait.
    pub max: Option<NonZeroU64>,
    /// What happens to more: what matches is not taken in, or becomes a dead letter.
    pub when_full: Option<WhenFull>,
}

/// What happens to what does not fit into a backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// It is not taken in.
    #[default]
    Stop,
    /// It becomes a dead letter.
    Dead,
}

/// One of `tests`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Test")]
pub struct RawTest {
    /// The source that the event comes from; where left out, `from` is not looked at, and rules
    /// without another filter are passed over.
    #[schemars(with = "Option<SourceName>")]
    pub from: Option<String>,
    /// A CloudEvent; `specversion` may be left out. Or its JSON as a text, which is read byte for
    /// byte as the bus reads what comes in.
    #[schemars(with = "TestEvent")]
    pub event: Option<RawEvent>,
    /// What `now` is in templates and programs, RFC 3339; the time of the test where left out.
    pub now: Option<String>,
    /// Rules and pipes that fire, each with a part of the event that it makes, or `false` for one
    /// that does not; `{}` says that none does.
    #[schemars(with = "Expected")]
    pub expect: Option<Map<String, Value>>,
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
                Map::deserialize(de::value::MapAccessDeserializer::new(map)).map(RawEvent::Fields)
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
        json_schema!({ "if": { "type": "array" }, "then": { "type": "array", "minItems": 1, "items": one }, "else": one })
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
        auth: Vec::new()
    },
    |full| RawAdmin {
        address: full.address,
        auth: full.auth
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
