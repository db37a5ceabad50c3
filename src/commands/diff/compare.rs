//! Two sets of rules over the same events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pointsman_journal::StoredEvent;
use pointsman_rules::Transform;
use pointsman_schemas::{Event, Name, SubscriptionNumber, SystemClock, Timestamp};
use prometheus_client::metrics::counter::Counter;

use super::report::{Destination, Example, Line, Report, Sides};
use crate::commands::difference::{self, Difference};
use crate::commands::test::as_json;
use crate::config::{Config, Rule};
use crate::dispatcher::follow::is_report;
use crate::router::{
    MatchCounters, Matcher, Router, RuleInForce, SchemaInForce, SubscriptionInForce,
};

/// One set of rules.
struct Side {
    matcher: Matcher,
    /// By subscription number.
    destinations: Vec<(Destination, Option<Arc<Transform>>)>,
    unmatched: u64,
}

impl Side {
    /// Rules under the names that `renamed` has for them.
    fn new(config: Config, renamed: &dyn Fn(&Rule) -> Name) -> Self {
        let mut destinations = Vec::new();
        let rules = config.rules.into_iter().map(|rule| {
            let name = renamed(&rule);
            let mut subscriptions = Vec::new();
            for to in &rule.to {
                let number =
                    SubscriptionNumber(u32::try_from(destinations.len()).unwrap_or(u32::MAX));
                subscriptions.push(SubscriptionInForce {
                    number,
                    target: to.target.clone(),
                    order_by: None,
                    delay: to.delivery.delay,
                    priority: None,
                });
                destinations.push((
                    (rule.tenant.clone(), name.clone(), to.target.clone()),
                    to.transform.clone(),
                ));
            }
            let Rule {
                tenant,
                pipe,
                from,
                filter,
                ..
            } = rule;
            RuleInForce {
                tenant,
                name,
                pipe,
                from,
                filter,
                // What came before an event is not compared.
                deduplicate: None,
                retention: None,
                subscriptions,
            }
        });
        let router = Router::new(rules.collect());
        let schemas = config.schemas.into_iter();
        let router =
            router.with_schemas(schemas.map(|one| SchemaInForce::new(one, Counter::default())));
        Self {
            matcher: Matcher::new(
                Arc::new(ArcSwap::from_pointee(router)),
                Arc::new(SystemClock),
                MatchCounters::default(),
            ),
            destinations,
            unmatched: 0,
        }
    }

    /// Where an event goes.
    fn destinations_of(
        &mut self,
        stored: &StoredEvent,
    ) -> BTreeMap<&Destination, Option<&Transform>> {
        let (tenant, origin, event) = (&stored.tenant, &stored.origin, Arc::clone(&stored.event));
        // One that asks for what cannot be done is not among the stored ones.
        let entry = self.matcher.entry(tenant, origin, event, None);
        let deliveries = entry.map(|entry| entry.deliveries).unwrap_or_default();
        self.unmatched += u64::from(deliveries.is_empty());
        let place =
            |number: SubscriptionNumber| self.destinations.get(usize::try_from(number.0).ok()?);
        let destinations = deliveries
            .iter()
            .filter_map(|delivery| place(delivery.subscription));
        destinations
            .map(|(place, transform)| (place, transform.as_deref()))
            .collect()
    }
}

/// Events held against two sets of rules.
pub(super) struct Comparison {
    old: Side,
    new: Side,
    lines: BTreeMap<Destination, Line>,
    examples_max: usize,
    events: u64,
    moved: u64,
    pub(super) damaged: u64,
}

