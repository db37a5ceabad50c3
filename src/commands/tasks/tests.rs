use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pointsman_journal::{
    Append, DeadReason, DeadSelection, Ending, Entry, Grant, Guards, Identity, Journal, Key,
    Leased, NewDelivery, Record, Settlement, Terms,
};
use pointsman_schemas::{Event, SubscriptionNumber, Timestamp};
use smallvec::SmallVec;

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
    append_with(journal, numbers, due, None).await;
}

/// Stores an event that a sender has sent with an id of his own.
async fn append_named(journal: &dyn Journal, numbers: &[u32], sender: &str, id: &str) {
    let key = Key {
        identity: Identity::of_task(&name("default"), &name("uploads"), sender, id),
        window: Duration::from_secs(60),
        guards: Guards::Task,
    };
    let terms = Terms {
        keys: vec![key],
        ..Terms::default()
    };
    append_with(journal, numbers, None, Some(Box::new(terms))).await;
}

async fn append_with(
    journal: &dyn Journal,
    numbers: &[u32],
    due: Option<Timestamp>,
    terms: Option<Box<Terms>>,
) {
    let delivery = |number: &u32| NewDelivery {
        due,
        ..NewDelivery::now(SubscriptionNumber(*number))
    };
    append_deliveries(journal, numbers.iter().map(delivery).collect(), terms).await;
}

async fn append_deliveries(
    journal: &dyn Journal,
    deliveries: SmallVec<[NewDelivery; 2]>,
    terms: Option<Box<Terms>>,
) {
    let event = Event::builder("1", "/s", "t").build().unwrap();
    let entry = Entry {
        event: Arc::new(event),
        deliveries,
        deduplicate: None,
        dead: None,
        terms,
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
async fn tasks_are_found_by_the_ids_that_senders_gave() {
    let folder = tempfile::tempdir().unwrap();
    let bus = TestBus::start_on_disk(folder.path()).await;
    append_named(&*bus.journal, &[1, 2], "x", "order-17").await;
    append_named(&*bus.journal, &[2], "y", "order-17").await;
    append_named(&*bus.journal, &[2], "x", "order-18").await;
    let list = async |query: &str| -> Vec<(String, u64)> {
        let (status, page) = bus.get(&format!("/api/v1/tasks?{query}")).await;
        assert_eq!(status, 200, "{query}: {page}");
        let items = page["items"].as_array().unwrap().iter();
        let of = |task: &Value| {
            (
                task["rule"].as_str().unwrap().to_owned(),
                task["sequence"].as_u64().unwrap(),
            )
        };
        items.map(of).collect()
    };
    let of = |rule: &str, sequence| (rule.to_owned(), sequence);
    let all = [of("thumbnails", 5), of("audit", 5), of("audit", 6)];
    assert_eq!(list("task_id=order-17").await, all);
    assert_eq!(list("task_id=order-17&tenant=default").await, all);
    assert_eq!(list("task_id=order-18").await, [of("audit", 7)]);
    assert_eq!(list("task_id=order-17&tenant=other").await, []);
    assert_eq!(list("task_id=order-1").await, []);
    // Page by page, also where what a page ended with has ended.
    let (mut paged, mut query) = (Vec::new(), "task_id=order-17&limit=1".to_owned());
    loop {
        paged.extend(list(&query).await);
        let (_, page) = bus.get(&format!("/api/v1/tasks?{query}")).await;
        let Some(next) = page["next"].as_str() else {
            break;
        };
        query = format!("task_id=order-17&limit=1&after={next}");
    }
    assert_eq!(paged, all);
    for (query, why) in [
        ("task_id=order-17&rule=audit", "no condition but tenant"),
        ("task_id=order-17&state=failed", "no condition but tenant"),
        ("task_id=order-17&after=1-1", "another list"),
        (
            "task_id=order-17&ids=00000000000000aa-1-1-0",
            "exclude each other",
        ),
    ] {
        let (status, problem) = bus.get(&format!("/api/v1/tasks?{query}")).await;
        assert_eq!(status, 400, "{query}: {problem}");
        assert!(problem.to_string().contains(why), "{query}: {problem}");
    }
    let listed = typed(&bus, "list --task-id order-17").await;
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let shown = typed(&bus, "show --task-id order-18").await;
    assert!(shown.contains("event     7: t from /s, id 1\n"), "{shown}");
    let shown = typed(&bus, "show --task-id order-17 --tenant default --json").await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown.as_array().map(Vec::len), Some(3), "{shown}");
    let none = typed(&bus, "show --task-id nobody").await;
    assert!(
        none.contains("no task is known by the id \"nobody\""),
        "{none}"
    );
    let id = &shown[0]["id"].as_str().unwrap();
    let both = typed(&bus, &format!("show {id} --task-id order-17")).await;
    assert!(both.contains("cannot be used with"), "{both}");
    assert!(typed(&bus, "show").await.contains("required"));
    // What has ended is found as well.
    let leased = lease(&*bus.journal, 1).await;
    let settlement = Settlement {
        record: Record::End,
        ..Settlement::new(leased.token, Ending::Delivered)
    };
    bus.journal.settle(vec![settlement]).await.unwrap();
    let listed = typed(&bus, "list --task-id order-17").await;
    assert!(listed.contains("succeeded"), "{listed}");
}

#[tokio::test]
async fn order_keys_that_do_not_go_on_are_listed_with_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (on_disk, in_memory) = (
        TestBus::start_on_disk(folder.path()).await,
        TestBus::start(&[]).await,
    );
    blocked(&on_disk).await;
    blocked(&in_memory).await;
}

