//! Stored events: listed, shown and explained.

use std::sync::Arc;

use axum::http::StatusCode;
use pointsman_journal::{EventsFrom, StoredEvent};
use pointsman_schemas::{Name, Sequence, Timestamp};
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::limited;
use crate::admin::Admin;
use crate::admin::api::{Answer, Api, InPath, Nothing};
use crate::admin::refused::Refused;
use crate::admin::view::{self, EventView, ExplainView, Page};

/// Rules explained at once, unless asked otherwise.
const EXPLAINED_DEFAULT: usize = 10;

/// Rules explained at once at most.
const EXPLAINED_MAX: usize = 100;

pub(super) fn register(api: Api) -> Api {
    api.read(
        "/events",
        "listEvents",
        "Retained events, the oldest first",
        list,
    )
    .read("/events/{sequence}", "getEvent", "One retained event", show)
    .read(
        "/events/{sequence}/explain",
        "explainEvent",
        "Why each rule took an event or did not",
        explain,
    )
}

/// A retained event, as a path names it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EventReference {
    At(Sequence),
    Last,
}

impl InPath for EventReference {
    const SEGMENT: Option<(&'static str, &'static str)> = Some((
        "sequence",
        "The sequence of an event, or `last` for the one that came last",
    ));

    fn parse(segment: &str) -> Result<Self, Refused> {
        if segment == "last" {
            return Ok(Self::Last);
        }
        let invalid =
            |_| Refused::bad_request(format!("{segment:?} is not the sequence of an event"));
        Ok(Self::At(Sequence(segment.parse().map_err(invalid)?)))
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0, "maximum": u64::MAX }, { "const": "last" }] })
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Those that were appended at this time or later. Excludes `after`.
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// Go on behind this one: the `next` of the page before.
    after: Option<u64>,
    /// How many at most.
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    limit: Option<usize>,
}

/// Events since a time, or behind a sequence; from the oldest one on where neither is given.
pub(crate) async fn list(admin: Arc<Admin>, (): (), query: EventsQuery) -> Answer<Page<EventView>> {
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
    Ok(view::event_page(&*admin.pipes.reader(), from, limit).await?)
}

pub(crate) async fn show(
    admin: Arc<Admin>,
    event: EventReference,
    _: Nothing,
) -> Answer<EventView> {
    Ok(retained(&admin, event).await?.into())
}

pub(crate) async fn retained(admin: &Admin, event: EventReference) -> Result<StoredEvent, Refused> {
    let reader = admin.pipes.reader();
    let EventReference::At(sequence) = event else {
        return reader
            .last_event()
            .await?
            .ok_or_else(|| Refused::not_found("event"));
    };
    let stored = reader.event(sequence).await?;
    stored.ok_or_else(|| {
        Refused::not_found(format!(
            "event {}; it is kept for the retention time",
            sequence.0
        ))
    })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainQuery {
    /// Only of this rule.
    rule: Option<Name>,
    /// Of how many rules that did not take it, at most.
    #[schemars(range(min = 1, max = 100), extend("default" = 10))]
    limit: Option<usize>,
}

pub(crate) async fn explain(
    admin: Arc<Admin>,
    event: EventReference,
    query: ExplainQuery,
) -> Answer<ExplainView> {
    let stored = retained(&admin, event).await?;
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
        explained.map(|explained| {
            let taken = &explained.taken;
            let keys = admin
                .overview
                .identities(&stored.tenant, taken, &stored.event);
            (ExplainView::new(&stored, explained), stored, keys)
        })
    });
    let failed = |_| {
        Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "cannot explain this event",
        )
    };
    let (mut explained, stored, keys) = explaining
        .await
        .map_err(failed)?
        .ok_or_else(|| Refused::not_found(rule))?;
    let taken = &explained.explained.taken;
    explained.deliveries = view::fates(&*reader, &stored, taken, &keys).await?;
    Ok(explained)
}
