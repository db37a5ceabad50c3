//! The small tables, read when a store is opened; what of them is damaged is put back together from
//! the large ones.

use std::sync::Arc;

use pointsman_schemas::{JournalId, Timestamp};
use rusqlite::Connection;

use crate::Counts;
use crate::disk::committed::{CommittedState, SEQUENCES_SKIPPED, SUBSCRIPTIONS_SKIPPED};
use crate::disk::epochs::Epochs;
use crate::disk::reader;
use crate::disk::record::{Seen, Subscribed};
use crate::disk::schema::{self, Ledger, Walk};

/// Reads the small tables; what of them is damaged is put back together from the large ones.
pub(super) fn read_committed(
    connection: &Connection,
    now: Timestamp,
    findings: &mut Vec<String>,
) -> rusqlite::Result<CommittedState> {
    let mut damaged = 0;
    if let Err(damage) = schema::journal_id(connection)? {
        damaged += 1;
        findings.push(format!(
            "the journal's identity is damaged ({damage}); it gets a new one, and ids of \
             deliveries told before are void"
        ));
        schema::write_identity(connection, JournalId(rand::random()), now)?;
    }
    let mut committed = CommittedState::default();
    match schema::read_ledger(connection)? {
        Ok(ledger) => committed.ledger = ledger,
        Err(damage) => {
            findings.push(format!(
                "the ledger is damaged ({damage}); it is counted anew"
            ));
            committed.ledger = count_ledger(connection)?;
        }
    }
    if committed.ledger.old_identities_until == schema::NOT_KNOWN {
        committed.ledger.old_identities_until = last_identity(connection)?;
    }
    for (number, subscribed) in reader::subscriptions(connection)? {
        let subscribed = match subscribed {
            Ok(subscribed) => subscribed,
            Err(damage) => {
                let placeholder = Subscribed::placeholder(number);
                let rule = &placeholder.identity.rule;
                findings.push(format!(
                    "subscription {number} is damaged ({damage}); its deliveries wait for a rule \
                     with `renamed_from: {rule}`"
                ));
                committed.ledger.quarantined += 1;
                placeholder
            }
        };
        committed.ledger.last_run = committed
            .ledger
            .last_run
            .max(subscribed.runs_of_format_1.into());
        committed.subscriptions.insert(number, subscribed);
    }
    for replay in committed.read_replays(connection)? {
        findings.push(format!(
            "the replay {replay} that a subscription began with is damaged or gone; it goes on as \
             far as the subscription knows"
        ));
    }
    committed.walk = schema::read_walk(connection)?.unwrap_or_else(|damage| {
        damaged += 1;
        findings.push(format!(
            "how far retention has come is damaged ({damage}); it begins from the first event"
        ));
        Walk::default()
    });
    let epochs = schema::read_epochs(connection)?.unwrap_or_else(|damage| {
        damaged += 1;
        findings.push(format!(
            "the epochs are damaged ({damage}); ids of deliveries told before are void"
        ));
        Epochs::of_format_1(JournalId(rand::random()))
    });
    committed.epochs = Arc::new(epochs);
    committed.ledger.quarantined += damaged;
    Ok(committed)
}

/// When the last of the identities is forgotten that deduplication remembers.
fn last_identity(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let mut select = connection.prepare("SELECT high, low, value FROM identities")?;
    let mut rows = select.query([])?;
    let mut last = Timestamp(i64::MIN);
    while let Some(row) = rows.next()? {
        let key = [row.get::<_, i64>(0)?, row.get(1)?].map(i64::cast_unsigned);
        let seen = Seen::decode(key, row.get_ref(2)?.as_blob().unwrap_or_default());
        last = last.max(seen.map_or(last, |seen| seen.until));
    }
    Ok(last)
}

fn count_ledger(connection: &Connection) -> rusqlite::Result<Ledger> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, Option<i64>>(0))
            .map(|n| n.unwrap_or(0).cast_unsigned())
    };
    let last = ["events", "dead", "pending"]
        .map(|table| number(&format!("SELECT max(sequence) FROM {table}")));
    let mut highest = 0;
    for last in last {
        highest = highest.max(last?);
    }
    let last_run = number("SELECT max(run) FROM dead")?
        .max(number("SELECT max(run) FROM pending WHERE run >= 0")?);
    let subscription = number("SELECT max(number) FROM subscriptions")?
        .max(number("SELECT max(subscription) FROM pending")?);
    Ok(Ledger {
        commit: 0,
        last_sequence: highest + SEQUENCES_SKIPPED,
        last_run,
        old_identities_until: schema::NOT_KNOWN,
        time: Timestamp(i64::MIN),
        clock_offset: 0,
        positions: number("SELECT count(*) FROM positions")?,
        last_subscription: u32::try_from(subscription).unwrap_or(u32::MAX >> 1)
            + SUBSCRIPTIONS_SKIPPED,
        events: number("SELECT count(*) FROM events")?,
        dead: number("SELECT count(*) FROM dead")?,
        rejects: number("SELECT count(*) FROM dead WHERE subscription = 0")?,
        quarantined: number("SELECT count(*) FROM quarantine")? + 1,
        lost_commits: 0,
        dropped: Counts::default(),
        last_history: number("SELECT max(number) FROM history")? + SEQUENCES_SKIPPED,
        history: number("SELECT count(*) FROM history")?,
        history_bytes: number("SELECT sum(length(value)) FROM history")?,
        keys: number("SELECT count(*) FROM keys")?,
        replays: number("SELECT count(*) FROM replays")?,
        kept: number("SELECT count(*) FROM kept")?,
    })
}
