//! The ledger: the one row that changes with every commit.

use pointsman_schemas::Timestamp;
use rusqlite::Connection;

use super::meta;
use crate::Counts;
use crate::disk::record::{Damage, Decoder, Encoder, Table, key_of};

/// What changes with every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::disk) struct Ledger {
    /// The number of the last commit.
    pub(in crate::disk) commit: u64,
    pub(in crate::disk) last_sequence: u64,
    /// The highest number of a run beyond the first ones.
    pub(in crate::disk) last_run: u64,
    /// Until then deduplication may know an event by its identity of format 1, which left out the
    /// source that it came in by.
    pub(in crate::disk) old_identities_until: Timestamp,
    pub(in crate::disk) last_subscription: u32,
    /// The journal's own time at the last commit, and how far the time of day was ahead of it then,
    /// in microseconds.
    pub(in crate::disk) time: Timestamp,
    pub(in crate::disk) clock_offset: i64,
    pub(in crate::disk) events: u64,
    pub(in crate::disk) dead: u64,
    pub(in crate::disk) rejects: u64,
    pub(in crate::disk) quarantined: u64,
    /// Commits that were found missing.
    pub(in crate::disk) lost_commits: u64,
    /// Rows of sources' positions.
    pub(in crate::disk) positions: u64,
    /// What the subscriptions had counted that are dropped.
    pub(in crate::disk) dropped: Counts,
    /// The number of the last row of the history, also of one that is deleted; how many there are,
    /// and the bytes of their values together.
    pub(in crate::disk) last_history: u64,
    pub(in crate::disk) history: u64,
    pub(in crate::disk) history_bytes: u64,
    /// Keys that are remembered.
    pub(in crate::disk) keys: u64,
    /// Rows of replays.
    pub(in crate::disk) replays: u64,
    /// Rows of events that are kept for a time of their own.
    pub(in crate::disk) kept: u64,
}

/// The numbers of dropped subscriptions as the ledger keeps them: they held nothing any more.
fn dropped_numbers(counts: Counts) -> [u64; 6] {
    let Counts {
        created,
        delivered,
        redriven,
        purged,
        cancelled,
        quarantined,
        ..
    } = counts;
    [created, delivered, redriven, purged, cancelled, quarantined]
}

/// A time that is still to be found out.
pub(in crate::disk) const NOT_KNOWN: Timestamp = Timestamp(i64::MAX);

pub(in crate::disk) fn write_ledger(
    connection: &Connection,
    ledger: &Ledger,
) -> rusqlite::Result<()> {
    let Ledger {
        commit,
        last_sequence,
        last_run,
        old_identities_until,
        last_subscription,
        time,
        clock_offset,
        events,
        dead,
        rejects,
        quarantined,
        lost_commits,
        positions,
        dropped,
        last_history,
        history,
        history_bytes,
        keys,
        replays,
        kept,
    } = *ledger;
    let mut out = Encoder::new(32);
    for number in [
        commit,
        last_sequence,
        u64::from(last_subscription),
        events,
        dead,
        rejects,
        quarantined,
        last_run,
    ] {
        out.number(number);
    }
    out.time(old_identities_until)
        .number(lost_commits)
        .time(time)
        .time(Timestamp(clock_offset))
        .number(positions);
    for number in dropped_numbers(dropped) {
        out.number(number);
    }
    out.number(last_history)
        .number(history)
        .number(history_bytes)
        .number(keys)
        .number(replays)
        .number(kept);
    let value = out.seal(Table::Meta, &[key_of("ledger")]);
    connection
        .prepare_cached("REPLACE INTO meta VALUES ('ledger', ?1)")?
        .execute([value])
        .map(drop)
}

pub(in crate::disk) fn read_ledger(
    connection: &Connection,
) -> rusqlite::Result<Result<Ledger, Damage>> {
    let decode = |value: Vec<u8>| {
        let mut from = Decoder::open(Table::Meta, &[key_of("ledger")], &value)?;
        let mut ledger = Ledger {
            commit: from.number()?,
            last_sequence: from.number()?,
            last_subscription: from.narrow()?,
            events: from.number()?,
            dead: from.number()?,
            rejects: from.number()?,
            quarantined: from.number()?,
            old_identities_until: NOT_KNOWN,
            ..Ledger::default()
        };
        // That of format 1 ends here: runs were counted elsewhere.
        if !from.is_empty() {
            (ledger.last_run, ledger.old_identities_until) = (from.number()?, from.time()?);
        }
        // Nor was this counted at first.
        if !from.is_empty() {
            ledger.lost_commits = from.number()?;
        }
        if !from.is_empty() {
            (ledger.time, ledger.clock_offset) = (from.time()?, from.time()?.0);
        }
        // Until format 3 there were none.
        if !from.is_empty() {
            ledger.positions = from.number()?;
        }
        if !from.is_empty() {
            ledger.dropped = Counts {
                created: from.number()?,
                delivered: from.number()?,
                redriven: from.number()?,
                purged: from.number()?,
                cancelled: from.number()?,
                quarantined: from.number()?,
                ..Counts::default()
            };
        }
        // Until format 4 there was none.
        if !from.is_empty() {
            ledger.last_history = from.number()?;
            (ledger.history, ledger.history_bytes) = (from.number()?, from.number()?);
        }
        if !from.is_empty() {
            ledger.keys = from.number()?;
        }
        if !from.is_empty() {
            ledger.replays = from.number()?;
        }
        // Until format 5 there were none.
        if !from.is_empty() {
            ledger.kept = from.number()?;
        }
        Ok(ledger)
    };
    Ok(meta(connection, "ledger")?.and_then(decode))
}