/// Appends deliveries of three order keys, and has the first of two of them tried.
async fn two_keys_blocked(bus: &TestBus<impl Journal + 'static>) -> [Leased; 2] {
    for order_key in [7, 7, u64::MAX, 8, 7, u64::MAX] {
        let delivery = NewDelivery {
            order_key: Some(order_key),
            ..NewDelivery::now(SubscriptionNumber(2))
        };
        append_deliveries(&*bus.journal, [delivery].into_iter().collect(), None).await;
    }
    let retry = Ending::Retry {
        at: NOON.plus(Duration::from_secs(9)),
        failure: true,
        batch_max: None,
        last: pointsman_journal::LastOutcome {
            at: NOON,
            class: pointsman_schemas::Class::Failed,
            code: Some(500),
            message: "500 Internal Server Error".into(),
            response: String::new(),
        },
    };
    let heads = [lease(&*bus.journal, 2).await, lease(&*bus.journal, 2).await];
    for head in &heads {
        let settlement = Settlement::new(head.token, retry.clone());
        bus.journal.settle(vec![settlement]).await.unwrap();
    }
    heads
}

async fn blocked(bus: &TestBus<impl Journal + 'static>) {
    let none = typed(bus, "blocked --json").await;
    assert_eq!(none, "[]\n", "what has no key blocks nothing");
    let heads = two_keys_blocked(bus).await;
    let listed = async |line: &str| -> Vec<(String, u64, u64)> {
        let text = typed(bus, &format!("blocked --json {line}")).await;
        let keys: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        let of = |key: &Value| {
            (
                key["id"].as_str().unwrap().to_owned(),
                key["attempts"].as_u64().unwrap(),
                key["behind"].as_u64().unwrap(),
            )
        };
        keys.as_array().unwrap().iter().map(of).collect()
    };
    let [seven, max] = heads.each_ref().map(|head| head.id.to_string());
    let all = [(max.clone(), 1, 1), (seven.clone(), 1, 2)];
    for (line, found) in [
        ("", &all[..]),
        ("--rule audit --target archive --subscription 2", &all[..]),
        ("--tenant default", &all[..]),
        ("--limit 1", &all[..1]),
        ("--after 2-ffffffffffffffff", &all[1..]),
        ("--after 2-0000000000000007", &[]),
        ("--after 1-7fffffffffffffff", &all[..]),
        ("--rule thumbnails", &[]),
        ("--subscription 1", &[]),
    ] {
        assert_eq!(listed(line).await, found, "{line}");
    }
    let (_, page) = bus.get("/api/v1/tasks/blocked?limit=1").await;
    assert_eq!(page["next"], "2-ffffffffffffffff", "{page}");
    for bad in [
        "after=x",
        "after=2-7",
        "after=02-0000000000000007",
        "limit=0",
        "state=failed",
    ] {
        let (status, problem) = bus.get(&format!("/api/v1/tasks/blocked?{bad}")).await;
        assert_eq!(status, 400, "{bad}: {problem}");
    }
    let table = typed(bus, "blocked").await;
    let row = table.lines().nth(2).unwrap();
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(
        words[..4],
        [&*seven, "retrying", "audit", "archive"],
        "{table}"
    );
    assert_eq!(words[5..7], ["1", "2"], "{table}");
    assert!(row.ends_with("500 Internal Server Error"), "{table}");
    // What is told of can be skipped, and one that is held back blocks as well.
    let skipped = typed(bus, &format!("skip {max}")).await;
    assert_eq!(skipped, "1 task skipped\n");
    typed(bus, &format!("suspend {seven}")).await;
    let (_, page) = bus.get("/api/v1/tasks/blocked").await;
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{page}");
    assert_eq!(
        (&items[0]["state"], &items[0]["id"]),
        (&json!("suspended"), &json!(seven))
    );
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
    let (reader, all, stopping) = (
        journal.reader(),
        SubscriptionSelection::default(),
        HashSet::new(),
    );
    let any = TaskSelection::default();
    let onlooker = Onlooker {
        reader: &*reader,
        stopping: &stopping,
        now: NOON,
    };
    let kinds = any.kinds().unwrap();
    let whole = task_page(&onlooker, &all, &any, kinds, None, 1_000)
        .await
        .unwrap();
    assert_eq!((whole.items.len(), whole.next), (81, None));
    let (mut seen, mut after) = (Vec::new(), None);
    let mut ended = Vec::new();
    loop {
        let page = task_page(&onlooker, &all, &any, kinds, after, 7)
            .await
            .unwrap();
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
async fn what_waits_and_what_has_ended_is_one_list() {
    let bus = TestBus::start(&[]).await;
    for _ in 0..3 {
        append(&*bus.journal, &[1, 2], None).await;
    }
    let cancelled = typed(&bus, "cancel --rule thumbnails --type t").await;
    assert_eq!(cancelled, "3 tasks cancelled\n");
    for limit in [1, 2, 3, 4, 9] {
        let list = format!("/api/v1/tasks?type=t&state=stopped,pending&limit={limit}");
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let (status, page) = bus.get(&format!("{list}{after}")).await;
            assert_eq!(status, 200, "{page}");
            for task in page["items"].as_array().unwrap() {
                seen.push((task["state"].clone(), task["id"].clone()));
            }
            let Some(next) = page["next"].as_str() else {
                break;
            };
            after = format!("&after={next}");
        }
        let states: Vec<_> = seen
            .iter()
            .map(|(state, _)| state.as_str().unwrap())
            .collect();
        let expected = [
            "pending", "pending", "pending", "stopped", "stopped", "stopped",
        ];
        assert_eq!(states, expected, "{limit} at a time");
        seen.sort_by_key(|(_, id)| id.to_string());
        seen.dedup();
        assert_eq!(seen.len(), 6, "each once");
    }
    let table = typed(&bus, "list --type t --state stopped,pending --limit 4").await;
    assert!(
        table.contains("DUE/ENDED") && table.lines().count() == 5,
        "{table}"
    );
    // Nothing that has ended is steered.
    let refused = typed(&bus, "cancel --state stopped,pending").await;
    assert!(
        refused.contains("what has ended stays as it is"),
        "{refused}"
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
