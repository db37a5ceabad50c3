//! One subscription of the rules in force, asked about events that were appended before.

use pointsman_journal::{NewDelivery, Priority, StoredEvent};
use pointsman_rules::{Document, Filter, Scratch};
use pointsman_schemas::{Clock, Name, SubscriptionNumber};

use super::Router;
use super::matcher::{Due, order_key};

/// Where a subscription stands among the rules in force. It holds for the router that gave it
/// alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    tenant: Name,
    index: u32,
    /// Its place in the rule.
    at: usize,
}

/// What a subscription takes of retained events.
#[derive(Debug, Default)]
pub struct Taken {
    /// Also what its rule does not take, by its filter and its `from`.
    pub all: bool,
    /// What must hold beside that.
    pub filter: Filter,
}

impl Router {
    /// Where a subscription of a tenant stands; none where no rule in force has it.
    #[must_use]
    pub fn place(&self, tenant: &Name, number: SubscriptionNumber) -> Option<Place> {
        let rules = self.tenants.get(tenant)?;
        (0..).zip(&rules.rules).find_map(|(index, rule)| {
            let is_own = |one: &super::SubscriptionInForce| one.number == number;
            let at = rule.subscriptions.iter().position(is_own)?;
            let tenant = tenant.clone();
            Some(Place { tenant, index, at })
        })
    }

    /// The delivery of a retained event for a subscription, as if it had just been appended; none
    /// where the subscription does not take it.
    #[must_use]
    pub fn delivery(
        &self,
        place: &Place,
        stored: &StoredEvent,
        taken: &Taken,
        clock: &dyn Clock,
        scratch: &mut Scratch,
    ) -> Option<NewDelivery> {
        let rules = self.tenants.get(&place.tenant)?;
        let rule = rules.rules.get(place.index as usize)?;
        let one = rule.subscriptions.get(place.at)?;
        let (event, origin) = (&stored.event, rules.origin(&stored.origin));
        if stored.tenant != place.tenant
            || !(taken.all || rules.set.takes(place.index, origin, event, scratch))
            || !taken.filter.holds(&Document::event(event), scratch)
        {
            return None;
        }
        let find = |path: &pointsman_rules::Path| path.find_text(&Document::event(event));
        let value = one.order_by.as_ref().and_then(find);
        // A time that has passed, or was refused, is none.
        let due = Due::of(event, clock).ok();
        Some(NewDelivery {
            subscription: one.number,
            order_key: value.map(|value| order_key(&value)),
            due: due.and_then(|due| due.after(one.delay)),
            // What a replay makes goes behind what comes.
            priority: Priority::USUAL,
        })
    }
}
