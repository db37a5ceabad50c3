//! Bits that flip and files that end early: found and counted, or nothing changes; never a panic,
//! never a changed event.
//!
//! With `POINTSMAN_LONG` set every bit that is not zero, one bit of every other byte, and every
//! length of the files are tried, in a release build on a tmpfs in about an hour: `TMPDIR=/dev/shm
//! POINTSMAN_LONG=1 cargo test --release -p pointsman-journal damage`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pointsman_schemas::Sequence;

use super::fixture::{
    HISTORY, KEPT, KEYED, POSITIONS, REPLAYS, attempt, everything, fill, fill_more, remembered,
    step,
};
use super::*;
use crate::suite::rows;
use crate::{
    AfterStep, Counts, EndedSelection, Ending, HistoryEntry, JournalError, Key, NewDelivery,
    Record, Replay, ReplayKind, SettleAnswer,
};

/// A store's files and what is seen when it is opened.
struct Specimen {
    directory: TempDir,
    seen: Vec<String>,
}

impl Specimen {
    async fn of(directory: TempDir) -> Self {
        let again = TempDir::new().unwrap();
        copy(directory.path(), again.path());
        let journal = open(again.path()).unwrap();
        assert_eq!(journal.warnings(), &[] as &[String]);
        let seen = visible(&journal).await.unwrap();
        journal.close().await;
        let count = |kind| seen.iter().filter(|line| line.starts_with(kind)).count();
        assert!(
            count("position") >= usize::from(POSITIONS)
                && count("history") == HISTORY
                && count("key") == KEYED.len()
                && (count("dead"), count("replay"), count("start")) == (2, 2, 1)
                && count("kept") == KEPT,
            "{seen:#?}"
        );
        Self { directory, seen }
    }

    /// As a clean end leaves it: all in the database.
    async fn at_rest() -> Self {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        fill(&journal).await;
        fill_more(&journal).await;
        journal.close().await;
        assert!(
            !schema::log(directory.path()).exists(),
            "a clean end leaves no log"
        );
        Self::of(directory).await
    }

    /// As a kill leaves it: what came last lies in the write-ahead log.
    async fn killed() -> Self {
        let (live, directory) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let journal = open(live.path()).unwrap();
        fill(&journal).await;
        fill_more(&journal).await;
        journal.upkeep().await;
        for id in ["late", "later"] {
            journal
                .append(Append {
                    positions: vec![suite::upsert(id.as_bytes(), b"there")],
                    ..suite::append_of(vec![suite::entry(id, &[SubscriptionNumber(1)])])
                })
                .await
                .unwrap();
        }
        go_on_with_replays(&journal, AfterStep::More).await.unwrap();
        copy(live.path(), directory.path());
        journal.close().await;
        Self::of(directory).await
    }
}

/// All that can be seen of a store, what is stored for its sources, its history by rows, the keys
/// that it remembers, its dead letters and its replays. Ids are shown without their epoch: where
/// the epochs are damaged ids have another, and the records are still what they were.
async fn visible(journal: &DiskJournal) -> Result<Vec<String>, JournalError> {
    let mut seen = everything(&*journal.reader()).await;
    let rows = rows(journal, "default", "suite", 3).await;
    seen.extend(rows.iter().map(|row| format!("position {row:?}")));
    seen.extend(history(journal).await?);
    for id in KEYED {
        for key in journal.reader().keys(remembered(id).1).await? {
            let deliveries: Vec<_> = key.deliveries.iter().map(|id| id.subscription).collect();
            let what = (key.identity, key.sequence, key.at, key.until, deliveries);
            seen.push(format!("key {id} {what:?}"));
        }
    }
    let everyone = DeadSelection::default();
    for letter in journal.reader().dead(&everyone, None, 100).await? {
        let key = (letter.id.sequence, letter.id.subscription, letter.id.run);
        let what = (letter.reason, letter.at, letter.attempts, letter.last);
        let holds = (letter.raw, letter.edited);
        seen.push(format!("dead {key:?} {what:?} {holds:?}"));
    }
    for replay in journal.reader().replays().await? {
        let shown = match replay.kind {
            // It is begun anew by its subscription where its own row is damaged.
            ReplayKind::Start => format!("start {:?}", replay.subscription),
            ReplayKind::Events | ReplayKind::Dead => {
                let stands = (replay.state, &replay.message, replay.ended, replay.made);
                let far = (replay.after, replay.seen);
                seen.push(format!("{PROGRESS} {:?} {stands:?} {far:?}", replay.id));
                let of = (replay.kind, replay.subscription, &replay.request);
                let bounds = (replay.began, replay.first, replay.until);
                format!("replay {:?} {of:?} {bounds:?}", replay.id)
            }
        };
        seen.push(shown);
    }
    let kept = kept(journal).into_iter();
    seen.extend(kept.map(|(sequence, until)| format!("kept {sequence} until {until}")));
    Ok(seen)
}

