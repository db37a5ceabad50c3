//! Subscriptions: attached, detached, suspended, dropped.

use std::collections::{BTreeMap, HashSet};

use pointsman_schemas::SubscriptionNumber;

use super::state::{State, Subscribed, not_found};
use crate::{
    Activity, Counts, JournalError, Numbered, ReplayId, Subscription, SubscriptionIdentity,
};

impl Subscribed {
    fn new(identity: SubscriptionIdentity) -> Self {
        Self {
            identity,
            attached: true,
            activity: Activity::Active,
            backlog: None,
            counts: Counts::default(),
            elsewhere: 0,
            is_dropped: false,
            catching_up: None,
            pending: BTreeMap::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        let hands_over = self.catching_up.is_some_and(|replay| replay.hands_over);
        self.attached && self.activity == Activity::Active && !hands_over
    }
}

impl State {
    /// The number under which something is to be kept: that of who has the identity of a dropped
    /// one now, if anybody has.
    pub(super) fn resolve(&self, number: SubscriptionNumber) -> SubscriptionNumber {
        let own = (number.0 as usize)
            .checked_sub(1)
            .and_then(|index| self.subscriptions.get(index));
        let Some(own) = own.filter(|subscribed| subscribed.is_dropped) else {
            return number;
        };
        let heir = self.find(&own.identity);
        heir.map_or(number, |(heir, _)| heir)
    }

    fn find(&self, identity: &SubscriptionIdentity) -> Option<(SubscriptionNumber, &Subscribed)> {
        self.all_subscribed()
            .find(|(_, subscribed)| subscribed.identity == *identity)
    }

    /// Drops what no rule wants and what holds nothing.
    pub(super) fn drop_detached(&mut self) {
        let is_empty = |subscribed: &Subscribed| {
            !subscribed.attached
                && subscribed.pending.is_empty()
                && subscribed.counts.dead == 0
                && subscribed.catching_up.is_none()
        };
        let gone: Vec<_> = self
            .all_subscribed()
            .filter(|(_, subscribed)| is_empty(subscribed))
            .map(|(number, _)| number)
            .collect();
        for number in gone {
            self.queues.remove_subscription(number);
            if let Some(subscribed) = self.subscribed(number) {
                let counts = subscribed.counts;
                *subscribed = Subscribed {
                    attached: false,
                    is_dropped: true,
                    ..Subscribed::new(subscribed.identity.clone())
                };
                self.dropped += &counts;
            }
        }
    }

    pub(super) fn subscribe(&mut self, wanted: Vec<Subscription>) -> Vec<SubscriptionNumber> {
        let identities = wanted.iter().map(|one| one.identity.clone());
        let identities: HashSet<_> = identities.collect();
        for subscribed in &mut self.subscriptions {
            subscribed.attached =
                !subscribed.is_dropped && identities.contains(&subscribed.identity);
        }
        let numbers = wanted.into_iter().map(|wanted| self.attach(wanted));
        let numbers = numbers.collect();
        self.open_attached();
        numbers
    }

    /// The same under given numbers.
    pub(super) fn subscribe_as(&mut self, mut wanted: Vec<Numbered>) {
        for subscribed in &mut self.subscriptions {
            subscribed.attached = false;
        }
        wanted.sort_by_key(|one| one.number);
        for Numbered {
            subscription,
            number,
            replay,
        } in wanted
        {
            self.attach_as(number, subscription, replay);
        }
        self.open_attached();
    }

    pub(super) fn last_subscription(&self) -> SubscriptionNumber {
        let number = u32::try_from(self.subscriptions.len());
        SubscriptionNumber(number.unwrap_or(u32::MAX))
    }

    fn open_attached(&mut self) {
        let open: Vec<_> = self
            .all_subscribed()
            .map(|(number, subscribed)| (number, subscribed.is_open()))
            .collect();
        for (number, is_open) in open {
            self.queues.set_open(number, is_open);
        }
    }

    fn attach(&mut self, wanted: Subscription) -> SubscriptionNumber {
        let identity = &wanted.identity;
        let earlier = || {
            let old = SubscriptionIdentity {
                rule: wanted.renamed_from.clone()?,
                ..identity.clone()
            };
            self.find(&old)
                .filter(|(_, subscribed)| !subscribed.attached)
        };
        let found = self.find(identity).or_else(earlier);
        let new = || SubscriptionNumber(self.last_subscription().0.saturating_add(1));
        let number = found.map_or_else(new, |(number, _)| number);
        self.attach_as(number, wanted, ReplayId::random());
        number
    }

    /// Attaches what has a number already, or gets this one.
    fn attach_as(&mut self, number: SubscriptionNumber, wanted: Subscription, replay: ReplayId) {
        if self.numbered(number).is_none() {
            // Numbers that are passed over are those of subscriptions that have gone elsewhere.
            let gone = || Subscribed {
                attached: false,
                is_dropped: true,
                ..Subscribed::new(wanted.identity.clone())
            };
            let passed_over = (number.0 as usize).saturating_sub(1);
            self.subscriptions.resize_with(passed_over, gone);
            let new = Subscribed::new(wanted.identity.clone());
            self.subscriptions.push(new);
            if let Some(start) = wanted.start {
                self.start(number, start, replay);
            }
        }
        if let Some(subscribed) = self.numbered(number) {
            (subscribed.identity, subscribed.attached) = (wanted.identity, true);
            (subscribed.backlog, subscribed.is_dropped) = (wanted.backlog, false);
        }
    }

    pub(super) fn set_activity(
        &mut self,
        number: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        let subscribed = self.subscribed(number).ok_or_else(|| not_found(number))?;
        subscribed.activity = activity;
        let is_open = subscribed.is_open();
        self.queues.set_open(number, is_open);
        Ok(())
    }
}
