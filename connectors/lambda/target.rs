//! The settings of a target.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pointsman_schemas::{Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::invoker::Invoker;
use crate::aws::api::{Api, Reach, Service, Subject};
use crate::aws::arn::Arn;
use crate::aws::{Access, KeyPair};
use crate::parameter::{called, resolve};
use crate::{
    Attempt, AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings,
};

/// How long a probe waits for an answer.
const PROBE_WITHIN: Duration = Duration::from_secs(20);

/// The longest name or ARN of a function.
const FUNCTION_BYTES_MAX: usize = 170;

/// What is not written as it is in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Invokes a function of AWS Lambda, or of what speaks like it, for each event.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LambdaTarget {
    /// The function: its name, or its ARN.
    #[schemars(extend("minLength" = 1))]
    function: Text,
    /// The version or the alias; the latest one unless it is given.
    qualifier: Option<Text>,
    /// Whether the function is waited for.
    #[serde(default)]
    invocation: Invocation,
    /// The address of what speaks like Lambda; without it, AWS.
    #[schemars(extend("pattern" = "^https?://", "examples" = ["http://127.0.0.1:5000"]))]
    endpoint: Option<Text>,
    /// Its region; else that of the function's ARN, or the SDK's own, and with an endpoint
    /// `us-east-1`.
    region: Option<Text>,
    /// The keys to show; without them, those that the SDK finds: environment, profile, web
    /// identity, instance.
    credentials: Option<KeyPair>,
    /// What the payload is: the event in the JSON format, or its data alone.
    #[serde(default)]
    mode: Mode,
}

/// Whether the function is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Invocation {
    /// It is, and what it returns is the answer.
    #[default]
    RequestResponse,
    /// Lambda takes the event into a queue of its own and invokes the function from there, by its
    /// own rules.
    Event,
}

impl Invocation {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RequestResponse => "RequestResponse",
            Self::Event => "Event",
        }
    }
}

/// What the payload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "LambdaMode")]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// The event in the JSON format.
    #[default]
    Structured,
    /// The event's data as JSON: text is a string, bytes a string of base64.
    Data,
}

/// Why a text names no function, if so.
fn mistake(text: &str) -> Option<Problem> {
    let is_arn = text.starts_with("arn:");
    let is_lambda = |arn: Arn<'_>| arn.service == "lambda" && arn.resource.starts_with("function:");
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'$');
    let is_one = !text.is_empty()
        && text.len() <= FUNCTION_BYTES_MAX
        && text.bytes().all(is_allowed)
        && (!is_arn || Arn::read(text).is_some_and(is_lambda));
    (!is_one).then(|| {
        Problem::new("this is neither the name of a function nor its ARN")
            .at("function")
            .help(
                "write one such as thumbnailer, or \
                 arn:aws:lambda:eu-west-1:123456789012:function:thumbnailer",
            )
    })
}

impl LambdaTarget {
    fn access(&self) -> Access<'_> {
        Access {
            endpoint: self.endpoint.as_ref(),
            region: self.region.as_ref(),
            credentials: self.credentials.as_ref(),
        }
    }

    async fn invoker(&self, reach: Reach) -> Result<Invoker, OpenError> {
        let function = resolve(&self.function, &["function".into()])?;
        if let Some(problem) = mistake(&function) {
            return Err(OpenError(problem));
        }
        let qualifier = self.qualifier.as_ref();
        let qualifier = qualifier.map(|text| resolve(text, &["qualifier".into()]));
        let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let mut path = format!("/2015-03-31/functions/{}/invocations", encoded(&function));
        if let Some(qualifier) = qualifier.transpose()? {
            path = format!("{path}?Qualifier={}", encoded(&qualifier));
        }
        let service = Service {
            name: "lambda",
            access: self.access(),
            region: Arn::read(&function).and_then(Arn::region),
            endpoint: None,
        };
        Ok(Invoker {
            api: Api::open(service, reach).await?,
            path,
            what: format!("cannot invoke {function}"),
            function,
            invocation: self.invocation,
            mode: self.mode,
        })
    }
}

#[async_trait]
impl TargetSettings for LambdaTarget {
    fn files(&self) -> Files {
        self.access().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        problems.extend(self.function.literal().and_then(mistake));
        if self.qualifier.as_ref().and_then(Text::literal) == Some("") {
            problems.push(
                Problem::new("a qualifier must not be empty")
                    .at("qualifier")
                    .help("leave it out"),
            );
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        Vec::new()
    }

    fn called(&self) -> Called {
        called([(&self.function, None)], |[function]| {
            format!("invoke {function}")
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let invoker = self.invoker(Reach::anywhere()).await?;
        let what = format!("function {}", invoker.function);
        let subject = Subject {
            service: "Lambda",
            what: &what,
            at: "function",
            address: if self.endpoint.is_some() {
                "endpoint"
            } else {
                "region"
            },
            rights: "allow them lambda:InvokeFunction",
        };
        match invoker.try_out(PROBE_WITHIN).await {
            Ok(()) => Ok(format!("the {what} may be invoked; it was not")),
            Err(failure) => Err(failure.problem(subject)),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let invoker = Arc::new(self.invoker(Reach::of(&context)).await?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt: Attempt| {
                let invoker = Arc::clone(&invoker);
                async move { Ok::<_, AttemptError>(invoker.attempt(&attempt).await) }
            },
        )))
    }
}
