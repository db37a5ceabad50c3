//! Webhooks: other people's services call a path of the listener.
//!
//! The preset that `signature` names says who calls, and so how his body becomes an event: `preset`
//! has the table. A body that is a CloudEvent or a batch of them by its content type is taken as
//! that under every scheme: its attributes are signed with it. Attributes in `ce-` headers (binary
//! mode) are taken by `none` alone: no scheme here signs them, so whoever has seen one signed body
//! could send it again as any event.
//!
//! GitHub and GitLab follow the adapters of the CloudEvents project. Where nothing is known of the
//! sender, the event is `com.pointsman.webhook.<name of the source>` from `/webhooks/<name of the
//! source>`, by the id that the settings point to, `webhook-id` or `Idempotency-Key`, else a random
//! one. A time that is not there is that of the request. With an `event:` mapping these are the
//! defaults under it, and its root is `{ body, headers, query, path }`: `body` is the JSON, a form
//! as an object, or a text, which of binary data is base64; `headers` have lower-case names,
//! without those that hold the caller's own secrets.
//!
//! The answer is 202 once the event is stored, or what the sender wants to hear. A delivery that
//! its sender repeats is answered the same and stored once.

mod attributes;
mod content;
mod handler;
mod mapping;
mod preset;
mod replay;
mod signature;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::{Problem, Size};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::OpenError;
use crate::listener::{EVENTS_PATH, check_max_body};
use crate::requests::queue;
use crate::source::{Guarantee, RunsOn, Source, SourceContext, SourceSettings};
use handler::WebhookHandler;
use mapping::Mapping;
use signature::Verifier;

pub use signature::{
    Algorithm, Answer, AnswerForm, Certificate, DigestAlgorithm, Encoding, EventBridge, Handshake,
    HandshakeMethod, Hash, Hmac, HmacEncoding, HostPattern, Jwt, KeyEncoding, Mns, Paypal, PubSub,
    Requirement, Scheme, Secrets, Signature, Sns, Unit, Unsigned, Values, Verified,
};

#[cfg(test)]
mod tests;

/// A webhook: `{ path: /hooks/github, signature: { github: { secret: { env: GITHUB_SECRET } } } }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The path on the listener, such as `/hooks/github`.
    #[schemars(regex(pattern = r#"^/[^\s?#\\"<>]*$"#), extend("not" = { "const": "/events" }, "examples" = ["/hooks/github"]))]
    pub path: String,
    /// How the caller proves himself; `{ none: {} }` says that he need not.
    pub signature: Option<Signature>,
    /// Senders consented to in the CloudEvents webhook handshake: DNS names, or `*`, the default.
    #[serde(default = "any_origin")]
    pub origins: Vec<String>,
    /// The longest body, unpacked; that of `listen` by default.
    pub max_body: Option<Size>,
    /// The address that senders call, such as `https://example.com/hooks/github`, for those who
    /// sign it; made of the Host header by default.
    #[schemars(regex(pattern = "^https?://"))]
    pub url: Option<String>,
}

fn any_origin() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Webhook {
    fn scheme(&self) -> Signature {
        self.signature.clone().unwrap_or_else(Signature::none)
    }
}

#[async_trait]
impl SourceSettings for Webhook {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let printable = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte);
        if !self.path.starts_with('/') || !self.path.bytes().all(printable) {
            problems.push(
                Problem::new("is not a path")
                    .at("path")
                    .help("write one such as /hooks/github"),
            );
        } else if self.path == EVENTS_PATH {
            problems.push(
                Problem::new("is where CloudEvents come in")
                    .at("path")
                    .help("write one such as /hooks/github"),
            );
        }
        problems.extend(
            self.max_body
                .and_then(check_max_body)
                .map(|problem| problem.at("max_body")),
        );
        if self.url.as_ref().is_some_and(|url| {
            !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        }) {
            problems.push(
                Problem::new("is not a web address")
                    .at("url")
                    .help("write it as the sender has it, such as https://example.com/hooks/x"),
            );
        }
        match &self.signature {
            Some(signature) => problems.extend(
                signature
                    .check()
                    .into_iter()
                    .map(|problem| problem.at("signature")),
            ),
            None => problems.push(
                Problem::new("whoever knows the path can send events here")
                    .at("path")
                    .warn()
                    .help(
                        "add signature: { github: { secret: { env: NAME } } } or another scheme, \
                         or say signature: { none: {} }",
                    ),
            ),
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        self.signature
            .as_ref()
            .is_some_and(Signature::has_stable_ids)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::Each
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let keys = Verifier::open(self.scheme())?.probe().await?;
        let fetched = if keys > 0 {
            ", and the keys of its sender can be fetched"
        } else {
            ""
        };
        Ok(format!("waits to be called at {}{fetched}", self.path))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let (queue, waiting) = queue();
        let owner = format!("{}/{}", context.tenant, context.name);
        let verifier = Verifier::open(self.scheme())?;
        let signature = verifier.signature();
        let mapping = Mapping::new(signature.preset().event, context.name.clone());
        let handler = WebhookHandler {
            mapping: mapping.map_err(|message| OpenError(Problem::new(message).at("signature")))?,
            answer: signature.answer(),
            verifier,
            url: self.url.clone(),
            origins: self.origins.clone(),
            max_body: self.max_body,
            warned: AtomicBool::new(false),
            name: context.name,
            mapped: context.mapped,
            clock: context.clock,
            replay: Mutex::default(),
            queue,
        };
        let attachment = context
            .routes
            .attach(&self.path, &owner, Arc::new(handler))?;
        Ok(Box::new(waiting.attached(attachment)))
    }
}
