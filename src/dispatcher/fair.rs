//! Which subscription of a target goes next.
//!
//! Deficit round robin (Shreedhar and Varghese 1995), charged by delivery seconds and not by count:
//! of a target's slots a subscription with slow deliveries gets no larger share than one with quick
//! ones. What a delivery costs is known only when it has ended, so it is charged as much as the
//! subscription's deliveries usually cost, and corrected then. Pure, and a grant costs time by what
//! is granted, not by how many subscriptions there are.

use std::collections::VecDeque;

use foldhash::HashMap;
use pointsman_journal::Priority;
use pointsman_schemas::SubscriptionNumber;

/// What a delivery is taken to cost before any has ended, in seconds.
const FIRST_COST: f64 = 0.01;

/// How much the latest delivery counts in what the next is taken to cost.
const WEIGHT: f64 = 0.2;

/// The queue of one target's subscriptions, which get slots in turns.
#[derive(Debug)]
pub struct DeficitRoundRobin {
    /// Those that may have something to lease, next first.
    ring: VecDeque<SubscriptionNumber>,
    /// Whether the one in front has received the quantum of its turn.
    turn_begun: bool,
    shares: HashMap<SubscriptionNumber, Share>,
    /// The mean cost of this target's deliveries: the quantum that a turn adds to a share.
    mean_cost: f64,
}

#[derive(Debug)]
struct Share {
    /// Seconds that it may use up; below zero what it owes.
    deficit: f64,
    /// What one of its deliveries is taken to cost.
    cost: f64,
    /// How many times as much as one of the usual priority it gets.
    weight: f64,
    /// Whether it may have something to lease. Where not, its place in the ring is removed when its
    /// turn comes.
    is_ready: bool,
    in_ring: bool,
    /// Its index among the turns that are being granted.
    turn: Option<usize>,
}

impl Share {
    /// Takes so many slots in this grant, in one turn with those that it has already.
    fn give(&mut self, count: usize, subscription: SubscriptionNumber, granted: &mut Vec<Turn>) {
        self.deficit -= self.cost * count as f64;
        match self.turn.and_then(|index| granted.get_mut(index)) {
            Some(turn) => turn.count += count,
            None => {
                self.turn = Some(granted.len());
                granted.push(Turn {
                    subscription,
                    count,
                    charged: self.cost,
                });
            }
        }
    }

    /// How many deliveries it can pay for, rounded to the nearest: what that is off by is carried
    /// over.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from float saturates, which is what is meant"
    )]
    fn affordable(&self) -> usize {
        (self.deficit / self.cost).round() as usize
    }
}

/// The slots that one subscription is granted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    pub subscription: SubscriptionNumber,
    pub count: usize,
    /// What each slot has been charged, in seconds.
    pub charged: f64,
}

impl Default for DeficitRoundRobin {
    fn default() -> Self {
        Self {
            ring: VecDeque::new(),
            turn_begun: false,
            shares: HashMap::default(),
            mean_cost: FIRST_COST,
        }
    }
}

impl DeficitRoundRobin {
    /// True where nobody waits for a turn.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// True where several may wait for a turn: those that are removed count until their turn comes.
    #[must_use]
    pub fn has_several(&self) -> bool {
        self.ring.len() > 1
    }

    /// The subscription may have something to lease. One of priority 9 gets ten times the share of
    /// one of the usual priority, which is 0.
    pub fn add(&mut self, subscription: SubscriptionNumber, priority: Priority) {
        let cost = self.mean_cost;
        let share = self.shares.entry(subscription).or_insert(Share {
            deficit: 0.0,
            cost,
            weight: 1.0,
            is_ready: false,
            in_ring: false,
            turn: None,
        });
        share.is_ready = true;
        share.weight = priority.share() as f64;
        if !share.in_ring {
            share.in_ring = true;
            self.ring.push_back(subscription);
        }
    }

    /// The subscription has nothing to lease, or must not: unused time is not saved up, a debt
    /// stays.
    pub fn remove(&mut self, subscription: SubscriptionNumber) {
        if let Some(share) = self.shares.get_mut(&subscription) {
            share.is_ready = false;
            share.deficit = share.deficit.min(0.0);
        }
    }

    /// Forgets the subscriptions that are not kept.
    pub fn retain(&mut self, keep: impl Fn(SubscriptionNumber) -> bool) {
        self.ring.retain(|subscription| keep(*subscription));
        self.turn_begun = false;
        self.shares.retain(|subscription, _| keep(*subscription));
    }

