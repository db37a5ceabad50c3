//! What the admin API shows of the running parts.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use foldhash::HashSet;
use parking_lot::Mutex;
use pointsman_schemas::{DeliveryId, Event, Name, SubscriptionNumber};
use tokio::sync::mpsc::UnboundedReceiver;

use super::cluster::Shares;
use super::sources::Sources;
use crate::admin::{Circuit, Overview, RuleStatus, SourceStatus, TargetStatus};
use crate::config::{Config, Written};
use crate::dispatcher;
use crate::router::{Explained, Router};
use crate::telemetry::metrics::Kept;
use crate::telemetry::{Metrics, QuotaUse};
use pointsman_journal::{Identity, SubscriptionStatus};

/// The running parts.
pub struct RunningParts {
    sources: Arc<Sources>,
    router: Arc<ArcSwap<Router>>,
    dispatcher: dispatcher::Handle,
    /// Rules as the files give them, without their matches.
    rules: Mutex<Vec<RuleStatus>>,
    /// The kind of each target, by tenant and name.
    target_kinds: Mutex<HashMap<(Name, Name), &'static str>>,
    quotas: Mutex<Vec<QuotaUse>>,
    written: Mutex<Arc<Written>>,
    /// Why a change of the files is not in force.
    refused: Mutex<Option<String>>,
    /// What of them is this node's, in a cluster.
    shares: Option<Shares>,
    metrics: Metrics,
    /// What the files give labels in the metrics.
    kept: Mutex<Kept>,
    ready: AtomicBool,
    stopping: AtomicBool,
}

impl fmt::Debug for RunningParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningParts")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

