//! The rules in force, and who waits for an event by them.
//!
//! A [`Router`] is immutable. A reload makes a new one and swaps it in whole, so that no event sees
//! half a set of rules; an event that was matched before keeps the deliveries that it was given.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pointsman_connectors::Plain;
use pointsman_rules::{
    Condition, Explanation, Filters, Origin, OriginSet, Path, Pattern, Rule, RuleSet, Scratch,
    document::Document, transform::EventMapping,
};
use pointsman_schemas::{Event, Name, SubscriptionNumber};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::dispatcher::MatchReply;
use crate::intake::Match;
use pointsman_journal::{Entry, NewDelivery};

/// For how long an event with the same source and id is known again, where a source has stable ids.
pub const DEDUPLICATION_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest data, in bytes, that is matched on the thread that it came in on: about ten
/// microseconds of work, as long as rules are plain.
const MATCHED_IN_PLACE_MAX: usize = 32 * 1024;

/// Of all sources that no rule names.
const OTHERS: Origin = Origin(u16::MAX);

/// One rule or pipe, compiled and subscribed.
#[derive(Debug)]
pub struct RuleInForce {
    /// Whose.
    pub tenant: Name,
    /// Its name.
    pub name: Name,
    /// True of a pipe: no rule without a `from` sees the events of its source.
    pub pipe: bool,
    /// The sources whose events it looks at; any but `replies` and those of pipes where none is
    /// given.
    pub from: Option<Vec<Name>>,
    /// `match`.
    pub pattern: Option<Pattern>,
    /// `where`.
    pub condition: Option<Condition>,
    /// `filters`.
    pub filters: Option<Filters>,
    /// Its subscriptions.
    pub routes: Vec<Route>,
}

/// One of a rule's subscriptions.
#[derive(Debug)]
pub struct Route {
    /// Which.
    pub subscription: SubscriptionNumber,
    /// What orders its deliveries.
    pub order_by: Option<Path>,
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
    origins: HashMap<Name, Origin>,
    /// By their sources.
    pipes: HashMap<Name, SubscriptionNumber>,
    /// In the order of the set.
    rules: Vec<Routes>,
}

#[derive(Debug)]
struct Routes {
    name: Name,
    from: Option<Vec<Name>>,
    routes: Vec<Route>,
    matches: AtomicU64,
    unordered: AtomicU64,
}

/// Why the rules of a tenant take an event, or do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The rules that take it, in the order of the files.
    pub taken: Vec<Name>,
    /// The rule that was asked for, or those that do not take it, the nearest first.
    pub rules: Vec<RuleExplanation>,
    /// How many that do not take it are left out.
    pub omitted: usize,
}

/// Why one rule takes an event, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleExplanation {
    /// The rule.
    pub rule: Name,
    /// Why.
    #[serde(flatten)]
    pub explanation: Explanation,
}

impl Explained {
    fn keep_nearest(&mut self, limit: usize) {
        self.rules.sort_by_key(|one| one.explanation.distance());
        self.omitted += self.rules.len().saturating_sub(limit);
        self.rules.truncate(limit);
    }
}

