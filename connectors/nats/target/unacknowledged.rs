//! Messages that were published to streams and are not acknowledged yet.
//!
//! Many are on their way at once. Each has a reply subject of its own under one inbox, whose last
//! token is its number, so that one subscription hears of all of them and each ends by its own
//! answer. The JetStream context of the client has timers, a permit and a boxed future for each
//! message, which cost more than the message.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::jetstream::{Error as JetStreamError, ErrorCode};
use async_nats::{Message, StatusCode, Subject, Subscriber};
use futures::StreamExt;
use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::oneshot;

/// The messages of one connection that wait for their acknowledgement.
#[derive(Default)]
pub(super) struct Unacknowledged(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    last: u64,
    waiting: HashMap<u64, Waiting, foldhash::fast::RandomState>,
    /// True once nobody hears any answer more.
    is_closed: bool,
}

struct Waiting {
    subject: Subject,
    outcome: oneshot::Sender<Outcome>,
}

/// One message that waits. Dropping it, as a dispatcher does that gives an attempt up, forgets it.
pub(super) struct PendingPublish {
    unacknowledged: Arc<Unacknowledged>,
    number: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Unacknowledged {
    /// Adds a message that is about to be published.
    pub(super) fn add(self: &Arc<Self>, subject: Subject) -> PendingPublish {
        let (outcome, receiver) = oneshot::channel();
        let mut inner = self.0.lock();
        inner.last += 1;
        let number = inner.last;
        if inner.is_closed {
            drop(inner);
            // Whoever asks before the connection is made anew.
            let _ = outcome.send(broken());
        } else {
            inner.waiting.insert(number, Waiting { subject, outcome });
        }
        PendingPublish {
            unacknowledged: Arc::clone(self),
            number,
            outcome: receiver,
        }
    }

    /// Settles each message by its answer, until the client ends.
    pub(super) async fn settle_by(&self, mut answers: Subscriber) {
        while let Some(answer) = answers.next().await {
            self.answered(&answer);
        }
        self.0.lock().is_closed = true;
        self.connection_broke();
    }

    /// Whether somebody waits for what becomes of the message of this number.
    pub(super) fn waits(&self, number: u64) -> bool {
        self.0.lock().waiting.contains_key(&number)
    }

    /// Ends a message that nobody answers.
    pub(super) fn settle(&self, number: u64, outcome: Outcome) {
        let waiting = self.0.lock().waiting.remove(&number);
        if let Some(waiting) = waiting {
            let _ = waiting.outcome.send(outcome);
        }
    }

    fn answered(&self, answer: &Message) {
        let number = answer
            .subject
            .rsplit_once('.')
            .and_then(|(_, number)| number.parse().ok());
        let waiting = number.and_then(|number: u64| self.0.lock().waiting.remove(&number));
        // Nobody waits any more where the attempt was given up, or a broken connection ended it.
        if let Some(Waiting { subject, outcome }) = waiting {
            let _ = outcome.send(outcome_of(&subject, answer));
        }
    }

    /// The connection has broken: of what was sent before nobody will ever hear.
    pub(super) fn connection_broke(&self) {
        let waiting = std::mem::take(&mut self.0.lock().waiting);
        for one in waiting.into_values() {
            let _ = one.outcome.send(broken());
        }
    }

    /// The server complains. Nobody answers what one may not publish, so that its complaint is the
    /// answer.
    pub(super) fn complained(&self, complaint: &str) {
        let forbidden = complaint
            .strip_prefix("Permissions Violation for Publish to \"")
            .and_then(|rest| rest.split_once('"'));
        let Some((forbidden, _)) = forbidden else {
            return;
        };
        let refused: Vec<_> = self
            .0
            .lock()
            .waiting
            .extract_if(|_, waiting| waiting.subject.as_str() == forbidden)
            .collect();
        for (_, one) in refused {
            let _ = one.outcome.send(Outcome::new(
                Class::Refused,
                format!(
                    "the NATS server forbids publishing to {forbidden}; allow it, or change auth"
                ),
            ));
        }
    }
}

impl PendingPublish {
    /// What the message is known by.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The reply subject under an inbox.
    pub(super) fn reply_subject(&self, inbox: &str) -> Subject {
        format!("{inbox}.{}", self.number).into()
    }

