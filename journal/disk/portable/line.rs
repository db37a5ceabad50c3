//! The lines of an export: one JSON object each, named by what it tells of.
//!
//! Times are times of day, in microseconds since 1970. Sequences are those of the store that was
//! exported. What is bytes to the journal is in base64.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pointsman_schemas::{Name, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::event::PortableEvent;
use crate::disk::record::Noted;
use crate::sharded::TenantShards;
use crate::{
    Activity, AttemptEntry, Backlog, Counts, DeadReason, LastOutcome, Priority, Replay, ReplayId,
    SubscriptionIdentity, TaskState, WaitReason,
};

/// The format of the lines that are written today; others are not read.
pub(super) const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Head(Head),
    Subscription(SubscriptionLine),
    Replay(ReplayLine),
    Cursor(CursorLine),
    Position(PositionLine),
    Pending(PendingLine),
    Event(Box<EventLine>),
    Reject(Box<RejectLine>),
    Identity(IdentityLine),
    Key(KeyLine),
    History(HistoryLine),
    End(End),
}

/// The first line, as far as every format has it.
#[derive(Debug, Deserialize)]
pub(super) struct AnyHead {
    pub(super) head: AnyFormat,
}

#[derive(Debug, Deserialize)]
pub(super) struct AnyFormat {
    pub(super) format: u32,
}

/// What holds for the whole journal. Of several shards numbers are the highest, and counts sums.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) format: u32,
    /// The identity of the journal, or of that of its first shard.
    pub(super) journal: u64,
    pub(super) shards: u16,
    /// When it was exported.
    pub(super) at: Timestamp,
    /// The time of the last commit: no time of the journal is behind it.
    pub(super) time: Timestamp,
    pub(super) last_sequence: u64,
    pub(super) last_run: u64,
    pub(super) last_subscription: u32,
    /// Of one shard: each epoch, and the first sequence and the first run that it gave out.
    pub(super) epochs: Vec<(u64, u64, u64)>,
    pub(super) old_identities_until: Timestamp,
    pub(super) quarantined: u64,
    pub(super) lost_commits: u64,
    /// The counts of subscriptions that are gone.
    pub(super) dropped: Counts,
    /// How many shards tenants have, of a cluster.
    #[serde(default, skip_serializing_if = "TenantShards::is_empty")]
    pub(super) tenants: TenantShards,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionLine {
    pub(super) number: u32,
    pub(super) identity: SubscriptionIdentity,
    pub(super) attached: bool,
    pub(super) activity: Activity,
    pub(super) backlog: Option<Backlog>,
    pub(super) counts: Counts,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayLine {
    /// Which shard's part of it this is.
    pub(super) shard: u16,
    /// The request, which `replay` leaves out.
    pub(super) request: Base64,
    pub(super) replay: Replay,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CursorLine {
    pub(super) tenant: Name,
    pub(super) source: Name,
    pub(super) fingerprint: u64,
    pub(super) position: Base64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PositionLine {
    pub(super) tenant: Name,
    pub(super) source: Name,
    pub(super) key: Base64,
    pub(super) value: Base64,
}

/// A delivery that has not ended. It comes before its event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PendingLine {
    pub(super) subscription: u32,
    pub(super) sequence: u64,
    pub(super) run: u64,
    pub(super) due: Timestamp,
    pub(super) priority: Priority,
    pub(super) since: Timestamp,
    /// Made to be due at once.
    pub(super) immediate: bool,
    pub(super) suspended: bool,
    pub(super) order_key: Option<u64>,
    pub(super) attempts: u32,
    pub(super) failures: u32,
    pub(super) batch_max: Option<NonZeroU32>,
    pub(super) last: Option<LastOutcome>,
    pub(super) replay: Option<ReplayId>,
}

/// An event with its dead letters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventLine {
    pub(super) sequence: u64,
    pub(super) tenant: Name,
    pub(super) origin: Name,
    pub(super) at: Timestamp,
    pub(super) kept_until: Option<Timestamp>,
    pub(super) event: PortableEvent,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) dead: Vec<DeadLine>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLine {
    pub(super) subscription: u32,
    pub(super) run: u64,
    pub(super) tenant: Name,
    pub(super) origin: Name,
    pub(super) reason: DeadReason,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) order_key: Option<u64>,
    pub(super) last: Option<LastOutcome>,
    pub(super) replay: Option<ReplayId>,
    /// The event that a redrive sends in the place of its own.
    pub(super) edited: Option<PortableEvent>,
}

/// A dead letter of what no event could be made of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectLine {
    pub(super) sequence: u64,
    pub(super) why: String,
    pub(super) raw: Base64,
    pub(super) letter: DeadLine,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityLine {
    pub(super) identity: [u64; 2],
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) until: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyLine {
    pub(super) key: [u64; 2],
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) until: Timestamp,
    pub(super) subscriptions: Vec<u32>,
}

/// A row of the history, of deliveries of one subscription.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryLine {
    pub(super) subscription: u32,
    pub(super) at: Timestamp,
    pub(super) entries: Vec<NotedLine>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotedLine {
    pub(super) sequence: u64,
    pub(super) run: u64,
    pub(super) state: TaskState,
    pub(super) reason: Option<DeadReason>,
    pub(super) next: Option<(Timestamp, WaitReason)>,
    pub(super) attempt: Option<AttemptEntry>,
}

impl NotedLine {
    pub(super) fn of(noted: Noted) -> Self {
        let Noted {
            sequence,
            run,
            state,
            reason,
            next,
            attempt,
        } = noted;
        Self {
            sequence,
            run,
            state,
            reason,
            next,
            attempt,
        }
    }

    /// The entry, under another sequence.
    pub(super) fn into_noted(self, sequence: u64) -> Noted {
        Noted {
            sequence,
            run: self.run,
            state: self.state,
            reason: self.reason,
            next: self.next,
            attempt: self.attempt,
        }
    }
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) carried: Carried,
    /// SHA-256 over the bytes of all lines before this one.
    pub(super) sha256: String,
}

/// How much of everything an export has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Subscriptions.
    pub subscriptions: u64,
    /// Retained events.
    pub events: u64,
    /// Deliveries that have not ended.
    pub pending: u64,
    /// Dead letters, of deliveries and of what no event could be made of.
    pub dead: u64,
    /// Sources' cursors, and rows of their positions.
    pub positions: u64,
    /// What deduplication remembers.
    pub keys: u64,
    /// Replays; of several shards each one's part.
    pub replays: u64,
    /// Entries of the history of tasks.
    pub history: u64,
}

impl Carried {
    /// Counts a line.
    pub(super) fn count(&mut self, line: &Line) {
        let (count, number) = match line {
            Line::Head(_) | Line::End(_) => return,
            Line::Subscription(_) => (&mut self.subscriptions, 1),
            Line::Replay(_) => (&mut self.replays, 1),
            Line::Cursor(_) | Line::Position(_) => (&mut self.positions, 1),
            Line::Pending(_) => (&mut self.pending, 1),
            Line::Event(event) => {
                self.dead += event.dead.len() as u64;
                (&mut self.events, 1)
            }
            Line::Reject(_) => (&mut self.dead, 1),
            Line::Identity(_) | Line::Key(_) => (&mut self.keys, 1),
            Line::History(row) => (&mut self.history, row.entries.len() as u64),
        };
        *count += number;
    }
}

/// Bytes, as a text in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base64(pub(super) Bytes);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes.into()))
    }
}
