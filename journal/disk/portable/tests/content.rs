//! What a journal holds, whatever its shards: the same before and after it was moved, and of use
//! there.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_schemas::{Epoch, Name, Sequence};
use proptest::test_runner::{Config, TestRunner};

use super::bench::{Bench, name, steps};
use crate::suite::paused;
use crate::{DeadSelection, EndedSelection, EventsFrom, Journal, Lookup};

impl Bench {
    /// Everything that can be seen, but for what depends on the shards.
    pub(super) async fn content(&self) -> Content {
        let reader = self.journal.reader();
        let events = self.events().await;
        let id = |sequence: Sequence| events.get(&sequence).cloned().unwrap_or_default();
        let mut content = Content::default();
        let from = EventsFrom::After(Sequence(0));
        for stored in reader
            .events(from, 100_000, usize::MAX)
            .await
            .unwrap()
            .events
        {
            let (at, until) = (stored.at, stored.kept_until);
            let row = format!("{:?} {} {at} {until:?}", stored.event, stored.origin);
            content.events.insert(row);
        }
        for mut status in reader.subscriptions().await.unwrap() {
            status.oldest_pending = None;
            let number = status.number;
            content.subscriptions.push(format!("{status:?}"));
            for one in reader.pending(number, None, 100_000).await.unwrap() {
                let key = one.order_key;
                let row = format!(
                    "{} {:?}",
                    id(one.id.sequence),
                    (
                        one.due,
                        one.since,
                        one.attempts,
                        &one.last,
                        one.suspended,
                        one.priority,
                        key
                    )
                );
                content.pending.push(format!("{number:?} {row}"));
                if let Some(key) = key {
                    let origin = id(one.id.sequence)[..1].to_owned();
                    let waiting = content.ordered.entry((number.0, key, origin)).or_default();
                    waiting.push(id(one.id.sequence));
                }
            }
        }
        let all = DeadSelection::default();
        for letter in reader.dead(&all, None, 100_000).await.unwrap() {
            let mut letter = letter;
            let of = id(letter.id.sequence);
            letter.id.epoch = Epoch(0);
            letter.id.sequence = Sequence(0);
            content.dead.push(format!("{of} {letter:?}"));
        }
        let (all, mut after) = (EndedSelection::default(), None);
        loop {
            let page = reader.ended(&all, after, 1_000).await.unwrap();
            for one in page.entries {
                let of = (id(one.id.sequence), one.id.subscription, one.id.run);
                let what = (one.at, one.state, one.reason, one.next, one.attempt);
                content.history.push(format!("{of:?} {what:?}"));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for source in ["at-home", "rejecting", "else"] {
            let (tenant, source) = (Name::default_tenant(), name(source));
            let cursor = self.journal.cursor(&tenant, &source).await.unwrap();
            let rows = self.journal.positions(&tenant, &source, None, 100).await;
            content
                .positions
                .push(format!("{cursor:?} {:?}", rows.unwrap()));
        }
        for (_, entry) in &self.known {
            for key in entry.terms.iter().flat_map(|terms| &terms.keys) {
                for known in reader.keys(Lookup::Key(key.identity)).await.unwrap() {
                    let of = id(known.sequence);
                    content
                        .keys
                        .push(format!("{of} {} {}", known.at, known.until));
                }
            }
        }
        content.sort();
        content
    }
}

/// What a journal holds, in words.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Content {
    /// A copy of an event is no other event.
    events: BTreeSet<String>,
    subscriptions: Vec<String>,
    pending: Vec<String>,
    /// By subscription, order key and source, in the order in which they go.
    ordered: BTreeMap<(u32, u64, String), Vec<String>>,
    dead: Vec<String>,
    pub(super) history: Vec<String>,
    positions: Vec<String>,
    keys: Vec<String>,
}

impl Content {
    fn sort(&mut self) {
        for list in [
            &mut self.pending,
            &mut self.dead,
            &mut self.history,
            &mut self.keys,
        ] {
            list.sort();
        }
    }
}

/// Plays steps to a journal and moves it; in between and at the end everything is as before.
fn moves(turns: &[u16], cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&steps(), |steps| {
        paused(async {
            let mut bench = Bench::new(turns[0]).await;
            for shards in &turns[1..] {
                for step in &steps {
                    bench.step(step).await;
                }
                let before = bench.content().await;
                bench.move_to(*shards).await;
                assert_eq!(bench.content().await, before, "as it lies there");
                bench.subscribe().await;
                assert_eq!(bench.content().await, before, "once it runs");
                bench.knows_again().await;
                assert_eq!(
                    bench.content().await,
                    before,
                    "of what is known nothing is stored"
                );
            }
            let before = bench.content().await;
            let delivered = bench.deliver().await;
            let mut count = 0;
            for (group, ids) in &before.ordered {
                assert_eq!(&delivered[group], ids, "{group:?}");
                count += ids.len();
            }
            let plain = delivered.iter().filter(|((_, key, _), _)| *key == 0);
            count += plain.map(|(_, ids)| ids.len()).sum::<usize>();
            assert_eq!(count, before.pending.len(), "all of it is delivered");
            bench.journal.close().await;
        });
        Ok(())
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}

#[test]
fn nothing_changes_in_a_new_store() {
    moves(&[1, 1], 24);
}

#[test]
fn nothing_changes_in_more_shards() {
    moves(&[1, 4, 16], 12);
}

#[test]
fn nothing_changes_in_fewer_shards() {
    moves(&[4, 1], 24);
}
