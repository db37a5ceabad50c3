//! Replays: begun, listed, shown and stopped.

use std::sync::Arc;

use axum::http::StatusCode;
use pointsman_journal::{Replay, ReplayId, SubscriptionStatus};
use pointsman_schemas::Sequence;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Serialize;

use crate::admin::Admin;
use crate::admin::api::{Answer, Api, InPath, Nothing};
use crate::admin::refused::Refused;
use crate::admin::view::{Page, ReplayRequest, ReplayView};
use crate::replay::{EventReplay, ReplayError};

pub(super) fn register(api: Api) -> Api {
    api.read(
        "/replays",
        "listReplays",
        "Replays that are running, and the last that have ended",
        list,
    )
    .change(
        "/replays",
        "beginReplay",
        "Replay retained events to a subscription",
        begin,
    )
    .read(
        "/replays/{id}",
        "getReplay",
        "One replay, with how far it has come",
        show,
    )
    .change(
        "/replays/{id}/stop",
        "stopReplay",
        "Stop a replay; what it has made stays",
        stop,
    )
}

/// What came of a request for a replay.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Begun {
    /// It has begun.
    Replay(Box<ReplayView>),
    /// It was only counted.
    Counted {
        /// Events of the time.
        events: u64,
        /// Those that the subscription takes. Of which it has a delivery pending or dead gets no
        /// other one.
        taken: u64,
    },
}

/// Begins a replay, or counts what it would look at and make.
pub(crate) async fn begin(admin: Arc<Admin>, (): (), request: ReplayRequest) -> Answer<Begun> {
    let statuses = admin.journal.reader().subscriptions().await?;
    let status = request.to.find(&statuses).map_err(Refused::bad_request)?;
    let replay = EventReplay {
        subscription: status.number.0,
        events: request.events,
    };
    if request.dry_run {
        let (events, taken) = admin.replays.count(&replay, &status.identity).await?;
        return Ok(Begun::Counted { events, taken });
    }
    let replay = admin.replays.begin(&replay).await?;
    let view = view(&admin, replay, &statuses).await?;
    Ok(Begun::Replay(Box::new(view)))
}

pub(crate) async fn list(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<Page<ReplayView>> {
    let reader = admin.journal.reader();
    let replays = reader.replays().await?;
    let statuses = reader.subscriptions().await?;
    let last = Sequence(reader.totals().await?.last_sequence);
    let view = |replay| ReplayView::new(replay, &statuses, last);
    Ok(Page::whole(replays.into_iter().map(view).collect()).read_by(&*reader))
}

pub(crate) async fn show(admin: Arc<Admin>, id: ReplayId, _: Nothing) -> Answer<ReplayView> {
    let replays = admin.journal.reader().replays().await?;
    let found = replays.into_iter().find(|replay| replay.id == id);
    let found = found.ok_or_else(|| Refused::not_found(format!("replay {id}")))?;
    shown(&admin, found).await
}

pub(crate) async fn stop(admin: Arc<Admin>, id: ReplayId, _: Nothing) -> Answer<ReplayView> {
    let stopped = admin.replays.stop(id).await?;
    shown(&admin, stopped).await
}

async fn shown(admin: &Admin, replay: Replay) -> Answer<ReplayView> {
    let statuses = admin.journal.reader().subscriptions().await?;
    view(admin, replay, &statuses).await
}

pub(crate) async fn view(
    admin: &Admin,
    replay: Replay,
    statuses: &[SubscriptionStatus],
) -> Answer<ReplayView> {
    let last = admin.journal.reader().totals().await?.last_sequence;
    Ok(ReplayView::new(replay, statuses, Sequence(last)))
}

impl InPath for ReplayId {
    const SEGMENT: Option<(&'static str, &'static str)> = Some(("id", "The id of a replay"));

    fn parse(segment: &str) -> Result<Self, Refused> {
        let parsed = segment.parse();
        parsed.map_err(|error| Refused::bad_request(format!("{error}")))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^(?!0{16}$)[0-7][0-9a-f]{15}$" })
    }
}

impl From<ReplayError> for Refused {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Journal(error) => error.into(),
            ReplayError::TooMany => Self::new(StatusCode::CONFLICT, error.to_string()),
            ReplayError::Invalid(why) => Self::bad_request(why),
        }
    }
}