/// The events that retention looks at by a time of their own, and that.
pub(super) fn kept(journal: &DiskJournal) -> Vec<(u64, i64)> {
    let connection = schema::connect(&journal.shared.directory, Purpose::Look).unwrap();
    let mut select = connection
        .prepare("SELECT sequence, until FROM kept")
        .unwrap();
    let rows = select.query_map([], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
    });
    rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// The history of all that is known of in any other way, one line per row.
async fn history(journal: &DiskJournal) -> Result<Vec<String>, JournalError> {
    let reader = journal.reader();
    let mut known = Vec::new();
    for status in reader.subscriptions().await? {
        let pending = reader.pending(status.number, None, 100).await?;
        known.extend(pending.iter().map(|pending| pending.id));
    }
    let ended = reader.ended(&EndedSelection::default(), None, 100).await;
    known.extend(ended?.entries.iter().map(|entry| entry.id));
    let mut rows = BTreeMap::<u64, BTreeMap<u32, HistoryEntry>>::new();
    for id in known {
        let life = reader.life(id).await?;
        for entry in life.into_iter().flat_map(|life| life.history) {
            let row = rows.entry(entry.place.row).or_default();
            row.insert(entry.place.entry, entry);
        }
    }
    let show = |entry: &HistoryEntry| {
        let DeliveryId {
            sequence,
            subscription,
            run,
            ..
        } = entry.id;
        let what = (
            entry.at,
            entry.state,
            entry.reason,
            entry.next,
            &entry.attempt,
        );
        format!("{sequence:?} {subscription:?} {run} {what:?}")
    };
    let lines = rows.iter().map(|(row, entries)| {
        let entries: Vec<_> = entries.values().map(show).collect();
        format!("history {row} {entries:?}")
    });
    Ok(lines.collect())
}

/// How lines begin that show a record as it was stored.
const RECORDS: [&str; 8] = [
    "event", "position", "history", "key", "dead", "replay", "start", "kept",
];

/// What a subscription that never had anything shows of itself.
const EMPTY: &str = "counts: Counts { created: 0, ";

/// How lines begin that show how far a replay has come.
const PROGRESS: &str = "progress of replay";

/// Opens a store that may not become large: taking the room of a whole ballast would take most of
/// the time.
fn open_small(directory: &Path) -> Result<Arc<DiskJournal>, OpenError> {
    let options = DiskOptions {
        max_size_bytes: 8 * 1024 * 1024,
        ..DiskOptions::default()
    };
    DiskJournal::open(directory, options, Arc::new(RuntimeClock::new(START)))
}

/// What became of a store that was damaged.
struct Examined {
    /// Whether a person is told.
    is_told: bool,
    /// What is not seen any more.
    lost: Vec<String>,
}

