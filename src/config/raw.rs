//! The rule file as serde sees it, entity by entity. What the values mean together is found out in
//! `load`.

mod short;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

#[cfg(feature = "postgres")]
use pointsman_connectors::engine::PostgresEngine;
#[cfg(feature = "nats")]
use pointsman_connectors::nats::NatsEngine;
use pointsman_rules::RawFilter;
use pointsman_rules::transform::RawTransform;
use pointsman_schemas::{Duplicates, Interval, Name, Rate, Size, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::short::{OneOrMany, RawAdmin, RawEvent, RawFollowUp, RawTo};
use super::priority::RawPriority;
use super::quota::RawQuota;
use super::schema::{
    ConditionText, EventPattern, Expected, PathText, RuleDelivery, SourceName, TestEvent,
};
use crate::dispatcher::HistoryLevel;

/// The keys at the top of a rule file, beside `x-…`.
pub const TOP_KEYS: &[&str] = &[
    "listen", "admin", "store", "traces", "metrics", "tenant", "quota", "schemas", "sources",
    "targets", "rules", "pipes", "tests",
];

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
    /// How much of the history of tasks is kept.
    pub history: Option<RawHistory>,
    /// The replicated log of many machines, of which one runs the bus and the others can take over.
    pub log: Option<RawLog>,
    /// A mistake for `log`.
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused with a reason of its own")]
    pub nats: Option<Value>,
    /// A mistake for `log`.
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused with a reason of its own")]
    pub postgres: Option<Value>,
}

/// `store.log`: which engine keeps the log, and what this node is in the cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StoreLog")]
pub struct RawLog {
    /// PostgreSQL keeps it.
    #[cfg(feature = "postgres")]
    pub postgres: Option<PostgresEngine>,
    /// Left out of this build.
    #[cfg(not(feature = "postgres"))]
    #[schemars(skip)]
    pub postgres: Option<Value>,
    /// NATS JetStream keeps it.
    #[cfg(feature = "nats")]
    pub nats: Option<NatsEngine>,
    /// Left out of this build.
    #[cfg(not(feature = "nats"))]
    #[schemars(skip)]
    pub nats: Option<Value>,
    /// Several engines keep it, in the place of one: shard 0 lies in the first, shard 1 in the second,
    /// and so on, from the first again. Never changed, nor their order.
    #[expect(
        dead_code,
        reason = "a key that the schema shows; the loader reads its value where it stands"
    )]
    #[schemars(length(min = 2, max = 16))]
    pub engines: Option<Vec<RawEngine>>,
    /// The cluster's name in the engine: `default` unless it is given, and at most 32 characters.
    pub cluster: Option<String>,
    /// Into how many parts the bus is divided, which the nodes own by turns: `16` by default, at
    /// least as many as there will be nodes, and never changed.
    pub shards: Option<u16>,
    /// This node's name in the cluster; the machine's unless it is given.
    pub node: Option<Text>,
    /// Where other nodes reach the admin listener of this one, as `host:port`: `admin.address`
    /// unless it is given.
    pub address: Option<Text>,
    /// After how long another node takes over from one that has fallen silent; `10s` by default.
    pub takeover: Option<Interval>,
}

/// One of `store.log.engines`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LogEngine")]
pub struct RawEngine {
    /// PostgreSQL keeps a part of it.
    #[cfg(feature = "postgres")]
    pub postgres: Option<PostgresEngine>,
    /// Left out of this build.
    #[cfg(not(feature = "postgres"))]
    #[schemars(skip)]
    pub postgres: Option<Value>,
    /// NATS JetStream keeps a part of it.
    #[cfg(feature = "nats")]
    pub nats: Option<NatsEngine>,
    /// Left out of this build.
    #[cfg(not(feature = "nats"))]
    #[schemars(skip)]
    pub nats: Option<Value>,
}

impl RawLog {
    /// As many shards as it asks for, or has where it does not.
    pub(super) fn shards(&self) -> u16 {
        self.shards.unwrap_or(16).max(1)
    }
}

/// `store.history`: what is kept of attempts, and of how tasks ended.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "History")]
pub struct RawHistory {
    /// How long; `24h` by default.
    pub keep: Option<Interval>,
    /// The part of the store's room that it may take; `1GiB` by default, and an eighth of the store
    /// at most.
    pub max_size: Option<Size>,
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
    /// Which of its deliveries are left out, because an event of the same key came before.
    pub deduplicate: Option<Duplicates>,
    /// How long the events that it takes are kept at least, once nothing waits for them.
    pub retention: Option<Interval>,
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
    /// What its deliveries may use together, whatever their target.
    pub quota: Option<RawQuota>,
    /// The rule's name before: its pending deliveries are carried over.
    pub renamed_from: Option<Name>,
    /// From where on it is given retained events when it first comes: `earliest`, or a time in RFC
    /// 3339; what is appended from then on where left out.
    pub start: Option<String>,
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
            deduplicate: None,
            retention: None,
            transform,
            delivery,
            to,
            on_success,
            on_failure,
            quota: None,
            renamed_from,
            start: None,
        }
    }
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
    /// How long after its arrival an event is first tried; at once by default.
    pub delay: Option<Interval>,
    /// How urgent deliveries are: a number from 0 to 9 is the share of the target that they have
    /// beside those of other rules, a text with templates says which of them goes first.
    pub priority: Option<RawPriority>,
    /// The bound on what waits.
    pub backlog: Option<RawBacklog>,
    /// Several deliveries in one call; each goes alone where this is left out.
    pub batch: Option<RawBatch>,
    /// Of which attempts and ends the history tells: `all` (the default), `failures` or `none`.
    pub history: Option<HistoryLevel>,
}

/// `delivery.batch`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Batch")]
pub struct RawBatch {
    /// How many deliveries one call carries, at most; 100 by default, 1,000 at most.
    pub events: Option<NonZeroU32>,
    /// How large their events are together, at most; `1MiB` by default, `16MiB` at most. A larger
    /// event goes alone.
    pub bytes: Option<Size>,
    /// How long the first delivery waits for others; `0s` by default: what is due goes. At most
    /// `5m`.
    pub window: Option<Interval>,
    /// Whether a batch that fails whole is halved until the event is found that makes it fail.
    pub bisect: Option<bool>,
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
