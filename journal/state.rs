//! The states of a task, and what may happen to it in each: the one table that everything which
//! changes a delivery goes by. It is drawn in `docs/rules/tasks.md`.
//!
//! A run of a delivery begins in one of [`FIRST_STATES`] and has one terminal state. What is told
//! of it afterwards is that its dead letter was purged, and no more: a redrive makes a new run.

use std::fmt;
use std::str::FromStr;

use pointsman_schemas::Timestamp;

use crate::DeadReason;

/// The state of a task: of one run of a delivery.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Put off: it is not tried before its time.
    Scheduled,
    /// It waits for its first attempt.
    Pending,
    /// An attempt is under way.
    Running,
    /// It was tried, and waits to be tried again.
    Retrying,
    /// Held back until somebody resumes it.
    Suspended,
    /// An attempt is under way that is being ended, since somebody has stopped the task.
    Stopping,
    /// Delivered.
    Succeeded,
    /// Given up, for a [`DeadReason`]; it is a dead letter.
    Failed,
    /// Given up, since it was too old; it is a dead letter.
    Expired,
    /// Ended by somebody.
    Stopped,
    /// Its dead letter was deleted.
    Purged,
}

/// The states in which a run begins; `failed` where its backlog is full and says so.
pub const FIRST_STATES: [TaskState; 3] =
    [TaskState::Scheduled, TaskState::Pending, TaskState::Failed];

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Happening {
    /// The time has come that it was put off to.
    FallDue,
    /// An attempt begins.
    Lease,
    /// The attempt is as if it had never begun: it was put back, its lease has run out, or the
    /// process has ended.
    PutBack,
    /// The attempt failed, and another one is to follow.
    Retry,
    /// Somebody wants the next attempt now.
    TryNow,
    /// Somebody holds it back.
    Suspend,
    /// Somebody lets it go on.
    Resume,
    /// Somebody ends it.
    Cancel,
    /// Somebody passes it over: it becomes a dead letter.
    Skip,
    /// The attempt that was to be stopped has ended.
    Stop,
    /// The target took it.
    Succeed,
    /// It is given up.
    Fail,
    /// It has become too old.
    Expire,
    /// Its dead letter is deleted.
    Purge,
}

/// Where something that happens leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// To this state.
    State(TaskState),
    /// To wait as it did: [`TaskState::waiting`] tells how.
    Waiting,
}

/// The table. What it does not name cannot happen.
const fn transition(from: TaskState, happening: Happening) -> Option<To> {
    use Happening as H;
    use TaskState as S;
    let to = match (from, happening) {
        (S::Scheduled, H::FallDue | H::TryNow) => S::Pending,
        (S::Pending, H::TryNow) => S::Pending,
        (S::Retrying, H::TryNow | H::FallDue) => S::Retrying,
        (S::Pending | S::Retrying, H::Lease) => S::Running,
        (S::Scheduled | S::Pending | S::Retrying, H::Suspend) => S::Suspended,
        (S::Suspended, H::Resume) | (S::Running | S::Stopping, H::PutBack) => {
            return Some(To::Waiting);
        }
        (S::Scheduled | S::Pending | S::Retrying | S::Suspended, H::Cancel) => S::Stopped,
        (S::Scheduled | S::Pending | S::Retrying | S::Suspended, H::Skip) => S::Failed,
        (S::Running, H::Cancel) => S::Stopping,
        (S::Running, H::Retry) => S::Retrying,
        (S::Running | S::Stopping, H::Succeed) => S::Succeeded,
        (S::Running | S::Stopping, H::Fail) => S::Failed,
        (S::Running | S::Stopping, H::Expire) => S::Expired,
        (S::Stopping, H::Stop) => S::Stopped,
        (S::Failed | S::Expired, H::Purge) => S::Purged,
        _ => return None,
    };
    Some(To::State(to))
}

/// Something cannot happen to a task in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {state} cannot {happening}")]
pub struct IllegalTransition {
    /// The state.
    pub state: TaskState,
    /// What cannot happen in it.
    pub happening: Happening,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Scheduled,
        Self::Pending,
        Self::Running,
        Self::Retrying,
        Self::Suspended,
        Self::Stopping,
        Self::Succeeded,
        Self::Failed,
        Self::Expired,
        Self::Stopped,
        Self::Purged,
    ];

    /// The state as it is shown and read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Stopped => "stopped",
            Self::Purged => "purged",
        }
    }

    /// Whether the run has ended: there will be no attempt any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Expired | Self::Stopped | Self::Purged
        )
    }

    /// How a task waits of which no attempt is under way.
    #[must_use]
    pub fn waiting(is_suspended: bool, attempts: u32, due: Timestamp, now: Timestamp) -> Self {
        if is_suspended {
            Self::Suspended
        } else if attempts > 0 {
            Self::Retrying
        } else if due > now {
            Self::Scheduled
        } else {
            Self::Pending
        }
    }

    /// The terminal state of what became a dead letter.
    #[must_use]
    pub const fn of_dead(reason: DeadReason) -> Self {
        match reason {
            DeadReason::Expired => Self::Expired,
            _ => Self::Failed,
        }
    }

    /// The state that something leads to; `waiting` is how the task waits where it is to go on
    /// waiting.
    ///
    /// # Errors
    /// [`IllegalTransition`] where it cannot happen in this state.
    pub const fn after(
        self,
        happening: Happening,
        waiting: Self,
    ) -> Result<Self, IllegalTransition> {
        match transition(self, happening) {
            Some(To::State(state)) => Ok(state),
            Some(To::Waiting) => Ok(waiting),
            None => Err(IllegalTransition {
                state: self,
                happening,
            }),
        }
    }

    /// Whether something can happen in this state.
    #[must_use]
    pub const fn admits(self, happening: Happening) -> bool {
        transition(self, happening).is_some()
    }
}

