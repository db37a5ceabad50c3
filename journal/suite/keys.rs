//! Keys that sources and rules declare, and ids of tasks.

use super::*;
use crate::{Backlog, Guards, Identity, JournalError, Key, Lookup, Terms};

const WINDOW: Duration = MINUTE;

fn key(text: &str, guards: Guards) -> Key {
    Key {
        identity: Identity::of_source(&name("default"), &name("suite"), "", text),
        window: WINDOW,
        guards,
    }
}

fn with_keys(entry: Entry, keys: Vec<Key>) -> Entry {
    let terms = Terms {
        keys,
        ..Terms::default()
    };
    Entry {
        terms: Some(Box::new(terms)),
        ..entry
    }
}

pub async fn an_event_whose_key_is_known_is_not_stored(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    let of = |id: &str, text: &str| {
        with_keys(entry(id, &[subscription]), vec![key(text, Guards::Event)])
    };
    // Whatever their ids are, also in one append.
    let appended = bench
        .append(vec![of("1", "a"), of("2", "a"), of("1", "b")])
        .await;
    let first = stored(appended[0]);
    assert_eq!(appended[1], Appended::Duplicate(first));
    stored(appended[2]);
    assert_eq!(bench.counts(subscription).await.created, 2);
    bench.reopen().await;
    tokio::time::advance(WINDOW / 2).await;
    let again = bench.append(vec![of("3", "a")]).await;
    assert_eq!(again, [Appended::Duplicate(first)]);
    // A duplicate does not make the window longer.
    tokio::time::advance(WINDOW / 2).await;
    let second = stored(bench.append(vec![of("4", "a")]).await[0]);
    assert!(second > first);
    tokio::time::advance(WINDOW / 2).await;
    bench.implementation.upkeep().await;
    let again = bench.append(vec![of("5", "a")]).await;
    assert_eq!(again, [Appended::Duplicate(second)]);
    let known = Lookup::Key(key("a", Guards::Event).identity);
    let known = bench.journal.reader().keys(known).await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].sequence, known[0].deliveries.len()), (second, 0));
    assert_eq!(known[0].until, known[0].at.plus(WINDOW));
}

pub async fn deliveries_whose_key_is_known_are_left_out_and_no_others(
    implementation: &dyn Implementation,
) {
    let bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&["once", "always"]).await;
    let guards = || Guards::Deliveries([numbers[0]].into_iter().collect());
    let of = |id: &str, text: &str| with_keys(entry(id, &numbers), vec![key(text, guards())]);
    let appended = bench.append(vec![of("1", "a"), of("2", "a")]).await;
    stored(appended[0]);
    let Appended::Reduced(_, known) = appended[1] else {
        panic!("{appended:?}")
    };
    assert!(known.contains(0) && !known.contains(1));
    tokio::time::advance(WINDOW / 2).await;
    bench.append(vec![of("3", "a"), of("4", "b")]).await;
    let created = async || {
        let (once, always) = (bench.counts(numbers[0]), bench.counts(numbers[1]));
        (once.await.created, always.await.created)
    };
    assert_eq!(created().await, (2, 4));
    // From when the delivery was made, and not from the last that was left out.
    tokio::time::advance(WINDOW / 2).await;
    bench.append(vec![of("5", "a")]).await;
    assert_eq!(created().await, (3, 5));
    // Of two keys of an entry each counts for itself.
    let two = with_keys(
        entry("6", &numbers),
        vec![key("e", Guards::Event), key("a", guards())],
    );
    let appended = bench.append(vec![two.clone(), two]).await;
    assert!(matches!(
        appended[..],
        [Appended::Reduced(first, _), Appended::Duplicate(second)] if first == second
    ));
}

