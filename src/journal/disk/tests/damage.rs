//! Bits that flip and files that end early: found and counted, or nothing changes; never a panic, never a changed event.

use std::collections::HashSet;

use super::fixture::{everything, fill};
use super::*;

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
        let seen = everything(&*journal.reader()).await;
        journal.close().await;
        Self { directory, seen }
    }

    /// As a clean end leaves it: all in the database.
    async fn at_rest() -> Self {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        fill(&journal).await;
        journal.close().await;
        assert!(!schema::log(directory.path()).exists(), "a clean end leaves no log");
        Self::of(directory).await
    }

    /// As a kill leaves it: what came last lies in the write-ahead log.
    async fn killed() -> Self {
        let (live, directory) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let journal = open(live.path()).unwrap();
        fill(&journal).await;
        journal.upkeep().await;
        for id in ["late", "later"] {
            journal.append(suite::append_of(vec![suite::entry(id, &[SubscriptionNumber(1)])])).await.unwrap();
        }
        copy(live.path(), directory.path());
        journal.close().await;
        Self::of(directory).await
    }
}

/// Opens a damaged copy and says what is wrong with how it went.
async fn examine(specimen: &Specimen, damage: impl FnOnce(&Path)) -> Result<bool, String> {
    let directory = TempDir::new().unwrap();
    copy(specimen.directory.path(), directory.path());
    damage(directory.path());
    let journal = match open(directory.path()) {
        Err(OpenError::Damaged { .. } | OpenError::Newer { .. }) => return Ok(true),
        Err(other) => return Err(format!("an error that does not say what is wrong: {other}")),
        Ok(journal) => journal,
    };
    let seen = everything(&*journal.reader()).await;
    let totals = journal.reader().totals().await.map_err(|error| error.to_string())?;
    let told = !journal.warnings().is_empty();
    journal.close().await;
    if seen == specimen.seen {
        return Ok(told);
    }
    if !told && totals.quarantined == 0 {
        return Err("something is gone, and nobody is told".to_owned());
    }
    let known: HashSet<_> = specimen.seen.iter().collect();
    match seen.iter().find(|line| line.starts_with("event") && !known.contains(line)) {
        Some(line) => Err(format!("an event that was never stored: {line}")),
        None => Ok(true),
    }
}

/// Bits flipped where it matters: a sample, since each one takes an opening of the store.
const FLIPS: u64 = 200;

/// Numbers that look random and are the same in every run.
fn scattered(count: u64, below: u64) -> impl Iterator<Item = usize> {
    (1..=count).map(move |step| usize::try_from((step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) % below).unwrap())
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// Flips bits of a file and tells how many of the flips were noticed.
async fn flip(specimen: &Specimen, file: &str, bits: impl Iterator<Item = usize>) -> usize {
    let whole = std::fs::read(specimen.directory.path().join(file)).unwrap();
    let mut found = 0;
    for bit in bits {
        let flip = |directory: &Path| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(directory.join(file), bytes).unwrap();
        };
        match examine(specimen, flip).await {
            Ok(told) => found += usize::from(told),
            Err(wrong) => panic!("{file}, bit {bit}: {wrong}"),
        }
    }
    found
}

#[test]
fn flipped_bits_are_found_or_change_nothing() {
    suite::paused(async {
        let (at_rest, killed) = (Specimen::at_rest().await, Specimen::killed().await);
        // Most of a small database is empty space, where nothing can be lost.
        let database = std::fs::read(at_rest.directory.path().join("journal.db")).unwrap();
        let used: Vec<usize> = (0..database.len()).filter(|at| database[*at] != 0).collect();
        let in_use = scattered(FLIPS, used.len() as u64 * 8).map(|bit| used[bit / 8] * 8 + bit % 8);
        assert!(flip(&at_rest, "journal.db", in_use).await > FLIPS as usize / 2);
        let bits = |specimen: &Specimen, file: &str| length(&specimen.directory.path().join(file)) * 8;
        flip(&at_rest, "journal.db", scattered(FLIPS / 4, bits(&at_rest, "journal.db"))).await;
        assert!(flip(&killed, "journal.db-wal", scattered(FLIPS / 2, bits(&killed, "journal.db-wal"))).await > 0);
        flip(&killed, "journal.db", scattered(FLIPS / 4, bits(&killed, "journal.db"))).await;
        assert_eq!(flip(&killed, "mark", 0..96).await, 96);
    });
}

#[test]
fn truncated_files_are_found_or_change_nothing() {
    suite::paused(async {
        let specimen = Specimen::killed().await;
        for (file, cuts) in [("journal.db", 40), ("journal.db-wal", 40), ("mark", 12)] {
            for at in scattered(cuts, length(&specimen.directory.path().join(file))) {
                let cut = |directory: &Path| {
                    std::fs::OpenOptions::new().write(true).open(directory.join(file)).unwrap().set_len(at as u64).unwrap();
                };
                if let Err(wrong) = examine(&specimen, cut).await {
                    panic!("{file} cut at {at}: {wrong}");
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
        assert!(journal.warnings()[0].contains("behind its mark"), "{:?}", journal.warnings());
        journal.append(suite::append_of(vec![suite::entry("x", &[])])).await.unwrap();
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
        other.execute("UPDATE events SET record = x'00' WHERE sequence IN (5, 6)", []).unwrap();
        // What is in memory hides the damage from the running journal.
        *journal.shared.queues.lock() = Queues::new(0, Arc::default());
        journal.shared.queues.lock().know(1, true, true);
        let leased = journal
            .lease(&[Grant { subscription: SubscriptionNumber(1), count: 9, lease: MINUTE, bytes_max: usize::MAX }], usize::MAX)
            .await
            .unwrap()
            .leased;
        let sequences: Vec<_> = leased.iter().map(|leased| leased.id.sequence.0).collect();
        assert_eq!(sequences, [4, 7, 8]);
        // The writer does its jobs in turn: what this one answers was written after the damage was set aside.
        journal.append(suite::append_of(Vec::new())).await.unwrap();
        let totals = journal.reader().totals().await.unwrap();
        let counts = journal.reader().subscriptions().await.unwrap()[0].counts;
        assert_eq!((totals.quarantined, totals.events), (2, 10));
        assert_eq!((counts.quarantined, counts.pending, counts.created), (2, 4, 8));
        assert_eq!(journal.reader().event(Sequence(5)).await, Ok(None));
    });
}
