//! The history, one row for each entry.

use pointsman_schemas::{DeliveryId, Timestamp};

use super::state::{DeadKey, Delivery, State};
use crate::history::ENTRIES_OF_ONE_MAX;
use crate::queue::DeliveryKey;
use crate::shard::next_history;
use crate::{
    AttemptEntry, EndedPage, EndedSelection, Ending, HistoryEntry, HistoryPlace, Pending, Record,
    TaskLife, TaskState,
};

impl State {
    /// Notes what happened to a delivery.
    pub(super) fn note(&mut self, key: DeliveryKey, state: TaskState) {
        let entry = HistoryEntry {
            place: HistoryPlace { row: 0, entry: 0 },
            id: self.id(key),
            at: self.now.time,
            state,
            reason: None,
            next: None,
            attempt: None,
        };
        self.write(entry);
    }

    pub(super) fn note_dead(&mut self, key: DeliveryKey, reason: crate::DeadReason) {
        let entry = HistoryEntry {
            place: HistoryPlace { row: 0, entry: 0 },
            id: self.id(key),
            at: self.now.time,
            state: TaskState::of_dead(reason),
            reason: Some(reason),
            next: None,
            attempt: None,
        };
        self.write(entry);
    }

    fn write(&mut self, entry: HistoryEntry) {
        self.last_history = next_history(self.shard, self.last_history, self.now.time);
        let place = HistoryPlace {
            row: self.last_history,
            entry: 0,
        };
        self.history.insert(place, HistoryEntry { place, ..entry });
    }

    /// Notes what a settlement says of its attempt, and of what became of the delivery.
    pub(super) fn note_settled(
        &mut self,
        key: DeliveryKey,
        due: Timestamp,
        attempts: u32,
        ending: &Ending,
        record: Record,
    ) {
        let attempt = match record {
            Record::Nothing => return,
            Record::End => None,
            Record::Attempt(made) => Some(made),
        };
        let (Ok(state), false) = (
            ending.leads_to(TaskState::Retrying),
            *ending == Ending::Released,
        ) else {
            return;
        };
        let wait = attempt.as_ref().and_then(|made| made.wait);
        let next = match ending {
            Ending::Retry { at, .. } => wait.map(|wait| (*at, wait)),
            _ => None,
        };
        let reason = match ending {
            Ending::Dead { reason, .. } => Some(*reason),
            _ => None,
        };
        let entry = HistoryEntry {
            place: HistoryPlace { row: 0, entry: 0 },
            id: self.id(key),
            at: self.now.time,
            state,
            reason,
            next,
            attempt: attempt.map(|made| AttemptEntry::of(made, due, attempts + 1, ending.last())),
        };
        self.write(entry);
    }

    /// Deletes what is older than it is kept.
    pub(super) fn forget_history(&mut self) {
        let before = self.now.time.minus(self.options.history);
        while self
            .history
            .first_key_value()
            .is_some_and(|(_, entry)| entry.at <= before)
        {
            self.history.pop_first();
        }
    }

    pub(super) fn life(&self, id: DeliveryId) -> Option<TaskLife> {
        if id.epoch != self.epoch {
            return None;
        }
        let pending = self.pending_one(id);
        let dead = self.dead.get(&(id.sequence, id.subscription, id.run));
        let dead = dead.map(|dead| dead.letter.clone());
        let mut history: Vec<_> = self
            .history
            .values()
            .rev()
            .filter(|entry| entry.id == id)
            .take(ENTRIES_OF_ONE_MAX)
            .cloned()
            .collect();
        history.reverse();
        TaskLife::of(pending, dead, history, self.now.time)
    }

    fn pending_one(&self, id: DeliveryId) -> Option<Pending> {
        let (_, subscribed) = self
            .all_subscribed()
            .find(|(number, _)| *number == id.subscription)?;
        let delivery: &Delivery = subscribed.pending.get(&(id.sequence, id.run))?;
        let leased = self.queues.leased(id.subscription);
        Some(delivery.shown(id, leased.contains(&(id.sequence.0, id.run))))
    }

    pub(super) fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> EndedPage {
        let mut page = EndedPage::default();
        let is_behind = |place: &HistoryPlace| match after {
            None => true,
            Some(after) if selection.latest_first => *place < after,
            Some(after) => *place > after,
        };
        let forth = self.history.values();
        let entries: Box<dyn Iterator<Item = &HistoryEntry>> = if selection.latest_first {
            Box::new(forth.rev())
        } else {
            Box::new(forth)
        };
        for entry in entries.filter(|entry| is_behind(&entry.place)) {
            if !selection.selects_subscription(entry.id.subscription)
                || !selection.selects_event(entry.id.sequence)
                || !selection.may_select(entry.state)
                || selection.from.is_some_and(|from| entry.at < from)
                || selection.before.is_some_and(|before| entry.at >= before)
            {
                continue;
            }
            let state = self.state_now(entry);
            if !selection.selects_state(state) {
                continue;
            }
            if page.entries.len() == limit {
                page.next = page.entries.last().map(|last| last.place).or(after);
                break;
            }
            page.entries.push(HistoryEntry {
                state,
                ..entry.clone()
            });
        }
        page
    }

    /// What the run has become that an entry tells the end of.
    fn state_now(&self, entry: &HistoryEntry) -> TaskState {
        let key: DeadKey = (entry.id.sequence, entry.id.subscription, entry.id.run);
        let is_dead = matches!(entry.state, TaskState::Failed | TaskState::Expired);
        if !is_dead || self.dead.contains_key(&key) {
            return entry.state;
        }
        let purged = self
            .history
            .values()
            .any(|other| other.id == entry.id && other.state == TaskState::Purged);
        if purged {
            TaskState::Purged
        } else {
            entry.state
        }
    }
}
