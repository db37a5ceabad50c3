//! The settings of a target.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Placement, Problem, TemplateText, Text, schedule};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use tower::util::BoxCloneSyncService;

use super::client::{ANSWER_WITHIN, Client, Unanswered, endpoints};
use super::mapping::Mode;
use super::proto::{MessageType, QueryRouteRequest, QueryRouteResponse, Resource};
use super::refusal::Refusal;
use super::sender::{Sender, When, check_group, check_key, check_tag, check_time};
use super::session::Role;
use super::settings::{Access, check_topic};
use crate::alibaba::AccessKey;
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::tls::TlsSettings;
use crate::parameter::{Parameter, Templates, called, is_template};
use crate::texts::Texts;
use crate::{Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// Keys of one message.
const KEYS_MAX: usize = 16;

/// Sends each event to a topic of RocketMQ.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RocketmqTarget {
    /// The proxy: `rocketmq://127.0.0.1:8081`, or `rocketmqs://…`.
    #[schemars(extend("pattern" = "^(rocketmq|grpc)s?://", "examples" = ["rocketmq://127.0.0.1:8081"]))]
    url: Text,
    /// The keys to show, where the proxy asks for some.
    credentials: Option<AccessKey>,
    /// Certificates, for `rocketmqs`.
    tls: Option<TlsSettings>,
    /// The namespace of the topic, where the instance has several.
    namespace: Option<Text>,
    /// The topic, which may hold templates.
    #[schemars(extend("minLength" = 1))]
    topic: Text,
    /// The message's tag, which may hold templates.
    tag: Option<Text>,
    /// A key that the message is found by, or several, which may hold templates.
    keys: Option<MessageKeys>,
    /// The message group, which may hold templates: a FIFO topic needs one, and keeps the order
    /// within it.
    message_group: Option<Text>,
    /// How long RocketMQ holds each message back, such as `10m`, which may hold templates. The topic
    /// is of type DELAY.
    delay: Option<Text>,
    /// Until when, such as `2026-12-24T18:00:00Z`, which may hold templates.
    deliver_at: Option<Text>,
    /// How the event is written: as properties and a body, as one JSON document, or its data alone.
    #[serde(default)]
    mode: Mode,
}

/// One key, or several.
#[derive(Clone, Debug)]
struct MessageKeys(Vec<Text>);

impl<'de> Deserialize<'de> for MessageKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Texts::deserialize(deserializer).map(|Texts(keys)| Self(keys))
    }
}

impl JsonSchema for MessageKeys {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "RocketmqMessageKeys".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let key = generator.subschema_for::<Text>();
        json_schema!({
            "description": "A key that the message is found by, or several, which may hold templates.",
            "if": { "type": "array" },
            "then": { "items": key, "minItems": 1, "maxItems": KEYS_MAX },
            "else": key,
        })
    }
}

/// The texts that may hold templates, and which of the filled-in ones each is.
struct Filled {
    topic: Option<usize>,
    tag: Option<usize>,
    keys: Vec<Option<usize>>,
    group: Option<usize>,
    when: Option<usize>,
    templates: Templates,
}

