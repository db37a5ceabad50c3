//! Matching events against the rules in force at that moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use pointsman_journal::{Entry, Key, NewDelivery, Priority, Retention, Terms};
use pointsman_rules::{Document, Scratch};
use pointsman_schemas::http::encode_structured;
use pointsman_schemas::schedule::{DELIVER_AT, InvalidSchedule, deliver_at};
use pointsman_schemas::{Clock, Event, Name, Reject, SubscriptionNumber, Timestamp};
use prometheus_client::metrics::counter::Counter;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::{NotTaken, Router, SubscriptionInForce, TenantRules};
use crate::aside::aside;

/// The largest data, in bytes, that is matched on the thread that it came in on: about ten
/// microseconds of work, as long as rules are plain.
const MATCHED_IN_PLACE_MAX: usize = 32 * 1024;

/// Matches events against the rules in force, whatever reload comes in between. It owns the working
/// memory of matching, so every task that matches has its own.
#[derive(Debug)]
pub struct Matcher {
    router: Arc<ArcSwap<Router>>,
    /// The journal's, by which deliveries fall due.
    clock: Arc<dyn Clock>,
    counters: MatchCounters,
    buffers: Buffers,
}

/// Counts what settings looked for in events and did not find.
#[derive(Clone, Debug, Default)]
pub struct MatchCounters {
    /// Deliveries whose `order_by` found nothing in their event.
    pub unordered: Counter,
    /// Deliveries whose `priority` found none in their event.
    pub without_priority: Counter,
    /// Events in which a `deduplicate` found no key.
    pub without_key: Counter,
}

/// Working memory, kept from event to event.
#[derive(Debug, Default)]
struct Buffers {
    scratch: Scratch,
    matched: Vec<u32>,
}

type Deliveries = SmallVec<[NewDelivery; 2]>;

impl Matcher {
    #[must_use]
    pub fn new(
        router: Arc<ArcSwap<Router>>,
        clock: Arc<dyn Clock>,
        counters: MatchCounters,
    ) -> Self {
        Self {
            router,
            clock,
            counters,
            buffers: Buffers::default(),
        }
    }

    /// The event with a delivery for each subscription that waits for it. Where a duration is given
    /// the journal looks for the same source and id among the events of that time, and stores the
    /// event only where there is none.
    ///
    /// # Errors
    /// The event asks for a delivery at what is no time, or is too far ahead; or its data does not
    /// fit the schema of its type.
    pub fn entry(
        &mut self,
        tenant: &Name,
        origin: &Name,
        event: Arc<Event>,
        deduplicate: Option<Duration>,
    ) -> Result<Entry, NotTaken> {
        let router = self.router.load();
        let rules = router.tenants.get(tenant);
        let event = match rules {
            Some(rules) => rules.conforming(event)?,
            None => event,
        };
        let due = Due::of(&event, &*self.clock).map_err(|error| Reject {
            raw: encode_structured(&event).1,
            reason: error.to_string(),
        })?;
        let (buffers, counters) = (&mut self.buffers, &self.counters);
        let deliveries =
            rules.map(|rules| rules.deliveries(origin, &event, due, buffers, counters));
        let keys = rules.map_or_else(Vec::new, |rules| {
            rules.keys(tenant, &event, buffers, counters)
        });
        let retention = rules.and_then(|rules| rules.retention(buffers));
        let terms = (!keys.is_empty() || retention.is_some()).then(|| Terms {
            keys,
            watch: None,
            retention,
        });
        Ok(Entry {
            event,
            deliveries: deliveries.unwrap_or_default(),
            deduplicate,
            dead: None,
            terms: terms.map(Box::new),
        })
    }

    /// The rules in force.
    #[must_use]
    pub fn router(&self) -> &Arc<ArcSwap<Router>> {
        &self.router
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &MatchCounters {
        &self.counters
    }

    /// The subscription of the pipe that a source feeds at present, if it feeds one.
    #[must_use]
    pub fn pipe(&self, tenant: &Name, origin: &Name) -> Option<SubscriptionNumber> {
        let router = self.router.load();
        router.tenants.get(tenant)?.pipes.get(origin).copied()
    }
}

/// When the deliveries of an event fall due, by the journal's clock.
#[derive(Clone, Copy)]
pub(super) struct Due<'m> {
    clock: &'m dyn Clock,
    /// What the event asks for; none where it is to be delivered at once.
    asked: Option<Timestamp>,
}

