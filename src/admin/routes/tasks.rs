//! Tasks: listed, shown and cancelled.

use std::sync::Arc;

use pointsman_schemas::{DeliveryId, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{delivery, limited};
use crate::admin::Admin;
use crate::admin::api::{Answer, Api, Nothing};
use crate::admin::refused::Refused;
use crate::admin::view::{self, IDS_MAX, OwnerFilter, Page, TaskSelection, TaskState, TaskView};

pub(super) fn register(api: Api) -> Api {
    api.read("/tasks", "listTasks", "Tasks that have not ended", list)
        .read("/tasks/{id}", "getTask", "One task", show)
        .change("/tasks/cancel", "cancelTasks", "End tasks", cancel)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TasksQuery {
    /// Of this tenant.
    tenant: Option<Name>,
    /// Of this rule.
    rule: Option<Name>,
    /// For this target.
    target: Option<Name>,
    /// Of this subscription.
    subscription: Option<u32>,
    /// In this state.
    state: Option<TaskState>,
    /// Go on behind this one: the `next` of the page before.
    after: Option<String>,
    /// How many at most.
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    limit: Option<usize>,
}

pub(super) async fn list(admin: Arc<Admin>, (): (), query: TasksQuery) -> Answer<Page<TaskView>> {
    let limit = limited(query.limit)?;
    let after = query.after.map(|after| delivery(&after)).transpose()?;
    let selection = TaskSelection {
        owner: OwnerFilter {
            tenant: query.tenant,
            rule: query.rule,
            target: query.target,
        },
        subscription: query.subscription,
        state: query.state,
    };
    let (reader, now) = (admin.pipes.reader(), admin.clock.now());
    Ok(view::task_page(&*reader, &selection, after, limit, now).await?)
}

pub(super) async fn show(admin: Arc<Admin>, id: DeliveryId, _: Nothing) -> Answer<TaskView> {
    let (reader, now) = (admin.pipes.reader(), admin.clock.now());
    let task = view::task(&*reader, id, now).await?;
    task.ok_or_else(|| {
        Refused::not_found(format!(
            "task {id} that has not ended; /api/v1/dead/{id} tells of it where it failed"
        ))
    })
}

/// Which tasks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelRequest {
    /// Their ids.
    ids: Vec<String>,
}

/// How many were ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CancelledTasks {
    cancelled: u64,
}

/// Ends tasks without an attempt; those of which one is under way, and those of pipes, are left
/// alone.
pub(super) async fn cancel(
    admin: Arc<Admin>,
    (): (),
    CancelRequest { ids }: CancelRequest,
) -> Answer<CancelledTasks> {
    if ids.len() > IDS_MAX {
        return Err(Refused::bad_request(format!(
            "{} ids are more than the {IDS_MAX} of one request",
            ids.len()
        )));
    }
    let ids: Vec<DeliveryId> = ids
        .iter()
        .map(|id| delivery(id))
        .collect::<Result<_, _>>()?;
    let cancelled = admin.journal.cancel(&ids).await?;
    tracing::info!(cancelled, ids = ids.len(), "tasks were cancelled");
    Ok(CancelledTasks { cancelled })
}
