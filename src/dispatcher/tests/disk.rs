//! Over the journal on disk, in real time.

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Clock, Event, Name, SystemClock};
use tokio_util::sync::CancellationToken;

use super::bench::*;
use crate::dispatcher::testing::{identity, no_replies};
use crate::dispatcher::{Dispatcher, Options};
use crate::pipes::Pipes;
use pointsman_journal::disk::{DiskJournal, DiskOptions};
use pointsman_journal::*;

/// A backlog that the journal does not hold in memory goes out whole: whoever came short is told
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_on_disk_goes_out_whole() {
    const EVENTS: u64 = 12_000;
    let directory = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let journal =
        DiskJournal::open(directory.path(), DiskOptions::default(), Arc::clone(&clock)).unwrap();
    let wanted = Subscription {
        identity: identity("r"),
        renamed_from: None,
        backlog: None,
        start: None,
    };
    let number = journal.subscribe(vec![wanted]).await.unwrap()[0];
    for batch in 0..EVENTS / 1_000 {
        let entry = |id: u64| Entry {
            event: Arc::new(
                Event::builder((batch * 1_000 + id).to_string(), "/s", "t")
                    .build()
                    .unwrap(),
            ),
            deliveries: [NewDelivery::now(number)].into_iter().collect(),
            deduplicate: None,
            dead: None,
            terms: None,
        };
        let (tenant, origin, entries) = (
            Name::default_tenant(),
            Name::ingress(),
            (0..1_000).map(entry).collect(),
        );
        journal
            .append(Append {
                tenant,
                origin,
                entries,
                rejects: Vec::new(),
                cursor: None,
                positions: Vec::new(),
            })
            .await
            .unwrap();
    }
    let mock = Mock::taking(Duration::ZERO);
    let (dispatcher, _handle) = Dispatcher::new(
        Arc::clone(&journal) as Arc<dyn Journal>,
        Pipes::new(Arc::clone(&journal) as Arc<dyn Journal>, journal.clock()),
        clock,
        no_replies(),
        one(&mock, number),
        Options {
            seed: 1,
            ..Options::default()
        },
    );
    let stop = CancellationToken::new();
    let task = tokio::spawn(dispatcher.run(stop.clone(), SECOND));
    let delivered = async {
        while journal.reader().subscriptions().await.unwrap()[0]
            .counts
            .delivered
            < EVENTS
        {
            tokio::time::sleep(MS * 20).await;
        }
    };
    tokio::time::timeout(SECOND * 120, delivered)
        .await
        .expect("the backlog stopped going out");
    stop.cancel();
    let summary = task.await.unwrap();
    assert_eq!(
        (summary.settled, summary.unsettled, mock.count() as u64),
        (EVENTS, 0, EVENTS)
    );
    journal.close().await;
}
