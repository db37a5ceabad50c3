//! The settings of a target.

use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Placement, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::client::{Plan, leave};
use super::mapping::Mode;
use super::packet::Version;
use super::publisher::Publisher;
use super::settings::{PROTOCOL, check};
use super::topic::check_topic;
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::server::ServerSettings;
use crate::net::shared::SharedConnection;
use crate::net::stream::Host;
use crate::net::tls::TlsSettings;
use crate::parameter::{Parameter, Templates, called, is_template, resolve};
use crate::{Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// Publishes each event to a topic of an MQTT broker.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttTarget {
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
    /// The client identifier; one that is made up unless it is given. Nobody else connects with it.
    #[schemars(extend("minLength" = 1))]
    client_id: Option<Text>,
    /// The topic, which may hold templates.
    #[schemars(extend("minLength" = 1))]
    topic: Text,
    /// How the event is written: with MQTT 5 as properties and a payload (`binary`) unless it is
    /// given, with 3.1.1 as one JSON document (`structured`); or its data alone.
    mode: Option<Mode>,
    /// Whether the broker keeps the message for whoever subscribes later, in the place of the one
    /// that it kept of this topic before.
    #[serde(default)]
    retain: bool,
}

impl MqttTarget {
    fn server(&self) -> ServerSettings<'_> {
        ServerSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    /// The topic's index among the filled-in texts, and these.
    fn filled(&self) -> (Option<usize>, Templates) {
        let mut templates = Templates::default();
        let topic = templates.note(&self.topic, Placement::Address, vec!["topic".into()]);
        (topic, templates)
    }

    fn plan(&self) -> Result<Plan, OpenError> {
        let client_id = self.client_id.as_ref();
        let client_id = client_id.map(|id| resolve(id, &["client_id".into()]));
        let plan = Plan {
            server: self.server().resolve(&PROTOCOL)?,
            version: self.version,
            client_id: String::new(),
            is_clean: true,
            numbers: Vec::new(),
        }
        .passing();
        Ok(match client_id.transpose()? {
            Some(client_id) => Plan { client_id, ..plan },
            None => plan,
        })
    }

    fn publisher(
        &self,
        allow_private_addresses: bool,
        names: Names,
    ) -> Result<(Publisher, Host), OpenError> {
        let (topic, templates) = self.filled();
        let host = self.plan()?.server.host;
        let settings = self.clone();
        let mode = match self.version {
            Version::V3 => Mode::Structured,
            Version::V5 => Mode::Binary,
        };
        let publisher = Publisher {
            plan: Box::new(move || settings.plan()),
            guard: Guard {
                allow_private_addresses,
            },
            names,
            line: SharedConnection::default(),
            topic: Parameter::open(&self.topic, topic, &["topic".into()])?,
            mode: self.mode.unwrap_or(mode),
            retain: self.retain,
            texts: templates.count(),
        };
        Ok((publisher, host))
    }
}

#[async_trait]
impl TargetSettings for MqttTarget {
    fn files(&self) -> Files {
        self.server().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = check(&self.server(), self.version);
        if self.client_id.as_ref().and_then(Text::literal) == Some("") {
            let problem = Problem::new("a client identifier is not empty");
            problems.push(
                problem
                    .help("leave it out, and one is made up")
                    .at("client_id"),
            );
        }
        let topic = self.topic.literal().filter(|topic| !is_template(topic));
        if let Some(Err(mistake)) = topic.map(check_topic) {
            problems.push(Problem::new(mistake).at("topic"));
        }
        if self.mode == Some(Mode::Binary) && self.version == Version::V3 {
            let problem = Problem::new("messages of MQTT 3.1.1 have no properties");
            let help = "write mode: structured, or version: \"5\"";
            problems.push(problem.help(help).at("mode"));
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().1.into_texts()
    }

    fn called(&self) -> Called {
        let (topic, _) = self.filled();
        called([(&self.topic, topic)], |[topic]| {
            format!("publish to {topic}")
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        // Under an identifier of its own, or the broker would end the connection of the target.
        let looking = Self {
            client_id: None,
            ..self.clone()
        };
        let (publisher, host) = looking.publisher(true, Names::default())?;
        leave(publisher.connect().await?.wire).await;
        Ok(format!(
            "the MQTT broker at {host} takes connections; whether it takes messages shows the first"
        ))
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let (publisher, _) = self.publisher(context.allow_private_addresses, context.names)?;
        let publisher = Arc::new(publisher);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let publisher = Arc::clone(&publisher);
                async move { publisher.attempt(&attempt).await }
            },
        )))
    }
}
