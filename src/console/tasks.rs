//! Tasks: found, looked at, and steered, one or many.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use pointsman_journal::TaskState;
use pointsman_schemas::DeliveryId;

use super::chosen::{Chosen, count_first, list_form};
use super::fields::{Asked, Fields, Form};
use super::page::{self, Health, Section, Viewer, count, span, state, table, time};
use super::parts::{subscription_path, trouble};
use super::{Console, audit, failure::Failure};
use crate::admin::api::{InPath, Nothing};
use crate::admin::refused::Refused;
use crate::admin::routes::tasks;
use crate::admin::steer::{self, Done, Lever};
use crate::admin::view::{EntryView, TaskView, TaskWhole, TasksRequest};

/// The conditions that the page offers, named as those of the API.
const CONDITIONS: [&str; 13] = [
    "tenant",
    "rule",
    "target",
    "subscription",
    "state",
    "since",
    "until",
    "type",
    "source",
    "subject",
    "event_id",
    "order_key",
    "task_id",
];

/// Those of them that are a text, and what they are called.
const FIELDS: [(&str, &str); 10] = [
    ("tenant", "Tenant"),
    ("rule", "Rule"),
    ("target", "Target"),
    ("type", "Type of the event"),
    ("source", "Source of the event"),
    ("subject", "Subject"),
    ("event_id", "Id of the event"),
    ("order_key", "Order key"),
    ("since", "Since"),
    ("until", "Until"),
];

/// Tasks that a page lists.
const LISTED: &str = "50";

/// What can be done to tasks, and how that is called.
const LEVERS: [(Lever, &str, &str); 5] = [
    (Lever::Retry, "retry", "Retry now"),
    (Lever::Suspend, "suspend", "Suspend"),
    (Lever::Resume, "resume", "Resume"),
    (Lever::Skip, "skip", "Make dead letters"),
    (Lever::Cancel, "cancel", "Cancel"),
];

/// Whether it cannot be taken back.
fn is_final(lever: Lever) -> bool {
    matches!(lever, Lever::Cancel | Lever::Skip)
}

pub(super) fn health(state: TaskState) -> Health {
    match state {
        TaskState::Pending | TaskState::Scheduled => Health::Idle,
        TaskState::Running | TaskState::Succeeded => Health::Good,
        TaskState::Retrying => Health::Warn,
        TaskState::Suspended | TaskState::Stopping | TaskState::Stopped | TaskState::Purged => {
            Health::Held
        }
        TaskState::Failed | TaskState::Expired => Health::Bad,
    }
}

pub(super) async fn list(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let query = asked
        .only(&CONDITIONS)
        .with("limit", Some(LISTED))
        .with("after", some(asked.text("after")));
    let page = tasks::list(console.admin, (), query.query()?).await?;
    let conditions = asked.only(&CONDITIONS);
    let rows = html! {
        thead { tr {
            th { (super::chosen::tick_all()) }
            th scope="col" { "Task" } th scope="col" { "Rule → target" } th scope="col" { "State" }
            th scope="col" { "Due or ended" } th .number scope="col" { "Tries" }
            th scope="col" { "What came last" }
        } }
        tbody {
            @for one in &page.items { (row(one)) }
        }
    };
    let ended = page.items.iter().all(|one| one.state.is_terminal());
    let buttons: Vec<_> = LEVERS
        .iter()
        .map(|(lever, path, name)| (*path, *name, is_final(*lever)))
        .collect();
    let list = html! {
        @if page.items.is_empty() {
            p .note {
                "No task is like that"
                @if page.next.is_some() { " among those that were looked at" } "."
            }
        } @else if ended {
            (table("Tasks", &rows))
        } @else {
            (list_form("/tasks", &conditions, &buttons, &table("Tasks", &rows)))
        }
        (super::chosen::next_page("/tasks", &asked, page.next.as_deref()))
    };
    let body = html! { (trouble(&page.incomplete)) (filter(&asked)) div .sheet { (list) } };
    Ok(page::page(viewer, Section::Tasks, "Tasks", &body).into_response())
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn row(one: &TaskView) -> Markup {
    let when = one
        .due
        .as_deref()
        .or(one.ended.as_deref())
        .unwrap_or_default();
    html! {
        tr {
            td {
                input type="checkbox" name="ids" value=(one.id) aria-label={ "Choose " (one.id) };
            }
            td .mono { a href={ "/tasks/" (one.id) } { (one.id) } }
            td .name {
                a href=(subscription_path(one.subscription)) {
                    (one.identity.rule) " → " (one.identity.target)
                }
            }
            td {
                (state(health(one.state), one.state.as_str()))
                @if let Some(reason) = one.reason { " " (reason.as_str()) }
            }
            td .when { (time(when)) }
            td .number { (one.attempts) }
            td .said { (one.message.as_deref().unwrap_or_default()) }
        }
    }
}

fn filter(asked: &Fields) -> Markup {
    let states: Vec<&str> = TaskState::ALL.into_iter().map(TaskState::as_str).collect();
    html! {
        form .filter method="get" action="/tasks" role="search" {
            label { "State"
                select name="state" {
                    option value="" { "not ended" }
                    @for one in &states {
                        option value=(one) selected[*one == asked.text("state")] { (one) }
                    }
                }
            }
            @for (name, label) in FIELDS {
                label {
                    (label)
                    input name=(name) value=(asked.text(name)) placeholder=[hint(name)];
                }
            }
            @if asked.has("subscription") {
                label {
                    "Subscription" input name="subscription" value=(asked.text("subscription"));
                }
            }
            button .plain { "Find" }
            a href="/tasks" { "All" }
        }
    }
}

/// How a time is written.
fn hint(name: &str) -> Option<&'static str> {
    matches!(name, "since" | "until").then_some("2026-01-31T09:30:00Z")
}

