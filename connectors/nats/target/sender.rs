//! Hands messages to the client, as many at once as there are.
//!
//! Attempts begin in bursts, and the first of them wakes whoever sends before the others have had
//! their turn. Sent one by one each would be a write of its own, for the server a read of its own,
//! and its acknowledgement the same on the way back.

use std::sync::Arc;

use async_nats::client::{PublishError, PublishErrorKind};
use async_nats::{Client, Subject};
use pointsman_schemas::{Class, Outcome};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio_util::task::AbortOnDropHandle;

use super::publisher::Outgoing;
use super::unacknowledged::Unacknowledged;

/// Messages that are handed over at once, at most.
const BATCH_MAX: usize = 256;

/// The way to the client; it ends with its handle.
pub(super) struct BatchSender {
    // Holds no more than there are attempts: each waits for its outcome.
    ordered: mpsc::UnboundedSender<Ordered>,
    _task: AbortOnDropHandle<()>,
}

/// A message that is to be sent.
struct Ordered {
    number: u64,
    /// None where it is not acknowledged.
    reply: Option<Subject>,
    outgoing: Outgoing,
}

impl BatchSender {
    pub(super) fn new(client: Client, unacknowledged: Arc<Unacknowledged>) -> Self {
        let (ordered, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move { send_all(&client, &unacknowledged, receiver).await });
        Self {
            ordered,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Sends the message of this number, which ends as acknowledged under `reply`, or else once it
    /// is sent.
    pub(super) fn send(&self, number: u64, reply: Option<Subject>, outgoing: Outgoing) {
        // The task ends with this handle alone.
        let _ = self.ordered.send(Ordered {
            number,
            reply,
            outgoing,
        });
    }
}

async fn send_all(
    client: &Client,
    unacknowledged: &Unacknowledged,
    mut ordered: mpsc::UnboundedReceiver<Ordered>,
) {
    let (mut batch, mut sent) = (Vec::with_capacity(BATCH_MAX), Vec::new());
    while ordered.recv_many(&mut batch, BATCH_MAX).await > 0 {
        // Lets the attempts go first that have begun with these.
        yield_now().await;
        while batch.len() < BATCH_MAX
            && let Ok(more) = ordered.try_recv()
        {
            batch.push(more);
        }
        for one in batch.drain(..) {
            // Its attempt was given up meanwhile.
            if !unacknowledged.waits(one.number) {
                continue;
            }
            let (number, is_acknowledged) = (one.number, one.reply.is_some());
            match publish(client, one).await {
                Ok(()) if is_acknowledged => {}
                Ok(()) => sent.push(number),
                Err(error) => unacknowledged.settle(number, unsent(&error)),
            }
        }
        if sent.is_empty() {
            continue;
        }
        let outcome = match client.flush().await {
            Ok(()) => Outcome::delivered(),
            Err(error) => Outcome::new(
                Class::Failed,
                format!("the message could not be sent: {error}"),
            ),
        };
        for number in sent.drain(..) {
            unacknowledged.settle(number, outcome.clone());
        }
    }
}

async fn publish(
    client: &Client,
    Ordered {
        reply, outgoing, ..
    }: Ordered,
) -> Result<(), PublishError> {
    let Outgoing {
        subject,
        headers,
        payload,
    } = outgoing;
    match reply {
        Some(reply) => {
            client
                .publish_with_reply_and_headers(subject, reply, headers, payload)
                .await
        }
        None => client.publish_with_headers(subject, headers, payload).await,
    }
}

fn unsent(error: &PublishError) -> Outcome {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Outcome::new(
            Class::Rejected,
            format!("the message is too large: {error}"),
        ),
        _ => Outcome::new(Class::Failed, error.to_string()),
    }
}
