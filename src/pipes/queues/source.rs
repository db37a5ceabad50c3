//! What a source does to the queues: it comes, hands over, stops, breaks off, goes.

use std::sync::Arc;

use pointsman_connectors::Acknowledgement;
use pointsman_journal::queue;
use pointsman_schemas::{Cursor, Event, Name, Reject, SubscriptionNumber, Timestamp};
use tokio::sync::Notify;

use super::{HoldKey, PipeQueues, Slot, Subscribed};
use crate::pipes::closing::Closing;
use crate::pipes::hold::Hold;

/// A message to be taken in.
#[derive(Debug)]
pub(in crate::pipes) struct Offered {
    pub(in crate::pipes) acknowledgement: Acknowledgement,
    /// Each event with its subscription and order key.
    pub(in crate::pipes) deliveries: Vec<(Arc<Event>, SubscriptionNumber, Option<u64>)>,
    pub(in crate::pipes) rejects: Vec<Reject>,
    /// True where it is not taken in at all.
    pub(in crate::pipes) goes_back: bool,
}

impl PipeQueues {
    /// Makes room for what a source will hand over.
    pub(in crate::pipes) fn enter(
        &mut self,
        tenant: Name,
        origin: Name,
        wake: Arc<Notify>,
    ) -> HoldKey {
        self.last_sequence += 1;
        let key = HoldKey(self.last_sequence);
        self.holds.insert(key, Hold::new(tenant, origin, wake));
        key
    }

    pub(in crate::pipes) fn hold(&mut self, key: HoldKey) -> Option<&mut Hold> {
        self.holds.get_mut(&key)
    }

    /// Whether the source may be asked for more, which this subscription of its pipe would be
    /// given.
    pub(in crate::pipes) fn may_pull(
        &self,
        key: HoldKey,
        pipe: Option<SubscriptionNumber>,
    ) -> bool {
        // Of a target that refuses, what waits for it asks again; where nothing does, the next
        // message has to.
        let waits = |one: &Subscribed| one.is_refused && one.counts.pending > 0;
        let goes = |number| {
            !self.inactive.contains(&number) && !self.subscriptions.get(&number).is_some_and(waits)
        };
        pipe.is_some_and(goes)
            && self
                .holds
                .get(&key)
                .is_some_and(|hold| !hold.draining && hold.has_room())
    }

    /// Takes a batch in.
    pub(in crate::pipes) fn offer(
        &mut self,
        key: HoldKey,
        messages: Vec<Offered>,
        cursor: Option<Cursor>,
        now: Timestamp,
    ) {
        self.turn(now);
        let Some(hold) = self.holds.get_mut(&key) else {
            return;
        };
        let batch = hold.begin_batch();
        for Offered {
            acknowledgement,
            deliveries,
            rejects,
            goes_back,
        } in messages
        {
            let Some(hold) = self.holds.get_mut(&key) else {
                return;
            };
            let message = hold.begin_message(batch, acknowledgement);
            if !rejects.is_empty() {
                let bytes = rejects.iter().map(|reject| reject.raw.len()).sum();
                hold.begin_part(message, bytes);
                let (origin, entries) = (hold.origin.clone(), Vec::new());
                hold.closings.push(Closing {
                    message,
                    origin,
                    entries,
                    rejects,
                    bytes,
                    buries: None,
                });
            }
            for (event, subscription, order_key) in deliveries {
                self.take_in(key, message, event, subscription, order_key, now);
            }
            if let Some(hold) = self.holds.get_mut(&key) {
                hold.part_ended(message, 0, goes_back);
            }
        }
        if let Some(hold) = self.holds.get_mut(&key) {
            hold.end_batch(batch, cursor);
        }
    }

    fn take_in(
        &mut self,
        hold_key: HoldKey,
        message: u64,
        event: Arc<Event>,
        subscription: SubscriptionNumber,
        order_key: Option<u64>,
        now: Timestamp,
    ) {
        let Some(hold) = self.holds.get_mut(&hold_key) else {
            return;
        };
        hold.begin_part(message, event.size_bytes());
        let until = hold.told_by(message);
        let (tenant, origin) = (hold.tenant.clone(), hold.origin.clone());
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let (last, lease) = (None, None);
        let slot = Slot {
            hold: hold_key,
            message,
            subscription,
            tenant,
            origin,
            event,
            order_key,
            since: now,
            due: now,
            attempts: 0,
            failures: 0,
            last,
            lease,
            until,
            is_late: false,
        };
        hold.until.extend(until.map(|until| (until, sequence)));
        let (place, waits) = (slot.place(sequence), {
            let (is_immediate, carried) = (true, ());
            queue::Slot::one(sequence, is_immediate, order_key, carried)
        });
        self.slots.insert(sequence, slot);
        let subscribed = self.subscribed(subscription);
        subscribed.counts.created += 1;
        subscribed.counts.pending += 1;
        // An earlier one of its key may wait in the journal.
        let may_follow = order_key.is_some() && !subscribed.nothing_before;
        let is_behind = order_key.is_some_and(|key| self.machine.is_busy(subscription, key));
        self.machine.insert(subscription, place, waits);
        if may_follow && !is_behind {
            self.move_to_journal(sequence);
        }
    }

    /// What is known of a subscription, which is open for leasing unless it is paused.
    pub(super) fn subscribed(&mut self, number: SubscriptionNumber) -> &mut Subscribed {
        let is_active = !self.inactive.contains(&number);
        self.subscriptions.entry(number).or_insert_with(|| {
            self.machine.set_open(number, is_active);
            Subscribed::default()
        })
    }

    fn of_hold(&self, key: HoldKey, also_leased: bool) -> Vec<u64> {
        let is_meant = |slot: &Slot| slot.hold == key && (also_leased || slot.lease.is_none());
        let mut sequences: Vec<u64> = self
            .slots
            .iter()
            .filter(|(_, slot)| is_meant(slot))
            .map(|(sequence, _)| *sequence)
            .collect();
        // The latest first, so that none becomes ready by the end of an earlier one of its key.
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        sequences
    }

    /// Takes no more in: what has no attempt under way goes back. Tells how many have one.
    pub(in crate::pipes) fn drain(&mut self, key: HoldKey) -> usize {
        if let Some(hold) = self.holds.get_mut(&key)
            && !std::mem::replace(&mut hold.draining, true)
        {
            for sequence in self.of_hold(key, false) {
                self.hand_back(sequence);
            }
        }
        self.of_hold(key, true).len()
    }

    /// The source has broken off, and hands over again whatever it has not been told of.
    pub(in crate::pipes) fn orphan(&mut self, key: HoldKey) {
        let Some(hold) = self.holds.get_mut(&key) else {
            return;
        };
        hold.orphan();
        for closing in std::mem::take(&mut hold.closings) {
            self.closed(key, &closing, true);
        }
        for sequence in self.of_hold(key, false) {
            self.hand_back(sequence);
        }
    }

    /// Forgets what a source has handed over, attempts under way included.
    pub(in crate::pipes) fn forget(&mut self, key: HoldKey) {
        for sequence in self.of_hold(key, true) {
            self.hand_back(sequence);
        }
    }

    /// The source is gone.
    pub(in crate::pipes) fn leave(&mut self, key: HoldKey) {
        self.forget(key);
        let Some(hold) = self.holds.remove(&key) else {
            return;
        };
        for (subscription, unburied) in hold.unburied {
            for _ in 0..unburied {
                self.cancelled(subscription);
            }
        }
    }
}
