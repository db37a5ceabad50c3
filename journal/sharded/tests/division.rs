//! How appends are divided, and what becomes of them where one shard fails.

use super::*;
use crate::suite::paused;
use crate::{Entry, NewDelivery};

/// Keys of which the first two lie in different shards of four.
async fn apart(bench: &Bench) -> [u64; 2] {
    let sequences = bench.keyed(0..9, |id| id).await;
    let first = ShardNumber::of(sequences[0]);
    let other = sequences
        .iter()
        .position(|one| ShardNumber::of(*one) != first)
        .unwrap();
    bench.deliver_all().await;
    [0, other as u64]
}

fn with_cursor(entries: Vec<Entry>) -> Append {
    Append {
        cursor: Some(Cursor {
            fingerprint: 1,
            position: bytes::Bytes::from_static(b"there"),
        }),
        ..append_of(entries)
    }
}

#[test]
fn a_key_is_in_one_shard_and_goes_in_its_order() {
    paused(async {
        let bench = Bench::new(4).await;
        let mut all = Vec::new();
        for batch in 0..12 {
            all.extend(bench.keyed(batch * 10..batch * 10 + 10, |id| id % 7).await);
        }
        assert!(shards_of(&all).len() > 1, "{:?}", shards_of(&all));
        for key in 0..7 {
            let own: Vec<_> = all.iter().copied().skip(key).step_by(7).collect();
            assert_eq!(shards_of(&own).len(), 1);
            assert!(own.is_sorted());
        }
        let mut last = [None; 7];
        for event in bench.deliver_all().await {
            let id: usize = event.id().parse().unwrap();
            assert!(last[id % 7] < Some(id), "{id} behind {:?}", last[id % 7]);
            last[id % 7] = Some(id);
        }
        assert_eq!(
            last.iter().flatten().sum::<usize>(),
            (113..120).sum::<usize>()
        );
    });
}

#[test]
fn what_has_keys_of_several_shards_goes_to_each_and_is_deduplicated_there() {
    paused(async {
        let bench = Bench::new(4).await;
        let keys = apart(&bench).await;
        let deliveries = bench
            .numbers
            .iter()
            .zip(keys)
            .map(|(number, key)| NewDelivery {
                order_key: Some(key),
                ..NewDelivery::now(*number)
            });
        let entry = Entry {
            deliveries: deliveries.collect(),
            deduplicate: Some(MINUTE),
            ..crate::suite::entry("both", &[])
        };
        let before = bench.journal.reader().totals().await.unwrap().events;
        let append = append_of(vec![entry]);
        let first = stored(bench.journal.append(append.clone()).await.unwrap()[0]);
        let again = bench.journal.append(append).await.unwrap();
        assert_eq!(again, [Appended::Duplicate(first)]);
        let reader = bench.journal.reader();
        assert_eq!(reader.totals().await.unwrap().events, before + 2);
        let mut pending = Vec::new();
        for number in &bench.numbers {
            let own = reader.pending(*number, None, 9).await.unwrap();
            assert_eq!(own.len(), 1);
            pending.push(own[0].id.sequence);
        }
        assert_eq!(shards_of(&pending).len(), 2);
    });
}

#[test]
fn a_source_with_a_cursor_stays_at_home_with_all_that_it_appends() {
    paused(async {
        let bench = Bench::new(4).await;
        let entries = |from: u64| {
            let entry = |id: u64| keyed(&id.to_string(), bench.numbers[0], id);
            (from..from + 9).map(entry).collect::<Vec<_>>()
        };
        let append = async |journal: &Sharded, append| {
            let appended = journal.append(append).await.unwrap();
            let sequences: Vec<_> = appended.into_iter().map(stored).collect();
            shards_of(&sequences)
        };
        let home = append(&bench.journal, with_cursor(entries(0))).await;
        assert_eq!(home.len(), 1);
        assert_eq!(append(&bench.journal, append_of(entries(10))).await, home);
        // After a restart the source reads where it was.
        let journal = over(&bench.shards);
        let tenant = Name::new("default").unwrap();
        let source = Name::new("suite").unwrap();
        assert!(journal.cursor(&tenant, &source).await.unwrap().is_some());
        assert_eq!(append(&journal, append_of(entries(20))).await, home);
    });
}

