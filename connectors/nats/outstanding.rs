//! Messages that were received from a stream and are not acknowledged.
//!
//! What is stored is acknowledged in batches, of which the server confirms the last
//! acknowledgement: it takes those of one consumer in the order in which they come, so that this
//! confirms all of them at the price of one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::AckKind;
use async_nats::{Client, Request, Subject};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use pointsman_schemas::{Backoff, Name};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Acknowledgement, LogLimit, Verdict};

/// Unacknowledged messages at most. A pull asks for no more than there is credit, so that the
/// server never sends what would have to wait. Enough that the server sends the next while some are
/// synced to disk and others acknowledged.
pub(super) const MESSAGES_MAX: usize = 8_192;

/// Messages of one request.
pub(super) const REQUEST_MESSAGES: usize = 512;

/// Their bytes at least; more only where the server's largest message would not fit in half of it.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a message takes beside its payload and headers: its subject and where it is acknowledged.
const ADDRESSES_BYTES_MAX: usize = 64 * 1024;

/// How long the server may take to confirm an acknowledgement. After that the message comes again,
/// and the journal recognises it.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// Batches of acknowledgements that wait for their confirmation at once. What is stored meanwhile
/// makes up the next.
const BATCHES_MAX: usize = 4;

/// First and longest pause before a message that could not be stored comes again; it doubles with
/// each delivery.
const FAILED_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// The unacknowledged messages, shared by the task that pulls and by all acknowledgements.
pub(super) struct Outstanding {
    source: Name,
    client: Client,
    inner: Mutex<Inner>,
    /// There is credit for another request, or no message is unacknowledged any more.
    changed: Notify,
    /// A message was dropped without a verdict, or the consumer's `ack_wait` has changed.
    returned: Notify,
    /// Something is stored and waits to be acknowledged.
    stored: Notify,
}

struct Inner {
    /// Where each message is acknowledged, by a number of our own.
    held: HashMap<u64, Subject, foldhash::fast::RandomState>,
    taken: u64,
    bytes: usize,
    returned: Vec<Subject>,
    /// What is stored and not yet acknowledged; none once nothing is acknowledged any more.
    stored: Option<Stored>,
    /// Nothing is asked for before this.
    paused_until: Option<Instant>,
    /// There is credit once no more messages and bytes than these are unacknowledged, where
    /// somebody waits for it.
    credit_below: Option<(usize, usize)>,
    in_progress_every: Duration,
    /// Acknowledgements that nobody confirmed.
    lost_log: LogLimit,
}

/// Messages that are acknowledged together.
#[derive(Default)]
struct Stored {
    replies: Vec<Subject>,
    /// Cancelled once the server has confirmed them, or has not in its time.
    done: CancellationToken,
}

/// How much may be requested now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credit {
    /// A request of [`REQUEST_MESSAGES`] messages, and at most so many bytes.
    Available { bytes: usize },
    /// Nothing before this.
    NotBefore(Instant),
    /// Nothing until a message is acknowledged.
    Exhausted,
}

impl Outstanding {
    pub(super) fn new(source: Name, client: Client) -> Arc<Self> {
        let inner = Inner {
            held: HashMap::default(),
            taken: 0,
            bytes: 0,
            returned: Vec::new(),
            stored: Some(Stored::default()),
            paused_until: None,
            credit_below: None,
            in_progress_every: Duration::from_secs(10),
            lost_log: LogLimit::default(),
        };
        Arc::new(Self {
            source,
            client,
            inner: Mutex::new(inner),
            changed: Notify::new(),
            returned: Notify::new(),
            stored: Notify::new(),
        })
    }

    /// Says how long the server waits for an acknowledgement before it sends the message again.
    pub(super) fn set_ack_wait(&self, ack_wait: Duration) {
        let every = (ack_wait / 3).max(Duration::from_millis(10));
        if std::mem::replace(&mut self.inner.lock().in_progress_every, every) != every {
            self.returned.notify_one();
        }
    }

