use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pointsman_journal::{
    Append, DeadReason, DeadSelection, Ending, Entry, Grant, Journal, Leased, NewDelivery, Record,
    Settlement,
};
use pointsman_schemas::{Event, SubscriptionNumber, Timestamp};

use super::*;
use crate::admin::testing::{NOON, TestBus, name};
use crate::admin::view::{Onlooker, task_page};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: TasksArgs,
}

/// What a command line prints when it is spoken to a bus.
async fn typed(bus: &TestBus<impl Journal + 'static>, line: &str) -> String {
    let words = format!("tasks {line} --admin http://{}", bus.address);
    let args = match Line::try_parse_from(words.split_whitespace()) {
        Ok(line) => line.args,
        Err(error) => return error.to_string(),
    };
    execute(args)
        .await
        .unwrap_or_else(|error| format!("{error}\n{}", error.help_text()))
}

/// Stores an event for subscriptions.
async fn append(journal: &dyn Journal, numbers: &[u32], due: Option<Timestamp>) {
    let delivery = |number: &u32| NewDelivery {
        due,
        ..NewDelivery::now(SubscriptionNumber(*number))
    };
    let event = Event::builder("1", "/s", "t").build().unwrap();
    let entry = Entry {
        event: Arc::new(event),
        deliveries: numbers.iter().map(delivery).collect(),
        deduplicate: None,
        dead: None,
        terms: None,
    };
    let append = Append {
        tenant: name("default"),
        origin: name("uploads"),
        entries: vec![entry],
        rejects: Vec::new(),
        cursor: None,
        positions: Vec::new(),
    };
    journal.append(append).await.unwrap();
}

async fn lease(journal: &dyn Journal, number: u32) -> Leased {
    let grant = Grant {
        subscription: SubscriptionNumber(number),
        count: 1,
        lease: Duration::from_secs(60),
        bytes_max: usize::MAX,
        batching: None,
    };
    let leases = journal.lease(&[grant], usize::MAX).await.unwrap();
    leases.leased.into_iter().next().unwrap()
}

/// A bus with a task in each state, the running one first, of the subscription `audit` but for the
/// one that is retried.
async fn each_state(bus: &TestBus<impl Journal + 'static>) -> Leased {
    append(&*bus.journal, &[2], None).await;
    let running = lease(&*bus.journal, 2).await;
    append(
        &*bus.journal,
        &[2],
        Some(NOON.plus(Duration::from_secs(90))),
    )
    .await;
    append(&*bus.journal, &[2], None).await;
    running
}

#[tokio::test]
async fn tasks_are_listed_by_their_states_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (on_disk, in_memory) = (
        TestBus::start_on_disk(folder.path()).await,
        TestBus::start(&[]).await,
    );
    let (running, other) = (each_state(&on_disk).await, each_state(&in_memory).await);
    let states = |table: &str| -> Vec<Vec<String>> {
        let lines = table.lines().skip(1);
        let words = lines.map(|line| line.split_whitespace().skip(1).take(5).map(str::to_owned));
        words.map(Iterator::collect).collect()
    };
    let all = typed(&on_disk, "list").await;
    let expected = [
        ["retrying", "thumbnails", "thumbnailer", "3", "1"],
        ["running", "audit", "archive", "5", "0"],
        ["scheduled", "audit", "archive", "6", "0"],
        ["pending", "audit", "archive", "7", "0"],
    ];
    assert_eq!(states(&all), expected);
    assert_eq!(states(&typed(&in_memory, "list").await), expected);
    for (which, found) in [
        ("--state scheduled", &expected[2..3]),
        ("--state running", &expected[1..2]),
        ("--rule thumbnails", &expected[..1]),
        ("--target archive --state pending", &expected[3..]),
        ("--subscription 1", &expected[..1]),
        ("--tenant other", &[]),
        ("--limit 2", &expected[..2]),
        ("--state scheduled,pending", &expected[2..]),
        ("--type photo", &expected[..1]),
        ("--type t --state pending", &expected[3..]),
        ("--source /s --event-id 1 --state running", &expected[1..2]),
        ("--source /s --event-id 2", &[]),
        ("--subject a.jpg", &expected[..1]),
        ("--since 2026-01-31T09:30:00Z", &expected),
        ("--until 2026-01-31T09:30:00Z", &[]),
        ("--order-key nobody", &[]),
    ] {
        assert_eq!(
            states(&typed(&on_disk, &format!("list {which}")).await),
            found,
            "{which}"
        );
    }
    let listed = typed(&on_disk, "list --json --state running").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["id"], running.id.to_string());
    let shown = typed(&on_disk, &format!("show {}", running.id)).await;
    assert!(shown.contains("state     running\n"), "{shown}");
    assert!(shown.contains("event     5: t from /s, id 1\n"), "{shown}");
    let behind = typed(&on_disk, &format!("list --after {}", running.id)).await;
    assert_eq!(states(&behind), &expected[2..]);

    let settlement = Settlement::new(other.token, Ending::Delivered);
    in_memory.journal.settle(vec![settlement]).await.unwrap();
    let ended = typed(&in_memory, &format!("show {}", other.id)).await;
    assert!(ended.contains("nothing is kept of it any more"), "{ended}");
    assert!(typed(&in_memory, "show x").await.contains("not the id"));
}

