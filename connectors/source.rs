//! The seam through which events come in.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use pointsman_schemas::{
    Clock, Cursor, Event, EventBuilder, InvalidEvent, Name, PositionChange, PositionRow, Problem,
    Reject, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::OpenError;
use crate::alarms::Alarms;
use crate::inquiry::Inquiry;
use crate::link::Link;
use crate::listener::Routes;
use crate::verdict::Verdict;

/// Where events come from.
///
/// A source hands over batches and waits for nothing: whoever calls [`Source::next`] stores what
/// came, tells each message's [`Acknowledgement`] what became of it, in any order, and may call
/// `next` again before that.
///
/// Right: `next` hands over only what it has in hand already, and waits where that is nothing; it
/// holds at most a batch (its bound is stated in the connector's settings or as a constant there).
/// What it has taken from the outside system and not yet returned is either kept in `self` or not
/// yet taken: **`next` is cancel-safe**, since its future is dropped whenever the bus reloads or
/// stops.
///
/// Wrong: to acknowledge by itself; to drop what it cannot read (that is a [`Reject`]); to retry
/// for ever inside `next` without returning the error at least once per connection attempt (the
/// owner counts, logs and backs off).
#[async_trait]
pub trait Source: Send {
    /// The next batch; never empty of messages unless it carries a cursor. Waits where nothing is
    /// there.
    ///
    /// # Errors
    /// [`SourceError`]: this source is finished. Its owner drops it and opens a new one from the
    /// settings, after a backoff where the error may pass.
    async fn next(&mut self) -> Result<Batch, SourceError>;

    /// As [`Source::next`], called in its place while its owner has no use for more (a pipe whose
    /// target is paused): yields what the source has in hand already and the outside system would
    /// take back by itself, and asks for nothing more. By default a source holds nothing of that
    /// kind, and this waits for ever.
    ///
    /// # Errors
    /// As [`Source::next`].
    async fn rest(&mut self) -> Result<Batch, SourceError> {
        std::future::pending().await
    }

    /// Called once its owner asks no more, again and again until it yields nothing: ends what the
    /// source runs, and yields what that has handed over and nobody would hand over again. Bounded
    /// in time by the source; its owner may drop it at any time. By default there is nothing of
    /// that kind.
    async fn finish(&mut self) -> Option<Batch> {
        None
    }
}

/// Why a source ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The outside system cannot be reached or has broken off; opening anew may help.
    #[error("{0}")]
    Unavailable(String),
    /// The stored cursor was made under another configuration; somebody must decide.
    #[error("{0}")]
    CursorMismatch(String),
    /// Nothing will ever come again.
    #[error("the source has ended")]
    Ended,
}

/// What a source hands over at once: stored whole, together with the cursor, or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// What came, in order.
    pub messages: Vec<Message>,
    /// How far the source has been read once these messages are stored.
    pub cursor: Option<Cursor>,
}

/// The unit that the outside system hands over and that is acknowledged: one HTTP request, one
/// broker message, one file's change.
#[derive(Debug)]
pub struct Message {
    /// The events in it, in order; often one.
    pub arrivals: SmallVec<[Arrival; 1]>,
    /// What in it could not be read; kept as dead letters of the source before the message is
    /// acknowledged.
    pub rejects: Vec<Reject>,
    /// Told what became of it.
    pub acknowledgement: Acknowledgement,
    /// Rows of the source's position that change with it, stored in the same append. A message may
    /// hold nothing else.
    ///
    /// Batches with a cursor are stored one after the other, and so are their rows; those without
    /// one may be stored side by side, and of two changes of one row that are under way at the same
    /// time either may hold. So no two messages of a batch change the same row, unless they are
    /// acknowledged and the source mends the row then.
    pub positions: Vec<PositionChange>,
}

impl Message {
    /// A message of one event.
    #[must_use]
    pub fn event(event: Event, acknowledgement: Acknowledgement) -> Self {
        Self {
            arrivals: SmallVec::from_buf([Arrival::Event(Arc::new(event))]),
            rejects: Vec::new(),
            acknowledgement,
            positions: Vec::new(),
        }
    }

    /// A message of one event, or of what cannot be read as one.
    #[must_use]
    pub fn of(arrival: Result<Arrival, Reject>, acknowledgement: Acknowledgement) -> Self {
        let (mut arrivals, mut rejects) = (SmallVec::new(), Vec::new());
        match arrival {
            Ok(arrival) => arrivals.push(arrival),
            Err(reject) => rejects.push(reject),
        }
        Self {
            arrivals,
            rejects,
            acknowledgement,
            positions: Vec::new(),
        }
    }