/// A text is no [`TaskState`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state of a task")]
pub struct InvalidTaskState(pub String);

impl FromStr for TaskState {
    type Err = InvalidTaskState;

    fn from_str(text: &str) -> Result<Self, InvalidTaskState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| InvalidTaskState(text.to_owned()))
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Happening {
    /// Everything that can happen.
    pub const ALL: [Self; 14] = [
        Self::FallDue,
        Self::Lease,
        Self::PutBack,
        Self::Retry,
        Self::TryNow,
        Self::Suspend,
        Self::Resume,
        Self::Cancel,
        Self::Skip,
        Self::Stop,
        Self::Succeed,
        Self::Fail,
        Self::Expire,
        Self::Purge,
    ];

    /// What happens, as the drawing names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FallDue => "fall due",
            Self::Lease => "lease",
            Self::PutBack => "put back",
            Self::Retry => "retry",
            Self::TryNow => "try now",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Skip => "skip",
            Self::Stop => "stop",
            Self::Succeed => "succeed",
            Self::Fail => "fail",
            Self::Expire => "expire",
            Self::Purge => "purge",
        }
    }

    /// What a dead letter is made for.
    #[must_use]
    pub const fn of_dead(reason: DeadReason) -> Self {
        match reason {
            DeadReason::Expired => Self::Expire,
            _ => Self::Fail,
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every transition as the drawing has it: state, next state, what happens. One that leads to
    /// waiting leads to each way of waiting.
    fn transitions() -> BTreeSet<String> {
        let waiting = [
            TaskState::Scheduled,
            TaskState::Pending,
            TaskState::Retrying,
        ];
        let mut all: BTreeSet<String> = FIRST_STATES.map(|first| format!("[*] --> {first}")).into();
        for state in TaskState::ALL {
            for happening in Happening::ALL {
                let to: BTreeSet<_> = waiting
                    .iter()
                    .filter_map(|waiting| state.after(happening, *waiting).ok())
                    .collect();
                all.extend(
                    to.iter()
                        .map(|to| format!("{state} --> {to} : {happening}")),
                );
            }
            if state.is_terminal() {
                all.insert(format!("{state} --> [*]"));
            }
        }
        all
    }

    #[test]
    fn the_drawing_in_the_docs_shows_the_table() {
        let page = include_str!("../docs/rules/tasks.md");
        let drawn: BTreeSet<String> = page
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("-->"))
            .map(str::to_owned)
            .collect();
        let table = transitions();
        let missing: Vec<_> = table.difference(&drawn).collect();
        let wrong: Vec<_> = drawn.difference(&table).collect();
        assert!(
            missing.is_empty() && wrong.is_empty(),
            "not drawn: {missing:#?}; drawn and not so: {wrong:#?}"
        );
    }

    #[test]
    fn nothing_but_a_purge_follows_a_terminal_state() {
        for state in TaskState::ALL {
            for happening in Happening::ALL {
                let is_purge = happening == Happening::Purge
                    && matches!(state, TaskState::Failed | TaskState::Expired);
                if state.is_terminal() {
                    assert_eq!(state.admits(happening), is_purge, "{state}, {happening}");
                }
            }
        }
    }

    #[test]
    fn every_state_is_reached_and_only_terminal_ones_have_no_way_on() {
        let mut reached: BTreeSet<_> = FIRST_STATES.into();
        loop {
            let next = reached.iter().flat_map(|state| {
                Happening::ALL.map(|happening| state.after(happening, TaskState::Retrying))
            });
            let mut more = reached.clone();
            more.extend(next.flatten());
            if more == reached {
                break;
            }
            reached = more;
        }
        assert_eq!(reached, TaskState::ALL.into());
        for state in TaskState::ALL {
            let goes_on = Happening::ALL
                .iter()
                .any(|happening| *happening != Happening::Purge && state.admits(*happening));
            assert_eq!(goes_on, !state.is_terminal(), "{state}");
        }
    }

    #[test]
    fn what_cannot_happen_is_said() {
        assert_eq!(
            TaskState::Running
                .after(Happening::Suspend, TaskState::Pending)
                .unwrap_err()
                .to_string(),
            "a task that is running cannot suspend"
        );
    }
}
