//! What the bus asks of a source.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Text};
use redis::Value;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::client::Client;
use super::groups::Groups;
use super::mapping::Decoder;
use super::queue::{CALL_MESSAGES_MAX, STREAMS_MAX, Streams};
use super::reply::{field, number};
use super::settings::{PROTOCOL, resolve as resolve_address};
use super::trimmed::{EntryId, found};
use crate::leased::{Reader, Way, settings};
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::server::ServerSettings;
use crate::net::stream::Host;
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;
use crate::texts::Texts;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// How long a call waits for entries: what others have left, or was given back, is asked for
/// between two calls.
const POLL: Duration = Duration::from_secs(1);

/// So many entries a batch holds at most.
pub(super) const BATCH_MESSAGES_MAX: usize = CALL_MESSAGES_MAX;

/// How often an entry may be handed out.
const DELIVERIES: std::ops::RangeInclusive<u64> = 2..=1_000_000;

/// Reads streams of Redis or Valkey, as a consumer group.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisSource {
    /// The server: `redis://127.0.0.1:6379`, or `rediss://…`; the number of a database may stand
    /// behind it.
    #[schemars(extend("pattern" = "^(redis|valkey)s?://", "examples" = ["redis://127.0.0.1:6379"]))]
    url: Text,
    /// The user; the default one unless it is given.
    username: Option<Text>,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// Certificates, for `rediss`.
    tls: Option<TlsSettings>,
    /// The stream's key, or several.
    stream: StreamKeys,
    /// The consumer group, which is made where it is not there.
    #[schemars(extend("minLength" = 1))]
    group: Text,
    /// Where a group begins that is made: with the `earliest` entry that is there, with the
    /// `latest`, which is the next to come, or behind an entry by its id.
    start: Start,
    /// The field whose value is the body; all fields are, as a JSON object, unless it is given.
    #[schemars(extend("minLength" = 1))]
    body: Option<String>,
    /// For how long an entry is kept from others each time that this is extended, as long as it is
    /// in hand: after a crash it comes again so much later. 10s to 12h.
    #[serde(default = "settings::visibility")]
    visibility: Interval,
    /// How many entries are in hand at most, 256 to 20000.
    #[serde(default = "settings::prefetch")]
    #[schemars(range(min = 256, max = 20_000))]
    prefetch: usize,
    /// An entry that was handed out more often than this, each time to somebody who went away with
    /// it, becomes a dead letter. 10 unless it is given.
    #[serde(default = "ten")]
    #[schemars(range(min = 2, max = 1_000_000))]
    max_deliveries: u64,
}

fn ten() -> u64 {
    10
}

/// The keys of one stream, or of several.
#[derive(Clone, Debug)]
struct StreamKeys(Vec<Text>);

impl<'de> Deserialize<'de> for StreamKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Texts::deserialize(deserializer).map(|Texts(keys)| Self(keys))
    }
}

impl JsonSchema for StreamKeys {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "StreamKeys".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let key = generator.subschema_for::<Text>();
        json_schema!({
            "description": "The key of a stream, or several.",
            "if": { "type": "array" },
            "then": { "items": key, "minItems": 1, "maxItems": STREAMS_MAX },
            "else": key,
        })
    }
}

/// Where a group begins that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    Earliest,
    Latest,
    /// Behind the entry of this id.
    Behind(String),
}

impl Start {
    /// As `XGROUP CREATE` has it.
    fn id(&self) -> &str {
        match self {
            Self::Earliest => "0-0",
            Self::Latest => "$",
            Self::Behind(id) => id,
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("with the earliest entry"),
            Self::Latest => f.write_str("with the next entry"),
            Self::Behind(id) => write!(f, "behind {id}"),
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        match &*text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            id if EntryId::read(id).is_some() => Ok(Self::Behind(id.to_owned())),
            _ => Err(serde::de::Error::custom(
                "expected earliest, latest, or the id of an entry such as 1526919030474-0",
            )),
        }
    }
}

