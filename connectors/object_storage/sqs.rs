//! Notifications by SQS, or what speaks like it.
//!
//! A message is deleted once everything in it is stored. Until then a heartbeat keeps it from being
//! handed to anybody else; what cannot be stored comes again after a while, and what a crash leaves
//! when its time in hand is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry as Extension, Message, QueueAttributeName,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use pointsman_schemas::Problem;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::error::explain;
use crate::{Acknowledgement, Link, OpenError, SourceError, Verdict};

/// For how long at least and at most a message is in our hand before the queue hands it to another,
/// unless the heartbeat extends it.
pub(super) const IN_HAND: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// By how much later a hidden message may be handed out again: queues count in seconds.
pub(super) const ROUNDING: Duration = Duration::from_secs(1);

/// The longest that SQS keeps a message hidden.
const HIDDEN_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// When what failed to be stored comes again.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// SQS's own bound on the messages of one call.
const CALL_MESSAGES_MAX: usize = 10;

/// How many calls for messages are made at once while each comes back full.
const CALLS_MAX: usize = 8;

/// The shortest time after which a message comes again: SQS counts in seconds, and zero would hand
/// it out at once.
const LATER_PAUSE_MIN: Duration = Duration::from_secs(1);

/// How often an acknowledgement is tried, and how long the pause after the first try is.
const TELL_ATTEMPTS: u32 = 3;
const TELL_PAUSE: Duration = Duration::from_millis(200);

/// What came, not yet read.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) body: Bytes,
    pub(super) acknowledgement: Acknowledgement,
}

/// One queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) in_hand: Duration,
}

/// What a call for messages brought, and when it was made.
type Call = BoxFuture<'static, (Instant, Result<Vec<Message>, String>)>;

/// A queue that is being read.
pub(super) struct Reading {
    queue: Queue,
    held: Arc<Held>,
    /// How long a call waits where nothing is there.
    wait: Duration,
    calls: FuturesUnordered<Call>,
    calls_wanted: usize,
    /// When the last call was made that came back empty.
    emptied: Option<Instant>,
    _heartbeat: AbortOnDropHandle<()>,
}

/// The receipts of the messages in hand, with when each was last extended.
#[derive(Debug, Default)]
struct Held {
    receipts: Mutex<HashMap<u64, (String, Instant)>>,
    numbers: AtomicU64,
}

