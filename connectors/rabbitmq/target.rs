//! The settings of a target.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use pointsman_schemas::{Interval, Placement, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::connection::{Address, answer, short};
use super::declare::ExchangeType;
use super::error::BrokerError;
use super::mapping::MessageMode;
use super::publish::{Publisher, SharedConnection};
use super::settings::{ConnectionSettings, TlsSettings};
use crate::net::guard::Guard;
use crate::parameter::{Parameter, Templates, called, is_template, resolve};
use crate::{Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// Publishes to an exchange of RabbitMQ.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RabbitmqTarget {
    /// The server: `amqp://127.0.0.1:5672`, or `amqps://…`; a vhost may stand behind it.
    #[schemars(extend("pattern" = "^amqps?://", "examples" = ["amqp://127.0.0.1:5672"]))]
    url: Text,
    /// The user; `guest` unless it is given, and where there is a client certificate the one that
    /// this names.
    username: Option<Text>,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// The virtual host, where the URL does not name one; `/` by default.
    vhost: Option<String>,
    /// How often the two sides tell that they live; 15s unless it is given.
    heartbeat: Option<Interval>,
    /// Certificates, for `amqps`.
    tls: Option<TlsSettings>,
    /// The exchange; the default one unless it is given, which takes the routing key for a queue's
    /// name. It may hold templates.
    #[serde(default = "empty")]
    exchange: Text,
    /// The routing key, which may hold templates.
    #[serde(default = "empty")]
    routing_key: Text,
    /// How the event is written: as headers and body, as one JSON document, or its data alone.
    #[serde(default)]
    mode: MessageMode,
    /// Whether messages outlive a restart of the server.
    #[serde(default = "yes")]
    persistent: bool,
    /// Whether a message that reaches no queue is a failure.
    #[serde(default = "yes")]
    mandatory: bool,
    /// An exchange to declare, which is not done unless this is given.
    declare: Option<DeclareExchange>,
}

/// What kind of exchange is declared: a durable one, taken as it is where it is the same.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclareExchange {
    /// By what it tells where messages go.
    #[serde(rename = "type")]
    kind: ExchangeType,
}

fn empty() -> Text {
    "".into()
}

fn yes() -> bool {
    true
}

/// The texts that may hold templates, and which of the filled-in ones each is.
struct TemplateParameters {
    exchange: Option<usize>,
    routing_key: Option<usize>,
    templates: Templates,
}

impl RabbitmqTarget {
    fn access(&self) -> ConnectionSettings<'_> {
        ConnectionSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            vhost: self.vhost.as_deref(),
            heartbeat: self.heartbeat,
            tls: self.tls.as_ref(),
        }
    }

    /// Reads the address once, to find what is missing, and again for each connection.
    fn address(
        &self,
        client: String,
        guard: Guard,
    ) -> Result<Box<dyn Fn() -> Result<Address, OpenError> + Send + Sync>, OpenError> {
        self.access().resolve(client.clone(), guard)?;
        let settings = self.clone();
        Ok(Box::new(move || {
            settings.access().resolve(client.clone(), guard)
        }))
    }

    fn filled(&self) -> TemplateParameters {
        let mut templates = Templates::default();
        let exchange = templates.note(&self.exchange, Placement::Address, vec!["exchange".into()]);
        let routing_key = templates.note(
            &self.routing_key,
            Placement::Address,
            vec!["routing_key".into()],
        );
        TemplateParameters {
            exchange,
            routing_key,
            templates,
        }
    }

    fn publisher(&self, client: String, guard: Guard) -> Result<Publisher, OpenError> {
        let TemplateParameters {
            exchange,
            routing_key,
            templates,
        } = self.filled();
        let parameter = |text: &Text, index: Option<usize>, key: &str| match index {
            Some(index) => Ok(Parameter::Filled(index)),
            None => constant(text, key).map(Parameter::Constant),
        };
        let declare = match &self.declare {
            Some(declare) => Some((resolve(&self.exchange, &["exchange".into()])?, declare.kind)),
            None => None,
        };
        Ok(Publisher {
            address: self.address(client, guard)?,
            exchange: parameter(&self.exchange, exchange, "exchange")?,
            routing_key: parameter(&self.routing_key, routing_key, "routing_key")?,
            texts: templates.count(),
            mode: self.mode,
            persistent: self.persistent,
            mandatory: self.mandatory,
            declare,
            connection: SharedConnection::of(self.access().files()).into(),
        })
    }
}

