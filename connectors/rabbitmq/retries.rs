//! Messages in our hands that could not be stored, and when each is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::message::{Retry, UnackedMessage};

/// Messages that could not be stored, until each is due again.
pub(super) struct Retries {
    give_back: UnboundedSender<Retry>,
    /// There are no more than `prefetch`.
    given_back: UnboundedReceiver<Retry>,
    waiting: BTreeMap<(Instant, u64), Arc<UnackedMessage>>,
}

impl Retries {
    pub(super) fn new() -> Self {
        let (give_back, given_back) = unbounded_channel();
        Self {
            give_back,
            given_back,
            waiting: BTreeMap::new(),
        }
    }

    /// Where messages are given back.
    pub(super) fn sender(&self) -> UnboundedSender<Retry> {
        self.give_back.clone()
    }

    /// Returns once some are due. Safe to cancel.
    pub(super) async fn due(&mut self) {
        loop {
            let first = self.waiting.first_key_value();
            let first = first.map(|((due, _), _)| *due);
            tokio::select! {
                biased;
                Some((due, held)) = self.given_back.recv() => drop(self.waiting.insert(due, held)),
                () = sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => return,
            }
        }
    }

    /// Takes those that are due, up to so many in all.
    pub(super) fn take_due(&mut self, taken: &mut Vec<Arc<UnackedMessage>>, messages_max: usize) {
        let now = Instant::now();
        while taken.len() < messages_max
            && let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let held = first.remove();
            // Where the channel has gone, the server hands it over by itself.
            if held.acker.usable() {
                taken.push(held);
            }
        }
    }
}