/// Opens a damaged copy and says what is wrong with how it went.
async fn examine(specimen: &Specimen, damage: impl FnOnce(&Path)) -> Result<Examined, String> {
    let directory = TempDir::new().unwrap();
    copy(specimen.directory.path(), directory.path());
    damage(directory.path());
    let journal =
        open_small(directory.path()).map_err(|error| format!("it does not start: {error}"))?;
    let seen = visible(&journal)
        .await
        .map_err(|error| format!("{error}: {:?}", journal.warnings()))?;
    let totals = journal
        .reader()
        .totals()
        .await
        .map_err(|error| error.to_string())?;
    let is_told = !journal.warnings().is_empty();
    for status in journal
        .reader()
        .subscriptions()
        .await
        .map_err(|error| error.to_string())?
    {
        let Counts {
            created,
            delivered,
            dead,
            redriven,
            purged,
            cancelled,
            quarantined,
            pending,
            ..
        } = status.counts;
        if created != delivered + dead + redriven + purged + cancelled + quarantined + pending {
            return Err(format!("the counters do not add up: {:?}", status.counts));
        }
        let shown = journal
            .reader()
            .pending(status.number, None, 1_000)
            .await
            .map_err(|error| error.to_string())?;
        if shown.len() as u64 != pending {
            return Err(format!(
                "{pending} are pending, and {} are shown",
                shown.len()
            ));
        }
    }
    journal
        .append(suite::append_of(vec![suite::entry("after", &[])]))
        .await
        .map_err(|error| format!("nothing can be stored: {error}"))?;
    go_on(&journal).await?;
    journal.close().await;
    if seen == specimen.seen {
        return Ok(Examined {
            is_told,
            lost: Vec::new(),
        });
    }
    let left: HashSet<_> = seen.iter().collect();
    let lost = specimen.seen.iter().filter(|line| !left.contains(line));
    let lost: Vec<String> = lost.cloned().collect();
    // How far a replay has come is written over what it was. Where the log cannot tell which page a
    // frame is of, that may stay what it was, which is told: then nothing is missing to be counted.
    // Nor is it of a subscription that never had anything, which comes back with its rule.
    let is_empty = |line: &str| line.starts_with("SubscriptionStatus") && line.contains(EMPTY);
    let is_missing = |line: &&String| !line.starts_with(PROGRESS) && !is_empty(line);
    let is_missing = lost.iter().any(|line| is_missing(&line));
    let is_counted = totals.quarantined + totals.lost_commits > 0;
    if !is_told || (is_missing && !is_counted) {
        return Err(format!(
            "something is gone, and it is not told ({is_told}) or not counted: {lost:#?}"
        ));
    }
    let known: HashSet<_> = specimen.seen.iter().collect();
    if let Some(line) = seen
        .iter()
        .find(|line| RECORDS.iter().any(|kind| line.starts_with(kind)) && !known.contains(line))
    {
        return Err(format!("a record that was never stored: {line}"));
    }
    Ok(Examined { is_told, lost })
}

/// Ends what is due, and says what is wrong where its history is not kept.
async fn go_on(journal: &DiskJournal) -> Result<(), String> {
    let grants = [1, 2].map(|number| Grant {
        subscription: SubscriptionNumber(number),
        count: 2,
        lease: MINUTE,
        bytes_max: usize::MAX,
        batching: None,
    });
    let leased = journal.lease(&grants, usize::MAX).await;
    for leased in leased.map_err(|error| error.to_string())?.leased {
        let settlement = Settlement {
            record: Record::Attempt(attempt("POST http://f/later")),
            ..Settlement::new(leased.token, Ending::Delivered)
        };
        let answer = journal.settle(vec![settlement]).await;
        let life = journal.reader().life(leased.id).await;
        let is_kept = life.as_ref().is_ok_and(|life| life.is_some());
        if answer != Ok(vec![SettleAnswer::Settled]) || !is_kept {
            return Err(format!("a delivery was settled: {answer:?}, {life:?}"));
        }
    }
    go_on_with_replays(journal, AfterStep::End).await
}

