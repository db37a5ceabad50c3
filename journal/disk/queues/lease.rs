//! Leasing from the windows: goes on where it stopped once what it lacked has been read.

use std::collections::HashMap;

use pointsman_schemas::Timestamp;
use tokio::time::Instant;

use super::{Lease, Moment, Queues, Slot, SlotKey};
use crate::disk::record::{Damage, Kept};
use crate::disk::row::RowKey;
use crate::{Cut, Grant, LeaseOwner, LeaseToken, Leased, Leases};

/// Events that are read from the disk at once. A busy target frees its slots one by one: where each
/// lease had its one event read, a backlog would be drained no faster than the loader's thread can
/// be woken.
const EVENTS_PER_LOAD: usize = 128;

/// How far in the future a lease may end: "for ever", and no overflow.
const LEASE_MAX: std::time::Duration = std::time::Duration::from_secs(60 * 60 * 24 * 365);

/// Events read from the disk, or why they cannot be.
pub(in crate::disk) type Found = HashMap<u64, Result<std::sync::Arc<Kept>, Damage>>;

/// A call of `lease` under way.
#[derive(Debug)]
pub(in crate::disk) struct Leasing {
    grants: Vec<Grant>,
    bytes_max: usize,
    now: Moment,
    at: usize,
    /// Of the grant under way.
    taken: usize,
    grant_bytes: usize,
    bytes: usize,
    pub(in crate::disk) leases: Leases,
    /// Deliveries whose event cannot be read, taken out of their queue.
    pub(in crate::disk) damaged: Vec<Damaged>,
}

/// A delivery whose event cannot be read.
#[derive(Debug)]
pub(in crate::disk) struct Damaged {
    pub(in crate::disk) key: RowKey,
    pub(in crate::disk) block: Option<u64>,
    pub(in crate::disk) due: Timestamp,
    pub(in crate::disk) why: Damage,
}

/// What a call of `lease` lacks.
#[derive(Debug)]
pub(in crate::disk) enum Need {
    Nothing,
    /// The rows of a subscription behind its window.
    Rows(u32),
    /// These events.
    Events(Vec<u64>),
}

impl Leasing {
    pub(in crate::disk) fn new(grants: Vec<Grant>, bytes_max: usize, now: Moment) -> Self {
        Self {
            grants,
            bytes_max,
            now,
            at: 0,
            taken: 0,
            grant_bytes: 0,
            bytes: 0,
            leases: Leases::default(),
            damaged: Vec::new(),
        }
    }

    /// Leases as far as memory and `found` reach.
    pub(in crate::disk) fn run(&mut self, queues: &mut Queues, found: &Found) -> Need {
        queues.turn(self.now);
        while let Some(grant) = self.grants.get(self.at).copied() {
            let number = grant.subscription.0;
            let first_token = queues.last_token + 1;
            let until = self.now.instant + grant.lease.min(LEASE_MAX);
            let need = loop {
                if self.taken >= grant.count {
                    break None;
                }
                match queues.next(number) {
                    Next::Nothing => break None,
                    Next::Unloaded => break Some(Need::Rows(number)),
                    Next::Delivery(key, sequence) => {
                        let cached = queues.cache.get(sequence).cloned().map(Ok);
                        let Some(kept) = cached.or_else(|| found.get(&sequence).cloned()) else {
                            break Some(Need::Events(queues.upcoming(number)));
                        };
                        match kept {
                            Err(why) => {
                                self.damaged
                                    .extend(queues.pop(number, key).map(|(key, slot)| {
                                        let (due, sequence, run) = key;
                                        let key = RowKey {
                                            subscription: number,
                                            sequence,
                                            run,
                                        };
                                        Damaged {
                                            key,
                                            block: slot.in_block.then_some(slot.row),
                                            due: Timestamp(due),
                                            why,
                                        }
                                    }))
                            }
                            Ok(kept) => {
                                let size = kept.event.size_bytes();
                                if self.bytes + size > self.bytes_max
                                    || self.grant_bytes + size > grant.bytes_max
                                {
                                    self.leases.cut.push(Cut {
                                        subscription: grant.subscription,
                                        event_bytes: size,
                                    });
                                    break None;
                                }
                                self.bytes += size;
                                self.grant_bytes += size;
                                self.taken += 1;
                                self.leases
                                    .leased
                                    .extend(queues.take(number, key, &kept, until));
                            }
                        }
                    }
                }
            };
            if queues.last_token >= first_token {
                queues
                    .deadlines
                    .entry(until)
                    .or_default()
                    .push(first_token..queues.last_token + 1);
            }
            queues.after_lease(number);
            if let Some(need) = need {
                return need;
            }
            self.at += 1;
            (self.taken, self.grant_bytes) = (0, 0);
        }
        Need::Nothing
    }
}

enum Next {
    Nothing,
    Unloaded,
    Delivery(SlotKey, u64),
}

