//! The ingress: CloudEvents by `POST /events`, in binary, structured or batch mode.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use http::request::Parts;
use pointsman_schemas::http::decode;

use crate::OpenError;
use crate::listener::{
    EVENTS_PATH, Handler, Keys, ListenSettings, Refusal, Request, Response, Routes,
};
use crate::requests::{Queue, Queued, REQUEST_EVENTS_MAX, accepted, queue, refuse};
use crate::source::{Arrival, Batch, Source, SourceError};

/// The source of what callers send by CloudEvents HTTP. A caller is answered with 202 once
/// everything in his request is stored.
#[derive(Debug)]
pub struct Ingress(Queued);

impl Ingress {
    /// Attaches to `/events`, with the keys and the consent that the settings of the listener tell.
    ///
    /// # Errors
    /// A key cannot be read or is too short; the path is taken.
    pub fn open(settings: &ListenSettings, routes: &Routes) -> Result<Self, OpenError> {
        let (queue, waiting) = queue();
        let handler = IngressHandler {
            keys: Keys::resolve(&settings.auth)?,
            origins: settings.origins.clone(),
            queue,
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
}

impl IngressHandler {
    /// Hands over what a request brings. All of that happens at once: what then waits is small, and
    /// keeps nothing of the head, which lies in the connection's buffer.
    fn take(
        &self,
        request: Request,
    ) -> Result<impl Future<Output = Result<(), Refusal>> + use<>, Refusal> {
        let decoded = decode(&request.head.headers, request.body, REQUEST_EVENTS_MAX);
        let arrivals = decoded
            .map_err(|error| refuse(&error))?
            .events
            .into_iter()
            .map(|event| Arrival::Event(Arc::new(event)))
            .collect();
        Ok(self.queue.store(arrivals, request.held))
    }
}

impl Handler for IngressHandler {
    fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        self.keys.admit(&head.headers)
    }

    fn post(&self, request: Request) -> BoxFuture<'_, Result<Response, Refusal>> {
        let stored = self.take(request);
        Box::pin(async {
            stored?.await?;
            Ok(accepted())
        })
    }

    fn consents_to(&self, origin: &str) -> bool {
        self.origins
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}
