//! One request on its connection, and what it means that no response came.
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
use std::future::poll_fn;
use std::pin::{Pin, pin};

use http::{Extensions, Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use pointsman_schemas::{Class, Outcome};
use tokio::time::{Instant, timeout_at};

use crate::net::client::{DialError, causes, explain};
use crate::net::guard::HOW_TO_ALLOW;
use crate::net::wire::{Mark, Usage};

/// A request under way. Where it is dropped before it has ended, its connection is not used again.
pub(super) struct Call {
    connection: CaptureConnection,
    /// How far the connection had come when the request was sent.
    sent: Option<Mark>,
    is_tls: bool,
    has_ended: bool,
}

impl Call {
    /// Watches over a request that is about to be made.
    pub(super) fn begin<B>(request: &mut Request<B>) -> Self {
        let is_tls = request.uri().scheme_str() == Some("https");
        Self {
            connection: capture_connection(request),
            sent: None,
            is_tls,
            has_ended: false,
        }
    }

    /// Waits for the response, but for a connection only until `connected`.
    pub(super) async fn response(
        &mut self,
        mut response: legacy::ResponseFuture,
        connected: Instant,
    ) -> Result<Response<Incoming>, Box<Outcome>> {
        let Self {
            connection, sent, ..
        } = &mut *self;
        let mut watched = pin!(poll_fn(|context| {
            let polled = Pin::new(&mut response).poll(context);
            // The client hands the request to its connection while it is polled, so that no answer
            // to it has come yet. One that could not be written has another connection looked for.
            if polled.is_pending()
                && let Some(usage) = usage(connection)
                && !sent.as_ref().is_some_and(|sent| sent.is_on(&usage))
            {
                *sent = Some(usage.mark());
            }
            polled
        }));
        let response = match timeout_at(connected, &mut watched).await {
            Ok(response) => response,
            Err(_) if connection.connection_metadata().is_none() => {
                return Err(Box::new(Outcome::new(
                    Class::Unavailable,
                    "no connection before the attempt's timeout; nothing was sent",
                )));
            }
            Err(_) => watched.await,
        };
        response.map_err(|error| Box::new(self.failed(&error)))
    }

    /// The answer has come, or broke off.
    pub(super) fn ended(&mut self, is_sound: bool) {
        if is_sound {
            self.has_ended = true;
            if let Some(usage) = usage(&self.connection) {
                usage.answered();
            }
        }
    }

    /// The outcome where no response came.
    fn failed(&self, error: &legacy::Error) -> Outcome {
        let why = error.source().map_or_else(|| error.to_string(), explain);
        if causes(error).any(|cause| matches!(cause.downcast_ref(), Some(DialError::Denied(_)))) {
            return Outcome::new(Class::Rejected, format!("{why}; {HOW_TO_ALLOW}"));
        }
        if error.is_connect() || self.connection.connection_metadata().is_none() {
            return Outcome::new(Class::Unavailable, why);
        }
        if causes(error).any(was_not_looked_at) {
            return Outcome::new(
                Class::Unavailable,
                format!("the server did not take the request: {why}"),
            );
        }
        // A stream that the server resets has been looked at; the connection is sound.
        let is_reset =
            causes(error).any(|cause| cause.downcast_ref().is_some_and(h2::Error::is_reset));
        if !is_reset
            && self
                .sent
                .as_ref()
                .is_some_and(|sent| sent.is_stale(self.is_tls))
        {
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

/// What has come over a request's connection, once it has one.
fn usage(connection: &CaptureConnection) -> Option<Usage> {
    let mut extensions = Extensions::new();
    connection
        .connection_metadata()
        .as_ref()?
        .get_extras(&mut extensions);
    extensions.remove()
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
