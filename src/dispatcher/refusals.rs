//! Whether a target that answers 401 or 403 refuses a subscription or one delivery. Pure.

use std::collections::HashMap;

use pointsman_schemas::DeliveryId;
use tokio::time::Instant;

/// How many refused deliveries are remembered; one that is forgotten is new when it is refused
/// again.
const REMEMBERED_MAX: usize = 1_024;

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Different deliveries are refused and none passes: the target does not know us.
    OfSubscription,
    /// The delivery was refused before, and others have passed since then: it is its own fault.
    OfDelivery,
    /// It is the first one since others have passed: only the next ones will show which it is.
    Unclear,
}

/// The refusals of one subscription.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When each of these was refused first.
    refused: HashMap<DeliveryId, Instant>,
    /// When one passed last.
    passed_at: Option<Instant>,
}

impl Refusals {
    /// A delivery was refused.
    pub(super) fn refused(&mut self, delivery: DeliveryId, at: Instant) -> Refusal {
        let has_passed_since = |since: Instant| self.passed_at.is_some_and(|passed| passed > since);
        if self
            .refused
            .get(&delivery)
            .is_some_and(|first| has_passed_since(*first))
        {
            self.refused.remove(&delivery);
            return Refusal::OfDelivery;
        }
        let are_several = self
            .refused
            .iter()
            .any(|(other, first)| *other != delivery && !has_passed_since(*first));
        if self.refused.len() >= REMEMBERED_MAX {
            self.refused.clear();
        }
        self.refused.entry(delivery).or_insert(at);
        if are_several {
            Refusal::OfSubscription
        } else {
            Refusal::Unclear
        }
    }

    /// A delivery passed.
    pub(super) fn passed(&mut self, at: Instant) {
        self.passed_at = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dispatcher::testing::id;

    fn delivery(run: u64) -> DeliveryId {
        DeliveryId { run, ..id() }
    }

    #[test]
    fn one_that_is_refused_while_others_pass_is_its_own_fault() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        let mut tick = || {
            now += Duration::from_secs(1);
            now
        };
        refusals.passed(tick());
        assert_eq!(refusals.refused(delivery(1), tick()), Refusal::Unclear);
        assert_eq!(
            refusals.refused(delivery(1), tick()),
            Refusal::Unclear,
            "nothing else was tried"
        );
        refusals.passed(tick());
        assert_eq!(refusals.refused(delivery(2), tick()), Refusal::Unclear);
        assert_eq!(refusals.refused(delivery(1), tick()), Refusal::OfDelivery);
        refusals.passed(tick());
        assert_eq!(refusals.refused(delivery(2), tick()), Refusal::OfDelivery);
    }

    #[test]
    fn where_different_ones_are_refused_it_is_the_subscription() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.refused(delivery(1), now), Refusal::Unclear);
        assert_eq!(refusals.refused(delivery(2), now), Refusal::OfSubscription);
        assert_eq!(refusals.refused(delivery(1), now), Refusal::OfSubscription);
    }
}
