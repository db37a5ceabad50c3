//! Asking for messages.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::held::{Bounds, Held};
use super::keeper::Keeper;
use super::settling::{Order, Settlement};
use super::watch::watch;
use super::{CALL_MESSAGES_MAX, Queue, seconds};
use crate::aws::explain;
use crate::{Acknowledgement, Link, SourceError, Verdict};

/// How many calls for messages are made at once while each comes back full.
const CALLS_MAX: usize = 8;

/// By how much longer than it waits for messages a call may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// When what failed to be stored comes again.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// The shortest time after which a message comes again: SQS counts in seconds, and zero would hand
/// it out at once.
const LATER_PAUSE_MIN: Duration = Duration::from_secs(1);

/// By when a message should be acknowledged: SQS hands it to another 12 hours after it was taken,
/// however often it is extended.
const HELD_MAX: Duration = Duration::from_secs(11 * 60 * 60);

/// What came, not yet read.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) message: Message,
    pub(crate) acknowledgement: Acknowledgement,
}

/// What a call for messages brought, and when it was made.
type Call = BoxFuture<'static, (Instant, Result<Vec<Message>, String>)>;

/// A queue that is being read.
pub(crate) struct Reading {
    queue: Queue,
    held: Arc<Held>,
    orders: UnboundedSender<Order>,
    bounds: Bounds,
    /// How long a call waits where nothing is there.
    wait: Duration,
    calls: FuturesUnordered<Call>,
    calls_wanted: usize,
    /// When the last call was made that came back empty.
    emptied: Option<Instant>,
    /// A call has failed: it is told once what the others bring has been handed over.
    failed: Option<SourceError>,
    _watch: AbortOnDropHandle<()>,
}

impl Queue {
    /// Begins to read; a call waits so long where nothing is there.
    pub(crate) fn read(self, wait: Duration, bounds: Bounds, link: Link) -> Reading {
        let held = Arc::new(Held::default());
        let (orders, ordered) = unbounded_channel();
        let keeper = Keeper {
            queue: self.clone(),
            held: Arc::clone(&held),
        };
        // Ends by itself, with the last message in hand.
        tokio::spawn(keeper.run(ordered));
        let watch = tokio::spawn(watch(self.clone(), link));
        Reading {
            queue: self,
            held,
            orders,
            bounds,
            wait,
            calls: FuturesUnordered::new(),
            calls_wanted: 1,
            emptied: None,
            failed: None,
            _watch: AbortOnDropHandle::new(watch),
        }
    }

    fn call(&self, wait: Duration) -> Call {
        let asked = Instant::now();
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(CALL_MESSAGES_MAX as i32)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(self.in_hand))
            .send();
        let answered = timeout(wait + ANSWER_WITHIN, call);
        Box::pin(async move {
            let told = match answered.await {
                Ok(told) => told
                    .map(|told| told.messages.unwrap_or_default())
                    .map_err(|error| explain(&error)),
                Err(_elapsed) => Err("no answer in time".to_owned()),
            };
            (asked, told)
        })
    }
}

impl Reading {
    /// What came: at least one message, and at most so many. Safe to cancel: calls under way go on at
    /// the next call of this.
    pub(crate) async fn next(&mut self, count: usize) -> Result<Vec<Received>, SourceError> {
        loop {
            self.ask();
            if self.calls.is_empty() {
                match self.failed.take() {
                    Some(failed) => return Err(failed),
                    None => self.held.freed().await,
                }
                continue;
            }
            let Some(told) = self.calls.next().await else {
                continue;
            };
            let mut received = self.take(told);
            // What has come as well goes along.
            while received.len() + CALL_MESSAGES_MAX <= count
                && let Some(Some(told)) = self.calls.next().now_or_never()
            {
                received.extend(self.take(told));
            }
            if !received.is_empty() {
                return Ok(received);
            }
        }
    }

    /// When the last call was made that came back empty.
    pub(crate) fn emptied(&self) -> Option<Instant> {
        self.emptied
    }

    /// Makes the calls that there is use and room for.
    fn ask(&mut self) {
        while self.failed.is_none()
            && self.calls.len() < self.calls_wanted
            && self
                .held
                .has_room((self.calls.len() + 1) * CALL_MESSAGES_MAX, self.bounds)
        {
            self.calls.push(self.queue.call(self.wait));
        }
    }

    fn take(&mut self, (asked, told): (Instant, Result<Vec<Message>, String>)) -> Vec<Received> {
        let messages = match told {
            Ok(messages) => messages,
            Err(error) => {
                self.failed = Some(SourceError::Unavailable(format!(
                    "cannot receive from the queue {}: {error}",
                    self.queue.url
                )));
                return Vec::new();
            }
        };
        // As long as they come back full there is more.
        self.calls_wanted = match messages.len() {
            CALL_MESSAGES_MAX.. => (self.calls_wanted + 1).min(CALLS_MAX),
            0 => 1,
            _ => self.calls_wanted,
        };
        if messages.is_empty() {
            self.emptied = Some(asked);
        }
        let received = messages.into_iter().filter_map(|message| {
            let lease = self.held.take(&message, &self.orders)?;
            let settle = move |verdict| lease.settle(settlement(&verdict));
            Some(Received {
                message,
                acknowledgement: Acknowledgement::io(settle).with_deadline(asked + HELD_MAX),
            })
        });
        received.collect()
    }
}

fn settlement(verdict: &Verdict) -> Settlement {
    match verdict {
        Verdict::Stored | Verdict::Rejected(_) => Settlement::Delete,
        Verdict::Later(pause) => Settlement::Hide((*pause).max(LATER_PAUSE_MIN)),
        Verdict::Failed => Settlement::Hide(FAILED_PAUSE),
    }
}
