//! The open pull requests of JetStream (ADR-13, ADR-37).
//!
//! Several are open at once, so that the server never waits for the next. Each has a reply subject
//! of its own, under which the server says what becomes of it. Messages come under the subject that
//! they were published to, so that nobody can tell which request one answers: what is still to come
//! is counted over all of them.
//!
//! A request ends when it is filled, when its time is over, or when the server has another reason,
//! and then it is replaced. Servers before 2.10 say nothing of one that is filled by count; those
//! after it say `409 Batch Completed` where bytes of it are left.

use std::time::Duration;

use pointsman_schemas::Backoff;

use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Message, StatusCode, Subject};
use tokio::time::Instant;

/// How long the server keeps a request, unless the consumer allows less.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often the server says that it has nothing.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Requests that are open at once, at most; fewer where the consumer allows no more to wait.
const OPEN_MAX: usize = 8;

/// First and longest pause after requests that ended at once and brought nothing.
const FRUITLESS: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// So many of them in a row are no accident.
const FRUITLESS_MAX: u32 = 3;

/// How large a message is taken to be before one has come, in bytes.
const FIRST_GUESS_BYTES: usize = 4 * 1024;

/// What a consumer allows one request, and all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Messages of one request.
    pub(super) batch: usize,
    /// Bytes of one request.
    pub(super) bytes: usize,
    /// How long the server keeps it.
    expires: Duration,
    /// Open requests of all clients.
    waiting: usize,
}

impl Limits {
    pub(super) fn of(config: &async_nats::jetstream::consumer::Config) -> Self {
        let limit = |limit: i64| {
            usize::try_from(limit)
                .ok()
                .filter(|limit| *limit > 0)
                .unwrap_or(usize::MAX)
        };
        let expires = if config.max_expires.is_zero() {
            EXPIRES
        } else {
            EXPIRES.min(config.max_expires)
        };
        Self {
            batch: limit(config.max_batch),
            bytes: limit(config.max_bytes),
            expires,
            waiting: limit(config.max_waiting),
        }
    }

    fn heartbeat(&self) -> Duration {
        // The server wants two of them within a request.
        HEARTBEAT.min(self.expires / 2)
    }
}

/// What the server says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestStatus {
    /// It has no message yet, and keeps the request: a heartbeat.
    Alive,
    /// The request has ended as requests do.
    Completed,
    /// The consumer may have changed or be gone: it has to be inspected. Where that changes
    /// nothing, this is what is wrong.
    InspectConsumer(String),
}

/// A request that the server still has, as far as is known.
#[derive(Debug)]
struct OpenRequest {
    number: u64,
    messages: usize,
    bytes: usize,
    asked_at: Instant,
}

/// The open requests of one subscription.
#[derive(Debug)]
pub(super) struct Requests {
    inbox: String,
    limits: Limits,
    last: u64,
    open: Vec<OpenRequest>,
    /// What is still to come, over all open requests.
    messages: usize,
    bytes: usize,
    /// How large messages are of late, in bytes.
    message_bytes: usize,
    /// When something was last heard, or asked after silence.
    heard_at: Instant,
    /// How many requests in a row ended at once and brought nothing, and when the last did.
    fruitless: (u32, Instant),
}

