//! The connection to a cluster, made within a time limit, and what its errors mean.

use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::time::Duration;

use krafka::auth::AuthConfig;
use krafka::error::ErrorCode;
use krafka::{Kafka, KrafkaError};
use pointsman_schemas::Problem;
use tokio::time::timeout;

use crate::OpenError;
use crate::net::fault::{self, Advice};

/// How long one broker may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a broker may take for an answer, besides what it is asked to wait for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a question may take with everything that leads to its answer: the name, the login, the
/// broker that knows.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How often what the client knows of brokers and partitions is asked anew.
const METADATA_EVERY: Duration = Duration::from_secs(30);

/// The largest answer that is read: more than any broker gives out for what is asked for here,
/// unless it holds a message that is larger than that.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What a connection is made of. It holds secrets and shows none.
pub(super) struct Cluster {
    /// With commas between them.
    pub(super) brokers: String,
    pub(super) security: AuthConfig,
    /// What the client calls itself.
    pub(super) client: String,
    pub(super) is_secure: bool,
    pub(super) shows_certificate: bool,
}

/// Why something cannot be done.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) message: String,
    /// What to do, and at which setting.
    advice: Option<Advice>,
    error: Option<KrafkaError>,
}

impl Cluster {
    /// Connects, logs in, and learns of the brokers. From then on the client connects again by
    /// itself.
    pub(super) async fn connect(&self) -> Result<Kafka, Broken> {
        let connecting = Kafka::builder(&self.brokers)
            .client_id(&self.client)
            .security(self.security.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .request_timeout(REQUEST_TIMEOUT)
            .metadata_max_age(METADATA_EVERY)
            .metadata_recovery_rebootstrap_trigger(METADATA_EVERY)
            .max_response_size(ANSWER_BYTES_MAX)
            .connect();
        let doing = format!("cannot connect to Kafka at {}", self.brokers);
        self.answer(&doing, connecting).await
    }

    /// Waits for an answer, but not for ever.
    pub(super) async fn answer<T>(
        &self,
        doing: &str,
        call: impl Future<Output = krafka::Result<T>>,
    ) -> Result<T, Broken> {
        match timeout(ANSWER_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| self.broken(doing, error)),
            Err(_) => Err(Broken {
                message: format!("{doing}: no answer within {} s", ANSWER_TIMEOUT.as_secs()),
                advice: None,
                error: None,
            }),
        }
    }

    /// What an error means here.
    pub(super) fn broken(&self, doing: &str, error: KrafkaError) -> Broken {
        let words = words(&error);
        let advice = self.advice(&words);
        let message = match &advice {
            Some(advice) => format!("{doing}: {} ({words})", advice.what),
            None => format!("{doing}: {words}"),
        };
        Broken {
            message,
            advice,
            error: Some(error),
        }
    }

    fn advice(&self, words: &str) -> Option<Advice> {
        /// What a client without TLS makes of an alert of TLS, or of anything else.
        const NOT_KAFKA: [&str; 2] = [
            "Invalid pre-authentication response length",
            "protocol error (InvalidLength): message size",
        ];
        const CLIENTS: &str = "name the port of the listener that clients use";
        const CLIENTS_OR_TLS: &str =
            "name the port of the listener that clients use, and write tls: {} where it speaks TLS";
        let closed = if self.is_secure {
            CLIENTS
        } else {
            CLIENTS_OR_TLS
        };
        if NOT_KAFKA.iter().any(|part| words.contains(part)) {
            return Some(Advice {
                at: "brokers",
                what: "what listens there does not answer as Kafka does".to_owned(),
                help: closed,
            });
        }
        let settings = fault::Settings {
            url: "brokers",
            tls: "tls",
            trust: "write tls: { ca: { file: … } } with the certificate of that authority",
            no_tls: "leave tls out, or name the port that speaks it",
            closed,
        };
        fault::advice(words, &settings, self.shows_certificate)
    }
}

impl Cluster {
    /// Why a topic cannot be looked at, by the setting that names it.
    pub(super) fn topic_problem(&self, topic: &str, error: KrafkaError, at: &str) -> OpenError {
        if is_unknown_topic(&error) {
            let problem = Problem::new(format!("there is no topic {topic}"));
            return OpenError(problem.at(at).help("make it, or name another"));
        }
        self.broken(&format!("cannot look at the topic {topic}"), error)
            .problem(at)
    }
}

impl Broken {
    /// Whether the credentials, or what they allow, are what is wrong.
    pub(super) fn is_refused(&self) -> bool {
        self.error.as_ref().is_some_and(is_refused)
    }

    /// The problem, at a setting that is at fault unless something else is known to be.
    pub(super) fn problem(self, at: &str) -> OpenError {
        let problem = Problem::new(self.message);
        let is_login = matches!(self.error, Some(KrafkaError::Auth { .. }));
        OpenError(match self.advice {
            Some(advice) => problem.at(advice.at).help(advice.help),
            None if is_login => problem
                .at("auth")
                .help("check the user, the password and the mechanism that the listener takes"),
            None => problem.at(at),
        })
    }
}

impl From<Broken> for String {
    fn from(broken: Broken) -> Self {
        broken.message
    }
}

/// Whether an error says that the credentials, or what they allow, do not do.
pub(super) fn is_refused(error: &KrafkaError) -> bool {
    match error {
        KrafkaError::Auth { .. } => true,
        KrafkaError::Broker { code, .. } => matches!(
            code,
            ErrorCode::TopicAuthorizationFailed
                | ErrorCode::GroupAuthorizationFailed
                | ErrorCode::ClusterAuthorizationFailed
                | ErrorCode::SaslAuthenticationFailed
        ),
        _ => false,
    }
}

/// The error with what caused it, each once.
pub(super) fn words(error: &KrafkaError) -> String {
    let mut words = match error {
        // The name of the code alone says nothing that its words do not.
        KrafkaError::Broker { code, message } if message.is_empty() => format!("{code:?}"),
        error => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            let _ = write!(words, ": {text}");
        }
        cause = next.source();
    }
    words
}

/// Whether an error says that there is no such topic.
pub(super) fn is_unknown_topic(error: &KrafkaError) -> bool {
    matches!(
        error,
        KrafkaError::UnknownTopic { .. }
            | KrafkaError::Broker {
                code: ErrorCode::UnknownTopicOrPartition,
                ..
            }
    )
}
