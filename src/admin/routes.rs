//! What the admin API answers to each request.

mod dead;
mod events;
mod subscriptions;
mod tasks;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use pointsman_connectors::listener::Refusal;
use pointsman_schemas::DeliveryId;
use pointsman_schemas::media_type::is_json_media_type;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use serde_json::json;

use super::connections::Connections;
use super::guard::{Guard, guard};
use super::overview::{RuleStatus, SourceStatus, TargetStatus};
use super::refused::Refused;
use super::view::{self, Page, StatusView};
use super::{Admin, VERSION};
use crate::telemetry::JournalSnapshot;

/// Tasks, dead letters or events listed at once, unless asked otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Tasks, dead letters or events listed at once at most: a page stays well under what a client wants to
/// hold.
const LIMIT_MAX: usize = 1_000;

/// A request's body: room for [`view::IDS_MAX`] ids.
const BODY_BYTES_MAX: usize = 1024 * 1024;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Answer<T> = Result<Json<T>, Refused>;
type Bus = State<Arc<Admin>>;

/// Every route there is, behind the guard.
pub(super) fn router(admin: Arc<Admin>, own: Arc<Guard>) -> Router {
    let api = Router::new()
        .route("/status", get(status))
        .route("/sources", get(sources))
        .route("/rules", get(rules))
        .route("/targets", get(targets))
        .route("/subscriptions", get(subscriptions::list))
        .route(
            "/subscriptions/{number}/suspend",
            post(subscriptions::suspend),
        )
        .route(
            "/subscriptions/{number}/resume",
            post(subscriptions::resume),
        )
        .route(
            "/subscriptions/{number}/cancel",
            post(subscriptions::cancel),
        )
        .route(
            "/subscriptions/{number}/move",
            post(subscriptions::move_all),
        )
        .route("/dead", get(dead::list))
        .route("/dead/redrive", post(dead::redrive))
        .route("/dead/purge", post(dead::purge))
        .route("/dead/{id}", get(dead::show))
        .route("/tasks", get(tasks::list))
        .route("/tasks/cancel", post(tasks::cancel))
        .route("/tasks/{id}", get(tasks::show))
        .route("/events", get(events::list))
        .route("/events/{sequence}", get(events::show))
        .route("/events/{sequence}/explain", get(events::explain));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .nest("/api/v1", api)
        .fallback(async |uri: Uri| {
            Refused::not_found(format!("{} here; the API is under /api/v1/", uri.path()))
        })
        .method_not_allowed_fallback(async || {
            Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this cannot be done here; Allow lists what can",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(own, guard))
        .with_state(admin)
}

async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

async fn readyz(State(admin): Bus) -> Answer<serde_json::Value> {
    let missing = admin.missing();
    if missing.is_empty() {
        return Ok(Json(json!({ "status": "ready" })));
    }
    let mut refusal = Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the bus is not ready to take events",
    );
    refusal.missing = missing;
    Err(refusal.into())
}

/// What the process counts, and behind it what the journal does; where that cannot be read, it says
/// so and still tells the rest.
async fn metrics(State(admin): Bus) -> Result<Response, Refused> {
    let snapshot =
        JournalSnapshot::take(&*admin.pipes.reader(), admin.clock.now(), admin.metrics).await;
    if let Ok(snapshot) = &snapshot {
        admin.overview.forget_others(&snapshot.subscriptions);
    }
    let mut text = String::new();
    let written = encode_registry(&mut text, &admin.registry)
        .and_then(|()| {
            encode_registry(
                &mut text,
                &Connections::registry(&*admin.overview, admin.metrics),
            )
        })
        .and_then(|()| encode_registry(&mut text, &JournalSnapshot::registry(snapshot)))
        .and_then(|()| encode_eof(&mut text));
    written.map_err(|_| {
        Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "cannot write the metrics",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

async fn status(State(admin): Bus) -> Json<StatusView> {
    let reader = admin.pipes.reader();
    let (now, missing) = (admin.clock.now(), admin.missing());
    Json(StatusView {
        version: VERSION,
        journal: format!("{:016x}", admin.journal.id().0),
        started: admin.started.to_string(),
        uptime_seconds: now.since(admin.started).as_secs_f64(),
        ready: missing.is_empty(),
        missing,
        totals: reader.totals().await.ok(),
        deliveries: reader
            .subscriptions()
            .await
            .ok()
            .map(|statuses| view::sum(&statuses)),
    })
}

async fn sources(State(admin): Bus) -> Json<Page<SourceStatus>> {
    Json(Page::whole(admin.overview.sources()))
}

async fn rules(State(admin): Bus) -> Json<Page<RuleStatus>> {
    Json(Page::whole(admin.overview.rules()))
}

async fn targets(State(admin): Bus) -> Json<Page<TargetStatus>> {
    Json(Page::whole(admin.overview.targets()))
}

fn delivery(id: &str) -> Result<DeliveryId, Refused> {
    id.parse()
        .map_err(|error| Refused::bad_request(format!("{error}")))
}

fn limited(limit: Option<usize>) -> Result<usize, Refused> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Refused::bad_request(format!(
        "limit is {limit}; it lies between 1 and {LIMIT_MAX}"
    )))
}

/// JSON has to be declared: a form of a page elsewhere can send text, but not that without asking
/// first.
fn must_be_json(headers: &HeaderMap) -> Result<(), Refused> {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|declared| declared.to_str().ok())
        .unwrap_or_default();
    if is_json_media_type(declared) {
        return Ok(());
    }
    let detail = format!("Content-Type is {declared:?}; send application/json");
    Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}
