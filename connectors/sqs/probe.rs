//! What keeps a queue from being asked, in words.

use std::error::Error;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use pointsman_schemas::Problem;

use super::place::Place;
use crate::OpenError;
use crate::aws::{explain, unreachable};

/// Codes of answers that mean that nobody is known by these credentials.
const UNKNOWN_KEYS: [&str; 7] = [
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
];

/// Whether an answer means that whoever is known may not do this.
pub(super) fn is_forbidden(told: &impl ProvideErrorMetadata) -> bool {
    told.code()
        .is_some_and(|code| code.contains("AccessDenied"))
}

impl Place<'_> {
    /// What it means that a request about the queue of this name has failed.
    pub(super) fn problem<E: ProvideErrorMetadata + Error + 'static>(
        self,
        name: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> OpenError {
        let told = explain(error);
        let (message, at, help) = match error.raw_response() {
            None => unreachable("SQS", &told),
            Some(response) => {
                let code = error.code().unwrap_or_default();
                self.answered(name, (response.status().as_u16(), code), &told)
            }
        };
        // An address that is written as the queue's own is mended there.
        let at = match at {
            "endpoint" if self.access.endpoint.is_none() => "queue",
            at => at,
        };
        OpenError(Problem::new(message).at(at).help(help))
    }

    fn answered(
        self,
        name: &str,
        (status, code): (u16, &str),
        told: &str,
    ) -> (String, &'static str, &'static str) {
        if code.contains("NonExistentQueue") || code.contains("QueueDoesNotExist") {
            return (
                format!("there is no queue {name}"),
                "queue",
                "make it, or check its name, the region and the account; one of another account \
                 is named by its URL",
            );
        }
        if UNKNOWN_KEYS.contains(&code) {
            return (
                format!("SQS does not accept the credentials: {told}"),
                "credentials",
                "check the keys and the region, and that they have not expired",
            );
        }
        if matches!(status, 401 | 403) || code.contains("AccessDenied") {
            return (
                format!("the credentials may not use the queue {name}: {told}"),
                "credentials",
                "allow them sqs:GetQueueUrl, sqs:GetQueueAttributes, sqs:ReceiveMessage, \
                 sqs:DeleteMessage and sqs:ChangeMessageVisibility to read, sqs:SendMessage to \
                 write",
            );
        }
        if code.is_empty() {
            return (
                format!("what answers there is not SQS: {told}"),
                "endpoint",
                "check the address",
            );
        }
        (
            format!("cannot ask the queue {name}: {told}"),
            "queue",
            "check its name, the region and the endpoint",
        )
    }
}