fn lever(name: &str) -> Result<(Lever, &'static str, &'static str), Failure> {
    let found = LEVERS.into_iter().find(|(_, path, _)| *path == name);
    Ok(found.ok_or_else(|| Refused::not_found(format!("lever {name}")))?)
}

/// Does something to those that are ticked, or to all that the conditions mean: the first time it
/// is only counted.
pub(super) async fn steer(
    State(console): State<Console>,
    viewer: Viewer,
    Path(name): Path<String>,
    Form(form): Form,
) -> Result<Response, Failure> {
    let (lever, path, title) = lever(&name)?;
    let chosen = Chosen::of(&form, &CONDITIONS)?;
    let mut request: TasksRequest = chosen.body(&[])?;
    request.check().map_err(Refused::bad_request)?;
    request.dry_run = !chosen.is_confirmed;
    request.after = form.text("after").parse().ok();
    let done = steer::pull(&console.admin, lever, &request).await?;
    if !chosen.is_confirmed {
        let more = if done.next.is_some() { " or more" } else { "" };
        let told = format!(
            "{}{more} tasks are meant that have not ended.",
            count(done.selected)
        );
        let action = format!("/tasks/do/{path}");
        let body = count_first(
            &chosen,
            &action,
            &told,
            title,
            done.selected,
            is_final(lever),
        );
        return Ok(page::page(viewer, Section::Tasks, title, &body).into_response());
    }
    audit::changed(viewer.0, path, &chosen.on(), done.changed);
    let body = of_done(&done, path, &chosen);
    Ok(page::page(viewer, Section::Tasks, title, &body).into_response())
}

fn of_done(done: &Done, path: &str, chosen: &Chosen) -> Markup {
    html! {
        div .notice .good role="status" {
            p { "It was done to " strong { (count(done.changed)) } " of " (count(done.selected)) " tasks."
                @if done.stopping > 0 { " " (count(done.stopping)) " are being stopped still." } }
        }
        @if let Some(next) = &done.next {
            form method="post" action={ "/tasks/do/" (path) } {
                (chosen.hidden())
                input type="hidden" name="confirm" value="true";
                input type="hidden" name="after" value=(next);
                p .buttons { "It took long enough; there are more. " button { "Go on" } }
            }
        }
        p { a href=(chosen.back("/tasks")) { "Back to the list" } }
    }
}

