//! The settings of a target.

use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use pointsman_schemas::{Placement, Problem, TemplateText, Text};
use redis::Pipeline;
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::adder::Adder;
use super::client::Client;
use super::groups::ANSWER_WITHIN;
use super::mapping::Mode;
use super::reply::text;
use super::settings::{PROTOCOL, resolve as resolve_address};
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::server::ServerSettings;
use crate::net::stream::Host;
use crate::net::tls::TlsSettings;
use crate::parameter::{Parameter, Templates, called};
use crate::{Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// Adds each event to a stream of Redis or Valkey.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisTarget {
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
    /// The stream's key, which may hold templates.
    #[schemars(extend("minLength" = 1))]
    stream: Text,
    /// How the event is written: as fields, as one JSON document, or its data alone.
    mode: Option<Mode>,
    /// The fields that are written in place of the event, with their values, which may hold
    /// templates.
    #[serde(default)]
    fields: IndexMap<String, Text>,
    /// About how many entries the stream keeps: older ones are removed as entries are added.
    #[schemars(range(min = 1))]
    max_length: Option<u64>,
    /// Whether a stream that is not there is made; yes unless it is given.
    #[serde(default = "yes")]
    create: bool,
}

fn yes() -> bool {
    true
}

/// The texts that may hold templates, and which of the filled-in ones each is.
struct Filled {
    stream: Option<usize>,
    fields: Vec<Option<usize>>,
    templates: Templates,
}

impl RedisTarget {
    fn server(&self) -> ServerSettings<'_> {
        ServerSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    fn filled(&self) -> Filled {
        let mut templates = Templates::default();
        let stream = templates.note(&self.stream, Placement::Address, vec!["stream".into()]);
        let fields = self.fields.iter().map(|(name, value)| {
            let path = vec!["fields".into(), name.as_str().into()];
            templates.note(value, Placement::Argument, path)
        });
        Filled {
            stream,
            fields: fields.collect(),
            templates,
        }
    }

    fn adder(
        &self,
        allow_private_addresses: bool,
        names: Names,
    ) -> Result<(Adder, Host), OpenError> {
        let filled = self.filled();
        let settings = self.clone();
        let resolve_address = move || resolve_address(&settings.server());
        let guard = Guard {
            allow_private_addresses,
        };
        let (client, host) = Client::open(resolve_address, guard, names)?;
        let fields = self.fields.iter().zip(filled.fields);
        let fields = fields.map(|((name, value), index)| {
            let path = ["fields".into(), name.as_str().into()];
            Ok((name.clone(), Parameter::open(value, index, &path)?))
        });
        let adder = Adder {
            client,
            stream: Parameter::open(&self.stream, filled.stream, &["stream".into()])?,
            fields: fields.collect::<Result<_, OpenError>>()?,
            mode: self.mode.unwrap_or_default(),
            max_length: self.max_length,
            creates: self.create,
            texts: filled.templates.count(),
        };
        Ok((adder, host))
    }
}

#[async_trait]
impl TargetSettings for RedisTarget {
    fn files(&self) -> Files {
        self.server().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.server().check(&PROTOCOL);
        if self.stream.literal() == Some("") {
            problems.push(Problem::new("a stream has a key").at("stream"));
        }
        if self.mode.is_some() && !self.fields.is_empty() {
            let problem = Problem::new("with fields these alone are written");
            problems.push(problem.help("leave one of them out").at("mode"));
        }
        if self.fields.contains_key("") {
            problems.push(Problem::new("a field has a name").at("fields"));
        }
        if self.max_length == Some(0) {
            let problem = Problem::new("a stream that keeps nothing is of no use");
            problems.push(problem.at("max_length"));
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().templates.into_texts()
    }

    fn called(&self) -> Called {
        let stream = self.filled().stream;
        called([(&self.stream, stream)], |[stream]| {
            format!("add to {stream}")
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let (adder, host) = self.adder(true, Names::default())?;
        let mut commands = Pipeline::new();
        match &adder.stream {
            Parameter::Constant(stream) => commands.cmd("TYPE").arg(stream),
            Parameter::Filled(_) => commands.cmd("PING"),
        };
        let asked = adder.client.ask(&commands, ANSWER_WITHIN).await;
        let answers = asked.map_err(super::client::Unanswered::problem)?;
        let answer = match answers.into_iter().next() {
            Some(Ok(answer)) => text(&answer).unwrap_or_default(),
            Some(Err(refusal)) => return Err(OpenError(refusal.problem("stream"))),
            None => String::new(),
        };
        let problem = |message: String, help: &str| {
            Err(OpenError(Problem::new(message).help(help).at("stream")))
        };
        match (&adder.stream, answer.as_str()) {
            (Parameter::Filled(_), _) => Ok(format!(
                "Redis at {host} takes connections; the stream depends on the event"
            )),
            (Parameter::Constant(stream), "stream") => {
                Ok(format!("Redis at {host} has the stream {stream}"))
            }
            (Parameter::Constant(stream), "none") if self.create => Ok(format!(
                "Redis at {host}: the stream {stream} is made with the first event"
            )),
            (Parameter::Constant(stream), "none") => problem(
                format!("there is no stream {stream}"),
                "make it, or leave out create: false",
            ),
            (Parameter::Constant(stream), other) => problem(
                format!("the key {stream} is no stream but a {other}"),
                "name a key that is a stream, or is not there yet",
            ),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let (adder, _) = self.adder(context.allow_private_addresses, context.names)?;
        let adder = Arc::new(adder);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let adder = Arc::clone(&adder);
                async move { adder.attempt(&attempt).await }
            },
        )))
    }
}