impl RocketmqTarget {
    fn access(&self) -> Access<'_> {
        Access {
            url: &self.url,
            tls: self.tls.as_ref(),
            credentials: self.credentials.as_ref(),
            namespace: self.namespace.as_ref(),
        }
    }

    fn keys(&self) -> &[Text] {
        self.keys.as_ref().map_or(&[], |MessageKeys(keys)| keys)
    }

    /// What says when, with its setting.
    fn when(&self) -> Option<(&Text, &'static str)> {
        let delay = self.delay.as_ref().map(|text| (text, "delay"));
        delay.or(self.deliver_at.as_ref().map(|text| (text, "deliver_at")))
    }

    fn filled(&self) -> Filled {
        let mut templates = Templates::default();
        let mut note = |text: Option<&Text>, placement, at: &str| {
            text.and_then(|text| templates.note(text, placement, vec![at.into()]))
        };
        let topic = note(Some(&self.topic), Placement::Address, "topic");
        let tag = note(self.tag.as_ref(), Placement::Argument, "tag");
        let group = note(
            self.message_group.as_ref(),
            Placement::Address,
            "message_group",
        );
        let when = self.when();
        let when = when.and_then(|(text, at)| note(Some(text), Placement::Argument, at));
        let keys = self.keys().iter();
        let keys = keys.map(|key| note(Some(key), Placement::Argument, "keys"));
        Filled {
            topic,
            tag,
            keys: keys.collect(),
            group,
            when,
            templates,
        }
    }

    /// The mistakes in texts that are the same for every event.
    fn check_texts(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check =
            |text: Option<&Text>, at: &str, check: &dyn Fn(&str) -> Result<(), String>| {
                let literal = text.and_then(Text::literal);
                let literal = literal.filter(|text| !is_template(text));
                if let Some(Err(mistake)) = literal.map(check) {
                    problems.push(Problem::new(mistake).at(at));
                }
            };
        check(Some(&self.topic), "topic", &check_topic);
        check(self.tag.as_ref(), "tag", &|tag| Ok(check_tag(tag)?));
        let group = |group: &str| Ok(check_group(group)?);
        check(self.message_group.as_ref(), "message_group", &group);
        for key in self.keys() {
            check(Some(key), "keys", &|key| Ok(check_key(key)?));
        }
        let delay = |delay: &str| schedule::delay(delay).map(drop);
        check(self.delay.as_ref(), "delay", &delay);
        let time = |time: &str| check_time(time).map(drop);
        check(self.deliver_at.as_ref(), "deliver_at", &time);
        problems
    }

    fn sender(&self, allow_private_addresses: bool, names: Names) -> Result<Sender, OpenError> {
        let filled = self.filled();
        let open =
            |text: &Text, index, at: &'static str| Parameter::open(text, index, &[at.into()]);
        let topic = open(&self.topic, filled.topic, "topic")?;
        let access = self.access();
        let role = Role::Producer(match &topic {
            Parameter::Constant(topic) => Some(access.resource(topic.clone())?),
            Parameter::Filled(_) => None,
        });
        let tag = self.tag.as_ref();
        let tag = tag.map(|tag| open(tag, filled.tag, "tag")).transpose()?;
        let group = self.message_group.as_ref();
        let group = group.map(|group| open(group, filled.group, "message_group"));
        let when = self.when().map(|(text, at)| {
            let text = open(text, filled.when, at)?;
            Ok::<_, OpenError>(match at {
                "delay" => When::After(text),
                _ => When::At(text),
            })
        });
        let keys = self.keys().iter().zip(filled.keys);
        let keys = keys.map(|(key, index)| open(key, index, "keys"));
        let guard = Guard {
            allow_private_addresses,
        };
        let (settings, signer) = (self.clone(), access.signer()?);
        let place = move || settings.access().resolve(signer.clone());
        Ok(Sender {
            client: Client::open(place, role, guard, names)?,
            namespace: access.namespace()?,
            topic,
            tag,
            keys: keys.collect::<Result<_, OpenError>>()?,
            group: group.transpose()?,
            when: when.transpose()?,
            mode: self.mode,
            texts: filled.templates.count(),
        })
    }

    /// What is wrong with the type of a topic.
    fn check_type(&self, topic: &str, route: &QueryRouteResponse) -> Option<Problem> {
        let wanted = match (&self.message_group, self.when()) {
            (Some(_), _) => (MessageType::Fifo, "FIFO", "message_group"),
            (None, Some((_, at))) => (MessageType::Delay, "DELAY", at),
            (None, None) => (MessageType::Normal, "NORMAL", "topic"),
        };
        let (wanted, name, at) = wanted;
        let takes = |types: &[i32]| types.is_empty() || types.contains(&wanted.into());
        let queues = &route.message_queues;
        if queues.is_empty()
            || queues
                .iter()
                .any(|queue| takes(&queue.accept_message_types))
        {
            return None;
        }
        let help = "a FIFO topic needs message_group, a DELAY topic delay or deliver_at, and a \
                    NORMAL one none of them";
        let problem = Problem::new(format!(
            "the topic {topic} takes no messages of type {name}"
        ));
        Some(problem.help(help).at(at))
    }
}

#[async_trait]
impl TargetSettings for RocketmqTarget {
    fn files(&self) -> Files {
        self.access().server().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        problems.extend(self.check_texts());
        if self.keys.is_some() && !(1..=KEYS_MAX).contains(&self.keys().len()) {
            let mistake = format!("a message has 1 to {KEYS_MAX} keys");
            problems.push(Problem::new(mistake).at("keys"));
        }
        let ways = [
            (&self.delay, "delay"),
            (&self.deliver_at, "deliver_at"),
            (&self.message_group, "message_group"),
        ];
        let mut written = ways.iter().filter(|(text, _)| text.is_some());
        if let (Some((_, first)), Some((_, second))) = (written.next(), written.next()) {
            let mistake = format!("a message has {first} or {second}: no topic takes both");
            problems.push(Problem::new(mistake).at(*second));
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().templates.into_texts()
    }

    fn called(&self) -> Called {
        let topic = self.filled().topic;
        called([(&self.topic, topic)], |[topic]| format!("send to {topic}"))
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let sender = self.sender(true, Names::default())?;
        let client = &sender.client;
        let host = &client.host;
        let Parameter::Constant(topic) = &sender.topic else {
            client.session().await.map_err(Unanswered::problem)?;
            return Ok(format!(
                "RocketMQ at {host} takes connections; the topic depends on the event"
            ));
        };
        let request = QueryRouteRequest {
            topic: Some(Resource {
                resource_namespace: sender.namespace.clone(),
                name: topic.clone(),
            }),
            endpoints: Some(endpoints(host)),
        };
        let asked = client.ask("QueryRoute", &request, ANSWER_WITHIN).await;
        let route: QueryRouteResponse = asked.map_err(Unanswered::problem)?;
        let told = Refusal::check(route.status.as_ref());
        told.map_err(|refusal| OpenError(refusal.problem()))?;
        match self.check_type(topic, &route) {
            Some(problem) => Err(OpenError(problem)),
            None => Ok(format!("RocketMQ at {host} has the topic {topic}")),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let sender = Arc::new(self.sender(context.allow_private_addresses, context.names)?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let sender = Arc::clone(&sender);
                async move { sender.attempt(&attempt).await }
            },
        )))
    }
}