    /// A message that only changes rows of the source's position.
    #[must_use]
    pub fn position(positions: Vec<PositionChange>) -> Self {
        Self {
            arrivals: SmallVec::new(),
            rejects: Vec::new(),
            acknowledgement: Acknowledgement::None,
            positions,
        }
    }
}

/// One happening.
#[derive(Debug)]
pub enum Arrival {
    /// A whole event.
    Event(Arc<Event>),
    /// Something that the rule file's `event:` mapping turns into one.
    Plain(Box<Plain>),
}

impl Arrival {
    /// What a source's own message becomes: the event of its `defaults`, or, at a source with an
    /// `event:` mapping, something for that, which finds these `fields`.
    ///
    /// # Errors
    /// There is no mapping, and the event is invalid.
    pub fn made(
        defaults: EventBuilder,
        fields: Option<Map<String, Value>>,
    ) -> Result<Self, InvalidEvent> {
        Ok(match fields {
            Some(fields) => Self::Plain(Box::new(Plain { fields, defaults })),
            None => Self::Event(Arc::new(defaults.build()?)),
        })
    }
}

/// What arrived without being a CloudEvent, at a source with an `event:` mapping.
#[derive(Debug)]
pub struct Plain {
    /// What the mapping's root has beside `body`: `headers`, and what the system adds.
    pub fields: Map<String, Value>,
    /// The source's documented defaults; the mapping sets its attributes over them. Their data is
    /// what arrived, and the root's `body`: JSON as it came, with long numbers and duplicate keys,
    /// text as a string, other bytes as base64, and null where there is nothing.
    pub defaults: EventBuilder,
}

impl Plain {
    /// Fields of the root by their names.
    pub fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
        let owned = fields.map(|(name, value)| (name.to_owned(), value));
        Map::from_iter(owned)
    }
}

/// The acknowledgement of a message: tells the outside system what became of it.
///
/// Dropping it unsent counts as [`Verdict::Failed`] where somebody waits, and as silence (which
/// every source must survive) elsewhere.
pub enum Acknowledgement {
    /// Nobody waits: the cursor alone says how far the source has been read.
    None,
    /// A caller waits. What he sent counts as taken in, and not yet stored, for as long as the
    /// permit lives: also when he hangs up.
    Caller(oneshot::Sender<Verdict>, Option<OwnedSemaphorePermit>),
    /// A caller waits who asks what was made of it.
    Inquiry(Box<Inquiry>),
    /// It takes IO, and where a time is given it should be sent by then: the outside system takes
    /// the message back by itself, and may count that or drop the message.
    Io(
        Box<dyn FnOnce(Verdict) -> BoxFuture<'static, ()> + Send + Sync>,
        Option<Instant>,
    ),
}

impl Acknowledgement {
    /// An acknowledgement that takes IO. Its errors are the connector's to log and count: the
    /// outside system will hand the message over again.
    pub fn io<F>(send: impl FnOnce(Verdict) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::Io(Box::new(move |verdict| Box::pin(send(verdict))), None)
    }

    /// The same, and by when it should be sent. Who cannot finish with a message by then makes it
    /// durable: a time that has passed says that it must not wait for anything else.
    #[must_use]
    pub fn with_deadline(self, time: Instant) -> Self {
        match self {
            Self::Io(send, _) => Self::Io(send, Some(time)),
            other => other,
        }
    }

    /// By when it should be sent, where that matters.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Io(_, by) => *by,
            Self::None | Self::Caller(..) | Self::Inquiry(_) => None,
        }
    }

    /// Sends it.
    pub async fn send(self, verdict: Verdict) {
        match self {
            Self::None => {}
            // A caller who has gone away does not hear it; he will ask again.
            Self::Caller(caller, _held) => drop(caller.send(verdict)),
            Self::Inquiry(inquiry) => inquiry.send(verdict),
            Self::Io(send, _) => send(verdict).await,
        }
    }
}

impl fmt::Debug for Acknowledgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Caller(..) => "Caller",
            Self::Inquiry(_) => "Inquiry",
            Self::Io(..) => "Io",
        })
    }
}

/// The settings of a source, read from the rule file and not yet opened.
#[async_trait]
pub trait SourceSettings: fmt::Debug + Send + Sync {
    /// Every mistake that can be found without touching the outside world; paths are relative to
    /// these settings.
    fn check(&self) -> Vec<Problem>;

