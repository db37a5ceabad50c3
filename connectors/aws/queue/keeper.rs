//! Extends what is in hand, deletes what is stored and gives back what cannot be.
//!
//! It ends with the last of those who may hand it an order: the reading, and every message in hand.
//! So a message is extended for as long as anybody works on it, also where its source has gone.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::held::Held;
use super::settling::{Order, Settlement};
use super::{CALL_MESSAGES_MAX, Queue};

/// How many calls to settle are under way at most.
const SETTLING_MAX: usize = 16;

/// How many orders are taken at once.
const ORDERS_MAX: usize = 20 * CALL_MESSAGES_MAX;

/// How long fewer orders than a call takes wait for others: calls are what AWS charges for.
const LINGER: Duration = Duration::from_millis(10);

/// Keeps what is in hand.
pub(super) struct Keeper {
    pub(super) queue: Queue,
    pub(super) held: Arc<Held>,
}

impl Keeper {
    /// Runs until nobody can send an order any more, and all of them are carried out.
    pub(super) async fn run(self, mut orders: UnboundedReceiver<Order>) {
        let mut beats = interval((self.queue.in_hand / 3).max(Duration::from_millis(100)));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settling = FuturesUnordered::<BoxFuture<'static, ()>>::new();
        let mut extending = None::<BoxFuture<'static, ()>>;
        let mut is_open = true;
        while is_open || !settling.is_empty() {
            let mut taken = Vec::new();
            tokio::select! {
                // Orders that wait here are not extended: their time goes on from the last beat.
                count = orders.recv_many(&mut taken, ORDERS_MAX), if is_open && settling.len() < SETTLING_MAX => {
                    is_open = count > 0;
                    if (1..CALL_MESSAGES_MAX).contains(&count) {
                        sleep(LINGER).await;
                        while taken.len() < ORDERS_MAX && let Ok(order) = orders.try_recv() {
                            taken.push(order);
                        }
                    }
                    for call in calls(taken) {
                        let queue = self.queue.clone();
                        settling.push(Box::pin(async move { queue.settle(call).await }));
                    }
                }
                Some(()) = settling.next(), if !settling.is_empty() => {}
                () = async { if let Some(extending) = &mut extending { extending.await } }, if extending.is_some() => {
                    extending = None;
                }
                _ = beats.tick(), if extending.is_none() => {
                    let due = self.held.due(self.queue.in_hand / 6);
                    if !due.is_empty() {
                        extending = Some(Box::pin(extend(self.queue.clone(), due)));
                    }
                }
            }
        }
    }
}

/// The calls that orders are carried out by.
fn calls(orders: Vec<Order>) -> Vec<Vec<Order>> {
    let (deleted, hidden): (Vec<_>, Vec<_>) = orders
        .into_iter()
        .partition(|order| order.settlement == Settlement::Delete);
    let mut calls = Vec::new();
    for mut orders in [deleted, hidden] {
        while !orders.is_empty() {
            let rest = orders.split_off(orders.len().min(CALL_MESSAGES_MAX));
            calls.push(std::mem::replace(&mut orders, rest));
        }
    }
    calls
}

/// Extends messages in hand.
async fn extend(queue: Queue, receipts: Vec<String>) {
    let (within, hidden) = (queue.in_hand / 3, queue.in_hand);
    let mut calls = Vec::new();
    for chunk in receipts.chunks(CALL_MESSAGES_MAX) {
        let messages: Vec<_> = chunk
            .iter()
            .map(|receipt| (receipt.as_str(), hidden))
            .collect();
        calls.push(timeout(within, queue.hide(messages)));
    }
    let mut calls = futures::stream::iter(calls).buffer_unordered(SETTLING_MAX);
    while let Some(told) = calls.next().await {
        match told {
            // What was deleted meanwhile is among the failed.
            Ok(Ok(failed)) => {
                tracing::trace!(failed = failed.len(), "messages in hand were extended")
            }
            Ok(Err(error)) => {
                tracing::debug!(error, "cannot extend messages in hand; they may come again")
            }
            Err(_elapsed) => {
                tracing::debug!("messages in hand were not extended in time; they may come again")
            }
        }
    }
}
