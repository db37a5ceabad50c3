//! Replays: how far they are, and stopping them.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use pointsman_journal::{ReplayId, ReplayState};

use super::page::{self, Section, Viewer, count, table, time};
use super::parts::{subscription_path, trouble};
use super::{Console, audit, failure::Failure};
use crate::admin::api::{InPath, Nothing};
use crate::admin::routes::replays;

pub(super) async fn list(
    State(console): State<Console>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let page = replays::list(console.admin, (), Nothing {}).await?;
    let body = html! {
        (trouble(&page.incomplete))
        p .note {
            "Those that are running, and the last that have ended. One is begun on the page of a "
            "subscription."
        }
        div .sheet {
            (table("Replays", &html! {
                thead { tr {
                    th scope="col" { "Began" } th scope="col" { "To" } th scope="col" { "Of" }
                    th scope="col" { "State" }
                    th .number scope="col" { "Looked at" } th .number scope="col" { "Made" }
                    th .number scope="col" { "Progress" } th scope="col" { "Stop" }
                } }
                tbody {
                    @for one in &page.items {
                        tr {
                            td .when { (time(&one.began)) }
                            td .name {
                                @if let (Some(number), Some(of)) = (one.subscription, &one.identity) {
                                    a href=(subscription_path(number)) {
                                        (of.rule) " → " (of.target)
                                    }
                                } @else { "their own subscriptions" }
                            }
                            td {
                                (page::word(&one.kind))
                                @if let Some(rate) = &one.events.rate { " at " (rate) }
                            }
                            td {
                                (page::word(&one.state))
                                @if let Some(message) = &one.message { div .said { (message) } }
                            }
                            td .number { (count(one.seen)) }
                            td .number { (count(one.made)) }
                            td .number {
                                @if let Some(progress) = one.progress {
                                    (format!("{:.0} %", progress * 100.0))
                                }
                            }
                            td { @if one.state == ReplayState::Running {
                                form method="post" action={ "/replays/" (one.id) "/stop" } {
                                    button .plain { "Stop" }
                                }
                            } }
                        }
                    }
                }
            }))
            @if page.items.is_empty() { p .note { "None." } }
        }
    };
    Ok(page::page(viewer, Section::Replays, "Replays", &body).into_response())
}

pub(super) async fn stop(
    State(console): State<Console>,
    Viewer(caller): Viewer,
    Path(id): Path<String>,
) -> Result<Redirect, Failure> {
    let id = ReplayId::parse(&id)?;
    let stopped = replays::stop(console.admin, id, Nothing {}).await?;
    audit::changed(caller, "stop replay", &format!("replay={id}"), stopped.made);
    Ok(Redirect::to("/replays"))
}