    /// Grants `slots` among those that wait, in turns; no subscription gets more than `most` says.
    /// Leaves all of them waiting.
    ///
    /// How much each has to lease is not known here: whoever turns out to have less is removed, and
    /// the next grants go to the others.
    pub fn grant(&mut self, slots: usize, most: impl Fn(SubscriptionNumber) -> usize) -> Vec<Turn> {
        let mut granted: Vec<Turn> = Vec::new();
        let mut left = slots;
        // Turns since the last one that brought something, and the smallest debt among them, in what
        // one of weight 1 gets.
        let (mut idle_turns, mut smallest_debt) = (0, f64::INFINITY);
        while left > 0 {
            let Some(&subscription) = self.ring.front() else {
                break;
            };
            let Some(share) = self.shares.get_mut(&subscription) else {
                self.next_turn();
                self.ring.pop_back();
                continue;
            };
            if !share.is_ready {
                share.in_ring = false;
                self.next_turn();
                self.ring.pop_back();
                continue;
            }
            if !self.turn_begun {
                share.deficit += self.mean_cost * share.weight;
                self.turn_begun = true;
            }
            let before = share
                .turn
                .and_then(|index| granted.get(index))
                .map_or(0, |turn| turn.count);
            let wanted = most(subscription).saturating_sub(before);
            let count = share.affordable().min(wanted).min(left);
            if count > 0 {
                share.give(count, subscription, &mut granted);
                left -= count;
                (idle_turns, smallest_debt) = (0, f64::INFINITY);
            } else if wanted > 0 {
                let debt = (share.cost / 2.0 - share.deficit) / share.weight;
                smallest_debt = smallest_debt.min(debt);
            }
            // It has all that it may have: time that it does not use is not saved up.
            if wanted == count {
                share.deficit = share.deficit.min(0.0);
            }
            if left > 0 {
                self.next_turn();
                idle_turns += 1;
            }
            if idle_turns > self.ring.len() {
                if smallest_debt.is_infinite() {
                    break;
                }
                // Nobody can pay: the rounds in which nobody would get anything are passed over at
                // once.
                for share in self.shares.values_mut().filter(|share| share.in_ring) {
                    share.deficit += smallest_debt * share.weight;
                }
                (idle_turns, smallest_debt) = (0, f64::INFINITY);
            }
        }
        for turn in &granted {
            if let Some(share) = self.shares.get_mut(&turn.subscription) {
                share.turn = None;
            }
        }
        granted
    }

    /// Ends the turn of whoever stands in front.
    fn next_turn(&mut self) {
        self.turn_begun = false;
        self.ring.rotate_left(self.ring.len().min(1));
    }

    /// Refunds the slots of a grant that were not used.
    pub fn refund(&mut self, turn: Turn, count: usize) {
        if let Some(share) = self.shares.get_mut(&turn.subscription) {
            share.deficit += turn.charged * count as f64;
            if !share.is_ready {
                share.deficit = share.deficit.min(0.0);
            }
        }
    }