impl Router {
    /// Puts rules in force.
    #[must_use]
    pub fn new(rules: Vec<RuleInForce>) -> Self {
        let mut counts: HashMap<Name, usize> = HashMap::new();
        rules
            .iter()
            .for_each(|rule| *counts.entry(rule.tenant.clone()).or_default() += 1);
        let mut by_tenant: HashMap<Name, Vec<RuleInForce>> = counts
            .into_iter()
            .map(|(tenant, count)| (tenant, Vec::with_capacity(count)))
            .collect();
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

    /// Why the rules of a tenant take an event or do not: of one rule, or of all those that do not,
    /// the nearest first, at most `limit`. None where there is no such rule.
    #[must_use]
    pub fn explain(
        &self,
        tenant: &Name,
        origin: &Name,
        event: &Event,
        rule: Option<&Name>,
        limit: usize,
    ) -> Option<Explained> {
        let explained = self
            .tenants
            .get(tenant)
            .map(|rules| rules.explain(origin, event, rule, limit))
            .unwrap_or_default();
        (rule.is_none() || !explained.rules.is_empty()).then_some(explained)
    }

    /// The rules of a tenant that take an event from this source, or from any one where none is
    /// named, in the order of the files.
    #[must_use]
    pub fn taken(&self, tenant: &Name, origin: Option<&Name>, event: &Event) -> Vec<&Name> {
        self.tenants
            .get(tenant)
            .map(|rules| rules.taken(origin, event))
            .unwrap_or_default()
    }

    /// Why a rule takes an event or does not, whatever its `from`. None where there is no such
    /// rule.
    #[must_use]
    pub fn explain_content(
        &self,
        tenant: &Name,
        rule: &Name,
        event: &Event,
    ) -> Option<Explanation> {
        let rules = self.tenants.get(tenant)?;
        let (index, found) = (0..).zip(&rules.rules).find(|(_, one)| one.name == *rule)?;
        let origin = found
            .from
            .as_ref()
            .and_then(|names| names.first())
            .map_or(OTHERS, |name| rules.origin(name));
        rules.set.explain(index, origin, event)
    }

    /// How often each rule took an event since it came into force: (tenant, rule, matches,
    /// deliveries whose `order_by` found nothing).
    pub fn counts(&self) -> impl Iterator<Item = (&Name, &Name, u64, u64)> {
        self.tenants.iter().flat_map(|(tenant, rules)| {
            rules.rules.iter().map(move |rule| {
                (
                    tenant,
                    &rule.name,
                    rule.matches.load(Ordering::Relaxed),
                    rule.unordered.load(Ordering::Relaxed),
                )
            })
        })
    }
}

impl TenantRules {
    fn new(rules: Vec<RuleInForce>) -> Self {
        let mut origins = HashMap::from([(Name::replies(), Origin(0))]);
        for name in rules.iter().filter_map(|rule| rule.from.as_ref()).flatten() {
            // Origins that no rule names all share the number past the last one.
            let next = Origin(u16::try_from(origins.len()).unwrap_or(u16::MAX));
            origins.entry(name.clone()).or_insert(next);
        }
        let is_pipe = |rule: &&RuleInForce| rule.pipe;
        let pipes = rules.iter().filter(is_pipe).filter_map(|rule| {
            Some((
                rule.from.as_ref()?.first()?.clone(),
                rule.routes.first()?.subscription,
            ))
        });
        let pipes: HashMap<Name, SubscriptionNumber> = pipes.collect();
        let feeding = rules
            .iter()
            .filter(is_pipe)
            .filter_map(|rule| rule.from.as_ref()?.first());
        let apart: Vec<Origin> = feeding
            .chain([&Name::replies()])
            .filter_map(|name| origins.get(name).copied())
            .collect();
        let (mut compiled, mut routes) = (
            Vec::with_capacity(rules.len()),
            Vec::with_capacity(rules.len()),
        );
        for rule in rules {
            let from = rule.from.as_ref().map_or_else(
                || OriginSet::all_but(&apart),
                |names| {
                    OriginSet::only(
                        &names
                            .iter()
                            .filter_map(|name| origins.get(name).copied())
                            .collect::<Vec<_>>(),
                    )
                },
            );
            compiled.push(Rule {
                from,
                pattern: rule.pattern,
                condition: rule.condition,
                filters: rule.filters,
            });
            routes.push(Routes {
                name: rule.name,
                from: rule.from,
                routes: rule.routes,
                matches: AtomicU64::new(0),
                unordered: AtomicU64::new(0),
            });
        }
        Self {
            set: RuleSet::compile(compiled),
            origins,
            pipes,
            rules: routes,
        }
    }

    fn origin(&self, origin: &Name) -> Origin {
        self.origins.get(origin).copied().unwrap_or(OTHERS)
    }

    fn taken(&self, origin: Option<&Name>, event: &Event) -> Vec<&Name> {
        let origins = match origin {
            Some(origin) => vec![self.origin(origin)],
            None => self.origins.values().copied().chain([OTHERS]).collect(),
        };
        let (mut scratch, mut taken) = (Scratch::default(), Vec::new());
        for origin in origins {
            self.set
                .matches_into(origin, event, &mut scratch, &mut taken);
        }
        taken.sort_unstable();
        taken.dedup();
        taken
            .into_iter()
            .filter_map(|index| self.rules.get(usize::try_from(index).ok()?))
            .map(|rule| &rule.name)
            .collect()
    }