pub(super) async fn show(
    State(console): State<Console>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = DeliveryId::parse(&id)?;
    let whole = tasks::show(console.admin, id, Nothing {}).await?;
    let one = &whole.task;
    let body = html! {
        div .columns {
            section .sheet {
                h2 { "Task" }
                dl .facts {
                    dt { "Id" } dd .mono { (one.id) }
                    dt { "Rule → target" }
                    dd {
                        a href=(subscription_path(one.subscription)) {
                            (one.identity.rule) " → " (one.identity.target)
                        }
                        " of tenant " (one.identity.tenant)
                    }
                    dt { "Tries" } dd { (one.attempts) }
                    @if let Some(since) = &one.since { dt { "Began" } dd { (time(since)) } }
                    @if let Some(due) = &one.due { dt { "Due" } dd { (time(due)) } }
                    @if let Some(ended) = &one.ended { dt { "Ended" } dd { (time(ended)) } }
                    @if let Some(reason) = one.reason { dt { "Reason" } dd { (reason.as_str()) } }
                    @if let Some(priority) = one.priority { dt { "Priority" } dd { (priority) } }
                }
                (levers(one))
            }
            section .sheet { h2 { "Event" } (event(&whole)) }
        }
        section .sheet { h2 { "What happened to it" } (timeline(&whole.history)) }
    };
    let beside = state(health(one.state), one.state.as_str());
    Ok(page::titled(viewer, Section::Tasks, "Task", &beside, &body).into_response())
}

fn levers(one: &TaskView) -> Markup {
    html! {
        @if !one.state.is_terminal() {
            form .buttons method="post" {
                @for (lever, path, name) in LEVERS {
                    @let fits = match lever {
                        Lever::Resume => one.state == TaskState::Suspended,
                        Lever::Suspend => one.state != TaskState::Suspended,
                        _ => true,
                    };
                    @if fits {
                        button .plain[!is_final(lever)] .danger[is_final(lever)]
                            formaction={ "/tasks/" (one.id) "/" (path) } { (name) }
                    }
                }
            }
        } @else if matches!(one.state, TaskState::Failed | TaskState::Expired) {
            p { a href={ "/dead/" (one.id) } { "Its dead letter" } }
        }
    }
}

fn event(whole: &TaskWhole) -> Markup {
    html! {
        @if let Some(event) = &whole.event {
            dl .facts {
                dt { "Event" }
                dd {
                    a href={ "/events/" (whole.task.sequence.0) } { (whole.task.sequence.0) } " of "
                    (time(&event.at))
                }
                dt { "Type" } dd { (event.r#type) }
                dt { "Source" } dd { (event.source) }
                dt { "Id" } dd { (event.id) }
                @if let Some(subject) = &event.subject { dt { "Subject" } dd { (subject) } }
            }
        } @else { p .note { "It is not retained any more." } }
    }
}

/// What happened to a task, in order.
pub(super) fn timeline(history: &[EntryView]) -> Markup {
    html! {
        @if history.is_empty() { p .note { "Nothing yet, or nothing is kept of it." } }
        ol .timeline {
            @for entry in history {
                li {
                    (time(&entry.at)) " " (state(health(entry.state), entry.state.as_str()))
                    @if let Some(reason) = entry.reason { " " (reason.as_str()) }
                    @if let Some(attempt) = &entry.attempt {
                        " attempt " (attempt.number) ": " (page::word(&attempt.class))
                        @if let Some(code) = attempt.code { " " (code) }
                        " in " (span(attempt.ran_seconds)) ", after it had waited " (span(attempt.waited_seconds))
                        @if let Some(called) = &attempt.called { div .said .mono { (called) } }
                        @if !attempt.message.is_empty() { div .said { (attempt.message) } }
                        @if !attempt.answer.is_empty() {
                            details { summary { "Answer" } pre tabindex="0" { (attempt.answer) } }
                        }
                    }
                    @if let Some(next) = &entry.next {
                        div .said { "again at " (time(&next.at)) " (" (page::word(&next.why)) ")" }
                    }
                }
            }
        }
    }
}

/// Does something to one task.
pub(super) async fn steer_one(
    State(console): State<Console>,
    Viewer(caller): Viewer,
    Path((id, name)): Path<(String, String)>,
) -> Result<Redirect, Failure> {
    let (lever, path, _) = lever(&name)?;
    let id = DeliveryId::parse(&id)?;
    let request = TasksRequest {
        ids: Some(vec![id]),
        ..TasksRequest::default()
    };
    let done = steer::pull(&console.admin, lever, &request).await?;
    audit::changed(caller, path, &format!("task={id}"), done.changed);
    Ok(Redirect::to(&format!("/tasks/{id}")))
}
