//! What one source has handed over to its pipe and is not acknowledged: messages, and the batches
//! and cursors that they came with.
//!
//! Nothing here waits or does IO. A message has parts: its deliveries, and the writes that have to
//! become durable because of it. It ends with the last of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use pointsman_connectors::{Acknowledgement, Verdict};
use pointsman_schemas::{Cursor, Name, PositionChange, SubscriptionNumber};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::writes::{PendingWrite, Progress};
use super::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};

/// The messages of one source that are not acknowledged.
pub(super) struct SourceState {
    pub(super) tenant: Name,
    pub(super) origin: Name,
    /// Wakes the source's intake.
    pub(super) wake: Arc<Notify>,
    /// True once nothing more is accepted: what has no attempt under way goes back.
    pub(super) draining: bool,
    messages: HashMap<u64, OpenMessage>,
    batches: VecDeque<OpenBatch>,
    last: u64,
    /// Parts that have not ended, and their bytes.
    parts: usize,
    bytes: usize,
    pub(super) acknowledgements: Vec<(Acknowledgement, Verdict)>,
    pub(super) writes: Vec<PendingWrite>,
    /// What may be stored of the source's position.
    pub(super) progress: Progress,
    /// Until when deliveries may wait in memory, with their sequences, where their source sets a
    /// time.
    pub(super) until: BTreeSet<(Instant, u64)>,
    /// Deliveries on their way into the journal, as dead letters or to wait there.
    pub(super) moving: HashMap<SubscriptionNumber, u64>,
}

/// A message of which something has not ended.
struct OpenMessage {
    acknowledgement: Acknowledgement,
    parts: usize,
    batch: u64,
    /// What changes in the source's position once it has ended.
    positions: Vec<PositionChange>,
    /// True where some of it goes back: then all of it does.
    goes_back: bool,
}

/// A batch with messages that have not ended, or several that have.
struct OpenBatch {
    number: u64,
    /// Messages that have not ended.
    open: usize,
    /// True where something of it has gone back: nothing from here on may be stored.
    is_lost: bool,
    progress: Progress,
}

impl OpenBatch {
    fn has_ended(&self) -> bool {
        self.open == 0 && !self.is_lost
    }
}