impl Comparison {
    pub(super) fn new(old: Config, new: Config, examples_max: usize) -> Self {
        let renamed: HashMap<(Name, Name), Name> = new
            .rules
            .iter()
            .filter_map(|rule| {
                Some((
                    (rule.tenant.clone(), rule.renamed_from.clone()?),
                    rule.name.clone(),
                ))
            })
            .collect();
        let name_now = |rule: &Rule| {
            renamed
                .get(&(rule.tenant.clone(), rule.name.clone()))
                .unwrap_or(&rule.name)
                .clone()
        };
        let (old, new) = (
            Side::new(old, &name_now),
            Side::new(new, &|rule| rule.name.clone()),
        );
        let mut lines = BTreeMap::<Destination, Line>::new();
        let sides = [(&old, true), (&new, false)];
        for (place, is_old) in sides
            .iter()
            .flat_map(|(side, is_old)| side.destinations.iter().map(|(place, _)| (place, *is_old)))
        {
            let line = lines
                .entry(place.clone())
                .or_insert_with(|| Line::new(place));
            *(if is_old {
                &mut line.is_old
            } else {
                &mut line.is_new
            }) = true;
        }
        Self {
            old,
            new,
            lines,
            examples_max,
            events: 0,
            moved: 0,
            damaged: 0,
        }
    }

    /// Looks at one event.
    pub(super) fn event(&mut self, stored: &StoredEvent) {
        if is_report(&stored.event) {
            return;
        }
        self.events += 1;
        let (before, after) = (
            self.old.destinations_of(stored),
            self.new.destinations_of(stored),
        );
        let mut moved = false;
        let destinations: BTreeSet<&Destination> =
            before.keys().chain(after.keys()).copied().collect();
        for place in destinations {
            let Some(line) = self.lines.get_mut(place) else {
                continue;
            };
            let (kind, differences) = match (before.get(place), after.get(place)) {
                (None, None) => continue,
                (Some(_), None) => {
                    line.before += 1;
                    (&mut line.lost, Vec::new())
                }
                (None, Some(_)) => {
                    line.after += 1;
                    (&mut line.gained, Vec::new())
                }
                (Some(old), Some(new)) => {
                    line.before += 1;
                    line.after += 1;
                    let differences = changes(*old, *new, &stored.event);
                    if differences.is_empty() {
                        continue;
                    }
                    (&mut line.changed, differences)
                }
            };
            moved = true;
            kind.count += 1;
            if kind.examples.len() < self.examples_max {
                kind.examples.push(Example::of(stored, differences));
            }
        }
        self.moved += u64::from(moved);
    }

    pub(super) fn finish(self, since: Timestamp) -> Report {
        let sum = |of: fn(&Line) -> u64| self.lines.values().map(of).sum();
        Report {
            since: since.to_string(),
            events: self.events,
            moved: self.moved,
            damaged: self.damaged,
            unmatched: Sides {
                before: self.old.unmatched,
                after: self.new.unmatched,
            },
            deliveries: Sides {
                before: sum(|line| line.before),
                after: sum(|line| line.after),
            },
            targets: self.lines.into_values().filter(Line::differs).collect(),
        }
    }
}

/// What goes out otherwise than before.
fn changes(old: Option<&Transform>, new: Option<&Transform>, event: &Event) -> Vec<Difference> {
    // One and the same time for both, or whatever has `now` in it would differ.
    let now = Timestamp::now();
    let made = |transform: Option<&Transform>| match transform {
        None => Ok(as_json(event).unwrap_or_default()),
        Some(transform) => transform
            .apply_at(event, now)
            .map(|made| as_json(&made).unwrap_or_default())
            .map_err(|error| error.to_string()),
    };
    // Most often a transform has not changed at all, which only what it makes can tell.
    match (old, new) {
        (None, None) => Vec::new(),
        _ => match (made(old), made(new)) {
            (Ok(before), Ok(after)) => difference::between(&before, &after),
            (Err(before), Err(after)) if before == after => Vec::new(),
            (before, after) => {
                let side = |made: Result<serde_json::Value, String>| {
                    Some(made.map_or_else(Into::into, |_| "an event".into()))
                };
                vec![Difference {
                    path: "the transform".to_owned(),
                    expected: side(before),
                    found: side(after),
                }]
            }
        },
    }
}
