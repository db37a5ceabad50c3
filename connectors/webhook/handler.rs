//! Answers the calls to a webhook's path.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use pointsman_schemas::http::{decode, is_cloudevent, is_cloudevent_body};
use pointsman_schemas::{Clock, Name, Size};
use smallvec::SmallVec;

use super::attributes::Mapped;
use super::mapping::{self, Mapping};
use super::preset::Reply;
use super::replay::Replay;
use super::signature::{Answer, Call, Moment, Unverified, Verifier};
use crate::listener::{Handler, Refusal, Request, Response};
use crate::requests::{Queue, REQUEST_EVENTS_MAX, accepted, refuse};
use crate::source::Arrival;
use crate::trace::{adopt, fields};

/// How many keys are fetched for the sake of one call: its schemes may want one each.
const FETCHES_MAX: usize = 3;

/// Answers the requests to the path.
pub(super) struct WebhookHandler {
    pub(super) verifier: Verifier,
    pub(super) mapping: Mapping,
    pub(super) answer: Option<Answer>,
    pub(super) url: Option<String>,
    pub(super) origins: Vec<String>,
    pub(super) max_body: Option<Size>,
    /// Whether the log knows of `ce-` headers that are not signed.
    pub(super) warned: AtomicBool,
    pub(super) name: Name,
    pub(super) mapped: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) replay: Mutex<Replay>,
    pub(super) queue: Queue,
}

impl fmt::Debug for WebhookHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookHandler")
            .field("name", &self.name)
            .field("scheme", &self.verifier.signature().name())
            .finish_non_exhaustive()
    }
}

impl WebhookHandler {
    /// Whether a request is a CloudEvent in a mode whose attributes can be trusted as far as the
    /// body can.
    fn is_cloudevent(&self, head: &Parts) -> bool {
        if is_cloudevent_body(&head.headers) {
            return true;
        }
        let binary = is_cloudevent(&head.headers);
        if !binary || self.verifier.signature().is_none() || self.verifier.is_by_jwt() {
            return binary;
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            let (source, scheme) = (&self.name, self.verifier.signature().name());
            tracing::warn!(
                %source, scheme,
                "ce- headers are not signed by this scheme and are ignored; send CloudEvents in \
                 structured mode"
            );
        }
        false
    }

    /// What a request brought, and the id by which its repetition is known.
    fn read(
        &self,
        call: &Call<'_>,
        id: Option<String>,
        head: &Parts,
        body: Bytes,
    ) -> Result<(SmallVec<[Arrival; 1]>, Option<String>), Refusal> {
        if self.is_cloudevent(head) {
            let decoded =
                decode(&head.headers, body, REQUEST_EVENTS_MAX).map_err(|error| refuse(&error))?;
            let arrivals = decoded
                .events
                .into_iter()
                .map(|event| Arrival::Event(Arc::new(event)))
                .collect();
            return Ok((arrivals, id.or_else(|| self.mapping.delivery_id(call))));
        }
        if let Some((headers, body)) = self.mapping.cloudevent(call, &body)
            && let Ok(decoded) = decode(&headers, body, REQUEST_EVENTS_MAX)
        {
            let arrivals = decoded
                .events
                .into_iter()
                .map(|event| Arrival::Event(Arc::new(event)))
                .collect();
            return Ok((arrivals, id));
        }
        let mapped = self.mapping.map(call, id, body, self.clock.now())?;
        if mapped.len() > REQUEST_EVENTS_MAX {
            let detail = format!(
                "there are more than {REQUEST_EVENTS_MAX} events in this; send them in several \
                 requests"
            );
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        // Of several the journal knows each by its own id.
        let id = if let [one] = mapped.as_slice() {
            one.id.clone()
        } else {
            None
        };
        let refuse = |error| {
            Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("no event can be made of this: {error}"),
            )
        };
        let arrival = |mapped: Mapped| {
            let Mapped {
                event,
                data,
                envelope,
                ..
            } = mapped;
            let fields = || mapping::root_fields(head, envelope, &self.verifier.shown());
            Arrival::made(event.data(data), self.mapped.then(fields)).map_err(refuse)
        };
        Ok((
            mapped.into_iter().map(arrival).collect::<Result<_, _>>()?,
            id,
        ))
    }

