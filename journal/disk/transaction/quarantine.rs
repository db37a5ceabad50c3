//! Setting damaged rows aside: they are moved as they are, counted, and logged.

use std::collections::BTreeSet;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params, params_from_iter};

use super::{Failure, Transaction, leave_dead, leave_pending};
use crate::ReplayKind;
use crate::disk::actual::Actual;
use crate::disk::queues::{Damaged, Effect};
use crate::disk::record::{Damage, Subscribed};
use crate::disk::row::{BLOCK_RUN, RowKey, read_row};
use crate::disk::tables::DamagedKey;
use crate::disk::trouble::corrupt;

impl Transaction<'_> {
    /// Moves a row of `pending`. What it held is known from the counters: they say how many are
    /// pending, the other rows how many are left.
    pub(in crate::disk) fn quarantine_row(
        &mut self,
        key: RowKey,
        why: &Damage,
    ) -> Result<(), Failure> {
        let values = vec![
            Value::from(key.subscription),
            Value::from(key.sequence.cast_signed()),
            Value::from(key.run_column()),
        ];
        self.quarantine("pending", &DamagedKey(values), why)?;
        // A block with deliveries of it that ended in this transaction has been read, and was sound
        // then.
        if key.run == BLOCK_RUN {
            self.ended.remove(&(key.subscription, key.sequence));
        }
        self.recount(key.subscription)?;
        self.promote_all(Some(key.subscription))
    }

    /// Frees the first delivery of every order key whose first one was set aside or is gone; of one
    /// subscription or of all.
    fn promote_all(&mut self, subscription: Option<u32>) -> Result<(), Failure> {
        let of = if subscription.is_some() {
            "p.subscription = ?1"
        } else {
            "?1 IS NULL"
        };
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT p.subscription, p.order_key FROM pending p
             WHERE p.order_key IS NOT NULL AND p.due IS NULL AND {of} AND NOT EXISTS (
                 SELECT 1 FROM pending q
                 WHERE q.subscription = p.subscription AND q.order_key = p.order_key
                     AND (q.sequence, q.run) < (p.sequence, p.run))"
        ))?;
        let stuck = select.query_map([subscription], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?))
        })?;
        let stuck: Vec<_> = stuck.collect::<rusqlite::Result<_>>()?;
        stuck.into_iter().try_for_each(|(subscription, order_key)| {
            self.promote(subscription, order_key.cast_unsigned())
        })
    }

    /// Moves a damaged row of any table to `quarantine` and counts it; false where it is not there.
    fn set_aside(&mut self, table: &str, key: &DamagedKey, why: &Damage) -> Result<bool, Failure> {
        // It is whole in the log.
        if self.touched.is_some() {
            return Err(corrupt(format!("{table} ({key}): {why}")).into());
        }
        let (columns, value) = match table {
            "events" => ("sequence = ?1", "record"),
            "pending" => ("subscription = ?1 AND sequence = ?2 AND run = ?3", "value"),
            "dead" => ("sequence = ?1 AND subscription = ?2 AND run = ?3", "value"),
            "cursors" => ("tenant = ?1 AND source = ?2", "value"),
            "positions" => ("tenant = ?1 AND source = ?2 AND key = ?3", "value"),
            "history" => ("number = ?1", "value"),
            "replays" => ("id = ?1", "value"),
            "kept" => ("sequence = ?1", "value"),
            _ => ("high = ?1 AND low = ?2", "value"),
        };
        let read = format!("SELECT {value} FROM {table} WHERE {columns}");
        let found: Option<Value> = self
            .connection
            .query_row(&read, params_from_iter(&key.0), |row| row.get(0))
            .optional()?;
        let Some(value) = found else { return Ok(false) };
        self.connection.execute(
            "INSERT INTO quarantine (at, place, key, why, value) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![self.now.0, table, key.to_string(), why.0, value],
        )?;
        self.connection.execute(
            &format!("DELETE FROM {table} WHERE {columns}"),
            params_from_iter(&key.0),
        )?;
        self.changes.ledger.quarantined += 1;
        // It may have been the last that referred to something.
        self.changes.walk.look_again(0);
        tracing::error!(table, %key, why = why.0, "a damaged record has been set aside");
        Ok(true)
    }

    /// Moves a damaged row; the counters of its table are [`Transaction::reconcile`]'s or
    /// [`Transaction::recount`]'s to mend.
    pub(in crate::disk) fn quarantine(
        &mut self,
        table: &str,
        key: &DamagedKey,
        why: &Damage,
    ) -> Result<(), Failure> {
        self.set_aside(table, key, why).map(drop)
    }

    /// Brings every counter to what the rows hold; what is missing counts as quarantined.
    pub(in crate::disk) fn reconcile(&mut self) -> Result<(), Failure> {
        let actual = Actual::count(self.connection)?;
        let numbers: BTreeSet<u32> = self
            .committed
            .subscriptions
            .keys()
            .chain(actual.subscriptions.keys())
            .copied()
            .collect();
        let lost = |counted: u64, found: u64| counted.saturating_sub(found);
        let ledger = &mut self.changes.ledger;
        ledger.last_sequence = ledger.last_sequence.max(actual.last_sequence);
        let mut missing = lost(ledger.events, actual.events)
            + lost(ledger.dead, actual.dead)
            + lost(ledger.positions, actual.positions)
            + lost(ledger.history, actual.history.0)
            + lost(ledger.keys, actual.keys)
            + lost(ledger.replays, actual.replays)
            + lost(ledger.kept, actual.kept);
        (ledger.events, ledger.dead, ledger.rejects) = (actual.events, actual.dead, actual.rejects);
        ledger.positions = actual.positions;
        (ledger.history, ledger.history_bytes) = actual.history;
        (ledger.keys, ledger.replays) = (actual.keys, actual.replays);
        let has_lost_kept = ledger.kept > actual.kept;
        ledger.kept = actual.kept;
        self.changes.walk.look_again(0);
        if has_lost_kept {
            self.restore_kept()?;
        }
        for number in numbers {
            let (pending, retrying, dead) = actual
                .subscriptions
                .get(&number)
                .copied()
                .unwrap_or_default();
            if self.subscription(number).is_none() {
                self.changes
                    .subscriptions
                    .insert(number, Subscribed::placeholder(number));
                self.changes.ledger.last_subscription =
                    self.changes.ledger.last_subscription.max(number);
                missing += 1;
            }
            self.count(number, |counts| {
                missing += lost(counts.pending, pending);
                counts.quarantined += lost(counts.pending, pending) + lost(counts.dead, dead);
                counts.created += lost(pending, counts.pending) + lost(dead, counts.dead);
                (counts.pending, counts.retrying, counts.dead) = (pending, retrying, dead);
            });
        }
        // What was set aside just now is counted, and is among the missing.
        let set_aside = self.changes.ledger.quarantined - self.committed.ledger.quarantined;
        self.changes.ledger.quarantined += missing.saturating_sub(set_aside);
        self.restore_replays()?;
        self.promote_all(None)
    }

    /// Writes the replays anew that subscriptions began with, are known by these, and have no row:
    /// nobody else would go on with them, and the subscriptions wait for that.
    fn restore_replays(&mut self) -> Result<(), Failure> {
        let exists = "SELECT 1 FROM replays WHERE id = ?1";
        for (number, replay) in &self.committed.replays {
            let is_wanted = replay.kind == ReplayKind::Start && replay.is_running();
            let mut select = self.connection.prepare_cached(exists)?;
            if is_wanted && !select.exists([number.cast_signed()])? {
                self.changes.replays.insert(*number, Some(replay.clone()));
            }
        }
        Ok(())
    }

    /// Brings a subscription's counters to what its rows hold; what is missing counts as
    /// quarantined.
    fn recount(&mut self, subscription: u32) -> Result<(), Failure> {
        let mut select = self.connection.prepare_cached(
            "SELECT subscription, sequence, run, due, order_key, value FROM pending
             WHERE subscription = ?1",
        )?;
        let (mut pending, mut retrying) = (0, 0);
        for row in select.query_map([subscription], read_row)? {
            if let (_, Ok(row)) = row? {
                pending += row.sequences.len() as u64;
                retrying += u64::from(row.attempts > 0);
            }
        }
        let unwritten = self
            .fresh
            .get(&subscription)
            .map_or(0, |fresh| fresh.len() as u64);
        let ended = self
            .ended
            .range((subscription, 0)..=(subscription, u64::MAX))
            .map(|(_, block)| block.ended.len() as u64)
            .sum::<u64>();
        let pending = (pending + unwritten).saturating_sub(ended);
        self.count(subscription, |counts| {
            counts.quarantined += counts.pending.saturating_sub(pending);
            counts.created += pending.saturating_sub(counts.pending);
            (counts.pending, counts.retrying) = (pending, retrying);
        });
        Ok(())
    }

    pub(super) fn quarantine_dead(&mut self, key: RowKey, why: &Damage) -> Result<(), Failure> {
        let RowKey {
            subscription,
            sequence,
            run,
        } = key;
        let values = vec![
            Value::from(sequence.cast_signed()),
            Value::from(subscription),
            Value::from(run.cast_signed()),
        ];
        self.quarantine("dead", &DamagedKey(values), why)?;
        self.changes.ledger.dead = self.changes.ledger.dead.saturating_sub(1);
        self.changes.ledger.rejects = self
            .changes
            .ledger
            .rejects
            .saturating_sub(u64::from(subscription == 0));
        self.count(subscription, |counts| {
            counts.quarantined += 1;
            leave_dead(counts);
        });
        Ok(())
    }

    /// Sets an event aside, and a delivery whose event it is.
    pub(in crate::disk) fn quarantine_delivery(
        &mut self,
        damaged: &Damaged,
    ) -> Result<(), Failure> {
        self.flush()?;
        let key = damaged.key;
        self.quarantine_event(key.sequence, &damaged.why)?;
        let row = RowKey {
            sequence: damaged.block.unwrap_or(key.sequence),
            ..key
        };
        let row = if damaged.block.is_some() {
            RowKey {
                run: BLOCK_RUN,
                ..row
            }
        } else {
            row
        };
        let Some(found) = self
            .row(row)?
            .filter(|row| row.sequences.contains(&key.sequence))
        else {
            return Ok(());
        };
        self.take(key, damaged.block)?;
        self.flush()?;
        self.withheld.insert(key.subscription);
        self.changes.effects.push(Effect::Remove {
            key,
            due: damaged.due,
        });
        self.count(key.subscription, |counts| {
            counts.quarantined += 1;
            leave_pending(counts, found.attempts > 0);
        });
        if let Some(order_key) = found.order_key {
            self.promote(key.subscription, order_key)?;
        }
        Ok(())
    }

    /// Sets an event aside; it may have been before.
    fn quarantine_event(&mut self, sequence: u64, why: &Damage) -> Result<(), Failure> {
        if self.set_aside(
            "events",
            &DamagedKey(vec![Value::from(sequence.cast_signed())]),
            why,
        )? {
            self.changes.ledger.events = self.changes.ledger.events.saturating_sub(1);
        }
        Ok(())
    }
}
