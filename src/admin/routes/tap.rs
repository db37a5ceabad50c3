//! What passes, live.

use std::convert::Infallible;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::sse;
use futures::{Stream, stream};
use pointsman_schemas::Name;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::api::{Answer, Api, SchemaOf};
use crate::admin::refused::Refused;
use crate::admin::view::{TapAttempt, TapEvent, TapLeftOut};
use crate::replay::RawFilters;
use crate::telemetry::tap::{Heard, Listening, Passing, PassingKind, TapFilter};

/// How many are told of in a second, unless asked otherwise.
const RATE_DEFAULT: u32 = 1_000;

/// How many at most.
const RATE_MAX: u32 = 10_000;

const ITEMS: [(&str, SchemaOf); 3] = [
    ("event", SchemaGenerator::subschema_for::<TapEvent>),
    ("attempt", SchemaGenerator::subschema_for::<TapAttempt>),
    ("left-out", SchemaGenerator::subschema_for::<TapLeftOut>),
];

pub(super) fn register(api: Api) -> Api {
    api.stream(
        "/tap",
        "tap",
        "What passes through this node: events as they are stored, attempts as they end",
        &ITEMS,
        tap,
    )
}

/// The two kinds of what passes.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Only {
    Events,
    Attempts,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TapQuery {
    /// Events or attempts alone.
    only: Option<Only>,
    tenant: Option<Name>,
    /// The source that the event came from.
    source: Option<Name>,
    /// Attempts for this rule alone.
    rule: Option<Name>,
    /// Attempts at this target alone.
    target: Option<Name>,
    /// The event's type; a `*` at its end stands for anything.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Attempts that were not delivered, alone.
    #[serde(default)]
    failed: bool,
    /// What must hold of the event, as JSON: a mapping with `match`, `where` and `filters` as a
    /// rule has them, or an event pattern alone.
    #[schemars(extend("contentMediaType" = "application/json"))]
    pattern: Option<String>,
    /// Whether to show the data of events.
    #[serde(default)]
    data: bool,
    /// How many in a second at most; what passes beyond that is left out and counted.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 1_000))]
    rate: Option<u32>,
}

impl TapQuery {
    /// What is listened to, and to how many in a second at most.
    pub(crate) fn check(&self) -> Answer<(TapFilter, u32)> {
        let rate = self.rate.unwrap_or(RATE_DEFAULT);
        if !(1..=RATE_MAX).contains(&rate) {
            return Err(Refused::bad_request(format!(
                "rate is {rate}; it lies between 1 and {RATE_MAX}"
            )));
        }
        Ok((self.filter()?, rate))
    }

    fn filter(&self) -> Result<TapFilter, Refused> {
        let pattern = self.pattern.as_deref().map(|text| {
            let wrong = |why: String| Refused::bad_request(format!("pattern: {why}"));
            let object = serde_json::from_str(text)
                .map_err(|error| wrong(format!("it is no JSON object: {error}")))?;
            let filters = RawFilters::of(object).map_err(wrong)?;
            filters.compile().map_err(wrong)
        });
        Ok(TapFilter {
            only: self.only.map(|only| match only {
                Only::Events => PassingKind::Events,
                Only::Attempts => PassingKind::Attempts,
            }),
            tenant: self.tenant.clone(),
            source: self.source.clone(),
            rule: self.rule.clone(),
            target: self.target.clone(),
            event_type: self.event_type.clone(),
            failed: self.failed,
            event: pattern.transpose()?,
        })
    }
}

/// Listens to what a query asks for.
pub(crate) fn listen(admin: &Admin, query: &TapQuery) -> Answer<Listening> {
    let (filter, rate) = query.check()?;
    admin.tap.listen(filter, rate).ok_or_else(|| {
        let detail = "as many listen already as may; close one of them";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}

async fn tap(
    admin: Arc<Admin>,
    query: TapQuery,
) -> Answer<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let listening = listen(&admin, &query)?;
    let with_data = query.data;
    Ok(stream::unfold(listening, move |mut listening| async move {
        let told = next(&mut listening, with_data).await?;
        Some((Ok(told), listening))
    }))
}

async fn next(listening: &mut Listening, with_data: bool) -> Option<sse::Event> {
    let event = match listening.next().await? {
        Heard::Passing(Passing::Event(passed)) => told("event", &TapEvent::new(&passed, with_data)),
        Heard::Passing(Passing::Attempt(passed)) => {
            told("attempt", &TapAttempt::new(&passed, with_data))
        }
        Heard::LeftOut(count) => told("left-out", &TapLeftOut { count }),
    };
    Some(event)
}

fn told(name: &str, item: &impl Serialize) -> sse::Event {
    // What is told can be written: it is made of names, texts and numbers.
    let data = serde_json::to_string(item).unwrap_or_default();
    // Data is kept as it came: its line breaks stand between tokens, where spaces may as well.
    let line = data.replace(['\n', '\r'], " ");
    sse::Event::default().event(name).data(line)
}
