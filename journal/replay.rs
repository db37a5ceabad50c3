//! Replays: retained events, or dead letters, given to a subscription anew, at a pace of its own.
//!
//! The journal keeps how far each has come, in the transaction that makes its deliveries, so that
//! after a crash it goes on where it was and makes none twice. What is to be replayed is decided
//! outside: the journal is handed deliveries, and keeps the words of the request as bytes.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use bytes::Bytes;
use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber, Timestamp};

use crate::{DeadSelection, NewDelivery};

/// Deliveries of a subscription that may wait while a replay makes more: what waits longer is as
/// well read later, and can still be stopped.
pub const REPLAY_PENDING_MAX: u64 = 10_000;

/// Ended replays that are kept for the list.
pub const ENDED_REPLAYS_MAX: usize = 100;

/// The identity of a replay: random, so that no other one has it, whatever becomes of the journal.
/// Shown as sixteen hexadecimal digits.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ReplayId(NonZeroU64);

impl ReplayId {
    /// A new identity.
    #[must_use]
    pub fn random() -> Self {
        // A positive number of 63 bits, as SQLite's keys are.
        let number = rand::random::<u64>() >> 1;
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// The id of this number; none of 0.
    #[must_use]
    pub fn of(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text is no [`ReplayId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a replay (such as 5f1c9a0b3d2e4f60)")]
pub struct InvalidReplayId(pub String);

impl FromStr for ReplayId {
    type Err = InvalidReplayId;

    fn from_str(text: &str) -> Result<Self, InvalidReplayId> {
        let number = u64::from_str_radix(text, 16).ok();
        let id = number.and_then(|number| i64::try_from(number).ok().and(Self::of(number)));
        // One replay has one spelling.
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| InvalidReplayId(text.to_owned()))
    }
}

/// What has become of a replay.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// It has come to its end.
    Finished,
    /// Somebody has stopped it.
    Stopped,
    /// It could not go on.
    Failed,
}

impl ReplayState {
    /// The state as it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// What a replay takes its deliveries from.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayKind {
    /// Retained events, for one subscription.
    Events,
    /// Retained events for a subscription that has just come. Until it has caught up with what is
    /// appended meanwhile, an append makes no delivery for the subscription: the replay does.
    Start,
    /// Dead letters.
    Dead,
}

/// A replay to be kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NewReplay {
    /// What it takes its deliveries from; not [`ReplayKind::Start`], which begins with its
    /// subscription.
    pub kind: ReplayKind,
    /// For whom; none where the dead letters say it.
    pub subscription: Option<SubscriptionNumber>,
    /// The request in the caller's own words.
    pub request: Bytes,
    /// Behind which event it begins.
    pub after: Sequence,
    /// The last event that it looks at.
    pub until: Sequence,
}

/// A replay as it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Replay {
    /// Which.
    pub id: ReplayId,
    /// What it takes its deliveries from.
    pub kind: ReplayKind,
    /// For whom; none where the dead letters say it.
    pub subscription: Option<SubscriptionNumber>,
    /// The request in the caller's own words; empty of one that began with its subscription.
    pub request: Bytes,
    /// How it stands.
    pub state: ReplayState,
    /// One line for a person on why it ended, where there is more to say than the state.
    pub message: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Behind which event it began.
    pub first: Sequence,
    /// The last event that it has looked at.
    pub after: Sequence,
    /// The last event that it looks at. Of [`ReplayKind::Start`] the last one from before the
    /// subscription came, until it hands over: then the last that is its own.
    pub until: Sequence,
    /// Deliveries of events up to this one are marked as replayed. What was appended since a
    /// subscription came is not, though a replay makes its deliveries.
    pub marked_until: Sequence,
    /// True of [`ReplayKind::Start`] once appends make deliveries again: `until` is its end.
    pub hands_over: bool,
    /// Events or dead letters that it has looked at.
    pub seen: u64,
    /// Deliveries that it has made.
    pub made: u64,
}

impl Replay {
    /// A replay that begins now.
    #[must_use]
    pub(crate) fn begin(id: ReplayId, new: NewReplay, now: Timestamp) -> Self {
        let NewReplay {
            kind,
            subscription,
            request,
            after,
            until,
        } = new;
        let marked_until = match kind {
            ReplayKind::Start => until,
            ReplayKind::Events | ReplayKind::Dead => Sequence(u64::MAX),
        };
        Self {
            id,
            kind,
            subscription,
            request,
            state: ReplayState::Running,
            message: String::new(),
            began: now,
            ended: None,
            first: after,
            after,
            until,
            marked_until,
            hands_over: false,
            seen: 0,
            made: 0,
        }
    }

    /// True until it has ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == ReplayState::Running
    }

    /// The mark of a delivery of this event.
    #[must_use]
    pub(crate) fn mark(&self, event: Sequence) -> Option<ReplayId> {
        (event <= self.marked_until).then_some(self.id)
    }

    /// The events that must not be deleted: behind the first and up to the second. Where room is
    /// wanted those alone that an append has made no delivery of, because this replay does.
    #[must_use]
    pub(crate) fn pinned(&self, needs_room: bool) -> Option<(Sequence, Sequence)> {
        if !self.is_running() {
            return None;
        }
        let open_end = Sequence(u64::MAX);
        match self.kind {
            ReplayKind::Dead => None,
            ReplayKind::Events => (!needs_room).then_some((self.after, self.until)),
            ReplayKind::Start => {
                let from = if needs_room {
                    self.after.max(self.marked_until)
                } else {
                    self.after
                };
                Some((
                    from,
                    if self.hands_over {
                        self.until
                    } else {
                        open_end
                    },
                ))
            }
        }
    }

    /// Takes over what a step has done up to an event.
    pub(crate) fn step(&mut self, after: Sequence, seen: u64, made: u64) {
        self.after = self.after.max(after);
        (self.seen, self.made) = (self.seen + seen, self.made + made);
    }

    /// Ends it. One that began with its subscription only leaves out what is from before that: the
    /// rest was matched, and nobody else makes its deliveries. False where it goes on like that.
    pub(crate) fn end(&mut self, state: ReplayState, message: &str, now: Timestamp) -> bool {
        if self.kind == ReplayKind::Start && state != ReplayState::Finished {
            message.clone_into(&mut self.message);
            self.after = self.after.max(self.marked_until);
            return false;
        }
        // It was stopped before.
        let was_stopped = self.kind == ReplayKind::Start && !self.message.is_empty();
        self.state = if was_stopped {
            ReplayState::Stopped
        } else {
            message.clone_into(&mut self.message);
            state
        };
        self.ended = Some(now);
        true
    }
}

/// One step of a replay of events.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReplayStep {
    /// Of which.
    pub id: ReplayId,
    /// The deliveries, by the events that they are of, in their order; all for the replay's own
    /// subscription.
    pub deliveries: Vec<(Sequence, NewDelivery)>,
    /// The last event that was looked at.
    pub after: Sequence,
    /// How many were looked at.
    pub seen: u64,
    /// What follows.
    pub then: AfterStep,
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AfterStep {
    /// Another one.
    More,
    /// Of [`ReplayKind::Start`]: from now on appends make deliveries, which are not leased before
    /// the replay has ended. There may be more events in front of them by now.
    HandOver,
    /// Nothing: it has ended.
    End,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Replayed {
    /// Deliveries that were made. An event of which the subscription has one pending or dead
    /// already gets none.
    pub made: u64,
    /// How many more the subscription's backlog takes.
    pub room: u64,
    /// The replay as it stands; ended where nothing was done.
    pub replay: Replay,
}

/// Dead letters to be run anew, some at a time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Redrive {
    /// Which.
    pub selection: DeadSelection,
    /// For this subscription of the same tenant, in the place of their own.
    pub to: Option<SubscriptionNumber>,
    /// Only those that died before this, by [`Journal::clock`](crate::Journal::clock).
    pub before: Timestamp,
    /// Behind which to go on.
    pub after: Option<DeliveryId>,
    /// How many at most.
    pub limit: u64,
    /// The replay that they count for; where that has ended nothing is done.
    pub replay: Option<ReplayId>,
}

/// What came of a [`Redrive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Redriven {
    /// How many were run anew.
    pub count: u64,
    /// Behind which to go on; none at the end.
    pub next: Option<DeliveryId>,
}

/// From where a subscription that comes for the first time is given retained events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Start {
    /// From the first that is there.
    Earliest,
    /// From the first that was appended at this time of day or later.
    Time(Timestamp),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_one_spelling() {
        let id = ReplayId::of(0x1f).unwrap();
        assert_eq!(id.to_string(), "000000000000001f");
        assert_eq!("000000000000001f".parse(), Ok(id));
        for _ in 0..100 {
            let id = ReplayId::random();
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in [
            "",
            "1f",
            "000000000000001F",
            "+00000000000001f",
            "0000000000000000",
            "ffffffffffffffff",
        ] {
            assert!(bad.parse::<ReplayId>().is_err(), "{bad}");
        }
    }
}
