//! Dead letters: found, looked at, edited, redriven and purged, one or many.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use pointsman_journal::{DeadReason, DeadSelection, JournalError, Reader};
use pointsman_schemas::DeliveryId;
use serde_json::value::RawValue;

use super::chosen::{Chosen, count_first, list_form, next_page, tick_all};
use super::fields::{Asked, Fields, Form};
use super::page::{self, Health, Section, Viewer, count, state, table, time};
use super::parts::{rule_path, source_path, target_path, trouble};
use super::{Console, audit, failure::Failure};
use crate::admin::api::{InPath, Nothing};
use crate::admin::refused::Refused;
use crate::admin::routes::dead;
use crate::admin::view::{DeadRequest, DeadView, DeadWhole, EditRequest, RedriveRequest};

/// The conditions that the page offers, named as those of the API.
const CONDITIONS: [&str; 4] = ["tenant", "rule", "target", "reason"];

/// Dead letters that a page lists.
const LISTED: &str = "50";

/// How many are counted at once before they are redriven or purged, and how often: more than that
/// is said to be more.
const COUNTED_AT_ONCE: usize = 1_000;
const COUNTED_MAX: usize = 10_000;

const REASONS: [DeadReason; 8] = [
    DeadReason::Rejected,
    DeadReason::Exhausted,
    DeadReason::Expired,
    DeadReason::Transform,
    DeadReason::Hops,
    DeadReason::Backlog,
    DeadReason::Unreadable,
    DeadReason::Skipped,
];

pub(super) async fn list(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let after = Some(asked.text("after")).filter(|after| !after.is_empty());
    let query = asked
        .only(&CONDITIONS)
        .with("limit", Some(LISTED))
        .with("after", after);
    let page = dead::list(console.admin, (), query.query()?).await?;
    let rows = html! {
        thead { tr {
            th { (tick_all()) }
            th scope="col" { "Died" } th scope="col" { "Rule → target" } th scope="col" { "Reason" }
            th .number scope="col" { "Tries" } th scope="col" { "Why" }
        } }
        tbody { @for one in &page.items { (row(one)) } }
    };
    let buttons = [("redrive", "Redrive", false), ("purge", "Purge", true)];
    let list = html! {
        @if page.items.is_empty() { p .note { "There is no dead letter like that." } }
        @else {
            (list_form("/dead", &asked.only(&CONDITIONS), &buttons, &table("Dead letters", &rows)))
        }
        (next_page("/dead", &asked, page.next.as_deref()))
    };
    let body = html! { (trouble(&page.incomplete)) (filter(&asked)) div .sheet { (list) } };
    Ok(page::page(viewer, Section::Dead, "Dead letters", &body).into_response())
}

fn row(one: &DeadView) -> Markup {
    html! {
        tr {
            td {
                input type="checkbox" name="ids" value=(one.id) aria-label={ "Choose " (one.id) };
            }
            td .when { a href={ "/dead/" (one.id) } { (time(&one.at)) } }
            td .name { (whose(one)) }
            td { (state(Health::Bad, one.reason.as_str())) }
            td .number { (one.attempts) }
            td .said { (why(one)) }
        }
    }
}

/// Whose it is: a rule's and a target's, or a source's that could not read it.
fn whose(one: &DeadView) -> Markup {
    html! {
        @if let (Some(rule), Some(target)) = (&one.rule, &one.target) {
            a href=(rule_path(&one.tenant, rule)) { (rule) } " → "
            a href=(target_path(&one.tenant, target)) { (target) }
        } @else {
            "source " a href=(source_path(&one.tenant, &one.origin)) { (one.origin) }
        }
    }
}

fn why(one: &DeadView) -> &str {
    match (one.message.as_str(), &one.last) {
        ("", Some(last)) => &last.message,
        (message, _) => message,
    }
}

