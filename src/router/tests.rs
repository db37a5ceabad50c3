use std::sync::Arc;

use arc_swap::ArcSwap;
use pointsman_rules::schema::{EventSchema, MARK};
use pointsman_rules::{Condition, Pattern};
use pointsman_schemas::schedule::DELIVER_AT;
use pointsman_schemas::{Clock, Data, Event, Placement, SystemClock, Timestamp};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;

use super::testing::{matcher, shared};
use super::*;

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
        filter: Pattern::compile(&json!({ "type": [ty] })).unwrap().into(),
        deduplicate: None,
        retention: None,
        subscriptions: vec![SubscriptionInForce {
            number: SubscriptionNumber(number),
            target: name("target"),
            order_by: order_by.map(|path| Path::parse(path).unwrap()),
            delay: Duration::ZERO,
            priority: None,
        }],
    }
}

#[test]
fn a_rule_sees_its_tenants_events_from_its_sources() {
    let router = shared(vec![
        rule("default", 1, None, "t", None),
        rule("default", 2, Some(&["orders"]), "t", None),
        rule("default", 3, Some(&["replies"]), "t", None),
        rule("default", 4, Some(&["orders", "ingress"]), "other", None),
        rule("acme", 5, None, "t", None),
        RuleInForce {
            pipe: true,
            ..rule("default", 6, Some(&["piped"]), "t", None)
        },
    ]);
    let numbers = |tenant: &str, origin: &str| {
        let event = Arc::new(Event::builder("1", "/s", "t").build().unwrap());
        let entry = matcher(&router).entry(&name(tenant), &name(origin), event, None);
        entry
            .unwrap()
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
        filter: condition.into(),
        ..rule("default", 1, None, "t", None)
    };
    let mut matcher = matcher(&shared(vec![slow]));
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
        let (tenant, origin) = (name("default"), name("ingress"));
        let entry = matcher.entry(&tenant, &origin, Arc::new(event), None);
        ended.store(true, Ordering::SeqCst);
        entry.unwrap().deliveries.len()
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
            Pattern::compile(&json!({ "type": [ty], "source": ["/s"], "subject": ["x"] })).unwrap();
        RuleInForce {
            filter: pattern.into(),
            ..rule("default", number, None, ty, None)
        }
    };
    let far =
        (10..100).map(|number| rule("default", number, Some(&["orders", "inbox"]), "other", None));
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
    let router = shared(vec![rule("default", 1, None, "t", Some("$.subject"))]);
    let unordered = Counter::default();
    let mut matcher = Matcher::new(
        Arc::clone(&router),
        Arc::new(SystemClock),
        MatchCounters {
            unordered: unordered.clone(),
            ..MatchCounters::default()
        },
    );
    let window = Some(std::time::Duration::from_secs(9));
    let mut key = |subject: Option<&'static str>| {
        let builder = Event::builder("1", "/s", "t");
        let event = subject
            .into_iter()
            .fold(builder, |builder, subject| builder.subject(subject))
            .build()
            .unwrap();
        let entry = matcher.entry(&name("default"), &name("x"), Arc::new(event), window);
        let entry = entry.unwrap();
        assert_eq!(entry.deduplicate, window);
        entry.deliveries[0].order_key
    };
    // The first 64 bits of the SHA-256 of "abc", from FIPS 180-2, appendix B.1.
    assert_eq!(key(Some("abc")), Some(0xba78_16bf_8f01_cfea));
    assert_ne!(key(Some("abd")), key(Some("abc")));
    assert_eq!(key(None), None);
    assert_eq!(
        router
            .load()
            .matches()
            .map(|(_, _, matches, _)| matches)
            .collect::<Vec<_>>(),
        [4]
    );
    assert_eq!(unordered.get(), 1);
}

#[test]
fn the_longest_time_holds_that_a_rule_has_what_it_takes_kept() {
    let hours = |hours: u64| Some(std::time::Duration::from_secs(hours * 3_600));
    let keeps = |number, ty, time| RuleInForce {
        retention: hours(time),
        ..rule("default", number, None, ty, None)
    };
    let router = shared(vec![
        rule("default", 1, None, "short", None),
        keeps(2, "short", 1),
        keeps(3, "long", 1),
        keeps(4, "long", 72),
        keeps(5, "long", 2),
        rule("default", 6, None, "usual", None),
    ]);
    let mut matcher = matcher(&router);
    let mut kept = |ty: &str| {
        let event = Arc::new(Event::builder("1", "/s", ty).build().unwrap());
        let entry = matcher.entry(&name("default"), &name("x"), event, None);
        let retention = entry.unwrap().terms.and_then(|terms| terms.retention)?;
        assert_eq!(retention.instead, None, "that is for its source to say");
        Some(retention.at_least)
    };
    assert_eq!(kept("short"), hours(1));
    assert_eq!(kept("long"), hours(72));
    assert_eq!(kept("usual"), None);
    assert_eq!(kept("unmatched"), None);
}

/// The time of day is two hours ahead of what deliveries fall due by.
#[derive(Debug)]
struct TwoHoursAhead;

const HOUR: Duration = Duration::from_secs(3_600);

impl Clock for TwoHoursAhead {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn shown(&self, time: Timestamp) -> Timestamp {
        time.plus(2 * HOUR)
    }
}

