//! Webhooks: other people's services call a path of the listener.
//!
//! The signature's scheme says who calls, and so how his body becomes an event. A body that is a CloudEvent or a batch of them by its
//! content type is taken as that under every scheme: its attributes are signed with it. Attributes in `ce-` headers (binary mode) are taken
//! by `none` alone: no scheme here signs them, so whoever has seen one signed body could send it again as any event. Else:
//!
//! | scheme | `type` | `source` | `id` | `subject` | `time` |
//! |---|---|---|---|---|---|
//! | `github` | `com.github.<event>.<action>` | the repository's URL, mostly | `X-GitHub-Delivery` | by event | by event |
//! | `gitlab` | `com.gitlab.<kind>.<action>` | the project's URL, mostly | `Idempotency-Key`, else random | by event | by event |
//! | `stripe` | `com.stripe.<type>` | `https://api.stripe.com`, with the account | `id` | the object's id | `created` |
//! | `slack` | `com.slack.<type>` | `https://slack.com/teams/<team>` | `event_id`, else random | the channel | `event_time` |
//! | others | `com.pointsman.webhook.<name of the source>` | `/webhooks/<name of the source>` | the header that `hmac.id` names, `webhook-id` or `Idempotency-Key`, else random | | |
//!
//! GitHub and GitLab follow the adapters of the CloudEvents project. A time that is not there is that of the request. With an `event:` mapping
//! these are the defaults under it, and its root is `{ body, headers, query, path }`: `body` is the JSON, a form as an object, or a text,
//! which of binary data is base64; `headers` have lower-case names, without those that hold the caller's own secrets.
//!
//! The answer is 202 once the event is stored. A delivery that its sender repeats is answered the same and stored once.

mod mapping;
mod replay;
mod signature;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use pointsman_schemas::http::{decode, is_cloudevent, is_cloudevent_body};
use pointsman_schemas::{Clock, Name, Problem, Size};
use schemars::JsonSchema;
use serde::Deserialize;
use smallvec::{SmallVec, smallvec};

use crate::OpenError;
use crate::http::ingress::{PATH, Queue, REQUEST_EVENTS_MAX, accepted, queue, refuse};
use crate::http::{Handler, Refusal, Request, Response, check_max_body};
use crate::source::{Arrival, Guarantee, Plain, Source, SourceContext, SourceSettings};
use mapping::Mapped;
use replay::Replay;
use signature::{Nothing, Verifier};

pub use signature::{Algorithm, Encoding, Hmac, Secrets, Signature};

/// A webhook: `{ path: /hooks/github, signature: { github: { secret: { env: GITHUB_SECRET } } } }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The path on the listener, such as `/hooks/github`.
    pub path: String,
    /// How the caller proves himself; `{ none: {} }` says that he need not.
    pub signature: Option<Signature>,
    /// Senders consented to in the CloudEvents webhook handshake: DNS names, or `*`, the default.
    #[serde(default = "any_origin")]
    pub origins: Vec<String>,
    /// The longest body, unpacked; that of `listen` by default.
    pub max_body: Option<Size>,
}

fn any_origin() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Webhook {
    fn scheme(&self) -> Signature {
        self.signature.clone().unwrap_or(Signature::None(Nothing {}))
    }
}

#[async_trait]
impl SourceSettings for Webhook {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let printable = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte);
        if !self.path.starts_with('/') || !self.path.bytes().all(printable) {
            problems.push(Problem::new("is not a path").at("path").help("write one such as /hooks/github"));
        } else if self.path == PATH {
            problems.push(Problem::new("is where CloudEvents come in").at("path").help("write one such as /hooks/github"));
        }
        problems.extend(self.max_body.and_then(check_max_body).map(|problem| problem.at("max_body")));
        match &self.signature {
            Some(signature) => problems.extend(signature.check().into_iter().map(|problem| problem.at("signature"))),
            None => problems.push(
                Problem::new("whoever knows the path can send events here")
                    .at("path")
                    .warn()
                    .help("add signature: { github: { secret: { env: NAME } } } or another scheme, or say signature: { none: {} }"),
            ),
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        match &self.signature {
            Some(Signature::Hmac(own)) => own.id.is_some(),
            Some(Signature::None(_)) | None => false,
            Some(_) => true,
        }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn probe(&self) -> Result<String, OpenError> {
        Verifier::open(self.scheme())?;
        Ok(format!("waits to be called at {}", self.path))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let (queue, waiting) = queue();
        let owner = format!("{}/{}", context.tenant, context.name);
        let door = Door {
            verifier: Verifier::open(self.scheme())?,
            origins: self.origins.clone(),
            max_body: self.max_body,
            warned: AtomicBool::new(false),
            name: context.name,
            mapped: context.mapped,
            clock: context.clock,
            replay: Mutex::default(),
            queue,
        };
        let attachment = context.routes.attach(&self.path, &owner, Arc::new(door))?;
        Ok(Box::new(waiting.attached(attachment)))
    }
}