fn filter(asked: &Fields) -> Markup {
    html! {
        form .filter method="get" action="/dead" role="search" {
            @for (name, label) in [("tenant", "Tenant"), ("rule", "Rule"), ("target", "Target")] {
                label { (label) input name=(name) value=(asked.text(name)); }
            }
            label { "Reason"
                select name="reason" {
                    option value="" { "any" }
                    @for reason in REASONS {
                        option value=(reason.as_str()) selected[reason.as_str() == asked.text("reason")] {
                            (reason.as_str())
                        }
                    }
                }
            }
            button .plain { "Find" }
            a href="/dead" { "All" }
        }
    }
}

pub(super) async fn show(
    State(console): State<Console>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = DeliveryId::parse(&id)?;
    let whole = dead::show(console.admin, id, Nothing {}).await?;
    Ok(shown(viewer, id, &whole, None).into_response())
}

/// One dead letter; with what somebody wanted to edit it to, and what is wrong with that.
fn shown(
    viewer: Viewer,
    id: DeliveryId,
    whole: &DeadWhole,
    wrong: Option<(&str, &str)>,
) -> Response {
    let one = &whole.letter;
    let body = html! {
        @if let Some((_, why)) = wrong {
            p .notice .bad role="alert" { "It was not changed: " (why) }
        }
        div .columns {
            section .sheet {
                h2 { "Dead letter" }
                dl .facts {
                    dt { "Of" } dd { (whose(one)) " of tenant " (one.tenant) }
                    dt { "Why" } dd { (state(Health::Bad, one.reason.as_str())) " " (why(one)) }
                    dt { "Died" } dd { (time(&one.at)) }
                    dt { "Tries" } dd { (one.attempts) }
                    dt { "Event" }
                    dd {
                        a href={ "/events/" (id.sequence.0) } { (id.sequence.0) } " from "
                        a href=(source_path(&one.tenant, &one.origin)) { (one.origin) }
                    }
                    dt { "Task" } dd .mono { a href={ "/tasks/" (one.id) } { (one.id) } }
                }
                @if let Some(last) = &one.last {
                    h3 { "The last try" }
                    dl .facts {
                        dt { "At" } dd { (time(&last.at)) }
                        dt { "Came to" }
                        dd {
                            (page::word(&last.class)) @if let Some(code) = last.code { " " (code) }
                        }
                        dt { "Message" } dd { (last.message) }
                    }
                    @if !last.response.is_empty() { pre tabindex="0" { (last.response) } }
                }
                (redrive_one(one))
            }
            section .sheet { (content(whole, wrong)) }
        }
    };
    page::page(viewer, Section::Dead, "Dead letter", &body).into_response()
}

fn redrive_one(one: &DeadView) -> Markup {
    html! {
        form .buttons method="post" {
            input type="hidden" name="scope" value="ticked";
            input type="hidden" name="ids" value=(one.id);
            @if one.rule.is_some() {
                button formaction="/dead/do/redrive" name="confirm" value="true" { "Redrive" }
            }
            button .danger formaction="/dead/do/purge" { "Purge …" }
        }
    }
}

fn content(whole: &DeadWhole, wrong: Option<(&str, &str)>) -> Markup {
    let content = &whole.content;
    let current = content.edited.as_deref().or(content.event.as_deref());
    html! {
        @if let Some(event) = current {
            h2 { "Event" @if content.edited.is_some() { " as it was edited" } }
            @let text = wrong.map_or_else(|| page::pretty(event.get()), |(text, _)| text.to_owned());
            form method="post" action={ "/dead/" (whole.letter.id) "/edit" } {
                label { "What a redrive sends, in CloudEvents' JSON format"
                    textarea name="event" rows="18" spellcheck="false" { (text) }
                }
                p .buttons {
                    button { "Save" }
                    @if content.edited.is_some() {
                        button .plain name="undo" value="true" { "Take back what was edited" }
                    }
                }
            }
            @if let (Some(_), Some(original)) = (&content.edited, &content.event) {
                details {
                    summary { "As it came" } pre tabindex="0" { (page::pretty(original.get())) }
                }
            }
        } @else if let Some(why) = &content.event_missing {
            p .notice .warn { (why) }
        }
        @if let Some(raw) = &content.raw {
            h2 { "What could not be read" } pre tabindex="0" { (raw) }
        }
        @if let Some(raw) = &content.raw_base64 {
            h2 { "What could not be read, as base64" } pre tabindex="0" { (raw) }
        }
    }
}

