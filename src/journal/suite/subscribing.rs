//! Subscriptions come, go, rest and are renamed.

use super::*;
use crate::journal::{Activity, JournalError};

pub(in crate::journal) async fn subscriptions_keep_their_numbers_and_deliveries(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let first = bench.subscribe(&["r", "s", "r"]).await;
    let [r, s] = [first[0], first[1]];
    assert!(first[2] == r && r != s && r.0 >= 1);
    bench.event_for("a", &[r]).await;
    bench.told_due().await;
    let second = bench.subscribe(&["s", "t"]).await;
    assert_eq!(second[0], s);
    assert!(second[1] > s);
    assert!(bench.lease(r, 1).await.is_empty(), "detached");
    let status = bench.status(r).await;
    assert_eq!((status.attached, status.counts.pending), (false, 1));
    // An append that was matched before still finds it.
    bench.event_for("b", &[r]).await;
    assert_eq!(bench.told_due().await, []);
    bench.reopen().await;
    assert!(bench.lease(r, 1).await.is_empty(), "still detached");
    assert_eq!(bench.subscribe(&["r"]).await, [r]);
    assert_eq!(bench.told_due().await, [r]);
    assert_eq!(ids(&bench.lease(r, 9).await), ["a", "b"]);
    assert!(!bench.status(s).await.attached);

    let renamed = |rule: &str, from: &str| Subscription { renamed_from: Some(name(from)), ..wanted(rule) };
    assert_eq!(bench.journal.subscribe(vec![renamed("new", "r")]).await, Ok(vec![r]), "detached by this very call");
    assert_eq!(bench.status(r).await.identity.rule, name("new"));
    assert_eq!(bench.journal.subscribe(vec![renamed("new", "r")]).await, Ok(vec![r]), "the name may stay in the file");
    let both = bench.journal.subscribe(vec![wanted("new"), renamed("newer", "new")]).await.unwrap();
    assert!(both[0] == r && both[1] != r, "nothing is taken from who is still wanted: {both:?}");
    bench.reopen().await;
    let statuses = bench.journal.reader().subscriptions().await.unwrap();
    assert!(statuses.is_sorted_by_key(|status| status.number));
    let rules: Vec<_> = statuses.iter().map(|status| (status.identity.rule.to_string(), status.attached)).collect();
    assert_eq!(rules, [("new".to_owned(), true), ("s".to_owned(), false), ("t".to_owned(), false), ("newer".to_owned(), true)]);
}

pub(in crate::journal) async fn many_subscriptions_come_and_go_at_once(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let names = |rules: std::ops::Range<usize>| rules.map(|rule| format!("r-{rule}")).collect::<Vec<_>>();
    let subscribe = async |bench: &Bench<'_>, rules| {
        let names: Vec<String> = names(rules);
        bench.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let first = subscribe(&bench, 0..900).await;
    let second = subscribe(&bench, 300..1_200).await;
    assert!(first.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(second[..600], first[300..]);
    assert!(second[600..].windows(2).all(|pair| first[899] < pair[0] && pair[0] < pair[1]));
    bench.reopen().await;
    let statuses = bench.journal.reader().subscriptions().await.unwrap();
    assert_eq!(statuses.iter().filter(|status| status.attached).map(|status| status.number).collect::<Vec<_>>(), second);
    assert_eq!(subscribe(&bench, 0..1_200).await, [first, second[600..].to_vec()].concat(), "each has its own again");
}

pub(in crate::journal) async fn a_subscription_that_is_not_active_leases_nothing(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    bench.event_for("a", &[r]).await;
    let flying = bench.lease_one(r).await;
    bench.told_due().await;
    for activity in [Activity::Suspended, Activity::Gone] {
        assert_eq!(bench.journal.set_activity(r, activity).await, Ok(()));
        bench.event_for("b", &[r]).await;
        assert!(bench.lease(r, 9).await.is_empty());
        assert_eq!(bench.told_due().await, []);
        assert_eq!(bench.status(r).await.activity, activity);
        assert_eq!(bench.subscribe(&["r"]).await, [r], "a reload does not resume it");
        assert_eq!(bench.status(r).await.activity, activity);
    }
    assert!(bench.settle(flying.token, Ending::Delivered).await, "what is in flight may still be settled");
    bench.reopen().await;
    assert_eq!(bench.status(r).await.activity, Activity::Gone);
    assert_eq!(bench.journal.set_activity(r, Activity::Active).await, Ok(()));
    assert_eq!(bench.told_due().await, [r]);
    assert_eq!(bench.lease(r, 9).await.len(), 2);
    let unknown = bench.journal.set_activity(SubscriptionNumber(99), Activity::Active).await;
    assert!(matches!(unknown, Err(JournalError::NotFound(_))));
}
