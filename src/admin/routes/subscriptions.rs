//! Subscriptions: listed, suspended, resumed, cancelled and moved.

use std::sync::Arc;

use pointsman_journal::{Activity, SubscriptionStatus};
use pointsman_schemas::{DeliveryId, SubscriptionNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::api::{Answer, Api, Nothing};
use crate::admin::refused::Refused;
use crate::admin::view::{Page, SubscriptionView};

pub(super) fn register(api: Api) -> Api {
    api.read(
        "/subscriptions",
        "listSubscriptions",
        "Subscriptions and what they count",
        list,
    )
    .change(
        "/subscriptions/{number}/suspend",
        "suspendSubscription",
        "Let nothing go out",
        suspend,
    )
    .change(
        "/subscriptions/{number}/resume",
        "resumeSubscription",
        "Go on",
        resume,
    )
    .change(
        "/subscriptions/{number}/cancel",
        "cancelSubscription",
        "End all that waits in it",
        cancel,
    )
    .change(
        "/subscriptions/{number}/move",
        "moveSubscription",
        "Move all that waits in it",
        move_all,
    )
}

pub(crate) async fn list(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<Page<SubscriptionView>> {
    let reader = admin.pipes.reader();
    let (statuses, now) = (reader.subscriptions().await?, admin.clock.now());
    let (mut paused, lanes) = (admin.overview.paused(), admin.overview.lanes());
    let view = |status: SubscriptionStatus| {
        let paused = paused.remove(&status.number);
        let lane = lanes.get(&status.number).copied();
        SubscriptionView::new(status, paused, lane, now)
    };
    Ok(Page::whole(statuses.into_iter().map(view).collect()).read_by(&*reader))
}

pub(crate) async fn suspend(
    admin: Arc<Admin>,
    number: SubscriptionNumber,
    _: Nothing,
) -> Answer<SubscriptionView> {
    set_activity(&admin, number, Activity::Suspended).await
}

pub(crate) async fn resume(
    admin: Arc<Admin>,
    number: SubscriptionNumber,
    _: Nothing,
) -> Answer<SubscriptionView> {
    set_activity(&admin, number, Activity::Active).await
}

/// How many were ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cancelled {
    cancelled: u64,
}

/// Ends what waits in a subscription.
pub(crate) async fn cancel(
    admin: Arc<Admin>,
    number: SubscriptionNumber,
    _: Nothing,
) -> Answer<Cancelled> {
    let cancelled = admin.pipes.cancel_all(number).await?;
    tell_waiting(&admin, number).await;
    tracing::info!(
        subscription = number.0,
        cancelled,
        "pending deliveries were cancelled"
    );
    Ok(Cancelled { cancelled })
}

/// Where to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveRequest {
    /// The number of the subscription that it is moved to.
    to: u32,
}

/// How many were moved.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Moved {
    moved: u64,
}

/// Moves what waits in a subscription to another one.
pub(crate) async fn move_all(
    admin: Arc<Admin>,
    from: SubscriptionNumber,
    MoveRequest { to }: MoveRequest,
) -> Answer<Moved> {
    if to == from.0 {
        return Err(Refused::bad_request(format!(
            "subscription {to} cannot be moved to itself"
        )));
    }
    let moved = admin.journal.move_all(from, SubscriptionNumber(to)).await?;
    tell_waiting(&admin, from).await;
    tracing::info!(
        subscription = from.0,
        to,
        moved,
        "pending deliveries were moved"
    );
    Ok(Moved { moved })
}

/// Tells callers who wait for tasks of a subscription that these were ended.
async fn tell_waiting(admin: &Admin, number: SubscriptionNumber) {
    let reader = admin.journal.reader();
    let is_meant = |id: &DeliveryId| id.subscription == number;
    admin.waiting.look(&*reader, is_meant).await;
}

async fn set_activity(
    admin: &Admin,
    number: SubscriptionNumber,
    activity: Activity,
) -> Answer<SubscriptionView> {
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
    let lane = admin.overview.lanes().remove(&number);
    Ok(SubscriptionView::new(
        status,
        paused,
        lane,
        admin.clock.now(),
    ))
}
