//! Tenants that are to have another number of shards: their keys move to other shards, where what
//! comes would overtake what waits in the old ones.
//!
//! So such a version is in force only once nothing of such a tenant waits that has an order to keep.
//! A node that prepares it takes in nothing more of these tenants, waits until everything is stored
//! that was divided before, and then looks into all shards, those of other nodes too. Whichever node
//! looks last does so when every living one has stopped: nothing can come behind its back, wherever
//! shards are by then. The stop ends with the proposal, as the node reads it.
//!
//! Whoever has not heard of it yet divides otherwise, and is refused by the shards' owners
//! ([`Sharded::divide_by`](pointsman_journal::sharded::Sharded::divide_by)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use pointsman_journal::sharded::TenantShards;
use pointsman_journal::{Journal as _, Role, SubscriptionIdentity, SubscriptionStatus};
use pointsman_schemas::Name;
use tokio::time::{Instant, sleep, timeout};

use super::kept::{Kept, Version};
use super::{LOOK, Unready, Versions};
use crate::config::{Config, DeliverySettings, Destination};

/// For how long what waits may go on being delivered before the version is refused. Senders wait for
/// a part of that, and try again.
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// For how long what was on its way, and other nodes, are waited for each time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// For how long nothing is taken in at most, whatever other nodes wait for.
const STOPPED_MAX: Duration = Duration::from_secs(20);

/// Nothing is taken in of some tenants.
pub(super) struct Stopped {
    /// The version for whose sake.
    number: u64,
    since: Instant,
}

impl Versions {
    /// Divides events by what is kept, and takes in everything again where that does not wait for a
    /// version any longer.
    pub(super) fn divide(&self, kept: &Kept, before: Option<&Kept>) {
        let proposed = kept.proposed.as_ref().map(|one| one.number);
        let mut mine = self.mine.lock();
        let is_over = |stopped: &mut Stopped| Some(stopped.number) != proposed;
        let goes_on = mine.stopped.take_if(is_over).is_some();
        if goes_on || before.is_none_or(|before| before.shards != kept.shards) {
            let none = [].into();
            self.journal.divide_by(&kept.shards, none);
        }
    }

    /// Where a version says that tenants have another number of shards: takes in nothing more of
    /// these, and waits until nothing of them waits that has an order to keep.
    pub(super) async fn make_way(
        &self,
        version: &Version,
        kept: &Kept,
        config: &Config,
    ) -> Result<(), Unready> {
        let wanted = &version.proposal.shards;
        let tenants = kept.shards.changed_by(wanted, self.journal.count());
        if tenants.is_empty() {
            return Ok(());
        }
        let number = version.number;
        let since = {
            let mut mine = self.mine.lock();
            let stopped = mine.stopped.take_if(|stopped| stopped.number == number);
            let since = stopped.map_or_else(Instant::now, |stopped| stopped.since);
            mine.stopped = Some(Stopped { number, since });
            since
        };
        let stopped = tenants.iter().cloned().collect();
        self.journal.divide_by(&kept.shards, stopped);
        loop {
            let is_late = since.elapsed() > DRAINED_WITHIN;
            let waits = timeout(ANSWERED_WITHIN, self.waits(&tenants, config)).await;
            let waits = match waits.unwrap_or_else(|_| Err(unknown(&"it takes too long"))) {
                Ok(waits) if waits.is_empty() => return Ok(()),
                Ok(waits) => self.why_not(&waits, (&kept.shards, wanted)),
                Err(why) => vec![why],
            };
            if is_late {
                return Err(Unready::Mistakes(waits));
            }
            if self.nodes.revision() != Some(kept.revision) {
                return Err(Unready::Away("it may have ended".to_owned()));
            }
            sleep(LOOK).await;
        }
    }

    /// What waits of tenants in all shards and has an order to keep.
    ///
    /// # Errors
    /// Why that is not known.
    async fn waits(&self, tenants: &[Name], config: &Config) -> Result<Waits, String> {
        let divided = self.journal.divided_so().await;
        divided.map_err(|error| unknown(&error))?;
        let reader = self.journal.reader();
        let all = reader.subscriptions().await;
        let all = all.map_err(|error| unknown(&error))?;
        if let Some(shard) = reader.incomplete().first() {
            let number = shard.get();
            return Err(unknown(&format!("shard {number} cannot be asked just now")));
        }
        Ok(in_order(&all, tenants, config))
    }

    fn why_not(&self, waits: &Waits, (now, wanted): (&TenantShards, &TenantShards)) -> Vec<String> {
        let why = |(tenant, (count, rules)): (&Name, &(u64, BTreeSet<Name>))| {
            let [now, wanted] =
                [now, wanted].map(|shards| shards.count(tenant, self.journal.count()));
            let rules: Vec<_> = rules.iter().map(Name::as_str).collect();
            let rules = rules.join(", ");
            format!(
                "{count} deliveries of the tenant {tenant} wait (of {rules}), and what comes would \
                 overtake them in {wanted} shards: it has {now}. Wait until they are delivered, or \
                 stop what sends them, and put the rules again; with `quota: {{ shards: {now} }}` \
                 nothing has to wait"
            )
        };
        waits.iter().map(why).collect()
    }

