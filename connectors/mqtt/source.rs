//! What the bus asks of a source.

use std::borrow::Cow;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::client::{Connected, Plan, leave, subscribe};
use super::packet::{Incoming, Qos, Retained, Subscribe, Version, property};
use super::reader::{Opening, Subscription, granted};
use super::settings::{PROTOCOL, check};
use super::topic::{check_filter, is_shared};
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::server::ServerSettings;
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;
use crate::texts::Texts;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// Topic filters of one source.
const FILTERS_MAX: usize = 64;

/// Messages in hand at most.
const PREFETCH_MAX: usize = 20_000;

/// The session is never dropped (MQTT 5, section 3.1.2.11.2).
const FOR_EVER: u32 = u32::MAX;

/// Subscribes to topics of an MQTT broker.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttSource {
    /// The broker: `mqtt://127.0.0.1:1883`, or `mqtts://…`.
    #[schemars(extend("pattern" = "^(mqtts?|tcp|ssl)://", "examples" = ["mqtt://127.0.0.1:1883"]))]
    url: Text,
    /// The version of the protocol: `"5"` unless it is given, or `"3.1.1"`.
    #[serde(default)]
    version: Version,
    /// The user.
    username: Option<Text>,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// Certificates, for `mqtts`.
    tls: Option<TlsSettings>,
    /// The client identifier, under which the broker keeps the session: what was subscribed to, and
    /// what has not been acknowledged. Nobody else connects with it.
    #[schemars(extend("minLength" = 1))]
    client_id: Text,
    /// A topic filter, or several: `orders/#`, `sensors/+/temperature`,
    /// `$share/<group>/orders/#`.
    topic: TopicFilters,
    /// The highest quality of service to receive messages with. 1 unless it is given.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 2))]
    qos: u8,
    /// For how long the broker keeps the session while the bus is away; for ever unless it is
    /// given. MQTT 5 alone.
    session_expiry: Option<Interval>,
    /// How many messages are in hand at most, 1 to 20000.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 20_000))]
    prefetch: usize,
    /// Whether publishers never use a CloudEvent's `source` and `id` twice: then what comes again
    /// within 24 h is stored once.
    #[serde(default)]
    deduplicate: bool,
}

fn one() -> u8 {
    1
}

fn thousand() -> usize {
    1_000
}

/// One topic filter, or several.
#[derive(Clone, Debug)]
struct TopicFilters(Vec<Text>);

impl<'de> Deserialize<'de> for TopicFilters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Texts::deserialize(deserializer).map(|Texts(filters)| Self(filters))
    }
}

impl JsonSchema for TopicFilters {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "MqttTopicFilters".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let filter = generator.subschema_for::<Text>();
        json_schema!({
            "description": "A topic filter, or several.",
            "if": { "type": "array" },
            "then": { "items": filter, "minItems": 1, "maxItems": FILTERS_MAX },
            "else": filter,
        })
    }
}

impl MqttSource {
    fn server(&self) -> ServerSettings<'_> {
        ServerSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    /// The mistake in the topic filters.
    fn check_filters(&self) -> Option<Problem> {
        let filters = &self.topic.0;
        let literals: Vec<_> = filters.iter().filter_map(Text::literal).collect();
        let mistake = match literals
            .iter()
            .find_map(|filter| check_filter(filter).err())
        {
            _ if filters.is_empty() => "a source has a topic filter",
            _ if filters.len() > FILTERS_MAX => "one source has 64 topic filters at most",
            Some(mistake) => mistake,
            None if has_twice(&literals) => "a topic filter stands there twice",
            None => return None,
        };
        Some(Problem::new(mistake).at("topic"))
    }

    fn qos(&self) -> Qos {
        Qos::of(self.qos).unwrap_or(Qos::ExactlyOnce)
    }

    fn filters(&self) -> Result<Vec<String>, OpenError> {
        let resolved = |filter: &Text| {
            let filter = resolve(filter, &["topic".into()])?;
            match check_filter(&filter) {
                Ok(()) => Ok(filter),
                Err(mistake) => Err(OpenError(Problem::new(mistake).at("topic"))),
            }
        };
        self.topic.0.iter().map(resolved).collect()
    }

