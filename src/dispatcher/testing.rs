//! What the dispatcher's tests are made of.

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Class, DeliveryId, Epoch, Event, Name, Sequence, SubscriptionNumber};
use prometheus_client::metrics::counter::Counter;

use super::plan::{Observe, Prepare, Route};
use super::schedule::Policy;
use crate::router::Matcher;
use pointsman_journal::{Ending, Role, SubscriptionIdentity};

pub(super) type PrepareWith = fn(&Arc<Event>) -> Result<(Arc<Event>, Vec<String>), String>;

/// Prepares with a function.
pub(super) struct Adds(pub(super) PrepareWith);

impl Prepare for Adds {
    fn prepare(&self, event: &Arc<Event>) -> Result<(Arc<Event>, Vec<String>), String> {
        (self.0)(event)
    }
}

/// No rule takes a reply.
pub(super) fn no_replies() -> Matcher {
    Matcher::new(Arc::default(), Counter::default())
}

/// Counts nothing.
pub(super) struct Unseen;

impl Observe for Unseen {
    fn attempted(&self, _: Class, _: Duration) {}
    fn settled(&self, _: &Ending) {}
    fn unreadable_reply(&self, _: &str) {}
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
    Policy::new(second * 30, hour * 24, 4, second, second * 300).unwrap()
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
    let prepare = Arc::new(Adds(|event| Ok((Arc::clone(event), Vec::new()))));
    Route {
        identity: identity(rule),
        target,
        is_templated: false,
        policy,
        prepare,
        on_success: None,
        on_failure: None,
        observe: Arc::new(Unseen),
    }
}
