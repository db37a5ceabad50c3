//! Two sets of rules over the same events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pointsman_rules::Transform;
use pointsman_schemas::{Event, Name, SubscriptionNumber, Timestamp};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::commands::difference::{self, Difference};
use crate::commands::test::as_json;
use crate::config::{Config, Rule};
use crate::dispatcher::follow::{FAILED, SUCCEEDED};
use crate::output::{self, plain, shortened};
use crate::router::{Matcher, Router, RuleInForce, SubscriptionInForce};
use pointsman_journal::StoredEvent;

/// Differences of a changed event that are shown.
const DIFFERENCES_SHOWN: usize = 5;

/// Where an event can go: tenant, rule, target.
type Destination = (Name, Name, Name);

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
                    order_by: None,
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
                subscriptions,
            }
        });
        let router = Router::new(rules.collect());
        Self {
            matcher: Matcher::new(Arc::new(ArcSwap::from_pointee(router)), Counter::default()),
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
        let deliveries = self.matcher.entry(tenant, origin, event, None).deliveries;
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
        if [SUCCEEDED, FAILED].contains(&stored.event.ty())
            && stored.event.source().starts_with("/rules/")
        {
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

/// What would go elsewhere.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// From when on events were looked at.
    since: String,
    /// How many.
    events: u64,
    /// How many of them would go elsewhere, or would be made into something else.
    moved: u64,
    /// How many could not be read.
    damaged: u64,
    /// How many no rule takes.
    unmatched: Sides,
    deliveries: Sides,
    /// Where something differs.
    targets: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Sides {
    before: u64,
    after: u64,
}

/// One target of one rule.
#[derive(Debug, Serialize)]
struct Line {
    tenant: Name,
    rule: Name,
    target: Name,
    /// Whether the rules in force have it.
    #[serde(rename = "in_force")]
    is_old: bool,
    /// Whether the changed rules have it.
    #[serde(rename = "in_new")]
    is_new: bool,
    before: u64,
    after: u64,
    gained: Kind,
    lost: Kind,
    changed: Kind,
}

#[derive(Debug, Default, Serialize)]
struct Kind {
    count: u64,
    examples: Vec<Example>,
}

#[derive(Debug, Serialize)]
struct Example {
    sequence: u64,
    at: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    ty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// What goes out otherwise; empty where the event goes elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
}

impl Example {
    fn of(stored: &StoredEvent, differences: Vec<Difference>) -> Self {
        let event = &stored.event;
        Self {
            sequence: stored.sequence.0,
            at: stored.at.to_string(),
            id: event.id().to_string(),
            source: event.source().to_string(),
            ty: event.ty().to_string(),
            subject: event.subject().map(ToString::to_string),
            differences,
        }
    }

    /// A line of it, behind the word for its kind, and below it the first of its differences.
    fn write(&self, word: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self
            .subject
            .as_ref()
            .map_or_else(String::new, |subject| format!(" {subject}"));
        let what = format!("{} {}{subject}, id {}", self.ty, self.source, self.id);
        writeln!(
            f,
            "  {word:<7}  {}  {}  {}",
            self.sequence,
            self.at,
            plain(&shortened(&what, 120))
        )?;
        let shown = self
            .differences
            .get(..DIFFERENCES_SHOWN)
            .unwrap_or(&self.differences);
        if shown.is_empty() {
            return Ok(());
        }
        f.write_str(&difference::table(
            shown,
            ["before", "after"],
            "    ",
            false,
        ))
    }
}

impl Line {
    fn new((tenant, rule, target): &Destination) -> Self {
        Self {
            tenant: tenant.clone(),
            rule: rule.clone(),
            target: target.clone(),
            is_old: false,
            is_new: false,
            before: 0,
            after: 0,
            gained: Kind::default(),
            lost: Kind::default(),
            changed: Kind::default(),
        }
    }

    fn differs(&self) -> bool {
        self.is_old != self.is_new
            || [&self.gained, &self.lost, &self.changed]
                .iter()
                .any(|kind| kind.count > 0)
    }

    fn name(&self) -> String {
        if self.tenant == Name::default_tenant() {
            self.rule.to_string()
        } else {
            format!("{}/{}", self.tenant, self.rule)
        }
    }

    fn note(&self) -> &'static str {
        match (self.is_old, self.is_new) {
            (true, false) => "gone",
            (false, true) => "new",
            _ => "",
        }
    }

    /// The cells of its row.
    fn row(&self) -> [String; HEADINGS.len()] {
        [
            self.name(),
            self.target.to_string(),
            self.before.to_string(),
            self.after.to_string(),
            self.gained.count.to_string(),
            self.lost.count.to_string(),
            self.changed.count.to_string(),
            self.note().to_owned(),
        ]
    }

    /// Its examples, under its name; nothing where it has none.
    fn write_examples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("gained", &self.gained),
            ("lost", &self.lost),
            ("changed", &self.changed),
        ];
        if kinds.iter().all(|(_, kind)| kind.examples.is_empty()) {
            return Ok(());
        }
        writeln!(f, "\n{} → {}", self.name(), self.target)?;
        for (word, kind) in kinds {
            for example in &kind.examples {
                example.write(word, f)?;
            }
        }
        Ok(())
    }
}

/// What stands over the columns of the table.
const HEADINGS: [&str; 8] = [
    "RULE", "TARGET", "BEFORE", "AFTER", "GAINED", "LOST", "CHANGED", "",
];

impl Report {
    /// Whether anything would go elsewhere.
    pub(super) fn differs(&self) -> bool {
        self.moved > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            since,
            events,
            moved,
            damaged,
            unmatched,
            deliveries,
            targets,
        } = self;
        let plural = if *events == 1 { "" } else { "s" };
        match moved {
            0 => writeln!(
                f,
                "{events} event{plural} since {since}: all go where they go now"
            )?,
            _ => writeln!(
                f,
                "{events} event{plural} since {since}: {moved} would go elsewhere or be made into \
                 something else"
            )?,
        }
        writeln!(
            f,
            "deliveries {} → {}, events that no rule takes {} → {}",
            deliveries.before, deliveries.after, unmatched.before, unmatched.after
        )?;
        if *damaged > 0 {
            writeln!(f, "{damaged} could not be read and are not counted")?;
        }
        if targets.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "\n{}",
            output::table(HEADINGS, targets.iter().map(Line::row))
        )?;
        targets.iter().try_for_each(|line| line.write_examples(f))
    }
}
