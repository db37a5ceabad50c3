//! Problem documents: RFC 9457. Every answer that is no success is one.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use pointsman_journal::JournalError;

/// The media type of a problem document: section 3.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A problem document without a type of its own: section 4.2.1, the status says it all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemDocument {
    /// The status' own phrase.
    pub title: String,
    pub status: u16,
    /// What is wrong here and what to do.
    pub detail: String,
    /// Of a bus that is not ready: what is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl ProblemDocument {
    /// A problem with a status and one line for a person.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        Self {
            title,
            status: status.as_u16(),
            detail: detail.into(),
            missing: Vec::new(),
        }
    }

    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    #[must_use]
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what}"))
    }
}

impl IntoResponse for ProblemDocument {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<JournalError> for ProblemDocument {
    fn from(error: JournalError) -> Self {
        let status = match &error {
            JournalError::NotFound(_) => StatusCode::NOT_FOUND,
            JournalError::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
            JournalError::Full(_)
            | JournalError::DiskFull
            | JournalError::Backlog(_)
            | JournalError::Io(_)
            | JournalError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<QueryRejection> for ProblemDocument {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<PathRejection> for ProblemDocument {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<BytesRejection> for ProblemDocument {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}
