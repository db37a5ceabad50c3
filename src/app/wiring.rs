//! From a configuration to subscriptions, and from subscriptions to what the router and the
//! dispatcher need.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_rules::{Document, TextTemplate, transform::Transform};
use pointsman_schemas::{Class, Event, Name, Placement, SubscriptionNumber};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use super::digest::{Digest, Tell};
use super::targets::{Key, Targets};
use crate::config::{self, Config, DeliverySettings, FollowUpContent, WhenFull};
use crate::dispatcher::schedule::InvalidPolicy;
use crate::dispatcher::{self, Follow, FollowWith, Observe, Plan, Prepare};
use crate::router::{Router, RuleInForce, SubscriptionInForce};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{SubscriptionMetrics, TargetMetrics};
use pointsman_journal::{Backlog, DeadReason, Ending, Role, Subscription, SubscriptionIdentity};

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
            let identity = SubscriptionIdentity {
                tenant: rule.tenant.clone(),
                rule: rule.name.clone(),
                role,
                target: target.clone(),
            };
            // What a pipe has no room for waits in its source.
            let backlog = backlog(delivery).filter(|_| !rule.pipe || role != Role::To);
            all.push(Wanted {
                rule,
                subscription: Subscription {
                    identity,
                    renamed_from: rule.renamed_from.clone(),
                    backlog,
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

/// What the wiring works with.
#[derive(Debug)]
pub struct Means {
    /// The targets that are open.
    pub targets: Targets,
    /// Counts.
    pub metrics: Metrics,
    /// Tells the log of deliveries.
    pub digest: Arc<Digest>,
}

/// What the router and the dispatcher need, from a configuration and the numbers of its
/// [`subscriptions`], in their order. The configuration's targets and rules are used up.
///
/// # Errors
/// Never of a configuration that was read without a mistake.
pub async fn connect(
    config: &mut Config,
    numbers: &[SubscriptionNumber],
    with: &Means,
) -> Result<(Router, Plan), InvalidPolicy> {
    let by_identity: HashMap<SubscriptionIdentity, SubscriptionNumber> = wanted(config)
        .into_iter()
        .map(|one| one.subscription.identity)
        .zip(numbers.iter().copied())
        .collect();
    let number = |rule: &config::Rule, role, target: &Name| {
        let identity = SubscriptionIdentity {
            tenant: rule.tenant.clone(),
            rule: rule.name.clone(),
            role,
            target: target.clone(),
        };
        by_identity.get(&identity).copied()
    };
    let indexes: HashMap<(&Name, &Name), usize> = config
        .targets
        .iter()
        .enumerate()
        .map(|(index, target)| ((&target.tenant, &target.name), index))
        .collect();
    let is_templated = |target: &config::Target| {
        target
            .settings
            .templates()
            .iter()
            .any(|text| text.placement == Placement::Url)
    };
    let templated: Vec<bool> = config.targets.iter().map(is_templated).collect();
    let texts: Vec<Arc<[TextTemplate]>> = config
        .targets
        .iter()
        .map(|target| target.texts.as_slice().into())
        .collect();
    let follow = |rule: &config::Rule, role, follow_up: &Option<config::FollowUp>| {
        let follow_up = follow_up.as_ref()?;
        let send = match follow_up.send {
            FollowUpContent::Report => FollowWith::Report,
            FollowUpContent::Original => FollowWith::Original,
        };
        Some(Follow {
            subscription: number(rule, role, &follow_up.target)?,
            send,
        })
    };

    let mut plans = Vec::with_capacity(numbers.len());
    for (one, subscription) in wanted(config).into_iter().zip(numbers) {
        let identity = one.subscription.identity;
        let Some(index) = indexes.get(&(&identity.tenant, &identity.target)).copied() else {
            continue;
        };
        let prepare = Preparation {
            transform: one.transform.cloned(),
            texts: texts.get(index).cloned().unwrap_or_default(),
        };
        // What follows from a delivery has nothing that follows from it.
        let rule = (identity.role == Role::To).then_some(one.rule);
        let observe = Observer {
            subscription: with.metrics.subscription(&identity),
            target: with.metrics.target(&identity.tenant, &identity.target),
            unreadable_replies: with.metrics.rejects(&identity.tenant, &Name::replies()),
            digest: Arc::clone(&with.digest),
            news: Arc::new(News {
                identity: identity.clone(),
                gathered: Mutex::default(),
            }),
        };
        let plan = dispatcher::Route {
            on_success: rule.and_then(|rule| follow(rule, Role::OnSuccess, &rule.on_success)),
            on_failure: rule.and_then(|rule| follow(rule, Role::OnFailure, &rule.on_failure)),
            identity,
            target: index,
            is_templated: templated.get(index).copied().unwrap_or_default(),
            policy: one.delivery.policy()?,
            prepare: Arc::new(prepare),
            observe: Arc::new(observe),
        };
        plans.push((*subscription, Arc::new(plan)));
    }
    let mut targets = Vec::new();
    let mut wanted = Vec::new();
    for target in std::mem::take(&mut config.targets) {
        let key = Key {
            tenant: target.tenant,
            name: target.name,
            fingerprint: target.fingerprint,
        };
        targets.push((key.clone(), target.limits));
        wanted.push((key, target.settings));
    }
    let services = with.targets.reload(wanted).await;
    let targets = targets
        .into_iter()
        .zip(services)
        .map(|((key, limits), service)| dispatcher::Target {
            tenant: key.tenant,
            name: key.name,
            fingerprint: key.fingerprint,
            service,
            concurrency_max: limits
                .concurrency_max
                .try_into()
                .unwrap_or(NonZeroUsize::MAX),
            rate: limits.rate,
        });
    let plan = Plan {
        targets: targets.collect(),
        routes: plans,
    };

    let subscriptions: Vec<Vec<SubscriptionInForce>> = config
        .rules
        .iter()
        .map(|rule| {
            let in_force = |to: &config::Destination| {
                Some(SubscriptionInForce {
                    number: number(rule, Role::To, &to.target)?,
                    order_by: to.delivery.order_by.clone(),
                })
            };
            rule.to.iter().filter_map(in_force).collect()
        })
        .collect();
    let in_force = std::mem::take(&mut config.rules)
        .into_iter()
        .zip(subscriptions)
        .map(|(rule, subscriptions)| RuleInForce {
            tenant: rule.tenant,
            name: rule.name,
            pipe: rule.pipe,
            from: rule.from,
            pattern: rule.pattern,
            condition: rule.condition,
            filters: rule.filters,
            subscriptions,
        });
    Ok((Router::new(in_force.collect()), plan))
}

/// What is done to an event before it goes to its target: the rule's transform, then the target's
/// texts over what that made.
#[derive(Debug)]
struct Preparation {
    transform: Option<Arc<Transform>>,
    texts: Arc<[TextTemplate]>,
}

impl Prepare for Preparation {
    fn prepare(&self, event: &Arc<Event>) -> Result<(Arc<Event>, Vec<String>), String> {
        let event = match &self.transform {
            Some(transform) => Arc::new(transform.apply(event).map_err(|error| error.to_string())?),
            None => Arc::clone(event),
        };
        let document = Document::event(&event);
        let mut texts = Vec::with_capacity(self.texts.len());
        for template in &*self.texts {
            let mut text = String::new();
            template
                .render(&document, &mut text)
                .map_err(|error| error.to_string())?;
            texts.push(text);
        }
        drop(document);
        Ok((event, texts))
    }
}

/// Counts what becomes of one subscription's deliveries, and tells the log of dead ones.
struct Observer {
    subscription: SubscriptionMetrics,
    target: TargetMetrics,
    unreadable_replies: Counter,
    digest: Arc<Digest>,
    news: Arc<News>,
}

/// What the log is to be told of one subscription.
struct News {
    identity: SubscriptionIdentity,
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    /// When the log was told last, or will be next.
    at: Option<Instant>,
    /// Dead letters since then, by their reason.
    dead: Vec<(DeadReason, u64)>,
    /// Answers that were no events since then, and the last one's reason.
    unreadable: (u64, String),
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.dead.is_empty() && self.unreadable.0 == 0
    }
}

impl Observer {
    fn gather(&self, news: impl FnOnce(&mut Gathered)) {
        let mut gathered = self.news.gathered.lock();
        if gathered.is_empty() {
            let spoke_at = gathered.at;
            gathered.at = Some(
                self.digest
                    .announce(Arc::clone(&self.news) as Arc<dyn Tell>, spoke_at),
            );
        }
        news(&mut gathered);
    }
}

impl Tell for News {
    fn tell(&self) {
        let (dead, (unreadable, why)) = {
            let mut gathered = self.gathered.lock();
            (
                std::mem::take(&mut gathered.dead),
                std::mem::take(&mut gathered.unreadable),
            )
        };
        let SubscriptionIdentity {
            tenant,
            rule,
            target,
            ..
        } = &self.identity;
        for (reason, dead) in dead {
            tracing::warn!(%tenant, %rule, to = %target, reason = reason.as_str(), dead, "deliveries became dead letters; see pointsman dead list");
        }
        if unreadable > 0 {
            tracing::warn!(%tenant, %rule, to = %target, unreadable, last = why, "answers of the target are no CloudEvents though they say so; they are dead letters of the source replies");
        }
    }
}

impl Observe for Observer {
    fn attempted(&self, class: Class, took: Duration) {
        self.target.attempted(class, took);
    }

    fn settled(&self, ending: &Ending) {
        let counter = match ending {
            Ending::Delivered => &self.subscription.delivered,
            Ending::Retry { .. } => &self.subscription.retried,
            Ending::Dead { reason, .. } => {
                self.gather(|gathered| {
                    match gathered.dead.iter_mut().find(|(known, _)| known == reason) {
                        Some((_, count)) => *count += 1,
                        None => gathered.dead.push((*reason, 1)),
                    }
                });
                &self.subscription.dead
            }
            Ending::Released => &self.subscription.released,
        };
        counter.inc();
    }

    fn unreadable_reply(&self, reason: &str) {
        self.unreadable_replies.inc();
        self.gather(|gathered| {
            gathered.unreadable = (gathered.unreadable.0 + 1, reason.to_owned())
        });
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn observer(digest: &Arc<Digest>) -> Observer {
        let name = |name| Name::new(name).unwrap();
        let identity = SubscriptionIdentity {
            tenant: name("default"),
            rule: name("paid"),
            role: Role::To,
            target: name("function"),
        };
        let metrics = Metrics::new(&mut Registry::default(), pointsman_schemas::Timestamp(0));
        Observer {
            subscription: metrics.subscription(&identity),
            target: metrics.target(&identity.tenant, &identity.target),
            unreadable_replies: metrics.rejects(&identity.tenant, &Name::replies()),
            digest: Arc::clone(digest),
            news: Arc::new(News {
                identity,
                gathered: Mutex::default(),
            }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_of_all_dead_letters_and_at_most_once_in_ten_seconds() {
        let digest = Arc::<Digest>::default();
        let (observer, other) = (observer(&digest), observer(&digest));
        let (logged, _guard) = crate::telemetry::testing::capture("warn", false);
        let stop = CancellationToken::new();
        let running = digest.run(stop.clone());
        let dead =
            |observer: &Observer, reason| observer.settled(&Ending::Dead { reason, last: None });
        let lines = || logged.text().lines().count();
        let happens = async {
            // What dies at once is one line, for each reason.
            (0..3).for_each(|_| dead(&observer, DeadReason::Rejected));
            dead(&observer, DeadReason::Exhausted);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let text = logged.text();
            assert!(
                text.contains("rule=paid") && text.contains("reason=\"rejected\" dead=3"),
                "{text}"
            );
            assert!(
                lines() == 2 && text.contains("reason=\"exhausted\" dead=1"),
                "{text}"
            );
            // What comes behind it is told once the ten seconds are over, although nothing follows.
            dead(&observer, DeadReason::Rejected);
            dead(&observer, DeadReason::Rejected);
            tokio::time::sleep(Duration::from_secs(1)).await;
            dead(&other, DeadReason::Hops);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(
                lines() == 3
                    && logged
                        .text()
                        .ends_with("see pointsman dead list reason=\"hops\" dead=1\n")
                    || lines() == 3,
                "{}",
                logged.text()
            );
            tokio::time::sleep(Duration::from_secs(8)).await;
            assert!(
                lines() == 4 && logged.text().contains("dead=2"),
                "{}",
                logged.text()
            );
            for _ in 0..300 {
                dead(&observer, DeadReason::Rejected);
                observer.unreadable_reply("it is no object");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(
                (10..=12).contains(&lines()),
                "thirty seconds: {}",
                logged.text()
            );
            observer.settled(&Ending::Delivered);
            stop.cancel();
        };
        tokio::join!(running, happens);
        let told: u64 = logged
            .text()
            .lines()
            .filter_map(|line| {
                line.split("dead=")
                    .nth(1)?
                    .split(' ')
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .sum();
        assert_eq!(
            (told, observer.unreadable_replies.get()),
            (3 + 1 + 2 + 1 + 300, 300),
            "{}",
            logged.text()
        );
    }
}
