//! The history of deliveries: which attempts were made, and how each run ended.
//!
//! It is written in the transaction that it tells of, never changed, and deleted oldest first.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Class, DeliveryId, Sequence, SubscriptionNumber, Timestamp};

use crate::{DeadLetter, DeadReason, LastOutcome, Pending, TaskState};

/// How much of a target's answer is kept: with an attempt, with a delivery that is tried again,
/// and with a dead letter.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Entries of one delivery that are shown at once, the latest.
pub const ENTRIES_OF_ONE_MAX: usize = 1_000;

/// What the history is to say of a settlement.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Record {
    /// Nothing.
    #[default]
    Nothing,
    /// How the delivery ended, where it did; no attempt was made.
    End,
    /// The attempt that was made, and what became of the delivery.
    Attempt(AttemptMade),
}

/// An attempt, as whoever made it tells of it. What it came to stands here only where the
/// [`Ending`](crate::Ending) does not say it: of a success, and of one that was stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptMade {
    /// When it began, by [`Journal::clock`](crate::Journal::clock).
    pub began: Timestamp,
    /// How long it took.
    pub ran: Duration,
    /// What was called, without secrets: a method and an address, a subject, a command.
    pub called: Option<Arc<str>>,
    /// The class of its outcome.
    pub class: Class,
    /// The target's own code.
    pub code: Option<i32>,
    /// One line for a person.
    pub message: String,
    /// The beginning of the answer as text: [`ANSWER_BYTES_MAX`] at most.
    pub answer: String,
    /// What decided when the next attempt is, where there is one.
    pub wait: Option<WaitReason>,
}

/// What decides when a delivery is tried again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    /// The backoff of its rule.
    Backoff,
    /// The target has said when.
    RetryAfter,
    /// The target does not know us, and it is to be found out whether that is the delivery's own
    /// fault.
    Refused,
    /// Its subscription is paused, and goes on at once when that ends.
    Paused,
}

impl WaitReason {
    /// The reason as it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backoff => "backoff",
            Self::RetryAfter => "retry-after",
            Self::Refused => "refused",
            Self::Paused => "paused",
        }
    }
}

/// Where an entry stands in the history; later entries have greater places. The place of one that
/// is deleted is never used again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct HistoryPlace {
    /// The row.
    pub row: u64,
    /// The entry within it.
    pub entry: u32,
}

impl HistoryPlace {
    /// Behind all entries.
    pub const BEHIND_ALL: Self = Self {
        row: i64::MAX.cast_unsigned(),
        entry: u32::MAX,
    };
}

impl fmt::Display for HistoryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.row, self.entry)
    }
}

/// A text is no [`HistoryPlace`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place in the history (such as 1f-0)")]
pub struct InvalidHistoryPlace(pub String);

impl FromStr for HistoryPlace {
    type Err = InvalidHistoryPlace;

    fn from_str(text: &str) -> Result<Self, InvalidHistoryPlace> {
        let parse = || {
            let (row, entry) = text.split_once('-')?;
            let place = Self {
                row: u64::from_str_radix(row, 16).ok()?,
                entry: u32::from_str_radix(entry, 16).ok()?,
            };
            (place.to_string() == text).then_some(place)
        };
        parse().ok_or_else(|| InvalidHistoryPlace(text.to_owned()))
    }
}

/// An entry of the history: something that happened to a delivery.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HistoryEntry {
    /// Where it stands.
    pub place: HistoryPlace,
    /// Which delivery.
    pub id: DeliveryId,
    /// When it was written: with the end of the attempt.
    pub at: Timestamp,
    /// The state that it led to.
    pub state: TaskState,
    /// Why, where the delivery became a dead letter.
    pub reason: Option<DeadReason>,
    /// When it is tried again, and what decided that.
    pub next: Option<(Timestamp, WaitReason)>,
    /// The attempt, where it tells of one.
    pub attempt: Option<AttemptEntry>,
}

impl HistoryEntry {
    /// Changes every time of it.
    pub(crate) fn show_by(&mut self, show: impl Fn(&mut Timestamp)) {
        show(&mut self.at);
        if let Some((next, _)) = &mut self.next {
            show(next);
        }
        if let Some(attempt) = &mut self.attempt {
            show(&mut attempt.began);
        }
    }
}