    /// Waits for what becomes of the message.
    pub(super) async fn settle(mut self) -> Outcome {
        (&mut self.outcome).await.unwrap_or_else(|_| broken())
    }
}

impl Drop for PendingPublish {
    fn drop(&mut self) {
        self.unacknowledged.0.lock().waiting.remove(&self.number);
    }
}

fn broken() -> Outcome {
    Outcome::new(
        Class::Failed,
        "the connection broke before the message was acknowledged; it may have arrived",
    )
}

/// The answer of a stream: `io.nats.jetstream.api.v1.pub_ack_response`, as far as it matters here.
#[derive(Deserialize)]
struct Answer {
    error: Option<JetStreamError>,
    stream: Option<IgnoredAny>,
    seq: Option<u64>,
}

/// What an answer says of a message.
fn outcome_of(subject: &str, answer: &Message) -> Outcome {
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Outcome::new(
            Class::Unavailable,
            format!(
                "no stream keeps {subject}; make one, enable JetStream, or set acknowledge: false"
            ),
        );
    }
    let no_stream = |why: String| {
        Outcome::new(
            Class::Failed,
            format!("what answered on {subject} is no stream: {why}"),
        )
    };
    match serde_json::from_slice(&answer.payload) {
        Ok(Answer {
            error: Some(error), ..
        }) => refusal(&error),
        Ok(Answer {
            stream: Some(_),
            seq: Some(_),
            ..
        }) => Outcome::delivered(),
        Ok(_) => no_stream("it names no stream and sequence".to_owned()),
        Err(error) => no_stream(error.to_string()),
    }
}

/// What follows from an answer that is no acknowledgement.
fn refusal(error: &JetStreamError) -> Outcome {
    let (class, what) = match error.error_code() {
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
            (Class::Rejected, "the message is too large for the stream")
        }
        ErrorCode::STREAM_STORE_FAILED => (Class::Throttled, "the stream takes no more"),
        _ if error.code() == 503 => (Class::Unavailable, "JetStream cannot store the message"),
        _ => (Class::Failed, "JetStream does not store the message"),
    };
    Outcome::new(class, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn what_nobody_waits_for_any_more_is_forgotten() {
        let unacknowledged = Arc::new(Unacknowledged::default());
        let (first, second) = (
            unacknowledged.add("a".into()),
            unacknowledged.add("b".into()),
        );
        let of = |pending: &PendingPublish| pending.reply_subject("_INBOX.x");
        assert_eq!(
            (of(&first).as_str(), of(&second).as_str()),
            ("_INBOX.x.1", "_INBOX.x.2")
        );
        drop(first);
        assert_eq!(unacknowledged.0.lock().waiting.len(), 1);
        unacknowledged.connection_broke();
        assert_eq!(second.settle().now_or_never(), Some(broken()));
        assert!(unacknowledged.0.lock().waiting.is_empty());
    }

    #[test]
    fn a_complaint_ends_what_goes_to_its_subject_alone() {
        let unacknowledged = Arc::new(Unacknowledged::default());
        let forbidden = unacknowledged.add("a.b".into());
        let others = ["a", "a.b.c", "b"].map(|subject| unacknowledged.add(subject.into()));
        unacknowledged.complained("Permissions Violation for Subscription to \"a.b\"");
        unacknowledged.complained("Permissions Violation for Publish to \"a.b");
        assert_eq!(unacknowledged.0.lock().waiting.len(), 4);
        unacknowledged.complained("Permissions Violation for Publish to \"a.b\"");
        let outcome = forbidden.settle().now_or_never();
        assert_eq!(outcome.map(|outcome| outcome.class), Some(Class::Refused));
        for other in others {
            assert_eq!(other.settle().now_or_never(), None);
        }
    }

    #[test]
    fn what_answers_is_told_from_what_acknowledges() {
        let answer = |payload: &'static str| Message {
            subject: "_INBOX.x.1".into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        for (payload, class) in [
            (r#"{"stream":"S","seq":7}"#, Class::Delivered),
            (
                r#"{"seq":7,"stream":"S","domain":"d","duplicate":true}"#,
                Class::Delivered,
            ),
            (r#"{"stream":"S"}"#, Class::Failed),
            (r#"{"seq":7}"#, Class::Failed),
            ("{}", Class::Failed),
            ("", Class::Failed),
            ("what?", Class::Failed),
            (r#"[{"stream":"S","seq":7}]"#, Class::Failed),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"S","seq":0}"#,
                Class::Throttled,
            ),
            (
                r#"{"error":{"code":400,"err_code":10054}}"#,
                Class::Rejected,
            ),
            (r#"{"error":{"code":503}}"#, Class::Unavailable),
            (r#"{"error":{"code":400,"err_code":10071}}"#, Class::Failed),
        ] {
            let outcome = outcome_of("s", &answer(payload));
            assert_eq!(outcome.class, class, "{payload}: {outcome:?}");
        }
    }
}
