//! Replays.

use pointsman_journal::{
    Replay, ReplayKind, ReplayState, Role, SubscriptionIdentity, SubscriptionStatus,
};
use pointsman_schemas::{Name, Sequence, SubscriptionNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::replay::{DeadReplay, EventReplay, EventSelection};

use super::DeadRequest;

/// The one subscription that deliveries are made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedriveTo")]
pub struct Destination {
    /// Whose; the tenant `default` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Name>,
    /// For this target of it; may be left out where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    /// By its number, in the place of the three above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<u32>,
}

impl Destination {
    /// The subscription that is meant.
    ///
    /// # Errors
    /// None is, or more than one, in words.
    pub fn find<'s>(
        &self,
        statuses: &'s [SubscriptionStatus],
    ) -> Result<&'s SubscriptionStatus, String> {
        if let Some(number) = self.subscription {
            if self.rule.is_some() || self.target.is_some() {
                return Err("subscription says it all: leave out rule and target".into());
            }
            let found = statuses.iter().find(|status| status.number.0 == number);
            let found = found.filter(|status| status.identity.role == Role::To);
            return found.ok_or_else(|| format!("there is no subscription {number} to replay to"));
        }
        let Some(rule) = &self.rule else {
            return Err("it does not say to whom: give rule, and target, or subscription".into());
        };
        let tenant = self.tenant.clone().unwrap_or_else(Name::default_tenant);
        find_to(statuses, &tenant, rule, self.target.as_ref())
    }
}

/// A replay of retained events, as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    #[serde(flatten)]
    pub to: Destination,
    #[serde(flatten)]
    pub events: EventSelection,
    /// Only count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The subscription of a rule to a target, which may be left out where the rule has one.
///
/// # Errors
/// There is none, or more than one, in words.
pub fn find_to<'s>(
    statuses: &'s [SubscriptionStatus],
    tenant: &Name,
    rule: &Name,
    target: Option<&Name>,
) -> Result<&'s SubscriptionStatus, String> {
    let is_meant = |identity: &SubscriptionIdentity| {
        identity.tenant == *tenant
            && identity.rule == *rule
            && identity.role == Role::To
            && target.is_none_or(|target| identity.target == *target)
    };
    let mut found = statuses.iter().filter(|status| is_meant(&status.identity));
    // The attached one where an old one of the same rule is still there.
    let all: Vec<_> = found.clone().collect();
    match (found.next(), all.as_slice()) {
        (Some(only), [_]) => Ok(only),
        (None, _) => Err(match target {
            Some(target) => format!("rule {rule} of tenant {tenant} sends nothing to {target}"),
            None => format!("tenant {tenant} has no rule {rule}"),
        }),
        (Some(_), all) => {
            let mut attached = all.iter().filter(|status| status.attached);
            match (attached.next(), attached.next()) {
                (Some(only), None) => Ok(only),
                _ => {
                    let targets = all.iter().map(|status| status.identity.target.as_str());
                    let targets: Vec<_> = targets.collect();
                    let targets = targets.join(", ");
                    Err(format!(
                        "rule {rule} has several targets, name one: {targets}"
                    ))
                }
            }
        }
    }
}

/// A replay as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayView {
    /// Which: what the events have as `pointsmanreplay`.
    pub id: String,
    /// What it takes its deliveries from.
    pub kind: ReplayKind,
    /// How it stands.
    pub state: ReplayState,
    /// Why it ended, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// For whom; none of dead letters that go to their own subscriptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionNumber>,
    /// The same by name; none where it is gone.
    #[serde(flatten)]
    pub identity: Option<SubscriptionIdentity>,
    /// When it began.
    pub began: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Events or dead letters that it has looked at.
    pub seen: u64,
    /// Deliveries that it has made.
    pub made: u64,
    /// How much of its events it has looked at, from 0 to 1; none of dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// What it was asked to take; of a replay of dead letters only the rate.
    #[serde(flatten)]
    pub events: EventSelection,
    /// Which dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<DeadRequest>,
}

impl ReplayView {
    /// A replay in a journal whose last sequence is this.
    #[must_use]
    pub fn new(replay: Replay, statuses: &[SubscriptionStatus], last: Sequence) -> Self {
        let progress = progress(&replay, last);
        let number = replay.subscription;
        let status = statuses.iter().find(|status| Some(status.number) == number);
        let mut events = EventReplay::decode(&replay.request)
            .unwrap_or_default()
            .events;
        let dead = match replay.kind {
            ReplayKind::Dead => DeadReplay::decode(&replay.request).ok(),
            ReplayKind::Events | ReplayKind::Start => None,
        };
        if let Some(dead) = &dead {
            events.rate.clone_from(&dead.rate);
        }
        Self {
            id: replay.id.to_string(),
            kind: replay.kind,
            state: replay.state,
            message: (!replay.message.is_empty()).then_some(replay.message),
            subscription: number,
            identity: status.map(|status| status.identity.clone()),
            began: replay.began.to_string(),
            ended: replay.ended.map(|ended| ended.to_string()),
            seen: replay.seen,
            made: replay.made,
            progress,
            events,
            selection: dead.map(|dead| dead.selection),
        }
    }
}

fn progress(replay: &Replay, last: Sequence) -> Option<f64> {
    let until = match replay.kind {
        ReplayKind::Dead => return None,
        ReplayKind::Events => replay.until,
        ReplayKind::Start if replay.hands_over => replay.until,
        ReplayKind::Start => last,
    };
    if replay.state == ReplayState::Finished {
        return Some(1.0);
    }
    let all = until.0.saturating_sub(replay.first.0);
    let done = replay.after.0.saturating_sub(replay.first.0).min(all);
    // Far below where a double is not exact.
    #[expect(clippy::cast_precision_loss, reason = "a share for a person")]
    let share = |done: u64, all: u64| done as f64 / all as f64;
    Some(if all == 0 { 1.0 } else { share(done, all) })
}
