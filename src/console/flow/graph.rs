//! What is drawn: the rules that matter most just now, with what leads to them and where they lead.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use indexmap::IndexMap;
use pointsman_connectors::SourceState;
use pointsman_journal::{Activity, Role};
use pointsman_schemas::Name;

use super::super::history::{Counted, Look, Rate, Rates};
use super::super::page::{self, Health};
use super::super::parts::{rule_path, source_path, target_path};
use crate::admin::view::SubscriptionView;
use crate::admin::{Circuit, RuleStatus, SourceStatus, TargetStatus};

/// Rules that are drawn at most: more than that nobody tells apart.
pub(super) const RULES_MAX: usize = 30;

/// Sources that lead to no rule that is drawn, and are told of all the same since they do not run.
const OTHER_SOURCES_MAX: usize = 10;

/// With so many sources or fewer a rule that takes from any of them is joined to each.
const EACH_SOURCE_MAX: usize = 4;

/// Sources, rules and targets, and what leads from one to another.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    /// Rules that are there, of those that are looked for.
    pub(super) rules: usize,
    /// Those of them that are drawn.
    pub(super) drawn: usize,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) column: usize,
    /// Which it is, as an id in the page.
    pub(super) id: String,
    pub(super) label: String,
    /// What it is and does, in a line.
    pub(super) detail: String,
    pub(super) href: String,
    pub(super) health: Health,
    /// The health in a word.
    pub(super) word: &'static str,
}

#[derive(Debug)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) rate: f64,
    pub(super) health: Health,
    /// Whether only reports of successes or dead letters go along it.
    pub(super) aside: bool,
    pub(super) title: String,
}

/// How a subscription stands.
pub(in crate::console) fn of_subscription(
    one: &SubscriptionView,
    rate: Rate,
    circuit: Option<Circuit>,
) -> (Health, &'static str) {
    match () {
        () if !one.attached => (Health::Held, "no rule"),
        () if rate.failed > 0.0 => (Health::Bad, "dead letters growing"),
        () if circuit == Some(Circuit::Open) && one.counts.pending > 0 => {
            (Health::Bad, "circuit open")
        }
        () if one.activity == Activity::Gone => (Health::Bad, "gone"),
        () if one.paused.is_some() => (Health::Bad, "refused"),
        () if one.activity == Activity::Suspended => (Health::Held, "suspended"),
        () if one.counts.retrying > 0 => (Health::Warn, "retrying"),
        () if rate.passed > 0.0 || one.counts.pending > 0 => (Health::Good, "delivering"),
        () => (Health::Idle, "idle"),
    }
}

pub(in crate::console) fn of_source(one: &SourceStatus, rate: Rate) -> (Health, &'static str) {
    match one.state {
        SourceState::Running if rate.failed > 0.0 => (Health::Warn, "unreadable messages"),
        SourceState::Running if rate.passed > 0.0 => (Health::Good, "receiving"),
        SourceState::Running => (Health::Idle, "running"),
        SourceState::Opening => (Health::Warn, "opening"),
        SourceState::Waiting => (Health::Bad, "waiting"),
        SourceState::Stopped => (Health::Bad, "stopped"),
        SourceState::Away => (Health::Idle, "on another node"),
    }
}

pub(in crate::console) fn of_target(one: &TargetStatus) -> (Health, &'static str) {
    match one.circuit {
        Circuit::Closed if one.in_flight > 0 => (Health::Good, "called"),
        Circuit::Closed => (Health::Idle, "idle"),
        Circuit::Probing => (Health::Warn, "probing"),
        Circuit::Open => (Health::Bad, "circuit open"),
    }
}

/// What is known of a rule that decides whether it is drawn.
struct Ranked<'l> {
    rule: &'l RuleStatus,
    health: Health,
    word: &'static str,
    rate: f64,
    subscriptions: Vec<&'l SubscriptionView>,
}

pub(in crate::console) type Key<'l> = (&'l Name, &'l Name);

/// Of each target whether it is called.
pub(in crate::console) fn circuits(look: &Look) -> HashMap<Key<'_>, Circuit> {
    let targets = look.targets.iter();
    targets
        .map(|one| ((&one.tenant, &one.name), one.circuit))
        .collect()
}

