//! What is shown: two looks at a bus, and what happened between them.

use std::collections::HashMap;

use serde::Serialize;

use super::sample::{Sample, SubscriptionLine};
use crate::admin::{Circuit, SourceStatus, TargetStatus};

/// Everything that is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct View {
    pub(super) version: String,
    pub(super) uptime_seconds: f64,
    pub(super) ready: bool,
    /// What is missing before events can be taken.
    pub(super) missing: Vec<String>,
    pub(super) subscriptions: Vec<SubscriptionRow>,
    pub(super) sources: Vec<SourceRow>,
    pub(super) targets: Vec<TargetRow>,
}

/// A rule with one of its targets. Rates are per second.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct SubscriptionRow {
    pub(super) number: u32,
    pub(super) tenant: String,
    pub(super) rule: String,
    pub(super) role: String,
    pub(super) target: String,
    /// `active`, `suspended`, `gone`, `refused`, `own lane`, or `no rule`.
    pub(super) state: String,
    /// Why it is refused, where it is.
    pub(super) why: Option<String>,
    pub(super) delivered: f64,
    pub(super) died: f64,
    pub(super) pending: u64,
    pub(super) retrying: u64,
    pub(super) in_flight: u64,
    pub(super) dead: u64,
    pub(super) oldest_seconds: Option<f64>,
}

/// A source.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct SourceRow {
    pub(super) tenant: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) events: f64,
    pub(super) rejects: u64,
    pub(super) lag: Option<u64>,
    pub(super) last_error: Option<String>,
}

/// A target.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct TargetRow {
    pub(super) tenant: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) circuit: String,
    pub(super) attempts: f64,
    pub(super) failed: f64,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    pub(super) in_flight: u64,
    pub(super) limit: u64,
    pub(super) last_error: Option<String>,
}

impl View {
    /// What there is now, with what happened since an earlier look.
    pub(super) fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        // A counter that is less than before is one of another process.
        let rate = |before: u64, now: u64| match seconds > 0.0 {
            true => now.checked_sub(before).unwrap_or(now) as f64 / seconds,
            false => 0.0,
        };
        Self {
            version: now.bus.version.clone(),
            uptime_seconds: now.bus.uptime_seconds,
            ready: now.bus.ready,
            missing: now.bus.missing.clone(),
            subscriptions: subscriptions(before, now, rate),
            sources: sources(before, now, rate),
            targets: targets(before, now, rate),
        }
    }
}

fn subscriptions(
    before: &Sample,
    now: &Sample,
    rate: impl Fn(u64, u64) -> f64,
) -> Vec<SubscriptionRow> {
    let earlier: HashMap<u32, &SubscriptionLine> = before
        .subscriptions
        .iter()
        .map(|one| (one.number, one))
        .collect();
    let row = |one: &SubscriptionLine| {
        let earlier = earlier.get(&one.number).copied().unwrap_or(one);
        SubscriptionRow {
            number: one.number,
            tenant: one.tenant.clone(),
            rule: one.rule.clone(),
            role: one.role.clone(),
            target: one.target.clone(),
            state: state(one).to_owned(),
            why: one.paused.clone(),
            delivered: rate(earlier.delivered, one.delivered),
            died: rate(earlier.dead, one.dead),
            pending: one.pending,
            retrying: one.retrying,
            in_flight: one.in_flight,
            dead: one.dead,
            oldest_seconds: one.oldest_pending_age_seconds,
        }
    };
    now.subscriptions.iter().map(row).collect()
}

fn state(one: &SubscriptionLine) -> &str {
    match () {
        () if !one.attached => "no rule",
        () if one.activity != "active" => &one.activity,
        () if one.paused.is_some() => "refused",
        () if one.lane == "own" => "own lane",
        () => "active",
    }
}

fn sources(before: &Sample, now: &Sample, rate: impl Fn(u64, u64) -> f64) -> Vec<SourceRow> {
    let row = |one: &SourceStatus| {
        let is_same =
            |other: &&SourceStatus| (&other.tenant, &other.name) == (&one.tenant, &one.name);
        let earlier = before.sources.iter().find(is_same).unwrap_or(one);
        SourceRow {
            tenant: one.tenant.to_string(),
            name: one.name.to_string(),
            kind: one.kind.clone(),
            state: word(&one.state),
            events: rate(earlier.events, one.events),
            rejects: one.rejects,
            lag: one.lag,
            last_error: one.last_error.clone(),
        }
    };
    now.sources.iter().map(row).collect()
}

fn targets(before: &Sample, now: &Sample, rate: impl Fn(u64, u64) -> f64) -> Vec<TargetRow> {
    let row = |one: &TargetStatus| {
        let key = (one.tenant.to_string(), one.name.to_string());
        let all = now.latencies.get(&key).cloned().unwrap_or_default();
        let earlier = before.latencies.get(&key).cloned().unwrap_or_default();
        let since = all.since(&earlier);
        // Where nothing has happened just now it is told how it was.
        let shown = if since.attempts > 0 { &since } else { &all };
        TargetRow {
            kind: one.kind.clone(),
            circuit: match one.circuit {
                Circuit::Closed => "closed",
                Circuit::Open => "open",
                Circuit::Probing => "probing",
            }
            .to_owned(),
            attempts: rate(earlier.attempts, all.attempts),
            failed: rate(earlier.failures, all.failures),
            p50_seconds: shown.quantile(0.5),
            p99_seconds: shown.quantile(0.99),
            in_flight: one.in_flight,
            limit: one.limit,
            last_error: one.last_error.clone(),
            tenant: key.0,
            name: key.1,
        }
    };
    now.targets.iter().map(row).collect()
}

/// How a state is written in the API.
fn word(state: &impl Serialize) -> String {
    let written = serde_json::to_value(state).ok();
    let text = written.as_ref().and_then(|value| value.as_str());
    text.unwrap_or_default().to_owned()
}
