//! From a configuration to subscriptions, and from subscriptions to what the router and the
//! dispatcher need.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use pointsman_rules::{TextTemplate, Transform};
use pointsman_schemas::{Name, Placement, SubscriptionNumber};
use prometheus_client::metrics::counter::Counter;

use super::targets::{Key, Targets};
use crate::config::{self, Config, DeliveryPriority, DeliverySettings, FollowUpContent, WhenFull};
use crate::dispatcher::policy::InvalidPolicy;
use crate::dispatcher::{
    self, FollowUpPayload, FollowUpRoute, Observer, Plan, Preparation, Recording, Route, Target,
};
use crate::router::{
    Deduplicate, OnMismatch, Router, RuleInForce, SchemaInForce, SubscriptionInForce, TypeSchema,
};
use crate::telemetry::digest::Digest;
use crate::telemetry::{Metrics, QuotaUse};
use pointsman_journal::{
    Backlog, BacklogQuota, Priority, QuotaOwner, Role, Subscription, SubscriptionIdentity,
};

/// A subscription that a configuration wants, with where it comes from in it.
struct Wanted<'c> {
    rule: &'c config::Rule,
    subscription: Subscription,
    delivery: &'c DeliverySettings,
    transform: Option<&'c Arc<Transform>>,
}

/// Every subscription of a configuration, rule by rule: its destinations, then `on_success`, then
/// `on_failure`.
fn wanted(config: &Config) -> Vec<Wanted<'_>> {
    let mut all = Vec::with_capacity(config.rules.len());
    for rule in &config.rules {
        let mut want = |role, target: &Name, delivery, transform| {
            // What a pipe has no room for waits in its source.
            let backlog = backlog(delivery).filter(|_| !rule.pipe || role != Role::To);
            all.push(Wanted {
                rule,
                subscription: Subscription {
                    identity: identity(rule, role, target),
                    renamed_from: rule.renamed_from.clone(),
                    backlog,
                    start: rule.start.filter(|_| role == Role::To),
                },
                delivery,
                transform,
            });
        };
        for to in &rule.to {
            want(Role::To, &to.target, &to.delivery, to.transform.as_ref());
        }
        for (role, follow_up) in [
            (Role::OnSuccess, &rule.on_success),
            (Role::OnFailure, &rule.on_failure),
        ] {
            if let Some(follow_up) = follow_up {
                want(
                    role,
                    &follow_up.target,
                    &follow_up.delivery,
                    follow_up.transform.as_ref(),
                );
            }
        }
    }
    all
}

fn identity(rule: &config::Rule, role: Role, target: &Name) -> SubscriptionIdentity {
    SubscriptionIdentity {
        tenant: rule.tenant.clone(),
        rule: rule.name.clone(),
        role,
        target: target.clone(),
    }
}

fn backlog(delivery: &DeliverySettings) -> Option<Backlog> {
    delivery.backlog_max.map(|max| Backlog {
        max,
        dead_when_full: delivery.when_full == WhenFull::Dead,
    })
}

/// The subscriptions that the journal is to keep.
#[must_use]
pub fn subscriptions(config: &Config) -> Vec<Subscription> {
    wanted(config)
        .into_iter()
        .map(|one| one.subscription)
        .collect()
}

/// Connects a configuration to what runs: it holds what stays over reloads.
#[derive(Debug)]
pub struct Wiring {
    /// The targets that are open.
    pub targets: Targets,
    pub metrics: Metrics,
    /// The log of dead letters.
    pub digest: Arc<Digest>,
}

