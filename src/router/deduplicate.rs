//! Keys by which duplicates are left out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_journal::{Guards, Identity, Key};
use pointsman_rules::{Document, TextTemplate};
use pointsman_schemas::{Event, Name, SubscriptionNumber};

use super::{NamedRule, Router, TenantRules};

/// What makes a duplicate of an event, and for how long.
#[derive(Clone, Debug)]
pub struct Deduplicate {
    /// The key of an event: two of one key are duplicates.
    pub by: TextTemplate,
    /// How long a key is remembered.
    pub window: Duration,
}

impl Deduplicate {
    /// The key of an event; none where the template finds nothing in it.
    #[must_use]
    pub fn key(&self, event: &Event) -> Option<String> {
        let mut key = String::new();
        self.by.render(&Document::event(event), &mut key).ok()?;
        (!key.is_empty()).then_some(key)
    }
}

impl NamedRule {
    /// The key of an event by which this rule's deliveries are left out.
    pub(super) fn identity(&self, tenant: &Name, event: &Event) -> Option<Identity> {
        let key = self.deduplicate.as_ref()?.key(event)?;
        Some(Identity::of_rule(tenant, &self.name, &key))
    }

    /// As [`NamedRule::identity`], for the journal.
    pub(super) fn key(&self, tenant: &Name, event: &Event) -> Option<Key> {
        let window = self.deduplicate.as_ref()?.window;
        let subscriptions = self.subscriptions.iter().map(|one| one.number);
        Some(Key {
            identity: self.identity(tenant, event)?,
            window,
            guards: Guards::Deliveries(subscriptions.collect()),
        })
    }
}

impl TenantRules {
    /// Where in the set the rule is that a subscription is of, where it leaves duplicates out.
    pub(super) fn deduplicating(rules: &[NamedRule]) -> foldhash::HashMap<SubscriptionNumber, u32> {
        let leaves_out = (0..)
            .zip(rules)
            .filter(|(_, rule)| rule.deduplicate.is_some());
        leaves_out
            .flat_map(|(at, rule)| rule.subscriptions.iter().map(move |one| (one.number, at)))
            .collect()
    }
}

impl Router {
    /// Counts that deliveries of a rule were left out.
    pub fn count_duplicate(&self, tenant: &Name, guards: &Guards) {
        let Guards::Deliveries(subscriptions) = guards else {
            return;
        };
        let rule = self.tenants.get(tenant).and_then(|rules| {
            let at = *rules.deduplicating.get(subscriptions.first()?)?;
            rules.at(&[at]).next()
        });
        // A rule that has gone meanwhile counts nothing any more.
        if let Some(rule) = rule {
            rule.duplicates.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The rule and the target of a subscription. Looks at each rule of the tenant.
    #[must_use]
    pub fn names(&self, tenant: &Name, number: SubscriptionNumber) -> Option<(&Name, &Name)> {
        let rules = &self.tenants.get(tenant)?.rules;
        rules.iter().find_map(|rule| {
            let mut subscriptions = rule.subscriptions.iter();
            let found = subscriptions.find(|one| one.number == number)?;
            Some((&rule.name, &found.target))
        })
    }

    /// By which key each rule of these leaves out duplicates of an event; none where it does not, or
    /// where it finds no key.
    #[must_use]
    pub fn identities(
        &self,
        tenant: &Name,
        names: &[Name],
        event: &Event,
    ) -> Vec<(Name, Identity)> {
        let rules = self.tenants.get(tenant).map(|rules| &rules.rules);
        let named = rules.into_iter().flatten();
        named
            .filter(|rule| rule.deduplicate.is_some() && names.contains(&rule.name))
            .filter_map(|rule| Some((rule.name.clone(), rule.identity(tenant, event)?)))
            .collect()
    }
}
