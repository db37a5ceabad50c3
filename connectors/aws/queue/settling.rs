//! Deleting messages and giving them back, ten with one call.

use std::time::Duration;

use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry as Extension,
    DeleteMessageBatchRequestEntry as Deletion,
};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{HIDDEN_MAX, Queue, seconds};
use crate::aws::explain;

/// How often it is tried, how long an answer may take, and how long the pause after the first try
/// is.
const ATTEMPTS: u32 = 3;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    /// It is deleted.
    Delete,
    /// It is handed out again after so long.
    Hide(Duration),
}

/// A message to be settled.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) receipt: String,
    pub(super) settlement: Settlement,
    /// Dropped with the order, once the queue has been told or cannot be.
    pub(super) _done: Option<oneshot::Sender<()>>,
}

/// What a call for several messages came to: those that have failed, by their place in it.
type Answer = Result<Vec<BatchResultErrorEntry>, String>;

impl Queue {
    /// Settles up to ten messages, all of them to be deleted or all given back. Tried a few times:
    /// what is not deleted then comes again, and is known by its id.
    pub(super) async fn settle(&self, mut orders: Vec<Order>) {
        for attempt in 1..=ATTEMPTS {
            let answer = match timeout(ANSWER_WITHIN, self.settle_once(&orders)).await {
                Ok(answer) => answer,
                Err(_elapsed) => Err("no answer in time".to_owned()),
            };
            let error = match answer {
                Ok(failed) => {
                    let again: Vec<_> = failed.iter().filter_map(worth_another).collect();
                    let mut index = 0..;
                    orders.retain(|_| index.next().is_some_and(|index| again.contains(&index)));
                    failed
                        .iter()
                        .map(|one| format!("{}: {}", one.code, one.message().unwrap_or_default()))
                        .next()
                }
                Err(error) => Some(error),
            };
            let Some(error) = error else { return };
            tracing::debug!(
                attempt,
                error,
                again = orders.len(),
                "cannot tell the queue what became of messages"
            );
            if orders.is_empty() {
                return;
            }
            sleep(PAUSE * attempt).await;
        }
    }

    async fn settle_once(&self, orders: &[Order]) -> Answer {
        let deletes = orders
            .first()
            .is_some_and(|order| order.settlement == Settlement::Delete);
        if deletes {
            let entries = orders.iter().enumerate().filter_map(|(index, order)| {
                let entry = Deletion::builder()
                    .id(index.to_string())
                    .receipt_handle(&order.receipt);
                entry.build().ok()
            });
            let call = self.client.delete_message_batch().queue_url(&self.url);
            let told = call.set_entries(Some(entries.collect())).send().await;
            return told
                .map(|told| told.failed)
                .map_err(|error| explain(&error));
        }
        let hidden = orders.iter().map(|order| {
            let after = match order.settlement {
                Settlement::Hide(after) => after,
                Settlement::Delete => Duration::ZERO,
            };
            (order.receipt.as_str(), after.min(HIDDEN_MAX))
        });
        self.hide(hidden).await
    }

    /// Keeps up to ten messages hidden for another while each.
    pub(super) async fn hide(
        &self,
        messages: impl IntoIterator<Item = (&str, Duration)>,
    ) -> Answer {
        let entries = messages
            .into_iter()
            .enumerate()
            .filter_map(|(index, (receipt, hidden))| {
                let entry = Extension::builder()
                    .id(index.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(seconds(hidden));
                entry.build().ok()
            });
        let call = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url);
        let told = call.set_entries(Some(entries.collect())).send().await;
        told.map(|told| told.failed)
            .map_err(|error| explain(&error))
    }
}

/// The place of one that has failed by the queue's own fault.
fn worth_another(failed: &BatchResultErrorEntry) -> Option<usize> {
    // A receipt that is none any more stays one.
    if failed.sender_fault {
        return None;
    }
    failed.id.parse().ok()
}
