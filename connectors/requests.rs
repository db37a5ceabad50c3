//! Requests as what a source brings: on their way from the listener to whoever stores them, and the
//! answers on their way back.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, StatusCode, header};
use pointsman_schemas::http::DecodeError;
use smallvec::SmallVec;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::inquiry::{Inquiry, Made};
use crate::listener::{Attachment, BUSY_WAIT, Refusal, Response};
use crate::source::{Acknowledgement, Arrival, Batch, Message, Source, SourceError};
use crate::verdict::Verdict;

/// The most events that one request may bring. They are stored all or none, so this bounds the
/// largest append of one caller.
pub(crate) const REQUEST_EVENTS_MAX: usize = 1_000;

/// How many requests wait to be taken over. Their bytes are bounded by the listener; this bounds
/// what each takes beside them.
const WAITING_REQUESTS_MAX: usize = 4_096;

/// How many requests are handed over at once.
pub(crate) const BATCH_REQUESTS_MAX: usize = 1_024;

/// How long a caller is asked to wait where storing failed.
const FAILED_WAIT: Duration = Duration::from_secs(5);

/// A queue between a handler and a source.
pub(crate) fn queue<T>() -> (Queue<T>, Waiting<T>) {
    let (sender, receiver) = mpsc::channel(WAITING_REQUESTS_MAX);
    (Queue(sender), Waiting(receiver))
}

/// The handler's end.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T = Message>(mpsc::Sender<T>);

impl Queue {
    /// Hands over what one request brought; what it returns waits for the verdict. Everything is
    /// stored or nothing is.
    ///
    /// What was handed over stays so when the future is dropped, and counts as taken in until it is
    /// stored.
    ///
    /// # Errors
    /// Nothing is stored: the answer for the caller.
    pub(crate) fn store(
        &self,
        arrivals: SmallVec<[Arrival; 1]>,
        held: OwnedSemaphorePermit,
    ) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let stored = (!arrivals.is_empty()).then(|| {
            self.hand(held, |acknowledgement| Message {
                arrivals,
                rejects: Vec::new(),
                acknowledgement,
                positions: Vec::new(),
            })
        });
        async {
            match stored {
                Some(stored) => stored.await,
                None => Ok(()),
            }
        }
    }

    /// As [`Queue::store`], for a caller who asks what was made of it, and how that ends where he
    /// waits.
    ///
    /// # Errors
    /// Nothing is stored: the answer for the caller.
    pub(crate) fn ask(
        &self,
        arrivals: SmallVec<[Arrival; 1]>,
        held: OwnedSemaphorePermit,
        waits: bool,
        sender: Option<u64>,
    ) -> impl Future<Output = Result<Made, Refusal>> + use<> {
        let (caller, told) = oneshot::channel();
        let is_empty = arrivals.is_empty();
        let inquiry = Inquiry {
            caller,
            held: Some(held),
            waits,
            sender,
        };
        let message = Message {
            arrivals,
            rejects: Vec::new(),
            acknowledgement: Acknowledgement::Inquiry(Box::new(inquiry)),
            positions: Vec::new(),
        };
        let sent = if is_empty { Ok(()) } else { self.put(message) };
        async move {
            sent?;
            if is_empty {
                return Ok(Made::default());
            }
            match told.await {
                Ok(Ok(made)) => Ok(made),
                Ok(Err(verdict)) => Err(refusal(verdict)),
                Err(_) => Err(failed()),
            }
        }
    }
}

impl<T> Queue<T> {
    /// As [`Queue::store`], of what its source has yet to make messages of.
    ///
    /// # Errors
    /// Nothing is stored: the answer for the caller.
    pub(crate) fn hand<M>(
        &self,
        held: OwnedSemaphorePermit,
        make: M,
    ) -> impl Future<Output = Result<(), Refusal>> + use<M, T>
    where
        M: FnOnce(Acknowledgement) -> T,
    {
        let sent = self.send(held, make);
        async { answer(sent?).await }
    }

    fn send(
        &self,
        held: OwnedSemaphorePermit,
        make: impl FnOnce(Acknowledgement) -> T,
    ) -> Result<oneshot::Receiver<Verdict>, Refusal> {
        let (caller, verdict) = oneshot::channel();
        self.put(make(Acknowledgement::Caller(caller, Some(held))))?;
        Ok(verdict)
    }

    fn put(&self, message: T) -> Result<(), Refusal> {
        match self.0.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                let detail = "too many requests wait to be stored; send it again a little later";
                Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(BUSY_WAIT))
            }
            Err(TrySendError::Closed(_)) => Err(failed()),
        }
    }
}

/// Waits for a verdict; where nothing is stored, its answer for the caller is the error.
async fn answer(verdict: oneshot::Receiver<Verdict>) -> Result<(), Refusal> {
    match verdict.await {
        Ok(Verdict::Stored) => Ok(()),
        Ok(verdict) => Err(refusal(verdict)),
        Err(_) => Err(failed()),
    }
}

/// The answer to what is not stored.
fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Later(wait) => {
            let detail = "there is no room now and nothing was stored; send it again later";
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
        }
        Verdict::Rejected { reason, event } => {
            let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason);
            match event {
                Some(index) => refusal.of_event(index),
                None => refusal,
            }
        }
        Verdict::Failed | Verdict::Stored => failed(),
    }
}

fn failed() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "it could not be stored; send it again later",
    )
    .retry_after(FAILED_WAIT)
}

/// The source's end, before it answers on a path.
pub(crate) struct Waiting<T = Message>(mpsc::Receiver<T>);

impl<T> Waiting<T> {
    pub(crate) fn attached(self, attachment: Attachment) -> Queued<T> {
        Queued {
            messages: self.0,
            _attachment: attachment,
        }
    }
}

/// The source's end. Dropping it lets go of the path and answers whoever still waits with 503.
#[derive(Debug)]
pub(crate) struct Queued<T = Message> {
    messages: mpsc::Receiver<T>,
    _attachment: Attachment,
}

impl<T> Queued<T> {
    /// What waits, at most so many; waits where nothing does. Safe to cancel, by tokio's word for
    /// `recv_many`.
    pub(crate) async fn take_up_to(&mut self, max: usize) -> Result<Vec<T>, SourceError> {
        let mut messages = Vec::new();
        match self.messages.recv_many(&mut messages, max).await {
            0 => Err(SourceError::Ended),
            _ => Ok(messages),
        }
    }
}

impl Queued {
    /// What waits; waits where nothing does. Safe to cancel.
    pub(crate) async fn take(&mut self) -> Result<Batch, SourceError> {
        Ok(Batch {
            messages: self.take_up_to(BATCH_REQUESTS_MAX).await?,
            cursor: None,
        })
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.messages.len()
    }
}

#[async_trait]
impl Source for Queued {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        self.take().await
    }
}

/// The answer to what is stored.
pub(crate) fn accepted() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// The answer to what is no CloudEvent.
pub(crate) fn refuse(error: &DecodeError) -> Refusal {
    let refusal = Refusal::new(error.status(), error.to_string());
    match error {
        DecodeError::BatchEvent { index, .. } => refusal.of_event(*index),
        // RFC 9110, section 15.5.16.
        DecodeError::Unsupported { .. } => {
            let formats = "application/cloudevents+json, application/cloudevents-batch+json";
            refusal.with(header::ACCEPT, HeaderValue::from_static(formats))
        }
        DecodeError::Event(_) | DecodeError::TooMany { .. } => refusal,
    }
}
