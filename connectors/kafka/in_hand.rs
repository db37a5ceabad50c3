//! The records that have been read and not yet settled, and how far each partition may be committed.
//!
//! Kafka counts no single messages: a group remembers one offset for each partition, and everything
//! before it counts as done. So what is committed is the offset up to which everything is settled
//! without a gap, whatever has been settled behind it.
//!
//! Records of a partition are handed over in its order. One that could not be stored comes again
//! before those behind it that have not been handed over yet, which wait with it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use krafka::ConsumerRecord;
use krafka::consumer::{OffsetAndMetadata, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::SourceError;

/// The most records in hand before no more are asked for.
pub(super) const MESSAGES_MAX: usize = 8_192;

/// The most bytes of them.
pub(super) const BYTES_MAX: usize = 32 << 20;

/// What part of it a partition may have, so that one which is stuck holds up no other.
const SHARE: usize = 4;

/// All that a source has in hand.
#[derive(Default)]
pub(super) struct InHand {
    inner: Mutex<Inner>,
    /// Something may be handed over, or the source has ended.
    arrived: Notify,
    /// Something has been settled.
    settled: Notify,
}

/// A record in hand.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: ConsumerRecord,
    /// The assignment that it came by.
    assignment: u64,
}

#[derive(Default)]
struct Inner {
    assignments: HashMap<u64, Assignment, foldhash::fast::RandomState>,
    /// The assignment in force of each partition that this member has.
    current: HashMap<TopicPartition, u64>,
    /// How many assignments there have been.
    count: u64,
    /// The assignment that was handed over from last.
    turn: u64,
    messages: usize,
    bytes: usize,
    ended: Option<SourceError>,
}

/// A partition for as long as it is this member's.
struct Assignment {
    partition: TopicPartition,
    /// From the first that is not settled on, in order.
    entries: VecDeque<Entry>,
    /// What is to be handed over, in order.
    waiting: VecDeque<Arc<Held>>,
    /// Nothing is handed over before, since something could not be stored.
    rests_until: Option<Instant>,
    /// How many records have been handed over and are not settled.
    handed: usize,
    /// Those of its entries.
    bytes: usize,
    /// What everything before is settled.
    settled_to: Option<Mark>,
    /// What was last committed.
    committed: Option<i64>,
    /// The offset behind the last record that arrived.
    next: Option<i64>,
    /// True once it is being given up.
    is_revoked: bool,
}

struct Entry {
    offset: i64,
    epoch: Option<i32>,
    bytes: usize,
    is_settled: bool,
}

/// An offset to be read next, and the leader's epoch of the record before it.
#[derive(Clone, Copy)]
struct Mark {
    offset: i64,
    epoch: Option<i32>,
}

/// Offsets to commit.
pub(super) type Offsets = Vec<(TopicPartition, OffsetAndMetadata)>;

impl InHand {
    /// A partition is this member's from here on, and is read from an offset on, where that is known.
    pub(super) fn assign(&self, partition: TopicPartition, next: Option<i64>) {
        self.inner.lock().assign(partition, next);
    }

    /// A partition of this member's is read on from its first record. What is in hand of it stays so
    /// where that is merely ahead: nobody else has it any longer.
    pub(super) fn go_on_at(&self, partition: TopicPartition, first: i64) {
        let mut inner = self.inner.lock();
        let number = inner.current.get(&partition).copied();
        let current = number.and_then(|number| inner.assignments.get_mut(&number));
        let ahead = current.filter(|current| current.next.is_some_and(|next| next <= first));
        let Some(assignment) = ahead else {
            inner.assign(partition, Some(first));
            return;
        };
        assignment.next = Some(first);
        if assignment.entries.is_empty() {
            assignment.settled_to = Some(Mark {
                offset: first,
                epoch: None,
            });
        }
    }

    /// Takes what has been read.
    pub(super) fn arrive(&self, records: Vec<ConsumerRecord>) {
        let mut inner = self.inner.lock();
        // They come in runs of one partition.
        let mut run: Option<(TopicPartition, u64)> = None;
        for record in records {
            let is_next = |(partition, _): &(TopicPartition, u64)| {
                partition.partition == record.partition && partition.topic == *record.topic
            };
            if !run.as_ref().is_some_and(is_next) {
                let partition = TopicPartition::new(&*record.topic, record.partition);
                let known = inner.current.get(&partition).copied();
                let number = known.unwrap_or_else(|| inner.assign(partition.clone(), None));
                run = Some((partition, number));
            }
            if let Some((_, number)) = run {
                inner.arrive(number, record);
            }
        }
        drop(inner);
        self.arrived.notify_one();
    }

    /// Takes records to hand over: of each partition in its order, and of none that rests.
    pub(super) fn take(&self, messages_max: usize, bytes_max: usize) -> Vec<Arc<Held>> {
        self.inner.lock().take(messages_max, bytes_max)
    }

