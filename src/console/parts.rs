//! The parts of a bus: its sources, rules, targets and subscriptions, each with a page of its own.

pub(super) mod rule;
pub(super) mod source;
pub(super) mod subscription;
pub(super) mod target;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::StatusCode};
use maud::{Markup, html};
use pointsman_schemas::{Name, SubscriptionNumber};

use super::Console;
use super::failure::Failure;
use super::fields::{Asked, Fields};
use super::flow::{circuits, of_subscription};
use super::history::{Counted, Kind, Look, Rates};
use super::page::{count, rate, span, state, table};
use crate::admin::api::InPath;
use crate::admin::refused::Refused;
use crate::admin::view::SubscriptionView;

/// Rows of a list of parts.
const ROWS_MAX: usize = 100;

pub(super) fn source_path(tenant: &Name, name: &Name) -> String {
    format!("/sources/{tenant}/{name}")
}

pub(super) fn rule_path(tenant: &Name, name: &Name) -> String {
    format!("/rules/{tenant}/{name}")
}

pub(super) fn target_path(tenant: &Name, name: &Name) -> String {
    format!("/targets/{tenant}/{name}")
}

pub(super) fn subscription_path(number: SubscriptionNumber) -> String {
    format!("/subscriptions/{}", number.0)
}

/// A part as a path names it.
fn named(tenant: &str, name: &str) -> Result<(Name, Name), Failure> {
    let read =
        |text: &str| Name::new(text).map_err(|error| Refused::bad_request(error.to_string()));
    Ok((read(tenant)?, read(name)?))
}

/// Says which shards are missing from what is shown.
pub(super) fn trouble(incomplete: &[u16]) -> Markup {
    html! {
        @if !incomplete.is_empty() {
            @let shards: Vec<String> = incomplete.iter().map(ToString::to_string).collect();
            p .notice .warn {
                "The nodes that own these shards could not be asked just now, so what is in them "
                "is missing here: "
                (shards.join(", "))
            }
        }
    }
}

/// The items of a list from a place on, with the way to the next ones. They lie in memory, so a
/// place is a number.
pub(super) fn paged<'i, T>(items: &'i [T], path: &str, asked: &Fields) -> (&'i [T], Markup) {
    paged_by(ROWS_MAX, items, path, asked)
}

/// The same with so many on a page.
pub(super) fn paged_by<'i, T>(
    rows: usize,
    items: &'i [T],
    path: &str,
    asked: &Fields,
) -> (&'i [T], Markup) {
    let from = asked.text("after").parse::<usize>().unwrap_or_default();
    let from = from.min(items.len());
    let until = from.saturating_add(rows).min(items.len());
    let shown = items.get(from..until).unwrap_or_default();
    let ways = html! {
        @if items.len() > shown.len() {
            p .pages {
                span {
                    (count(from as u64 + 1)) "–" (count(until as u64)) " of "
                    (count(items.len() as u64))
                }
                @if from > 0 {
                    a href=(asked.with("after", Some(&from.saturating_sub(rows).to_string())).at(path)) {
                        "Previous"
                    }
                }
                @if until < items.len() {
                    a href=(asked.with("after", Some(&until.to_string())).at(path)) { "Next" }
                }
            }
        }
    };
    (shown, ways)
}

/// The box above a list of parts.
fn search_box(path: &str, label: &str, asked: &Fields) -> Markup {
    html! {
        form .filter method="get" action=(path) role="search" {
            label { (label) input type="search" name="q" value=(asked.text("q")); }
            button .plain { "Filter" }
        }
    }
}

/// Whether what is looked for stands in one of these texts.
fn has_wanted<'t>(asked: &Fields, texts: impl IntoIterator<Item = &'t str>) -> bool {
    let wanted = asked.text("q").to_lowercase();
    wanted.is_empty()
        || texts
            .into_iter()
            .any(|text| text.to_lowercase().contains(&wanted))
}

/// The two charts of a part.
fn charts(path: &str, has_levels: bool) -> Markup {
    html! {
        (one_chart("In a second, over the last hour", path, "rates"))
        @if has_levels { (one_chart("At the moment, over the last hour", path, "levels")) }
    }
}

fn one_chart(title: &str, path: &str, of: &str) -> Markup {
    html! {
        section .sheet {
            h2 { (title) }
            div .chart data-chart={ "/charts" (path) "?of=" (of) } {
                p .note {
                    "Drawn from samples of every ten seconds; the first two are there twenty seconds "
                    "after the start. Needs JavaScript."
                }
            }
        }
    }
}

/// What a chart is drawn from.
pub(super) async fn chart(
    State(console): State<Console>,
    Path((part, rest)): Path<(String, String)>,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let unknown = || Refused::not_found("chart like that");
    let counted = match (part.as_str(), rest.split_once('/')) {
        ("subscriptions", None) => Counted::Subscription(SubscriptionNumber::parse(&rest)?),
        (part, Some((tenant, name))) => {
            let (tenant, name) = named(tenant, name)?;
            match part {
                "sources" => Counted::Source(tenant, name),
                "rules" => Counted::Rule(tenant, name),
                "targets" if asked.text("of") == "attempts" => Counted::Attempts(tenant, name),
                "targets" => Counted::Target(tenant, name),
                _ => return Err(unknown().into()),
            }
        }
        _ => return Err(unknown().into()),
    };
    let kind = match asked.text("of") {
        "levels" | "attempts" => Kind::Level,
        _ => Kind::Rate,
    };
    Ok(match console.history.of(&counted, kind) {
        Some(chart) => Json(chart).into_response(),
        // It has no samples yet, or there are too many that have.
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// A table of subscriptions.
fn subscriptions<'l>(
    look: &'l Look,
    rates: &Rates,
    shown: impl Iterator<Item = &'l SubscriptionView>,
) -> Markup {
    let circuits = circuits(look);
    table(
        "Subscriptions",
        &html! {
            thead { tr {
                th scope="col" { "Subscription" } th scope="col" { "State" }
                th .number scope="col" { "Delivered" }
                th .number scope="col" { "Waiting" } th .number scope="col" { "Retrying" }
                th .number scope="col" { "Dead" }
                th .number scope="col" { "Oldest" }
            } }
            tbody {
                @for one in shown {
                    @let passing = rates.of(&Counted::Subscription(one.number));
                    @let circuit = circuits.get(&(&one.identity.tenant, &one.identity.target)).copied();
                    @let (health, word) = of_subscription(one, passing, circuit);
                    tr {
                        td .name {
                            a href=(subscription_path(one.number)) { (subscription::title(one)) }
                        }
                        td { (state(health, word)) }
                        td .number { (rate(passing.passed)) }
                        td .number { (count(one.counts.pending)) }
                        td .number { (count(one.counts.retrying)) }
                        td .number { (count(one.counts.dead)) }
                        td .number {
                            @if let Some(age) = one.oldest_pending_age_seconds { (span(age)) }
                        }
                    }
                }
            }
        },
    )
}
