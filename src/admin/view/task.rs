//! Tasks: deliveries that have not ended.

use clap::builder::TypedValueParser;
use pointsman_journal::{JournalError, Pending, Reader, SubscriptionIdentity};
use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OwnerFilter, Page};

/// Pending deliveries that one request looks at: where few of them are selected the page is short,
/// and says where to go on.
const LOOKED_AT_MAX: usize = 10_000;

/// How many are read at once: more than there are runs of one event.
const READ_AT_ONCE: usize = 1_000;

pub use pointsman_journal::TaskState;

/// Reads a state by its name, and knows all names.
fn state_parser() -> impl TypedValueParser<Value = TaskState> {
    let names = TaskState::ALL.map(TaskState::as_str);
    clap::builder::PossibleValuesParser::new(names).try_map(|name| name.parse::<TaskState>())
}

/// Which tasks are meant: all conditions that are set must hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TaskSelection {
    /// Whose
    #[command(flatten)]
    pub owner: OwnerFilter,
    /// Of this subscription, as `subscriptions list` numbers it
    #[arg(long, value_name = "NUMBER")]
    pub subscription: Option<u32>,
    /// In this state
    #[arg(long, value_parser = state_parser())]
    pub state: Option<TaskState>,
}

impl TaskSelection {
    fn is_of(&self, number: SubscriptionNumber, identity: &SubscriptionIdentity) -> bool {
        let SubscriptionIdentity {
            tenant,
            rule,
            target,
            ..
        } = identity;
        self.owner.admits(tenant, rule, target)
            && self.subscription.is_none_or(|wanted| wanted == number.0)
    }
}

/// A task as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskView {
    pub id: String,
    pub state: TaskState,
    #[serde(flatten)]
    pub identity: SubscriptionIdentity,
    pub subscription: SubscriptionNumber,
    /// Its event.
    pub sequence: Sequence,
    /// When its run began: `max_age` counts from here.
    pub since: String,
    /// Not before this it is tried.
    pub due: String,
    /// Tries made.
    pub attempts: u32,
    /// What the last of them came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl TaskView {
    fn new(identity: &SubscriptionIdentity, pending: Pending, now: Timestamp) -> Self {
        Self {
            id: pending.id.to_string(),
            state: pending.state(now),
            identity: identity.clone(),
            subscription: pending.id.subscription,
            sequence: pending.id.sequence,
            since: pending.since.to_string(),
            due: pending.due.to_string(),
            attempts: pending.attempts,
            message: pending.last.map(|last| last.message),
        }
    }
}

/// The selected tasks behind `after`, at most `limit`, by subscription and then by event. A task
/// keeps its place as long as it lasts, so page by page none is missed and none is shown twice.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn task_page(
    reader: &dyn Reader,
    selection: &TaskSelection,
    after: Option<DeliveryId>,
    limit: usize,
    now: Timestamp,
) -> Result<Page<TaskView>, JournalError> {
    let from = after.map_or(SubscriptionNumber(0), |after| after.subscription);
    let (mut items, mut looked_at, mut last) = (Vec::new(), 0, after);
    for status in reader.subscriptions().await? {
        let number = status.number;
        if number < from || status.counts.pending == 0 || !selection.is_of(number, &status.identity)
        {
            continue;
        }
        // One event may have several runs here, so those of the event that the page before ended
        // with are read again.
        loop {
            let behind = last.filter(|last| last.subscription == number);
            let event = behind.map(|last| Sequence(last.sequence.0.saturating_sub(1)));
            let found = reader.pending(number, event, READ_AT_ONCE).await?;
            let is_last = found.len() < READ_AT_ONCE;
            let next = found.into_iter().filter(|one| {
                behind.is_none_or(|last| (one.id.sequence, one.id.run) > (last.sequence, last.run))
            });
            for one in next {
                if items.len() == limit || looked_at == LOOKED_AT_MAX {
                    let next = last.map(|last| last.to_string());
                    return Ok(Page { items, next });
                }
                last = Some(one.id);
                looked_at += 1;
                let view = TaskView::new(&status.identity, one, now);
                if selection.state.is_none_or(|state| state == view.state) {
                    items.push(view);
                }
            }
            if is_last {
                break;
            }
        }
    }
    Ok(Page::whole(items))
}

/// The task of this id; none where it has ended or never was.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn task(
    reader: &dyn Reader,
    id: DeliveryId,
    now: Timestamp,
) -> Result<Option<TaskView>, JournalError> {
    let subscriptions = reader.subscriptions().await?;
    let status = subscriptions
        .into_iter()
        .find(|status| status.number == id.subscription);
    let event = Sequence(id.sequence.0.saturating_sub(1));
    let found = reader.pending(id.subscription, Some(event), READ_AT_ONCE);
    let pending = found.await?.into_iter().find(|one| one.id == id);
    Ok(status
        .zip(pending)
        .map(|(status, pending)| TaskView::new(&status.identity, pending, now)))
}