    /// Waits until there may be something to take, or the source has ended. Safe to cancel.
    pub(super) async fn arrived(&self) {
        let due = self.inner.lock().due();
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.arrived.notified() => {}
            () = due => {}
        }
    }

    /// Everything in a record has been stored, or never will be.
    pub(super) fn settle(&self, held: &Held) {
        self.inner.lock().settle(held);
        self.settled.notify_waiters();
    }

    /// Nothing of a record could be stored: it is handed over again after a while.
    pub(super) fn give_back(&self, held: Arc<Held>, after: Duration) {
        self.inner.lock().give_back(held, Instant::now() + after);
        self.settled.notify_waiters();
        self.arrived.notify_one();
    }

    /// The partitions of which no more is to be asked for, where it is not asked for these now. One
    /// that is paused stays so until half of what it may have is settled.
    pub(super) fn full(&self, paused: &HashSet<TopicPartition>) -> HashSet<TopicPartition> {
        let inner = self.inner.lock();
        let is_everything = inner.messages >= MESSAGES_MAX || inner.bytes >= BYTES_MAX;
        let assignments = inner.assignments.values();
        let full = assignments.filter(|assignment| {
            is_everything || assignment.is_full(paused.contains(&assignment.partition))
        });
        full.map(|assignment| assignment.partition.clone())
            .collect()
    }

    /// Waits until some of what is paused need not be any longer. Safe to cancel.
    pub(super) async fn loosens(&self, paused: &HashSet<TopicPartition>) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if !paused.is_subset(&self.full(paused)) {
                return;
            }
            settled.await;
        }
    }

    /// The offset that is to be read next of a partition, where that is known.
    pub(super) fn next_of(&self, partition: &TopicPartition) -> Option<i64> {
        let inner = self.inner.lock();
        let number = inner.current.get(partition)?;
        inner.assignments.get(number)?.next
    }

    /// What is to be committed that has not been.
    pub(super) fn uncommitted(&self) -> Offsets {
        let inner = self.inner.lock();
        let assignments = inner.assignments.values();
        assignments.filter_map(Assignment::uncommitted).collect()
    }

    /// These have been committed.
    pub(super) fn committed(&self, offsets: &Offsets) {
        let mut inner = self.inner.lock();
        for (partition, offset) in offsets {
            let number = inner.current.get(partition).copied();
            if let Some(assignment) = number.and_then(|number| inner.assignments.get_mut(&number)) {
                assignment.committed = Some(offset.offset);
            }
        }
    }

    /// Hands over no more of these partitions, and waits until all that was handed over is settled.
    pub(super) async fn drain(&self, partitions: &[TopicPartition]) {
        self.inner.lock().revoke(partitions);
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if !self.inner.lock().is_handed(partitions) {
                return;
            }
            settled.await;
        }
    }

    /// Forgets these partitions, and tells what of them is settled and not committed.
    pub(super) fn remove(&self, partitions: &[TopicPartition]) -> Offsets {
        let mut inner = self.inner.lock();
        let offsets = partitions
            .iter()
            .filter_map(|partition| inner.remove(partition)?.uncommitted())
            .collect();
        drop(inner);
        self.settled.notify_waiters();
        offsets
    }

    /// Nothing more will come.
    pub(super) fn end(&self, why: SourceError) {
        self.inner.lock().ended.get_or_insert(why);
        self.arrived.notify_one();
    }

    /// Why nothing more will come.
    pub(super) fn ended(&self) -> Option<SourceError> {
        self.inner.lock().ended.clone()
    }
}

impl Inner {
    fn assign(&mut self, partition: TopicPartition, next: Option<i64>) -> u64 {
        self.remove(&partition);
        self.count += 1;
        self.current.insert(partition.clone(), self.count);
        let assignment = Assignment {
            partition,
            entries: VecDeque::new(),
            waiting: VecDeque::new(),
            rests_until: None,
            handed: 0,
            bytes: 0,
            settled_to: next.map(|offset| Mark {
                offset,
                epoch: None,
            }),
            committed: None,
            next,
            is_revoked: false,
        };
        self.assignments.insert(self.count, assignment);
        self.count
    }

    fn arrive(&mut self, number: u64, record: ConsumerRecord) {
        let Some(assignment) = self.assignments.get_mut(&number) else {
            return;
        };
        let bytes = size(&record);
        let (offset, epoch) = (record.offset, record.leader_epoch);
        assignment.settled_to.get_or_insert(Mark {
            offset,
            epoch: None,
        });
        assignment.next = Some(offset + 1);
        assignment.entries.push_back(Entry {
            offset,
            epoch,
            bytes,
            is_settled: false,
        });
        if !assignment.is_revoked {
            assignment.waiting.push_back(Arc::new(Held {
                record,
                assignment: number,
            }));
        }
        assignment.bytes += bytes;
        self.messages += 1;
        self.bytes += bytes;
    }

