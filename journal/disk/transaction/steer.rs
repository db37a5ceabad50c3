//! What operators do to single deliveries that wait: hold them back, let them go on, have them
//! tried now.

use std::sync::Arc;

use pointsman_schemas::DeliveryId;

use super::{Failure, Transaction};
use crate::disk::queues::Effect;
use crate::disk::row::{PendingRow, RowKey};
use crate::{Happening, IllegalTransition, TaskState};

/// What is done to a delivery that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Steer {
    Suspend,
    Resume,
    TryNow,
}

impl Steer {
    fn happening(self) -> Happening {
        match self {
            Self::Suspend => Happening::Suspend,
            Self::Resume => Happening::Resume,
            Self::TryNow => Happening::TryNow,
        }
    }
}

impl Transaction<'_> {
    /// The state that something leads to that happens to a delivery that is not in flight.
    pub(super) fn state_after(
        &self,
        row: &PendingRow,
        happening: Happening,
    ) -> Result<TaskState, IllegalTransition> {
        let waiting =
            |suspended| TaskState::waiting(suspended, row.attempts, row.due.time(), self.now);
        waiting(row.suspended).after(happening, waiting(false))
    }

    /// Does the same to each of these deliveries that is not in flight and in a state for it; tells
    /// to how many.
    pub(in crate::disk) fn steer(
        &mut self,
        deliveries: &[DeliveryId],
        how: Steer,
    ) -> Result<u64, Failure> {
        self.flush()?;
        let (mut count, epochs) = (0, Arc::clone(&self.committed.epochs));
        for key in deliveries.iter().filter_map(|id| epochs.key(id)) {
            let Some(row) = self.find(key)? else { continue };
            let Ok(state) = self.state_after(&row, how.happening()) else {
                continue;
            };
            if self.steer_one(key, row, how)? {
                self.note_state(key, state)?;
                count += 1;
            }
        }
        let paused = deliveries.iter().map(|id| id.subscription.0);
        let paused: std::collections::BTreeSet<u32> = paused.collect();
        self.changes
            .effects
            .extend(paused.into_iter().map(Effect::Resume));
        Ok(count)
    }

    /// Changes how one waits; false where it is in flight.
    fn steer_one(&mut self, key: RowKey, row: PendingRow, how: Steer) -> Result<bool, Failure> {
        if !self.queues.lock().withhold(key, row.due) {
            return Ok(false);
        }
        if self.withheld.insert(key.subscription) {
            self.queues.lock().pause(key.subscription);
        }
        self.changes
            .effects
            .push(Effect::Remove { key, due: row.due });
        let mut changed = PendingRow {
            key,
            sequences: [key.sequence].into_iter().collect(),
            ..row.clone()
        };
        match how {
            Steer::Suspend => changed.suspended = true,
            Steer::Resume => changed.suspended = false,
            Steer::TryNow => {
                let due = row.due.time().min(self.now);
                (changed.due, changed.since) = (row.due.at(due), row.since.min(self.now));
            }
        }
        if row.is_block() {
            self.take(key, Some(row.key.sequence))?;
            self.flush()?;
            self.insert(changed)?;
        } else {
            self.update(&changed)?;
            if changed.is_queued() {
                self.changes.effects.push(Effect::Insert(changed));
            }
        }
        Ok(true)
    }
}
