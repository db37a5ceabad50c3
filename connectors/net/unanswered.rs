//! What it means that no answer came.
//!
//! | what happened | class |
//! |---|---|
//! | no connection: no name, no address that takes one, no TLS, in ten seconds or before the attempt's timeout | unavailable |
//! | the name or URL leads to an address that must not be called | rejected |
//! | the server said that it has not looked at the request: REFUSED_STREAM, GOAWAY before it (RFC 9113, section 8.7) | unavailable |
//! | a connection that was used before broke, and nothing had come over it since the request was sent: it was closed while that was on its way | unavailable |
//! | any other connection broke before the status came, also one whose server had said by GOAWAY that it would answer: the function may have run | failed |
//!
//! A connection on which a request got no whole answer is not used again: what is wrong may be the
//! connection.

use std::error::Error;

use pointsman_schemas::{Class, Outcome};

use super::client::CallError;
use super::dial::DialError;
use super::explain::{causes, explain};
use super::guard::HOW_TO_ALLOW;

/// The outcome where no answer came.
pub(crate) fn failed(error: CallError) -> Box<Outcome> {
    Box::new(match error {
        CallError::Late => Outcome::new(
            Class::Unavailable,
            "no connection before the attempt's timeout; nothing was sent",
        ),
        CallError::Connect(error) => {
            let why = explain(&*error);
            let is_denied = causes(&*error)
                .any(|cause| matches!(cause.downcast_ref(), Some(DialError::Denied(_))));
            if is_denied {
                Outcome::new(Class::Rejected, format!("{why}; {HOW_TO_ALLOW}"))
            } else {
                Outcome::new(Class::Unavailable, why)
            }
        }
        CallError::Broken {
            source,
            is_unsent,
            is_stale,
        } => broken(&*source, is_unsent, is_stale),
    })
}

/// The outcome where a connection broke.
fn broken(error: &(dyn Error + 'static), is_unsent: bool, is_stale: bool) -> Outcome {
    let why = explain(error);
    if is_unsent || causes(error).any(was_not_looked_at) {
        return Outcome::new(
            Class::Unavailable,
            format!("the server did not take the request: {why}"),
        );
    }
    // A stream that the server resets has been looked at; the connection is sound.
    let is_reset = causes(error).any(|cause| cause.downcast_ref().is_some_and(h2::Error::is_reset));
    if !is_reset && is_stale {
        return Outcome::new(
            Class::Unavailable,
            format!("the kept connection broke before an answer came: {why}"),
        );
    }
    Outcome::new(
        Class::Failed,
        format!("the connection broke before an answer came: {why}"),
    )
}

/// Whether the server says that it has done nothing with the request.
fn was_not_looked_at(cause: &(dyn Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // Of the streams under way only those above the last one that the server names end so.
        return error.is_remote() && (is_refused || error.is_go_away());
    }
    cause
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_canceled)
}
