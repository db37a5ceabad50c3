//! What went wrong with a request of the SDK's, in words.

use std::error::Error;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use crate::net::explain::causes;

/// What went wrong with a request, in one line.
pub(crate) fn explain<E: ProvideErrorMetadata + Error + 'static>(
    error: &SdkError<E, HttpResponse>,
) -> String {
    if let SdkError::ServiceError(told) = error {
        let status = told.raw().status().as_u16();
        let meta = told.err().meta();
        let parts = [meta.code(), meta.message()];
        return parts
            .into_iter()
            .flatten()
            .fold(status.to_string(), |line, part| format!("{line} {part}"));
    }
    // The SDK wraps what has happened into the names of its own layers, and asks its chain for
    // credentials on the way to the store.
    match causes(error).find(|cause| is_about_credentials(&cause.to_string())) {
        Some(cause) => crate::net::explain::explain(cause),
        None => causes(error)
            .last()
            .map_or_else(|| error.to_string(), ToString::to_string),
    }
}

pub(super) fn is_about_credentials(words: &str) -> bool {
    words.contains("loading credentials") || words.contains("credential provider")
}