impl SourceState {
    pub(super) fn new(tenant: Name, origin: Name, wake: Arc<Notify>) -> Self {
        Self {
            tenant,
            origin,
            wake,
            draining: false,
            messages: HashMap::new(),
            batches: VecDeque::new(),
            last: 0,
            parts: 0,
            bytes: 0,
            acknowledgements: Vec::new(),
            writes: Vec::new(),
            progress: Progress::default(),
            until: BTreeSet::new(),
            moving: HashMap::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.parts < IN_FLIGHT_MAX && self.bytes < IN_FLIGHT_BYTES_MAX
    }

    /// The source is opened anew: it hands over again what no stored cursor covers.
    pub(super) fn begin(&mut self) {
        self.draining = false;
        self.batches.clear();
    }

    pub(super) fn begin_batch(&mut self) -> u64 {
        self.last += 1;
        // Open until it is there whole.
        self.batches.push_back(OpenBatch {
            number: self.last,
            open: 1,
            is_lost: false,
            progress: Progress::default(),
        });
        self.last
    }

    pub(super) fn end_batch(&mut self, number: u64, cursor: Option<Cursor>) {
        if let Some(batch) = self.batches.back_mut() {
            batch.progress.cursor = cursor;
        }
        self.message_ended(number, false, Vec::new());
    }

    /// Adds a message; it has one part until [`SourceState::part_ended`].
    pub(super) fn begin_message(
        &mut self,
        batch: u64,
        acknowledgement: Acknowledgement,
        positions: Vec<PositionChange>,
    ) -> u64 {
        self.last += 1;
        if let Some(batch) = self.batches.back_mut() {
            batch.open += 1;
        }
        self.messages.insert(
            self.last,
            OpenMessage {
                acknowledgement,
                parts: 0,
                batch,
                positions,
                goes_back: false,
            },
        );
        self.begin_part(self.last, 0);
        self.last
    }

    pub(super) fn begin_part(&mut self, message: u64, bytes: usize) {
        if let Some(open) = self.messages.get_mut(&message) {
            open.parts += 1;
            self.parts += 1;
            self.bytes += bytes;
        }
    }

    pub(super) fn part_ended(&mut self, message: u64, bytes: usize, goes_back: bool) {
        let Some(open) = self.messages.get_mut(&message) else {
            return;
        };
        open.parts -= 1;
        open.goes_back |= goes_back;
        self.parts -= 1;
        self.bytes -= bytes;
        self.wake.notify_one();
        if open.parts > 0 {
            return;
        }
        let is_acknowledged = !matches!(open.acknowledgement, Acknowledgement::None);
        if is_acknowledged && !open.goes_back && !open.positions.is_empty() {
            // Its source would not hand it over again: what it changes is stored before that.
            let positions = std::mem::take(&mut open.positions);
            self.begin_part(message, 0);
            self.writes.push(PendingWrite {
                positions,
                ..PendingWrite::of(message, self.origin.clone())
            });
            return;
        }
        let Some(OpenMessage {
            acknowledgement,
            batch,
            goes_back,
            positions,
            ..
        }) = self.messages.remove(&message)
        else {
            return;
        };
        if is_acknowledged {
            self.acknowledgements.push((
                acknowledgement,
                if goes_back {
                    Verdict::Failed
                } else {
                    Verdict::Stored
                },
            ));
        }
        self.message_ended(batch, goes_back, positions);
    }

    /// By when a message's source wants the verdict.
    pub(super) fn ack_deadline(&self, message: u64) -> Option<Instant> {
        self.messages
            .get(&message)
            .and_then(|open| open.acknowledgement.deadline())
    }

    pub(super) fn goes_back(&self, message: u64) -> bool {
        self.draining
            || self
                .messages
                .get(&message)
                .is_none_or(|open| open.goes_back)
    }

    /// True where nothing durable is to be made of a message's deliveries: its source hands it over
    /// again.
    pub(super) fn is_orphan(&self, message: u64) -> bool {
        self.messages
            .get(&message)
            .is_none_or(|open| open.goes_back)
    }

    /// The source has broken off: nobody is there to hear of what it had handed over, and it will
    /// hand that over again.
    pub(super) fn orphan(&mut self) {
        for open in self.messages.values_mut() {
            // Who waits hears that it failed.
            (open.goes_back, open.acknowledgement) = (true, Acknowledgement::None);
        }
        self.batches.clear();
    }

    fn message_ended(&mut self, batch: u64, goes_back: bool, positions: Vec<PositionChange>) {
        let Ok(index) = self
            .batches
            .binary_search_by_key(&batch, |batch| batch.number)
        else {
            return;
        };
        let Some(batch) = self.batches.get_mut(index) else {
            return;
        };
        batch.open -= 1;
        batch.is_lost |= goes_back;
        let changes = positions.into_iter().map(|one| (one.key, one.value));
        batch.progress.positions.extend(changes);
        if batch.has_ended() {
            self.batch_ended(index);
        }
    }

    /// Batches that have ended side by side become one, so that there are never more than about two
    /// for each that has not.
    fn batch_ended(&mut self, index: usize) {
        let has_ended = |index: Option<usize>| {
            index
                .and_then(|index| self.batches.get(index))
                .is_some_and(OpenBatch::has_ended)
        };
        let (before, behind) = (has_ended(index.checked_sub(1)), has_ended(Some(index + 1)));
        if behind {
            self.merge(index);
        }
        if before {
            self.merge(index - 1);
        }
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.has_ended()) {
            self.progress.add(batch.progress);
            self.wake.notify_one();
        }
    }

    /// Makes one of a batch and the next.
    fn merge(&mut self, index: usize) {
        let Some(next) = self.batches.remove(index + 1) else {
            return;
        };
        if let Some(batch) = self.batches.get_mut(index) {
            batch.progress.add(next.progress);
        }
    }
}