    /// Whether what arrives is always a CloudEvent, so that an `event:` mapping would never be
    /// used.
    fn always_cloudevents(&self) -> bool;

    /// Whether (`source`, `id`) of its events stay the same when the outside system hands a message
    /// over again, so that the journal can tell duplicates.
    fn has_stable_ids(&self) -> bool;

    /// What becomes of a message that the outside system has sent and the bus has not stored.
    fn guarantee(&self) -> Guarantee;

    /// On which nodes it runs where there are several.
    fn runs_on(&self) -> RunsOn;

    /// When it will bring something of itself, for one that knows: at most `count` times after
    /// `after`. None where it does not know.
    fn firings(&self, after: Timestamp, count: usize) -> Option<Firings> {
        let _ = (after, count);
        None
    }

    /// Tries the connection without consuming, making or changing anything, and tells in a line for
    /// a person what was found. The caller bounds how long that may take.
    ///
    /// # Errors
    /// What is wrong, in words, and what to do.
    async fn probe(&self) -> Result<String, OpenError>;

    /// Opens the source.
    ///
    /// # Errors
    /// What is missing or cannot be reached, in words. The owner tries again with backoff.
    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError>;
}

/// On which of several nodes with one rule file a source runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsOn {
    /// On each of them: it brings what is sent to that node.
    Each,
    /// On each of them, which share what the outside system has. Where the order matters in which
    /// it hands messages over, on one alone.
    EachUnlessOrdered,
    /// On one alone: it keeps how far it has read, or each would bring the same.
    One,
}

/// When a source will bring something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Firings {
    /// The time zone that they are told in, by its name.
    pub zone: String,
    /// RFC 3339, with the zone's offset; fewer than asked for where there will be no more.
    pub times: Vec<String>,
}

/// How safe a message is before the bus has stored it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// The outside system keeps it and hands it over again.
    AtLeastOnce,
    /// It is gone where the bus, or the way to it, breaks at that moment.
    AtMostOnce,
}

impl Guarantee {
    /// The guarantee as it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at least once",
            Self::AtMostOnce => "at most once",
        }
    }
}

/// What the bus hands to a source when it opens.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// Its name in the rule file.
    pub name: Name,
    /// Whose it is.
    pub tenant: Name,
    /// Where it stood when something of it was last stored.
    pub cursor: Option<Cursor>,
    /// The rows of its position that are stored.
    pub positions: Arc<dyn StoredPositions>,
    /// True where the rule file has an `event:` mapping: then what is no CloudEvent arrives as
    /// [`Arrival::Plain`].
    pub mapped: bool,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Wakes it at a time of day.
    pub alarms: Alarms,
    /// Where it may take requests over HTTP.
    pub routes: Routes,
    /// Where it tells of its connection.
    pub link: Link,
}

/// The rows of a source's position, as they are stored when it opens.
#[async_trait]
pub trait StoredPositions: fmt::Debug + Send + Sync {
    /// Returns rows in the order of their keys: those behind `after`, or from the first, at most
    /// `limit`. Fewer than `limit` are the last.
    ///
    /// # Errors
    /// Why they cannot be read now, in words.
    async fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<PositionRow>, String>;
}

/// How many rows are read at once.
const ROWS_PER_PAGE: usize = 4_096;

impl SourceContext {
    /// Reads every stored row of the position and hands each to `take`.
    ///
    /// # Errors
    /// [`OpenError`] where they cannot be read now.
    pub(crate) async fn each_position(
        &self,
        mut take: impl FnMut(PositionRow) + Send,
    ) -> Result<(), OpenError> {
        let mut after: Option<Bytes> = None;
        loop {
            let page = self.positions.page(after.as_deref(), ROWS_PER_PAGE).await;
            let page = page.map_err(|error| {
                let name = &self.name;
                OpenError(Problem::new(format!(
                    "cannot read what is stored of {name}: {error}"
                )))
            })?;
            let is_last = page.len() < ROWS_PER_PAGE;
            after = page.last().map(|row| row.key.clone());
            page.into_iter().for_each(&mut take);
            if is_last {
                return Ok(());
            }
        }
    }
}

/// The fingerprint of what gives a source's position its meaning, for [`Cursor::fingerprint`]: the
/// same in every build.
pub(crate) fn fingerprint(parts: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        // The length in front keeps ["a", "b"] and ["ab"] apart.
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
