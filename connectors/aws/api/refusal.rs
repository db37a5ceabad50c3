//! What an answer says that is no success.
//!
//! | code or status | class |
//! |---|---|
//! | a code that speaks of throttling, 429, 503, `Retry-After` | throttled |
//! | the credentials are not known or may not do this; 401, 403 | refused |
//! | what is called is not there or not ready; its key in KMS cannot be used; 502, 504 | unavailable |
//! | any other 4xx: the request is wrong, or too large | rejected |
//! | 408, 409, 425, any other 5xx | failed |
//!
//! Of an entry of a batch there is no status: what is the sender's fault is rejected, and what is not
//! has failed.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sdk_sqs::error::ProvideErrorMetadata;
use http::StatusCode;
use http::response::Parts;
use pointsman_schemas::{Class, Outcome};
use serde_json::Value;

use super::ELEMENTS_MAX;
use crate::net::classify::{classify, retry_after};
use crate::xml::{self, Element};

/// Codes of answers that mean that nobody is known by these credentials.
const UNKNOWN_KEYS: [&str; 11] = [
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "OptInRequired",
];

/// Codes that do not say so in their name, and mean that something may not be done.
const FORBIDDEN: [&str; 3] = [
    "AuthorizationError",
    "NotAuthorized",
    "NotAuthorizedForSourceException",
];

/// Codes that do not say so in their name, and mean that it was too much.
const TOO_MUCH: [&str; 4] = [
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "OverLimit",
    "ServiceUnavailable",
];

/// Codes of what is not there, or not yet.
const MISSING: [&str; 8] = [
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
    "ResourceConflictException",
    "ResourceNotReadyException",
    "SnapStartNotReadyException",
];

/// What an answer says that is no success, or of an entry of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// None of an entry.
    status: Option<StatusCode>,
    pub(crate) code: String,
    message: String,
    /// Whether what was sent is at fault, where no status says it.
    is_senders: bool,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Reads an answer.
    pub(crate) fn of(head: &Parts, body: &[u8]) -> Self {
        let (code, message) = said(head, body);
        Self {
            status: Some(head.status),
            code,
            message,
            is_senders: head.status.is_client_error(),
            retry_after: retry_after(&head.headers, SystemTime::now()),
        }
    }

    /// Reads an answer that an SDK has read.
    pub(crate) fn of_sdk(status: u16, told: &impl ProvideErrorMetadata) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Self {
            status: StatusCode::from_u16(status).ok(),
            code: text(told.code()),
            message: text(told.message()),
            is_senders: (400..500).contains(&status),
            retry_after: None,
        }
    }

    /// What is said of one entry of a batch.
    pub(crate) fn of_entry(code: &str, message: &str, is_senders: bool) -> Self {
        Self {
            status: None,
            code: code.to_owned(),
            message: message.to_owned(),
            is_senders,
            retry_after: None,
        }
    }

    /// Whether whoever is known may not do this.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.code.contains("AccessDenied") || FORBIDDEN.contains(&self.code.as_str())
    }

    /// Whether what is called is not there, or not yet.
    pub(super) fn is_missing(&self) -> bool {
        MISSING.contains(&self.code.as_str())
    }

    /// Whether nobody is known by the credentials.
    pub(super) fn is_unknown(&self) -> bool {
        UNKNOWN_KEYS.contains(&self.code.as_str())
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.status.map(|status| status.as_u16())
    }

    /// What follows from it.
    pub(crate) fn class(&self) -> Class {
        let code = self.code.as_str();
        if self.is_forbidden() || self.is_unknown() {
            return Class::Refused;
        }
        if code.contains("Throttl") || TOO_MUCH.contains(&code) {
            return Class::Throttled;
        }
        // A key that is disabled or gone is somebody's to mend, and no fault of the event.
        if self.is_missing()
            || code
                .get(..3)
                .is_some_and(|kms| kms.eq_ignore_ascii_case("kms"))
        {
            return Class::Unavailable;
        }
        match self.status {
            Some(status) => classify(status, self.retry_after),
            None if self.is_senders => Class::Rejected,
            None => Class::Failed,
        }
    }

    /// The outcome of a delivery, in which `what` was called.
    pub(crate) fn outcome(&self, what: &str) -> Outcome {
        let mut outcome = Outcome::new(self.class(), format!("{what}: {self}"));
        outcome.code = self.status().map(i32::from);
        outcome.retry_after = self.retry_after;
        outcome
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status().map(|status| status.to_string());
        let parts = [
            status.as_deref().unwrap_or_default(),
            &self.code,
            &self.message,
        ];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(" "))
    }
}

/// The code and the message of an answer.
fn said(head: &Parts, body: &[u8]) -> (String, String) {
    let header = head.headers.get("x-amzn-errortype");
    let header = header.and_then(|value| value.to_str().ok()).map(code_of);
    if let Some(error) = of_xml(body) {
        let text = |name| error.text_of(name).unwrap_or_default().to_owned();
        return (text("Code"), text("Message"));
    }
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: &[&str]| {
        let texts = names.iter().find_map(|name| told.get(*name)?.as_str());
        texts.map(str::to_owned)
    };
    let of_body = text(&["__type", "code", "Code"]).map(|code| code_of(&code));
    let mut message = text(&["message", "Message"]).unwrap_or_default();
    if let Some(reason) = text(&["Reason"]) {
        message = format!("{message} ({reason})");
    }
    (header.or(of_body).unwrap_or_default(), message)
}

/// The code alone: in front of it may stand the namespace of its shape, and behind it an address of
/// documentation.
fn code_of(text: &str) -> String {
    let code = text.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default().to_owned()
}

/// The error in an answer in XML.
fn of_xml(body: &[u8]) -> Option<Element> {
    let root = xml::read(std::str::from_utf8(body).ok()?, ELEMENTS_MAX)?;
    match root.name.as_str() {
        "ErrorResponse" => root.find("Error").cloned(),
        "Error" => Some(root),
        _ => None,
    }
}
