//! What the admin API answers to each request.

pub(crate) mod dead;
pub(crate) mod events;
mod nodes;
pub(super) mod peers;
pub(crate) mod replays;
pub(crate) mod subscriptions;
pub(crate) mod tap;
pub(crate) mod tasks;
mod versions;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, middleware};
use pointsman_connectors::listener::Refusal;
use pointsman_journal::ShardNumber;
use pointsman_schemas::DeliveryId;
use serde_json::json;

pub(super) use self::nodes::DrainRequest;
use super::api::{Answer, Answers, Api, Nothing};
use super::guard::{Guard, guard};
use super::overview::{RuleStatus, SourceStatus, TargetStatus};
use super::refused::Refused;
use super::view::{self, Page, StatusView};
use super::{Admin, VERSION, exposition};
use crate::telemetry::QuotaUse;
use crate::telemetry::exposition::Exposition;

/// Tasks, dead letters or events listed at once, unless asked otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Tasks, dead letters or events listed at once at most: a page stays well under what a client
/// wants to hold.
const LIMIT_MAX: usize = 1_000;

/// A request's body: room for [`view::IDS_MAX`] ids.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

const JSON: &str = "application/json";
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Bus = State<Arc<Admin>>;

/// Every operation there is.
///
/// A new one is one line in its module's `register`, its path below `/api/v1`, and one function
/// beside it:
/// - `read`: `async fn(Arc<Admin>, P, Q) -> Answer<A>`, where `P` is what the path names (`()` for
///   nothing, or an [`InPath`](super::api::InPath)), `Q` the query parameters (`Nothing`, or a
///   struct with `Deserialize`, `JsonSchema` and `deny_unknown_fields`), and `A` what is answered
///   (`Serialize` and `JsonSchema`).
/// - `change`: `async fn(Arc<Admin>, P, B) -> Answer<A>`, where `B` is the body, likewise. It takes
///   an `Idempotency-Key` without doing anything for it.
/// - `stream`: `async fn(Arc<Admin>, Q) -> Answer<S>`, where `S` is a stream of server-sent events.
///
/// What is said of a field in the document is its doc comment. Then add a sample of it to the
/// `SAMPLES` of `admin/tests.rs`, which fail until there is one, and write the document anew: run
/// the tests with `UPDATE_SCHEMAS=1`.
fn operations(answers: Answers) -> Api {
    let api = register(Api::new(answers));
    let api = subscriptions::register(api);
    let api = dead::register(api);
    let api = nodes::register(api);
    let api = versions::register(api);
    let api = replays::register(api);
    let api = tasks::register(api);
    let api = tap::register(api);
    events::register(api)
}

fn register(api: Api) -> Api {
    api.other(
        "/healthz",
        "isAlive",
        "Whether the process lives",
        JSON,
        healthz,
    )
    .other(
        "/readyz",
        "isReady",
        "Whether events can be taken",
        JSON,
        readyz,
    )
    .other(
        "/metrics",
        "getMetrics",
        "What it counts, for Prometheus",
        OPENMETRICS,
        metrics,
    )
    .read("/status", "getStatus", "How the bus stands", status)
    .read(
        "/sources",
        "listSources",
        "The sources of the rules in force",
        sources,
    )
    .read("/rules", "listRules", "The rules and pipes in force", rules)
    .read(
        "/targets",
        "listTargets",
        "The targets of the rules in force",
        targets,
    )
    .read(
        "/quotas",
        "listQuotas",
        "The quotas of tenants and rules, and what is used of them",
        quotas,
    )
}

/// The document that describes them, as it is committed.
#[cfg(test)]
pub(super) fn document() -> String {
    operations(Answers::default()).finish().1
}

/// Every route there is, behind the guard.
pub(super) fn router(
    admin: Arc<Admin>,
    own: Arc<Guard>,
    answers: Answers,
    pages: Router<Arc<Admin>>,
) -> Router {
    let (routes, _document) = operations(answers).finish();
    // Nodes alone ask this of each other: it is no operation of the API.
    routes
        .route(peers::PATH, peers::calls())
        .merge(pages)
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

async fn readyz(State(admin): Bus) -> Result<Json<serde_json::Value>, Refused> {
    let missing = admin.missing();
    let differs = admin.versions.as_ref().is_some_and(|own| own.differs());
    match (missing.is_empty(), differs) {
        (true, false) => return Ok(Json(json!({ "status": "ready" }))),
        (true, true) => {
            let rules = "the rule files of this node differ from the rules in force";
            return Ok(Json(json!({ "status": "ready", "rules": rules })));
        }
        (false, _) => {}
    }
    let mut refusal = Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the bus is not ready to take events",
    );
    refusal.missing = missing;
    Err(refusal.into())
}

async fn metrics(State(admin): Bus) -> Result<Response, Refused> {
    let Exposition { process, store } = exposition::take(&admin).await.map_err(|_| {
        Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "cannot write the metrics",
        )
    })?;
    let text = process + &store + "# EOF\n";
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

pub(crate) async fn status(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<StatusView> {
    let reader = admin.pipes.reader();
    let (now, missing) = (admin.clock.now(), admin.missing());
    let totals = reader.totals().await.ok();
    let statuses = reader.subscriptions().await.ok();
    Ok(StatusView {
        version: VERSION,
        journal: format!("{:016x}", admin.journal.id().0),
        started: admin.started.to_string(),
        uptime_seconds: now.since(admin.started).as_secs_f64(),
        ready: missing.is_empty(),
        missing,
        totals,
        deliveries: statuses.map(|statuses| view::sum(&statuses)),
        taps: admin.tap.listeners(),
        incomplete: reader
            .incomplete()
            .into_iter()
            .map(ShardNumber::get)
            .collect(),
    })
}

async fn sources(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<Page<SourceStatus>> {
    Ok(Page::whole(admin.overview.sources()))
}

async fn rules(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<Page<RuleStatus>> {
    Ok(Page::whole(admin.overview.rules()))
}

async fn targets(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<Page<TargetStatus>> {
    Ok(Page::whole(admin.overview.targets()))
}

async fn quotas(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<Page<QuotaUse>> {
    let mut quotas = admin.overview.quotas();
    QuotaUse::count(&mut quotas, &admin.pipes.reader().subscriptions().await?);
    Ok(Page::whole(quotas))
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
