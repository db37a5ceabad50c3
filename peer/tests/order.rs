//! Appends go in their order, one call at a time, and happen whoever waits.

use std::time::Duration;

use futures::future::join_all;
use futures::poll;
use parking_lot::Mutex;
use pointsman_journal::disk::{DiskJournal, DiskOptions};
use pointsman_journal::suite::{MINUTE, sized_event, stored};
use pointsman_journal::{Appended, Entry, EventsFrom, MadeDelivery, Terms, Watch};
use pointsman_schemas::{Sequence, SystemClock};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::consume_budget;
use tokio::time::timeout;

use super::*;
use crate::append::{Sent, store};
use crate::call::Call;
use crate::message::read;

/// Serves a call whenever it is let to.
#[derive(Debug)]
struct Gate {
    owner: Arc<dyn Shard>,
    open: Semaphore,
    /// The ids of the events in each call that was begun.
    calls: Mutex<Vec<Vec<String>>>,
    at_once: Semaphore,
}

impl Gate {
    fn new() -> Arc<Self> {
        Self::of(in_memory(0))
    }

    fn of(owner: Arc<dyn Shard>) -> Arc<Self> {
        Arc::new(Self {
            owner,
            open: Semaphore::new(0),
            calls: Mutex::default(),
            at_once: Semaphore::new(1),
        })
    }

    fn lengths(&self) -> Vec<usize> {
        self.calls.lock().iter().map(Vec::len).collect()
    }

    /// The ids of what is stored, in the order in which it was.
    async fn stored(&self) -> Vec<String> {
        let reader = self.owner.reader();
        let from = EventsFrom::After(Sequence(0));
        let page = reader.events(from, usize::MAX, usize::MAX).await.unwrap();
        let ids = page
            .events
            .iter()
            .map(|stored| stored.event.id().to_owned());
        ids.collect()
    }
}

#[async_trait]
impl Transport for Gate {
    async fn call(&self, _: ShardNumber, call: Bytes) -> Result<Bytes, CallError> {
        let _only_one = self.at_once.try_acquire().expect("one call at a time");
        if let Ok(Call::Append(sent)) = read(&call) {
            let ids = |sent: &Sent| -> Vec<String> {
                let entries = sent.append.entries.iter();
                entries.map(|entry| entry.event.id().to_owned()).collect()
            };
            self.calls.lock().push(sent.iter().flat_map(ids).collect());
        }
        self.open.acquire().await.unwrap().forget();
        Ok(serve(&*self.owner, call).await)
    }
}

async fn appends_go_in_their_order(gate: &Arc<Gate>) {
    let remote = Remote::new(number(0), Arc::clone(gate) as _);
    let ids: Vec<_> = (0..600).map(|id| id.to_string()).collect();
    let each = ids.iter().map(|id| events([id.as_str()]));
    let appended = join_all(each.map(|append| remote.append(append)));
    let opened = async {
        settle_down().await;
        assert_eq!(gate.lengths().len(), 1, "one call is out");
        gate.open.add_permits(100);
    };
    let (appended, ()) = futures::join!(appended, opened);
    let sequences = appended
        .into_iter()
        .map(|appended| stored(appended.unwrap()[0]).0);
    assert_eq!(sequences.collect::<Vec<_>>(), (1..=600).collect::<Vec<_>>());
    assert_eq!(gate.stored().await, ids);
    let lengths = gate.lengths();
    assert_eq!(lengths, [256, 256, 88]);
}

#[test]
fn appends_go_in_their_order_and_together() {
    paused(async { appends_go_in_their_order(&Gate::new()).await });
}

/// The store's own thread takes what is handed to it in that order.
#[tokio::test]
async fn appends_go_in_their_order_to_a_store_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (options, clock) = (DiskOptions::default(), Arc::new(SystemClock));
    let store = DiskJournal::open_shard(directory.path(), options, clock, number(0)).unwrap();
    let gate = Gate::of(store);
    appends_go_in_their_order(&gate).await;
    gate.owner.close().await;
}

#[test]
fn a_call_carries_no_more_than_a_mebibyte_but_one_append() {
    paused(async {
        let gate = Gate::new();
        let remote = Remote::new(number(0), Arc::clone(&gate) as _);
        let sized = |id: &str, kibibytes: usize| {
            let one = Entry {
                event: sized_event(id, kibibytes * 1024),
                ..entry(id, &[])
            };
            append_of(vec![one])
        };
        let many: Vec<_> = (0..300).map(|id| format!("many-{id}")).collect();
        let appends = vec![
            sized("first", 1),
            sized("half", 500),
            sized("more", 500),
            sized("too much", 100),
            sized("large", 3000),
            sized("small", 1),
            events(many.iter().map(String::as_str)),
            events(["last"]),
        ];
        let appended = join_all(appends.into_iter().map(|append| remote.append(append)));
        let opened = async {
            settle_down().await;
            gate.open.add_permits(100);
        };
        let (appended, ()) = futures::join!(appended, opened);
        assert!(appended.iter().all(Result::is_ok));
        let calls = gate.calls.lock().clone();
        assert_eq!(calls[0], ["first", "half", "more"]);
        assert_eq!(calls[1], ["too much"]);
        assert_eq!(calls[2], ["large"]);
        assert_eq!(calls[3], ["small"]);
        assert_eq!(
            (calls[4].len(), &calls[5][..]),
            (300, &["last".to_owned()][..])
        );
    });
}

