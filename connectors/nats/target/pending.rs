//! A message that was sent, and what its answer or the want of one means.

use async_nats::Subject;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{Error as JetStreamError, ErrorCode};
use pointsman_schemas::{Class, Outcome};
use tokio::sync::watch;

/// The state of the connection, as the client reports it.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionStatus {
    /// How often it broke.
    pub(super) breaks: u64,
    /// Why it is down, or was last.
    pub(super) error: Option<String>,
    /// What the server complained of last, and how often it has.
    pub(super) complaint: Option<String>,
    pub(super) complaints: u64,
}

/// How often the connection broke, and how often the server complained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    breaks: u64,
    complaints: u64,
}

impl ConnectionStatus {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            breaks: self.breaks,
            complaints: self.complaints,
        }
    }

    /// True where the server's last complaint is that this subject may not be published to.
    fn forbids(&self, subject: &str) -> bool {
        let rest = self.complaint.as_ref().and_then(|complaint| {
            complaint
                .strip_prefix("Permissions Violation for Publish to \"")?
                .strip_prefix(subject)
        });
        rest.is_some_and(|rest| rest.starts_with('"'))
    }
}

/// A message that was sent and is not acknowledged yet.
pub(super) struct PendingPublish {
    pub(super) subject: Subject,
    pub(super) acknowledged:
        <async_nats::jetstream::context::PublishAckFuture as IntoFuture>::IntoFuture,
    pub(super) status: watch::Receiver<ConnectionStatus>,
    /// What there had been of each before it was sent.
    pub(super) before: Counts,
}

pub(super) enum Published {
    Settled(Outcome),
    PendingPublish(PendingPublish),
}

impl Published {
    pub(super) fn after(published: Result<Option<PendingPublish>, Outcome>) -> Self {
        match published {
            Ok(Some(pending)) => Self::PendingPublish(pending),
            Ok(None) => Self::Settled(Outcome::delivered()),
            Err(outcome) => Self::Settled(outcome),
        }
    }

    pub(super) async fn settle(self) -> Outcome {
        let PendingPublish {
            subject,
            acknowledged,
            mut status,
            before,
        } = match self {
            Self::Settled(outcome) => return outcome,
            Self::PendingPublish(pending) => pending,
        };
        // Nobody answers what one may not publish; the server complains of it beside.
        let turned = status.wait_for(|status| {
            status.breaks != before.breaks
                || status.complaints != before.complaints && status.forbids(&subject)
        });
        tokio::select! {
            biased;
            acknowledged = acknowledged => match acknowledged {
                Ok(_) => Outcome::delivered(),
                Err(error) => classify(&subject, &error),
            },
            turned = turned => match turned {
                Ok(status) if status.breaks == before.breaks => {
                    Outcome::new(Class::Refused, format!("the NATS server forbids publishing to {subject}; allow it, or change \
                         auth"))
                }
                _ => Outcome::new(Class::Failed, "the connection broke before the message was \
                                                  acknowledged; it may have been stored"),
            },
        }
    }
}

/// What follows from an answer that is no acknowledgement.
pub(super) fn classify(subject: &str, error: &PublishError) -> Outcome {
    let answer =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<JetStreamError>());
    let (class, message) = match (error.kind(), answer) {
        (PublishErrorKind::MaxPayloadExceeded, _) => (
            Class::Rejected,
            format!("the message is too large: {error}"),
        ),
        (PublishErrorKind::StreamNotFound, _) => (
            Class::Unavailable,
            format!(
                "no stream keeps {subject}; make one, enable JetStream, or set acknowledge: false"
            ),
        ),
        (_, Some(answer)) if answer.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => (
            Class::Rejected,
            format!("the message is too large for the stream: {answer}"),
        ),
        (_, Some(answer)) if answer.error_code() == ErrorCode::STREAM_STORE_FAILED => (
            Class::Throttled,
            format!("the stream takes no more: {answer}"),
        ),
        (_, Some(answer)) if answer.code() == 503 => (
            Class::Unavailable,
            format!("JetStream cannot store the message: {answer}"),
        ),
        (_, Some(answer)) => (
            Class::Failed,
            format!("JetStream does not store the message: {answer}"),
        ),
        (PublishErrorKind::Other, None) => (
            Class::Failed,
            format!("what answered on {subject} is no stream: {error}"),
        ),
        (_, None) => (
            Class::Failed,
            format!("the message was not acknowledged: {error}"),
        ),
    };
    Outcome::new(class, message)
}