#[tokio::test]
async fn tasks_are_cancelled_by_id_and_by_selection_but_for_those_under_way() {
    let bus = TestBus::start(&[]).await;
    let running = each_state(&bus).await;
    assert!(typed(&bus, "cancel").await.contains("--all"));
    assert!(typed(&bus, "cancel --all x").await.contains("not the id"));
    for wrong in [
        format!("cancel {} --all", running.id),
        format!("cancel {} --rule audit", running.id),
        "cancel --all --rule audit".to_owned(),
    ] {
        assert!(
            typed(&bus, &wrong).await.contains("exclude each other"),
            "{wrong}"
        );
    }
    let dry = typed(&bus, "cancel --all --dry-run").await;
    assert_eq!(dry, "4 tasks would be cancelled\n");
    let dry = typed(
        &bus,
        "cancel --rule audit --state pending,scheduled --dry-run --json",
    )
    .await;
    assert_eq!(dry, "{\n  \"selected\": 2\n}\n");
    let dry = typed(&bus, &format!("suspend {} --dry-run", running.id)).await;
    assert_eq!(dry, "1 task would be suspended\n");
    let by_id = typed(&bus, &format!("cancel {}", running.id)).await;
    assert_eq!(by_id, "0 tasks cancelled\n");
    let scheduled = typed(&bus, "cancel --state scheduled").await;
    assert_eq!(scheduled, "1 task cancelled\n");
    assert_eq!(
        typed(&bus, "cancel --all --json").await,
        "{\n  \"selected\": 3,\n  \"cancelled\": 2,\n  \"stopping\": 0\n}\n"
    );
    let left = typed(&bus, "list").await;
    assert_eq!(left.lines().count(), 2, "{left}");
    assert!(left.contains("running"), "{left}");
    let statuses = bus.journal.reader().subscriptions().await.unwrap();
    let cancelled: Vec<_> = statuses.iter().map(|one| one.counts.cancelled).collect();
    assert_eq!(cancelled, [1, 2]);
}

#[tokio::test]
async fn page_by_page_nothing_is_missed_and_nothing_shown_twice_while_others_end() {
    let bus = TestBus::start(&[]).await;
    let journal = &*bus.journal;
    for _ in 0..40 {
        append(journal, &[1, 2], None).await;
    }
    let (reader, all, stopping) = (journal.reader(), TaskSelection::default(), HashSet::new());
    let onlooker = Onlooker {
        reader: &*reader,
        stopping: &stopping,
        now: NOON,
    };
    let whole = task_page(&onlooker, &all, false, None, 1_000)
        .await
        .unwrap();
    assert_eq!((whole.items.len(), whole.next), (81, None));
    let (mut seen, mut after) = (Vec::new(), None);
    let mut ended = Vec::new();
    loop {
        let page = task_page(&onlooker, &all, false, after, 7).await.unwrap();
        assert!(page.items.len() <= 7);
        seen.extend(page.items.into_iter().map(|task| task.id));
        match page.next {
            Some(next) => after = Some(next.parse().unwrap()),
            None => break,
        }
        // What is shown and what is not yet ends, new ones come.
        for number in [1, 2] {
            let leased = lease(journal, number).await;
            ended.push(leased.id.to_string());
            let settlement = Settlement::new(leased.token, Ending::Delivered);
            journal.settle(vec![settlement]).await.unwrap();
        }
        append(journal, &[1], None).await;
    }
    let mut once = seen.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "a task was shown twice");
    for task in whole.items {
        assert!(
            seen.contains(&task.id) || ended.contains(&task.id),
            "{} was missed",
            task.id
        );
    }
}

