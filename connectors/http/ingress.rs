//! The ingress: CloudEvents by `POST /events`, in binary, structured or batch mode. A header puts
//! off what a request brings, and another asks what was made of it and how that ends.

mod answer;
mod prefer;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, ready};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use pointsman_schemas::http::{Decoded, Mode, decode};
use pointsman_schemas::schedule::{self, DELIVER_AT};
use pointsman_schemas::task_id::{self, TASK_ID};
use pointsman_schemas::trace::TRACEPARENT;
use pointsman_schemas::{Clock, Event, ExtensionValue};
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::answer::answer;
pub use self::prefer::PREFER;
use self::prefer::Preferences;
use crate::OpenError;
use crate::listener::{
    Caller, EVENTS_PATH, Handler, Keys, ListenSettings, Refusal, Request, Response, Routes,
};
use crate::requests::{Queue, Queued, REQUEST_EVENTS_MAX, accepted, queue, refuse};
use crate::source::{Arrival, Batch, Source, SourceError};
use crate::trace::{adopt, fields};

/// How long the delivery of what a request brings is put off: `10m`, or a number of seconds. The
/// events are stored with the time that it comes to, as `deliverat`.
pub const DELAY: HeaderName = HeaderName::from_static("pointsman-delay");

/// How many callers may wait for the end of their tasks at once: each keeps up to 64 KiB of an
/// answer. No more than half of the connections may be held by waiting.
const WAITING_CALLERS_MAX: usize = 1_024;

/// How long a caller may wait. Longer than most functions take, and than most proxies let a
/// request go unanswered.
pub const WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// The id of the task that a request makes: a second one of the same id is answered 409.
pub const TASK_ID_HEADER: HeaderName = HeaderName::from_static("pointsman-task-id");

/// The source of what callers send by CloudEvents HTTP. A caller is answered with 202 once
/// everything in his request is stored.
#[derive(Debug)]
pub struct Ingress(Queued);

impl Ingress {
    /// Attaches to `/events`, with the keys and the consent that the settings of the listener tell.
    ///
    /// # Errors
    /// A key cannot be read or is too short; the path is taken.
    pub fn open(
        settings: &ListenSettings,
        routes: &Routes,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (queue, waiting) = queue();
        let handler = IngressHandler {
            keys: Keys::resolve("auth", &settings.auth)?,
            origins: settings.origins.clone(),
            queue,
            clock,
            deduplicates: settings.deduplicate.is_some(),
            waiting: Arc::new(Semaphore::new(waiting_callers(settings))),
        };
        let attachment = routes.attach(EVENTS_PATH, "ingress", Arc::new(handler))?;
        Ok(Self(waiting.attached(attachment)))
    }
}

#[async_trait]
impl Source for Ingress {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        self.0.take().await
    }
}

#[derive(Debug)]
struct IngressHandler {
    keys: Keys,
    origins: Vec<String>,
    queue: Queue,
    clock: Arc<dyn Clock>,
    /// Whether what comes in is looked for among what came before.
    deduplicates: bool,
    /// A permit for each caller who waits.
    waiting: Arc<Semaphore>,
}

/// How many callers may wait at once.
fn waiting_callers(settings: &ListenSettings) -> usize {
    let connections = usize::try_from(settings.max_connections).unwrap_or(usize::MAX);
    (connections / 2).clamp(1, WAITING_CALLERS_MAX)
}

/// The headers that a request has which say something of its events from outside. They are looked for in one go: most requests have none.
#[derive(Clone, Copy, Default)]
struct Asks {
    delay: bool,
    prefer: bool,
    task_id: bool,
    trace: bool,
}

impl Asks {
    fn of(headers: &HeaderMap) -> Self {
        let mut asks = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "prefer" => asks.prefer = true,
                "pointsman-delay" => asks.delay = true,
                "pointsman-task-id" => asks.task_id = true,
                TRACEPARENT => asks.trace = true,
                _ => {}
            }
        }
        asks
    }
}

