//! From the journal of systemd through the bus to a function.

use pointsman_integration_tests::{Bus, Sink, until};
use pointsman_test_brokers::JournalWriter;

/// Entries that are written before each kill.
const ENTRIES: usize = 1_000;

const KILLS: usize = 3;

/// A source of a journal, whose entries call the function by their own ids.
fn rules(journal: &JournalWriter, sink: &Sink) -> String {
    format!(
        "sources:
  machine:
    journald: {{ directory: \"{}\" }}
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: machine, to: function }}
",
        journal.folder().display(),
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_the_journal_and_the_function_while_the_bus_is_killed() {
    let mut journal = JournalWriter::start();
    journal.write("first", "PRIORITY=6");
    let sink = Sink::counting().await;
    let mut bus = Bus::start(&rules(&journal, &sink)).await;
    for round in 0..KILLS {
        for number in 0..ENTRIES {
            journal.write(&format!("message {number}"), "SYSLOG_IDENTIFIER=app");
        }
        // In the middle of them, where more of them are there than have been stored.
        let some = round * ENTRIES + ENTRIES / 10;
        until("some have arrived", async || sink.ids().len() > some).await;
        bus.kill();
        bus.spawn();
        bus.ready().await;
    }
    let all = KILLS * ENTRIES + 1;
    until("all have arrived", async || sink.ids().len() == all).await;
    // What was read twice was known by its id.
    assert_eq!(bus.counts("all").await["created"], all);
    assert_eq!(bus.counts("all").await["dead"], 0);
    assert!(bus.terminate().await.success());
}