/// Takes a step of each replay that runs, and says what is wrong where that is not kept.
async fn go_on_with_replays(journal: &DiskJournal, then: AfterStep) -> Result<(), String> {
    let all = journal.reader().replays().await;
    let mut all = all.map_err(|error| error.to_string())?;
    all.retain(|replay| replay.is_running() && replay.kind == ReplayKind::Events);
    for Replay { id, seen, .. } in all {
        let step = step(id, SubscriptionNumber(1), Sequence(12), then);
        let replayed = journal.replay(step).await;
        let is_kept = replayed.as_ref().is_ok_and(|replayed| {
            let ends = then == AfterStep::End;
            replayed.replay.seen == seen + 1 && replayed.replay.is_running() != ends
        });
        if !is_kept {
            return Err(format!("a replay went on: {replayed:?}"));
        }
    }
    Ok(())
}

/// Whether the tests that take long are run whole.
fn is_long() -> bool {
    std::env::var_os("POINTSMAN_LONG").is_some()
}

/// Bits flipped where it matters: a sample, since each one takes an opening of the store.
const FLIPS: u64 = 200;

/// Flips gone wrong after which no more are tried: they often have one cause.
const WRONG_MAX: usize = 20;

/// Numbers that look random and are the same in every run.
fn scattered(count: u64, below: u64) -> impl Iterator<Item = usize> {
    (1..=count).map(move |step| {
        usize::try_from((step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) % below).unwrap()
    })
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// Flips bits of a file, one at a time; tells how many of the flips were noticed. Of a flip at most
/// so many events may be lost, and as many rows of each other kind.
async fn flip(
    specimen: &Specimen,
    file: &str,
    lost_max: usize,
    bits: impl Iterator<Item = usize>,
) -> usize {
    let whole = std::fs::read(specimen.directory.path().join(file)).unwrap();
    let (mut found, mut wrong) = (0, Vec::new());
    for bit in bits {
        let flip = |directory: &Path| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(directory.join(file), bytes).unwrap();
        };
        match examine(specimen, flip).await {
            Ok(Examined { is_told, lost }) => {
                for kind in RECORDS {
                    let count = lost.iter().filter(|line| line.starts_with(kind)).count();
                    // A replay that its subscription began with is known to both.
                    let lost_max = if kind == "start" { 0 } else { lost_max };
                    if count > lost_max {
                        wrong.push(format!("bit {bit}: {count} of {kind} are lost: {lost:#?}"));
                    }
                }
                found += usize::from(is_told);
            }
            Err(what) => wrong.push(format!("bit {bit}: {what}")),
        }
        assert!(wrong.len() < WRONG_MAX, "{file}: {wrong:#?}");
    }
    assert!(wrong.is_empty(), "{file}: {wrong:#?}");
    found
}

#[test]
fn flipped_bits_are_found_or_change_nothing() {
    suite::paused(async {
        let (at_rest, killed) = (Specimen::at_rest().await, Specimen::killed().await);
        // Most of a small database is empty space, where nothing can be lost.
        let database = std::fs::read(at_rest.directory.path().join("journal.db")).unwrap();
        let used: Vec<usize> = (0..database.len())
            .filter(|at| database[*at] != 0)
            .collect();
        if is_long() {
            let found = flip(&at_rest, "journal.db", 1, every_bit(&database)).await;
            println!(
                "{found} of {} bits in use and {} others were noticed",
                used.len() * 8,
                database.len() - used.len()
            );
        } else {
            let in_use =
                scattered(FLIPS, used.len() as u64 * 8).map(|bit| used[bit / 8] * 8 + bit % 8);
            assert!(flip(&at_rest, "journal.db", 1, in_use).await > FLIPS as usize / 2);
            // What kind of page each is, and how many cells it has.
            let pages = (0..database.len()).step_by(schema::PAGE_BYTES as usize);
            let heads = pages.flat_map(|page| [page, page + 4]);
            let bits = heads.flat_map(|at| at * 8..(at + 1) * 8);
            flip(&at_rest, "journal.db", 1, bits).await;
            let anywhere = scattered(FLIPS / 4, database.len() as u64 * 8);
            flip(&at_rest, "journal.db", 1, anywhere).await;
        }
        flip(
            &killed,
            "journal.db",
            1,
            scattered(
                FLIPS / 4,
                length(&killed.directory.path().join("journal.db")) * 8,
            ),
        )
        .await;
        assert_eq!(flip(&killed, "mark", 0, 0..96).await, 96);
    });
}

