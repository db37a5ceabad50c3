//! The rules in force, and who waits for an event by them.
//!
//! A [`Router`] is immutable. A reload makes a new one and swaps it in whole, so that no event sees
//! half a set of rules; an event that was matched before keeps the deliveries that it was given.

mod deduplicate;
mod explain;
mod matcher;
mod one;
mod schemas;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::HashMap;
use pointsman_rules::{Filter, Origin, OriginSet, Path, Rule, RuleSet, TextTemplate};
use pointsman_schemas::{Name, SubscriptionNumber};

pub use self::deduplicate::Deduplicate;
pub use self::explain::Explained;
pub use self::matcher::{MatchCounters, Matcher, order_key};
pub use self::one::{Place, Taken};
pub use self::schemas::{NotTaken, OnMismatch, SchemaInForce, TypeSchema};

/// Stands for all sources that no rule names.
const OTHER_SOURCES: Origin = Origin(u16::MAX);

/// One rule or pipe, compiled, with its subscriptions.
#[derive(Debug)]
pub struct RuleInForce {
    pub tenant: Name,
    pub name: Name,
    /// True of a pipe: no rule without a `from` sees the events of its source.
    pub pipe: bool,
    /// The sources whose events it looks at; any but `replies` and those of pipes where none is
    /// given.
    pub from: Option<Vec<Name>>,
    pub filter: Filter,
    /// Which of its deliveries are left out because an event of the same key came before.
    pub deduplicate: Option<Deduplicate>,
    /// How long the events that it takes are kept at least.
    pub retention: Option<Duration>,
    pub subscriptions: Vec<SubscriptionInForce>,
}

/// One of a rule's subscriptions.
#[derive(Debug)]
pub struct SubscriptionInForce {
    pub number: SubscriptionNumber,
    pub target: Name,
    /// What orders its deliveries.
    pub order_by: Option<Path>,
    /// How long after an event's arrival its delivery falls due.
    pub delay: Duration,
    /// What finds in an event how urgent its delivery is; where none, all are alike.
    pub priority: Option<TextTemplate>,
}

/// All rules in force.
#[derive(Debug, Default)]
pub struct Router {
    tenants: HashMap<Name, TenantRules>,
}

/// The rules of one tenant; they see that tenant's events alone.
#[derive(Debug)]
struct TenantRules {
    set: RuleSet,
    /// The numbers by which the set knows sources.
    origins: HashMap<Name, Origin>,
    /// The subscriptions of pipes, by the sources that feed them.
    pipes: HashMap<Name, SubscriptionNumber>,
    /// In the order of the set.
    rules: Vec<NamedRule>,
    /// What the data of events has to be, by their type.
    schemas: HashMap<Box<str>, SchemaInForce>,
    /// Where the rule of a subscription is, of those that leave out duplicates.
    deduplicating: HashMap<SubscriptionNumber, u32>,
    /// Whether any rule has events kept for a time of its own.
    retains: bool,
}

/// What the set does not know of a rule.
#[derive(Debug)]
struct NamedRule {
    name: Name,
    from: Option<Vec<Name>>,
    subscriptions: Vec<SubscriptionInForce>,
    deduplicate: Option<Deduplicate>,
    retention: Option<Duration>,
    /// Events that it took.
    matches: AtomicU64,
    /// Events of which its deliveries were left out.
    duplicates: AtomicU64,
}

impl Router {
    /// Compiles rules into one set for each tenant.
    #[must_use]
    pub fn new(rules: Vec<RuleInForce>) -> Self {
        let mut by_tenant: HashMap<Name, Vec<RuleInForce>> = HashMap::default();
        for rule in rules {
            by_tenant.entry(rule.tenant.clone()).or_default().push(rule);
        }
        Self {
            tenants: by_tenant
                .into_iter()
                .map(|(tenant, rules)| (tenant, TenantRules::new(rules)))
                .collect(),
        }
    }

    /// Has the data of events held against schemas before any rule sees them.
    #[must_use]
    pub fn with_schemas(mut self, schemas: impl IntoIterator<Item = SchemaInForce>) -> Self {
        for schema in schemas {
            let rules = self.tenants.entry(schema.of.tenant.clone());
            let rules = rules.or_insert_with(|| TenantRules::new(Vec::new()));
            rules.schemas.insert(schema.of.ty.clone(), schema);
        }
        self
    }

    /// How often each rule has taken an event since it came into force, and how often it left out
    /// a duplicate: (tenant, rule, matches, duplicates).
    pub fn matches(&self) -> impl Iterator<Item = (&Name, &Name, u64, u64)> {
        self.tenants.iter().flat_map(|(tenant, rules)| {
            rules.rules.iter().map(move |rule| {
                let [matches, duplicates] =
                    [&rule.matches, &rule.duplicates].map(|count| count.load(Ordering::Relaxed));
                (tenant, &rule.name, matches, duplicates)
            })
        })
    }
}

impl TenantRules {
    fn new(rules: Vec<RuleInForce>) -> Self {
        let mut origins = HashMap::from_iter([(Name::replies(), Origin(0))]);
        for name in rules.iter().filter_map(|rule| rule.from.as_ref()).flatten() {
            // Past 65,534 names the rest share a number with the sources that no rule names.
            let next = Origin(u16::try_from(origins.len()).unwrap_or(u16::MAX));
            origins.entry(name.clone()).or_insert(next);
        }
        let pipes: HashMap<Name, SubscriptionNumber> = rules
            .iter()
            .filter(|rule| rule.pipe)
            .filter_map(|rule| {
                let source = rule.from.as_ref()?.first()?.clone();
                Some((source, rule.subscriptions.first()?.number))
            })
            .collect();
        // A rule without `from` does not see what only a rule that names it may take.
        let named_only: Vec<Origin> = rules
            .iter()
            .filter(|rule| rule.pipe)
            .filter_map(|rule| rule.from.as_ref()?.first())
            .chain([&Name::replies()])
            .filter_map(|name| origins.get(name).copied())
            .collect();
        let (compiled, rules): (_, Vec<NamedRule>) = rules
            .into_iter()
            .map(|rule| {
                let from = match &rule.from {
                    None => OriginSet::all_but(&named_only),
                    Some(names) => {
                        let known = names.iter().filter_map(|name| origins.get(name).copied());
                        OriginSet::only(&known.collect::<Vec<_>>())
                    }
                };
                rule.split(from)
            })
            .unzip();
        Self {
            set: RuleSet::compile(compiled),
            origins,
            pipes,
            schemas: HashMap::default(),
            deduplicating: Self::deduplicating(&rules),
            retains: rules.iter().any(|rule| rule.retention.is_some()),
            rules,
        }
    }

    fn origin(&self, origin: &Name) -> Origin {
        self.origins.get(origin).copied().unwrap_or(OTHER_SOURCES)
    }

    /// The rules at these places in the set.
    fn at(&self, matched: &[u32]) -> impl Iterator<Item = &NamedRule> {
        matched
            .iter()
            .filter_map(|index| self.rules.get(usize::try_from(*index).ok()?))
    }
}

impl RuleInForce {
    /// Splits off what the set of rules needs.
    fn split(self, from: OriginSet) -> (Rule, NamedRule) {
        let rule = Rule {
            from,
            filter: self.filter,
        };
        let named = NamedRule {
            name: self.name,
            from: self.from,
            subscriptions: self.subscriptions,
            deduplicate: self.deduplicate,
            retention: self.retention,
            matches: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
        };
        (rule, named)
    }
}
