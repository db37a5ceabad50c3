//! Deleting messages and giving them back, several with one call.

use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::{sleep, timeout};

use super::held::Receipt;
use super::queue::{Answer, Failure, Queue};

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
    pub(super) receipt: Receipt,
    pub(super) settlement: Settlement,
    /// Dropped with the order, once the queue has been told or cannot be.
    pub(super) _done: Option<oneshot::Sender<()>>,
}

/// An order under way, whose message nobody extends meanwhile, nor after it: that would keep from
/// others what is given back.
struct Taken {
    receipt: OwnedMutexGuard<String>,
    order: Order,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.receipt.clear();
    }
}

/// Settles messages, all of them to be deleted or all given back. Tried a few times: what is not
/// deleted then comes again, and is known by its id.
pub(super) async fn settle<Q: Queue>(queue: &Q, orders: Vec<Order>) {
    let mut taken = Vec::with_capacity(orders.len());
    for order in orders {
        // Whoever extends messages waits for no lock while it holds one, so that this ends.
        let receipt = order.receipt.clone().lock_owned().await;
        taken.push(Taken { receipt, order });
    }
    for attempt in 1..=ATTEMPTS {
        let answer = match timeout(ANSWER_WITHIN, settle_once(queue, &taken)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err("no answer in time".to_owned()),
        };
        let error = match answer {
            Ok(failed) => {
                let mut index = 0..;
                taken.retain(|_| {
                    let index = index.next();
                    failed
                        .iter()
                        .any(|one| one.may_pass && Some(one.index) == index)
                });
                failed.into_iter().map(|one| one.error).next()
            }
            Err(error) => Some(error),
        };
        let Some(error) = error else { return };
        tracing::debug!(
            attempt,
            error,
            again = taken.len(),
            "cannot tell the queue what became of messages"
        );
        if taken.is_empty() {
            return;
        }
        sleep(PAUSE * attempt).await;
    }
}

async fn settle_once<Q: Queue>(queue: &Q, taken: &[Taken]) -> Answer<Vec<Failure>> {
    let is_deleted = |taken: &Taken| taken.order.settlement == Settlement::Delete;
    if taken.iter().all(is_deleted) {
        let receipts: Vec<_> = taken.iter().map(|taken| &**taken.receipt).collect();
        return queue.delete(&receipts).await;
    }
    let hidden = taken.iter().map(|taken| {
        let after = match taken.order.settlement {
            Settlement::Hide(after) => after,
            Settlement::Delete => Duration::ZERO,
        };
        (&**taken.receipt, after)
    });
    let hidden: Vec<_> = hidden.collect();
    queue.hide(&hidden).await.map(|hidden| hidden.failed)
}