/// The bits of a file that are flipped where all are: every bit of the bytes that are not zero, and
/// one of each other byte.
fn every_bit(whole: &[u8]) -> impl Iterator<Item = usize> {
    (0..whole.len())
        .flat_map(|at| (0..8).map(move |bit| (at, bit)))
        .filter(|(at, bit)| whole[*at] != 0 || *bit == *at % 8)
        .map(|(at, bit)| at * 8 + bit)
}

#[test]
fn a_flipped_bit_in_the_log_loses_no_more_than_the_record_it_lies_in() {
    suite::paused(async {
        let killed = Specimen::killed().await;
        let log = std::fs::read(killed.directory.path().join("journal.db-wal")).unwrap();
        let found = if is_long() {
            flip(&killed, "journal.db-wal", 1, every_bit(&log)).await
        } else {
            // The header and the heads of the first frames, bits of which a frame's checksum shows
            // but one, as if that were wrong itself, and some here and there.
            let heads = (0..32 * 8).chain((32 * 8..(32 + 24) * 8).step_by(3));
            let frame_bytes = schema::PAGE_BYTES as usize + 24;
            let alike = (32..log.len()).step_by(frame_bytes).flat_map(|frame| {
                let last_word = frame + frame_bytes - 4;
                let bits = (last_word * 8..(last_word + 4) * 8).step_by(5);
                // Which page it is, too.
                bits.chain(((frame + 3) * 8..(frame + 4) * 8).chain([(frame + 7) * 8 + 7]))
            });
            let rest = scattered(FLIPS, log.len() as u64 * 8);
            let bits = heads.chain(alike).chain(rest);
            flip(&killed, "journal.db-wal", 1, bits).await
        };
        assert!(found > 0);
        println!("{found} flips in the log were noticed");
    });
}

