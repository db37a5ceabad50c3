//! The log that lies under the journals of many machines: a replicated, totally ordered sequence of
//! records for each shard, kept by an engine that the user already runs.
//!
//! [`Log`] is the seam, with its whole contract. It knows bytes and places; what a record means,
//! and who may write which, is not its business. There is a log in PostgreSQL, one in NATS
//! JetStream, and a simulated one for tests. Whatever implements it passes the suite behind the
//! feature `test-util`. [`several`] makes one log of those in several engines.

mod cluster;
mod error;
#[cfg(feature = "nats")]
pub mod nats;
mod part;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod several;
#[cfg(feature = "test-util")]
pub mod simulated;
#[cfg(feature = "test-util")]
pub mod suite;

pub use cluster::{Cluster, InvalidCluster, SHARDS_MAX};
pub use error::{FollowError, LogError, OpenError};
pub use part::{Foreign, Part};

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use pointsman_schemas::Name;

/// The largest body of a record or a beat: what a NATS server takes in one message unless it is
/// told otherwise.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// One of the logs of a cluster, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a record stands in the total order of its shard. The first record stands at 1, and each
/// at one more than the record before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

impl Place {
    /// Before the first record.
    pub const START: Self = Self(0);

    /// Returns the place right behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a follower reads next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The record at the place right behind the last one.
    Record {
        /// Its place.
        place: Place,
        /// What was appended, byte for byte.
        body: Bytes,
    },
    /// Everything up to a place has been trimmed before the follower could read it. It goes on with
    /// the record at `first`, which may be still to come.
    Trimmed {
        /// The first place that has not been trimmed.
        first: Place,
    },
}

/// The records of one shard, in order and without a gap. See [`Log::follow`].
pub type Follower = BoxStream<'static, Result<Next, FollowError>>;

/// The latest sign of life of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Who is alive.
    pub node: Name,
    /// What it says of itself.
    pub body: Bytes,
}

/// The beats of all nodes, as one engine has them. See [`Log::beats`].
pub type Beats = BoxStream<'static, Beat>;

/// The log of one cluster, as one node sees it.
///
/// All nodes that open the log of a cluster, in whatever process and on whatever machine, share its
/// records and beats. Logs of different clusters, and the shards of one, have nothing to do with
/// each other.
///
/// A log connects to its engine again by itself, however long that takes. Nothing here waits for
/// ever but the two streams: every other call ends within the timeout that the log was opened with,
/// and a little.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Appends a record to a shard and returns its place once it is durable: it then outlives the
    /// crash of every node and of the engine, as far as the engine's replication goes.
    ///
    /// Places are the order in which every follower reads. A call that begins after another one has
    /// returned gets a later place, whichever nodes they were made on. Calls that overlap are
    /// ordered either way, also those of one caller: who needs an order awaits each before the next.
    /// One call appends at most one record.
    ///
    /// A future that is dropped leaves it open whether the record is appended, now or later, as
    /// [`LogError::Unknown`] does.
    ///
    /// # Errors
    /// After [`LogError::Unknown`] the record may have been appended, may be appended yet, also
    /// behind records of later calls, or may never be. The caller appends the same bytes again and
    /// again until it has a place; readers have to tell copies by what is in them. After every other
    /// error nothing was appended, and nothing will be by this call: [`LogError::TooLarge`] past
    /// [`BODY_BYTES_MAX`] and [`LogError::NoShard`] are mistakes of the caller,
    /// [`LogError::Refused`] and [`LogError::Unavailable`] may pass.
    async fn append(&self, shard: Shard, body: Bytes) -> Result<Place, LogError>;

    /// Reads the records of a shard from the place right behind `after` on, for ever: those that are
    /// there, then those that are appended. [`Place::START`] is before the first.
    ///
    /// Every place is read once, in order; a record that was acknowledged before is among them. One
    /// that is read is durable. Where records were trimmed that should have been next,
    /// [`Next::Trimmed`] stands for all of them, once, at the latest when the next record comes.
    /// While the engine cannot be reached the stream waits. How much of it is read ahead is bounded.
    ///
    /// Its `next` is cancel-safe, and dropping the stream ends the reading.
    ///
    /// # Errors
    /// The stream ends with the first error: [`FollowError::NoShard`]; [`FollowError::Ahead`] where
    /// `after` lies past the end of the log, or the end has come to lie before what was already
    /// read; [`FollowError::Lost`] where a record is missing that nobody has trimmed. The last two
    /// say that the engine has lost what it had acknowledged.
    fn follow(&self, shard: Shard, after: Place) -> Follower;

    /// Removes the records before a place, for good and for everybody. The places of others do not
    /// change. Where the log ends before that place everything is removed, and the next record
    /// gets the place that it would have had; a place that is trimmed already changes nothing.
    ///
    /// A future that is dropped has trimmed all of it, a part from the front, or nothing. To do it
    /// again is always safe.
    ///
    /// # Errors
    /// [`LogError::NoShard`], [`LogError::Refused`], [`LogError::Unavailable`], or
    /// [`LogError::Unknown`], as for the dropped future.
    async fn trim(&self, shard: Shard, before: Place) -> Result<(), LogError>;

    /// Replaces the beat of a node, durably: in each engine, where there are several.
    ///
    /// Beats that overlap replace each other in any order, and one whose future was dropped or whose
    /// outcome is unknown may still do so: a body that must not be overtaken says its own number.
    ///
    /// # Errors
    /// As [`Log::append`], but for [`LogError::NoShard`]. [`LogError::Unknown`] also where only some
    /// of several engines have it.
    async fn beat(&self, node: &Name, body: Bytes) -> Result<(), LogError>;

    /// Reads the latest beat of every node that has one, then each newer one, for ever: by a stream
    /// for each engine, of which there is one unless the log is [`several::Several`].
    ///
    /// A stream yields no beat twice and may leave out those that were replaced meanwhile. The beat
    /// of a node that is gone stays for a day. What is listed at the beginning may be that old: who
    /// judges by silence counts from when it was heard. While the engine cannot be reached the
    /// stream waits.
    ///
    /// Its `next` is cancel-safe, and dropping the stream ends the reading.
    fn beats(&self) -> Vec<Beats>;
}

/// A log that has been opened.
#[derive(Debug)]
pub struct Opened<L> {
    /// The log.
    pub log: L,
    /// Which part of the cluster the engine keeps, and of which set; none where it keeps all of it.
    pub part: Option<Part>,
    /// Whether any node has ever worked with it. Each opens all engines first: where one is in use the
    /// others are there, and are opened as [`Cluster::existing`] ones.
    pub is_used: bool,
    /// What is at stake with the engine as it is set up, each a sentence for the operator.
    pub warnings: Vec<String>,
}

/// What an engine would be for the log of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Whether the log is there already; else the first node that opens it makes it.
    pub is_there: bool,
    /// As [`Opened::part`], of a log that is there.
    pub part: Option<Part>,
    /// As [`Opened::is_used`].
    pub is_used: bool,
    /// What is at stake, as [`Opened::warnings`].
    pub warnings: Vec<String>,
}

/// Refuses a body that no engine takes.
#[cfg(any(feature = "nats", feature = "postgres", feature = "test-util"))]
fn fits(body: &Bytes) -> Result<(), LogError> {
    match body.len() {
        0..=BODY_BYTES_MAX => Ok(()),
        bytes => Err(LogError::TooLarge { bytes }),
    }
}