/// What of a look is drawn: of the rules in whose way `wanted` stands those that stand worst, then
/// the busiest.
pub(super) fn graph(look: &Look, rates: &Rates, wanted: &str) -> Graph {
    let circuits = circuits(look);
    let mut of_rule: HashMap<Key<'_>, Vec<&SubscriptionView>> = HashMap::new();
    for one in look.subscriptions.iter().filter(|one| one.attached) {
        let key = (&one.identity.tenant, &one.identity.rule);
        of_rule.entry(key).or_default().push(one);
    }
    let wanted = wanted.to_lowercase();
    let is_wanted = |rule: &&RuleStatus| {
        let names = [&rule.tenant, &rule.name].into_iter();
        let mut names = names.chain(&rule.from).chain(&rule.to);
        wanted.is_empty() || names.any(|name| name.as_str().contains(&wanted))
    };
    let mut ranked = Vec::new();
    for rule in look.rules.iter().filter(is_wanted) {
        let own = of_rule
            .remove(&(&rule.tenant, &rule.name))
            .unwrap_or_default();
        ranked.push(Ranked::new(rule, own, rates, &circuits));
    }
    let rules = ranked.len();
    ranked.sort_by(|a, b| {
        let worst = b.health.cmp(&a.health).then(b.rate.total_cmp(&a.rate));
        worst.then_with(|| (&a.rule.tenant, &a.rule.name).cmp(&(&b.rule.tenant, &b.rule.name)))
    });
    ranked.truncate(RULES_MAX);
    // As they stand in the files: what has become worse does not jump.
    let place: HashMap<Key<'_>, usize> = (look.rules.iter())
        .zip(0..)
        .map(|(rule, index)| ((&rule.tenant, &rule.name), index))
        .collect();
    ranked.sort_by_key(|one| place.get(&(&one.rule.tenant, &one.rule.name)).copied());
    let mut builder = Builder::new(look, rates);
    for one in &ranked {
        builder.rule(one, &circuits);
    }
    if wanted.is_empty() {
        builder.other_sources();
    }
    Graph {
        nodes: builder.nodes.into_values().collect(),
        edges: builder.edges,
        rules,
        drawn: ranked.len(),
    }
}

impl<'l> Ranked<'l> {
    fn new(
        rule: &'l RuleStatus,
        subscriptions: Vec<&'l SubscriptionView>,
        rates: &Rates,
        circuits: &HashMap<Key<'_>, Circuit>,
    ) -> Self {
        let taken = rates.of(&Counted::Rule(rule.tenant.clone(), rule.name.clone()));
        let of_each = subscriptions.iter().map(|one| {
            let circuit = circuits.get(&(&one.identity.tenant, &one.identity.target));
            let rate = rates.of(&Counted::Subscription(one.number));
            of_subscription(one, rate, circuit.copied())
        });
        let (health, word) = of_each
            .max_by_key(|(health, _)| *health)
            .unwrap_or((Health::Idle, "idle"));
        Self {
            rule,
            health,
            word,
            rate: taken.passed,
            subscriptions,
        }
    }
}

struct Builder<'l> {
    look: &'l Look,
    rates: &'l Rates,
    names_tenants: bool,
    sources: HashMap<Key<'l>, &'l SourceStatus>,
    /// Of each tenant.
    sources_of: BTreeMap<&'l Name, Vec<&'l Name>>,
    targets: HashMap<Key<'l>, &'l TargetStatus>,
    nodes: IndexMap<String, Node>,
    edges: Vec<Edge>,
}

impl<'l> Builder<'l> {
    fn new(look: &'l Look, rates: &'l Rates) -> Self {
        let tenants: HashSet<&Name> = look.rules.iter().map(|rule| &rule.tenant).collect();
        let mut sources_of: BTreeMap<&Name, Vec<&Name>> = BTreeMap::new();
        // Those of other rules' targets are taken only by rules that name them.
        for one in look
            .sources
            .iter()
            .filter(|one| one.name != Name::replies())
        {
            sources_of.entry(&one.tenant).or_default().push(&one.name);
        }
        Self {
            look,
            rates,
            names_tenants: tenants.len() > 1,
            sources: look
                .sources
                .iter()
                .map(|one| ((&one.tenant, &one.name), one))
                .collect(),
            sources_of,
            targets: look
                .targets
                .iter()
                .map(|one| ((&one.tenant, &one.name), one))
                .collect(),
            nodes: IndexMap::new(),
            edges: Vec::new(),
        }
    }

    fn label(&self, tenant: &Name, name: &str) -> String {
        if self.names_tenants {
            format!("{tenant}/{name}")
        } else {
            name.to_owned()
        }
    }

    fn node(&mut self, node: Node) -> usize {
        let entry = self.nodes.entry(node.id.clone());
        let index = entry.index();
        entry.or_insert(node);
        index
    }

    fn source(&mut self, tenant: &Name, name: &Name) -> (usize, f64) {
        let rate = self
            .rates
            .of(&Counted::Source(tenant.clone(), name.clone()));
        let status = self.sources.get(&(tenant, name)).copied();
        let (health, word) = status.map_or((Health::Idle, "built in"), |one| of_source(one, rate));
        let kind = status.map_or("built in", |one| one.kind.as_str());
        let node = Node {
            column: 0,
            id: format!("source-{tenant}-{name}"),
            label: self.label(tenant, name.as_str()),
            detail: format!("{kind} · {}", page::rate(rate.passed)),
            href: source_path(tenant, name),
            health,
            word,
        };
        (self.node(node), rate.passed)
    }