#[test]
fn truncated_files_are_found_or_change_nothing() {
    suite::paused(async {
        for specimen in [Specimen::killed().await, Specimen::at_rest().await] {
            for (file, cuts) in [("journal.db", 60), ("journal.db-wal", 40), ("mark", 12)] {
                let path = specimen.directory.path().join(file);
                if !path.exists() {
                    continue;
                }
                let every = (0..length(&path)).map(|at| usize::try_from(at).unwrap());
                let offsets: Vec<usize> = if is_long() {
                    every.collect()
                } else {
                    [0, 1, 99]
                        .into_iter()
                        .chain(scattered(cuts, length(&path)))
                        .collect()
                };
                for at in offsets {
                    let cut = |directory: &Path| {
                        std::fs::OpenOptions::new()
                            .write(true)
                            .open(directory.join(file))
                            .unwrap()
                            .set_len(at as u64)
                            .unwrap();
                    };
                    if let Err(wrong) = examine(&specimen, cut).await {
                        panic!("{file} cut at {at}: {wrong}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_store_behind_its_mark_says_so_once() {
    suite::paused(async {
        let specimen = Specimen::killed().await;
        let log = specimen.directory.path().join("journal.db-wal");
        std::fs::write(&log, b"").unwrap();
        let journal = open(specimen.directory.path()).unwrap();
        assert!(
            journal.warnings()[0].contains("behind its mark"),
            "{:?}",
            journal.warnings()
        );
        journal
            .append(suite::append_of(vec![suite::entry("x", &[])]))
            .await
            .unwrap();
        journal.close().await;
        drop(journal);
        let journal = open(specimen.directory.path()).unwrap();
        assert_eq!(journal.warnings(), &[] as &[String]);
    });
}

#[test]
fn a_damaged_event_takes_its_deliveries_along_and_nothing_else() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        fill(&journal).await;
        let other = schema::connect(directory.path(), Purpose::Write).unwrap();
        other
            .execute(
                "UPDATE events SET record = x'00' WHERE sequence IN (5, 6)",
                [],
            )
            .unwrap();
        // What is in memory hides the damage from the running journal.
        *journal.shared.queues.lock() = queues::Queues::new(0, Arc::default());
        journal.shared.queues.lock().add(1, true, true);
        let leased = journal
            .lease(
                &[Grant {
                    subscription: SubscriptionNumber(1),
                    count: 9,
                    lease: MINUTE,
                    bytes_max: usize::MAX,
                    batching: None,
                }],
                usize::MAX,
            )
            .await
            .unwrap()
            .leased;
        let sequences: Vec<_> = leased.iter().map(|leased| leased.id.sequence.0).collect();
        assert_eq!(sequences, [4, 7, 8]);
        // The writer does its jobs in turn: what this one answers was written after the damage was
        // set aside.
        journal.append(suite::append_of(Vec::new())).await.unwrap();
        let totals = journal.reader().totals().await.unwrap();
        let counts = journal.reader().subscriptions().await.unwrap()[0].counts;
        assert_eq!((totals.quarantined, totals.events), (2, 10));
        assert_eq!(
            (counts.quarantined, counts.pending, counts.created),
            (2, 4, 8)
        );
        assert_eq!(journal.reader().event(Sequence(5)).await, Ok(None));
    });
}

#[test]
fn a_damaged_delivery_at_the_head_of_an_order_key_lets_the_next_go() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        let number = journal
            .subscribe(vec![super::fixture::wanted("keys")])
            .await
            .unwrap()[0];
        let keyed = |id: &str| {
            let delivery = NewDelivery {
                order_key: Some(7),
                ..NewDelivery::now(number)
            };
            crate::Entry {
                deliveries: [delivery].into_iter().collect(),
                ..suite::entry(id, &[])
            }
        };
        journal
            .append(suite::append_of(vec![keyed("1"), keyed("2"), keyed("3")]))
            .await
            .unwrap();
        let other = schema::connect(directory.path(), Purpose::Write).unwrap();
        other
            .execute("UPDATE pending SET value = x'00' WHERE sequence = 1", [])
            .unwrap();
        drop(other);
        *journal.shared.queues.lock() = queues::Queues::new(0, Arc::default());
        journal.shared.queues.lock().add(number.0, true, true);
        let grant = Grant {
            subscription: number,
            count: 9,
            bytes_max: usize::MAX,
            batching: None,
            lease: MINUTE,
        };
        let leased = loop {
            // Whoever loads the queue finds the damage, and hands it to the writer.
            let leased = journal.lease(&[grant], usize::MAX).await.unwrap().leased;
            if !leased.is_empty() {
                break leased;
            }
            journal.append(suite::append_of(Vec::new())).await.unwrap();
        };
        assert_eq!(
            leased
                .iter()
                .map(|leased| leased.id.sequence.0)
                .collect::<Vec<_>>(),
            [2]
        );
        let counts = journal.reader().subscriptions().await.unwrap()[0].counts;
        assert_eq!(
            (counts.created, counts.quarantined, counts.pending),
            (3, 1, 2)
        );
    });
}

#[test]
fn a_block_that_is_damaged_under_its_leases_is_counted_once() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        let number = journal
            .subscribe(vec![super::fixture::wanted("r")])
            .await
            .unwrap()[0];
        journal
            .append(suite::append_of(
                (1..=9)
                    .map(|id| suite::entry(&id.to_string(), &[number]))
                    .collect(),
            ))
            .await
            .unwrap();
        let leased = journal
            .lease(
                &[Grant {
                    subscription: number,
                    count: 9,
                    bytes_max: usize::MAX,
                    batching: None,
                    lease: MINUTE,
                }],
                usize::MAX,
            )
            .await
            .unwrap()
            .leased;
        let other = schema::connect(directory.path(), Purpose::Write).unwrap();
        other
            .execute("UPDATE pending SET value = x'00'", [])
            .unwrap();
        drop(other);
        for half in leased.chunks(5) {
            let ends = half
                .iter()
                .map(|leased| Settlement::new(leased.token, Ending::Delivered));
            assert!(
                journal
                    .settle(ends.collect())
                    .await
                    .unwrap()
                    .into_iter()
                    .all(|answer| answer == SettleAnswer::Gone),
                "their row is gone"
            );
        }
        let counts = journal.reader().subscriptions().await.unwrap()[0].counts;
        assert_eq!(
            (
                counts.created,
                counts.quarantined,
                counts.delivered,
                counts.pending
            ),
            (9, 9, 0, 0)
        );
    });
}

