//! What the rows add up to, which the stored counters must say too.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::committed::CommittedState;
use super::record::Subscribed;
use super::row::{RowKey, read_row};
use super::schema::Ledger;

/// What the rows add up to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Actual {
    pub(super) events: u64,
    pub(super) dead: u64,
    pub(super) rejects: u64,
    pub(super) positions: u64,
    /// Rows of the history, and the bytes of their values.
    pub(super) history: (u64, u64),
    pub(super) keys: u64,
    pub(super) replays: u64,
    pub(super) kept: u64,
    /// The highest sequence that anything has.
    pub(super) last_sequence: u64,
    /// Pending, retrying, dead.
    pub(super) subscriptions: BTreeMap<u32, (u64, u64, u64)>,
}

impl Actual {
    pub(super) fn count(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| {
            connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .map(i64::cast_unsigned)
        };
        let mut actual = Self {
            events: number("SELECT count(*) FROM events")?,
            dead: number("SELECT count(*) FROM dead")?,
            rejects: number("SELECT count(*) FROM dead WHERE subscription = 0")?,
            positions: number("SELECT count(*) FROM positions")?,
            replays: number("SELECT count(*) FROM replays")?,
            history: (
                number("SELECT count(*) FROM history")?,
                number("SELECT coalesce(sum(length(value)), 0) FROM history")?,
            ),
            keys: number("SELECT count(*) FROM keys")?,
            kept: number("SELECT count(*) FROM kept")?,
            last_sequence: number(
                "SELECT max(coalesce((SELECT max(sequence) FROM events), 0), coalesce((SELECT max(sequence) FROM dead), 0))",
            )?,
            subscriptions: BTreeMap::new(),
        };
        let mut pending = connection
            .prepare("SELECT subscription, sequence, run, due, order_key, value FROM pending")?;
        let mut rows = pending.query([])?;
        while let Some(row) = rows.next()? {
            if let Ok((RowKey { subscription, .. }, Ok(row))) = read_row(row) {
                let (pending, retrying, _) = actual.subscriptions.entry(subscription).or_default();
                actual.last_sequence = actual
                    .last_sequence
                    .max(row.sequences.last().copied().unwrap_or_default());
                *pending += row.sequences.len() as u64;
                *retrying += u64::from(row.attempts > 0);
            }
        }
        let mut dead = connection.prepare(
            "SELECT subscription, count(*) FROM dead WHERE subscription > 0 GROUP BY subscription",
        )?;
        let mut rows = dead.query([])?;
        while let Some(row) = rows.next()? {
            actual.subscriptions.entry(row.get(0)?).or_default().2 =
                row.get::<_, i64>(1)?.cast_unsigned();
        }
        Ok(actual)
    }

    pub(super) fn agrees(&self, committed: &CommittedState) -> bool {
        let Ledger {
            events,
            dead,
            rejects,
            positions,
            history,
            history_bytes,
            keys,
            replays,
            kept,
            ..
        } = committed.ledger;
        let counts = |subscribed: &Subscribed| {
            (
                subscribed.counts.pending,
                subscribed.counts.retrying,
                subscribed.counts.dead,
            )
        };
        (self.events, self.dead, self.rejects, self.positions) == (events, dead, rejects, positions)
            && (self.history, self.replays) == ((history, history_bytes), replays)
            && (self.keys, self.kept) == (keys, kept)
            && self
                .subscriptions
                .keys()
                .all(|number| committed.subscriptions.contains_key(number))
            && committed.subscriptions.iter().all(|(number, subscribed)| {
                self.subscriptions.get(number).copied().unwrap_or_default() == counts(subscribed)
            })
    }
}
