//! What passes, live: the same as `pointsman tap` shows.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use maud::{Markup, html};
use pointsman_connectors::listener::Endless;
use pointsman_journal::DeadReason;
use pointsman_schemas::Class;

use super::events::{PATTERN, as_json, hinted};
use super::fields::{Asked, Fields};
use super::page::{self, Health, Section, Viewer, count, span, state};
use super::{Console, failure::Failure};
use crate::admin::routes::tap::{self, TapQuery};
use crate::output::shortened;
use crate::telemetry::tap::{Heard, Next, PassedAttempt, PassedEvent, Passing};

/// The conditions that the page offers, named as those of the API.
const CONDITIONS: [&str; 9] = [
    "only", "tenant", "source", "rule", "target", "type", "failed", "pattern", "rate",
];

/// Those that are a text: their names, what they are called, and how they are written.
const FIELDS: [(&str, &str, &str); 6] = [
    ("type", "Type", "order.paid, or order.*"),
    ("source", "Source", ""),
    ("rule", "Rule", ""),
    ("target", "Target", ""),
    ("tenant", "Tenant", ""),
    ("rate", "In a second", RATE_DEFAULT),
];

/// What of the two kinds is shown.
const KINDS: [(&str, &str); 3] = [
    ("", "events and attempts"),
    ("events", "events"),
    ("attempts", "attempts"),
];

/// How many in a second, unless asked otherwise: more nobody reads.
const RATE_DEFAULT: &str = "20";

/// How much of a text of an event or a target is shown.
const SHOWN_MAX: usize = 200;

pub(super) async fn page(viewer: Viewer, Asked(asked): Asked) -> Result<Response, Failure> {
    // Told now, and not by a stream that ends at once.
    query(&asked)?;
    let stream = asked.only(&CONDITIONS).at("/live/stream");
    let body = html! {
        (filter(&asked))
        div .sheet {
            p .buttons {
                button .plain #live-pause type="button" aria-pressed="false" hidden { "Pause" }
                span #live-held .note role="status" {}
                span .note { "The newest is the first; 500 are kept." }
            }
            noscript {
                p .notice .warn {
                    "This list needs JavaScript. In a terminal: " code { "pointsman tap" }
                }
            }
            div .table tabindex="0" role="region" aria-label="What passes" hx-ext="sse" sse-connect=(stream) {
                table {
                    thead { tr {
                        th scope="col" { "Time" } th scope="col" { "What" }
                        th scope="col" { "From or whose" } th scope="col" { "Came to" }
                        th scope="col" { "Type" } th scope="col" { "Subject" }
                        th scope="col" { "Id" } th scope="col" { "Said" }
                    } }
                    tbody #live-rows sse-swap="row" hx-swap="afterbegin" {}
                }
            }
        }
    };
    Ok(page::page(viewer, Section::Live, "Live", &body).into_response())
}

fn filter(asked: &Fields) -> Markup {
    html! {
        form .filter method="get" action="/live" role="search" {
            label { "What"
                select name="only" {
                    @for (value, name) in KINDS {
                        option value=(value) selected[value == asked.text("only")] { (name) }
                    }
                }
            }
            @for (name, label, hint) in FIELDS {
                label {
                    (label)
                    input name=(name) value=(asked.text(name)) placeholder=[hinted(hint)];
                }
            }
            label .wide {
                "Pattern"
                input name="pattern" value=(asked.text("pattern")) placeholder=(PATTERN)
                    spellcheck="false";
            }
            label .tick {
                input type="checkbox" name="failed" value="true" checked[asked.has("failed")];
                "failed alone"
            }
            button .plain { "Show" }
            a href="/live" { "All" }
        }
    }
}

fn query(asked: &Fields) -> Result<TapQuery, Failure> {
    let mut fields = asked.only(&CONDITIONS);
    if !fields.has("rate") {
        fields = fields.with("rate", Some(RATE_DEFAULT));
    }
    if fields.has("pattern") {
        let pattern = as_json(fields.text("pattern"))?;
        fields = fields.with("pattern", Some(&pattern));
    }
    let query: TapQuery = fields.query()?;
    query.check()?;
    Ok(query)
}

pub(super) async fn stream(
    State(console): State<Console>,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let listening = tap::listen(&console.admin, &query(&asked)?)?;
    let rows = stream::unfold(listening, async |mut listening| {
        let row = match listening.next().await? {
            Heard::Passing(Passing::Event(passed)) => event(&passed),
            Heard::Passing(Passing::Attempt(passed)) => attempt(&passed),
            Heard::LeftOut(left_out) => {
                html! {
                    tr { td {} td .note colspan="7" { "… " (count(left_out)) " more passed" } }
                }
            }
        };
        // A line break would end the row.
        let row = row.into_string().replace(['\n', '\r'], " ");
        Some((
            Ok::<_, Infallible>(Event::default().event("row").data(row)),
            listening,
        ))
    });
    let told = Sse::new(rows).keep_alive(KeepAlive::default());
    Ok((Extension(Endless), told).into_response())
}

/// A time of day.
fn clock(at: &str) -> &str {
    at.get(11..23).unwrap_or(at)
}

fn event(passed: &PassedEvent) -> Markup {
    let event = &passed.event;
    html! {
        tr {
            td .when { (clock(&passed.at.to_string())) }
            td {
                @match passed.sequence {
                    Some(sequence) => a href={ "/events/" (sequence.0) } { "event " (sequence.0) }
                    , None => "event"
                }
            }
            td { (passed.origin) }
            td {
                @if passed.is_duplicate {
                    (state(Health::Idle, "known before"))
                } @else {
                    "→ " (passed.deliveries)
                }
            }
            (of_event(event.ty(), event.subject(), event.id()))
            td {}
        }
    }
}

fn of_event(ty: &str, subject: Option<&str>, id: &str) -> Markup {
    html! {
        td { (shortened(ty, SHOWN_MAX)) }
        td { (shortened(subject.unwrap_or_default(), SHOWN_MAX)) }
        td { (shortened(id, SHOWN_MAX)) }
    }
}

fn attempt(passed: &PassedAttempt) -> Markup {
    let (event, of) = (&passed.event, &passed.subscription);
    let health = match (passed.class, &passed.next) {
        (Class::Delivered, _) => Health::Good,
        (_, Next::Dead(_)) => Health::Bad,
        _ => Health::Warn,
    };
    let code = passed
        .code
        .map_or_else(String::new, |code| format!(" {code}"));
    let then = match passed.next {
        Next::Ended => String::new(),
        Next::Retry(at) => format!("; again at {}", clock(&at.to_string())),
        Next::Dead(reason) => format!("; a dead letter: {}", DeadReason::as_str(reason)),
        Next::Waits => "; again as soon as its target can be called".to_owned(),
    };
    html! {
        tr {
            td .when { (clock(&passed.at.to_string())) }
            td { a href={ "/tasks/" (passed.id) } { "attempt " (passed.attempt) } }
            td { (of.rule) " → " (of.target) }
            td {
                (state(health, passed.class.as_str())) (code) " in "
                (span(passed.took.as_secs_f64()))
            }
            (of_event(event.ty(), event.subject(), event.id()))
            td .said { (shortened(&passed.message, SHOWN_MAX)) (then) }
        }
    }
}