#[test]
fn what_an_earlier_log_left_behind_this_one_is_none_of_it() {
    suite::paused(async {
        let (live, directory) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let journal = open(live.path()).unwrap();
        for id in 0..30 {
            journal
                .append(suite::append_of(vec![suite::entry(&id.to_string(), &[])]))
                .await
                .unwrap();
        }
        let other = schema::connect(live.path(), Purpose::Write).unwrap();
        other
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
            .unwrap();
        for id in ["late", "later"] {
            journal
                .append(suite::append_of(vec![suite::entry(id, &[])]))
                .await
                .unwrap();
        }
        copy(live.path(), directory.path());
        let copied = open(directory.path()).unwrap();
        assert_eq!(copied.warnings(), &[] as &[String]);
        assert_eq!(copied.reader().totals().await.unwrap().events, 32);
        drop(other);
    });
}

#[test]
fn a_flipped_bit_in_rows_of_any_kind_is_found_and_loses_no_more_than_one() {
    suite::paused(async {
        let at_rest = Specimen::at_rest().await;
        let database = std::fs::read(at_rest.directory.path().join("journal.db")).unwrap();
        let page_bytes = schema::PAGE_BYTES as usize;
        let (Key { identity, .. }, _) = remembered(KEYED[0]);
        let key = identity.0[0].to_be_bytes();
        let until = START.plus(MINUTE * 60 * 48);
        let kept = record::encode_kept(11, until);
        // A row of a position, of one entry of the history, of many, of a key, of a replay, of a
        // dead letter that was edited, and of an event that is kept for a time of its own.
        let rows: [&[u8]; 7] = [
            b"folder/3",
            b"POST http://f/one",
            b"PUT http://f/two",
            &key,
            REPLAYS[0].as_bytes(),
            b"mended",
            &kept,
        ];
        let pages: BTreeSet<usize> = rows
            .into_iter()
            .map(|row| {
                let mut windows = database.windows(row.len());
                windows.position(|bytes| bytes == row).unwrap() / page_bytes * page_bytes
            })
            .collect();
        assert_eq!(pages.len(), 6, "both kinds of history lie in one");
        for page in pages {
            let in_use = (page..page + page_bytes).filter(|at| database[*at] != 0);
            let bits = in_use.flat_map(|at| at * 8..(at + 1) * 8);
            let bits: Vec<usize> = bits.step_by(if is_long() { 1 } else { 11 }).collect();
            let found = flip(&at_rest, "journal.db", 1, bits.iter().copied()).await;
            assert_eq!(found, bits.len());
        }
    });
}