impl<'m> Due<'m> {
    pub(super) fn of(event: &Event, clock: &'m dyn Clock) -> Result<Self, InvalidSchedule> {
        // Hardly any event asks, and then the time need not be known.
        let asked = match event.attribute(DELIVER_AT) {
            None => None,
            Some(_) => {
                let now = clock.now();
                let time_of_day = clock.shown(now);
                deliver_at(event, time_of_day)?.map(|at| now.plus(at.since(time_of_day)))
            }
        };
        Ok(Self { clock, asked })
    }

    /// With a rule's delay: the later of the two. None for at once.
    pub(super) fn after(self, delay: Duration) -> Option<Timestamp> {
        let delayed = (!delay.is_zero()).then(|| self.clock.now().plus(delay));
        delayed.max(self.asked)
    }
}

/// Whether looking at an event's data would hold up what else waits for the thread.
pub(super) fn is_large(event: &Event) -> bool {
    let data = event.data();
    data.is_some_and(|data| data.bytes().len() > MATCHED_IN_PLACE_MAX)
}

impl TenantRules {
    /// What a rule costs follows the size of the event, so a large one is matched aside from the
    /// runtime's thread, whose other tasks go on meanwhile; most events are small, and cost less
    /// than the way there.
    fn deliveries(
        &self,
        origin: &Name,
        event: &Event,
        due: Due<'_>,
        buffers: &mut Buffers,
        counters: &MatchCounters,
    ) -> Deliveries {
        let mut matched = || self.deliveries_in_place(origin, event, due, buffers, counters);
        if is_large(event) {
            aside(matched)
        } else {
            matched()
        }
    }

    fn deliveries_in_place(
        &self,
        origin: &Name,
        event: &Event,
        due: Due<'_>,
        buffers: &mut Buffers,
        counters: &MatchCounters,
    ) -> Deliveries {
        let Buffers { scratch, matched } = buffers;
        matched.clear();
        self.set
            .matches_into(self.origin(origin), event, scratch, matched);
        let mut deliveries = Deliveries::new();
        for rule in self.at(matched) {
            rule.matches.fetch_add(1, Ordering::Relaxed);
            for one in &rule.subscriptions {
                let order_key = one.order_by.as_ref().and_then(|path| {
                    let value = path.find_text(&Document::event(event));
                    if value.is_none() {
                        counters.unordered.inc();
                    }
                    value.map(|value| order_key(&value))
                });
                let priority = one.priority_of(event).unwrap_or_else(|| {
                    counters.without_priority.inc();
                    Priority::USUAL
                });
                deliveries.push(NewDelivery {
                    subscription: one.number,
                    order_key,
                    due: due.after(one.delay),
                    priority,
                });
            }
        }
        deliveries
    }

    /// The longest time that one of the rules which took the event has it kept, where one does.
    fn retention(&self, buffers: &Buffers) -> Option<Retention> {
        if !self.retains {
            return None;
        }
        let rules = self.at(&buffers.matched);
        let at_least = rules.filter_map(|rule| rule.retention).max()?;
        Some(Retention {
            instead: None,
            at_least,
        })
    }

    /// The keys by which the rules that took the event leave out duplicates of it.
    fn keys(
        &self,
        tenant: &Name,
        event: &Event,
        buffers: &Buffers,
        counters: &MatchCounters,
    ) -> Vec<Key> {
        let mut keys = Vec::new();
        // Hardly any rule does.
        if self.deduplicating.is_empty() {
            return keys;
        }
        let rules = self.at(&buffers.matched);
        for rule in rules.filter(|rule| rule.deduplicate.is_some()) {
            match rule.key(tenant, event) {
                Some(key) => keys.push(key),
                None => drop(counters.without_key.inc()),
            }
        }
        keys
    }
}

impl SubscriptionInForce {
    /// How urgent the delivery of an event is; none where the event should say so and does not.
    fn priority_of(&self, event: &Event) -> Option<Priority> {
        let Some(template) = &self.priority else {
            return Some(Priority::USUAL);
        };
        let mut text = String::new();
        template.render(&Document::event(event), &mut text).ok()?;
        Priority::new(text.parse().ok()?)
    }
}

/// The journal's order key of a value. It is kept on disk, so its meaning must never change: the
/// first 64 bits of the SHA-256 of the text. Two values with the same key would only wait for each
/// other.
pub fn order_key(value: &str) -> u64 {
    Sha256::digest(value)
        .iter()
        .take(8)
        .fold(0, |key, byte| key << 8 | u64::from(*byte))
}
