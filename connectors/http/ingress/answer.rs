//! What a caller is answered who asked for more than that his events are stored.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use pointsman_schemas::DeliveryId;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::prefer::{PREFERENCE_APPLIED, Preferences};
use crate::inquiry::{Ends, Made, MadeEvent, Task, TaskStatus};
use crate::listener::{Caller, Refusal, Response};
use crate::requests::accepted;

/// The delivery's id of the task whose answer this is.
const TASK: HeaderName = HeaderName::from_static("pointsman-task");
/// The number of attempts that it took.
const ATTEMPTS: HeaderName = HeaderName::from_static("pointsman-attempts");
/// The target's own status.
const STATUS: HeaderName = HeaderName::from_static("pointsman-status");

/// What was made of a request, as it is shown.
#[derive(Serialize)]
struct Representation<'m> {
    events: &'m [MadeEvent],
}

/// A problem document with what was made of the request.
#[derive(Serialize)]
struct Problem<'m> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'m Task>,
    /// What the target answered, where that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<&'m [MadeEvent]>,
}

/// Answers once the tasks have ended, the wait is over, or the caller has hung up.
pub(super) async fn answer(
    made: Made,
    prefers: Preferences,
    wait_max: Duration,
    caller: &Caller,
) -> Response {
    let Made {
        mut events,
        is_taken,
        ends,
    } = made;
    if is_taken {
        return taken(&events);
    }
    if prefers == Preferences::default() {
        return accepted();
    }
    let mut applied = Vec::with_capacity(2);
    if prefers.representation {
        applied.push("return=representation".to_owned());
    }
    let wait = prefers.wait.map(|wait| wait.min(wait_max));
    if let (Some(ends), Some(wait)) = (ends, wait) {
        applied.push(format!("wait={}", wait.as_secs()));
        tokio::select! {
            () = wait_for(&mut events, ends, wait) => {}
            // His place is for others. One who has only closed his sending side is told how things
            // stand.
            () = caller.hangs_up() => {}
        }
    }
    let mut response = match (wait, has_ended(&events)) {
        (Some(_), true) => ended(&events),
        _ => document(StatusCode::ACCEPTED, &Representation { events: &events }),
    };
    if let Ok(applied) = HeaderValue::try_from(applied.join(", "))
        && !applied.is_empty()
    {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    response
}

fn tasks(events: &[MadeEvent]) -> impl Iterator<Item = &Task> {
    events.iter().flat_map(|event| &event.tasks)
}

/// Whether tasks were made and all of them have ended.
fn has_ended(events: &[MadeEvent]) -> bool {
    tasks(events).next().is_some() && tasks(events).all(|task| task.status.is_some())
}

/// Writes the end of each task beside it as it comes, for so long.
async fn wait_for(events: &mut [MadeEvent], mut ends: Ends, wait: Duration) {
    let until = Instant::now() + wait;
    while !has_ended(events) && tasks(events).next().is_some() {
        // None where the bus stops.
        let Ok(Some((id, status))) = timeout_at(until, ends.tasks.recv()).await else {
            return;
        };
        put(events, id, status);
    }
}

fn put(events: &mut [MadeEvent], id: DeliveryId, status: TaskStatus) {
    let mut tasks = events.iter_mut().flat_map(|event| &mut event.tasks);
    if let Some(task) = tasks.find(|task| task.id == id) {
        task.status = Some(status);
    }
}

/// The answer where every task has ended: the target's own where there is one.
fn ended(events: &[MadeEvent]) -> Response {
    let mut all = tasks(events);
    if let (Some(task), None) = (all.next(), all.next())
        && let Some(status) = &task.status
    {
        return alone(task, status);
    }
    let failed = tasks(events).filter(|task| !has_succeeded(task)).count();
    if failed == 0 {
        return document(StatusCode::OK, &Representation { events });
    }
    let count = tasks(events).count();
    let detail = format!("{failed} of {count} tasks were not delivered");
    problem(StatusCode::BAD_GATEWAY, detail, |problem| {
        problem.events = Some(events);
    })
}

fn has_succeeded(task: &Task) -> bool {
    task.status
        .as_ref()
        .is_some_and(|status| status.has_succeeded)
}

/// The answer of the one task that was made.
fn alone(task: &Task, status: &TaskStatus) -> Response {
    let mut response = if !status.has_succeeded {
        failed(task, status)
    } else if status.is_cut {
        // A part of it would be taken for the whole.
        let detail = "the task has succeeded, but its answer is longer than is kept, or broke off";
        problem(StatusCode::BAD_GATEWAY, detail.to_owned(), |problem| {
            problem.task = Some(task);
        })
    } else {
        succeeded(status)
    };
    let headers = response.headers_mut();
    headers.insert(ATTEMPTS, status.attempts.into());
    if let Ok(id) = HeaderValue::try_from(task.id.to_string()) {
        headers.insert(TASK, id);
    }
    if let Some(code) = status.code {
        headers.insert(STATUS, code.into());
    }
    response
}

fn succeeded(status: &TaskStatus) -> Response {
    let mut response = Response::new(status.response.clone().into());
    let media_type = status.response_type.as_deref();
    if let Some(Ok(media_type)) = media_type.map(HeaderValue::try_from) {
        response.headers_mut().insert(CONTENT_TYPE, media_type);
    }
    response
}

fn failed(task: &Task, status: &TaskStatus) -> Response {
    let (code, what) = match status.state {
        "expired" => (StatusCode::GATEWAY_TIMEOUT, "grew too old"),
        _ => (StatusCode::BAD_GATEWAY, "failed"),
    };
    let reason = status.reason.map(|reason| format!(" ({reason})"));
    let message = match status.message.as_str() {
        "" => String::new(),
        message => format!(": {message}"),
    };
    let detail = match status.state {
        "stopped" => "somebody has ended the task".to_owned(),
        _ => format!(
            "the task {what}{} and is a dead letter{message}",
            reason.unwrap_or_default()
        ),
    };
    problem(code, detail, |problem| {
        problem.task = Some(task);
        let text = std::str::from_utf8(&status.response).ok();
        problem.response = text.filter(|text| !text.is_empty());
    })
}

/// The answer to ids that are taken.
fn taken(events: &[MadeEvent]) -> Response {
    let detail = "a task of this id was made before; nothing was stored";
    problem(StatusCode::CONFLICT, detail.to_owned(), |problem| {
        problem.events = Some(events);
    })
}

fn problem<'m>(
    status: StatusCode,
    detail: String,
    fill: impl FnOnce(&mut Problem<'m>),
) -> Response {
    let mut problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
        task: None,
        response: None,
        events: None,
    };
    fill(&mut problem);
    let mut response = document(status, &problem);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(Refusal::MEDIA_TYPE));
    response
}

fn document(status: StatusCode, value: &impl Serialize) -> Response {
    // Structs of texts and numbers always serialize.
    let body = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
