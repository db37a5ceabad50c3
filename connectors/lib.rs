//! The outside systems: one folder each, with a source, a target, or both.
//!
//! A connector knows its system and the shapes of `pointsman-schemas`, and nothing else: no rules,
//! no journal. What it needs from the bus is handed to it when it opens. A new connector is a
//! folder and a line in [`CONNECTORS`].

#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "a test may tell a long story")
)]

mod alarms;
pub mod alibaba;
#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "sqs")]
pub mod aws;
mod body;
#[cfg(any(feature = "mysql-cdc", feature = "postgres-cdc"))]
mod cdc;
pub mod credential;
pub mod directory;
pub mod engine;
#[cfg(feature = "eventbridge")]
pub mod eventbridge;
pub mod exec;
mod existing;
pub mod file;
// What docs/develop/connectors.md writes.
#[cfg(test)]
#[path = "../docs/develop/feed/mod.rs"]
mod feed;
mod files;
pub mod function_compute;
mod hidden;
pub mod http;
#[cfg(any(feature = "amqp", feature = "mqtt"))]
mod in_hand;
mod inquiry;
pub mod journald;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "lambda")]
pub mod lambda;
mod leased;
mod leb128;
pub mod link;
pub mod listener;
mod log_limit;
pub mod mns;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "mysql-cdc")]
pub mod mysql_cdc;
#[cfg(feature = "nats")]
pub mod nats;
pub mod net;
#[cfg(feature = "object-storage")]
pub mod object_storage;
mod parameter;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "postgres-cdc")]
pub mod postgres_cdc;
mod printer;
mod process;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
mod readable;
#[cfg(feature = "redis")]
pub mod redis;
mod replaced;
mod requests;
mod reread;
#[cfg(feature = "rocketmq")]
pub mod rocketmq;
mod rows;
#[cfg(feature = "smtp")]
pub mod smtp;
#[cfg(feature = "sns")]
pub mod sns;
pub mod source;
#[cfg(feature = "sqs")]
pub mod sqs;
pub mod stdout;
mod structured;
#[cfg(test)]
mod suite;
pub mod syslog;
pub mod target;
#[cfg(test)]
mod tests;
mod texts;
pub mod timer;
mod trace;
mod tracked;
mod verdict;
pub mod webhook;
mod xml;

use pointsman_schemas::Problem;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

pub use alarms::Alarms;
pub use files::Files;
pub use inquiry::{Ends, Inquiry, Made, MadeEvent, Task, TaskStatus};
pub use link::{Link, LinkStatus, SourceState};
pub use log_limit::{LOG_EVERY, LogLimit};
pub use source::{
    Acknowledgement, Arrival, Batch, Firings, Guarantee, Message, Plain, RunsOn, Source,
    SourceContext, SourceError, SourceSettings, StoredPositions,
};
pub use target::{
    Attempt, AttemptEnd, AttemptError, Called, Delivery, FilledCall, TargetContext, TargetService,
    TargetSettings,
};
pub use verdict::Verdict;

/// One kind of outside system, as the rule file names it.
#[derive(Debug)]
pub struct Connector {
    /// The key in the rule file: `timer` in `{ timer: { every: 30s } }`.
    pub kind: &'static str,
    /// What people type instead, for suggestions.
    pub also_known_as: &'static [&'static str],
    /// Whether it can be a source, and how one is made of it.
    pub source: Support<dyn SourceSettings>,
    /// Whether it can be a target, and how one is made of it.
    pub target: Support<dyn TargetSettings>,
}

/// Whether a connector can be a source, or a target, in this build.
#[derive(Debug)]
pub enum Support<S: ?Sized + 'static> {
    /// It never can.
    Never,
    /// It can where the cargo feature that is named as the connector is on, which it is not here.
    LeftOut,
    /// It can.
    Built(Kind<S>),
}

impl<S: ?Sized> Support<S> {
    /// Whether it can in any build.
    #[must_use]
    pub fn exists(&self) -> bool {
        !matches!(self, Self::Never)
    }

    /// How it is made, where it can be in this build.
    #[must_use]
    pub fn built(&self) -> Option<&Kind<S>> {
        match self {
            Self::Built(kind) => Some(kind),
            Self::Never | Self::LeftOut => None,
        }
    }
}

/// How the settings of one side of a connector are read.
#[derive(Debug)]
pub struct Kind<S: ?Sized + 'static> {
    /// The JSON Schema of the settings.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Reads the settings.
    pub parse: fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<S>, erased_serde::Error>,
}

