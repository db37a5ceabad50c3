//! What the admin API answers to each request.

use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use bytes::Bytes;
use pointsman_connectors::listener::Refusal;
use pointsman_schemas::media_type::is_json_media_type;
use pointsman_schemas::{DeliveryId, Name, Sequence, SubscriptionNumber, Timestamp};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use serde::Deserialize;
use serde_json::json;

use super::connections::Connections;
use super::guard::{Guard, guard};
use super::overview::{RuleStatus, SourceStatus, TargetStatus};
use super::refused::Refused;
use super::view::{
    self, DeadRequest, DeadView, DeadWhole, EventView, ExplainView, Page, StatusView,
    SubscriptionView,
};
use super::{Admin, VERSION};
use crate::telemetry::JournalSnapshot;
use pointsman_journal::{
    Activity, DeadReason, DeadSelection, EventsFrom, StoredEvent, SubscriptionStatus,
};

/// Dead letters listed at once, unless asked otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Dead letters listed at once at most: a page stays well under what a client wants to hold.
const LIMIT_MAX: usize = 1_000;

/// A request's body: room for [`view::IDS_MAX`] ids.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Rules explained at once, unless asked otherwise.
const EXPLAINED_DEFAULT: usize = 10;

/// Rules explained at once at most.
const EXPLAINED_MAX: usize = 100;

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
        .route("/subscriptions", get(subscriptions))
        .route("/subscriptions/{number}/suspend", post(suspend))
        .route("/subscriptions/{number}/resume", post(resume))
        .route("/subscriptions/{number}/cancel", post(cancel))
        .route("/subscriptions/{number}/move", post(move_all))
        .route("/dead", get(dead_list))
        .route("/dead/redrive", post(dead_redrive))
        .route("/dead/purge", post(dead_purge))
        .route("/dead/{id}", get(dead_show))
        .route("/events", get(events))
        .route("/events/{sequence}", get(event))
        .route("/events/{sequence}/explain", get(explain));
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
    let snapshot = JournalSnapshot::take(&*admin.pipes.reader(), admin.clock.now()).await;
    if let Ok(snapshot) = &snapshot {
        admin.overview.forget_others(&snapshot.subscriptions);
    }
    let mut text = String::new();
    let written = encode_registry(&mut text, &admin.registry)
        .and_then(|()| encode_registry(&mut text, &Connections::registry(&*admin.overview)))
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

async fn subscriptions(State(admin): Bus) -> Answer<Page<SubscriptionView>> {
    let (statuses, now) = (
        admin.pipes.reader().subscriptions().await?,
        admin.clock.now(),
    );
    let mut paused = admin.overview.paused();
    let view = |status: SubscriptionStatus| {
        let paused = paused.remove(&status.number);
        SubscriptionView::new(status, paused, now)
    };
    Ok(Json(Page::whole(statuses.into_iter().map(view).collect())))
}

async fn suspend(
    State(admin): Bus,
    number: Result<Path<String>, PathRejection>,
) -> Answer<SubscriptionView> {
    set_activity(&admin, &number?, Activity::Suspended).await
}

async fn resume(
    State(admin): Bus,
    number: Result<Path<String>, PathRejection>,
) -> Answer<SubscriptionView> {
    set_activity(&admin, &number?, Activity::Active).await
}