    /// Adds a message: from now on the server is told that it is being worked on.
    pub(super) fn take(
        self: &Arc<Self>,
        reply: Subject,
        bytes: usize,
        delivered: i64,
    ) -> Acknowledgement {
        let mut inner = self.inner.lock();
        inner.taken += 1;
        inner.bytes += bytes;
        let number = inner.taken;
        inner.held.insert(number, reply.clone());
        drop(inner);
        let handle = MessageHandle {
            outstanding: Arc::clone(self),
            number,
            bytes,
            has_verdict: false,
        };
        Acknowledgement::io(move |verdict| handle.settle(reply, delivered, verdict))
    }

    /// How much may be requested while so many messages and bytes are on their way.
    pub(super) fn credit(&self, to_come: (usize, usize)) -> Credit {
        let mut inner = self.inner.lock();
        inner.credit_below = None;
        if let Some(until) = inner.paused_until {
            if Instant::now() < until {
                return Credit::NotBefore(until);
            }
            inner.paused_until = None;
        }
        let largest = self.largest();
        let most = (MESSAGES_MAX - REQUEST_MESSAGES).checked_sub(to_come.0);
        let most_bytes = (BYTES_MAX.max(2 * largest) - largest).checked_sub(to_come.1);
        // Where too much is on its way, that has to come first.
        let Some((most, most_bytes)) = most.zip(most_bytes) else {
            return Credit::Exhausted;
        };
        if inner.held.len() <= most && inner.bytes <= most_bytes {
            return Credit::Available {
                bytes: largest + most_bytes - inner.bytes,
            };
        }
        inner.credit_below = Some((most, most_bytes));
        Credit::Exhausted
    }

    /// What the largest message may take.
    pub(super) fn largest(&self) -> usize {
        self.client.max_payload() + ADDRESSES_BYTES_MAX
    }

