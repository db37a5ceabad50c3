//! Retained events, looked for from the newest back.

pub(super) mod search;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use pointsman_journal::StoredEvent;

use self::search::{Found, Wanted, search};
use super::fields::{Asked, Fields};
use super::page::{self, Section, Viewer, count, table, time};
use super::parts::{source_path, trouble};
use super::{Console, failure::Failure};
use crate::admin::refused::Refused;

/// The conditions that the page offers beside a pattern: their names, what they are called, and how
/// they are written.
const FIELDS: [(&str, &str, &str); 8] = [
    ("type", "Type", "order.paid, or order.*"),
    ("source", "Source attribute", ""),
    ("subject", "Subject", ""),
    ("id", "Id", ""),
    ("origin", "Source of the bus", ""),
    ("tenant", "Tenant", ""),
    ("since", "Since", "2026-01-31T09:30:00Z"),
    ("until", "Until", "2026-01-31T10:30:00Z"),
];

/// How a pattern is written in one line.
pub(super) const PATTERN: &str = r#"{ data: { total: [{ numeric: [">", 100] }] } }"#;

/// Events that a page lists.
const LISTED: usize = 50;

pub(super) async fn page(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let reader = console.admin.pipes.reader();
    // A pattern that is wrong is told beside the form that it stands in.
    let (found, wrong) = match Wanted::of(&asked, console.admin.clock.now()) {
        Ok(wanted) => (Some(search(&*reader, &wanted, LISTED).await?), None),
        Err(why) => (None, Some(why)),
    };
    let incomplete: Vec<u16> = reader
        .incomplete()
        .into_iter()
        .map(|shard| shard.get())
        .collect();
    let body = html! {
        (trouble(&incomplete))
        (filter(&asked))
        @if let Some(why) = &wrong { pre .notice .bad role="alert" tabindex="0" { (why) } }
        @if let Some(found) = &found { div .sheet { (list(found, &asked)) } }
    };
    let page = page::page(viewer, Section::Events, "Events", &body).into_response();
    Ok(match wrong {
        Some(_) => (axum::http::StatusCode::BAD_REQUEST, page).into_response(),
        None => page,
    })
}

fn filter(asked: &Fields) -> Markup {
    html! {
        form .filter method="get" action="/events" role="search" {
            @for (name, label, hint) in FIELDS {
                label {
                    (label)
                    input name=(name) value=(asked.text(name)) placeholder=[hinted(hint)];
                }
            }
            label .wide { "Pattern, or match, where and filters as in a rule"
                input name="pattern" value=(asked.text("pattern")) placeholder=(PATTERN)
                    spellcheck="false";
            }
            button .plain { "Search" }
            a href="/events" { "All" }
        }
    }
}

/// What a field shows while it is empty.
pub(super) fn hinted(hint: &str) -> Option<&str> {
    (!hint.is_empty()).then_some(hint)
}

fn list(found: &Found, asked: &Fields) -> Markup {
    html! {
        @if found.events.is_empty() {
            p .note {
                "No event like that" @if found.next.is_some() { " among those that were looked at" }
                "."
            }
        } @else {
            (table("Events, the newest first", &html! {
                thead { tr {
                    th scope="col" { "Event" } th scope="col" { "Stored" } th scope="col" { "Type" }
                    th scope="col" { "Source" }
                    th scope="col" { "Subject" } th scope="col" { "Id" } th scope="col" { "From" }
                } }
                tbody { @for one in &found.events { (row(one)) } }
            }))
        }
        @if let Some(next) = &found.next {
            p .pages {
                @if found.events.len() < LISTED {
                    span .note { (count(found.looked_at as u64)) " events were looked at." }
                }
                a href=(asked.with("before", Some(next)).at("/events")) {
                    @if found.events.len() < LISTED { "Look further back" } @else { "Older ones" }
                }
            }
        }
    }
}

fn row(one: &StoredEvent) -> Markup {
    html! {
        tr {
            td { a href={ "/events/" (one.sequence.0) } { (one.sequence.0) } }
            td .when { (time(&one.at.to_string())) }
            td .name { (one.event.ty()) }
            td { (one.event.source()) }
            td { (one.event.subject().unwrap_or_default()) }
            td { (one.event.id()) }
            td { a href=(source_path(&one.tenant, &one.origin)) { (one.origin) } }
        }
    }
}

/// What must hold of events, as somebody has written it into a field.
pub(super) fn written_filter(text: &str) -> Result<pointsman_rules::Filter, String> {
    let told = |all: Vec<crate::config::Diagnostic>| {
        let lines: Vec<String> = all.iter().map(crate::config::Diagnostic::line).collect();
        lines.join("\n")
    };
    let read = crate::config::loose::Loose::read("pattern".to_owned(), text.to_owned());
    let read = read.map_err(told)?;
    let serde_json::Value::Object(object) = read.value else {
        return Err("a pattern is a mapping, such as { type: [order.paid] }".to_owned());
    };
    crate::replay::RawFilters::of(object)?.compile()
}

/// One that is written in a query of the API.
pub(super) fn as_json(text: &str) -> Result<String, Failure> {
    let read = crate::config::loose::Loose::read("pattern".to_owned(), text.to_owned());
    let wrong = |_| Refused::bad_request("pattern: this is neither JSON nor YAML");
    Ok(read.map_err(wrong)?.value.to_string())
}