fn constant(text: &Text, key: &str) -> Result<ShortString, OpenError> {
    let text = resolve(text, &[key.into()])?;
    short("the text", &text).map_err(|mistake| OpenError(Problem::new(mistake).at(key)))
}

#[async_trait]
impl TargetSettings for RabbitmqTarget {
    fn files(&self) -> Files {
        self.access().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        if self.exchange.literal() == Some("") && self.routing_key.literal() == Some("") {
            problems.push(
                Problem::new("name an exchange, or a queue as the routing key").at("routing_key"),
            );
        }
        for (key, text) in [
            ("exchange", &self.exchange),
            ("routing_key", &self.routing_key),
        ] {
            if text
                .literal()
                .is_some_and(|text| !is_template(text) && text.len() > 255)
            {
                problems.push(Problem::new("at most 255 bytes fit into a message").at(key));
            }
        }
        if self.declare.is_some()
            && self
                .exchange
                .literal()
                .is_some_and(|exchange| exchange.is_empty() || is_template(exchange))
        {
            problems
                .push(Problem::new("only an exchange that is named can be declared").at("declare"));
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().templates.into_texts()
    }

    fn called(&self) -> Called {
        let TemplateParameters {
            exchange,
            routing_key,
            ..
        } = self.filled();
        let texts = [(&self.exchange, exchange), (&self.routing_key, routing_key)];
        called(texts, |[exchange, key]| match exchange {
            "" => format!("publish to queue {key}"),
            _ => format!("publish to {exchange} {key}"),
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let publisher = self.publisher(
            "pointsman check".into(),
            Guard {
                allow_private_addresses: true,
            },
        )?;
        let address = (publisher.address)()?;
        let connection = address
            .connect()
            .await
            .map_err(|broken| broken.problem("username"))?;
        let channel = answer("cannot open a channel", connection.create_channel())
            .await
            .map_err(|broken| broken.problem("url"))?;
        let found = match (&publisher.exchange, &publisher.routing_key) {
            (Parameter::Constant(exchange), Parameter::Constant(queue))
                if exchange.as_str().is_empty() =>
            {
                let passive = channel.queue_declare(
                    queue.clone(),
                    QueueDeclareOptions::default().passive(),
                    FieldTable::default(),
                );
                let doing = format!("cannot look at the queue {queue}");
                let queue = answer(&doing, passive)
                    .await
                    .map_err(|broken| wanting(broken, "routing_key", "make it, or name another"))?;
                format!(
                    "the queue {} holds {} messages",
                    queue.name(),
                    queue.message_count()
                )
            }
            (Parameter::Constant(exchange), _) if self.declare.is_some() => {
                format!("the exchange {exchange} is declared at the first event")
            }
            (Parameter::Constant(exchange), _) if !exchange.as_str().is_empty() => {
                let options = ExchangeDeclareOptions {
                    passive: true,
                    ..ExchangeDeclareOptions::default()
                };
                let passive = channel.exchange_declare(
                    exchange.clone(),
                    ExchangeKind::Direct,
                    options,
                    FieldTable::default(),
                );
                let doing = format!("cannot look at the exchange {exchange}");
                let missing = "make it, or write declare: { type: topic } to have it made";
                answer(&doing, passive)
                    .await
                    .map_err(|broken| wanting(broken, "exchange", missing))?;
                format!("the exchange {exchange} is there")
            }
            _ => "where messages go depends on the event".to_owned(),
        };
        Ok(format!(
            "{}: {found}",
            address.describe(address.greeting().await.as_ref())
        ))
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let guard = Guard {
            allow_private_addresses: context.allow_private_addresses,
        };
        let publisher = Arc::new(self.publisher(
            format!("pointsman {}/{}", context.tenant, context.name),
            guard,
        )?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let publisher = Arc::clone(&publisher);
                async move { publisher.attempt(&attempt).await }
            },
        )))
    }
}

/// As [`BrokerError::problem`], with what to do where the thing is not there.
fn wanting(broken: BrokerError, at: &str, make: &str) -> OpenError {
    let is_missing = broken.code == Some(404);
    let OpenError(problem) = broken.problem(at);
    OpenError(if is_missing {
        problem.help(make)
    } else {
        problem
    })
}
