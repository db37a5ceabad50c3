//! What the dispatcher's tests are made of.

use std::sync::Arc;
use std::time::Duration;

use pointsman_rules::{TextTemplate, Transform};
use pointsman_schemas::SystemClock;
use pointsman_schemas::{
    Backoff, DeliveryId, Epoch, Event, Name, Placement, Sequence, SubscriptionNumber, Timestamp,
};
use prometheus_client::registry::Registry;

use super::plan::Route;
use super::policy::Policy;
use super::{Observer, Preparation};
use crate::router::{MatchCounters, Matcher};
use crate::telemetry::Metrics;
use pointsman_journal::{Priority, Role, SubscriptionIdentity};

/// A preparation by a rule file's `transform`, and templates of an address.
pub(super) fn preparation(transform: serde_json::Value, templates: &[&str]) -> Preparation {
    let raw = serde_json::from_value(transform).unwrap();
    let templates = templates.iter();
    Preparation {
        transform: Some(Arc::new(Transform::compile(&raw).unwrap())),
        templates: templates
            .map(|text| TextTemplate::compile(text, Placement::Address).unwrap())
            .collect(),
    }
}

/// No rule takes a reply.
pub(super) fn no_replies() -> Matcher {
    Matcher::new(
        Arc::default(),
        Arc::new(SystemClock),
        MatchCounters::default(),
    )
}

/// Counts where nobody looks.
pub(crate) fn observer(identity: &SubscriptionIdentity) -> Observer {
    let metrics = Metrics::new(&mut Registry::default(), Timestamp(0));
    Observer::new(identity.clone(), &metrics, Arc::default())
}

pub(super) fn event(id: &str) -> Arc<Event> {
    Arc::new(Event::builder(id, "/s", "t").build().unwrap())
}

pub(super) fn id() -> DeliveryId {
    DeliveryId {
        epoch: Epoch(1),
        sequence: Sequence(2),
        subscription: SubscriptionNumber(3),
        run: 0,
    }
}

/// The defaults of the rule file.
pub(super) fn policy() -> Policy {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
    Policy::new(
        second * 30,
        hour * 24,
        4,
        Backoff::new(second, second * 300),
    )
    .unwrap()
}

pub(super) fn identity(rule: &str) -> SubscriptionIdentity {
    let name = |text| Name::new(text).unwrap();
    SubscriptionIdentity {
        tenant: Name::default_tenant(),
        rule: name(rule),
        role: Role::To,
        target: name("t"),
    }
}

/// A route that changes nothing and tells nobody.
pub(super) fn route(rule: &str, target: usize, policy: Policy) -> Route {
    let identity = identity(rule);
    Route {
        observer: observer(&identity),
        identity,
        target,
        quotas: [None; 2],
        is_templated: false,
        policy,
        batch: None,
        priority: Priority::USUAL,
        preparation: Preparation::default(),
        recording: crate::dispatcher::Recording::default(),
        on_success: None,
        on_failure: None,
    }
}