impl Requests {
    pub(super) fn new(inbox: String, limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            inbox,
            limits,
            last: 0,
            open: Vec::new(),
            messages: 0,
            bytes: 0,
            message_bytes: FIRST_GUESS_BYTES,
            heard_at: now,
            fruitless: (0, now),
        }
    }

    /// The subject that all replies come to.
    pub(super) fn subscription(&self) -> Subject {
        format!("{}.*", self.inbox).into()
    }

    /// Messages and bytes that are still to come.
    pub(super) fn to_come(&self) -> (usize, usize) {
        (self.messages, self.bytes)
    }

    /// True where the consumer lets another request wait.
    pub(super) fn may_ask(&self) -> bool {
        self.open.len() < OPEN_MAX.min(self.limits.waiting)
    }

    /// Nothing may be asked for before this.
    pub(super) fn not_before(&self) -> Option<Instant> {
        let (times, last) = self.fruitless;
        Some(last + FRUITLESS.after(times.checked_sub(1)?))
    }

    /// When silence means that something is wrong: two heartbeats are missed.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        (!self.open.is_empty()).then(|| self.heard_at + self.limits.heartbeat() * 2)
    }

    /// Opens a request for no more than so many messages and bytes, of which at least `bytes_min`;
    /// returns it with the subject of its replies.
    pub(super) fn open(
        &mut self,
        messages: usize,
        bytes_min: usize,
        bytes: usize,
    ) -> (BatchConfig, Subject) {
        let now = Instant::now();
        if self.open.is_empty() {
            self.heard_at = now;
        }
        self.last += 1;
        let messages = messages.min(self.limits.batch);
        // As much as so many messages are likely to take, so that there is some left for the next
        // request.
        let likely = self
            .message_bytes
            .saturating_mul(messages)
            .saturating_mul(2);
        let bytes = likely
            .clamp(bytes_min.min(bytes), bytes)
            .min(self.limits.bytes);
        self.open.push(OpenRequest {
            number: self.last,
            messages,
            bytes,
            asked_at: now,
        });
        self.messages += messages;
        self.bytes += bytes;
        let config = BatchConfig {
            batch: messages,
            expires: Some(self.limits.expires),
            max_bytes: bytes,
            idle_heartbeat: self.limits.heartbeat(),
            ..BatchConfig::default()
        };
        (config, format!("{}.{}", self.inbox, self.last).into())
    }

    /// A message of so many bytes has come.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.heard_at = Instant::now();
        self.fruitless.0 = 0;
        self.message_bytes = (self.message_bytes * 15 + bytes) / 16;
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.messages == 0 {
            self.forget();
        }
    }

    /// All requests are over.
    fn forget(&mut self) {
        self.open.clear();
        (self.messages, self.bytes) = (0, 0);
    }

    /// What the server has to say, in a message that is none of the stream's.
    pub(super) fn on_status(&mut self, message: &Message) -> RequestStatus {
        let now = Instant::now();
        self.heard_at = now;
        let Some(status) = message.status else {
            return RequestStatus::Completed;
        };
        if status == StatusCode::IDLE_HEARTBEAT {
            self.fruitless.0 = 0;
            return RequestStatus::Alive;
        }
        let number = message
            .subject
            .strip_prefix(&*self.inbox)
            .and_then(|rest| rest.strip_prefix('.')?.parse().ok());
        // Of a request that nobody waits for any more nothing is to be learnt.
        let Some(index) = self
            .open
            .iter()
            .position(|open| Some(open.number) == number)
        else {
            return RequestStatus::Completed;
        };
        let ended = self.open.swap_remove(index);
        let left = |name| message.headers.as_ref()?.get(name)?.as_str().parse().ok();
        let messages_left = left("Nats-Pending-Messages").unwrap_or(ended.messages);
        self.end(
            messages_left,
            left("Nats-Pending-Bytes").unwrap_or(ended.bytes),
        );
        let brought_nothing = messages_left == ended.messages;
        // Those that end together count as one.
        if brought_nothing
            && ended.asked_at + self.limits.expires / 2 > now
            && ended.asked_at >= self.fruitless.1
        {
            self.fruitless = (self.fruitless.0 + 1, now);
        }
        let description = message.description.as_deref().unwrap_or_default();
        match status_of(status, description, brought_nothing, &ended) {
            RequestStatus::Completed if self.fruitless.0 >= FRUITLESS_MAX => {
                RequestStatus::InspectConsumer(each_ends(status, description))
            }
            status_of => status_of,
        }
    }

    /// Takes what is left of a request that has ended from what is to come.
    fn end(&mut self, messages: usize, bytes: usize) {
        let asked = self.open.iter().fold((0, 0), |sum, open| {
            (sum.0 + open.messages, sum.1 + open.bytes)
        });
        self.messages = self.messages.saturating_sub(messages).min(asked.0);
        self.bytes = self.bytes.saturating_sub(bytes).min(asked.1);
        if self.messages == 0 {
            self.forget();
        }
    }

    /// Gives up requests whose time is over without a word: an older server has filled them, or
    /// they never reached it.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        let over = self.limits.expires + self.limits.heartbeat();
        let before = self.open.len();
        self.open.retain(|open| open.asked_at + over > now);
        if self.open.len() < before {
            self.end(0, 0);
        }
    }
}

fn each_ends(status: StatusCode, description: &str) -> String {
    let help = if description == "Exceeded MaxWaiting" {
        "; other clients have as many open as max_waiting of the consumer allows"
    } else {
        ""
    };
    format!("the NATS server ends each request for messages: {status} {description}{help}")
}

/// What follows from the end of a request; the statuses are those of nats-server up to 2.15, and
/// what newer ones may add has to be looked at.
fn status_of(
    status: StatusCode,
    description: &str,
    brought_nothing: bool,
    ended: &OpenRequest,
) -> RequestStatus {
    match (status, description) {
        // Its time is over, nobody seemed to wait for it, or there was nothing.
        (StatusCode::TIMEOUT | StatusCode::NOT_FOUND, _) => RequestStatus::Completed,
        // It is filled; its server ends, or is no more the one that is asked; others have as many
        // open as the consumer allows.
        (
            StatusCode::REQUEST_TERMINATED,
            "Batch Completed" | "Server Shutdown" | "Leadership Change" | "Exceeded MaxWaiting",
        ) => RequestStatus::Completed,
        // The next message is larger than what is left of its bytes.
        (StatusCode::REQUEST_TERMINATED, "Message Size Exceeds MaxBytes") if !brought_nothing => {
            RequestStatus::Completed
        }
        (StatusCode::REQUEST_TERMINATED, "Message Size Exceeds MaxBytes") => {
            RequestStatus::InspectConsumer(format!(
                "the next message is larger than the {} bytes that one request may bring; raise \
             max_bytes of the consumer, or the server's max_payload",
                ended.bytes
            ))
        }
        (StatusCode::NO_RESPONDERS, _) => {
            RequestStatus::InspectConsumer("nobody answers for the consumer".to_owned())
        }
        _ => RequestStatus::InspectConsumer(each_ends(status, description)),
    }
}

#[cfg(test)]
mod tests;