#[test]
fn what_was_handed_over_happens_though_nobody_waits() {
    paused(async {
        let gate = Gate::new();
        let remote = Remote::new(number(0), Arc::clone(&gate) as _);
        for ids in [["1"], ["2"], ["3"]] {
            let mut append = Box::pin(remote.append(events(ids)));
            assert!(poll!(&mut append).is_pending());
        }
        gate.open.add_permits(9);
        // A command goes its own way: the appends are waited for by another one.
        remote.append(events(["4"])).await.unwrap();
        assert_eq!(gate.stored().await, ["1", "2", "3", "4"]);
    });
}

#[test]
fn nothing_is_sent_once_the_remote_is_gone() {
    paused(async {
        let gate = Gate::new();
        let remote = Remote::new(number(0), Arc::clone(&gate) as _);
        for ids in [["1"], ["2"]] {
            let mut append = Box::pin(remote.append(events(ids)));
            assert!(poll!(&mut append).is_pending());
            settle_down().await;
        }
        assert_eq!(gate.lengths(), [1]);
        drop(remote);
        settle_down().await;
        assert_eq!(Arc::strong_count(&gate), 1, "no task has it any more");
        gate.open.add_permits(9);
        settle_down().await;
        assert!(gate.stored().await.is_empty());
    });
}

#[test]
fn one_that_is_refused_stands_in_no_others_way() {
    paused(async {
        let owner = in_memory(0);
        let remote = Remote::new(number(0), Arc::new(Node(Some(owner))));
        let unknown = append_of(vec![entry("2", &[SubscriptionNumber(99)])]);
        let (first, second, third) = futures::join!(
            remote.append(events(["1"])),
            remote.append(unknown),
            remote.append(events(["3"])),
        );
        assert!(first.is_ok() && third.is_ok());
        assert!(
            matches!(second, Err(JournalError::NotFound(_))),
            "{second:?}"
        );
    });
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<(Sequence, Vec<MadeDelivery>)>>);

impl Watch for Told {
    fn made(&self, sequence: Sequence, made: Vec<MadeDelivery>) {
        self.0.lock().push((sequence, made));
    }
}

#[test]
fn who_watches_is_told_though_nobody_waits() {
    paused(async {
        let owner = in_memory(0);
        let remote = Remote::new(number(0), Arc::new(Node(Some(owner))));
        let numbers = remote.subscribe(vec![wanted("r")]).await.unwrap();
        let told = Arc::new(Told::default());
        let watched = Entry {
            terms: Some(Box::new(Terms {
                watch: Some(Arc::clone(&told) as _),
                ..Terms::default()
            })),
            ..entry("2", &numbers)
        };
        let append = append_of(vec![entry("1", &numbers), watched, entry("3", &[])]);
        let mut appending = Box::pin(remote.append(append));
        assert!(poll!(&mut appending).is_pending());
        drop(appending);
        settle_down().await;
        let told = told.0.lock().clone();
        assert_eq!(told.len(), 1);
        let (sequence, made) = &told[0];
        assert_eq!(made.len(), 1);
        assert_eq!(
            (made[0].id.sequence, made[0].id.subscription),
            (*sequence, numbers[0])
        );
        let pending = remote.reader().pending(numbers[0], None, 9).await.unwrap();
        assert_eq!(pending[1].id, made[0].id);
    });
}

#[test]
fn those_of_one_call_are_begun_in_their_order_and_waited_for_together() {
    paused(async {
        const COUNT: usize = 300;
        let sent = (0..COUNT).map(|id| Sent {
            append: events([id.to_string().as_str()]),
            watched: Vec::new(),
        });
        let (begun, all) = (Mutex::new(Vec::new()), Barrier::new(COUNT));
        let append = async |append: Append| {
            let id: u64 = append.entries[0].event.id().parse().unwrap();
            consume_budget().await;
            begun.lock().push(id);
            all.wait().await;
            // They go on together, too.
            all.wait().await;
            // The first ends last.
            tokio::time::sleep(Duration::from_secs(COUNT as u64 - id)).await;
            Ok(vec![Appended::Stored(Sequence(id))])
        };
        let stored_within = timeout(MINUTE * 60, store(sent.collect(), append));
        let made = stored_within
            .await
            .expect("none waits for another one's end");
        let in_order: Vec<_> = (0..COUNT as u64).collect();
        assert_eq!(*begun.lock(), in_order);
        let stored = made
            .into_iter()
            .map(|made| stored(made.unwrap().appended[0]).0);
        assert_eq!(stored.collect::<Vec<_>>(), in_order);
    });
}