#[test]
fn what_has_no_key_goes_by_turns() {
    paused(async {
        let bench = Bench::new(3).await;
        let mut counts = [0; 3];
        for batch in 0..TURN_ENTRIES * 3 / 32 {
            let entry = |at: usize| crate::suite::entry(&format!("{batch}-{at}"), &bench.numbers);
            let append = append_of((0..32).map(entry).collect());
            for one in bench.journal.append(append).await.unwrap() {
                counts[usize::from(ShardNumber::of(stored(one)).get())] += 1;
            }
        }
        assert_eq!(counts, [TURN_ENTRIES; 3]);
        // A lease begins with another shard each time, and takes no more than it may.
        let leased = [
            bench.lease(5).await,
            bench.lease(5).await,
            bench.lease(700).await,
        ];
        assert_eq!(leased.each_ref().map(Vec::len), [5, 5, 700]);
        let shards = leased.map(|leased| {
            let sequences: Vec<_> = leased.iter().map(|one| one.id.sequence).collect();
            shards_of(&sequences)
        });
        assert_eq!(shards, [vec![0], vec![1], vec![0, 1, 2]]);
    });
}

#[test]
fn where_a_shard_fails_the_others_go_on_and_nothing_is_lost() {
    paused(async {
        let bench = Bench::new(4).await;
        let [one, other] = apart(&bench).await;
        let entry = |id: &str, key| Entry {
            deduplicate: Some(MINUTE),
            ..keyed(id, bench.numbers[0], key)
        };
        let append = append_of(vec![entry("one", one), entry("other", other)]);
        let place = usize::from(ShardNumber::of(bench.keyed(99..100, |_| other).await[0]).get());
        bench.deliver_all().await;
        let broken = &bench.shards[place];
        let trouble = Some(JournalError::Io("broken".to_owned()));
        broken.set_trouble(trouble.clone());
        assert_eq!(
            bench.journal.append(append.clone()).await,
            Err(trouble.clone().unwrap())
        );
        let told = Some(JournalError::Io(format!("shard {place}: broken")));
        assert_eq!(bench.journal.trouble(), told);
        broken.set_trouble(None);
        let appended = bench.journal.append(append).await.unwrap();
        assert!(matches!(
            appended[..],
            [Appended::Duplicate(_), Appended::Stored(_)]
        ));
        let leased = bench.lease(9).await;
        assert_eq!(leased.len(), 2);
        let ends = leased
            .iter()
            .map(|one| Settlement::new(one.token, Ending::Delivered));
        let ends: Vec<_> = ends.collect();
        broken.set_trouble(trouble);
        let answers = bench.journal.settle(ends.clone()).await.unwrap();
        let is_broken = |one: &Leased| usize::from(ShardNumber::of(one.id.sequence).get()) == place;
        let expect = leased.iter().map(|one| match is_broken(one) {
            true => SettleAnswer::NoRoom,
            false => SettleAnswer::Settled,
        });
        assert_eq!(answers, expect.collect::<Vec<_>>());
        // What goes to the broken one alone fails as a whole.
        let own = leased.iter().position(is_broken).unwrap();
        let alone = bench.journal.settle(vec![ends[own].clone()]).await;
        assert!(matches!(alone, Err(JournalError::Io(_))));
        broken.set_trouble(None);
        let again = bench.journal.settle(ends).await.unwrap();
        let expect = leased.iter().map(|one| SettleAnswer::of(is_broken(one)));
        assert_eq!(again, expect.collect::<Vec<_>>());
    });
}
