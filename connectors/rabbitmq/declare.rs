//! What is declared at the server, where the settings ask for it.

use std::fmt;

use indexmap::IndexMap;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ExchangeKind};
use pointsman_schemas::{Class, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use super::connection::{answer, short};
use super::error::BrokerError;
use super::greeting::Version;
use super::queue::{DEFAULT_SINCE, DELIVERY_LIMIT, Difference, QueueFacts};

/// A queue to declare: made where it is missing, taken as it is where it is the same, an error
/// where it is another.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclareQueue {
    /// What kind of queue it is.
    #[serde(default, rename = "type")]
    pub(super) kind: QueueType,
    /// Whether it outlives a restart of the server.
    durable: Option<bool>,
    /// Further arguments, such as `x-max-length` or `x-dead-letter-exchange`.
    #[serde(default)]
    arguments: IndexMap<String, Argument>,
    /// From which exchanges it gets messages.
    #[serde(default)]
    bindings: Vec<Binding>,
}

/// The types of queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    /// On one node.
    #[default]
    Classic,
    /// Replicated.
    Quorum,
    /// A log that is read without being used up.
    Stream,
}

impl fmt::Display for QueueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic queue",
            Self::Quorum => "quorum queue",
            Self::Stream => "stream",
        })
    }
}

/// A queue's way of getting messages.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Binding {
    /// The exchange.
    exchange: String,
    /// Which messages of it, as its type understands that.
    #[serde(default)]
    routing_key: String,
    /// Where it is given, the exchange is declared, too: durable, and of this type.
    #[serde(rename = "type")]
    kind: Option<ExchangeType>,
    /// Arguments of the binding, for exchanges of type headers.
    #[serde(default)]
    arguments: IndexMap<String, Argument>,
}

/// The types of exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeType {
    /// By the whole routing key.
    Direct,
    /// To every queue.
    Fanout,
    /// By a pattern over the routing key.
    Topic,
    /// By headers.
    Headers,
}

/// An argument's value.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Argument {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

impl DeclareQueue {
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.kind != QueueType::Classic && self.durable == Some(false) {
            problems
                .push(Problem::new("quorum queues and streams are always durable").at("durable"));
        }
        if self.arguments.contains_key("x-queue-type") {
            problems.push(
                Problem::new("this is what `type` says")
                    .key()
                    .at("x-queue-type")
                    .at("arguments"),
            );
        }
        for (index, binding) in self.bindings.iter().enumerate() {
            if binding.exchange.is_empty() {
                let problem = Problem::new(
                    "every queue is bound to the default exchange already, under its name",
                );
                problems.push(problem.at("exchange").at(index).at("bindings"));
            }
        }
        problems
    }

    /// Declares the queue and its bindings.
    ///
    /// A quorum queue is declared without a delivery limit unless the arguments set one: where the
    /// server has one by default (4.0 and later) by a negative one, which means none there and the
    /// reverse before that. One that is there with another limit is taken as it is.
    pub(super) async fn declare(
        &self,
        connection: &Connection,
        queue: &str,
        version: Option<Version>,
    ) -> Result<QueueFacts, BrokerError> {
        let limit = self.arguments.get(DELIVERY_LIMIT);
        let mut argument = match limit {
            Some(Argument::Number(limit)) => Some(*limit),
            Some(_) => None,
            None => (version >= Some(DEFAULT_SINCE)).then_some(-1),
        };
        if version.is_some_and(|version| version < DEFAULT_SINCE)
            && argument.is_some_and(i64::is_negative)
        {
            argument = None;
        }
        let channel = answer("cannot open a channel", connection.create_channel()).await?;
        match self.declare_with(&channel, queue, argument).await {
            Err(broken)
                if limit.is_none()
                    && broken.code == Some(406)
                    && broken.message.contains(DELIVERY_LIMIT) =>
            {
                let channel = answer("cannot open a channel", connection.create_channel()).await?;
                let text = broken
                    .message
                    .rsplit_once(" (code")
                    .map_or(&*broken.message, |(text, _)| text);
                let found = Difference::read(text)
                    .and_then(|found| found.value)
                    .and_then(|(_, value)| value.parse().ok());
                self.declare_with(&channel, queue, found).await?;
                argument = found;
            }
            declared => declared?,
        }
        Ok(match self.kind {
            QueueType::Quorum => QueueFacts::quorum(argument, version),
            kind => QueueFacts {
                kind: Some(kind),
                ..QueueFacts::default()
            },
        })
    }

    async fn declare_with(
        &self,
        channel: &Channel,
        queue: &str,
        limit: Option<i64>,
    ) -> Result<(), BrokerError> {
        let name = |what: &str, text: &str| short(what, text).map_err(rejected);
        let mut wanted = self.arguments.clone();
        if self.kind == QueueType::Quorum
            && matches!(wanted.get(DELIVERY_LIMIT), None | Some(Argument::Number(_)))
        {
            wanted.shift_remove(DELIVERY_LIMIT);
            wanted.extend(limit.map(|limit| (DELIVERY_LIMIT.to_owned(), Argument::Number(limit))));
        }
        let mut arguments = table(&wanted)?;
        let kind = match self.kind {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
            QueueType::Stream => "stream",
        };
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString(LongString::from(kind)),
        );
        let options = QueueDeclareOptions {
            durable: self.durable.unwrap_or(true),
            ..QueueDeclareOptions::default()
        };
        let queue_name = name("the queue's name", queue)?;
        answer(
            &format!("cannot declare the queue {queue}"),
            channel.queue_declare(queue_name.clone(), options, arguments),
        )
        .await?;
        for binding in &self.bindings {
            let exchange = name("an exchange's name", &binding.exchange)?;
            if let Some(kind) = binding.kind {
                declare_exchange(channel, &binding.exchange, kind).await?;
            }
            let key = name("a routing key", &binding.routing_key)?;
            let doing = format!(
                "cannot bind the queue {queue} to the exchange {}",
                binding.exchange
            );
            let bound = channel.queue_bind(
                queue_name.clone(),
                exchange,
                key,
                QueueBindOptions::default(),
                table(&binding.arguments)?,
            );
            answer(&doing, bound).await?;
        }
        Ok(())
    }
}

/// Declares a durable exchange.
pub(super) async fn declare_exchange(
    channel: &Channel,
    exchange: &str,
    kind: ExchangeType,
) -> Result<(), BrokerError> {
    let kind = match kind {
        ExchangeType::Direct => ExchangeKind::Direct,
        ExchangeType::Fanout => ExchangeKind::Fanout,
        ExchangeType::Topic => ExchangeKind::Topic,
        ExchangeType::Headers => ExchangeKind::Headers,
    };
    let name = short("the exchange's name", exchange).map_err(rejected)?;
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    answer(
        &format!("cannot declare the exchange {exchange}"),
        channel.exchange_declare(name, kind, options, FieldTable::default()),
    )
    .await
}

fn rejected(message: String) -> BrokerError {
    BrokerError {
        class: Class::Rejected,
        code: None,
        message,
        advice: None,
    }
}

fn table(arguments: &IndexMap<String, Argument>) -> Result<FieldTable, BrokerError> {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Boolean(value) => AMQPValue::Boolean(*value),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
            Argument::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        };
        table.insert(short("an argument's name", name).map_err(rejected)?, value);
    }
    Ok(table)
}