    /// Returns once there may be credit again after there was none.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// True where every message is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.held.is_empty() && inner.returned.is_empty()
    }

    /// Acknowledges what is stored, tells the server again and again that the other messages are
    /// being worked on, and gives back what was dropped without a verdict. Never ends, and once it
    /// is dropped nothing is acknowledged any more.
    pub(super) async fn run(&self) {
        let _stop = StopOnDrop(self);
        let every = || self.inner.lock().in_progress_every;
        let mut next = Instant::now() + every();
        let mut confirming = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.stored.notified(), if confirming.len() < BATCHES_MAX => {
                    let stored = self.inner.lock().stored.as_mut().map(std::mem::take);
                    // There may be more notices than batches.
                    if let Some(Stored { replies, done }) = stored.filter(|stored| !stored.replies.is_empty()) {
                        confirming.push(self.acknowledge(replies, done.drop_guard()));
                    }
                }
                Some(()) = confirming.next() => {}
                () = sleep_until(next) => {
                    let held: Vec<Subject> = self.inner.lock().held.values().cloned().collect();
                    self.send(held, AckKind::Progress).await;
                    next = Instant::now() + every();
                }
                () = self.returned.notified() => {
                    // They count as unacknowledged until they are sent.
                    let returned = self.inner.lock().returned.clone();
                    let sent = returned.len();
                    self.send(returned, AckKind::Nak(Some(FAILED_AGAIN.initial))).await;
                    self.inner.lock().returned.drain(..sent);
                    self.changed.notify_one();
                    next = next.min(Instant::now() + every());
                }
            }
        }
    }

    /// Returns once every message has its verdict, and the server has received it.
    pub(super) async fn drained(&self) {
        while !self.is_empty() {
            self.changed.notified().await;
        }
        // Without a connection there is nobody to hear it, and it comes again.
        if self.client.connection_state() == State::Connected {
            let _ = timeout(CONFIRM_WITHIN, self.client.flush()).await;
        }
    }

    async fn send(&self, replies: Vec<Subject>, kind: AckKind) {
        for reply in replies {
            // The client would keep it for later; after a reconnect the server's own time counts.
            if self.client.connection_state() != State::Connected {
                return;
            }
            // What is not sent is as good as not received: the message comes again.
            let _ = self.client.publish(reply, kind.into()).await;
        }
    }

    fn release(&self, number: u64, bytes: usize, has_verdict: bool) {
        let mut inner = self.inner.lock();
        let reply = inner.held.remove(&number);
        inner.bytes = inner.bytes.saturating_sub(bytes);
        if let Some(reply) = reply.filter(|_| !has_verdict) {
            inner.returned.push(reply);
            self.returned.notify_one();
        }
        let credit = inner.credit_below.is_some_and(|(most, most_bytes)| {
            inner.held.len() <= most && inner.bytes <= most_bytes
        });
        if credit {
            inner.credit_below = None;
        }
        if credit || inner.held.is_empty() {
            self.changed.notify_one();
        }
    }

    /// Asks for nothing more for a while.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut inner = self.inner.lock();
        inner.paused_until = Some(inner.paused_until.map_or(until, |before| before.max(until)));
    }

    /// Has a message acknowledged with others that are stored by now, and returns once the server
    /// has confirmed that, or could not.
    async fn stored(&self, reply: Subject) {
        let done = {
            let mut inner = self.inner.lock();
            let Some(stored) = &mut inner.stored else {
                return;
            };
            stored.replies.push(reply);
            stored.done.clone()
        };
        self.stored.notify_one();
        done.cancelled().await;
    }

    /// Acknowledges a batch.
    async fn acknowledge(&self, mut replies: Vec<Subject>, _done: DropGuard) {
        let acknowledgements = replies.len();
        let Some(last) = replies.pop() else { return };
        let acknowledge = async {
            for reply in replies {
                self.client
                    .publish(reply, AckKind::Ack.into())
                    .await
                    .map_err(|error| error.to_string())?;
            }
            let request = Request::new().payload(AckKind::Ack.into()).timeout(None);
            self.client
                .send_request(last, request)
                .await
                .map_err(|error| error.to_string())
        };
        let error = match timeout(CONFIRM_WITHIN, acknowledge).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {} s", CONFIRM_WITHIN.as_secs()),
        };
        // That the connection is lost has been reported already.
        if self.client.connection_state() == State::Connected {
            self.lost(&error, acknowledgements as u64);
        }
    }

    /// Tells the log of acknowledgements that nobody confirmed.
    fn lost(&self, error: &str, acknowledgements: u64) {
        let due = self.inner.lock().lost_log.admit(acknowledgements);
        if let Some(acknowledgements) = due {
            tracing::warn!(
                source = %self.source, %error, acknowledgements,
                "acknowledgements were not confirmed; the messages come again"
            );
        }
    }
}

/// Once dropped, releases those who wait for an acknowledgement: there will be none.
struct StopOnDrop<'o>(&'o Outstanding);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(stored) = self.0.inner.lock().stored.take() {
            stored.done.cancel();
        }
    }
}

/// One unacknowledged message.
struct MessageHandle {
    outstanding: Arc<Outstanding>,
    number: u64,
    bytes: usize,
    has_verdict: bool,
}

impl MessageHandle {
    async fn settle(mut self, reply: Subject, delivered: i64, verdict: Verdict) {
        self.has_verdict = true;
        let outstanding = &self.outstanding;
        let kind = match verdict {
            Verdict::Stored => return outstanding.stored(reply).await,
            Verdict::Later(pause) => {
                outstanding.pause(pause);
                AckKind::Nak(Some(pause))
            }
            Verdict::Failed => {
                outstanding.pause(FAILED_AGAIN.initial);
                let earlier = u32::try_from(delivered.saturating_sub(1)).unwrap_or(0);
                AckKind::Nak(Some(FAILED_AGAIN.after(earlier)))
            }
            Verdict::Rejected { .. } => AckKind::Term,
        };
        outstanding.send(vec![reply], kind).await;
    }
}

impl Drop for MessageHandle {
    fn drop(&mut self) {
        self.outstanding
            .release(self.number, self.bytes, self.has_verdict);
    }
}