pub(super) async fn edit(
    State(console): State<Console>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Failure> {
    let id = DeliveryId::parse(&id)?;
    let (text, undo) = (form.text("event"), form.has("undo"));
    let read = match undo {
        true => Ok(None),
        false => serde_json::from_str::<Box<RawValue>>(text).map(Some),
    };
    let request = read.map(|event| EditRequest { event, undo });
    let request = request.map_err(|error| format!("this is no JSON: {error}"));
    let checked = request.and_then(|request| request.event().map(|_| request));
    let request = match checked {
        Ok(request) => request,
        Err(why) => {
            let whole = dead::show(console.admin, id, Nothing {}).await?;
            let told = shown(viewer, id, &whole, Some((text, &why)));
            return Ok((axum::http::StatusCode::BAD_REQUEST, told).into_response());
        }
    };
    dead::edit(console.admin, id, request).await?;
    let what = if undo {
        "undo edit of dead letter"
    } else {
        "edit dead letter"
    };
    audit::changed(viewer.0, what, &format!("id={id}"), 1);
    Ok(Redirect::to(&format!("/dead/{id}")).into_response())
}

/// How many are meant, up to a bound, a page at a time.
async fn counted(
    reader: &dyn Reader,
    selection: &DeadSelection,
) -> Result<(u64, bool), JournalError> {
    let (mut number, mut after) = (0, None);
    while number < COUNTED_MAX {
        let letters = reader.dead(selection, after, COUNTED_AT_ONCE).await?;
        number += letters.len();
        after = letters.last().map(|last| last.id);
        if letters.len() < COUNTED_AT_ONCE {
            return Ok((number as u64, false));
        }
    }
    Ok((number as u64, true))
}

/// Redrives or purges those that are ticked, or all that the conditions mean: the first time they
/// are only counted.
pub(super) async fn change(
    State(console): State<Console>,
    viewer: Viewer,
    Path(name): Path<String>,
    Form(form): Form,
) -> Result<Response, Failure> {
    let (title, is_final) = match name.as_str() {
        "redrive" => ("Redrive", false),
        "purge" => ("Purge", true),
        _ => return Err(Refused::not_found(format!("lever {name}")).into()),
    };
    let chosen = Chosen::of(&form, &CONDITIONS)?;
    let selection: DeadRequest = chosen.body(&[])?;
    if !chosen.is_confirmed {
        let meant = selection.selection().map_err(Refused::bad_request)?;
        let (number, is_more) = counted(&*console.admin.pipes.reader(), &meant).await?;
        let more = if is_more { " or more" } else { "" };
        let told = format!("{}{more} dead letters are meant.", count(number));
        let body = count_first(
            &chosen,
            &format!("/dead/do/{name}"),
            &told,
            title,
            number,
            is_final,
        );
        return Ok(page::page(viewer, Section::Dead, title, &body).into_response());
    }
    let (done, said) = if is_final {
        (
            dead::purge(console.admin, (), selection).await?.purged,
            "purged",
        )
    } else {
        let request = RedriveRequest {
            selection,
            ..RedriveRequest::default()
        };
        (
            dead::redrive(console.admin, (), request).await?.redriven,
            "redriven",
        )
    };
    audit::changed(
        viewer.0,
        if is_final { "purge" } else { "redrive" },
        &chosen.on(),
        done,
    );
    let body = html! {
        div .notice .good role="status" {
            p { strong { (count(done)) } " dead letters were " (said) "." }
        }
        p { a href=(chosen.back("/dead")) { "Back to the list" } }
    };
    Ok(page::page(viewer, Section::Dead, title, &body).into_response())
}