impl Support<dyn SourceSettings> {
    /// The source whose settings are `S`.
    const fn source<S: SourceSettings + DeserializeOwned + JsonSchema + 'static>() -> Self {
        Self::Built(Kind {
            schema: S::json_schema,
            parse: |from| Ok(Box::new(erased_serde::deserialize::<S>(from)?)),
        })
    }
}

impl Support<dyn TargetSettings> {
    /// The target whose settings are `S`.
    const fn target<S: TargetSettings + DeserializeOwned + JsonSchema + 'static>() -> Self {
        Self::Built(Kind {
            schema: S::json_schema,
            parse: |from| Ok(Box::new(erased_serde::deserialize::<S>(from)?)),
        })
    }
}

/// The support of a connector that is behind a cargo feature.
macro_rules! with_feature {
    ($feature:literal, $support:expr) => {{
        #[cfg(feature = $feature)]
        {
            $support
        }
        #[cfg(not(feature = $feature))]
        {
            Support::LeftOut
        }
    }};
}

/// Every connector there is.
pub const CONNECTORS: &[Connector] = &[
    Connector {
        kind: "amqp",
        also_known_as: &[
            "amqp1",
            "amqp-1.0",
            "artemis",
            "activemq",
            "service-bus",
            "servicebus",
            "azure-service-bus",
            "qpid",
        ],
        source: with_feature!("amqp", Support::source::<amqp::AmqpSource>()),
        target: with_feature!("amqp", Support::target::<amqp::AmqpTarget>()),
    },
    Connector {
        kind: "directory",
        also_known_as: &["folder", "files", "dir"],
        source: Support::source::<directory::DirectorySource>(),
        target: Support::Never,
    },
    Connector {
        kind: "discord",
        also_known_as: &[],
        source: Support::Never,
        target: Support::target::<http::DiscordTarget>(),
    },
    Connector {
        kind: "eventbridge",
        also_known_as: &["aws-eventbridge", "event-bridge", "cloudwatch-events"],
        source: Support::Never,
        target: with_feature!(
            "eventbridge",
            Support::target::<eventbridge::EventbridgeTarget>()
        ),
    },
    Connector {
        kind: "exec",
        also_known_as: &["command", "process", "shell"],
        source: Support::source::<exec::ExecSource>(),
        target: Support::target::<exec::ExecTarget>(),
    },
    Connector {
        kind: "file",
        also_known_as: &["log", "logs", "log-file", "log-files", "filestream", "tail"],
        source: Support::source::<file::FileSource>(),
        target: Support::target::<file::FileTarget>(),
    },
    Connector {
        kind: "function-compute",
        also_known_as: &["fc", "aliyun-fc", "alibaba-fc"],
        source: Support::Never,
        target: Support::target::<function_compute::FunctionComputeTarget>(),
    },
    Connector {
        kind: "http",
        also_known_as: &["https", "url"],
        source: Support::Never,
        target: Support::target::<http::HttpTarget>(),
    },
    Connector {
        kind: "journald",
        also_known_as: &["journal", "journalctl", "systemd"],
        source: Support::source::<journald::JournaldSource>(),
        target: Support::Never,
    },
    Connector {
        kind: "kafka",
        also_known_as: &["apache-kafka", "redpanda", "msk"],
        source: with_feature!("kafka", Support::source::<kafka::KafkaSource>()),
        target: with_feature!("kafka", Support::target::<kafka::KafkaTarget>()),
    },
    Connector {
        kind: "lambda",
        also_known_as: &["aws-lambda", "awslambda"],
        source: Support::Never,
        target: with_feature!("lambda", Support::target::<lambda::LambdaTarget>()),
    },
    Connector {
        kind: "mns",
        also_known_as: &["aliyun-mns", "alibaba-mns", "smq", "simple-message-queue"],
        source: Support::source::<mns::MnsSource>(),
        target: Support::target::<mns::MnsTarget>(),
    },
    Connector {
        kind: "mqtt",
        also_known_as: &["mqtts", "mosquitto", "emqx", "hivemq", "mqtt5"],
        source: with_feature!("mqtt", Support::source::<mqtt::MqttSource>()),
        target: with_feature!("mqtt", Support::target::<mqtt::MqttTarget>()),
    },
    Connector {
        kind: "mysql-cdc",
        also_known_as: &["mysql", "mariadb", "binlog", "maxwell", "canal"],
        source: with_feature!("mysql-cdc", Support::source::<mysql_cdc::MysqlCdcSource>()),
        target: Support::Never,
    },
    Connector {
        kind: "nats",
        also_known_as: &["jetstream", "nats-streaming"],
        source: with_feature!("nats", Support::source::<nats::NatsSource>()),
        target: with_feature!("nats", Support::target::<nats::NatsTarget>()),
    },
    Connector {
        kind: "object-storage",
        also_known_as: &["s3", "minio", "ceph", "oss", "bucket"],
        source: with_feature!(
            "object-storage",
            Support::source::<object_storage::ObjectStorageSource>()
        ),
        target: with_feature!(
            "object-storage",
            Support::target::<object_storage::ObjectStorageTarget>()
        ),
    },
    Connector {
        kind: "pagerduty",
        also_known_as: &["pager-duty"],
        source: Support::Never,
        target: Support::target::<http::PagerdutyTarget>(),
    },
    Connector {
        kind: "postgres",
        also_known_as: &["postgresql", "pg", "pgsql", "outbox"],
        source: with_feature!("postgres", Support::source::<postgres::PostgresSource>()),
        target: with_feature!("postgres", Support::target::<postgres::PostgresTarget>()),
    },
    Connector {
        kind: "postgres-cdc",
        also_known_as: &["cdc", "debezium", "pgoutput", "logical-replication"],
        source: with_feature!(
            "postgres-cdc",
            Support::source::<postgres_cdc::PostgresCdcSource>()
        ),
        target: Support::Never,
    },
    Connector {
        kind: "rabbitmq",
        also_known_as: &["rabbit", "amqp091", "amqp-0.9.1", "lapin"],
        source: with_feature!("rabbitmq", Support::source::<rabbitmq::RabbitmqSource>()),
        target: with_feature!("rabbitmq", Support::target::<rabbitmq::RabbitmqTarget>()),
    },
    Connector {
        kind: "redis",
        also_known_as: &["valkey", "redis-streams", "redis-stream", "rediss"],
        source: with_feature!("redis", Support::source::<redis::RedisSource>()),
        target: with_feature!("redis", Support::target::<redis::RedisTarget>()),
    },
    Connector {
        kind: "rocketmq",
        also_known_as: &["apache-rocketmq", "rocket-mq", "rmq", "ons"],
        source: with_feature!("rocketmq", Support::source::<rocketmq::RocketmqSource>()),
        target: with_feature!("rocketmq", Support::target::<rocketmq::RocketmqTarget>()),
    },
    Connector {
        kind: "slack",
        also_known_as: &[],
        source: Support::Never,
        target: Support::target::<http::SlackTarget>(),
    },
    Connector {
        kind: "smtp",
        also_known_as: &["email", "mail", "e-mail", "sendmail"],
        source: Support::Never,
        target: with_feature!("smtp", Support::target::<smtp::SmtpTarget>()),
    },
    Connector {
        kind: "sns",
        also_known_as: &["aws-sns", "amazon-sns"],
        source: Support::Never,
        target: with_feature!("sns", Support::target::<sns::SnsTarget>()),
    },
    Connector {
        kind: "sqs",
        also_known_as: &["aws-sqs", "amazon-sqs", "elasticmq"],
        source: with_feature!("sqs", Support::source::<sqs::SqsSource>()),
        target: with_feature!("sqs", Support::target::<sqs::SqsTarget>()),
    },
    Connector {
        kind: "stdout",
        also_known_as: &["console", "print"],
        source: Support::Never,
        target: Support::target::<stdout::StdoutTarget>(),
    },
    Connector {
        kind: "syslog",
        also_known_as: &["rsyslog", "syslog-ng", "syslogd"],
        source: Support::source::<syslog::SyslogSource>(),
        target: Support::Never,
    },
    Connector {
        kind: "teams",
        also_known_as: &["msteams", "ms-teams", "microsoft-teams"],
        source: Support::Never,
        target: Support::target::<http::TeamsTarget>(),
    },
    Connector {
        kind: "timer",
        also_known_as: &["cron", "schedule", "interval"],
        source: Support::source::<timer::TimerSource>(),
        target: Support::Never,
    },
    Connector {
        kind: "webhook",
        also_known_as: &["hook", "hooks", "webhooks"],
        source: Support::source::<webhook::Webhook>(),
        target: Support::Never,
    },
];

/// The connector of a kind.
#[must_use]
pub fn connector(kind: &str) -> Option<&'static Connector> {
    CONNECTORS.iter().find(|connector| connector.kind == kind)
}

/// A source or target cannot be opened: a variable is missing, an address cannot be bound, a file
/// cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub Problem);