    /// How the session is connected to.
    fn plan(&self) -> Result<Plan, OpenError> {
        let expiry = self.session_expiry.map_or(FOR_EVER, |Interval(expiry)| {
            u32::try_from(expiry.as_secs()).unwrap_or(FOR_EVER)
        });
        let prefetch = u32::try_from(self.prefetch).unwrap_or(u32::MAX);
        Ok(Plan {
            server: self.server().resolve(&PROTOCOL)?,
            version: self.version,
            client_id: resolve(&self.client_id, &["client_id".into()])?,
            is_clean: false,
            numbers: vec![
                (property::SESSION_EXPIRY, expiry),
                (property::RECEIVE_MAXIMUM, prefetch),
            ],
        })
    }
}

fn has_twice(filters: &[&str]) -> bool {
    let different: std::collections::HashSet<_> = filters.iter().collect();
    different.len() < filters.len()
}

/// The operator names the address, and no event has a part in it.
pub(super) const GUARD: Guard = Guard {
    allow_private_addresses: true,
};

#[async_trait]
impl SourceSettings for MqttSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = check(&self.server(), self.version);
        if self.client_id.literal() == Some("") {
            let problem = Problem::new("a session that the broker keeps has a client identifier");
            problems.push(problem.at("client_id"));
        }
        problems.extend(self.check_filters());
        if Qos::of(self.qos).is_none() {
            problems.push(Problem::new("the QoS is 0, 1 or 2").at("qos"));
        }
        if self.session_expiry.is_some() && self.version == Version::V3 {
            let mistake = "in MQTT 3.1.1 the broker alone says for how long it keeps a session";
            problems.push(Problem::new(mistake).at("session_expiry"));
        }
        if self
            .session_expiry
            .is_some_and(|Interval(expiry)| expiry.subsec_nanos() != 0)
        {
            let problem = Problem::new("MQTT counts in whole seconds");
            problems.push(problem.at("session_expiry"));
        }
        if !(1..=PREFETCH_MAX).contains(&self.prefetch) {
            let mistake = format!("1 to {PREFETCH_MAX} messages are in hand");
            problems.push(Problem::new(mistake).at("prefetch"));
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        self.deduplicate
    }

    fn guarantee(&self) -> Guarantee {
        match self.qos {
            0 => Guarantee::AtMostOnce,
            _ => Guarantee::AtLeastOnce,
        }
    }

    fn runs_on(&self) -> RunsOn {
        // A broker lets one connection have a client identifier.
        RunsOn::One
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let filters = self.filters()?;
        let plan = self.plan()?.passing();
        let host = plan.server.host.clone();
        let Connected { mut wire, .. } = plan.connect(GUARD, Names::default()).await?;
        // One that looks must not take the messages of a group.
        let own: Vec<_> = filters
            .iter()
            .filter(|filter| !is_shared(filter))
            .cloned()
            .collect();
        if !own.is_empty() {
            let subscription = Subscribe {
                filters: own.clone(),
                qos: Qos::AtMostOnce,
                retained: Retained::Never,
            };
            let passed = |_: Incoming| Ok(());
            let codes = subscribe(&mut wire, &subscription, passed).await;
            let codes = codes.map_err(|why| OpenError(Problem::new(why).at("url")))?;
            granted(self.version, &own, &codes, Qos::AtMostOnce)?;
        }
        leave(wire).await;
        Ok(format!(
            "the MQTT broker at {host} lets it subscribe to {}",
            filters.join(", ")
        ))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        // Looked at before they are read: what changes meanwhile is read again.
        let files = self.server().files();
        let opening = Opening {
            plan: self.plan()?,
            files,
            subscription: Subscription {
                filters: self.filters()?,
                qos: self.qos(),
            },
            prefetch: self.prefetch,
        };
        Ok(Box::new(opening.open(context).await?))
    }
}
