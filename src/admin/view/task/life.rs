//! The life of one task.

use pointsman_journal::{DeadReason, HistoryEntry, StoredEvent, TaskLife, TaskState, WaitReason};
use pointsman_schemas::Class;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TaskView;

/// A task with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskWhole {
    #[serde(flatten)]
    pub task: TaskView,
    /// Its event, as long as that is retained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<TaskEvent>,
    /// What happened to it, in order: its attempts, and its end. Only the latest 1,000 entries.
    #[serde(default)]
    pub history: Vec<EntryView>,
}

/// The event of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskEvent {
    pub r#type: String,
    pub source: String,
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was appended.
    pub at: String,
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryView {
    /// When it was written: with the end of the attempt.
    pub at: String,
    /// The state that it led to.
    pub state: TaskState,
    /// Why, where it became a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// The next attempt, where there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextView>,
    /// The attempt, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptView>,
}

/// When a task is tried again, and why then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NextView {
    /// Not before this.
    pub at: String,
    /// What decided that.
    pub why: WaitReason,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub began: String,
    /// How long the task had been due then.
    pub waited_seconds: f64,
    /// How long it took.
    pub ran_seconds: f64,
    /// What was called, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// What it counts as.
    pub class: Class,
    /// The target's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// One line for a person; empty where nothing went wrong.
    #[serde(default)]
    pub message: String,
    /// The beginning of what the target answered: 4 KiB at most.
    #[serde(default)]
    pub answer: String,
}

impl TaskWhole {
    pub(super) fn new(task: TaskView, life: TaskLife, event: Option<&StoredEvent>) -> Self {
        Self {
            task,
            event: event.map(|stored| TaskEvent {
                r#type: stored.event.ty().to_owned(),
                source: stored.event.source().to_owned(),
                id: stored.event.id().to_owned(),
                subject: stored.event.subject().map(str::to_owned),
                at: stored.at.to_string(),
            }),
            history: life.history.into_iter().map(EntryView::from).collect(),
        }
    }
}

impl From<HistoryEntry> for EntryView {
    fn from(entry: HistoryEntry) -> Self {
        Self {
            at: entry.at.to_string(),
            state: entry.state,
            reason: entry.reason,
            next: entry.next.map(|(at, why)| NextView {
                at: at.to_string(),
                why,
            }),
            attempt: entry.attempt.map(|attempt| AttemptView {
                number: attempt.number,
                began: attempt.began.to_string(),
                waited_seconds: attempt.waited.as_secs_f64(),
                ran_seconds: attempt.ran.as_secs_f64(),
                called: attempt.called.map(|called| called.to_string()),
                class: attempt.class,
                code: attempt.code,
                message: attempt.message,
                answer: attempt.answer,
            }),
        }
    }
}
