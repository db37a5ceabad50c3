//! What the admin listener of a node answers while it does not run the bus: how it stands, who the
//! other nodes are, and what it counts of them.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use bytes::Bytes;
use http::HeaderMap;
use pointsman_connectors::listener::Refusal;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::api::{Answer, read_body};
use super::guard::{Guard, guard};
use super::refused::Refused;
use super::routes::{BODY_BYTES_MAX, DrainRequest, OPENMETRICS};
use super::view::Page;
use crate::nodes::{NodeView, Nodes, ShardView};

/// Why it does nothing else.
const WHY: &str = "this node of the cluster is a spare and does not run the bus";

/// What callers are told to wait before they ask again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The nodes, from when this one has joined them.
pub type Joined = Arc<OnceLock<Nodes>>;

pub(super) fn router(joined: Joined, own: Arc<Guard>) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "status": "alive" }))))
        .route("/readyz", get(async || Refused(refusal(WHY))))
        .route("/metrics", get(metrics))
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/nodes/drain", post(drain))
        .route("/api/v1/shards", get(shards))
        .fallback(async || Refused(elsewhere()))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(own, guard))
        .with_state(joined)
}

/// What is answered in the place of what only the bus can.
#[must_use]
pub fn elsewhere() -> Refusal {
    let ask = "ask the one that does, or again once it has taken over";
    refusal(format!("{WHY}; {ask}"))
}

fn refusal(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
}

fn known(joined: &Joined) -> Answer<&Nodes> {
    let unknown = || Refused(refusal("this node has not joined the cluster yet"));
    joined.get().ok_or_else(unknown)
}

async fn nodes(State(joined): State<Joined>) -> Answer<Json<Page<NodeView>>> {
    Ok(Json(Page::whole(known(&joined)?.nodes())))
}

async fn shards(State(joined): State<Joined>) -> Answer<Json<Page<ShardView>>> {
    Ok(Json(Page::whole(known(&joined)?.shards())))
}

async fn drain(
    State(joined): State<Joined>,
    headers: HeaderMap,
    request: Bytes,
) -> Answer<Json<NodeView>> {
    let request: DrainRequest = read_body(&headers, &request)?;
    Ok(Json(known(&joined)?.drain(request.draining)))
}

async fn metrics(State(joined): State<Joined>) -> Answer<Response> {
    let mut registry = Registry::default();
    if let Some(nodes) = joined.get() {
        registry.register_collector(Box::new(nodes.clone()));
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| {
        let what = "cannot write the metrics";
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, what)
    })?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