/// An attempt as the history keeps it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AttemptEntry {
    /// Its number, from 1.
    pub number: u32,
    /// When it began.
    pub began: Timestamp,
    /// How long the delivery had been due then.
    pub waited: Duration,
    /// How long it took.
    pub ran: Duration,
    /// What was called.
    pub called: Option<Arc<str>>,
    /// The class of its outcome.
    pub class: Class,
    /// The target's own code.
    pub code: Option<i32>,
    /// One line for a person; empty where nothing went wrong.
    pub message: String,
    /// The beginning of the answer.
    pub answer: String,
}

/// Everything that is known of one delivery.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TaskLife {
    /// Its state.
    pub state: TaskState,
    /// Its place in the queue, while it has not ended.
    pub pending: Option<Pending>,
    /// Its dead letter, while there is one.
    pub dead: Option<DeadLetter>,
    /// What is kept of its history, in order: the latest [`ENTRIES_OF_ONE_MAX`] entries.
    pub history: Vec<HistoryEntry>,
}

/// Which of the deliveries that have ended are meant: all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EndedSelection {
    /// Of these subscriptions.
    pub subscriptions: Option<Vec<SubscriptionNumber>>,
    /// Of this event: found without looking at others.
    pub event: Option<Sequence>,
    /// In one of these states; any where there is none. A delivery whose dead letter was purged is
    /// `purged` and no longer `failed`.
    pub states: Vec<TaskState>,
    /// Ended at this time or later.
    pub from: Option<Timestamp>,
    /// Ended before this time.
    pub before: Option<Timestamp>,
    /// The latest first; else the earliest.
    pub latest_first: bool,
}

impl EndedSelection {
    /// Whether a subscription is selected.
    pub(crate) fn selects_subscription(&self, number: SubscriptionNumber) -> bool {
        let wanted = self.subscriptions.as_ref();
        wanted.is_none_or(|wanted| wanted.contains(&number))
    }

    /// Whether an event is selected.
    pub(crate) fn selects_event(&self, event: Sequence) -> bool {
        self.event.is_none_or(|wanted| wanted == event)
    }

    /// Whether a state is selected.
    pub(crate) fn selects_state(&self, state: TaskState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// Whether an entry may be selected, whatever its dead letter has become.
    pub(crate) fn may_select(&self, state: TaskState) -> bool {
        match state {
            TaskState::Failed | TaskState::Expired => {
                self.selects_state(state) || self.selects_state(TaskState::Purged)
            }
            TaskState::Succeeded | TaskState::Stopped => self.selects_state(state),
            _ => false,
        }
    }
}

/// Some of the deliveries that have ended.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EndedPage {
    /// The entries that tell of their ends, each with the state that the delivery has now.
    pub entries: Vec<HistoryEntry>,
    /// Behind which place to go on; none at the end. A page may be short of its limit, even empty,
    /// and not be the last.
    pub next: Option<HistoryPlace>,
}

impl AttemptEntry {
    /// What is kept of an attempt that was due at `due`, with what it came to where its ending says
    /// so.
    pub(crate) fn of(
        made: AttemptMade,
        due: Timestamp,
        number: u32,
        last: Option<&LastOutcome>,
    ) -> Self {
        let AttemptMade {
            began,
            ran,
            called,
            class,
            code,
            message,
            answer,
            wait: _,
        } = made;
        let entry = Self {
            number,
            began,
            waited: began.since(due),
            ran,
            called,
            class,
            code,
            message,
            answer,
        };
        match last {
            None => entry,
            Some(last) => Self {
                class: last.class,
                code: last.code,
                message: last.message.clone(),
                answer: last.response.clone(),
                ..entry
            },
        }
    }
}

impl TaskLife {
    /// A life of what is known; none where that is nothing.
    pub(crate) fn of(
        pending: Option<Pending>,
        dead: Option<DeadLetter>,
        history: Vec<HistoryEntry>,
        now: Timestamp,
    ) -> Option<Self> {
        let ended = || {
            let states = history.iter().rev().map(|entry| entry.state);
            states.into_iter().find(|state| state.is_terminal())
        };
        let state = match (&pending, &dead) {
            (Some(pending), _) => pending.state(now),
            (None, Some(dead)) => TaskState::of_dead(dead.reason),
            (None, None) => ended()?,
        };
        Some(Self {
            state,
            pending,
            dead,
            history,
        })
    }
}