#[test]
fn a_delivery_falls_due_at_the_later_of_the_rules_delay_and_what_the_event_asks_for() {
    let due = |delay: Duration, asked: Option<&str>| {
        let mut rule = rule("default", 1, None, "t", None);
        rule.subscriptions[0].delay = delay;
        let mut matcher = Matcher::new(
            shared(vec![rule]),
            Arc::new(TwoHoursAhead),
            MatchCounters::default(),
        );
        let builder = Event::builder("1", "/s", "t");
        let event = asked.into_iter().fold(builder, |builder, time| {
            builder.attribute(DELIVER_AT, time.into())
        });
        let event = Arc::new(event.build().unwrap());
        let entry = matcher.entry(&name("default"), &name("x"), event, None);
        entry.map(|entry| entry.deliveries[0].due)
    };
    let at = |time: Duration| Ok(Some(Timestamp(0).plus(time)));
    assert_eq!(due(Duration::ZERO, None), Ok(None));
    assert_eq!(due(HOUR, None), at(HOUR));
    assert_eq!(
        due(Duration::ZERO, Some("1970-01-01T05:00:00Z")),
        at(3 * HOUR)
    );
    assert_eq!(due(HOUR, Some("1970-01-01T05:00:00Z")), at(3 * HOUR));
    assert_eq!(due(4 * HOUR, Some("1970-01-01T05:00:00Z")), at(4 * HOUR));
    assert_eq!(due(Duration::ZERO, Some("1970-01-01T01:59:59Z")), Ok(None));
    assert_eq!(due(HOUR, Some("1970-01-01T01:59:59Z")), at(HOUR));
    assert!(due(HOUR, Some("tomorrow")).is_err());
}

#[test]
fn a_delivery_is_as_urgent_as_its_event_says_and_of_the_usual_priority_where_it_says_nothing() {
    let mut rule = rule("default", 1, None, "t", None);
    let template = TextTemplate::compile("<$.urgency>", Placement::Address).unwrap();
    rule.subscriptions[0].priority = Some(template);
    let counters = MatchCounters::default();
    let router = shared(vec![rule]);
    let mut matcher = Matcher::new(router, Arc::new(SystemClock), counters.clone());
    let mut priority = |said: Option<&str>| {
        let builder = Event::builder("1", "/s", "t");
        let event = said.into_iter().fold(builder, |builder, said| {
            builder.attribute("urgency", said.into())
        });
        let event = Arc::new(event.build().unwrap());
        let entry = matcher.entry(&name("default"), &name("x"), event, None);
        entry.unwrap().deliveries[0].priority.number()
    };
    assert_eq!([priority(Some("0")), priority(Some("9"))], [0, 9]);
    assert_eq!(counters.without_priority.get(), 0);
    for said in [
        None,
        Some("10"),
        Some("-1"),
        Some("high"),
        Some("1.5"),
        Some(""),
    ] {
        assert_eq!(priority(said), 0, "{said:?}");
    }
    assert_eq!(counters.without_priority.get(), 6);
}

#[test]
fn an_event_that_does_not_fit_its_schema_becomes_what_the_schema_says() {
    let mismatches = Counter::default();
    let schema = |ty: &str, on_mismatch: OnMismatch| {
        let schema = EventSchema::compile(&json!({ "properties": { "n": { "type": "number" } } }));
        let of = TypeSchema {
            tenant: name("default"),
            ty: ty.into(),
            schema: Arc::new(schema.unwrap()),
            on_mismatch,
        };
        SchemaInForce::new(of, mismatches.clone())
    };
    let router = Router::new(vec![rule("default", 1, None, "mark", None)]).with_schemas([
        schema("refuse", OnMismatch::Refuse),
        schema("mark", OnMismatch::Mark),
        schema("dead", OnMismatch::DeadLetter),
    ]);
    let mut matcher = matcher(&Arc::new(ArcSwap::from_pointee(router)));
    let mut entry = |tenant: &str, ty: &str, n: &str, mark: Option<&str>| {
        let data = Data::json(format!("{{\"n\":{n}}}").into()).unwrap();
        let event = Event::builder("1", "/s", ty).data(data);
        let event = mark
            .into_iter()
            .fold(event, |event, mark| event.attribute(MARK, mark.into()));
        matcher.entry(
            &name(tenant),
            &name("x"),
            Arc::new(event.build().unwrap()),
            None,
        )
    };
    for (ty, is_kept) in [("refuse", false), ("dead", true)] {
        assert!(entry("default", ty, "1", None).is_ok());
        let not_taken = entry("default", ty, "\"x\"", None).unwrap_err();
        assert_eq!(not_taken.is_kept, is_kept, "{ty}");
        assert!(not_taken.reject.reason.contains("/data/n"), "{not_taken:?}");
        assert!(pointsman_schemas::json::decode(&not_taken.reject.raw).is_ok());
    }
    let marked = entry("default", "mark", "\"x\"", None).unwrap();
    assert_eq!(marked.deliveries.len(), 1, "rules see it");
    let told = marked.event.attribute(MARK).unwrap().to_string();
    assert_eq!(told, "/data/n: \"x\" is not of type \"number\"");
    // A sender does not say it for the bus, where the bus does.
    let forged = entry("default", "mark", "1", Some("forged")).unwrap();
    assert_eq!(forged.event.attribute(MARK), None);
    let other = entry("default", "other", "\"x\"", Some("theirs")).unwrap();
    assert!(other.event.attribute(MARK).is_some());
    assert!(
        entry("acme", "refuse", "\"x\"", None).is_ok(),
        "another tenant's"
    );
    assert_eq!(mismatches.get(), 3);
}