/// Ends what waits in a subscription.
async fn cancel(
    State(admin): Bus,
    number: Result<Path<String>, PathRejection>,
) -> Answer<serde_json::Value> {
    let number = subscription(&number?)?;
    let cancelled = admin.pipes.cancel_all(number).await?;
    tracing::info!(
        subscription = number.0,
        cancelled,
        "pending deliveries were cancelled"
    );
    Ok(Json(json!({ "cancelled": cancelled })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveRequest {
    to: u32,
}

/// Moves what waits in a subscription to another one.
async fn move_all(
    State(admin): Bus,
    number: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<serde_json::Value> {
    let (from, body) = (subscription(&number?)?, body?);
    must_be_json(&headers)?;
    let MoveRequest { to } = serde_json::from_slice(&body).map_err(|error| {
        Refused::bad_request(format!(
            "the body does not say where to, such as {{\"to\": 7}}: {error}"
        ))
    })?;
    if to == from.0 {
        return Err(Refused::bad_request(format!(
            "subscription {to} cannot be moved to itself"
        )));
    }
    let moved = admin.journal.move_all(from, SubscriptionNumber(to)).await?;
    tracing::info!(
        subscription = from.0,
        to,
        moved,
        "pending deliveries were moved"
    );
    Ok(Json(json!({ "moved": moved })))
}

fn subscription(number: &str) -> Result<SubscriptionNumber, Refused> {
    let invalid =
        |_| Refused::bad_request(format!("{number:?} is not the number of a subscription"));
    number.parse().map(SubscriptionNumber).map_err(invalid)
}

async fn set_activity(admin: &Admin, number: &str, activity: Activity) -> Answer<SubscriptionView> {
    let number = subscription(number)?;
    admin.pipes.set_activity(number, activity).await?;
    if activity == Activity::Active {
        admin.overview.probe(number);
    }
    tracing::info!(
        subscription = number.0,
        ?activity,
        "a subscription was suspended or resumed"
    );
    let status = admin
        .journal
        .reader()
        .subscriptions()
        .await?
        .into_iter()
        .find(|status| status.number == number);
    let status = status.ok_or_else(|| Refused::not_found(format!("subscription {}", number.0)))?;
    let paused = admin.overview.paused().remove(&number);
    Ok(Json(SubscriptionView::new(
        status,
        paused,
        admin.clock.now(),
    )))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadQuery {
    tenant: Option<Name>,
    rule: Option<Name>,
    target: Option<Name>,
    reason: Option<DeadReason>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn dead_list(
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

fn limited(limit: Option<usize>) -> Result<usize, Refused> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Refused::bad_request(format!(
        "limit is {limit}; it lies between 1 and {LIMIT_MAX}"
    )))
}

async fn dead_show(
    State(admin): Bus,
    id: Result<Path<String>, PathRejection>,
) -> Answer<DeadWhole> {
    let id = delivery(&id?)?;
    let letter = view::dead_letter(&*admin.pipes.reader(), id).await?;
    letter
        .map(Json)
        .ok_or_else(|| Refused::not_found(format!("dead letter {id}")))
}

async fn dead_redrive(
    State(admin): Bus,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<serde_json::Value> {
    let selection = selection(&headers, &body?)?;
    let redriven = admin.journal.redrive(&selection).await?;
    tracing::info!(redriven, selection = %described(&selection), "dead letters were redriven");
    Ok(Json(json!({ "redriven": redriven })))
}

async fn dead_purge(
    State(admin): Bus,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<serde_json::Value> {
    let selection = selection(&headers, &body?)?;
    let purged = admin.journal.purge(&selection).await?;
    tracing::info!(purged, selection = %described(&selection), "dead letters were purged");
    Ok(Json(json!({ "purged": purged })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    since: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

/// Events since a time, or behind a sequence; from the oldest one on where neither is given.
async fn events(
    State(admin): Bus,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<Page<EventView>> {
    let Query(query) = query?;
    let limit = limited(query.limit)?;
    let from = match (query.since, query.after) {
        (Some(_), Some(_)) => {
            return Err(Refused::bad_request(
                "since and after exclude each other".to_owned(),
            ));
        }
        (Some(since), None) => {
            let time: Result<jiff::Timestamp, _> = since.parse();
            let time = time.map_err(|_| {
                Refused::bad_request(format!(
                    "since is {since:?}; write it as 2026-01-31T09:30:00Z"
                ))
            })?;
            EventsFrom::Time(Timestamp(time.as_microsecond()))
        }
        (None, after) => EventsFrom::After(Sequence(after.unwrap_or(0))),
    };
    Ok(Json(
        view::event_page(&*admin.pipes.reader(), from, limit).await?,
    ))
}

async fn event(
    State(admin): Bus,
    sequence: Result<Path<String>, PathRejection>,
) -> Answer<EventView> {
    Ok(Json(retained(&admin, &sequence?).await?.into()))
}

/// The event of a sequence, or the `last` one.
async fn retained(admin: &Admin, sequence: &str) -> Result<StoredEvent, Refused> {
    let reader = admin.pipes.reader();
    if sequence == "last" {
        return reader
            .last_event()
            .await?
            .ok_or_else(|| Refused::not_found("event"));
    }
    let invalid = |_| Refused::bad_request(format!("{sequence:?} is not the sequence of an event"));
    let sequence = Sequence(sequence.parse().map_err(invalid)?);
    let stored = reader.event(sequence).await?;
    stored.ok_or_else(|| {
        Refused::not_found(format!(
            "event {}; it is kept for the retention time",
            sequence.0
        ))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    rule: Option<Name>,
    limit: Option<usize>,
}

async fn explain(
    State(admin): Bus,
    sequence: Result<Path<String>, PathRejection>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Answer<ExplainView> {
    let (stored, Query(query)) = (retained(&admin, &sequence?).await?, query?);
    let limit = query.limit.unwrap_or(EXPLAINED_DEFAULT);
    if !(1..=EXPLAINED_MAX).contains(&limit) {
        return Err(Refused::bad_request(format!(
            "limit is {limit}; it lies between 1 and {EXPLAINED_MAX}"
        )));
    }
    let rule = query.rule.as_ref().map_or_else(String::new, |rule| {
        format!("rule {rule} of tenant {}", stored.tenant)
    });
    // Ten thousand rules take a while, for which the threads that serve others are not held.
    let reader = admin.pipes.reader();
    let explaining = tokio::task::spawn_blocking(move || {
        let explained = admin.overview.explain(
            &stored.tenant,
            &stored.origin,
            &stored.event,
            query.rule.as_ref(),
            limit,
        );
        explained.map(|explained| (ExplainView::new(&stored, explained), stored))
    });
    let failed = |_| {
        Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "cannot explain this event",
        )
    };
    let (mut explained, stored) = explaining
        .await
        .map_err(failed)?
        .ok_or_else(|| Refused::not_found(rule))?;
    explained.deliveries = view::fates(&*reader, &stored, &explained.explained.taken).await?;
    Ok(Json(explained))
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

fn delivery(id: &str) -> Result<DeliveryId, Refused> {
    id.parse()
        .map_err(|error| Refused::bad_request(format!("{error}")))
}
