//! The console: pages that show a bus to whoever runs it and let him intervene, on the admin
//! listener, behind its guard.
//!
//! A page is HTML made here. It asks the functions that answer the admin API, with the parameters
//! that the API has, so that there is one way to read and one to change anything. What changes
//! something is a form that is posted, which the guard lets only the bus's own pages send, and is
//! written to the log ([`audit`]). Scripts make pages move; but for the live list and the charts
//! everything works without them.

mod assets;
mod audit;
mod chosen;
mod dead;
mod event;
mod events;
mod explained;
mod failure;
mod fields;
mod flow;
mod history;
mod live;
mod login;
mod page;
mod parts;
mod playground;
mod replays;
mod tasks;
#[cfg(test)]
mod tests;
mod written;

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};

pub(crate) use self::history::History;
use self::parts::{rule, source, subscription, target};
use crate::admin::{ASSETS_PATH, Admin, Guard, LOGIN_PATH};

/// Nothing but what this listener serves, and nothing that is written into a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What every page has.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(crate) admin: Arc<Admin>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) history: Arc<History>,
}

/// Every page there is.
pub(crate) fn pages(console: Console) -> Router<Arc<Admin>> {
    Router::new()
        .route("/", get(flow::page))
        .route("/flow", get(flow::part))
        .route(LOGIN_PATH, get(login::page).post(login::log_in))
        .route("/logout", post(login::log_out))
        .merge(of_deliveries())
        .merge(of_parts())
        .route(
            &format!("{ASSETS_PATH}{{build}}/{{name}}"),
            get(assets::serve),
        )
        .layer(middleware::from_fn(guarded))
        .layer(Extension(Arc::clone(&console.guard)))
        .with_state(console)
}

fn of_deliveries() -> Router<Console> {
    Router::new()
        .route("/events", get(events::page))
        .route("/events/{sequence}", get(event::page))
        .route("/tasks", get(tasks::list))
        .route("/tasks/do/{lever}", post(tasks::steer))
        .route("/tasks/{id}", get(tasks::show))
        .route("/tasks/{id}/{lever}", post(tasks::steer_one))
        .route("/dead", get(dead::list))
        .route("/dead/do/{change}", post(dead::change))
        .route("/dead/{id}", get(dead::show))
        .route("/dead/{id}/edit", post(dead::edit))
        .route("/live", get(live::page))
        .route("/live/stream", get(live::stream))
        .route("/playground", get(playground::page).post(playground::tried))
        .route("/playground/traffic", post(playground::tried_on_traffic))
}

fn of_parts() -> Router<Console> {
    Router::new()
        .route("/rules", get(rule::list))
        .route(written::PATH, get(written::page))
        .route("/rules/{tenant}/{name}", get(rule::show))
        .route("/sources", get(source::list))
        .route("/sources/{tenant}/{name}", get(source::show))
        .route("/targets", get(target::list))
        .route("/targets/{tenant}/{name}", get(target::show))
        .route("/subscriptions/{number}", get(subscription::show))
        .route(
            "/subscriptions/{number}/suspend",
            post(subscription::suspend),
        )
        .route("/subscriptions/{number}/resume", post(subscription::resume))
        .route("/subscriptions/{number}/replay", post(subscription::replay))
        .route("/replays", get(replays::list))
        .route("/replays/{id}/stop", post(replays::stop))
        .route("/charts/{part}/{*rest}", get(parts::chart))
}

/// Has browsers keep to what a page may do, whatever is in it.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