    /// A delivery that was charged so much has ended after `seconds`.
    pub fn ended(&mut self, subscription: SubscriptionNumber, charged: f64, seconds: f64) {
        // A cost of nothing would let one subscription take every slot in one turn.
        let seconds = seconds.max(1e-6);
        self.mean_cost += (seconds - self.mean_cost) * WEIGHT / 4.0;
        if let Some(share) = self.shares.get_mut(&subscription) {
            share.deficit += charged - seconds;
            share.cost += (seconds - share.cost) * WEIGHT;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const A: SubscriptionNumber = SubscriptionNumber(1);
    const B: SubscriptionNumber = SubscriptionNumber(2);
    const C: SubscriptionNumber = SubscriptionNumber(3);

    fn counts(turns: &[Turn]) -> BTreeMap<u32, usize> {
        turns
            .iter()
            .map(|turn| (turn.subscription.0, turn.count))
            .collect()
    }

    fn waiting(subscriptions: impl IntoIterator<Item = SubscriptionNumber>) -> DeficitRoundRobin {
        let mut turns = DeficitRoundRobin::default();
        subscriptions
            .into_iter()
            .for_each(|subscription| turns.add(subscription, Priority::USUAL));
        turns
    }

    #[test]
    fn slots_are_shared_alike_and_one_alone_gets_all() {
        let mut turns = waiting([A, B, C]);
        assert_eq!(
            counts(&turns.grant(9, |_| usize::MAX)),
            BTreeMap::from([(1, 3), (2, 3), (3, 3)])
        );
        turns.remove(A);
        turns.remove(C);
        assert_eq!(
            counts(&turns.grant(9, |_| usize::MAX)),
            BTreeMap::from([(2, 9)])
        );
        turns.remove(B);
        assert!(turns.grant(9, |_| usize::MAX).is_empty() && turns.is_empty());
    }

    #[test]
    fn nobody_gets_more_than_he_may() {
        let mut turns = waiting([A, B]);
        assert_eq!(
            counts(&turns.grant(10, |subscription| if subscription == A { 1 } else { 4 })),
            BTreeMap::from([(1, 1), (2, 4)])
        );
        assert_eq!(counts(&turns.grant(10, |_| 0)), BTreeMap::new());
    }

    /// Simulates a target of a number of slots and tells for how many seconds each subscription
    /// used them.
    fn seconds_used(
        slots: usize,
        costs: &[(SubscriptionNumber, f64)],
        ends: usize,
    ) -> BTreeMap<u32, f64> {
        let mut turns = waiting(costs.iter().map(|(subscription, _)| *subscription));
        let cost: BTreeMap<u32, f64> = costs
            .iter()
            .map(|(subscription, cost)| (subscription.0, *cost))
            .collect();
        let mut used: BTreeMap<u32, f64> = BTreeMap::new();
        let mut under_way: Vec<(f64, SubscriptionNumber, f64)> = Vec::new();
        let mut now = 0.0;
        for _ in 0..ends {
            for turn in turns.grant(slots - under_way.len(), |_| usize::MAX) {
                for _ in 0..turn.count {
                    under_way.push((
                        now + cost[&turn.subscription.0],
                        turn.subscription,
                        turn.charged,
                    ));
                }
            }
            under_way.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (end, subscription, charged) = under_way.pop().unwrap();
            now = end;
            *used.entry(subscription.0).or_default() += cost[&subscription.0];
            turns.ended(subscription, charged, cost[&subscription.0]);
        }
        used
    }

    #[test]
    fn time_is_shared_alike_and_not_count() {
        for (slots, slow) in [(1, 1.0), (4, 1.0), (10, 1.0), (10, 30.0)] {
            let used = seconds_used(slots, &[(A, 0.01), (B, slow), (C, 0.02)], 40_000);
            let total: f64 = used.values().sum();
            for (subscription, seconds) in &used {
                let share = seconds / total;
                assert!(
                    (0.28..0.39).contains(&share),
                    "{slots} slots, slow {slow}: subscription {subscription} used {share}"
                );
            }
        }
    }

    #[test]
    fn what_is_urgent_has_a_larger_share_and_leaves_the_others_theirs() {
        for slots in [1, 4, 64] {
            let mut turns = waiting([A, B]);
            turns.add(C, Priority::new(3).unwrap());
            let mut used: BTreeMap<u32, usize> = BTreeMap::new();
            for _ in 0..6_000 / slots {
                for turn in turns.grant(slots, |_| usize::MAX) {
                    *used.entry(turn.subscription.0).or_default() += turn.count;
                    for _ in 0..turn.count {
                        turns.ended(turn.subscription, turn.charged, FIRST_COST);
                    }
                }
            }
            for (subscription, share) in [(A, 1_000), (B, 1_000), (C, 4_000)] {
                let used = used[&subscription.0];
                assert!(used.abs_diff(share) < 100, "{slots}: {used} of {share}");
            }
        }
    }

    #[test]
    fn unused_time_is_not_saved_up_and_debts_do_not_block_who_is_alone() {
        let mut turns = waiting([A, B]);
        turns.remove(A);
        for _ in 0..1_000 {
            turns.grant(1, |_| usize::MAX);
            turns.ended(B, FIRST_COST, FIRST_COST);
        }
        turns.add(A, Priority::USUAL);
        let granted = counts(&turns.grant(10, |_| usize::MAX));
        assert_eq!(granted, BTreeMap::from([(1, 5), (2, 5)]));
        turns.remove(A);
        turns.ended(B, 0.0, 1e9);
        assert_eq!(
            counts(&turns.grant(3, |_| usize::MAX)),
            BTreeMap::from([(2, 3)])
        );
    }

    #[test]
    fn what_came_to_nothing_is_not_charged() {
        let mut turns = waiting([A, B]);
        for _ in 0..100 {
            for turn in turns.grant(2, |subscription| usize::from(subscription == A)) {
                turns.refund(turn, turn.count);
            }
        }
        assert_eq!(
            counts(&turns.grant(10, |_| usize::MAX)),
            BTreeMap::from([(1, 5), (2, 5)])
        );
    }

    #[test]
    fn ten_thousand_take_turns() {
        let mut turns = waiting((0..10_000).map(SubscriptionNumber));
        let mut seen = BTreeMap::new();
        for _ in 0..1_000 {
            for turn in turns.grant(10, |_| usize::MAX) {
                *seen.entry(turn.subscription.0).or_insert(0) += turn.count;
                turns.ended(turn.subscription, turn.charged, FIRST_COST);
            }
        }
        assert_eq!((seen.len(), seen.values().max()), (10_000, Some(&1)));
    }
}