    /// Stands for all sources of a tenant.
    fn any_source(&mut self, tenant: &Name) -> (usize, f64) {
        let names = self.sources_of.get(tenant).cloned().unwrap_or_default();
        let of = |name: &Name| Counted::Source(tenant.clone(), name.clone());
        let rate = names
            .iter()
            .map(|name| self.rates.of(&of(name)).passed)
            .sum();
        let node = Node {
            column: 0,
            id: format!("source-{tenant}-"),
            label: self.label(tenant, "any source"),
            detail: format!("{} sources · {}", names.len(), page::rate(rate)),
            href: "/sources".to_owned(),
            health: if rate > 0.0 {
                Health::Good
            } else {
                Health::Idle
            },
            word: if rate > 0.0 { "receiving" } else { "running" },
        };
        (self.node(node), rate)
    }

    fn rule(&mut self, ranked: &Ranked<'_>, circuits: &HashMap<Key<'_>, Circuit>) {
        let (rule, tenant) = (ranked.rule, &ranked.rule.tenant);
        let waiting: u64 = ranked
            .subscriptions
            .iter()
            .map(|one| one.counts.pending)
            .sum();
        let mut detail = format!(
            "{} · {}",
            if rule.pipe { "pipe" } else { "rule" },
            page::rate(ranked.rate)
        );
        if waiting > 0 {
            detail.push_str(&format!(" · {} waiting", page::count(waiting)));
        }
        let own = self.node(Node {
            column: crate::columns::MIDDLE,
            id: format!("rule-{tenant}-{}", rule.name),
            label: self.label(tenant, rule.name.as_str()),
            detail,
            href: rule_path(tenant, &rule.name),
            health: ranked.health,
            word: ranked.word,
        });
        self.ways_in(own, ranked);
        for one in &ranked.subscriptions {
            let to = self.target(tenant, &one.identity.target);
            let rate = self.rates.of(&Counted::Subscription(one.number));
            let circuit = circuits.get(&(tenant, &one.identity.target)).copied();
            let (health, word) = of_subscription(one, rate, circuit);
            let role = match one.identity.role {
                Role::To => "",
                Role::OnSuccess => ", reports of successes",
                Role::OnFailure => ", reports of dead letters",
            };
            let title = format!(
                "{} → {}{role}: {word}, {}",
                rule.name,
                one.identity.target,
                page::rate(rate.passed)
            );
            self.edges.push(Edge {
                from: own,
                to,
                rate: rate.passed,
                health,
                aside: one.identity.role != Role::To,
                title,
            });
        }
    }

    /// What leads to a rule. Events are counted by source and by rule, so where a rule takes from
    /// several sources its events are shared out as those of the sources are.
    fn ways_in(&mut self, own: usize, ranked: &Ranked<'_>) {
        let (rule, tenant) = (ranked.rule, &ranked.rule.tenant);
        let all = self.sources_of.get(tenant).cloned().unwrap_or_default();
        let ways = match rule.from.as_slice() {
            [] if all.len() > EACH_SOURCE_MAX => vec![self.any_source(tenant)],
            [] => all.iter().map(|name| self.source(tenant, name)).collect(),
            names => names
                .iter()
                .map(|name| self.source(tenant, name))
                .collect::<Vec<_>>(),
        };
        let sum: f64 = ways.iter().map(|(_, rate)| rate).sum();
        for (from, rate) in ways {
            let share = if sum > 0.0 {
                ranked.rate * rate / sum
            } else {
                0.0
            };
            let title = format!("{} takes {}", rule.name, page::rate(ranked.rate));
            self.edges.push(Edge {
                from,
                to: own,
                rate: share,
                health: if share > 0.0 {
                    Health::Good
                } else {
                    Health::Idle
                },
                aside: false,
                title,
            });
        }
    }

    fn target(&mut self, tenant: &Name, name: &Name) -> usize {
        let status = self.targets.get(&(tenant, name)).copied();
        let (health, word) = status.map_or((Health::Idle, "idle"), of_target);
        let rate = self
            .rates
            .of(&Counted::Target(tenant.clone(), name.clone()));
        let kind = status.map_or("target", |one| one.kind.as_str());
        let mut detail = format!("{kind} · {}", page::rate(rate.passed));
        if let Some(one) = status.filter(|one| one.in_flight > 0) {
            detail.push_str(&format!(" · {} of {} in flight", one.in_flight, one.limit));
        }
        self.node(Node {
            column: 2,
            id: format!("target-{tenant}-{name}"),
            label: self.label(tenant, name.as_str()),
            detail,
            href: target_path(tenant, name),
            health,
            word,
        })
    }

    /// Sources that do not run and whose rules are not drawn.
    fn other_sources(&mut self) {
        let is_ill = |one: &&SourceStatus| of_source(one, Rate::default()).0 == Health::Bad;
        for one in self
            .look
            .sources
            .iter()
            .filter(is_ill)
            .take(OTHER_SOURCES_MAX)
        {
            self.source(&one.tenant, &one.name);
        }
    }
}
