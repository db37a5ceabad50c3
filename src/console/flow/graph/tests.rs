//! Of many rules those are drawn that matter.

use pointsman_journal::{Counts, Role, SubscriptionIdentity, SubscriptionStatus};
use pointsman_schemas::{SubscriptionNumber, Timestamp};

use super::*;
use crate::admin::testing::{name, source};

/// So many rules, each for one target; some deliveries of the last two are tried again.
fn look(rules: u32) -> Look {
    let rule = |number: u32| RuleStatus {
        name: name(&format!("rule-{number}")),
        tenant: name("default"),
        pipe: false,
        description: None,
        from: Vec::new(),
        to: vec![name("function")],
        conditions: serde_json::json!({}),
        matches: 0,
        duplicates: 0,
    };
    let subscription = |number: u32| {
        let identity = SubscriptionIdentity {
            tenant: name("default"),
            rule: name(&format!("rule-{number}")),
            role: Role::To,
            target: name("function"),
        };
        let counts = Counts {
            retrying: u64::from(number + 2 >= rules),
            ..Counts::default()
        };
        let status = SubscriptionStatus {
            number: SubscriptionNumber(number),
            identity,
            attached: true,
            activity: Activity::Active,
            counts,
            oldest_pending: None,
        };
        SubscriptionView::new(status, None, None, Timestamp(0))
    };
    Look {
        sources: vec![source("orders")],
        rules: (0..rules).map(rule).collect(),
        targets: Vec::new(),
        subscriptions: (0..rules).map(subscription).collect(),
        ..Look::nothing()
    }
}

fn labels(graph: &Graph, column: usize) -> Vec<&str> {
    let nodes = graph.nodes.iter().filter(|node| node.column == column);
    nodes.map(|node| node.label.as_str()).collect()
}

#[test]
fn those_that_stand_worst_are_drawn_where_they_stand_in_the_files() {
    let graph = graph(&look(10_000), &Rates::default(), "");
    assert_eq!((graph.rules, graph.drawn), (10_000, RULES_MAX));
    let rules = labels(&graph, 1);
    assert_eq!(rules.len(), RULES_MAX);
    assert_eq!(rules[..2], ["rule-0", "rule-1"]);
    assert_eq!(rules[RULES_MAX - 2..], ["rule-9998", "rule-9999"]);
    assert_eq!(
        (labels(&graph, 0), labels(&graph, 2)),
        (vec!["orders"], vec!["function"])
    );
    let retrying = graph
        .nodes
        .iter()
        .filter(|node| node.health == Health::Warn);
    assert_eq!(retrying.count(), 2);
    // One way in and one out of each.
    assert_eq!(graph.edges.len(), 2 * RULES_MAX);
}

#[test]
fn what_is_looked_for_is_drawn() {
    let look = look(100);
    for (wanted, expect) in [
        ("Rule-77", 1),
        ("rule-9", 11),
        ("function", 100),
        ("none", 0),
    ] {
        let graph = graph(&look, &Rates::default(), wanted);
        assert_eq!(graph.rules, expect, "{wanted}");
        assert_eq!(graph.nodes.is_empty(), expect == 0, "{wanted}");
    }
}
