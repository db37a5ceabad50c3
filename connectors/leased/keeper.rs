//! Extends what is in hand, deletes what is stored and gives back what cannot be.
//!
//! It ends with the last of those who may hand it an order: the reading, and every message in hand.
//! So a message is extended for as long as anybody works on it, also where its source has gone.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::OwnedMutexGuard;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::held::{Held, Receipt};
use super::queue::Queue;
use super::settling::{Order, Settlement, settle};

/// For how many calls orders are taken at once.
const ORDERED_CALLS_MAX: usize = 20;

/// How long fewer orders than a call takes wait for others: calls are what clouds charge for.
const LINGER: Duration = Duration::from_millis(10);

/// Keeps what is in hand.
pub(super) struct Keeper<Q> {
    pub(super) queue: Q,
    pub(super) held: Arc<Held>,
}

impl<Q: Queue> Keeper<Q> {
    /// Runs until nobody can send an order any more, and all of them are carried out.
    pub(super) async fn run(self, mut orders: UnboundedReceiver<Order>) {
        let orders_max = ORDERED_CALLS_MAX * Q::CALL_MESSAGES_MAX;
        let beat = self.queue.beat();
        let mut beats = interval(beat.max(Duration::from_millis(100)));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settling = FuturesUnordered::<BoxFuture<'static, ()>>::new();
        let mut extending = None::<BoxFuture<'static, ()>>;
        let mut is_open = true;
        while is_open || !settling.is_empty() {
            let mut taken = Vec::new();
            tokio::select! {
                // Orders that wait here are not extended: their time goes on from the last beat.
                count = orders.recv_many(&mut taken, orders_max), if is_open && settling.len() < Q::CALLS_MAX => {
                    is_open = count > 0;
                    if (1..Q::CALL_MESSAGES_MAX).contains(&count) {
                        sleep(LINGER).await;
                        while taken.len() < orders_max && let Ok(order) = orders.try_recv() {
                            taken.push(order);
                        }
                    }
                    for call in calls(taken, Q::CALL_MESSAGES_MAX) {
                        let queue = self.queue.clone();
                        settling.push(Box::pin(async move { settle(&queue, call).await }));
                    }
                }
                Some(()) = settling.next(), if !settling.is_empty() => {}
                () = async { if let Some(extending) = &mut extending { extending.await } }, if extending.is_some() => {
                    extending = None;
                }
                _ = beats.tick(), if extending.is_none() => {
                    let due = self.held.due(beat / 2);
                    if !due.is_empty() {
                        extending = Some(Box::pin(extend(self.queue.clone(), due)));
                    }
                }
            }
        }
    }
}

/// The calls that orders are carried out by.
fn calls(orders: Vec<Order>, messages_max: usize) -> Vec<Vec<Order>> {
    let (deleted, hidden): (Vec<_>, Vec<_>) = orders
        .into_iter()
        .partition(|order| order.settlement == Settlement::Delete);
    let mut calls = Vec::new();
    for mut orders in [deleted, hidden] {
        while !orders.is_empty() {
            let rest = orders.split_off(orders.len().min(messages_max));
            calls.push(std::mem::replace(&mut orders, rest));
        }
    }
    calls
}

/// Extends messages in hand, but for those that are being settled.
async fn extend<Q: Queue>(queue: Q, receipts: Vec<Receipt>) {
    let calls: Vec<_> = receipts
        .chunks(Q::CALL_MESSAGES_MAX)
        .map(|chunk| extend_once(&queue, chunk.to_vec()))
        .collect();
    let mut calls = futures::stream::iter(calls).buffer_unordered(Q::CALLS_MAX);
    while let Some(()) = calls.next().await {}
}

async fn extend_once<Q: Queue>(queue: &Q, receipts: Vec<Receipt>) {
    // Locked here and not before, since calls wait for each other; what is being settled is left
    // alone, and what was settled has none any more.
    let mut locked: Vec<OwnedMutexGuard<String>> = receipts
        .into_iter()
        .filter_map(|receipt| receipt.try_lock_owned().ok())
        .filter(|receipt| !receipt.is_empty())
        .collect();
    if locked.is_empty() {
        return;
    }
    let receipts: Vec<_> = locked.iter().map(|receipt| receipt.as_str()).collect();
    let told = timeout(queue.beat(), queue.extend(&receipts)).await;
    match told {
        Ok(Ok(hidden)) => {
            for (index, receipt) in hidden.receipts {
                if let Some(locked) = locked.get_mut(index) {
                    **locked = receipt;
                }
            }
            // What was deleted meanwhile is among the failed.
            let failed = hidden.failed.len();
            tracing::trace!(failed, "messages in hand were extended");
        }
        Ok(Err(error)) => {
            tracing::debug!(error, "cannot extend messages in hand; they may come again")
        }
        Err(_elapsed) => {
            tracing::debug!("messages in hand were not extended in time; they may come again")
        }
    }
}