impl JsonSchema for Start {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "RedisStart".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(earliest|latest|[0-9]+(-[0-9]+)?)$",
            "examples": ["earliest"],
        })
    }
}

impl RedisSource {
    fn server(&self) -> ServerSettings<'_> {
        ServerSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    /// The mistakes in the streams' keys.
    fn check_streams(&self) -> Option<Problem> {
        let keys = &self.stream.0;
        let literals: Vec<_> = keys.iter().filter_map(Text::literal).collect();
        let different: HashSet<_> = literals.iter().collect();
        let mistake = if keys.is_empty() || literals.contains(&"") {
            "name at least one stream".to_owned()
        } else if keys.len() > STREAMS_MAX {
            format!("one source reads {STREAMS_MAX} streams at most")
        } else if different.len() < literals.len() {
            "a stream stands there twice".to_owned()
        } else {
            return None;
        };
        Some(Problem::new(mistake).at("stream"))
    }

    /// The group, of which nothing is asked yet.
    fn groups(&self) -> Result<(Groups, Host), OpenError> {
        let settings = self.clone();
        // The operator names the address, and no event has a part in it.
        let guard = Guard {
            allow_private_addresses: true,
        };
        let resolve_address = move || resolve_address(&settings.server());
        let (client, host) = Client::open(resolve_address, guard, Names::default())?;
        let keys = self.stream.0.iter();
        let streams: Result<_, _> = keys.map(|key| resolve(key, &["stream".into()])).collect();
        let groups = Groups {
            client,
            streams: streams?,
            name: resolve(&self.group, &["group".into()])?,
        };
        Ok((groups, host))
    }
}

#[async_trait]
impl SourceSettings for RedisSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.server().check(&PROTOCOL);
        problems.extend(self.check_streams());
        if self.group.literal() == Some("") {
            problems.push(Problem::new("a group has a name").at("group"));
        }
        if self.body.as_deref() == Some("") {
            problems.push(Problem::new("a field has a name").at("body"));
        }
        problems.extend(settings::check(
            "the source",
            self.visibility,
            self.prefetch,
            CALL_MESSAGES_MAX,
        ));
        if !DELIVERIES.contains(&self.max_deliveries) {
            let mistake = "an entry is handed out 2 to 1000000 times";
            problems.push(Problem::new(mistake).at("max_deliveries"));
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::EachUnlessOrdered
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let (groups, host) = self.groups()?;
        let there = groups.look().await?;
        let told = groups.streams.iter().zip(there);
        let told = told.map(|(stream, there)| say(stream, there, &groups.name, &self.start));
        let told: Vec<_> = told.collect();
        Ok(format!("Redis at {host}: {}", told.join("; ")))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let (groups, _) = self.groups()?;
        groups.make(self.start.id()).await?;
        let decoder = Decoder {
            name: context.name,
            shown: groups.streams.join(", "),
            streams: groups.streams.clone(),
            body: self.body.clone(),
            deliveries_max: self.max_deliveries,
            mapped: context.mapped,
            clock: context.clock,
        };
        let streams = Streams::new(groups, self.visibility.0, context.link.clone());
        let way = Way {
            wait: POLL,
            prefetch: self.prefetch,
            batch_messages_max: BATCH_MESSAGES_MAX,
        };
        Ok(Reader::begin(streams, decoder, way, context.link))
    }
}

/// What is there of a stream and its group.
fn say(stream: &str, groups: Option<Value>, group: &str, start: &Start) -> String {
    let Some(groups) = groups else {
        return format!("the stream {stream} is not there yet, and is made");
    };
    match found(&groups, group) {
        None => format!("the group {group} of {stream} is new and begins {start}"),
        Some(found) => match field(found, "lag").and_then(number) {
            Some(lag) => format!("{lag} entries of {stream} wait for the group {group}"),
            None => format!("the group {group} reads {stream}"),
        },
    }
}
