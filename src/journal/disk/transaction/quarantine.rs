//! Setting damaged rows aside: they are moved as they are, counted, and logged.

use rusqlite::params;

use super::{Failure, Transaction, read_row};
use crate::journal::disk::queues::{Damaged, Effect};
use crate::journal::disk::record::Damage;
use crate::journal::disk::row::RowKey;

impl Transaction<'_> {
    /// Moves a row of `pending`. What it held is known from the counters: they say how many are pending, the other rows how many are left.
    pub(in crate::journal::disk) fn quarantine_row(&mut self, key: RowKey, why: &Damage) -> Result<(), Failure> {
        let RowKey { subscription, sequence, run } = key;
        self.set_aside(
            "pending",
            &format!("{subscription}/{sequence}/{run}"),
            why,
            "SELECT value FROM pending WHERE subscription = ?1 AND sequence = ?2 AND run = ?3",
            (subscription.into(), sequence.cast_signed(), key.run_column()),
        )?;
        self.delete(key)?;
        self.recount(subscription)
    }

    /// Brings a subscription's counters to what its rows hold; what is missing counts as quarantined.
    pub(in crate::journal::disk) fn recount(&mut self, subscription: u32) -> Result<(), Failure> {
        let mut select = self
            .connection
            .prepare_cached("SELECT subscription, sequence, run, due, order_key, value FROM pending WHERE subscription = ?1")?;
        let (mut pending, mut retrying) = (0, 0);
        for row in select.query_map([subscription], read_row)? {
            if let (_, Ok(row)) = row? {
                pending += row.sequences.len() as u64;
                retrying += u64::from(row.attempts > 0);
            }
        }
        let unwritten = self.fresh.get(&subscription).map_or(0, |fresh| fresh.len() as u64);
        let ended = self.ended.range((subscription, 0)..=(subscription, u64::MAX)).map(|(_, ended)| ended.len() as u64).sum::<u64>();
        let pending = (pending + unwritten).saturating_sub(ended);
        self.count(subscription, |counts| {
            counts.quarantined += counts.pending.saturating_sub(pending);
            counts.created += pending.saturating_sub(counts.pending);
            (counts.pending, counts.retrying) = (pending, retrying);
        });
        Ok(())
    }

    pub(super) fn quarantine_dead(&mut self, key: RowKey, why: &Damage) -> Result<(), Failure> {
        let RowKey { subscription, sequence, run } = key;
        self.set_aside(
            "dead",
            &format!("{sequence}/{subscription}/{run}"),
            why,
            "SELECT value FROM dead WHERE subscription = ?1 AND sequence = ?2 AND run = ?3",
            (subscription.into(), sequence.cast_signed(), run.into()),
        )?;
        let mut delete = self.connection.prepare_cached("DELETE FROM dead WHERE sequence = ?1 AND subscription = ?2 AND run = ?3")?;
        delete.execute(params![sequence.cast_signed(), subscription, run])?;
        self.changes.ledger.dead = self.changes.ledger.dead.saturating_sub(1);
        self.changes.ledger.rejects = self.changes.ledger.rejects.saturating_sub(u64::from(subscription == 0));
        self.count(subscription, |counts| {
            counts.dead = counts.dead.saturating_sub(1);
            counts.quarantined += 1;
        });
        Ok(())
    }

    /// Sets an event aside, and a delivery whose event it is.
    pub(in crate::journal::disk) fn quarantine_delivery(&mut self, damaged: &Damaged) -> Result<(), Failure> {
        self.flush()?;
        let key = damaged.key;
        self.quarantine_event(key.sequence, &damaged.why)?;
        let row = RowKey { sequence: damaged.block.unwrap_or(key.sequence), ..key };
        let row = if damaged.block.is_some() { RowKey { run: super::BLOCK_RUN, ..row } } else { row };
        let Some(found) = self.row(row)?.filter(|row| row.sequences.contains(&key.sequence)) else { return Ok(()) };
        self.take(key, damaged.block)?;
        self.flush()?;
        self.withheld.insert(key.subscription);
        self.changes.effects.push(Effect::Remove { key, due: damaged.due });
        self.count(key.subscription, |counts| {
            counts.quarantined += 1;
            counts.pending -= 1;
            counts.retrying -= u64::from(found.attempts > 0);
        });
        if let Some(order_key) = found.order_key {
            self.promote(key.subscription, order_key)?;
        }
        Ok(())
    }

    /// Sets an event aside; it may have been before.
    pub(in crate::journal::disk) fn quarantine_event(&mut self, sequence: u64, why: &Damage) -> Result<(), Failure> {
        let select = "SELECT record FROM events WHERE sequence = ?2 AND ?1 = ?3";
        let moved = self.set_aside("events", &sequence.to_string(), why, select, (0, sequence.cast_signed(), 0))?;
        if moved {
            self.connection.prepare_cached("DELETE FROM events WHERE sequence = ?1")?.execute([sequence.cast_signed()])?;
            self.changes.ledger.events = self.changes.ledger.events.saturating_sub(1);
        }
        Ok(())
    }

    fn set_aside(&mut self, place: &str, key: &str, why: &Damage, select: &str, at: (i64, i64, i64)) -> Result<bool, Failure> {
        let insert = format!("INSERT INTO quarantine (at, place, key, why, value) SELECT ?4, ?5, ?6, ?7, * FROM ({select})");
        let moved = self.connection.execute(&insert, params![at.0, at.1, at.2, self.now.0, place, key, why.0])? > 0;
        if moved {
            self.changes.ledger.quarantined += 1;
            tracing::error!(place, key, why = why.0, "a damaged record has been set aside");
        }
        Ok(moved)
    }
}