/// What answers on the path.
struct Door {
    verifier: Verifier,
    origins: Vec<String>,
    max_body: Option<Size>,
    /// Whether the log knows of `ce-` headers that are not signed.
    warned: AtomicBool,
    name: Name,
    mapped: bool,
    clock: Arc<dyn Clock>,
    replay: Mutex<Replay>,
    queue: Queue,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("name", &self.name).field("scheme", &self.verifier.scheme().name()).finish_non_exhaustive()
    }
}

impl Door {
    /// Whether a request is a CloudEvent in a mode whose attributes can be trusted as far as the body can.
    fn is_cloudevent(&self, head: &Parts) -> bool {
        if is_cloudevent_body(&head.headers) {
            return true;
        }
        let binary = is_cloudevent(&head.headers);
        if !binary || matches!(self.verifier.scheme(), Signature::None(_)) {
            return binary;
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            let (source, scheme) = (&self.name, self.verifier.scheme().name());
            tracing::warn!(%source, scheme, "ce- headers are not signed by this scheme and are ignored; send CloudEvents in structured mode");
        }
        false
    }

    /// What a request brought, and the id by which its repetition is known.
    fn read(&self, head: &Parts, body: Bytes) -> Result<(SmallVec<[Arrival; 1]>, Option<String>), Refusal> {
        if self.is_cloudevent(head) {
            let decoded = decode(&head.headers, body, REQUEST_EVENTS_MAX).map_err(|error| refuse(&error))?;
            let arrivals = decoded.events.into_iter().map(|event| Arrival::Event(Arc::new(event))).collect();
            let id = self.verifier.scheme().id_header().and_then(|id| head.headers.get(id)?.to_str().ok());
            return Ok((arrivals, id.map(str::to_owned)));
        }
        let Mapped { event, data, id } = mapping::map(self.verifier.scheme(), &self.name, head, body, self.clock.now())?;
        let refuse = |error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("no event can be made of this: {error}"));
        let arrival = if self.mapped {
            let root = mapping::root(head, data.as_ref());
            Arrival::Plain(Box::new(Plain { root, defaults: event.data(data) }))
        } else {
            Arrival::Event(Arc::new(event.data(data).build().map_err(refuse)?))
        };
        Ok((smallvec![arrival], id))
    }
}

#[async_trait]
impl Handler for Door {
    fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        self.verifier.admit(&head.headers)
    }

    async fn post(&self, request: Request) -> Result<Response, Refusal> {
        let Request { head, body, packed, held } = request;
        // Some senders sign before they pack, some after: whoever signed either has signed what is in it.
        let verify = |bytes: &Bytes| self.verifier.verify(&head.headers, bytes, self.clock.now());
        match packed {
            None => verify(&body)?,
            Some(packed) => verify(&packed).or_else(|_| verify(&body))?,
        }
        if matches!(self.verifier.scheme(), Signature::Slack(_))
            && let Some(challenge) = mapping::challenge(&body)
        {
            return Ok(text(challenge));
        }
        let (arrivals, id) = self.read(&head, body)?;
        if id.as_ref().is_some_and(|id| self.replay.lock().knows(id)) {
            tracing::debug!(source = %self.name, "delivery is stored already");
            return Ok(accepted());
        }
        self.queue.store(arrivals, held).await?;
        // Only now: what could not be stored is welcome again. Of two at the same moment both are handed on, and the journal takes one.
        if let Some(id) = id {
            self.replay.lock().remember(&id);
        }
        Ok(accepted())
    }

    fn max_body_bytes(&self) -> Option<u64> {
        self.max_body.map(|size| size.bytes)
    }

    fn consents_to(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}

fn text(text: String) -> Response {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
