//! What is to be seen.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber};

use super::state::{Delivery, State};
use crate::queue::DeliveryKey;
use crate::{
    BEHIND_MAX, BlockedKey, BlockedPage, Counts, DeadLetter, DeadSelection, EventPage, EventsFrom,
    Pending, StoredEvent, SubscriptionStatus, Totals,
};

impl State {
    pub(super) fn statuses(&self) -> Vec<SubscriptionStatus> {
        let statuses = self.all_subscribed().map(|(number, subscribed)| {
            let since = subscribed.pending.values().map(|delivery| delivery.since);
            SubscriptionStatus {
                number,
                identity: subscribed.identity.clone(),
                attached: subscribed.attached,
                activity: subscribed.activity,
                counts: Counts {
                    in_flight: self.queues.in_flight(number) as u64,
                    ..subscribed.counts
                },
                oldest_pending: since.min(),
            }
        });
        statuses.collect()
    }

    pub(super) fn dead_letters(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Vec<DeadLetter> {
        let after = after.map(|id| (id.sequence, id.subscription, id.run));
        let later = self.dead.iter().filter(|(key, dead)| {
            after.is_none_or(|after| **key > after) && selection.selects(&dead.letter)
        });
        later
            .take(limit)
            .map(|(_, dead)| dead.letter.clone())
            .collect()
    }

    pub(super) fn pending(
        &self,
        number: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Vec<Pending> {
        let found = self.all_subscribed().find(|(other, _)| *other == number);
        let pending = found.into_iter().flat_map(|(_, one)| &one.pending);
        let later =
            pending.filter(|((sequence, _), _)| after.is_none_or(|after| *sequence > after));
        let leased = self.queues.leased(number);
        let shown = later
            .take(limit)
            .map(|(at, delivery)| self.seen((number, *at), delivery, &leased));
        shown.collect()
    }

    pub(super) fn pending_of(&self, event: Sequence, limit: usize) -> Vec<Pending> {
        let mut shown = Vec::new();
        for (number, subscribed) in self.all_subscribed() {
            let leased = self.queues.leased(number);
            let runs = subscribed.pending.range((event, 0)..=(event, u64::MAX));
            shown.extend(runs.map(|(at, delivery)| self.seen((number, *at), delivery, &leased)));
        }
        shown.sort_unstable_by_key(|one| (one.id.subscription, one.id.run));
        shown.truncate(limit);
        shown
    }

    fn seen(
        &self,
        (subscription, (sequence, run)): (SubscriptionNumber, (Sequence, u64)),
        delivery: &Delivery,
        leased: &HashSet<(u64, u64)>,
    ) -> Pending {
        let id = self.id(DeliveryKey {
            subscription,
            sequence: sequence.0,
            run,
        });
        delivery.shown(id, leased.contains(&(sequence.0, run)))
    }

    pub(super) fn blocked(
        &self,
        number: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> BlockedPage {
        let mut keys: BTreeMap<i64, BlockedKey> = BTreeMap::new();
        for head in self.pending(number, None, usize::MAX) {
            let Some(order_key) = head.order_key else {
                continue;
            };
            let counted = keys.entry(order_key.cast_signed());
            counted
                .and_modify(|key| key.behind = (key.behind + 1).min(BEHIND_MAX))
                .or_insert(BlockedKey { head, behind: 0 });
        }
        let mut page = BlockedPage::default();
        let mut last = after;
        let from = after.map_or(Bound::Unbounded, |after| {
            Bound::Excluded(after.cast_signed())
        });
        for (order_key, key) in keys.range((from, Bound::Unbounded)) {
            if page.keys.len() == limit {
                page.next = last;
                break;
            }
            last = Some(order_key.cast_unsigned());
            page.looked_at += 1;
            if key.head.blocks() {
                page.looked_at += key.behind;
                page.keys.push(key.clone());
            }
        }
        page
    }

    pub(super) fn events(&self, from: EventsFrom, limit: usize, bytes_max: usize) -> EventPage {
        let after = match from {
            EventsFrom::After(after) | EventsFrom::AfterSince(after, _) => after,
            EventsFrom::Time(time) => {
                let before = self
                    .events
                    .iter()
                    .take_while(|(_, retained)| retained.stored.at < time)
                    .last();
                before.map_or(Sequence(0), |(sequence, _)| *sequence)
            }
        };
        let mut page = EventPage::default();
        let mut bytes = 0_usize;
        for (sequence, retained) in self
            .events
            .range((Bound::Excluded(after), Bound::Unbounded))
        {
            bytes = bytes.saturating_add(retained.stored.event.size_bytes());
            if page.events.len() >= limit || (bytes > bytes_max && !page.events.is_empty()) {
                page.next = page.events.last().map(|last| last.sequence);
                break;
            }
            debug_assert_eq!(*sequence, retained.stored.sequence);
            page.events.push(retained.stored.clone());
        }
        page
    }

    pub(super) fn last_event(&self) -> Option<StoredEvent> {
        self.events
            .values()
            .next_back()
            .map(|retained| retained.stored.clone())
    }

    pub(super) fn event(&self, sequence: Sequence) -> Option<StoredEvent> {
        self.events
            .get(&sequence)
            .map(|retained| retained.stored.clone())
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            events: self.events.len() as u64,
            dead: self.dead.len() as u64,
            rejects: self.dead.keys().filter(|key| key.1.0 == 0).count() as u64,
            quarantined: 0,
            lost_commits: 0,
            bytes: self.bytes,
            bytes_max: self.options.bytes_max,
            keys: self.keys.len() as u64,
            last_sequence: self.last_sequence,
            dropped: self.dropped,
        }
    }
}