impl Wiring {
    /// One without targets.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            targets: Targets::default(),
            metrics,
            digest: Arc::default(),
        }
    }

    /// What the router and the dispatcher need, from a configuration and the numbers of its
    /// [`subscriptions`], in their order. The configuration's targets and rules are used up.
    ///
    /// # Errors
    /// Never of a configuration that was read without a mistake.
    pub async fn connect(
        &self,
        config: &mut Config,
        numbers: &[SubscriptionNumber],
    ) -> Result<(Router, Plan), InvalidPolicy> {
        let numbers = Numbers::of(config, numbers);
        let (quotas, places) = quotas(config);
        let routes = self.routes(config, &numbers, &places)?;
        let targets = self.open(std::mem::take(&mut config.targets)).await;
        let rules = std::mem::take(&mut config.rules).into_iter();
        let router = Router::new(rules.map(|rule| in_force(rule, &numbers)).collect());
        let schemas = std::mem::take(&mut config.schemas).into_iter();
        let router = router.with_schemas(schemas.map(|schema| {
            let mismatches = mismatches(&self.metrics, &schema);
            SchemaInForce::new(schema, mismatches)
        }));
        Ok((
            router,
            Plan {
                targets,
                routes,
                quotas,
            },
        ))
    }

    /// How the deliveries of each subscription go out.
    fn routes(
        &self,
        config: &Config,
        numbers: &Numbers,
        quotas: &QuotaPlaces,
    ) -> Result<Vec<(SubscriptionNumber, Arc<Route>)>, InvalidPolicy> {
        let targets: HashMap<_, _> = config
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| {
                let templates: Arc<[TextTemplate]> = target.texts.as_slice().into();
                ((&target.tenant, &target.name), (index, target, templates))
            })
            .collect();
        let mut routes = Vec::new();
        for Wanted {
            rule,
            subscription: Subscription { identity, .. },
            delivery,
            transform,
        } in wanted(config)
        {
            let Some(number) = numbers.get(rule, identity.role, &identity.target) else {
                continue;
            };
            let Some((index, target, templates)) =
                targets.get(&(&identity.tenant, &identity.target))
            else {
                continue;
            };
            // Nothing follows from the delivery of what follows: that would have no end.
            let follow = |role, follow_up: &Option<config::FollowUp>| {
                let follow_up = follow_up.as_ref().filter(|_| identity.role == Role::To)?;
                Some(FollowUpRoute {
                    subscription: numbers.get(rule, role, &follow_up.target)?,
                    send: match follow_up.send {
                        FollowUpContent::Report => FollowUpPayload::Report,
                        FollowUpContent::Original => FollowUpPayload::Original,
                    },
                })
            };
            let route = Route {
                on_success: follow(Role::OnSuccess, &rule.on_success),
                on_failure: follow(Role::OnFailure, &rule.on_failure),
                target: *index,
                quotas: quotas.of(&identity),
                is_templated: has_templated_url(target),
                policy: delivery.policy()?,
                batch: delivery.batch,
                priority: match delivery.priority {
                    DeliveryPriority::OfAll(priority) => priority,
                    DeliveryPriority::OfEach(_) => Priority::USUAL,
                },
                preparation: Preparation {
                    transform: transform.cloned(),
                    templates: Arc::clone(templates),
                },
                recording: Recording {
                    level: delivery.history,
                    called: Some(target.settings.called()),
                },
                observer: Observer::new(identity.clone(), &self.metrics, Arc::clone(&self.digest)),
                identity,
            };
            routes.push((number, Arc::new(route)));
        }
        Ok(routes)
    }

    /// Opens targets, or goes on with those that are open.
    async fn open(&self, targets: Vec<config::Target>) -> Vec<Target> {
        let (limits, wanted): (Vec<_>, Vec<_>) = targets
            .into_iter()
            .map(|target| {
                let key = Key {
                    tenant: target.tenant,
                    name: target.name,
                    fingerprint: target.fingerprint,
                };
                ((key.clone(), target.limits), (key, target.settings))
            })
            .unzip();
        let services = self.targets.reload(wanted).await;
        limits
            .into_iter()
            .zip(services)
            .map(|((key, limits), service)| Target {
                tenant: key.tenant,
                name: key.name,
                fingerprint: key.fingerprint,
                service,
                concurrency_max: limits
                    .concurrency_max
                    .try_into()
                    .unwrap_or(NonZeroUsize::MAX),
                rate: limits.rate,
            })
            .collect()
    }
}

/// The quotas of tenants and of rules.
fn all_quotas(config: &Config) -> impl Iterator<Item = (&Name, Option<&Name>, &config::Quota)> {
    let of_tenants = config.quotas.iter();
    let of_rules = config.rules.iter().filter_map(|rule| {
        let quota = rule.quota.as_ref()?;
        Some((&rule.tenant, Some(&rule.name), quota))
    });
    of_tenants
        .map(|(tenant, quota)| (tenant, None, quota))
        .chain(of_rules)
}

/// Those that bound what waits.
#[must_use]
pub fn backlog_quotas(config: &Config) -> Vec<BacklogQuota> {
    let bound = |(tenant, rule, quota): (&Name, Option<&Name>, &config::Quota)| {
        let (max, when_full) = quota.backlog?;
        Some(BacklogQuota {
            owner: QuotaOwner {
                tenant: tenant.clone(),
                rule: rule.cloned(),
            },
            backlog: Backlog {
                max,
                dead_when_full: when_full == WhenFull::Dead,
            },
        })
    };
    all_quotas(config).filter_map(bound).collect()
}