    fn explain(
        &self,
        origin: &Name,
        event: &Event,
        only: Option<&Name>,
        limit: usize,
    ) -> Explained {
        let (mut explained, mut matched) = (Explained::default(), Vec::new());
        self.set.matches_into(
            self.origin(origin),
            event,
            &mut Scratch::default(),
            &mut matched,
        );
        let taken = matched
            .iter()
            .filter_map(|index| self.rules.get(usize::try_from(*index).ok()?));
        explained.taken = taken.map(|rule| rule.name.clone()).collect();
        for (index, rule) in (0..)
            .zip(&self.rules)
            .filter(|(_, rule)| only.is_none_or(|only| *only == rule.name))
        {
            let Some(mut explanation) = self.set.explain(index, self.origin(origin), event) else {
                continue;
            };
            for check in explanation
                .checks
                .iter_mut()
                .filter(|check| check.field == "from")
            {
                check.expected = rule.from.as_ref().map_or_else(
                    || "any source but replies".to_owned(),
                    |names| {
                        names
                            .iter()
                            .map(Name::as_str)
                            .collect::<Vec<_>>()
                            .join(" or ")
                    },
                );
                check.found = Some(origin.to_string());
            }
            if only.is_some() || !explanation.matches {
                explained.rules.push(RuleExplanation {
                    rule: rule.name.clone(),
                    explanation,
                });
            }
            // Not all of ten thousand are held at once.
            if explained.rules.len() > 2 * limit {
                explained.keep_nearest(limit);
            }
        }
        explained.keep_nearest(limit);
        explained
    }

    /// Matches an event. What a rule costs follows the size of the event, so a large one is matched
    /// aside from the runtime's thread, whose other tasks go on meanwhile; most events are small,
    /// and cost less than the way there.
    fn deliveries(
        &self,
        origin: &Name,
        event: &Event,
        room: &mut Room,
    ) -> SmallVec<[NewDelivery; 2]> {
        let is_large = event
            .data()
            .is_some_and(|data| data.bytes().len() > MATCHED_IN_PLACE_MAX);
        if is_large
            && Handle::try_current()
                .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
        {
            tokio::task::block_in_place(|| self.deliveries_in_place(origin, event, room))
        } else {
            self.deliveries_in_place(origin, event, room)
        }
    }