impl Queues {
    /// What of a queue may be leased next.
    fn next(&mut self, subscription: u32) -> Next {
        let time = self.time.0;
        let Some(queue) = self
            .queues
            .get_mut(&subscription)
            .filter(|queue| queue.open && !queue.held)
        else {
            return Next::Nothing;
        };
        loop {
            let Some(key) = queue.front(time) else {
                // What lies beyond is due no earlier than `beyond`, unless it was made to be due at
                // once.
                let unloaded = queue
                    .beyond
                    .is_some_and(|beyond| beyond.0 <= time.max(queue.newest))
                    || queue.window.is_empty();
                return if queue.beyond.is_some() && unloaded {
                    Next::Unloaded
                } else {
                    Next::Nothing
                };
            };
            let Some(slot) = queue.window.get(&key) else {
                return Next::Nothing;
            };
            let Some(sequence) = slot.sequences.last().copied() else {
                return Next::Nothing;
            };
            let second = queue
                .window
                .range((std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded))
                .next();
            // A block's later deliveries let others with the same due time and a lower sequence go
            // first.
            if second.is_some_and(|(second, _)| second.0 == key.0 && second.1 < sequence)
                && let Some(slot) = queue.window.remove(&key)
            {
                queue.window.insert((key.0, sequence, key.2), slot);
                continue;
            }
            return Next::Delivery(key, sequence);
        }
    }

    /// The sequences of the next deliveries whose events are not in memory, as far as the window
    /// knows.
    fn upcoming(&self, subscription: u32) -> Vec<u64> {
        let Some(queue) = self.queues.get(&subscription) else {
            return Vec::new();
        };
        let slots = queue
            .window
            .iter()
            .filter(|(key, slot)| key.0 <= self.time.0 || slot.immediate);
        let sequences = slots.flat_map(|(_, slot)| slot.sequences.iter().rev().copied());
        sequences
            .filter(|sequence| self.cache.get(*sequence).is_none())
            .take(EVENTS_PER_LOAD)
            .collect()
    }

    /// Takes the next delivery of a slot out of the window; its key is (due, sequence, run).
    fn pop(&mut self, subscription: u32, key: SlotKey) -> Option<((i64, u64, u64), Slot)> {
        let queue = self.queues.get_mut(&subscription)?;
        let slot = queue.window.get_mut(&key)?;
        let sequence = slot.sequences.pop()?;
        let run = slot.run(&key);
        let Slot {
            row,
            in_block,
            immediate,
            since,
            attempts,
            failures,
            order_key,
            ..
        } = *slot;
        if slot.sequences.is_empty() {
            queue.window.remove(&key);
        }
        queue.waiting -= 1;
        self.waiting -= 1;
        let alone = Slot {
            row,
            in_block,
            sequences: smallvec::SmallVec::new(),
            immediate,
            since,
            attempts,
            failures,
            order_key,
        };
        Some(((key.0, sequence, run), alone))
    }

    fn take(
        &mut self,
        subscription: u32,
        key: SlotKey,
        kept: &std::sync::Arc<Kept>,
        until: Instant,
    ) -> Option<Leased> {
        let ((due, sequence, run), slot) = self.pop(subscription, key)?;
        self.last_token += 1;
        let block = slot.in_block.then_some(slot.row);
        let Slot {
            immediate,
            since,
            attempts,
            failures,
            order_key,
            ..
        } = slot;
        let key = RowKey {
            subscription,
            sequence,
            run,
        };
        let (due, origin) = (Timestamp(due), kept.origin.clone());
        let lease = Lease {
            key,
            block,
            due,
            since,
            immediate,
            attempts,
            failures,
            order_key,
            origin,
            until,
            settling: false,
        };
        self.leases.insert(self.last_token, lease);
        if let Some(order_key) = order_key {
            self.keys.insert((subscription, order_key), None);
        }
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.in_flight += 1;
        }
        Some(Leased {
            token: LeaseToken::new(LeaseOwner::Disk, self.last_token),
            id: self.epochs.id(subscription, sequence, run),
            event: std::sync::Arc::clone(&kept.event),
            tenant: kept.tenant.clone(),
            origin: kept.origin.clone(),
            attempts,
            failures,
            since,
        })
    }

    /// Sees to what was left: the next that falls due, and a window that has run low.
    fn after_lease(&mut self, subscription: u32) {
        let low = self.capacity() / 4;
        let Some(queue) = self.queues.get(&subscription) else {
            return;
        };
        let next = queue
            .window
            .range((self.time.0.saturating_add(1), 0, 0)..)
            .next()
            .map(|(key, _)| key.0);
        if queue.beyond.is_some() && queue.waiting < low {
            self.low.insert(subscription);
        }
        if let Some(due) = next {
            self.arm(subscription, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use pointsman_schemas::SubscriptionNumber;

    use super::*;
    use crate::disk::queues::Effect;
    use crate::disk::row::PendingRow;

    #[test]
    fn events_are_read_ahead_of_a_target_that_frees_one_slot_at_a_time() {
        let now = Moment {
            time: Timestamp(0),
            instant: Instant::now(),
        };
        let mut queues = Queues::new(0, Arc::default());
        queues.know(1, true, false);
        let all: Vec<u64> = (1..=200).collect();
        queues.apply(
            all.chunks(50)
                .map(|chunk| Effect::Insert(PendingRow::block(1, chunk, now.time))),
            now.time,
        );
        let grant = Grant {
            subscription: SubscriptionNumber(1),
            count: 1,
            lease: Duration::from_secs(60),
            bytes_max: usize::MAX,
        };
        match Leasing::new(vec![grant], usize::MAX, now).run(&mut queues, &Found::new()) {
            Need::Events(sequences) => assert_eq!(sequences, all[..EVENTS_PER_LOAD]),
            need => panic!("{need:?}"),
        }
    }
}
