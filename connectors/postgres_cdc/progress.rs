//! How far the server may forget its log: up to where everything is acknowledged.
//!
//! ```text
//!   held    [ 3 left, up to A ] [ 0 left, up to B ] [ 1 left, up to C ]      B waits for A
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Acknowledgement, Verdict};

/// What is handed over and not acknowledged. It goes with its connection: the server sends again
/// what was not confirmed.
pub(super) struct Progress {
    inner: Mutex<Inner>,
    /// Something was confirmed, or was not stored.
    changed: Notify,
}

struct Inner {
    /// The number of the first.
    first: u64,
    held: VecDeque<Held>,
    confirmed: u64,
    is_lost: bool,
}

/// What is handed over at once.
struct Held {
    /// How much of it is not acknowledged.
    left: usize,
    /// Up to where the log is done with once it is.
    up_to: u64,
}

impl Progress {
    /// Everything up to here is stored.
    pub(super) fn new(confirmed: u64) -> Self {
        Self {
            inner: Mutex::new(Inner {
                first: 0,
                held: VecDeque::new(),
                confirmed,
                is_lost: false,
            }),
            changed: Notify::new(),
        }
    }

    /// So many are handed over; with them the log is done with up to here. Returns their number.
    pub(super) fn push(&self, count: usize, up_to: u64) -> u64 {
        let mut inner = self.inner.lock();
        inner.held.push_back(Held { left: count, up_to });
        let number = inner.first + inner.held.len() as u64 - 1;
        inner.advance();
        number
    }

    /// Up to here there is nothing besides what was handed over.
    pub(super) fn nothing_up_to(&self, up_to: u64) {
        let mut inner = self.inner.lock();
        match inner.held.back_mut() {
            Some(last) => last.up_to = last.up_to.max(up_to),
            None => inner.confirmed = inner.confirmed.max(up_to),
        }
    }

    /// Up to where everything is stored.
    pub(super) fn confirmed(&self) -> u64 {
        self.inner.lock().confirmed
    }

    /// Whether something could not be stored: what comes behind it must not be confirmed.
    pub(super) fn is_lost(&self) -> bool {
        self.inner.lock().is_lost
    }

    /// Waits until something changes.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The acknowledgement of one of those of this number. Where it is never sent, nothing behind it
    /// is confirmed over this connection.
    pub(super) fn acknowledgement(self: &Arc<Self>, number: u64) -> Acknowledgement {
        let progress = Arc::clone(self);
        Acknowledgement::io(move |verdict| async move {
            match verdict {
                // Nobody but us would keep it: PostgreSQL has no dead letters.
                Verdict::Stored | Verdict::Rejected { .. } => progress.settle(number),
                Verdict::Later(_) | Verdict::Failed => progress.lose(),
            }
        })
    }

    fn settle(&self, number: u64) {
        let mut inner = self.inner.lock();
        let index = number.checked_sub(inner.first);
        let index = index.and_then(|index| usize::try_from(index).ok());
        if let Some(held) = index.and_then(|index| inner.held.get_mut(index)) {
            held.left = held.left.saturating_sub(1);
        }
        inner.advance();
        drop(inner);
        self.changed.notify_one();
    }

    fn lose(&self) {
        self.inner.lock().is_lost = true;
        self.changed.notify_one();
    }
}

impl Inner {
    fn advance(&mut self) {
        while let Some(front) = self.held.pop_front_if(|front| front.left == 0) {
            self.first += 1;
            self.confirmed = self.confirmed.max(front.up_to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_everything_before_is_stored_of_is_confirmed() {
        let progress = Arc::new(Progress::new(5));
        progress.nothing_up_to(7);
        assert_eq!(progress.confirmed(), 7, "nothing is outstanding");
        let first = progress.push(2, 10);
        let second = progress.push(1, 20);
        progress.nothing_up_to(25);
        let [a, b] = [(); 2].map(|()| progress.acknowledgement(first));
        let c = progress.acknowledgement(second);
        c.send(Verdict::Stored).await;
        a.send(Verdict::Stored).await;
        assert_eq!(progress.confirmed(), 7);
        b.send(Verdict::Stored).await;
        assert_eq!(progress.confirmed(), 25);
        assert!(!progress.is_lost());

        let [lost, silent] = [(); 2].map(|()| progress.push(1, 30));
        drop(progress.acknowledgement(silent));
        assert!(!progress.is_lost(), "nobody says anything of it");
        progress.acknowledgement(lost).send(Verdict::Failed).await;
        assert!(progress.is_lost());
        assert_eq!(progress.confirmed(), 25);
    }
}