pub async fn the_id_of_a_task_is_taken_once_for_each_who_gives_it(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&["a", "b"]).await;
    let of = |id: &str, tenant: &str, sender: &str, task: &str| {
        let identity = Identity::of_task(&name(tenant), &name("suite"), sender, task);
        let key = Key {
            identity,
            window: WINDOW,
            guards: Guards::Task,
        };
        with_keys(entry(id, &numbers), vec![key])
    };
    let appended = bench
        .append(vec![
            of("1", "default", "x", "t"),
            of("2", "default", "y", "t"),
            of("3", "default", "x", "t"),
            of("4", "default", "x", "other"),
        ])
        .await;
    let [x, y] = [0, 1].map(|at: usize| stored(appended[at]));
    assert_eq!(appended[2], Appended::Taken(x));
    stored(appended[3]);
    bench.reopen().await;
    let again = bench.append(vec![of("5", "default", "y", "t")]).await;
    assert_eq!(again, [Appended::Taken(y)]);
    let lookup = |tenant: &str, id: &str| Lookup::TaskId {
        tenant: name(tenant),
        id: id.to_owned(),
    };
    let reader = bench.journal.reader();
    let mut found = reader.keys(lookup("default", "t")).await.unwrap();
    found.sort_by_key(|found| found.sequence);
    let sequences: Vec<_> = found.iter().map(|found| found.sequence).collect();
    assert_eq!(sequences, [x, y]);
    let mut ids = Vec::new();
    for number in &numbers {
        ids.push(bench.lease_one(*number).await.id);
    }
    assert_eq!(found[0].deliveries, ids);
    for (tenant, id) in [("default", "none"), ("other", "t")] {
        assert_eq!(reader.keys(lookup(tenant, id)).await.unwrap(), []);
    }
}

pub async fn what_is_not_stored_is_not_remembered_and_a_duplicate_needs_no_room(
    implementation: &dyn Implementation,
) {
    let bench = Bench::new(implementation).await;
    let full = Backlog {
        max: 1,
        dead_when_full: false,
    };
    let attached = Subscription {
        backlog: Some(full),
        ..wanted("r")
    };
    let number = bench.journal.subscribe(vec![attached]).await.unwrap()[0];
    let of = |id: &str, text: &str| with_keys(entry(id, &[number]), vec![key(text, Guards::Event)]);
    let first = stored(bench.append(vec![of("1", "a")]).await[0]);
    let refused = bench.journal.append(append_of(vec![of("2", "b")])).await;
    assert_eq!(refused, Err(JournalError::Backlog(number)));
    // The backlog is full, and a duplicate adds nothing to it.
    let again = bench.append(vec![of("3", "a")]).await;
    assert_eq!(again, [Appended::Duplicate(first)]);
    let leased = bench.lease_one(number).await;
    bench.settle(leased.token, Ending::Delivered).await;
    stored(bench.append(vec![of("2", "b")]).await[0]);
}

pub async fn past_their_part_of_the_store_keys_are_forgotten_the_soonest_first(
    implementation: &dyn Implementation,
) {
    let bounds = Bounds {
        retention: MINUTE,
        bytes_max: 8 << 20,
    };
    let bench = Bench::bounded(implementation, bounds).await;
    let max = crate::key::keys_max(bounds.bytes_max) as usize;
    let of = |number: usize| {
        with_keys(
            entry(&number.to_string(), &[]),
            vec![key(&number.to_string(), Guards::Event)],
        )
    };
    for from in (0..max + 100).step_by(100) {
        bench.append((from..from + 100).map(of).collect()).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        // Gives back what the log takes.
        bench.implementation.upkeep().await;
    }
    let keys = bench.journal.reader().totals().await.unwrap().keys;
    assert!(keys <= max as u64, "{keys} of at most {max}");
    assert!(keys >= max as u64 - 2, "{keys} of {max}");
    let last = bench.append(vec![of(max + 99)]).await;
    assert!(matches!(last[0], Appended::Duplicate(_)), "{last:?}");
    let first = bench.append(vec![of(0)]).await;
    assert!(matches!(first[0], Appended::Stored(_)), "{first:?}");
}
