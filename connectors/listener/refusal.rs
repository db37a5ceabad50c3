//! Answers that refuse: problem documents of RFC 9457.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::Response;

/// Why a request is not taken: becomes a [`ProblemDocument`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// What is wrong and what to do about it; nothing that helps a forger.
    pub detail: Cow<'static, str>,
    /// Which event of a batch is meant, from 0.
    pub event: Option<usize>,
    /// Of a bus that is not ready: what is missing.
    pub missing: Vec<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What every answer is that is no success, as `application/problem+json`: RFC 9457, section 3.1;
/// `event` and `missing` are extension members of ours.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProblemDocument<'r> {
    /// `about:blank`: the status says it all (section 4.2.1).
    #[serde(default)]
    pub r#type: Cow<'r, str>,
    /// The status' own phrase.
    pub title: Cow<'r, str>,
    /// The status.
    pub status: u16,
    /// What is wrong here and what to do.
    pub detail: Cow<'r, str>,
    /// Which event of a batch is meant, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<usize>,
    /// Of a bus that is not ready: what is missing.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    pub missing: Cow<'r, [String]>,
}

impl Refusal {
    /// The media type of a problem document.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A refusal with a status and a text for whoever sent the request.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            event: None,
            missing: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Says which event of a batch is meant.
    #[must_use]
    pub fn of_event(mut self, index: usize) -> Self {
        self.event = Some(index);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Asks to come again after about this long; `Retry-After` counts whole seconds, at least one.
    #[must_use]
    pub fn retry_after(self, wait: std::time::Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with(RETRY_AFTER, seconds.max(1))
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> Bytes {
        let document = ProblemDocument {
            r#type: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            detail: Cow::Borrowed(&self.detail),
            event: self.event,
            missing: Cow::Borrowed(&self.missing),
        };
        // A struct of texts and numbers always serializes.
        serde_json::to_vec(&document).unwrap_or_default().into()
    }

    /// The whole answer as it goes over the wire by HTTP/1.1, where it is the last one on its
    /// connection.
    pub(super) fn wire(&self) -> Bytes {
        let document = self.document();
        let mut wire = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.status.as_u16(),
            self.status.canonical_reason().unwrap_or("Error"),
            Self::MEDIA_TYPE,
            document.len()
        )
        .into_bytes();
        wire.extend_from_slice(&document);
        wire.into()
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let mut response = Self::new(refusal.document().into());
        *response.status_mut() = refusal.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(Refusal::MEDIA_TYPE));
        for (name, value) in refusal.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_is_a_problem_document() {
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "wait")
            .of_event(3)
            .retry_after(Duration::from_millis(1_001));
        let document = refusal.document();
        assert_eq!(&document[..], br#"{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"wait","event":3}"#);
        let response = Response::from(refusal);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[CONTENT_TYPE], Refusal::MEDIA_TYPE);
    }
}
