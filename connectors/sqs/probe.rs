//! What keeps a queue from being asked, in words.

use std::error::Error;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use super::place::Place;
use crate::OpenError;
use crate::aws::api::{Refusal, Subject};
use crate::aws::explain;

/// Whether an answer means that whoever is known may not do this.
pub(super) fn is_forbidden(told: &impl ProvideErrorMetadata) -> bool {
    Refusal::of_sdk(403, told).is_forbidden()
}

impl Place<'_> {
    /// What it means that a request about the queue of this name has failed.
    pub(super) fn problem<E: ProvideErrorMetadata + Error + 'static>(
        self,
        name: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> OpenError {
        let what = format!("queue {name}");
        let subject = Subject {
            service: "SQS",
            what: &what,
            at: "queue",
            // An address that is written as the queue's own is mended there.
            address: if self.access.endpoint.is_some() {
                "endpoint"
            } else {
                "queue"
            },
            rights: "allow them sqs:GetQueueUrl, sqs:GetQueueAttributes, sqs:ReceiveMessage, \
                     sqs:DeleteMessage and sqs:ChangeMessageVisibility to read, sqs:SendMessage \
                     to write",
        };
        match error.raw_response() {
            None => subject.unanswered(&explain(error)),
            Some(response) => {
                let refusal = match error {
                    SdkError::ServiceError(told) => {
                        Refusal::of_sdk(response.status().as_u16(), told.err())
                    }
                    _ => Refusal::of_entry("", &explain(error), false),
                };
                subject.refused(&refusal)
            }
        }
    }
}
