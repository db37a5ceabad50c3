//! One request on its connection, and what it means that no response came.
//!
//! | what happened | class |
//! |---|---|
//! | no connection: no name, no address that takes one, no TLS, in ten seconds or before the attempt's timeout | unavailable |
//! | the name or URL leads to an address that must not be called | rejected |
//! | the server said that it has not looked at the request: REFUSED_STREAM, GOAWAY before it (RFC 9113, section 8.7) | unavailable |
//! | a connection that was used before broke before anything was answered: it was closed while the request was on its way | unavailable |
//! | any other connection broke before the status came: the function may have run | failed |
//!
//! A connection on which a request got no whole answer is not used again: what is wrong may be the connection.

use std::error::Error;

use http::{Extensions, Request};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use pointsman_schemas::{Class, Outcome};

use crate::http::client::{DialError, explain};
use crate::http::wire::Usage;

/// A request under way. Where it is dropped before it has ended, its connection is not used again.
pub(super) struct Call {
    connection: CaptureConnection,
    is_tls: bool,
    has_ended: bool,
}

impl Call {
    /// Watches over a request that is about to be made.
    pub(super) fn begin<B>(request: &mut Request<B>) -> Self {
        let is_tls = request.uri().scheme_str() == Some("https");
        Self { connection: capture_connection(request), is_tls, has_ended: false }
    }

    /// Whether there is a connection, so that the request may have been sent.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.connection_metadata().is_some()
    }

    /// The answer has come, or broke off.
    pub(super) fn ended(&mut self, is_sound: bool) {
        if is_sound {
            self.has_ended = true;
            if let Some(usage) = self.usage() {
                usage.answered();
            }
        }
    }

    fn usage(&self) -> Option<Usage> {
        let mut extensions = Extensions::new();
        self.connection.connection_metadata().as_ref()?.get_extras(&mut extensions);
        extensions.remove()
    }

    /// The outcome where no response came.
    pub(super) fn failed(&self, error: &legacy::Error) -> Outcome {
        let why = error.source().map_or_else(|| error.to_string(), explain);
        if causes(error).any(|cause| matches!(cause.downcast_ref(), Some(DialError::Denied(_)))) {
            return Outcome::new(Class::Rejected, why);
        }
        if error.is_connect() || !self.is_connected() {
            return Outcome::new(Class::Unavailable, why);
        }
        if causes(error).any(was_not_looked_at) {
            return Outcome::new(Class::Unavailable, format!("the server did not take the request: {why}"));
        }
        // A stream that the server resets has been looked at; the connection is sound.
        let is_reset = causes(error).any(|cause| cause.downcast_ref().is_some_and(h2::Error::is_reset));
        if !is_reset && self.usage().is_some_and(|usage| usage.is_stale(self.is_tls)) {
            return Outcome::new(Class::Unavailable, format!("the kept connection broke before an answer came: {why}"));
        }
        Outcome::new(Class::Failed, format!("the connection broke before an answer came: {why}"))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(connection) = self.connection.connection_metadata().as_ref()
        {
            connection.poison();
        }
    }
}

/// An error and what it comes from.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| (*error).source())
}

/// Whether the server says that it has done nothing with the request.
fn was_not_looked_at(cause: &(dyn Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // Of the streams under way only those above the last one that the server names end so.
        return error.is_remote() && (is_refused || error.is_go_away());
    }
    cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
}