#[tokio::test]
async fn tasks_are_suspended_resumed_and_tried_now() {
    let folder = tempfile::tempdir().unwrap();
    let (on_disk, in_memory) = (
        TestBus::start_on_disk(folder.path()).await,
        TestBus::start(&[]).await,
    );
    steered(&on_disk).await;
    steered(&in_memory).await;
}

async fn steered(bus: &TestBus<impl Journal + 'static>) {
    let running = each_state(bus).await;
    let states = async || -> Vec<String> {
        let listed = typed(bus, "list --json").await;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let tasks = listed.as_array().unwrap().iter();
        tasks
            .map(|task| task["state"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        states().await,
        ["retrying", "running", "scheduled", "pending"]
    );
    assert_eq!(typed(bus, "suspend --all").await, "3 tasks suspended\n");
    assert_eq!(
        states().await,
        ["suspended", "running", "suspended", "suspended"]
    );
    assert_eq!(typed(bus, "suspend --all").await, "0 tasks suspended\n");
    assert_eq!(
        typed(bus, "resume --rule audit --json").await,
        "{\n  \"selected\": 3,\n  \"resumed\": 2\n}\n"
    );
    assert_eq!(
        states().await,
        ["suspended", "running", "scheduled", "pending"]
    );
    assert_eq!(
        typed(bus, "retry --state scheduled").await,
        "1 task retried\n"
    );
    assert_eq!(
        states().await,
        ["suspended", "running", "pending", "pending"]
    );
    assert_eq!(
        typed(bus, &format!("retry {}", running.id)).await,
        "0 tasks retried\n"
    );
    assert_eq!(
        typed(bus, "cancel --state suspended").await,
        "1 task cancelled\n"
    );
    assert_eq!(states().await, ["running", "pending", "pending"]);
    assert_eq!(
        typed(bus, "skip --state pending").await,
        "2 tasks skipped\n"
    );
    assert_eq!(typed(bus, "skip --all").await, "0 tasks skipped\n");
    assert_eq!(states().await, ["running"]);
    let selection = DeadSelection {
        reason: Some(DeadReason::Skipped),
        ..DeadSelection::default()
    };
    let letters = bus
        .journal
        .reader()
        .dead(&selection, None, 9)
        .await
        .unwrap();
    assert_eq!(letters.len(), 2);
}

/// Stores so many events for a subscription, with an order key.
async fn append_many(journal: &dyn Journal, number: u32, count: usize, key: &str) {
    let event = Arc::new(Event::builder("1", "/s", "t").build().unwrap());
    let entry = |_| Entry {
        event: Arc::clone(&event),
        deliveries: smallvec::smallvec![NewDelivery {
            order_key: Some(crate::router::order_key(key)),
            ..NewDelivery::now(SubscriptionNumber(number))
        }],
        deduplicate: None,
        dead: None,
        terms: None,
    };
    let append = Append {
        tenant: name("default"),
        origin: name("uploads"),
        entries: (0..count).map(entry).collect(),
        rejects: Vec::new(),
        cursor: None,
        positions: Vec::new(),
    };
    journal.append(append).await.unwrap();
}

#[tokio::test]
async fn a_selection_of_thousands_is_gone_through_in_one_request_and_goes_on_where_it_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let bus = TestBus::start_on_disk(folder.path()).await;
    append_many(&*bus.journal, 2, 1_500, "alice").await;
    append_many(&*bus.journal, 2, 1_200, "bob").await;
    for (key, count) in [("alice", 1_500), ("bob", 1_200), ("nobody", 0)] {
        let dry = typed(&bus, &format!("cancel --order-key {key} --dry-run")).await;
        assert_eq!(dry, format!("{count} tasks would be cancelled\n"));
    }
    let suspended = typed(&bus, "suspend --order-key bob").await;
    assert_eq!(suspended, "1200 tasks suspended\n");
    // Behind a task only those that come later are meant.
    let reader = bus.journal.reader();
    let pending = reader
        .pending(SubscriptionNumber(2), None, 100)
        .await
        .unwrap();
    let body = json!({ "state": "pending", "after": pending[99].id }).to_string();
    let (status, answer) = bus.post("/api/v1/tasks/cancel", &body).await;
    assert_eq!(
        (status, &answer["selected"], &answer["cancelled"]),
        (200, &json!(1_400), &json!(1_400))
    );
    assert_eq!(answer.get("next"), None);
    let (_, again) = bus.post("/api/v1/tasks/cancel", &body).await;
    assert_eq!(again["selected"], 0, "what was done is not done again");
    assert_eq!(
        typed(&bus, "cancel --rule audit").await,
        "1300 tasks cancelled\n"
    );
    let statuses = reader.subscriptions().await.unwrap();
    assert_eq!(
        (statuses[1].counts.cancelled, statuses[1].counts.pending),
        (2_700, 0)
    );
}

#[tokio::test]
async fn what_has_ended_is_listed_by_how_and_when() {
    let bus = TestBus::start(&[]).await;
    for number in 0..5 {
        append(&*bus.journal, &[1, 2], None).await;
        let leased = lease(&*bus.journal, 2).await;
        let settlement = Settlement {
            record: Record::End,
            ..Settlement::new(leased.token, Ending::Delivered)
        };
        bus.journal.settle(vec![settlement]).await.unwrap();
        if number == 4 {
            let cancelled = typed(&bus, "cancel --rule thumbnails --type t").await;
            assert_eq!(cancelled, "5 tasks cancelled\n");
        }
    }
    let count = async |which: &str| {
        let table = typed(&bus, &format!("list {which}")).await;
        assert!(table.starts_with("ID "), "{which}: {table}");
        table.lines().count() - 1
    };
    for (which, expect) in [
        ("--state succeeded", 5),
        ("--state stopped", 5),
        ("--state stopped,succeeded", 10),
        ("--state succeeded --rule audit", 5),
        ("--state succeeded --rule thumbnails", 0),
        ("--state stopped --subscription 1", 5),
        ("--state succeeded --type t", 5),
        ("--state succeeded --type photo", 0),
        ("--state stopped --since 2026-01-31T09:30:00Z", 5),
        ("--state stopped --until 2026-01-31T09:30:00Z", 0),
        ("--state succeeded --tenant other", 0),
        ("--state succeeded --limit 2", 2),
        ("--state expired", 0),
    ] {
        assert_eq!(count(which).await, expect, "{which}");
    }
    // A page at a time, each once.
    let (mut seen, mut path) = (Vec::new(), "/api/v1/tasks?state=stopped&limit=2".to_owned());
    loop {
        let (status, page) = bus.get(&path).await;
        assert_eq!(status, 200, "{page}");
        let ids = page["items"].as_array().unwrap().iter();
        seen.extend(ids.map(|task| task["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/tasks?state=stopped&limit=2&after={next}");
    }
    let listed = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), listed), (5, 5));
    let shown = typed(&bus, &format!("show {}", seen[0])).await;
    assert!(shown.contains("state     stopped\n"), "{shown}");
    for (wrong, expect) in [
        ("--state stopped,pending", "ask for each by itself"),
        ("--state stopped --order-key a", "is not kept"),
        (
            "--state stopped --after 00000000000000aa-1-1-0",
            "the next of another list",
        ),
        ("--after 1f-0", "the next of another list"),
        ("--after x", "not the id"),
    ] {
        let told = typed(&bus, &format!("list {wrong}")).await;
        assert!(told.contains(expect), "{wrong}: {told}");
    }
    let (_, by_id) = bus
        .get(&format!("/api/v1/tasks?ids={},{}", seen[0], seen[1]))
        .await;
    assert_eq!(by_id["items"].as_array().unwrap().len(), 2);
}
