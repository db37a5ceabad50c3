//! A source's settings, and what of them is said by them alone.

use std::str::FromStr;
use std::sync::Arc;

use lapin::types::ShortString;
use pointsman_schemas::{Class, Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::OpenError;
use crate::net::guard::Guard;
use crate::parameter::resolve;
use crate::rabbitmq::connection::{Address, short};
use crate::rabbitmq::declare::{DeclareQueue, QueueType};
use crate::rabbitmq::error::BrokerError;
use crate::rabbitmq::fault::Advice;
use crate::rabbitmq::queue_info::QueueInfo;
use crate::rabbitmq::settings::{ConnectionSettings, TlsSettings};

/// Reads a queue of RabbitMQ.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RabbitmqSource {
    /// The server: `amqp://127.0.0.1:5672`, or `amqps://…`; a vhost may stand behind it.
    #[schemars(extend("pattern" = "^amqps?://", "examples" = ["amqp://127.0.0.1:5672"]))]
    pub(super) url: Text,
    /// The user; `guest` unless it is given, and where there is a client certificate the one that
    /// this names.
    pub(super) username: Option<Text>,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    pub(super) password: Option<Text>,
    /// The virtual host, where the URL does not name one; `/` by default.
    pub(super) vhost: Option<String>,
    /// How often the two sides tell that they live; 15s unless it is given.
    pub(super) heartbeat: Option<Interval>,
    /// Certificates, for `amqps`.
    pub(super) tls: Option<TlsSettings>,
    /// The queue.
    #[schemars(extend("minLength" = 1))]
    pub(super) queue: Text,
    /// How many messages may be in hand, handed over and not yet acknowledged.
    #[serde(default = "prefetch")]
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) prefetch: u16,
    /// Says that the queue is a stream, and where to begin at the very first start: `first`,
    /// `last`, `next`, or a time.
    pub(super) offset: Option<Offset>,
    /// Whether publishers never use a message's id twice, so that a message that comes again can be
    /// known by it.
    #[serde(default)]
    pub(super) deduplicate: bool,
    /// How long a pipe holds a message whose target does not take it before that waits in the
    /// journal; 10m unless it is given. It must be below the server's `consumer_timeout`.
    pub(super) hold: Option<Interval>,
    /// A queue to declare, which is not done unless this is given.
    pub(super) declare: Option<DeclareQueue>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) queue_info: Arc<QueueInfo>,
}

fn prefetch() -> u16 {
    500
}

/// Where to begin in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum Offset {
    /// With the oldest message that there is.
    First,
    /// With the youngest chunk that there is.
    Last,
    /// With what is published from now on.
    Next,
    /// With what was published at this time, in seconds since 1970.
    Time(u64),
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = || {
            text.parse::<jiff::Timestamp>()
                .ok()
                .and_then(|time| u64::try_from(time.as_second()).ok())
        };
        Ok(match text {
            "first" => Self::First,
            "last" => Self::Last,
            "next" => Self::Next,
            _ => Self::Time(time().ok_or_else(|| {
                format!("{text:?} is not first, last, next or a time such as 2026-01-31T09:30:00Z")
            })?),
        })
    }
}

impl TryFrom<String> for Offset {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl RabbitmqSource {
    pub(super) fn access(&self) -> ConnectionSettings<'_> {
        ConnectionSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            vhost: self.vhost.as_deref(),
            heartbeat: self.heartbeat,
            tls: self.tls.as_ref(),
        }
    }

    pub(in crate::rabbitmq) fn resolved(
        &self,
        client: String,
    ) -> Result<(Address, ShortString), OpenError> {
        // A source's address is the operator's own: no event takes part in it.
        let address = self.access().resolve(
            client,
            Guard {
                allow_private_addresses: true,
            },
        )?;
        let queue = resolve(&self.queue, &["queue".into()])?;
        let queue = short("the queue's name", &queue)
            .map_err(|mistake| OpenError(Problem::new(mistake).at("queue")))?;
        Ok((address, queue))
    }

    /// What it declares.
    #[cfg(test)]
    pub(in crate::rabbitmq) fn declaration(&self) -> &DeclareQueue {
        self.declare.as_ref().unwrap()
    }

    /// What is wrong with reading a queue of this type by these settings.
    pub(super) fn unfit(
        &self,
        kind: Option<QueueType>,
        queue: &ShortString,
    ) -> Option<BrokerError> {
        let kind = kind?;
        let declared = self.declare.as_ref().map(|declare| declare.kind);
        let (at, what, help) = match (kind, &self.offset) {
            _ if declared.is_some_and(|declared| declared != kind) => (
                "declare",
                "which is another type than declared",
                "write under declare what it is, or delete it",
            ),
            (QueueType::Stream, None) => (
                "offset",
                "which is read from a place in it",
                "say where to begin: offset: first, last, next or a time",
            ),
            (QueueType::Classic | QueueType::Quorum, Some(_)) => (
                "offset",
                "and only streams have offsets",
                "leave offset out",
            ),
            _ => return None,
        };
        Some(BrokerError {
            class: Class::Rejected,
            code: None,
            message: format!("cannot read the queue {queue}: it is a {kind}, {what}"),
            advice: Some(Advice {
                at: Some(at),
                what: None,
                help,
            }),
        })
    }
}