    fn take(&mut self, messages_max: usize, bytes_max: usize) -> Vec<Arc<Held>> {
        let now = Instant::now();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut numbers: Vec<u64> = self
            .assignments
            .iter()
            .filter(|(_, assignment)| assignment.is_due(now))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        // Whoever comes behind the one that was served last: a partition with a long backlog holds up
        // no other.
        let first = numbers.partition_point(|number| *number <= self.turn);
        numbers.rotate_left(first);
        for number in numbers {
            let Some(assignment) = self.assignments.get_mut(&number) else {
                continue;
            };
            assignment.rests_until = None;
            while taken.len() < messages_max
                && bytes < bytes_max
                && let Some(held) = assignment.waiting.pop_front()
            {
                bytes += size(&held.record);
                assignment.handed += 1;
                taken.push(held);
                self.turn = number;
            }
        }
        taken
    }

    /// When a partition has rested that has something to hand over.
    fn due(&self) -> Option<Instant> {
        let waiting = self.assignments.values();
        waiting
            .filter(|assignment| !assignment.waiting.is_empty())
            .filter_map(|assignment| assignment.rests_until)
            .min()
    }

    fn settle(&mut self, held: &Held) {
        let Some(assignment) = self.assignments.get_mut(&held.assignment) else {
            return;
        };
        let Some(entry) = assignment.entry(held.record.offset) else {
            return;
        };
        entry.is_settled = true;
        assignment.handed -= 1;
        while let Some(entry) = assignment.entries.pop_front_if(|entry| entry.is_settled) {
            assignment.bytes -= entry.bytes;
            self.messages -= 1;
            self.bytes -= entry.bytes;
            assignment.settled_to = Some(Mark {
                offset: entry.offset + 1,
                epoch: entry.epoch,
            });
        }
    }

    fn give_back(&mut self, held: Arc<Held>, due: Instant) {
        let Some(assignment) = self.assignments.get_mut(&held.assignment) else {
            return;
        };
        assignment.handed -= 1;
        if assignment.is_revoked {
            return;
        }
        let offset = held.record.offset;
        let at = assignment
            .waiting
            .partition_point(|other| other.record.offset < offset);
        assignment.waiting.insert(at, held);
        assignment.rests_until = Some(assignment.rests_until.map_or(due, |until| until.max(due)));
    }

    fn of<'s>(
        &'s mut self,
        partitions: &'s [TopicPartition],
    ) -> impl Iterator<Item = u64> + use<'s> {
        partitions
            .iter()
            .filter_map(|partition| self.current.get(partition).copied())
    }

    fn revoke(&mut self, partitions: &[TopicPartition]) {
        let numbers: Vec<u64> = self.of(partitions).collect();
        for number in numbers {
            if let Some(assignment) = self.assignments.get_mut(&number) {
                assignment.is_revoked = true;
                assignment.waiting.clear();
            }
        }
    }

    fn is_handed(&mut self, partitions: &[TopicPartition]) -> bool {
        let numbers: Vec<u64> = self.of(partitions).collect();
        numbers.iter().any(|number| {
            let assignment = self.assignments.get(number);
            assignment.is_some_and(|assignment| assignment.handed > 0)
        })
    }

    fn remove(&mut self, partition: &TopicPartition) -> Option<Assignment> {
        let number = self.current.remove(partition)?;
        let assignment = self.assignments.remove(&number)?;
        self.messages -= assignment.entries.len();
        self.bytes -= assignment.bytes;
        Some(assignment)
    }
}

impl Assignment {
    fn entry(&mut self, offset: i64) -> Option<&mut Entry> {
        let at = self
            .entries
            .binary_search_by_key(&offset, |entry| entry.offset);
        self.entries.get_mut(at.ok()?)
    }

    fn is_full(&self, is_paused: bool) -> bool {
        let share = if is_paused { SHARE * 2 } else { SHARE };
        self.entries.len() >= MESSAGES_MAX / share || self.bytes >= BYTES_MAX / share
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.waiting.is_empty() && self.rests_until.is_none_or(|until| until <= now)
    }

    fn uncommitted(&self) -> Option<(TopicPartition, OffsetAndMetadata)> {
        let Mark { offset, epoch } = self
            .settled_to
            .filter(|mark| self.committed != Some(mark.offset))?;
        let offset = match epoch {
            Some(epoch) => OffsetAndMetadata::with_epoch(offset, epoch),
            None => OffsetAndMetadata::new(offset),
        };
        Some((self.partition.clone(), offset))
    }
}

/// The bytes that a record takes, roughly.
fn size(record: &ConsumerRecord) -> usize {
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + length(value))
        .sum();
    length(&record.key) + length(&record.value) + headers
}

#[cfg(test)]
mod tests;
