//! Refusals of the admin API, as axum answers with them.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pointsman_connectors::listener::{self, Refusal};
use pointsman_journal::JournalError;

/// A [`Refusal`] that axum can answer with.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Refusal);

impl Refused {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Refusal::new(status, detail))
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what}"))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        listener::Response::from(self.0).map(Body::new)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<JournalError> for Refused {
    fn from(error: JournalError) -> Self {
        let status = match &error {
            JournalError::NotFound(_) => StatusCode::NOT_FOUND,
            JournalError::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
            JournalError::Full(_)
            | JournalError::DiskFull
            | JournalError::Backlog(_)
            | JournalError::Quota(..)
            | JournalError::Away(_)
            | JournalError::Io(_)
            | JournalError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<BytesRejection> for Refused {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}