impl Queue {
    /// How many messages wait in it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) async fn waiting(&self) -> Result<Option<u64>, OpenError> {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let asked = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(name.clone())
            .send()
            .await;
        let told = asked.map_err(|error| {
            let problem = Problem::new(format!("cannot ask the queue: {}", explain(&error)));
            OpenError(
                problem
                    .help("check its URL and that the credentials may receive from it")
                    .at("sqs")
                    .at("notifications"),
            )
        })?;
        Ok(told
            .attributes()
            .and_then(|all| all.get(&name)?.parse().ok()))
    }

    /// Begins to read; a call waits so long where nothing is there.
    pub(super) fn read(self, wait: Duration, link: Link) -> Reading {
        let held = Arc::new(Held::default());
        let heartbeat = tokio::spawn(heartbeat(self.clone(), Arc::clone(&held), link));
        Reading {
            queue: self,
            held,
            wait,
            calls: FuturesUnordered::new(),
            calls_wanted: 1,
            emptied: None,
            _heartbeat: AbortOnDropHandle::new(heartbeat),
        }
    }

    fn call(&self, wait: Duration) -> Call {
        let began = Instant::now();
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(CALL_MESSAGES_MAX as i32)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(self.in_hand))
            .send();
        Box::pin(async move {
            (
                began,
                call.await
                    .map(|told| told.messages.unwrap_or_default())
                    .map_err(|error| explain(&error)),
            )
        })
    }

    /// Deletes a message, or lets it be handed out again after a while. Tried a few times: where
    /// that fails it comes again and is known by its ids.
    async fn settle(&self, receipt: &str, again: Option<Duration>) {
        for attempt in 1..=TELL_ATTEMPTS {
            let told = match again {
                None => {
                    let call = self
                        .client
                        .delete_message()
                        .queue_url(&self.url)
                        .receipt_handle(receipt)
                        .send();
                    call.await.map(drop).map_err(|error| explain(&error))
                }
                Some(again) => {
                    let hidden = seconds(again.min(HIDDEN_MAX));
                    let call = self
                        .client
                        .change_message_visibility()
                        .queue_url(&self.url)
                        .receipt_handle(receipt);
                    call.visibility_timeout(hidden)
                        .send()
                        .await
                        .map(drop)
                        .map_err(|error| explain(&error))
                }
            };
            let Err(error) = told else { return };
            tracing::debug!(
                attempt,
                error,
                "cannot tell the queue what became of a message"
            );
            tokio::time::sleep(TELL_PAUSE * attempt).await;
        }
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

impl Reading {
    /// What came. Safe to cancel: calls under way go on at the next call of this.
    pub(super) async fn next(&mut self) -> Result<Vec<Raw>, SourceError> {
        loop {
            while self.calls.len() < self.calls_wanted {
                self.calls.push(self.queue.call(self.wait));
            }
            let Some((began, told)) = self.calls.next().await else {
                continue;
            };
            let messages = told.map_err(|error| {
                SourceError::Unavailable(format!(
                    "cannot receive from the queue {}: {error}",
                    self.queue.url
                ))
            })?;
            // As long as they come back full there is more.
            self.calls_wanted = if messages.len() == CALL_MESSAGES_MAX {
                (self.calls_wanted + 1).min(CALLS_MAX)
            } else {
                1
            };
            if messages.is_empty() {
                self.emptied = Some(began);
            } else {
                return Ok(messages
                    .into_iter()
                    .filter_map(|message| self.take(message))
                    .collect());
            }
        }
    }

    /// When the last call was made that came back empty.
    pub(super) fn emptied(&self) -> Option<Instant> {
        self.emptied
    }

    fn take(&self, message: Message) -> Option<Raw> {
        let receipt = message.receipt_handle?;
        let lease = Lease {
            held: Arc::clone(&self.held),
            number: self.held.numbers.fetch_add(1, Ordering::Relaxed),
        };
        self.held
            .receipts
            .lock()
            .insert(lease.number, (receipt.clone(), Instant::now()));
        let queue = self.queue.clone();
        let acknowledgement = Acknowledgement::io(move |verdict| async move {
            let again = match verdict {
                Verdict::Stored | Verdict::Rejected(_) => None,
                Verdict::Later(pause) => Some(pause.max(LATER_PAUSE_MIN)),
                Verdict::Failed => Some(FAILED_PAUSE),
            };
            queue.settle(&receipt, again).await;
            drop(lease);
        });
        Some(Raw {
            body: Bytes::from(message.body.unwrap_or_default()),
            acknowledgement,
        })
    }
}

/// One message in hand; dropped, told or not, it is extended no more.
struct Lease {
    held: Arc<Held>,
    number: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.receipts.lock().remove(&self.number);
    }
}

/// Extends what is in hand, and looks how much waits. Runs as long as the queue is read.
async fn heartbeat(queue: Queue, held: Arc<Held>, link: Link) {
    let every = queue.in_hand / 3;
    loop {
        // One that cannot be asked is told of by the calls for messages.
        link.lag(queue.waiting().await.ok().flatten());
        tokio::time::sleep(every).await;
        let now = Instant::now();
        let due: Vec<(u64, String)> = {
            let mut receipts = held.receipts.lock();
            let due = receipts
                .iter_mut()
                .filter(|(_, (_, extended))| now.duration_since(*extended) >= every / 2);
            due.map(|(number, (receipt, extended))| {
                *extended = now;
                (*number, receipt.clone())
            })
            .collect()
        };
        for chunk in due.chunks(CALL_MESSAGES_MAX) {
            let entries = chunk.iter().filter_map(|(number, receipt)| {
                let entry = Extension::builder()
                    .id(number.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(seconds(queue.in_hand));
                entry.build().ok()
            });
            let call = queue
                .client
                .change_message_visibility_batch()
                .queue_url(&queue.url)
                .set_entries(Some(entries.collect()));
            match call.send().await {
                // What was deleted meanwhile is among the failed.
                Ok(told) => tracing::trace!(
                    failed = told.failed().len(),
                    "messages in hand were extended"
                ),
                Err(error) => tracing::debug!(
                    error = explain(&error),
                    "cannot extend messages in hand; they may come again"
                ),
            }
        }
    }
}
