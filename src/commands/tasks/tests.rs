use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pointsman_journal::{Append, Ending, Entry, Grant, Journal, Leased, NewDelivery, Settlement};
use pointsman_schemas::{Event, SubscriptionNumber, Timestamp};

use super::*;
use crate::admin::testing::{NOON, TestBus, name};
use crate::admin::view::task_page;

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
    let behind = typed(&on_disk, &format!("list --after {}", running.id)).await;
    assert_eq!(states(&behind), &expected[2..]);

    let settlement = Settlement::new(other.token, Ending::Delivered);
    in_memory.journal.settle(vec![settlement]).await.unwrap();
    let ended = typed(&in_memory, &format!("show {}", other.id)).await;
    assert!(ended.contains("that has not ended"), "{ended}");
    assert!(typed(&in_memory, "show x").await.contains("not the id"));
}

#[tokio::test]
async fn tasks_are_cancelled_by_id_and_by_selection_but_for_those_under_way() {
    let bus = TestBus::start(&[]).await;
    let running = each_state(&bus).await;
    assert!(typed(&bus, "cancel").await.contains("--all"));
    assert!(typed(&bus, "cancel --all x").await.contains("not the id"));
    let dry = typed(&bus, "cancel --all --dry-run").await;
    assert_eq!(dry, "3 tasks would be cancelled\n");
    let by_id = typed(&bus, &format!("cancel {}", running.id)).await;
    assert_eq!(by_id, "0 tasks cancelled\n");
    let scheduled = typed(&bus, "cancel --state scheduled").await;
    assert_eq!(scheduled, "1 task cancelled\n");
    assert_eq!(
        typed(&bus, "cancel --all --json").await,
        "{\n  \"cancelled\": 2\n}\n"
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
    let (reader, all) = (journal.reader(), TaskSelection::default());
    let whole = task_page(&*reader, &all, None, 1_000, NOON).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (81, None));
    let (mut seen, mut after) = (Vec::new(), None);
    let mut ended = Vec::new();
    loop {
        let page = task_page(&*reader, &all, after, 7, NOON).await.unwrap();
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