impl RunningParts {
    /// Parts that are not ready yet.
    pub fn new(
        sources: Arc<Sources>,
        router: Arc<ArcSwap<Router>>,
        dispatcher: dispatcher::Handle,
        metrics: Metrics,
        shares: Option<Shares>,
    ) -> Self {
        let (rules, target_kinds, kept) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self {
            sources,
            router,
            dispatcher,
            rules,
            target_kinds,
            quotas: Mutex::default(),
            written: Mutex::default(),
            refused: Mutex::default(),
            shares,
            metrics,
            kept,
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// Shows this configuration from now on.
    pub fn set_config(&self, config: &Config) {
        let rules = config.rules.iter().map(|rule| RuleStatus {
            name: rule.name.clone(),
            tenant: rule.tenant.clone(),
            pipe: rule.pipe,
            description: rule.description.clone(),
            from: rule.from.clone().unwrap_or_default(),
            to: rule.to.iter().map(|to| to.target.clone()).collect(),
            conditions: rule.conditions.clone(),
            matches: 0,
            duplicates: 0,
        });
        let rules = rules.collect();
        // Dropped once the lock is free again.
        let _old = std::mem::replace(&mut *self.rules.lock(), rules);
        let always = [Name::ingress(), Name::replies()].map(|name| (Name::default_tenant(), name));
        let replies = config
            .rules
            .iter()
            .map(|rule| (rule.tenant.clone(), Name::replies()));
        let sources = config
            .sources
            .iter()
            .map(|source| (source.tenant.clone(), source.name.clone()));
        let targets = config
            .targets
            .iter()
            .map(|target| (target.tenant.clone(), target.name.clone()));
        let subscriptions = super::wiring::subscriptions(config)
            .into_iter()
            .map(|one| one.identity);
        let schemas = config
            .schemas
            .iter()
            .map(|schema| (schema.tenant.clone(), schema.ty.clone()));
        *self.kept.lock() = Kept {
            schemas: schemas.collect(),
            sources: sources.chain(always).chain(replies).collect(),
            subscriptions: subscriptions.collect(),
            targets: targets.collect(),
        };
        *self.written.lock() = Arc::clone(&config.written);
        *self.quotas.lock() = super::wiring::quota_uses(config);
        *self.target_kinds.lock() = config
            .targets
            .iter()
            .map(|target| ((target.tenant.clone(), target.name.clone()), target.kind))
            .collect();
    }

    /// Shows why a change of the rule files is not in force; none where they are as they are in
    /// force.
    pub fn set_refused_change(&self, why: Option<String>) {
        *self.refused.lock() = why;
    }

    /// Everything has started.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// The bus has been asked to stop.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

impl Overview for RunningParts {
    fn probe(&self, subscription: SubscriptionNumber) {
        self.dispatcher.probe(subscription);
    }

    fn stop(&self, ids: Vec<DeliveryId>) -> UnboundedReceiver<dispatcher::StopReport> {
        self.dispatcher.stop(ids)
    }

    fn stopping(&self) -> std::collections::HashSet<DeliveryId> {
        self.dispatcher.stopping()
    }

    fn identities(&self, tenant: &Name, rules: &[Name], event: &Event) -> Vec<(Name, Identity)> {
        self.router.load_full().identities(tenant, rules, event)
    }

    fn explain(
        &self,
        tenant: &Name,
        origin: &Name,
        event: &Event,
        rule: Option<&Name>,
        limit: usize,
    ) -> Option<Explained> {
        self.router
            .load_full()
            .explain(tenant, origin, event, rule, limit)
    }

    fn sources(&self) -> Vec<SourceStatus> {
        let mut all = self.sources.each(|tenant, name, source| {
            let link = source.link.status();
            SourceStatus {
                name: name.clone(),
                tenant: tenant.clone(),
                kind: source.kind.to_owned(),
                state: link.state,
                since: link.since.to_string(),
                last_error: link.last_error,
                guarantee: source.guarantee,
                lag: link.lag,
                skipped: link.skipped,
                events: source.metrics.received.get(),
                rejects: source.metrics.rejects.get(),
            }
        });
        all.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
        all
    }

    fn rules(&self) -> Vec<RuleStatus> {
        let mut rules = self.rules.lock().clone();
        let router = self.router.load();
        let matches: std::collections::HashMap<(&Name, &Name), (u64, u64)> = router
            .matches()
            .map(|(tenant, name, matches, duplicates)| ((tenant, name), (matches, duplicates)))
            .collect();
        for rule in &mut rules {
            let found = matches.get(&(&rule.tenant, &rule.name));
            (rule.matches, rule.duplicates) = found.copied().unwrap_or_default();
        }
        rules
    }

    fn targets(&self) -> Vec<TargetStatus> {
        let kinds = self.target_kinds.lock();
        let status = |target: dispatcher::TargetStatus| {
            let key = (target.tenant, target.name);
            let kind = kinds.get(&key).copied().unwrap_or_default();
            let (tenant, name) = key;
            TargetStatus {
                kind: kind.to_owned(),
                circuit: match target.circuit {
                    dispatcher::CircuitStatus::Closed => Circuit::Closed,
                    dispatcher::CircuitStatus::Open => Circuit::Open,
                },
                name,
                tenant,
                since: target.since.to_string(),
                last_error: target.last_error,
                in_flight: target.in_flight as u64,
                limit: target.limit as u64,
                share: target.share.map(|share| share as u64),
            }
        };
        self.dispatcher
            .status()
            .targets
            .into_iter()
            .map(status)
            .collect()
    }

    fn paused(&self) -> BTreeMap<SubscriptionNumber, String> {
        self.dispatcher
            .status()
            .paused
            .into_iter()
            .map(|(number, paused)| (number, paused.reason))
            .collect()
    }

    fn lanes(&self) -> BTreeMap<SubscriptionNumber, dispatcher::LaneReason> {
        self.dispatcher.status().lanes
    }

    fn quotas(&self) -> Vec<QuotaUse> {
        let mut quotas = self.quotas.lock().clone();
        if let Some(shares) = &self.shares {
            shares.show(&mut quotas);
        }
        quotas
    }

    fn forget_others(&self, statuses: &[SubscriptionStatus]) {
        // Mostly nobody asks for it: all that count are kept.
        let held = LazyCell::new(|| {
            let identities = statuses.iter().map(|status| &status.identity);
            identities.collect::<HashSet<_>>()
        });
        self.metrics
            .retain(&self.kept.lock(), |identity| held.contains(identity));
    }

    fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written.lock())
    }

    fn refused_change(&self) -> Option<String> {
        self.refused.lock().clone()
    }

    fn ready(&self) -> Vec<String> {
        let starting = (!self.ready.load(Ordering::Acquire)).then(|| "still starting".to_owned());
        let stopping = self
            .stopping
            .load(Ordering::Acquire)
            .then(|| "stopping".to_owned());
        starting.into_iter().chain(stopping).collect()
    }
}
