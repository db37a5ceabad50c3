//! Everything at once, in real time: nothing is lost, nothing is leased twice, and whoever follows
//! `due` gets it all.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use pointsman_schemas::{SystemClock, Timestamp};

use super::*;
use crate::suite::{append_of, entry, last};
use crate::{Ending, Entry, NewDelivery, SettleAnswer};

const EVENTS: usize = 6_000;
const SOURCES: usize = 4;

#[test]
fn sources_a_dispatcher_and_upkeep_at_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let directory = TempDir::new().unwrap();
        let options = DiskOptions {
            retention: Duration::ZERO,
            ..DiskOptions::default()
        };
        let journal = DiskJournal::open(directory.path(), options, Arc::new(SystemClock)).unwrap();
        let wanted = ["plain", "keyed"].map(super::fixture::wanted).to_vec();
        let numbers = journal.subscribe(wanted).await.unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let tidier = tokio::spawn({
            let (journal, done) = (Arc::clone(&journal), Arc::clone(&done));
            async move {
                while !done.load(Ordering::SeqCst) {
                    journal.upkeep().await;
                }
            }
        });
        let sources = (0..SOURCES).map(|source| {
            let (journal, numbers) = (Arc::clone(&journal), numbers.clone());
            tokio::spawn(async move {
                for batch in 0..EVENTS / SOURCES / 20 {
                    let one = |index: usize| {
                        let id = format!("{source}-{}", batch * 20 + index);
                        let keyed = NewDelivery {
                            order_key: Some((index % 7) as u64),
                            ..NewDelivery::now(numbers[1])
                        };
                        Entry {
                            deliveries: [NewDelivery::now(numbers[0]), keyed].into_iter().collect(),
                            ..entry(&id, &[])
                        }
                    };
                    journal
                        .append(append_of((0..20).map(one).collect()))
                        .await
                        .unwrap();
                }
            })
        });
        let sources: Vec<_> = sources.collect();
        let (mut delivered, mut tried) = (HashMap::new(), 0_usize);
        while delivered.len() < EVENTS * 2 {
            let due = tokio::time::timeout(MINUTE, journal.due())
                .await
                .expect("something is due while something is pending");
            loop {
                let grants: Vec<_> = due
                    .iter()
                    .map(|subscription| Grant {
                        subscription: *subscription,
                        count: 100,
                        lease: MINUTE,
                        bytes_max: usize::MAX,
                        batching: None,
                    })
                    .collect();
                let leased = journal.lease(&grants, usize::MAX).await.unwrap().leased;
                if leased.is_empty() {
                    break;
                }
                let mut settlements = Vec::new();
                for leased in leased {
                    tried += 1;
                    let ending = match tried % 23 {
                        0 => Ending::Retry {
                            at: Timestamp::now().plus(Duration::from_millis(20)),
                            failure: true,
                            batch_max: None,
                            last: last(Timestamp::now()),
                        },
                        1 => Ending::Released,
                        _ => {
                            assert_eq!(
                                delivered.insert(leased.id, leased.event.id().to_owned()),
                                None,
                                "delivered twice"
                            );
                            Ending::Delivered
                        }
                    };
                    settlements.push(Settlement::new(leased.token, ending));
                }
                assert!(
                    journal
                        .settle(settlements)
                        .await
                        .unwrap()
                        .into_iter()
                        .all(|answer| answer == SettleAnswer::Settled)
                );
            }
        }
        for source in sources {
            source.await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
        tidier.await.unwrap();
        for status in journal.reader().subscriptions().await.unwrap() {
            assert_eq!(
                (
                    status.counts.delivered,
                    status.counts.pending,
                    status.counts.quarantined
                ),
                (EVENTS as u64, 0, 0)
            );
        }
        journal.upkeep().await;
        assert_eq!(
            journal.reader().totals().await.unwrap().events,
            0,
            "retention is over for all of them"
        );
        journal.close().await;
    });
}
