//! What is appended: events with who waits for them, what could not be read, and how far the source
//! has been read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{
    Cursor, DeliveryId, Event, Name, PositionChange, Reject, Sequence, SubscriptionNumber,
    Timestamp,
};
use smallvec::SmallVec;

use crate::{DeadReason, Due, Key, KnownKeys, LastOutcome, Priority, SubscriptionIdentity};

/// What a source hands over at once, matched.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Append {
    /// Whose; everything in an append has one tenant.
    pub tenant: Name,
    /// The source's name, `ingress` or `replies`.
    pub origin: Name,
    /// The events.
    pub entries: Vec<Entry>,
    /// What could not be read: kept as dead letters of the source.
    pub rejects: Vec<Reject>,
    /// How far the source has been read with these; replaces its stored cursor.
    pub cursor: Option<Cursor>,
    /// Rows of the source's position that change with these. Of two changes of one row the later
    /// holds. Most sources keep a cursor alone and have none.
    pub positions: Vec<PositionChange>,
}

/// One event with who waits for it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// The event.
    #[serde(with = "crate::encoding::event::shared")]
    pub event: Arc<Event>,
    /// Who waits for it; empty where no rule took it. Of two for one subscription the first counts.
    #[serde(with = "crate::encoding::few")]
    pub deliveries: SmallVec<[NewDelivery; 2]>,
    /// Where set, an event with the same tenant, origin, `source` and `id` that was stored less
    /// than this long ago makes this one a duplicate. Only events that were stored with this set
    /// are remembered, for as long as it said then.
    pub deduplicate: Option<Duration>,
    /// A delivery of it that has ended already, without having been stored before. Where
    /// `deliveries` has one for the same subscription, that one counts.
    pub dead: Option<NewDead>,
    /// What few entries ask for beyond that.
    pub terms: Option<Box<Terms>>,
}

/// What an entry may ask for beyond being stored.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Terms {
    /// What it is known by beside its identity, each with what is left out where it is known.
    pub keys: Vec<Key>,
    /// Who is told what was made of it. It stays in this process.
    #[serde(skip)]
    pub watch: Option<Arc<dyn Watch>>,
    /// How long it is kept, in the place of what the journal keeps others.
    pub retention: Option<Retention>,
}

/// How long an event is kept once nothing refers to it, counted from when it was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Retention {
    /// So long, in the place of the journal's own retention; none for that.
    pub instead: Option<Duration>,
    /// Not less than this.
    pub at_least: Duration,
}

impl Retention {
    /// How long that is in a journal whose own retention is `usual`.
    #[must_use]
    pub(crate) fn or(self, usual: Duration) -> Duration {
        self.instead.unwrap_or(usual).max(self.at_least)
    }
}

/// Learns what was made of an entry.
pub trait Watch: fmt::Debug + Send + Sync {
    /// The entry is stored under this sequence, and these deliveries were made of it, each once.
    /// Called once that has been committed and before anything of it can be leased, while the
    /// queues wait: it must be quick, and must not call the journal. Not called of a duplicate.
    fn made(&self, sequence: Sequence, made: Vec<MadeDelivery>);
}

/// A delivery as it was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MadeDelivery {
    /// Which.
    pub id: DeliveryId,
    /// Whose it is.
    pub subscription: SubscriptionIdentity,
    /// Whether it is a dead letter from the beginning, because the backlog is full.
    pub is_dead: bool,
}

/// A dead letter of a delivery that was never pending here. It counts as created and dead at once.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NewDead {
    /// For whom it was.
    pub subscription: SubscriptionNumber,
    /// Hash of the value that `order_by` found: a redrive of it is ordered again.
    pub order_key: Option<u64>,
    /// Why it is dead.
    pub reason: DeadReason,
    /// Tries made.
    pub attempts: u32,
    /// What the last attempt came to.
    pub last: Option<LastOutcome>,
    /// The event that a redrive sends in the place of the entry's.
    #[serde(with = "crate::encoding::event::optional")]
    pub edited: Option<Arc<Event>>,
}

/// A delivery to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NewDelivery {
    /// For whom.
    pub subscription: SubscriptionNumber,
    /// Hash of the value that `order_by` found; none where it is unordered.
    pub order_key: Option<u64>,
    /// When it falls due by [`Journal::clock`](crate::Journal::clock); none for at once.
    pub due: Option<Timestamp>,
    /// How urgent it is among those of its subscription, where it is unordered.
    pub priority: Priority,
}

impl NewDelivery {
    /// An unordered delivery that is due at once.
    #[must_use]
    pub fn now(subscription: SubscriptionNumber) -> Self {
        Self {
            subscription,
            order_key: None,
            due: None,
            priority: Priority::USUAL,
        }
    }

    /// When it falls due where it is made now, and how urgent it is then.
    pub(crate) fn due_from(&self, now: Timestamp) -> Due {
        let is_ordered = self.order_key.is_some();
        let priority = if is_ordered {
            Priority::USUAL
        } else {
            self.priority
        };
        Due::new(priority, self.due.unwrap_or(now))
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Appended {
    /// It is stored, under this sequence.
    Stored(Sequence),
    /// It is stored, without the deliveries that these of its keys guard: they are known.
    Reduced(Sequence, KnownKeys),
    /// The id of its tasks is taken by the event of this sequence; nothing was added.
    Taken(Sequence),
    /// It had been stored before, under this sequence; nothing was added.
    Duplicate(Sequence),
}

impl Appended {
    /// What became of an entry of which a copy went elsewhere: it is stored where one of them is.
    #[must_use]
    pub(crate) fn with_copy(self, copy: Self) -> Self {
        match (self, copy) {
            (Self::Reduced(sequence, known), Self::Reduced(_, more)) => {
                Self::Reduced(sequence, known.and(more))
            }
            (Self::Stored(sequence), Self::Reduced(_, known))
            | (Self::Reduced(sequence, known), Self::Stored(_)) => Self::Reduced(sequence, known),
            (stored @ (Self::Stored(_) | Self::Reduced(..)), _) => stored,
            (_, stored @ (Self::Stored(_) | Self::Reduced(..))) => stored,
            (known, _) => known,
        }
    }
}
