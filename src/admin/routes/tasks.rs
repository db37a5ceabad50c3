//! Tasks: listed, shown and cancelled.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use pointsman_schemas::{DeliveryId, Name};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Bus, delivery, limited, must_be_json};
use crate::admin::refused::Refused;
use crate::admin::view::{self, IDS_MAX, OwnerFilter, Page, TaskSelection, TaskState, TaskView};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TasksQuery {
    tenant: Option<Name>,
    rule: Option<Name>,
    target: Option<Name>,
    subscription: Option<u32>,
    state: Option<TaskState>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(admin): Bus,
    query: Result<Query<TasksQuery>, QueryRejection>,
) -> Answer<Page<TaskView>> {
    let Query(query) = query?;
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
    Ok(Json(
        view::task_page(&*reader, &selection, after, limit, now).await?,
    ))
}

pub(super) async fn show(
    State(admin): Bus,
    id: Result<Path<String>, PathRejection>,
) -> Answer<TaskView> {
    let id = delivery(&id?)?;
    let (reader, now) = (admin.pipes.reader(), admin.clock.now());
    let task = view::task(&*reader, id, now).await?;
    task.map(Json).ok_or_else(|| {
        Refused::not_found(format!(
            "task {id} that has not ended; /api/v1/dead/{id} tells of it where it failed"
        ))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelRequest {
    ids: Vec<String>,
}

/// Ends tasks without an attempt; those of which one is under way, and those of pipes, are left
/// alone.
pub(super) async fn cancel(
    State(admin): Bus,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<serde_json::Value> {
    let body = body?;
    must_be_json(&headers)?;
    let CancelRequest { ids } = serde_json::from_slice(&body).map_err(|error| {
        Refused::bad_request(format!(
            "the body does not name tasks, such as {{\"ids\": [\"…\"]}}: {error}"
        ))
    })?;
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
    Ok(Json(json!({ "cancelled": cancelled })))
}
