//! A key is shown once, for a session.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;

use super::fields::{Asked, Form};
use super::{Console, audit, page};
use crate::admin::LOGIN_PATH;

pub(super) async fn page(State(console): State<Console>, Asked(asked): Asked) -> Response {
    if console.guard.is_open() {
        return Redirect::to("/").into_response();
    }
    form(asked.text("to"), None).into_response()
}

fn form(to: &str, wrong: Option<&'static str>) -> Response {
    let body = html! {
        form .sheet method="post" action=(LOGIN_PATH) {
            @if let Some(wrong) = wrong { p .notice .bad role="alert" { (wrong) } }
            label { "Key"
                input type="password" name="key" autocomplete="current-password" required autofocus;
            }
            input type="hidden" name="to" value=(local(to));
            p .note {
                "One of the keys under " code { "admin.auth" } " or " code { "admin.viewers" }
                " in the rule file. It is shown to this bus once; the browser keeps a session in "
                "its place for twelve hours at most."
            }
            div .buttons { button { "Log in" } }
        }
    };
    page::bare("Log in to this bus", &html! { div .login { (body) } }).into_response()
}

pub(super) async fn log_in(State(console): State<Console>, Form(form_fields): Form) -> Response {
    match console.guard.log_in(form_fields.text("key")) {
        Some((caller, cookie)) => {
            audit::logged_in(caller);
            let to = Redirect::to(local(form_fields.text("to")));
            ([(header::SET_COOKIE, cookie)], to).into_response()
        }
        None => {
            audit::not_logged_in();
            let told = form(
                form_fields.text("to"),
                Some("This is none of the keys of this bus."),
            );
            (StatusCode::FORBIDDEN, told).into_response()
        }
    }
}

pub(super) async fn log_out(State(console): State<Console>, headers: HeaderMap) -> Response {
    let cookie = console.guard.log_out(&headers);
    ([(header::SET_COOKIE, cookie)], Redirect::to(LOGIN_PATH)).into_response()
}

/// Where somebody wanted to go, if that is a page of this bus.
fn local(to: &str) -> &str {
    let is_path = to.starts_with('/') && !to.starts_with("//") && !to.contains('\\');
    let is_clean = is_path && !to.chars().any(char::is_control);
    if is_clean { to } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn a_login_leads_to_a_page_of_this_bus_alone() {
        for (to, expect) in [
            ("/tasks?rule=a", "/tasks?rule=a"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/a\nb", "/"),
        ] {
            assert_eq!(local(to), expect, "{to:?}");
        }
    }
}
