//! What a page answers where it cannot show what was asked for: the refusal of the API, as a page.

use axum::response::{IntoResponse, Response};
use maud::html;
use pointsman_journal::JournalError;

use super::page;
use crate::admin::refused::Refused;

/// A page that is none.
#[derive(Debug)]
pub(super) struct Failure(Refused);

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self(refused)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Refused(refusal) = self.0;
        let status = refusal.status;
        let title = match status.as_u16() {
            400 => "This cannot be asked",
            404 => "There is no such thing",
            409 => "This cannot be done now",
            503 => "The bus cannot say now",
            _ => "This did not work",
        };
        let body = html! {
            div .notice .bad role="alert" { p { (refusal.detail) } }
            p { a href="/" { "To the flow" } }
        };
        (status, page::bare(title, &body)).into_response()
    }
}