    /// Checks the signature, and fetches a key first where that needs one.
    async fn verify(
        &self,
        head: &Parts,
        body: &Bytes,
        packed: Option<&Bytes>,
    ) -> Result<Option<String>, Refusal> {
        for _ in 0..FETCHES_MAX {
            // Some senders sign before they pack, some after: whoever signed either has signed what
            // is in it.
            let verify = |bytes: &Bytes| {
                self.verifier.verify(
                    &Call::new(head, bytes, self.url.as_deref()),
                    self.clock.now(),
                )
            };
            let verified = match packed {
                None => verify(body),
                Some(packed) => match verify(packed) {
                    Err(Unverified::Refused(_)) => verify(body),
                    verified => verified,
                },
            };
            let wanted = match verified {
                Ok(id) => return Ok(id),
                Err(Unverified::Refused(refusal)) => return Err(refusal),
                Err(Unverified::Wanted(wanted)) => wanted,
            };
            if let Some(keyring) = self.verifier.keyring() {
                keyring.fetch(&wanted).await?;
            }
        }
        let detail = "the keys to check this with change too fast; send it again a little later";
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .retry_after(std::time::Duration::from_secs(5)))
    }

    /// What a sender hears who asks for something.
    async fn reply(&self, reply: Reply) -> Result<Response, Refusal> {
        if let (Reply::Visit(address), Some(keyring)) = (&reply, self.verifier.keyring()) {
            keyring.visit(address).await?;
            tracing::info!(source = %self.name, "a subscription is confirmed");
        }
        Ok(reply.into())
    }

    async fn take(&self, request: Request) -> Result<Response, Refusal> {
        let Request {
            head,
            body,
            packed,
            held,
            ..
        } = request;
        let url = self.url.as_deref();
        let reaction = self.verifier.signature().preset().reaction;
        let call = || Call::new(&head, &body, url);
        if let Some(refusal) = reaction.refuses(&call()) {
            return Err(refusal);
        }
        if let Some(answered) = self.verifier.answer(&call(), Moment::Unsigned) {
            return answered.map(|answered| Reply::from(answered).into());
        }
        let id = self.verify(&head, &body, packed.as_ref()).await?;
        let asked = self
            .verifier
            .answer(&call(), Moment::Signed)
            .map(|answered| answered.map(Reply::from));
        if let Some(reply) = asked.or_else(|| reaction.signed(&self.verifier, &call())) {
            return self.reply(reply?).await;
        }
        let (arrivals, id, reply) = {
            let call = Call::new(&head, &body, url);
            let (mut arrivals, id) = self.read(&call, id, &head, body.clone())?;
            adopt(&mut arrivals, fields(&head.headers));
            (arrivals, id, reaction.stored(&call))
        };
        let stored = || reply.map_or_else(|| self.stored(), Response::from);
        if id.as_ref().is_some_and(|id| self.replay.lock().knows(id)) {
            tracing::debug!(source = %self.name, "delivery is stored already");
            return Ok(stored());
        }
        self.queue.store(arrivals, held).await?;
        // Only now: what could not be stored is welcome again. Of two at the same moment both are
        // handed on, and the journal takes one.
        if let Some(id) = id {
            self.replay.lock().remember(&id);
        }
        Ok(stored())
    }

    /// What a sender hears whose events are stored.
    fn stored(&self) -> Response {
        let Some(answer) = &self.answer else {
            return accepted();
        };
        let mut response = if answer.body.is_empty() {
            Response::default()
        } else {
            Reply::Text(answer.body.clone()).into()
        };
        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        response
    }
}

impl Handler for WebhookHandler {
    fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        self.verifier.admit(head)
    }

    fn post(&self, request: Request) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(self.take(request))
    }

    /// Grafana's contact points may be set to it, and it brings the same as a `POST`.
    fn takes_put(&self) -> bool {
        true
    }

    fn get(&self, head: &Parts) -> Option<Result<Response, Refusal>> {
        if head.method == Method::HEAD {
            return Some(Ok(Response::default()));
        }
        let call = Call::new(head, &[], self.url.as_deref());
        let answered = self.verifier.answer(&call, Moment::Get)?;
        Some(answered.map(|answered| Reply::from(answered).into()))
    }

    fn max_body_bytes(&self) -> Option<u64> {
        self.max_body.map(|size| size.bytes)
    }

    fn consents_to(&self, origin: &str) -> bool {
        self.origins
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}
