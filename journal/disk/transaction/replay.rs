//! Replays, and redrives some at a time.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{DeliveryId, Event, Sequence, SubscriptionNumber};
use rusqlite::params;
use rusqlite::types::Value;

use super::append::full;
use super::operate::not_found;
use super::{Cause, Failure, Transaction};
use crate::disk::queues::Effect;
use crate::disk::reader::{self, DeadKey};
use crate::disk::record::{CatchingUp, DeadRow, EventRow, encode_replay};
use crate::disk::row::{PendingRow, RowKey};
use crate::shard::before_first;
use crate::{
    AfterStep, Backlog, DeadSelection, ENDED_REPLAYS_MAX, JournalError, NewDelivery, NewReplay,
    REPLAY_PENDING_MAX, Redrive, Redriven, Replay, ReplayId, ReplayKind, ReplayState, ReplayStep,
    Replayed, Start,
};

/// Dead letters that one transaction looks at: the writer must not be held up by an operator.
const ROWS_PER_STEP: usize = 500;

impl Transaction<'_> {
    /// Writes the replays that have changed.
    pub(super) fn write_replays(&mut self) -> Result<(), Failure> {
        for (number, replay) in &self.changes.replays {
            let number = number.cast_signed();
            if let Some(touched) = &self.touched {
                touched.note("replays", &vec![Value::from(number)]);
            }
            let rows = &mut self.changes.ledger.replays;
            let Some(replay) = replay else {
                let delete = "DELETE FROM replays WHERE id = ?1";
                let deleted = self.connection.prepare_cached(delete)?.execute([number])?;
                *rows = rows.saturating_sub(deleted as u64);
                continue;
            };
            let row = params![number, encode_replay(replay)];
            let update = "UPDATE replays SET value = ?2 WHERE id = ?1";
            if self.connection.prepare_cached(update)?.execute(row)? == 0 {
                let insert = "INSERT INTO replays VALUES (?1, ?2)";
                self.connection.prepare_cached(insert)?.execute(row)?;
                *rows += 1;
            }
        }
        Ok(())
    }

    fn found(&self, id: ReplayId) -> Result<&Replay, JournalError> {
        let number = id.number();
        let found = match self.changes.replays.get(&number) {
            Some(changed) => changed.as_ref(),
            None => self.committed.replays.get(&number),
        };
        found.ok_or_else(|| JournalError::NotFound(format!("replay {id}")))
    }

    fn keep(&mut self, replay: Replay) {
        let number = replay.id.number();
        // Retention has left alone what only this one had still to look at.
        if !replay.is_running() && replay.kind != ReplayKind::Dead {
            self.changes.walk.look_again(replay.first.0);
        }
        self.changes.replays.insert(number, Some(replay));
    }

    /// Begins the replay that a subscription comes with.
    pub(super) fn start(
        &mut self,
        number: u32,
        (start, id): (Start, ReplayId),
    ) -> Result<(), Failure> {
        let after = match start {
            Start::Earliest => 0,
            Start::Time(time) => {
                // Events are kept by the journal's time.
                let offset = self.changes.ledger.clock_offset;
                let time = pointsman_schemas::Timestamp(time.0.saturating_sub(offset));
                reader::first_since(self.connection, time)?.saturating_sub(1)
            }
        };
        let after = after.max(before_first(self.shard));
        let new = NewReplay {
            kind: ReplayKind::Start,
            subscription: Some(SubscriptionNumber(number)),
            request: bytes::Bytes::new(),
            after: Sequence(after),
            until: Sequence(self.changes.ledger.last_sequence),
        };
        let replay = Replay::begin(id, new, self.now);
        self.set_catching_up(
            number,
            Some(CatchingUp {
                replay: replay.id,
                after,
                hands_over: false,
            }),
        );
        self.keep(replay);
        Ok(())
    }

    pub(in crate::disk) fn begin_replay(
        &mut self,
        id: ReplayId,
        new: NewReplay,
    ) -> Result<Replay, Failure> {
        if let Some(SubscriptionNumber(number)) = new.subscription
            && self.subscription(number).is_none()
        {
            return Err(not_found(number).into());
        }
        let all = self.committed.replays.values();
        let mut ended: Vec<_> = all
            .filter(|replay| !replay.is_running())
            .map(|replay| (replay.ended, replay.id.number()))
            .collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(ENDED_REPLAYS_MAX);
        for (_, number) in ended.into_iter().take(surplus) {
            self.changes.replays.insert(number, None);
        }
        let replay = Replay::begin(id, new, self.now);
        self.keep(replay.clone());
        Ok(replay)
    }

    pub(in crate::disk) fn end_replay(
        &mut self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, Failure> {
        let mut replay = self.found(id)?.clone();
        if replay.is_running() {
            replay.end(state, message, self.now);
            self.keep(replay.clone());
        }
        Ok(replay)
    }

    /// Ends the replay of a subscription that is being emptied, with what it would still make.
    pub(super) fn cancel_start(&mut self, number: u32) {
        let Some(catching_up) = self.subscription(number).and_then(|own| own.catching_up) else {
            return;
        };
        if let Ok(replay) = self.found(catching_up.replay) {
            let ended = Replay {
                state: ReplayState::Stopped,
                ended: Some(self.now),
                message: "its subscription was emptied".to_owned(),
                ..replay.clone()
            };
            self.keep(ended);
        }
        self.set_catching_up(number, None);
    }

    fn set_catching_up(&mut self, number: u32, catching_up: Option<CatchingUp>) {
        let Some(subscribed) = self.subscription_mut(number) else {
            return;
        };
        let was_open = subscribed.is_open();
        subscribed.catching_up = catching_up;
        let is_open = subscribed.is_open();
        if is_open != was_open {
            self.changes.effects.push(Effect::Open(number, is_open));
        }
    }

    /// Deliveries that a replay may still add to a subscription.
    fn replay_room(&self, number: u32) -> u64 {
        self.subscription(number).map_or(0, |subscribed| {
            let elsewhere = subscribed.elsewhere;
            let max = |backlog: Backlog| backlog.max.saturating_sub(elsewhere);
            let max = subscribed.backlog.map_or(u64::MAX, max);
            let max = max.min(REPLAY_PENDING_MAX);
            max.saturating_sub(subscribed.counts.pending)
        })
    }

    pub(in crate::disk) fn replay(&mut self, step: &ReplayStep) -> Result<Replayed, Failure> {
        let mut replay = self.found(step.id)?.clone();
        let number = replay.subscription.map_or(0, |number| number.0);
        if replay.is_running() && self.subscription(number).is_none() {
            replay.end(ReplayState::Failed, "its subscription is gone", self.now);
            self.keep(replay.clone());
        }
        if !replay.is_running() {
            return Ok(Replayed {
                made: 0,
                room: 0,
                replay,
            });
        }
        self.flush()?;
        let (made, ended_at) = self.make_deliveries(&replay, number, &step.deliveries)?;
        match ended_at {
            Some(at) => {
                let next = step.deliveries.get(at).map_or(0, |(next, _)| next.0);
                replay.step(Sequence(next.saturating_sub(1)), at as u64, made);
            }
            None => {
                replay.step(step.after, step.seen, made);
                self.after_step(&mut replay, step.then);
            }
        }
        if replay.kind == ReplayKind::Start {
            let catching_up = CatchingUp {
                replay: replay.id,
                after: replay.after.0,
                hands_over: replay.hands_over,
            };
            self.set_catching_up(number, replay.is_running().then_some(catching_up));
        }
        self.keep(replay.clone());
        let room = self.replay_room(number);
        Ok(Replayed { made, room, replay })
    }

    /// Makes deliveries as far as there is room; returns how many, and where it has ended for want
    /// of room.
    fn make_deliveries(
        &mut self,
        replay: &Replay,
        number: u32,
        deliveries: &[(Sequence, NewDelivery)],
    ) -> Result<(u64, Option<usize>), Failure> {
        let (mut made, run) = (0, self.changes.ledger.last_run + 1);
        for (at, (sequence, new)) in deliveries.iter().enumerate() {
            let tenant = self.subscription(number).map(|own| &own.identity.tenant);
            let Some(tenant) = tenant.filter(|_| *sequence > replay.after).cloned() else {
                continue;
            };
            // A damaged one is found again, and set aside, by whoever needs it.
            let stored = reader::event(self.connection, sequence.0)?.and_then(Result::ok);
            let Some(stored) = stored.filter(|stored| stored.tenant == tenant) else {
                continue;
            };
            if self.refers(number, sequence.0)? {
                continue;
            }
            if self.replay_room(number) == 0 {
                return Ok((made, Some(at)));
            }
            let new = NewDelivery {
                subscription: SubscriptionNumber(number),
                ..*new
            };
            let mark = replay.mark(*sequence);
            self.pinned.insert(sequence.0);
            let run = if mark.is_some() { run } else { 0 };
            self.deliver(sequence.0, run, new, &stored.origin, Cause::Run(mark))?;
            made += 1;
        }
        Ok((made, None))
    }

    fn after_step(&mut self, replay: &mut Replay, then: AfterStep) {
        let is_start = replay.kind == ReplayKind::Start;
        match then {
            AfterStep::HandOver if is_start && !replay.hands_over => {
                replay.hands_over = true;
                replay.until = Sequence(self.changes.ledger.last_sequence);
            }
            AfterStep::End if !is_start || (replay.hands_over && replay.after >= replay.until) => {
                replay.end(ReplayState::Finished, "", self.now);
            }
            AfterStep::End | AfterStep::HandOver | AfterStep::More => {}
        }
    }

    /// Redrives what a selection finds behind `after`, of what was dead before a time.
    pub(in crate::disk) fn redrive(&mut self, redrive: &Redrive) -> Result<Redriven, Failure> {
        if let Some(SubscriptionNumber(to)) = redrive.to
            && self.subscription(to).is_none()
        {
            return Err(not_found(to).into());
        }
        let mut redriven = Redriven {
            count: 0,
            next: None,
        };
        if let Some(id) = redrive.replay
            && !self.found(id)?.is_running()
        {
            return Ok(redriven);
        }
        let epochs = Arc::clone(&self.committed.epochs);
        let after = redrive.after.map(|id| DeadKey {
            subscription: id.subscription.0,
            sequence: id.sequence.0,
            run: id.run,
        });
        let page = self.dead_page(&redrive.selection, after, ROWS_PER_STEP)?;
        redriven.next = page
            .next
            .map(|key| epochs.id(key.subscription, key.sequence, key.run));
        for (key, dead) in page.rows {
            if redriven.count == redrive.limit {
                break;
            }
            let id = epochs.id(key.subscription, key.sequence, key.run);
            if dead.at <= redrive.before && self.redrive_one(key, dead, redrive.to)? {
                redriven.count += 1;
            }
            if redriven.count == redrive.limit {
                redriven.next = Some(id);
            }
        }
        if let Some(id) = redrive.replay {
            let mut replay = self.found(id)?.clone();
            replay.step(Sequence(0), redriven.count, redriven.count);
            self.keep(replay);
        }
        Ok(redriven)
    }

    /// Makes a run of a dead letter; false where it cannot be run.
    fn redrive_one(
        &mut self,
        key: DeadKey,
        dead: DeadRow,
        to: Option<SubscriptionNumber>,
    ) -> Result<bool, Failure> {
        // A reject belongs to no subscription, and has an event where somebody has made one of it.
        let number = match (to, key.subscription) {
            (Some(SubscriptionNumber(to)), own) => {
                let tenant = self.subscription(to).map(|to| &to.identity.tenant);
                if tenant != Some(&dead.tenant) || (own == 0 && dead.edited.is_none()) {
                    return Ok(false);
                }
                to
            }
            (None, 0) => return Ok(false),
            (None, own) => own,
        };
        let sequence = match &dead.edited {
            None => key.sequence,
            Some(record) => match EventRow::decode(key.sequence, record) {
                Ok(edited) => self.store_edited(edited)?,
                Err(_) => return Ok(false),
            },
        };
        self.delete_dead(key)?;
        if self.subscription(number).is_none() {
            return Ok(false);
        }
        // Not one more than the letter's own: the event may have been sent on to this subscription
        // under that one.
        self.changes.ledger.last_run += 1;
        let run = self.changes.ledger.last_run;
        self.count(key.subscription, |counts| counts.redriven += 1);
        self.count(number, |counts| {
            counts.created += 1;
            counts.pending += 1;
        });
        self.pinned.insert(sequence);
        let key = RowKey {
            subscription: number,
            sequence,
            run,
        };
        self.insert(PendingRow {
            order_key: dead.order_key,
            replay: dead.replay,
            ..PendingRow::immediate(key, self.now)
        })?;
        Ok(true)
    }

    /// Gives a dead letter the event that its redrive sends, or takes that back.
    pub(in crate::disk) fn edit_dead(
        &mut self,
        id: DeliveryId,
        event: Option<&Arc<Event>>,
    ) -> Result<(), Failure> {
        let selection = DeadSelection {
            ids: Some(vec![id]),
            ..DeadSelection::default()
        };
        let found = self.dead_page(&selection, None, 1)?.rows.pop();
        let (key, dead) =
            found.ok_or_else(|| JournalError::NotFound(format!("dead letter {id}")))?;
        let record = event.map(|event| {
            let edited = EventRow {
                tenant: dead.tenant.clone(),
                origin: dead.origin.clone(),
                at: self.now,
                kept_until: None,
                event: Arc::clone(event),
            };
            Bytes::from(edited.encode(key.sequence))
        });
        if let Some(record) = &record {
            self.take_room(record.len())?;
        }
        let dead = DeadRow {
            edited: record,
            ..dead
        };
        self.touch_dead(key);
        let value = dead.encode(&[key.sequence, key.subscription.into(), key.run]);
        let mut update = self.connection.prepare_cached(
            "UPDATE dead SET value = ?4 WHERE sequence = ?1 AND subscription = ?2 AND run = ?3",
        )?;
        update.execute(params![
            key.sequence.cast_signed(),
            key.subscription,
            key.run.cast_signed(),
            value
        ])?;
        Ok(())
    }

    /// Takes room for an event: twice its size, for the log too.
    fn take_room(&mut self, bytes: usize) -> Result<(), Failure> {
        let room = self.room.checked_sub(2 * bytes as u64);
        self.room = room.ok_or_else(full)?;
        Ok(())
    }

    /// Stores the event that a dead letter was edited to, for its redrive alone: no rule sees it.
    fn store_edited(&mut self, edited: EventRow) -> Result<u64, Failure> {
        let sequence = self.next_sequence();
        self.changes.ledger.events += 1;
        let stored = EventRow {
            at: self.now,
            kept_until: None,
            ..edited
        };
        let record = stored.encode(sequence);
        self.take_room(record.len())?;
        self.insert_event(sequence, &record)?;
        Ok(sequence)
    }
}
