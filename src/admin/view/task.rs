//! Tasks: deliveries, from when they come until they have ended, and what is kept of them then.

mod blocked;
mod life;
mod list;
mod selection;
mod spelling;

use std::collections::{BTreeSet, HashMap, HashSet};

use pointsman_journal::{
    DeadReason, HistoryEntry, JournalError, Pending, Reader, SubscriptionIdentity, TaskLife,
    TaskState,
};
use pointsman_schemas::{DeliveryId, Name, Sequence, SubscriptionNumber, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::blocked::{BlockedCursor, BlockedView, blocked_page};
pub use self::life::{AttemptView, EntryView, TaskWhole};
pub(in crate::admin) use self::list::each_waiting;
pub use self::list::{TaskCursor, task_page};
pub use self::selection::{
    IDS_MAX, SubscriptionSelection, TaskKinds, TaskSelection, TasksRequest, pairs,
};
pub use self::spelling::Ids;

/// A task as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskView {
    pub id: String,
    pub state: TaskState,
    /// Whose.
    #[serde(flatten)]
    pub identity: SubscriptionIdentity,
    pub subscription: SubscriptionNumber,
    /// Its event.
    pub sequence: Sequence,
    /// When its run began, while it has not ended: `max_age` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Not before this it is tried, while it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// How urgent it is, from 1 to 9, where its event says that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Why, where it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Tries made.
    pub attempts: u32,
    /// What the last of them came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl TaskView {
    fn waiting(identity: &SubscriptionIdentity, pending: Pending, state: TaskState) -> Self {
        Self {
            id: pending.id.to_string(),
            state,
            identity: identity.clone(),
            subscription: pending.id.subscription,
            sequence: pending.id.sequence,
            since: Some(pending.since.to_string()),
            due: Some(pending.due.to_string()),
            priority: Some(pending.priority.number()).filter(|number| *number > 0),
            ended: None,
            reason: None,
            attempts: pending.attempts,
            message: pending.last.map(|last| last.message),
        }
    }

    /// A task that has ended, as the entry tells that says so.
    fn ended(identity: &SubscriptionIdentity, entry: &HistoryEntry) -> Self {
        let attempt = entry.attempt.as_ref();
        let message = attempt.map(|attempt| attempt.message.clone());
        Self {
            id: entry.id.to_string(),
            state: entry.state,
            identity: identity.clone(),
            subscription: entry.id.subscription,
            sequence: entry.id.sequence,
            since: None,
            due: None,
            priority: None,
            ended: Some(entry.at.to_string()),
            reason: entry.reason,
            attempts: attempt.map_or(0, |attempt| attempt.number),
            message: message.filter(|message| !message.is_empty()),
        }
    }
}

/// What tells how tasks stand.
pub struct Onlooker<'a> {
    /// What the journal and the pipes show.
    pub reader: &'a dyn Reader,
    /// The tasks whose attempts are being stopped.
    pub stopping: &'a HashSet<DeliveryId>,
    /// The time of day.
    pub now: Timestamp,
}

impl Onlooker<'_> {
    /// The state of what has not ended.
    fn state(&self, pending: &Pending) -> TaskState {
        match pending.state(self.now) {
            TaskState::Running if self.stopping.contains(&pending.id) => TaskState::Stopping,
            state => state,
        }
    }

    /// The subscriptions by their numbers.
    async fn identities(
        &self,
    ) -> Result<HashMap<SubscriptionNumber, SubscriptionIdentity>, JournalError> {
        let statuses = self.reader.subscriptions().await?.into_iter();
        Ok(statuses
            .map(|status| (status.number, status.identity))
            .collect())
    }

    /// The tenants that have subscriptions.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub async fn tenants(&self) -> Result<BTreeSet<Name>, JournalError> {
        let statuses = self.reader.subscriptions().await?.into_iter();
        Ok(statuses.map(|status| status.identity.tenant).collect())
    }

    /// Everything that is known of a task; none where nothing is, or is any more.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub async fn task(&self, id: DeliveryId) -> Result<Option<TaskWhole>, JournalError> {
        let Some(life) = self.reader.life(id).await? else {
            return Ok(None);
        };
        let identity = self.identities().await?.remove(&id.subscription);
        let of_letter = life
            .dead
            .as_ref()
            .and_then(|dead| dead.subscription.clone());
        let Some(identity) = identity.or(of_letter) else {
            return Ok(None);
        };
        let event = match self.reader.event(id.sequence).await {
            Ok(stored) => stored,
            // What cannot be read any more is not shown.
            Err(JournalError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        let task = self.view(id, &identity, &life);
        Ok(Some(TaskWhole::new(task, life, event.as_ref())))
    }

    fn view(&self, id: DeliveryId, identity: &SubscriptionIdentity, life: &TaskLife) -> TaskView {
        let ends = |entry: &&HistoryEntry| entry.state.is_terminal();
        let tries = life
            .history
            .iter()
            .filter_map(|entry| entry.attempt.as_ref());
        let attempts = tries.map(|attempt| attempt.number).max().unwrap_or(0);
        let end = life.history.iter().rev().find(ends);
        match (&life.pending, &life.dead, end) {
            (Some(pending), ..) => {
                TaskView::waiting(identity, pending.clone(), self.state(pending))
            }
            (None, Some(dead), _) => TaskView {
                state: life.state,
                ended: Some(dead.at.to_string()),
                reason: Some(dead.reason),
                attempts: dead.attempts,
                message: dead.last.as_ref().map(|last| last.message.clone()),
                ..TaskView::bare(id, identity, life.state)
            },
            (None, None, Some(end)) => TaskView {
                state: life.state,
                attempts,
                ..TaskView::ended(identity, end)
            },
            (None, None, None) => TaskView::bare(id, identity, life.state),
        }
    }
}

impl TaskView {
    fn bare(id: DeliveryId, identity: &SubscriptionIdentity, state: TaskState) -> Self {
        Self {
            id: id.to_string(),
            state,
            identity: identity.clone(),
            subscription: id.subscription,
            sequence: id.sequence,
            since: None,
            due: None,
            priority: None,
            ended: None,
            reason: None,
            attempts: 0,
            message: None,
        }
    }
}
