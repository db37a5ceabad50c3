//! Subscriptions: listed, suspended, resumed, cancelled and moved.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use pointsman_journal::{Activity, SubscriptionStatus};
use pointsman_schemas::SubscriptionNumber;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Bus, must_be_json};
use crate::admin::Admin;
use crate::admin::refused::Refused;
use crate::admin::view::{Page, SubscriptionView};

pub(super) async fn list(State(admin): Bus) -> Answer<Page<SubscriptionView>> {
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

pub(super) async fn suspend(
    State(admin): Bus,
    number: Result<Path<String>, PathRejection>,
) -> Answer<SubscriptionView> {
    set_activity(&admin, &number?, Activity::Suspended).await
}

pub(super) async fn resume(
    State(admin): Bus,
    number: Result<Path<String>, PathRejection>,
) -> Answer<SubscriptionView> {
    set_activity(&admin, &number?, Activity::Active).await
}

/// Ends what waits in a subscription.
pub(super) async fn cancel(
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
pub(super) async fn move_all(
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