/// All of them, to be shown.
#[must_use]
pub fn quota_uses(config: &Config) -> Vec<QuotaUse> {
    let shown = |(tenant, rule, quota): (&Name, Option<&Name>, &config::Quota)| QuotaUse {
        tenant: tenant.clone(),
        rule: rule.cloned(),
        rate: quota.rate.map(|rate| rate.to_string()),
        in_flight: 0,
        rate_share: None,
        in_flight_max: quota.in_flight.map(|max| max.get().into()),
        share: None,
        pending: 0,
        backlog_max: quota.backlog.map(|(max, _)| max),
        when_full: quota.backlog.map(|(_, when_full)| {
            let text = match when_full {
                WhenFull::Stop => "stop",
                WhenFull::Dead => "dead",
            };
            text.to_owned()
        }),
    };
    all_quotas(config).map(shown).collect()
}

/// Those that bound attempts.
fn quotas(config: &Config) -> (Vec<dispatcher::Quota>, QuotaPlaces) {
    let (mut all, mut places) = (Vec::new(), QuotaPlaces::default());
    for (tenant, rule, quota) in all_quotas(config) {
        if quota.rate.is_none() && quota.in_flight.is_none() {
            continue;
        }
        let quota = dispatcher::Quota {
            tenant: tenant.clone(),
            rule: rule.cloned(),
            rate: quota.rate,
            in_flight: quota
                .in_flight
                .map(|max| usize::try_from(max.get()).unwrap_or(usize::MAX)),
        };
        places.0.insert(quota.key(), all.len());
        all.push(quota);
    }
    (all, places)
}

/// Where in the plan a tenant's or a rule's quota is.
#[derive(Default)]
struct QuotaPlaces(HashMap<(Name, Option<Name>), usize>);

impl QuotaPlaces {
    fn of(&self, identity: &SubscriptionIdentity) -> [Option<usize>; 2] {
        if self.0.is_empty() {
            return [None; 2];
        }
        [None, Some(identity.rule.clone())]
            .map(|rule| self.0.get(&(identity.tenant.clone(), rule)).copied())
    }
}

/// The journal's numbers of a configuration's subscriptions.
struct Numbers(HashMap<SubscriptionIdentity, SubscriptionNumber>);

impl Numbers {
    fn of(config: &Config, numbers: &[SubscriptionNumber]) -> Self {
        let identities = wanted(config)
            .into_iter()
            .map(|one| one.subscription.identity);
        Self(identities.zip(numbers.iter().copied()).collect())
    }

    fn get(&self, rule: &config::Rule, role: Role, target: &Name) -> Option<SubscriptionNumber> {
        self.0.get(&identity(rule, role, target)).copied()
    }
}

fn has_templated_url(target: &config::Target) -> bool {
    let templates = target.settings.templates();
    templates
        .iter()
        .any(|text| text.placement == Placement::Url)
}

pub(super) fn deduplicate(declared: config::Deduplicate) -> Deduplicate {
    let config::Deduplicate { by, window } = declared;
    Deduplicate { by, window }
}

/// What counts the events for which a schema does not hold.
fn mismatches(metrics: &Metrics, schema: &TypeSchema) -> Counter {
    let counters = metrics.schema(&schema.tenant, &schema.ty);
    match schema.on_mismatch {
        OnMismatch::Refuse => counters.refused,
        OnMismatch::Mark => counters.marked,
        OnMismatch::DeadLetter => counters.dead,
    }
}

fn in_force(rule: config::Rule, numbers: &Numbers) -> RuleInForce {
    let subscriptions = rule
        .to
        .iter()
        .filter_map(|to| {
            Some(SubscriptionInForce {
                number: numbers.get(&rule, Role::To, &to.target)?,
                target: to.target.clone(),
                order_by: to.delivery.order_by.clone(),
                delay: to.delivery.delay,
                priority: match &to.delivery.priority {
                    DeliveryPriority::OfAll(_) => None,
                    DeliveryPriority::OfEach(template) => Some(template.clone()),
                },
            })
        })
        .collect();
    RuleInForce {
        tenant: rule.tenant,
        name: rule.name,
        pipe: rule.pipe,
        from: rule.from,
        filter: rule.filter,
        deduplicate: rule.deduplicate.map(deduplicate),
        retention: rule.retention,
        subscriptions,
    }
}
