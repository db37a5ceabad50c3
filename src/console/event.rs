//! One event: its data, which rules took it, why the others did not, and its tasks.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use pointsman_schemas::Sequence;

use super::explained::explained;
use super::fields::Asked;
use super::page::{self, Health, Section, Viewer, state, time};
use super::parts::{rule_path, source_path, target_path};
use super::{Console, failure::Failure, tasks};
use crate::admin::api::{InPath, Nothing};
use crate::admin::routes::events::{self, EventReference};
use crate::admin::routes::tasks as routes;
use crate::admin::view::{self, EventView, ExplainView, Fate, FateView, TaskWhole};

/// Rules that did not take it, of which it is told why: the nearest.
const EXPLAINED: &str = "10";

/// Tasks that are shown with all that happened to them.
const TASKS_MAX: usize = 20;

/// Of an event this many characters are shown.
const SHOWN_MAX: usize = 64 * 1024;

pub(super) async fn page(
    State(console): State<Console>,
    viewer: Viewer,
    Path(sequence): Path<String>,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let reference = EventReference::parse(&sequence)?;
    let event = events::show(console.admin.clone(), reference, Nothing {}).await?;
    let query = asked
        .only(&["rule"])
        .with("limit", Some(EXPLAINED))
        .query()?;
    let at = EventReference::At(Sequence(event.sequence));
    let view = events::explain(console.admin.clone(), at, query).await?;
    let tasks = tasks_of(&console, Sequence(event.sequence)).await?;
    let body = html! {
        div .columns {
            section .sheet { h2 { "Event" } (facts(&event, &view)) }
            section .sheet { h2 { "As it came" } (content(&event)) }
        }
        section .sheet { h2 { "Tasks" } (of_tasks(&view.deliveries, &tasks)) }
        section .sheet { h2 { "Rules" } (rules(&event, &view)) }
    };
    let title = format!("Event {}", event.sequence);
    Ok(page::page(viewer, Section::Events, &title, &body).into_response())
}

/// What is known of the event's tasks, ended or not.
async fn tasks_of(console: &Console, sequence: Sequence) -> Result<Vec<TaskWhole>, Failure> {
    let reader = console.admin.pipes.reader();
    let mut tasks = Vec::new();
    for id in view::deliveries_of(&*reader, sequence)
        .await?
        .into_iter()
        .take(TASKS_MAX)
    {
        // It may have gone since.
        tasks.extend(
            routes::show(console.admin.clone(), id, Nothing {})
                .await
                .ok(),
        );
    }
    Ok(tasks)
}

fn facts(event: &EventView, view: &ExplainView) -> Markup {
    html! {
        dl .facts {
            dt { "Stored" } dd { (time(&event.at)) }
            dt { "From" }
            dd {
                a href=(source_path(&event.tenant, &event.origin)) { (event.origin) } " of tenant "
                (event.tenant)
            }
            @if let Some(until) = &event.kept_until { dt { "Kept until" } dd { (time(until)) } }
            @for (name, value) in &view.event {
                dt { (name) }
                dd { @match value.as_str() { Some(text) => (text), None => (value.to_string()) } }
            }
        }
        p {
            a href={ "/playground?event=" (event.sequence) } {
                "Try conditions on it in the playground"
            }
        }
    }
}

fn content(event: &EventView) -> Markup {
    let text = event
        .event
        .as_ref()
        .map(|event| page::pretty(event.get()))
        .unwrap_or_default();
    let (shown, is_cut) = match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), true),
        None => (text.as_str(), false),
    };
    html! {
        pre tabindex="0" aria-label="The event in CloudEvents' JSON format" { (shown) }
        @if is_cut {
            p .note {
                "There is more: "
                a href={ "/api/v1/events/" (event.sequence) } { "the whole event" }
            }
        }
    }
}

fn of_tasks(fates: &[FateView], tasks: &[TaskWhole]) -> Markup {
    // What is neither waiting nor dead has a task only as long as the history tells of it.
    let untold = fates.iter().filter(|fate| {
        fate.id.is_none()
            && !tasks.iter().any(|whole| {
                (&whole.task.identity.rule, &whole.task.identity.target)
                    == (&fate.rule, &fate.target)
            })
    });
    html! {
        @if fates.is_empty() && tasks.is_empty() {
            p .note { "None: no rule took it, or nothing is kept of them." }
        }
        @for whole in tasks {
            @let one = &whole.task;
            article {
                h3 {
                    a href=(rule_path(&one.identity.tenant, &one.identity.rule)) {
                        (one.identity.rule)
                    }
                    " → "
                    a href=(target_path(&one.identity.tenant, &one.identity.target)) {
                        (one.identity.target)
                    }
                    " "
                    (state(tasks::health(one.state), one.state.as_str())) " "
                    a href={ "/tasks/" (one.id) } { "task" }
                }
                (tasks::timeline(&whole.history))
            }
        }
        @for fate in untold {
            p {
                strong { (fate.rule) " → " (fate.target) } ": "
                @match fate.fate {
                    Fate::Duplicate => { (state(Health::Idle, "duplicate")) " " (fate.message) }
                    _ => "delivered; or it was cancelled or purged, or the rule did not have this target then",
                }
            }
        }
    }
}

fn rules(event: &EventView, view: &ExplainView) -> Markup {
    html! {
        @if view.explained.taken.is_empty() { p { "No rule takes it." } }
        @else {
            p { "Taken by "
                @for (index, name) in view.explained.taken.iter().enumerate() {
                    @if index > 0 { ", " }
                    a href=(rule_path(&event.tenant, name)) { (name) }
                    " (" a href={ "/events/" (event.sequence) "?rule=" (name) } { "why" } ")"
                }
            }
        }
        @for one in &view.explained.rules {
            article {
                h3 {
                    a href=(rule_path(&event.tenant, &one.rule)) { (one.rule) } " "
                    @if one.explanation.matches {
                        (state(Health::Good, "takes it"))
                    } @else {
                        (state(Health::Idle, "does not take it"))
                    }
                }
                (explained(&one.explanation))
            }
        }
        @if view.explained.omitted > 0 {
            p .note {
                (view.explained.omitted) " more rules did not take it; these are the nearest."
            }
        }
    }
}
