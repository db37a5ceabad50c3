//! Stored events: listed, shown and explained.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use pointsman_journal::{EventsFrom, StoredEvent};
use pointsman_schemas::{Name, Sequence, Timestamp};
use serde::Deserialize;

use super::{Answer, Bus, limited};
use crate::admin::Admin;
use crate::admin::refused::Refused;
use crate::admin::view::{self, EventView, ExplainView, Page};

/// Rules explained at once, unless asked otherwise.
const EXPLAINED_DEFAULT: usize = 10;

/// Rules explained at once at most.
const EXPLAINED_MAX: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    since: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

/// Events since a time, or behind a sequence; from the oldest one on where neither is given.
pub(super) async fn list(
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

pub(super) async fn show(
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
pub(super) struct ExplainQuery {
    rule: Option<Name>,
    limit: Option<usize>,
}

pub(super) async fn explain(
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
