//! Tasks: listed, shown, cancelled, suspended, resumed and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_journal::Lookup;
use pointsman_schemas::{DeliveryId, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limited;
use crate::admin::Admin;
use crate::admin::api::{Answer, Api, Nothing};
use crate::admin::refused::Refused;
use crate::admin::steer::{self, Done, Lever};
use crate::admin::view::{
    self, BlockedCursor, BlockedView, Ids, Onlooker, Page, SubscriptionSelection, TaskCursor,
    TaskSelection, TaskView, TaskWhole, TasksRequest,
};

pub(super) fn register(api: Api) -> Api {
    api.read("/tasks", "listTasks", "Tasks, a page at a time", list)
        .read(
            "/tasks/blocked",
            "listBlocked",
            "Order keys whose first task was tried, or is suspended, and waits",
            blocked,
        )
        .read(
            "/tasks/{id}",
            "getTask",
            "One task and what happened to it",
            show,
        )
        .change(
            "/tasks/cancel",
            "cancelTasks",
            "End tasks, running ones too",
            cancel,
        )
        .change(
            "/tasks/skip",
            "skipTasks",
            "Make dead letters of tasks that wait",
            skip,
        )
        .change("/tasks/suspend", "suspendTasks", "Hold tasks back", suspend)
        .change("/tasks/resume", "resumeTasks", "Let tasks go on", resume)
        .change("/tasks/retry", "retryTasks", "Try tasks now", retry)
        .change("/tasks/{id}/cancel", "cancelTask", "End a task", cancel_one)
        .change(
            "/tasks/{id}/skip",
            "skipTask",
            "Make a dead letter of a task that waits",
            skip_one,
        )
        .change(
            "/tasks/{id}/suspend",
            "suspendTask",
            "Hold a task back",
            suspend_one,
        )
        .change(
            "/tasks/{id}/resume",
            "resumeTask",
            "Let a task go on",
            resume_one,
        )
        .change(
            "/tasks/{id}/retry",
            "retryTask",
            "Try a task now",
            retry_one,
        )
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TasksQuery {
    #[serde(flatten)]
    of: SubscriptionSelection,
    #[serde(flatten)]
    selection: TaskSelection,
    /// These, with commas between them, and no conditions.
    ids: Option<Ids>,
    /// Those of the events that were sent with this id as `Pointsman-Task-Id`, ended or not, as
    /// long as it is remembered; with no condition but `tenant`.
    task_id: Option<String>,
    /// Go on behind this one: the `next` of the page before.
    #[schemars(with = "Option<TaskCursor>")]
    after: Option<String>,
    /// How many at most.
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    limit: Option<usize>,
}

pub(crate) async fn list(admin: Arc<Admin>, (): (), query: TasksQuery) -> Answer<Page<TaskView>> {
    let limit = limited(query.limit)?;
    let kinds = query.selection.kinds().map_err(Refused::bad_request)?;
    let stopping = admin.overview.stopping();
    let onlooker = Onlooker {
        reader: &*admin.pipes.reader(),
        stopping: &stopping,
        now: admin.clock.now(),
    };
    if let Some(Ids(ids)) = query.ids {
        let is_open = query.of.is_open() && query.selection.is_open();
        if !is_open || query.after.is_some() || query.task_id.is_some() {
            return Err(Refused::bad_request(
                "ids and conditions exclude each other, and ids have no next page",
            ));
        }
        return by_ids(&onlooker, &ids).await;
    }
    let after = query.after.as_deref().map(str::parse::<TaskCursor>);
    let after = after.transpose().map_err(Refused::bad_request)?;
    if let Some(id) = &query.task_id {
        let tenant = query.of.tenant.clone();
        let of_tenant = SubscriptionSelection {
            tenant: tenant.clone(),
            ..SubscriptionSelection::default()
        };
        if query.of != of_tenant || !query.selection.is_open() {
            return Err(Refused::bad_request(
                "task_id goes with no condition but tenant",
            ));
        }
        return by_task_id(&onlooker, id, tenant, after, limit).await;
    }
    let is_of_another = |after| match after {
        TaskCursor::Waiting(_) => !kinds.waiting,
        TaskCursor::Ended(_) => !kinds.ended,
    };
    if after.is_some_and(is_of_another) {
        return Err(Refused::bad_request(
            "after is the next of another list: give it with the same state",
        ));
    }
    let page = view::task_page(&onlooker, &query.of, &query.selection, kinds, after, limit).await?;
    Ok(page.read_by(onlooker.reader))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockedQuery {
    #[serde(flatten)]
    of: SubscriptionSelection,
    /// Go on behind this one: the `next` of the page before.
    #[schemars(with = "Option<BlockedCursor>")]
    after: Option<String>,
    /// How many at most.
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    limit: Option<usize>,
}

pub(crate) async fn blocked(
    admin: Arc<Admin>,
    (): (),
    query: BlockedQuery,
) -> Answer<Page<BlockedView>> {
    let limit = limited(query.limit)?;
    let after = query.after.as_deref().map(str::parse::<BlockedCursor>);
    let after = after.transpose().map_err(Refused::bad_request)?;
    let stopping = admin.overview.stopping();
    let onlooker = Onlooker {
        reader: &*admin.pipes.reader(),
        stopping: &stopping,
        now: admin.clock.now(),
    };
    let page = view::blocked_page(&onlooker, &query.of, after, limit).await?;
    Ok(page.read_by(onlooker.reader))
}

/// Those of some tasks of which anything is known, ended or not.
async fn by_ids(onlooker: &Onlooker<'_>, ids: &[DeliveryId]) -> Answer<Page<TaskView>> {
    if ids.len() > super::LIMIT_MAX {
        return Err(Refused::bad_request(format!(
            "{} ids are more than the {} of one list",
            ids.len(),
            super::LIMIT_MAX
        )));
    }
    let mut items = Vec::new();
    for id in ids {
        items.extend(onlooker.task(*id).await?.map(|whole| whole.task));
    }
    Ok(Page::whole(items))
}

/// The tasks of an id that a sender gave, of which anything is known, in the order of their ids:
/// it may have been given by several senders, and an event may have been taken by several rules.
async fn by_task_id(
    onlooker: &Onlooker<'_>,
    id: &str,
    tenant: Option<Name>,
    after: Option<TaskCursor>,
    limit: usize,
) -> Answer<Page<TaskView>> {
    let after = match after {
        None => None,
        Some(TaskCursor::Waiting(after)) => Some(place(after)),
        Some(TaskCursor::Ended(_)) => {
            return Err(Refused::bad_request("after is the next of another list"));
        }
    };
    let tenants = match tenant {
        Some(tenant) => BTreeSet::from([tenant]),
        None => onlooker.tenants().await?,
    };
    let mut ids = BTreeMap::new();
    for tenant in tenants {
        let id = id.to_owned();
        for key in onlooker.reader.keys(Lookup::TaskId { tenant, id }).await? {
            ids.extend(key.deliveries.into_iter().map(|id| (place(id), id)));
        }
    }
    ids.retain(|place, _| after.is_none_or(|after| *place > after));
    let more = ids.len() > limit;
    let (mut items, mut last) = (Vec::new(), None);
    for (_, id) in ids.into_iter().take(limit) {
        last = Some(id);
        items.extend(onlooker.task(id).await?.map(|whole| whole.task));
    }
    let next = last.filter(|_| more).map(|last| last.to_string());
    Ok(Page::part(items, next).read_by(onlooker.reader))
}

/// The place of a task among those of one id, which does not change.
fn place(id: DeliveryId) -> (u32, u64, u64, u64) {
    (id.subscription.0, id.sequence.0, id.run, id.epoch.0)
}

pub(crate) async fn show(admin: Arc<Admin>, id: DeliveryId, _: Nothing) -> Answer<TaskWhole> {
    let stopping = admin.overview.stopping();
    let onlooker = Onlooker {
        reader: &*admin.pipes.reader(),
        stopping: &stopping,
        now: admin.clock.now(),
    };
    let task = onlooker.task(id).await?;
    task.ok_or_else(|| unknown(id))
}

fn unknown(id: DeliveryId) -> Refused {
    Refused::not_found(format!("task {id}, or nothing is kept of it any more"))
}

/// How tasks were ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cancelled {
    /// Tasks that were meant, and had not ended.
    selected: u64,
    /// Those that were ended, running ones included.
    cancelled: u64,
    /// Those whose attempts are still being ended; how they end, their history tells.
    stopping: u64,
    /// Where there are more to look at: what to give as `after` to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl From<Done> for Cancelled {
    fn from(done: Done) -> Self {
        Self {
            selected: done.selected,
            cancelled: done.changed,
            stopping: done.stopping,
            next: done.next.map(|next| next.to_string()),
        }
    }
}

/// Defines what a lever answers, with how many tasks it has moved.
macro_rules! moved {
    ($name:ident, $count:ident, $what:literal) => {
        #[doc = concat!("How many tasks were ", $what, ".")]
        #[derive(Debug, Serialize, JsonSchema)]
        pub(crate) struct $name {
            /// Tasks that were meant, and had not ended.
            selected: u64,
            #[doc = concat!("Those that were ", $what, "; the others could not be.")]
            $count: u64,
            /// Where there are more to look at: what to give as `after` to go on.
            #[serde(skip_serializing_if = "Option::is_none")]
            next: Option<String>,
        }

        impl From<Done> for $name {
            fn from(done: Done) -> Self {
                Self {
                    selected: done.selected,
                    $count: done.changed,
                    next: done.next.map(|next| next.to_string()),
                }
            }
        }
    };
}

moved!(Skipped, skipped, "made dead letters");
moved!(Suspended, suspended, "suspended");
moved!(Resumed, resumed, "resumed");
moved!(Retried, retried, "made due now");

/// Defines the operations of a lever: by selection, and on one task.
macro_rules! lever {
    ($lever:expr, $answer:ident, $many:ident, $one:ident) => {
        pub(crate) async fn $many(
            admin: Arc<Admin>,
            (): (),
            request: TasksRequest,
        ) -> Answer<$answer> {
            request.check().map_err(Refused::bad_request)?;
            Ok(steer::pull(&admin, $lever, &request).await?.into())
        }

        pub(crate) async fn $one(admin: Arc<Admin>, id: DeliveryId, _: Nothing) -> Answer<$answer> {
            let request = TasksRequest {
                ids: Some(vec![id]),
                ..TasksRequest::default()
            };
            let done = steer::pull(&admin, $lever, &request).await?;
            if done.changed + done.stopping == 0 && admin.pipes.reader().life(id).await?.is_none() {
                return Err(unknown(id));
            }
            Ok(done.into())
        }
    };
}

lever!(Lever::Cancel, Cancelled, cancel, cancel_one);
lever!(Lever::Skip, Skipped, skip, skip_one);
lever!(Lever::Suspend, Suspended, suspend, suspend_one);
lever!(Lever::Resume, Resumed, resume, resume_one);
lever!(Lever::Retry, Retried, retry, retry_one);
