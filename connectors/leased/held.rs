//! The messages in hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot};
use tokio::time::Instant;

use super::settling::{Order, Settlement};

/// When a message comes again whose acknowledgement nobody has sent.
const DROPPED_PAUSE: Duration = Duration::from_secs(1);

/// How much may be in hand. What calls under way bring comes on top of the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// What a message is settled by, and empty once it is. Locked by whoever makes a call with it: some
/// queues give another one with each, and then refuse the one before.
pub(super) type Receipt = Arc<AsyncMutex<String>>;

/// The messages in hand.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: Mutex<Entries>,
    numbers: AtomicU64,
    /// One of them has gone.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    by_number: HashMap<u64, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    receipt: Receipt,
    /// When it was last extended.
    extended: Instant,
    bytes: usize,
}

impl Held {
    /// Whether so many more messages find room.
    pub(super) fn has_room(&self, messages: usize, bounds: Bounds) -> bool {
        let entries = self.entries.lock();
        entries.by_number.len() + messages <= bounds.messages && entries.bytes < bounds.bytes
    }

    /// Returns once a message has gone since this was called last.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Takes a message of so many bytes in hand.
    pub(super) fn take(
        self: &Arc<Self>,
        receipt: String,
        bytes: usize,
        orders: &UnboundedSender<Order>,
    ) -> Lease {
        let receipt = Arc::new(AsyncMutex::new(receipt));
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        entries.bytes += bytes;
        let entry = Entry {
            receipt: Arc::clone(&receipt),
            extended: Instant::now(),
            bytes,
        };
        entries.by_number.insert(number, entry);
        drop(entries);
        Lease {
            held: Arc::clone(self),
            number,
            receipt,
            orders: orders.clone(),
            is_settled: false,
        }
    }

    /// The receipts of those that have not been extended for so long, which count as extended now.
    pub(super) fn due(&self, after: Duration) -> Vec<Receipt> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let due = entries
            .by_number
            .values_mut()
            .filter(|entry| now.duration_since(entry.extended) >= after);
        due.map(|entry| {
            entry.extended = now;
            Arc::clone(&entry.receipt)
        })
        .collect()
    }

    fn remove(&self, number: u64) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.by_number.remove(&number) {
            entries.bytes = entries.bytes.saturating_sub(entry.bytes);
        }
        drop(entries);
        self.freed.notify_one();
    }
}

/// One message in hand. Dropped without being settled, it is given back.
#[derive(Debug)]
pub(super) struct Lease {
    held: Arc<Held>,
    number: u64,
    receipt: Receipt,
    orders: UnboundedSender<Order>,
    is_settled: bool,
}

impl Lease {
    /// Has the message deleted or given back, and waits for that.
    pub(super) async fn settle(mut self, settlement: Settlement) {
        let (done, told) = oneshot::channel();
        if settlement != Settlement::Delete {
            // The heartbeat would keep it from coming again.
            self.held.remove(self.number);
        }
        self.order(settlement, Some(done));
        // Until then it stays in hand and is extended.
        let _ = told.await;
    }

    fn order(&mut self, settlement: Settlement, done: Option<oneshot::Sender<()>>) {
        self.is_settled = true;
        // Fails where the runtime ends, which nothing outlives.
        let _ = self.orders.send(Order {
            receipt: Arc::clone(&self.receipt),
            settlement,
            _done: done,
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.remove(self.number);
        if !self.is_settled {
            self.order(Settlement::Hide(DROPPED_PAUSE), None);
        }
    }
}