impl IngressHandler {
    /// Hands over what a request brings. All of that happens at once: what then waits is small, and
    /// keeps nothing of the head, which lies in the connection's buffer.
    fn take(&self, request: Request) -> Result<Taken, Refusal> {
        let headers = &request.head.headers;
        let asks = Asks::of(headers);
        let deliver_at = if asks.delay {
            self.deliver_at(headers)?
        } else {
            None
        };
        let decoded = decode(headers, request.body, REQUEST_EVENTS_MAX);
        let Decoded { mode, mut events } = decoded.map_err(|error| refuse(&error))?;
        if asks.task_id {
            events = with_task_id(headers, mode, events)?;
        }
        let is_plain = !asks.prefer
            && !events
                .iter()
                .any(|event| event.attribute(TASK_ID).is_some());
        let arrivals = events.into_iter().map(|event| {
            let event = match &deliver_at {
                Some(at) => put_off(event, at.clone())?,
                None => event,
            };
            Ok(Arrival::Event(Arc::new(event)))
        });
        let mut arrivals = arrivals.collect::<Result<SmallVec<_>, Refusal>>()?;
        if asks.trace {
            adopt(&mut arrivals, fields(headers));
        }
        if is_plain && !self.deduplicates {
            let stored = self.queue.store(arrivals, request.held);
            return Ok(Box::pin(async {
                stored.await?;
                Ok(accepted())
            }));
        }
        Ok(self.ask(headers, arrivals, request.held, request.caller))
    }

    /// Hands over what a request brings whose caller is told more than that it is stored, or who
    /// has to be told from others.
    fn ask(
        &self,
        headers: &HeaderMap,
        arrivals: SmallVec<[Arrival; 1]>,
        held: OwnedSemaphorePermit,
        caller: Caller,
    ) -> Taken {
        let prefers = Preferences::of(headers);
        // Where too many wait already, this one is answered as if its wait were over.
        let waits = prefers.wait.is_some_and(|wait| !wait.is_zero());
        let permit = waits
            .then(|| Arc::clone(&self.waiting).try_acquire_owned().ok())
            .flatten();
        let sender = self.keys.sender(headers);
        let made = self.queue.ask(arrivals, held, permit.is_some(), sender);
        Box::pin(async move {
            let response = answer(made.await?, prefers, WAIT_MAX, &caller).await;
            drop(permit);
            Ok(response)
        })
    }

    /// When the events of a request are to be delivered, where a header says so.
    fn deliver_at(&self, headers: &HeaderMap) -> Result<Option<ExtensionValue>, Refusal> {
        let mut values = headers.get_all(&DELAY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let refused = |why: String| {
            let detail = format!("{DELAY}: {why}; give a time such as 10m, or a number of seconds");
            Refusal::new(StatusCode::BAD_REQUEST, detail)
        };
        if values.next().is_some() {
            return Err(refused("it is there more than once".to_owned()));
        }
        let text = value
            .to_str()
            .map_err(|_| refused("it is no text".to_owned()))?;
        let delay = schedule::delay(text.trim()).map_err(refused)?;
        let at = self.clock.now().plus(delay).to_string();
        Ok(Some(ExtensionValue::from(at.as_str())))
    }
}

/// Gives the one event of a request the id that a header says.
fn with_task_id(
    headers: &HeaderMap,
    mode: Mode,
    events: Vec<Event>,
) -> Result<Vec<Event>, Refusal> {
    let refused = |why: &str| {
        let detail = format!("{TASK_ID_HEADER}: {why}");
        Refusal::new(StatusCode::BAD_REQUEST, detail)
    };
    let mut values = headers.get_all(&TASK_ID_HEADER).iter();
    let (Some(id), None) = (values.next(), values.next()) else {
        return Err(refused("it is there more than once"));
    };
    let id = id.to_str().map_err(|_| refused("it is no text"))?.trim();
    task_id::check(id).map_err(|error| refused(&error.to_string()))?;
    if mode == Mode::Batch {
        let why = format!("a batch has an id for each event; set their attribute `{TASK_ID}`");
        return Err(refused(&why));
    }
    let named = events.into_iter().map(|event| {
        if event.attribute(TASK_ID).is_some() {
            return Err(refused(&format!(
                "the event has `{TASK_ID}`; send one of them"
            )));
        }
        let named = event.into_builder().attribute(TASK_ID, id.into()).build();
        named.map_err(|error| refused(&error.to_string()))
    });
    named.collect()
}

/// What becomes of a request that is taken in.
type Taken = BoxFuture<'static, Result<Response, Refusal>>;

fn put_off(event: Event, at: ExtensionValue) -> Result<Event, Refusal> {
    if event.attribute(DELIVER_AT).is_some() {
        let detail =
            format!("the event has `{DELIVER_AT}` and the request {DELAY}; send one of them");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, detail));
    }
    let put_off = event.into_builder().attribute(DELIVER_AT, at).build();
    put_off.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
}

impl Handler for IngressHandler {
    fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        self.keys.admit(&head.headers)
    }

    fn post(&self, request: Request) -> BoxFuture<'_, Result<Response, Refusal>> {
        match self.take(request) {
            Ok(taken) => taken,
            Err(refusal) => Box::pin(ready(Err(refusal))),
        }
    }

    fn consents_to(&self, origin: &str) -> bool {
        self.origins
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}
