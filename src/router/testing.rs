//! Rules for tests of what matches events.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pointsman_rules::{Path, Pattern};
use pointsman_schemas::{Name, SubscriptionNumber, SystemClock};
use serde_json::Value;

use super::{MatchCounters, Matcher, Router, RuleInForce, SubscriptionInForce};

/// A rule of the default tenant that takes what matches from any source.
pub(crate) fn rule(pattern: Value, numbers: &[SubscriptionNumber]) -> RuleInForce {
    RuleInForce {
        tenant: Name::default_tenant(),
        name: Name::new("rule").unwrap(),
        pipe: false,
        from: None,
        filter: Pattern::compile(&pattern).unwrap().into(),
        deduplicate: None,
        retention: None,
        subscriptions: numbers
            .iter()
            .map(|number| SubscriptionInForce {
                number: *number,
                target: Name::new("target").unwrap(),
                order_by: None,
                delay: Duration::ZERO,
                priority: None,
            })
            .collect(),
    }
}

/// A pipe that takes everything but the type `skip`, ordered by the subject.
pub(crate) fn pipe(from: &Name, number: SubscriptionNumber) -> RuleInForce {
    let pattern = serde_json::json!({ "type": [{ "anything-but": "skip" }] });
    RuleInForce {
        pipe: true,
        from: Some(vec![from.clone()]),
        subscriptions: vec![SubscriptionInForce {
            number,
            target: Name::new("target").unwrap(),
            order_by: Some(Path::parse("$.subject").unwrap()),
            delay: Duration::ZERO,
            priority: None,
        }],
        ..rule(pattern, &[])
    }
}

pub(crate) fn shared(rules: Vec<RuleInForce>) -> Arc<ArcSwap<Router>> {
    Arc::new(ArcSwap::from_pointee(Router::new(rules)))
}

pub(crate) fn matcher(router: &Arc<ArcSwap<Router>>) -> Matcher {
    Matcher::new(
        Arc::clone(router),
        Arc::new(SystemClock),
        MatchCounters::default(),
    )
}
