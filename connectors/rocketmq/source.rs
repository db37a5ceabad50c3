//! What the bus asks of a source.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::client::{Client, Unanswered};
use super::mapping::Decoder;
use super::proto::{FilterExpression, FilterType};
use super::queue::{Asked, CALL_MESSAGES_MAX, Group};
use super::session::Role;
use super::settings::{Access, check_group, check_topic};
use crate::alibaba::AccessKey;
use crate::leased::{Reader, Way, settings};
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// How long a call waits for messages: as long as proxies allow.
const POLL: Duration = Duration::from_secs(20);

/// What is wrong with a name.
type Check = fn(&str) -> Result<(), String>;

/// So many messages a batch holds at most.
pub(super) const BATCH_MESSAGES_MAX: usize = 4 * CALL_MESSAGES_MAX;

/// Reads a topic of RocketMQ, as one of a consumer group.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RocketmqSource {
    /// The proxy: `rocketmq://127.0.0.1:8081`, or `rocketmqs://…`.
    #[schemars(extend("pattern" = "^(rocketmq|grpc)s?://", "examples" = ["rocketmq://127.0.0.1:8081"]))]
    url: Text,
    /// The keys to show, where the proxy asks for some.
    credentials: Option<AccessKey>,
    /// Certificates, for `rocketmqs`.
    tls: Option<TlsSettings>,
    /// The namespace of topic and group, where the instance has several.
    namespace: Option<Text>,
    /// The topic.
    #[schemars(extend("minLength" = 1))]
    topic: Text,
    /// The consumer group. Whoever reads with it reads the same topic with the same filter.
    #[schemars(extend("minLength" = 1))]
    group: Text,
    /// Which messages are read: those with one of these tags, separated by `||`. All of them unless
    /// it or `sql` is given.
    #[schemars(extend("minLength" = 1))]
    tags: Option<String>,
    /// The same by an expression of SQL 92 over properties: `CE_type = 'order.placed' AND price > 5`.
    #[schemars(extend("minLength" = 1))]
    sql: Option<String>,
    /// For how long a message is kept from others, extended for as long as it is in hand: after a
    /// crash it comes again so much later. 10s to 12h.
    #[serde(default = "settings::visibility")]
    visibility: Interval,
    /// How many messages are in hand at most, 32 to 20000.
    #[serde(default = "settings::prefetch")]
    #[schemars(range(min = 32, max = 20_000))]
    prefetch: usize,
}

impl RocketmqSource {
    fn access(&self) -> Access<'_> {
        Access {
            url: &self.url,
            tls: self.tls.as_ref(),
            credentials: self.credentials.as_ref(),
            namespace: self.namespace.as_ref(),
        }
    }

    fn filter(&self) -> FilterExpression {
        let (kind, expression) = match (&self.sql, &self.tags) {
            (Some(sql), _) => (FilterType::Sql, sql.as_str()),
            (None, Some(tags)) => (FilterType::Tag, tags.as_str()),
            (None, None) => (FilterType::Tag, "*"),
        };
        FilterExpression {
            r#type: kind.into(),
            expression: expression.trim().to_owned(),
        }
    }

    fn check_filter(&self) -> Option<Problem> {
        let tags = self.tags.as_deref();
        let tags: Option<Vec<_>> = tags.map(|tags| tags.split("||").map(str::trim).collect());
        let (mistake, at) = match tags {
            Some(_) if self.sql.is_some() => ("messages are chosen by tags or by sql", "sql"),
            Some(tags) if tags.contains(&"") => ("between two || stands a tag", "tags"),
            Some(tags) if tags.iter().collect::<BTreeSet<_>>().len() < tags.len() => {
                ("a tag stands there twice", "tags")
            }
            _ if self.sql.as_deref().is_some_and(|sql| sql.trim().is_empty()) => {
                ("an expression is not empty", "sql")
            }
            _ => return None,
        };
        Some(Problem::new(mistake).at(at))
    }

    /// The group, of which nothing is asked yet.
    fn group(&self) -> Result<Group, OpenError> {
        let access = self.access();
        let name = |text: &Text, key: &'static str, check: Check| {
            let name = resolve(text, &[key.into()])?;
            let checked = check(&name);
            checked.map_err(|mistake| OpenError(Problem::new(mistake).at(key)))?;
            access.resource(name)
        };
        let asked = Asked {
            topic: name(&self.topic, "topic", check_topic)?,
            group: name(&self.group, "group", check_group)?,
            filter: self.filter(),
        };
        let role = Role::Consumer {
            group: asked.group.clone(),
            topic: asked.topic.clone(),
            filter: asked.filter.clone(),
        };
        // The operator names the address, and no event has a part in it.
        let guard = Guard {
            allow_private_addresses: true,
        };
        let (settings, signer) = (self.clone(), access.signer()?);
        let place = move || settings.access().resolve(signer.clone());
        let client = Client::open(place, role, guard, Names::default())?;
        Ok(Group::new(client, asked, self.visibility.0))
    }
}

#[async_trait]
impl SourceSettings for RocketmqSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        let names: [(&Text, &str, Check); 2] = [
            (&self.topic, "topic", check_topic),
            (&self.group, "group", check_group),
        ];
        for (text, at, check) in names {
            if let Some(Err(mistake)) = text.literal().map(check) {
                problems.push(Problem::new(mistake).at(at));
            }
        }
        problems.extend(self.check_filter());
        problems.extend(settings::check(
            "the source",
            self.visibility,
            self.prefetch,
            CALL_MESSAGES_MAX,
        ));
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
        let group = self.group()?;
        let looked = async {
            let session = group.client().session().await?;
            group.look().await?;
            Ok(session.told())
        };
        let told = looked.await.map_err(Unanswered::problem)?;
        let order = match told.is_fifo {
            true => ", in the order of each message group",
            false => "",
        };
        Ok(format!(
            "RocketMQ at {} lets the group {} read {}{order}",
            group.client().host,
            group.name(),
            leased_name(&group),
        ))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let group = self.group()?;
        group.look().await.map_err(Unanswered::problem)?;
        let decoder = Decoder {
            name: context.name,
            topic: leased_name(&group).to_owned(),
            mapped: context.mapped,
            clock: context.clock,
        };
        let way = Way {
            wait: POLL,
            prefetch: self.prefetch,
            batch_messages_max: BATCH_MESSAGES_MAX,
        };
        Ok(Reader::begin(group, decoder, way, context.link))
    }
}

fn leased_name(group: &Group) -> &str {
    crate::leased::Queue::name(group)
}
