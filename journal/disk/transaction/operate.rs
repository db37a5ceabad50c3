//! What operators and reloads do.

use std::collections::BTreeSet;
use std::sync::Arc;

use pointsman_schemas::{DeliveryId, Name, SubscriptionNumber};
use rusqlite::{OptionalExtension, params};

use super::{Failure, Transaction, leave_dead, leave_pending};
use crate::disk::attachment::{Attachment, Change};
use crate::disk::queues::Effect;
use crate::disk::reader::{self, DeadKey};
use crate::disk::record::{DeadRow, Subscribed};
use crate::disk::row::{BLOCK_RUN, PendingRow, RowKey, read_row};
use crate::{
    Activity, BacklogQuota, Counts, DeadReason, DeadSelection, Happening, JournalError, TaskState,
};

/// What one transaction looks at of an operation on many: the writer must not be held up by an
/// operator.
pub(in crate::disk) const ROWS_PER_PAGE: usize = 500;

/// How far an operation on many has come.
#[derive(Clone, Debug, Default)]
pub(in crate::disk) struct Page<K> {
    /// How many it was done to.
    pub(in crate::disk) count: u64,
    /// Where to go on; none at the end.
    pub(in crate::disk) next: Option<K>,
}

impl Transaction<'_> {
    /// The first so many subscriptions from this number on.
    pub(in crate::disk) fn attachments(&self, from: u32, limit: usize) -> Vec<(u32, Attachment)> {
        let committed = self
            .committed
            .subscriptions
            .range(from..)
            .map(|(number, _)| *number)
            .take(limit);
        let changed = self
            .changes
            .subscriptions
            .keys()
            .copied()
            .filter(|number| *number >= from);
        let numbers: BTreeSet<u32> = committed.chain(changed).collect();
        let attachment = |number| {
            let Subscribed {
                identity,
                backlog,
                attached,
                ..
            } = self.subscription(number)?;
            Some((
                number,
                Attachment {
                    identity: identity.clone(),
                    backlog: *backlog,
                    is_attached: *attached,
                },
            ))
        };
        numbers
            .into_iter()
            .take(limit)
            .filter_map(attachment)
            .collect()
    }

    /// Attaches and detaches, and gives numbers to what has none. Numbers come back in the order of
    /// the changes.
    pub(in crate::disk) fn set_attachments(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<SubscriptionNumber>, Failure> {
        let mut numbers = Vec::with_capacity(changes.len());
        for (
            number,
            Attachment {
                identity,
                backlog,
                is_attached,
            },
            start,
        ) in changes.iter().cloned()
        {
            let last = &mut self.changes.ledger.last_subscription;
            let number = number.unwrap_or(*last + 1);
            let start = start.filter(|_| number > *last);
            *last = number.max(*last);
            let kept = self.subscription(number).map(|old| {
                let (activity, runs) = (old.activity, old.runs_of_format_1);
                (activity, runs, old.counts, old.elsewhere, old.catching_up)
            });
            let (activity, runs_of_format_1, counts, elsewhere, catching_up) =
                kept.unwrap_or((Activity::Active, 0, Counts::default(), 0, None));
            let subscribed = Subscribed {
                identity,
                attached: is_attached,
                activity,
                backlog,
                runs_of_format_1,
                counts,
                elsewhere,
                catching_up,
            };
            let effect = Effect::Open(number, subscribed.is_open());
            self.changes.effects.push(effect);
            self.changes.subscriptions.insert(number, subscribed);
            if let Some(start) = start {
                self.start(number, start)?;
            }
            numbers.push(SubscriptionNumber(number));
        }
        Ok(numbers)
    }

    pub(in crate::disk) fn last_subscription(&self) -> SubscriptionNumber {
        SubscriptionNumber(self.changes.ledger.last_subscription)
    }

    /// Puts quotas in the place of those before, once this is committed.
    pub(in crate::disk) fn set_quotas(&mut self, quotas: Vec<BacklogQuota>) {
        self.changes.quotas = Some(quotas);
    }

    /// Drops what is detached and holds nothing, at most so many; tells how many.
    pub(in crate::disk) fn drop_detached(&mut self, limit: usize) -> usize {
        let is_nothing_left = |(_, subscribed): &(&u32, &Subscribed)| subscribed.is_nothing_left();
        let gone: Vec<u32> = self
            .committed
            .subscriptions
            .iter()
            .filter(is_nothing_left)
            .map(|(number, _)| *number)
            .take(limit)
            .collect();
        // A change of them is all it takes.
        for number in &gone {
            self.subscription_mut(*number);
        }
        gone.len()
    }

    pub(in crate::disk) fn set_activity(
        &mut self,
        number: u32,
        activity: Activity,
    ) -> Result<(), Failure> {
        let subscribed = self
            .subscription_mut(number)
            .ok_or_else(|| not_found(number))?;
        subscribed.activity = activity;
        let open = subscribed.attached && activity == Activity::Active;
        self.changes.effects.push(Effect::Open(number, open));
        Ok(())
    }

    pub(in crate::disk) fn cancel(&mut self, deliveries: &[DeliveryId]) -> Result<u64, Failure> {
        self.end_waiting(deliveries, Happening::Cancel)
    }

    /// Makes dead letters of deliveries that wait.
    pub(in crate::disk) fn skip(&mut self, deliveries: &[DeliveryId]) -> Result<u64, Failure> {
        self.end_waiting(deliveries, Happening::Skip)
    }

    /// Ends those of these deliveries that are not in flight: as cancelled or as skipped.
    fn end_waiting(
        &mut self,
        deliveries: &[DeliveryId],
        happening: Happening,
    ) -> Result<u64, Failure> {
        self.flush()?;
        let mut count = 0;
        let epochs = Arc::clone(&self.committed.epochs);
        for key in deliveries.iter().filter_map(|id| epochs.key(id)) {
            let Some(row) = self.find(key)? else { continue };
            let Ok(state) = self.state_after(&row, happening) else {
                continue;
            };
            if !self.queues.lock().withhold(key, row.due) {
                continue;
            }
            if self.withheld.insert(key.subscription) {
                self.queues.lock().pause(key.subscription);
            }
            self.changes
                .effects
                .push(Effect::Remove { key, due: row.due });
            self.take(key, row.is_block().then_some(row.key.sequence))?;
            self.flush()?;
            self.count(key.subscription, |counts| {
                counts.cancelled += u64::from(happening == Happening::Cancel);
                leave_pending(counts, row.attempts > 0);
            });
            match happening {
                Happening::Skip => self.dead_letter_skipped(key, &row)?,
                _ => self.note_end(key, state, None)?,
            }
            if let (Some(order_key), false) = (row.order_key, row.parked) {
                self.promote(key.subscription, order_key)?;
            }
            count += 1;
        }
        let touched: BTreeSet<u32> = deliveries.iter().map(|id| id.subscription.0).collect();
        self.changes
            .effects
            .extend(touched.into_iter().map(Effect::Resume));
        Ok(count)
    }

    fn dead_letter_skipped(&mut self, key: RowKey, row: &PendingRow) -> Result<(), Failure> {
        let Some(subscribed) = self.subscription(key.subscription) else {
            return Ok(());
        };
        let tenant = subscribed.identity.tenant.clone();
        // An event that cannot be read is set aside with all that refers to it once somebody
        // leases or redrives it.
        let origin = match reader::event(self.connection, key.sequence)? {
            Some(Ok(stored)) => stored.origin,
            _ => Name::ingress(),
        };
        let (at, reason) = (self.now, DeadReason::Skipped);
        self.note_dead(key, reason)?;
        self.dead_letter(
            key,
            &DeadRow {
                tenant,
                origin,
                reason,
                at,
                attempts: row.attempts,
                order_key: row.order_key,
                last: row.last.clone(),
                reject: None,
                replay: row.replay,
                edited: None,
            },
        )
    }

    /// The row that a pending delivery lies in: its own, or a block.
    pub(super) fn find(&mut self, key: RowKey) -> Result<Option<PendingRow>, Failure> {
        if key.run == BLOCK_RUN {
            return Ok(None);
        }
        if let Some(row) = self.row(key)? {
            return Ok(Some(row));
        }
        if key.run != 0 {
            return Ok(None);
        }
        let mut select = self.connection.prepare_cached(
            "SELECT subscription, sequence, run, due, order_key, value
             FROM pending INDEXED BY blocks
             WHERE subscription = ?1 AND run < 0 AND sequence <= ?2 ORDER BY sequence DESC LIMIT 1",
        )?;
        match select
            .query_row(
                params![key.subscription, key.sequence.cast_signed()],
                read_row,
            )
            .optional()?
        {
            Some((_, Ok(row))) => Ok(Some(row).filter(|row| row.sequences.contains(&key.sequence))),
            Some((key, Err(damage))) => self.quarantine_row(key, &damage).map(|()| None),
            None => Ok(None),
        }
    }

    /// Purges what a selection finds behind `after`.
    pub(in crate::disk) fn purge(
        &mut self,
        selection: &DeadSelection,
        after: Option<DeadKey>,
        rows: usize,
    ) -> Result<Page<DeadKey>, Failure> {
        let page = self.dead_page(selection, after, rows)?;
        let count = page.rows.len() as u64;
        for (key, dead) in page.rows {
            self.delete_dead(key)?;
            let state = TaskState::of_dead(dead.reason);
            if key.subscription > 0
                && let Ok(purged) = state.after(Happening::Purge, state)
            {
                self.note_end(key, purged, None)?;
            }
            self.count(key.subscription, |counts| counts.purged += 1);
        }
        Ok(Page {
            count,
            next: page.next,
        })
    }

    pub(super) fn dead_page(
        &mut self,
        selection: &DeadSelection,
        after: Option<DeadKey>,
        rows: usize,
    ) -> Result<reader::DeadPage, Failure> {
        let identity = |number: u32| {
            self.subscription(number)
                .map(|subscribed| subscribed.identity.clone())
        };
        let mut page = reader::dead_page(
            self.connection,
            &self.committed.epochs,
            selection,
            after,
            rows,
            &identity,
        )?;
        for (key, damage) in std::mem::take(&mut page.damaged) {
            self.quarantine_dead(key, &damage)?;
        }
        Ok(page)
    }

    pub(super) fn delete_dead(&mut self, key: RowKey) -> Result<(), Failure> {
        self.touch_dead(key);
        let RowKey {
            subscription,
            sequence,
            run,
        } = key;
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM dead WHERE sequence = ?1 AND subscription = ?2 AND run = ?3",
        )?;
        delete.execute(params![
            sequence.cast_signed(),
            subscription,
            run.cast_signed()
        ])?;
        // The sequence of a reject is no event's.
        if subscription > 0 {
            self.free(sequence);
        }
        let ledger = &mut self.changes.ledger;
        ledger.dead = ledger.dead.saturating_sub(1);
        ledger.rejects = ledger.rejects.saturating_sub(u64::from(subscription == 0));
        self.count(subscription, leave_dead);
        Ok(())
    }

    /// Whether a subscription has a delivery of an event pending or dead.
    pub(super) fn refers(&mut self, number: u32, sequence: u64) -> Result<bool, Failure> {
        let exists = |sql: &str| -> Result<bool, Failure> {
            Ok(self
                .connection
                .prepare_cached(sql)?
                .exists(params![number, sequence.cast_signed()])?)
        };
        Ok(
            exists("SELECT 1 FROM pending WHERE subscription = ?1 AND sequence = ?2 AND run >= 0")?
                || exists("SELECT 1 FROM dead WHERE subscription = ?1 AND sequence = ?2")?
                || self
                    .find(RowKey {
                        subscription: number,
                        sequence,
                        run: 0,
                    })?
                    .is_some(),
        )
    }
}

pub(super) fn not_found(number: u32) -> JournalError {
    JournalError::NotFound(format!("subscription {number}"))
}
