//! Messages that were taken from a stream and whose fate has not been told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::AckKind;
use async_nats::{Client, Request, Subject};
use parking_lot::Mutex;
use pointsman_schemas::Name;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{Acknowledgement, Verdict};

/// Messages in hand at once. A pull asks for no more than there is room, so that the server never sends what would have to wait.
pub(super) const MESSAGES_MAX: usize = 2_048;

/// Their bytes at least; more only where the server's largest message would not fit in half of it.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a message takes beside its payload and headers: its subject and where it is acknowledged.
const ADDRESSES_BYTES_MAX: usize = 64 * 1024;

/// How long the server may take to confirm an acknowledgement. Then the message comes again, and the journal knows it.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// First and longest pause before a message that could not be stored comes again; it doubles with each delivery.
const FAILED_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The log is told of lost acknowledgements at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What is in hand, shared by the task that pulls and by all acknowledgements.
pub(super) struct Outstanding {
    source: Name,
    client: Client,
    inner: Mutex<Inner>,
    /// Something has been told, or was dropped untold.
    changed: Notify,
    /// Something was dropped untold, or the server's patience has changed.
    returned: Notify,
}

struct Inner {
    /// Where each message is acknowledged, by a number of our own.
    held: HashMap<u64, Subject>,
    taken: u64,
    bytes: usize,
    returned: Vec<Subject>,
    /// Nothing is asked for before this.
    paused_until: Option<Instant>,
    in_progress_every: Duration,
    /// When the log was last told of a lost acknowledgement, and how many were lost since.
    lost: Option<(Instant, u64)>,
}

/// How much may be asked for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// So many messages and bytes.
    For(usize, usize),
    /// Nothing before this.
    NotBefore(Instant),
    /// Nothing until something is told.
    Full,
}

impl Outstanding {
    pub(super) fn new(source: Name, client: Client) -> Arc<Self> {
        let inner = Inner {
            held: HashMap::new(),
            taken: 0,
            bytes: 0,
            returned: Vec::new(),
            paused_until: None,
            in_progress_every: Duration::from_secs(10),
            lost: None,
        };
        Arc::new(Self { source, client, inner: Mutex::new(inner), changed: Notify::new(), returned: Notify::new() })
    }

    /// Says how long the server waits for an acknowledgement before it sends the message again.
    pub(super) fn set_ack_wait(&self, ack_wait: Duration) {
        let every = (ack_wait / 3).max(Duration::from_millis(10));
        if std::mem::replace(&mut self.inner.lock().in_progress_every, every) != every {
            self.returned.notify_one();
        }
    }

    /// Takes a message in hand: from now on the server is told that it is being worked on.
    pub(super) fn take(self: &Arc<Self>, reply: Subject, bytes: usize, delivered: i64) -> Acknowledgement {
        let mut inner = self.inner.lock();
        inner.taken += 1;
        inner.bytes += bytes;
        let number = inner.taken;
        inner.held.insert(number, reply.clone());
        drop(inner);
        let handle = Handle { outstanding: Arc::clone(self), number, bytes, told: false };
        Acknowledgement::io(move |verdict| handle.tell(reply, delivered, verdict))
    }

    /// How much may be asked for. A quarter of the room has to be free, so that one pull brings many messages.
    pub(super) fn room(&self) -> Room {
        let mut inner = self.inner.lock();
        if let Some(until) = inner.paused_until {
            if Instant::now() < until {
                return Room::NotBefore(until);
            }
            inner.paused_until = None;
        }
        let largest = self.client.max_payload() + ADDRESSES_BYTES_MAX;
        let messages = MESSAGES_MAX.saturating_sub(inner.held.len());
        let bytes = BYTES_MAX.max(2 * largest).saturating_sub(inner.bytes);
        if messages >= MESSAGES_MAX / 4 && bytes >= largest { Room::For(messages, bytes) } else { Room::Full }
    }

    /// Returns once something has been told since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// True where nothing is in hand.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.held.is_empty() && inner.returned.is_empty()
    }

    /// Tells the server, again and again, that what is in hand is being worked on, and gives back what was dropped untold. Never ends.
    pub(super) async fn keep(&self) {
        let every = || self.inner.lock().in_progress_every;
        let mut next = Instant::now() + every();
        loop {
            tokio::select! {
                () = sleep_until(next) => {
                    let held: Vec<Subject> = self.inner.lock().held.values().cloned().collect();
                    self.send(held, AckKind::Progress).await;
                    next = Instant::now() + every();
                }
                () = self.returned.notified() => {
                    let returned = std::mem::take(&mut self.inner.lock().returned);
                    self.send(returned, AckKind::Nak(Some(FAILED_AGAIN.0))).await;
                    self.changed.notify_one();
                    next = next.min(Instant::now() + every());
                }
            }
        }
    }

    /// As [`Outstanding::keep`], until everything has been told.
    pub(super) async fn finish(&self) {
        let told = async {
            while !self.is_empty() {
                self.changed.notified().await;
            }
        };
        tokio::select! {
            () = self.keep() => {}
            () = told => {}
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

    fn release(&self, number: u64, bytes: usize, told: bool) {
        let mut inner = self.inner.lock();
        let reply = inner.held.remove(&number);
        inner.bytes = inner.bytes.saturating_sub(bytes);
        if let Some(reply) = reply.filter(|_| !told) {
            inner.returned.push(reply);
            self.returned.notify_one();
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Asks for nothing more for a while.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut inner = self.inner.lock();
        inner.paused_until = Some(inner.paused_until.map_or(until, |before| before.max(until)));
    }

    async fn confirm(&self, reply: Subject) {
        let request = Request::new().payload(AckKind::Ack.into()).timeout(None);
        let error = match timeout(CONFIRM_WITHIN, self.client.send_request(reply, request)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", CONFIRM_WITHIN.as_secs()),
        };
        // That the connection is lost has been told already.
        if self.client.connection_state() != State::Connected {
            return;
        }
        let mut inner = self.inner.lock();
        let now = Instant::now();
        match &mut inner.lost {
            Some((at, lost)) if now.duration_since(*at) < LOG_EVERY => *lost += 1,
            lost => {
                let acknowledgements = lost.map_or(1, |(_, lost)| lost + 1);
                *lost = Some((now, 0));
                tracing::warn!(source = %self.source, %error, acknowledgements, "acknowledgements were not confirmed; the messages come again");
            }
        }
    }
}

/// One message in hand.
struct Handle {
    outstanding: Arc<Outstanding>,
    number: u64,
    bytes: usize,
    told: bool,
}

impl Handle {
    async fn tell(mut self, reply: Subject, delivered: i64, verdict: Verdict) {
        self.told = true;
        let outstanding = &self.outstanding;
        let kind = match verdict {
            Verdict::Stored => return outstanding.confirm(reply).await,
            Verdict::Later(pause) => {
                outstanding.pause(pause);
                AckKind::Nak(Some(pause))
            }
            Verdict::Failed => {
                outstanding.pause(FAILED_AGAIN.0);
                let doublings = u32::try_from(delivered.saturating_sub(1)).unwrap_or(0).min(8);
                AckKind::Nak(Some((FAILED_AGAIN.0 * 2_u32.pow(doublings)).min(FAILED_AGAIN.1)))
            }
            Verdict::Rejected(_) => AckKind::Term,
        };
        outstanding.send(vec![reply], kind).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.outstanding.release(self.number, self.bytes, self.told);
    }
}