    fn deliveries_in_place(
        &self,
        origin: &Name,
        event: &Event,
        room: &mut Room,
    ) -> SmallVec<[NewDelivery; 2]> {
        room.matched.clear();
        self.set.matches_into(
            self.origin(origin),
            event,
            &mut room.scratch,
            &mut room.matched,
        );
        let mut deliveries = SmallVec::new();
        for rule in room
            .matched
            .iter()
            .filter_map(|index| self.rules.get(usize::try_from(*index).ok()?))
        {
            rule.matches.fetch_add(1, Ordering::Relaxed);
            for route in &rule.routes {
                let order_key = route.order_by.as_ref().and_then(|path| {
                    let key = path.find_text(&Document::event(event));
                    if key.is_none() {
                        rule.unordered.fetch_add(1, Ordering::Relaxed);
                    }
                    key.map(|key| order_key(&key))
                });
                deliveries.push(NewDelivery {
                    subscription: route.subscription,
                    order_key,
                    due: None,
                });
            }
        }
        deliveries
    }
}

/// The journal's order key of a value. It is kept on disk, so its meaning must never change: the
/// first 64 bits of the SHA-256 of the text. Two values with the same key would only wait for each
/// other.
fn order_key(value: &str) -> u64 {
    Sha256::digest(value)
        .iter()
        .take(8)
        .fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Room for matching, reused.
#[derive(Debug, Default)]
struct Room {
    scratch: Scratch,
    matched: Vec<u32>,
}

/// Matches what one source hands over against the rules in force at that moment.
#[derive(Debug)]
pub struct Matcher {
    router: Arc<ArcSwap<Router>>,
    tenant: Name,
    origin: Name,
    mapping: Option<Arc<EventMapping>>,
    deduplicate: Option<Duration>,
    room: Room,
}

impl Matcher {
    /// A matcher for the events of one source. Where its ids are stable the journal is asked to
    /// know duplicates.
    #[must_use]
    pub fn new(
        router: Arc<ArcSwap<Router>>,
        tenant: Name,
        origin: Name,
        mapping: Option<Arc<EventMapping>>,
        stable_ids: bool,
    ) -> Self {
        Self {
            router,
            tenant,
            origin,
            mapping,
            deduplicate: stable_ids.then_some(DEDUPLICATION_WINDOW),
            room: Room::default(),
        }
    }
}

impl Match for Matcher {
    fn entry(&mut self, event: Arc<Event>) -> Entry {
        let router = self.router.load();
        let deliveries = router
            .tenants
            .get(&self.tenant)
            .map(|rules| rules.deliveries(&self.origin, &event, &mut self.room));
        Entry {
            event,
            deliveries: deliveries.unwrap_or_default(),
            deduplicate: self.deduplicate,
            dead: None,
        }
    }

    fn pipe(&self) -> Option<SubscriptionNumber> {
        self.router
            .load()
            .tenants
            .get(&self.tenant)?
            .pipes
            .get(&self.origin)
            .copied()
    }

    fn map(&mut self, plain: Plain) -> Result<Event, String> {
        let builder = match &self.mapping {
            None => plain.defaults,
            Some(mapping) => {
                let root = Document::json(&plain.root).map_err(|error| error.to_string())?;
                mapping
                    .apply(&root, plain.defaults)
                    .map_err(|error| error.to_string())?
            }
        };
        builder.build().map_err(|error| error.to_string())
    }
}

/// Matches what targets answer with.
#[derive(Debug)]
pub struct Replies {
    router: Arc<ArcSwap<Router>>,
    /// The dispatcher is one task: nobody ever waits for it.
    room: Mutex<Room>,
}

impl Replies {
    /// Matches by the rules in force.
    #[must_use]
    pub fn new(router: Arc<ArcSwap<Router>>) -> Self {
        Self {
            router,
            room: Mutex::default(),
        }
    }
}

impl MatchReply for Replies {
    fn match_reply(&self, tenant: &Name, event: Arc<Event>) -> Entry {
        let router = self.router.load();
        let deliveries = router
            .tenants
            .get(tenant)
            .map(|rules| rules.deliveries(&Name::replies(), &event, &mut self.room.lock()));
        Entry {
            event,
            deliveries: deliveries.unwrap_or_default(),
            deduplicate: None,
            dead: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn rule(
        tenant: &str,
        number: u32,
        from: Option<&[&str]>,
        ty: &str,
        order_by: Option<&str>,
    ) -> RuleInForce {
        RuleInForce {
            tenant: name(tenant),
            name: name(&format!("rule-{number}")),
            pipe: false,
            from: from.map(|names| names.iter().map(|text| name(text)).collect()),
            pattern: Some(Pattern::compile(&json!({ "type": [ty] })).unwrap()),
            condition: None,
            filters: None,
            routes: vec![Route {
                subscription: SubscriptionNumber(number),
                order_by: order_by.map(|path| Path::parse(path).unwrap()),
            }],
        }
    }

    #[test]
    fn a_rule_sees_its_tenants_events_from_its_sources() {
        let router = Arc::new(ArcSwap::from_pointee(Router::new(vec![
            rule("default", 1, None, "t", None),
            rule("default", 2, Some(&["orders"]), "t", None),
            rule("default", 3, Some(&["replies"]), "t", None),
            rule("default", 4, Some(&["orders", "ingress"]), "other", None),
            rule("acme", 5, None, "t", None),
            RuleInForce {
                pipe: true,
                ..rule("default", 6, Some(&["piped"]), "t", None)
            },
        ])));
        let numbers = |tenant: &str, origin: &str| {
            let mut matcher =
                Matcher::new(Arc::clone(&router), name(tenant), name(origin), None, false);
            let entry = matcher.entry(Arc::new(Event::builder("1", "/s", "t").build().unwrap()));
            entry
                .deliveries
                .iter()
                .map(|delivery| delivery.subscription.0)
                .collect::<Vec<_>>()
        };
        for (tenant, origin, expected) in [
            ("default", "orders", vec![1, 2]),
            ("default", "ingress", vec![1]),
            ("default", "unnamed", vec![1]),
            ("default", "piped", vec![6]),
            ("acme", "piped", vec![5]),
            ("default", "replies", vec![3]),
            ("acme", "orders", vec![5]),
            ("nobody", "orders", vec![]),
        ] {
            assert_eq!(numbers(tenant, origin), expected, "{tenant} {origin}");
        }
        router.store(Arc::new(Router::default()));
        assert!(
            numbers("default", "orders").is_empty(),
            "a matcher follows the rules in force"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_event_does_not_hold_up_other_tasks() {
        let condition = Condition::parse("$.data..[?@.a == 1]").unwrap();
        let slow = RuleInForce {
            pattern: None,
            condition: Some(condition),
            ..rule("default", 1, None, "t", None)
        };
        let router = Arc::new(ArcSwap::from_pointee(Router::new(vec![slow])));
        let mut matcher = Matcher::new(router, name("default"), name("ingress"), None, false);
        let (started, mut waiting) = tokio::sync::mpsc::channel(1);
        let data = json!(vec![json!({ "b": [[1]] }); 20_000]).to_string();
        let event = Event::builder("1", "/s", "t")
            .data(pointsman_schemas::Data::json(data.into()).unwrap())
            .build()
            .unwrap();
        let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let matching = tokio::spawn(async move {
            started.send(()).await.unwrap();
            let entry = matcher.entry(Arc::new(event));
            ended.store(true, Ordering::SeqCst);
            entry.deliveries.len()
        });
        // There is one thread: this task goes on before the matching has ended only where that made
        // room for it.
        let other = tokio::spawn(async move {
            waiting.recv().await;
            tokio::task::yield_now().await;
            !seen.load(Ordering::SeqCst)
        });
        assert!(other.await.unwrap());
        assert_eq!(matching.await.unwrap(), 0);
    }

    #[test]
    fn the_nearest_misses_are_told_first_and_at_most_so_many() {
        let near = |number: u32, ty: &str| {
            let pattern =
                Pattern::compile(&json!({ "type": [ty], "source": ["/s"], "subject": ["x"] }))
                    .unwrap();
            RuleInForce {
                pattern: Some(pattern),
                ..rule("default", number, None, ty, None)
            }
        };
        let far = (10..100)
            .map(|number| rule("default", number, Some(&["orders", "inbox"]), "other", None));
        let rules = far.chain([
            near(1, "t"),
            near(2, "u"),
            rule("default", 3, None, "t", None),
            rule("acme", 4, None, "t", None),
        ]);
        let router = Router::new(rules.collect());
        let event = Event::builder("1", "/s", "t").build().unwrap();
        let explain = |tenant: &str, origin: &str, rule: Option<&str>, limit: usize| {
            router.explain(
                &name(tenant),
                &name(origin),
                &event,
                rule.map(name).as_ref(),
                limit,
            )
        };
        let all = explain("default", "ingress", None, 3).unwrap();
        let order: Vec<&str> = all.rules.iter().map(|one| one.rule.as_str()).collect();
        assert_eq!((all.taken, all.omitted), (vec![name("rule-3")], 89));
        assert_eq!(order, ["rule-1", "rule-2", "rule-10"]);
        let from = &all.rules[2].explanation.checks[0];
        assert_eq!(
            (&*from.expected, from.found.as_deref()),
            ("orders or inbox", Some("ingress"))
        );
        let one = explain("default", "ingress", Some("rule-3"), 1).unwrap();
        assert!(one.rules[0].explanation.matches && one.taken.len() == 1 && one.omitted == 0);
        let replied = explain("default", "replies", Some("rule-3"), 1).unwrap();
        assert_eq!(
            replied.rules[0].explanation.checks[0].expected,
            "any source but replies"
        );
        assert_eq!(
            explain("acme", "ingress", Some("rule-3"), 1),
            None,
            "another tenant's rule"
        );
        assert_eq!(
            explain("nobody", "ingress", None, 1),
            Some(Explained::default())
        );
    }

    #[test]
    fn order_keys_are_stable_and_what_has_none_is_counted() {
        let router = Arc::new(ArcSwap::from_pointee(Router::new(vec![rule(
            "default",
            1,
            None,
            "t",
            Some("$.subject"),
        )])));
        let mut matcher = Matcher::new(Arc::clone(&router), name("default"), name("x"), None, true);
        let mut key = |subject: Option<&'static str>| {
            let builder = Event::builder("1", "/s", "t");
            let event = subject
                .into_iter()
                .fold(builder, |builder, subject| builder.subject(subject))
                .build()
                .unwrap();
            matcher.entry(Arc::new(event)).deliveries[0].order_key
        };
        // The first 64 bits of the SHA-256 of "abc", from FIPS 180-2, appendix B.1.
        assert_eq!(key(Some("abc")), Some(0xba78_16bf_8f01_cfea));
        assert_ne!(key(Some("abd")), key(Some("abc")));
        assert_eq!(key(None), None);
        assert_eq!(
            router
                .load()
                .counts()
                .map(|(_, _, matches, unordered)| (matches, unordered))
                .collect::<Vec<_>>(),
            [(4, 1)]
        );
    }
}
