//! Dead letters: listed, shown, redriven and purged.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use pointsman_journal::{DeadReason, DeadSelection};
use pointsman_schemas::Name;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Bus, delivery, limited, must_be_json};
use crate::admin::refused::Refused;
use crate::admin::view::{self, DeadRequest, DeadView, DeadWhole, Page};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadQuery {
    tenant: Option<Name>,
    rule: Option<Name>,
    target: Option<Name>,
    reason: Option<DeadReason>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(admin): Bus,
    query: Result<Query<DeadQuery>, QueryRejection>,
) -> Answer<Page<DeadView>> {
    let Query(query) = query?;
    let limit = limited(query.limit)?;
    let after = query.after.map(|after| delivery(&after)).transpose()?;
    let selection = DeadSelection {
        ids: None,
        tenant: query.tenant,
        rule: query.rule,
        target: query.target,
        reason: query.reason,
    };
    Ok(Json(
        view::dead_page(&*admin.pipes.reader(), &selection, after, limit).await?,
    ))
}

pub(super) async fn show(
    State(admin): Bus,
    id: Result<Path<String>, PathRejection>,
) -> Answer<DeadWhole> {
    let id = delivery(&id?)?;
    let letter = view::dead_letter(&*admin.pipes.reader(), id).await?;
    letter
        .map(Json)
        .ok_or_else(|| Refused::not_found(format!("dead letter {id}")))
}

pub(super) async fn redrive(
    State(admin): Bus,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<serde_json::Value> {
    let selection = selection(&headers, &body?)?;
    let redriven = admin.journal.redrive(&selection).await?;
    tracing::info!(redriven, selection = %described(&selection), "dead letters were redriven");
    Ok(Json(json!({ "redriven": redriven })))
}

pub(super) async fn purge(
    State(admin): Bus,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<serde_json::Value> {
    let selection = selection(&headers, &body?)?;
    let purged = admin.journal.purge(&selection).await?;
    tracing::info!(purged, selection = %described(&selection), "dead letters were purged");
    Ok(Json(json!({ "purged": purged })))
}

fn selection(headers: &HeaderMap, body: &[u8]) -> Result<DeadSelection, Refused> {
    must_be_json(headers)?;
    let request: DeadRequest = serde_json::from_slice(body)
        .map_err(|error| Refused::bad_request(format!("the body is not a selection: {error}")))?;
    request.selection().map_err(Refused::bad_request)
}

/// A selection for the log, ten thousand ids as their number.
fn described(selection: &DeadSelection) -> String {
    let names = [
        ("tenant", &selection.tenant),
        ("rule", &selection.rule),
        ("target", &selection.target),
    ];
    let names = names
        .into_iter()
        .filter_map(|(key, name)| Some(format!("{key}={}", name.as_ref()?)));
    let ids = selection
        .ids
        .as_ref()
        .map(|ids| format!("ids={}", ids.len()));
    let parts: Vec<String> = names
        .chain(
            selection
                .reason
                .map(|reason| format!("reason={}", reason.as_str())),
        )
        .chain(ids)
        .collect();
    if parts.is_empty() {
        "all".to_owned()
    } else {
        parts.join(" ")
    }
}