    /// Why a version is not waited for any longer for whose sake nothing is taken in.
    pub(super) fn has_been_stopped_for_long(&self, number: u64) -> Option<String> {
        let mine = self.mine.lock();
        let stopped = mine.stopped.as_ref()?;
        let is_long = stopped.number == number && stopped.since.elapsed() > STOPPED_MAX;
        (is_long && mine.refused != number).then(|| {
            let seconds = STOPPED_MAX.as_secs();
            format!(
                "not all nodes have compiled it within {seconds} s, for which nothing was taken in \
                 of tenants that are to have other shards; put it again"
            )
        })
    }
}

fn unknown(why: &dyn fmt::Display) -> String {
    format!("it is not known what waits of the tenants that are to have other shards: {why}")
}

/// How many deliveries of each tenant wait, and of which rules.
type Waits = BTreeMap<Name, (u64, BTreeSet<Name>)>;

/// What waits of tenants and has an order to keep, by a configuration that is to be in force; what
/// that does not have may have one when it comes back.
fn in_order(all: &[SubscriptionStatus], tenants: &[Name], config: &Config) -> Waits {
    let mut waits = Waits::new();
    for one in all {
        let SubscriptionIdentity { tenant, rule, .. } = &one.identity;
        let settings = settings(&one.identity, config);
        let has_none = settings.is_some_and(|settings| settings.order_by.is_none());
        if one.counts.pending == 0 || has_none || !tenants.contains(tenant) {
            continue;
        }
        let (count, rules) = waits.entry(tenant.clone()).or_default();
        *count += one.counts.pending;
        rules.insert(rule.clone());
    }
    waits
}

/// How the deliveries of a subscription are made.
fn settings<'c>(
    identity: &SubscriptionIdentity,
    config: &'c Config,
) -> Option<&'c DeliverySettings> {
    let SubscriptionIdentity {
        tenant,
        rule,
        role,
        target,
    } = identity;
    let mut rules = config.rules.iter();
    let rule = rules.find(|one| (&one.tenant, &one.name) == (tenant, rule))?;
    let of_target = |to: &&Destination| to.target == *target;
    let follow_up = match role {
        Role::To => return rule.to.iter().find(of_target).map(|to| &to.delivery),
        Role::OnSuccess => &rule.on_success,
        Role::OnFailure => &rule.on_failure,
    };
    let follow_up = follow_up.as_ref().filter(|to| to.target == *target)?;
    Some(&follow_up.delivery)
}

#[cfg(test)]
mod tests {
    use pointsman_journal::{Activity, Counts};
    use pointsman_schemas::SubscriptionNumber;

    use super::*;

    const RULES: &str = "
tenant: acme
targets: { console: { stdout: {} }, other: { stdout: {} } }
rules:
  ordered: { to: [{ target: console, delivery: { order_by: $.subject } }, other], on_success: other }
  free: { to: console }
";

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn config() -> Config {
        Config::of_text("a.yaml", "/".as_ref(), RULES).unwrap().0
    }

    fn waiting(of: [&str; 3], role: Role, pending: u64) -> SubscriptionStatus {
        let [tenant, rule, target] = of.map(name);
        SubscriptionStatus {
            number: SubscriptionNumber(1),
            identity: SubscriptionIdentity {
                tenant,
                rule,
                role,
                target,
            },
            attached: true,
            activity: Activity::Active,
            counts: Counts {
                pending,
                ..Counts::default()
            },
            oldest_pending: None,
        }
    }

    #[test]
    fn what_has_an_order_to_keep_or_may_have_one_again_is_waited_for() {
        let config = config();
        let of = |of, role, pending| {
            let all = [waiting(of, role, pending)];
            let waits = in_order(&all, &[name("acme")], &config);
            waits.values().map(|(count, _)| count).sum::<u64>()
        };
        assert_eq!(of(["acme", "ordered", "console"], Role::To, 3), 3);
        assert_eq!(of(["acme", "ordered", "console"], Role::To, 0), 0);
        assert_eq!(of(["acme", "gone", "console"], Role::To, 3), 3);
        assert_eq!(of(["acme", "ordered", "gone"], Role::To, 3), 3);
        for (rule, target, role) in [
            ("free", "console", Role::To),
            ("ordered", "other", Role::To),
            ("ordered", "other", Role::OnSuccess),
        ] {
            assert_eq!(of(["acme", rule, target], role, 3), 0, "{rule}/{target}");
        }
        assert_eq!(of(["other", "ordered", "console"], Role::To, 3), 0);
    }
}
