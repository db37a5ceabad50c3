//! Replays, and redrives some at a time.

use std::sync::Arc;

use pointsman_schemas::{DeliveryId, Event, Name, Sequence, SubscriptionNumber};

use super::append::full;
use super::state::{CatchingUp, Delivery, Retained, State, not_found};
use crate::queue::DeliveryKey;
use crate::shard::before_first;
use crate::{
    AfterStep, Backlog, DeadSelection, ENDED_REPLAYS_MAX, JournalError, NewDelivery, NewReplay,
    REPLAY_PENDING_MAX, Redrive, Redriven, Replay, ReplayId, ReplayKind, ReplayState, ReplayStep,
    Replayed, Start, StoredEvent,
};

impl State {
    /// The replay that makes a subscription's deliveries.
    pub(super) fn catching_up(&mut self, number: SubscriptionNumber) -> Option<ReplayId> {
        let subscribed = self.subscribed(number)?;
        subscribed.catching_up.map(|replay| replay.replay)
    }

    /// Whether an append leaves a subscription's deliveries to its replay.
    pub(super) fn is_catching_up(&self, number: SubscriptionNumber) -> bool {
        let number = self.resolve(number);
        let index = (number.0 as usize).checked_sub(1);
        let subscribed = index.and_then(|index| self.subscriptions.get(index));
        let replay = subscribed.and_then(|subscribed| subscribed.catching_up);
        replay.is_some_and(|replay| !replay.hands_over)
    }

    /// Begins the replay that a subscription comes with.
    pub(super) fn start(&mut self, number: SubscriptionNumber, start: Start, id: ReplayId) {
        let after = match start {
            Start::Earliest => Sequence(0),
            Start::Time(time) => {
                let before = self.events.iter();
                let before = before.take_while(|(_, retained)| retained.stored.at < time);
                before.last().map_or(Sequence(0), |(sequence, _)| *sequence)
            }
        };
        let after = after.max(Sequence(before_first(self.shard)));
        let new = NewReplay {
            kind: ReplayKind::Start,
            subscription: Some(number),
            request: bytes::Bytes::new(),
            after,
            until: Sequence(self.last_sequence),
        };
        let replay = Replay::begin(id, new, self.now.time);
        if let Some(subscribed) = self.subscribed(number) {
            subscribed.catching_up = Some(CatchingUp {
                replay: replay.id,
                hands_over: false,
            });
        }
        self.replays.push(replay);
    }

    pub(super) fn begin_replay(
        &mut self,
        id: ReplayId,
        new: NewReplay,
    ) -> Result<Replay, JournalError> {
        if let Some(number) = new.subscription {
            self.subscribed(number).ok_or_else(|| not_found(number))?;
        }
        let ended = self.replays.iter().filter(|replay| !replay.is_running());
        let surplus = ended.count().saturating_sub(ENDED_REPLAYS_MAX);
        for _ in 0..surplus {
            if let Some(index) = self.replays.iter().position(|replay| !replay.is_running()) {
                self.replays.remove(index);
            }
        }
        let replay = Replay::begin(id, new, self.now.time);
        self.replays.push(replay.clone());
        Ok(replay)
    }

    fn found(&mut self, id: ReplayId) -> Result<&mut Replay, JournalError> {
        let found = self.replays.iter_mut().find(|replay| replay.id == id);
        found.ok_or_else(|| JournalError::NotFound(format!("replay {id}")))
    }

    pub(super) fn replay(&mut self, step: ReplayStep) -> Result<Replayed, JournalError> {
        let replay = self.found(step.id)?.clone();
        let number = replay.subscription.unwrap_or(SubscriptionNumber(0));
        if replay.is_running() && self.subscribed(number).is_none() {
            self.end_replay(step.id, ReplayState::Failed, "its subscription is gone")?;
        }
        if !self.found(step.id)?.is_running() {
            let replay = self.found(step.id)?.clone();
            return Ok(Replayed {
                made: 0,
                room: 0,
                replay,
            });
        }
        let run = self.last_run + 1;
        let (mut made, mut looked_at, mut after) = (0, step.seen, step.after);
        for (at, (sequence, new)) in step.deliveries.iter().enumerate() {
            if *sequence <= replay.after || self.has_run(number, *sequence) {
                continue;
            }
            if self.room(number) == 0 {
                (looked_at, after) = (at as u64, Sequence(sequence.0 - 1));
                break;
            }
            let new = NewDelivery {
                subscription: number,
                ..*new
            };
            let mark = replay.mark(*sequence);
            self.deliver(sequence.0, if mark.is_some() { run } else { 0 }, new, mark);
            made += 1;
        }
        let is_whole = after == step.after;
        self.found(step.id)?.step(after, looked_at, made);
        if is_whole {
            self.after_step(step.id, number, step.then)?;
        }
        let room = self.room(number);
        let replay = self.found(step.id)?.clone();
        Ok(Replayed { made, room, replay })
    }

    fn after_step(
        &mut self,
        id: ReplayId,
        number: SubscriptionNumber,
        then: AfterStep,
    ) -> Result<(), JournalError> {
        let (last, now) = (Sequence(self.last_sequence), self.now.time);
        let replay = self.found(id)?;
        let is_start = replay.kind == ReplayKind::Start;
        match then {
            AfterStep::HandOver if is_start && !replay.hands_over => {
                (replay.hands_over, replay.until) = (true, last);
                self.set_catching_up(
                    number,
                    Some(CatchingUp {
                        replay: id,
                        hands_over: true,
                    }),
                );
            }
            AfterStep::End if !is_start || (replay.hands_over && replay.after >= replay.until) => {
                replay.end(ReplayState::Finished, "", now);
                if is_start {
                    self.set_catching_up(number, None);
                }
            }
            AfterStep::End | AfterStep::HandOver | AfterStep::More => {}
        }
        Ok(())
    }

    fn set_catching_up(&mut self, number: SubscriptionNumber, replay: Option<CatchingUp>) {
        let Some(subscribed) = self.subscribed(number) else {
            return;
        };
        subscribed.catching_up = replay;
        let is_open = subscribed.is_open();
        self.queues.set_open(number, is_open);
    }

    /// Ends a replay that makes deliveries of a subscription, with what it would still make.
    pub(super) fn cancel_start(&mut self, id: ReplayId) {
        let now = self.now.time;
        let Ok(replay) = self.found(id) else { return };
        (replay.state, replay.ended) = (ReplayState::Stopped, Some(now));
        "its subscription was emptied".clone_into(&mut replay.message);
        if let Some(number) = replay.subscription {
            self.set_catching_up(number, None);
        }
    }

    /// Deliveries that a replay may still add to a subscription.
    fn room(&mut self, number: SubscriptionNumber) -> u64 {
        self.subscribed(number).map_or(0, |subscribed| {
            let elsewhere = subscribed.elsewhere;
            let max = |backlog: Backlog| backlog.max.saturating_sub(elsewhere);
            let max = subscribed.backlog.map_or(u64::MAX, max);
            let max = max.min(REPLAY_PENDING_MAX);
            max.saturating_sub(subscribed.counts.pending)
        })
    }

    /// Whether an event is not retained or another tenant's, or the subscription has a delivery of
    /// it pending or dead.
    fn has_run(&mut self, number: SubscriptionNumber, sequence: Sequence) -> bool {
        let runs = (sequence, number, 0)..=(sequence, number, u64::MAX);
        let is_dead = self.dead.range(runs).next().is_some();
        let retained = self.events.get(&sequence);
        let tenant = retained.map(|retained| retained.stored.tenant.clone());
        let pending = |subscribed: &super::state::Subscribed| {
            let runs = (sequence, 0)..=(sequence, u64::MAX);
            let is_pending = subscribed.pending.range(runs).next().is_some();
            is_pending || Some(&subscribed.identity.tenant) != tenant.as_ref()
        };
        is_dead || self.subscribed(number).is_none_or(|own| pending(own))
    }

    pub(super) fn end_replay(
        &mut self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        let now = self.now.time;
        let replay = self.found(id)?;
        if replay.is_running() {
            replay.end(state, message, now);
        }
        Ok(replay.clone())
    }

    pub(super) fn redrive(&mut self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        if let Some(to) = redrive.to {
            self.subscribed(to).ok_or_else(|| not_found(to))?;
        }
        let nothing = Redriven {
            count: 0,
            next: None,
        };
        if let Some(id) = redrive.replay
            && !self.found(id)?.is_running()
        {
            return Ok(nothing);
        }
        let after = redrive
            .after
            .map(|id| (id.sequence, id.subscription, id.run));
        let mut redriven = nothing;
        for dead_key in self.select(&redrive.selection) {
            if after.is_some_and(|after| dead_key <= after) {
                continue;
            }
            if redriven.count == redrive.limit {
                break;
            }
            let Some(dead) = self.dead.get(&dead_key) else {
                continue;
            };
            let id = dead.letter.id;
            if dead.letter.at <= redrive.before && self.redrive_one(dead_key, redrive.to).is_some()
            {
                redriven.count += 1;
            }
            redriven.next = Some(id);
        }
        if redriven.count < redrive.limit {
            redriven.next = None;
        }
        if let Some(id) = redrive.replay {
            self.found(id)?
                .step(Sequence(0), redriven.count, redriven.count);
        }
        Ok(redriven)
    }

    /// Gives a dead letter the event that its redrive sends, or takes that back.
    pub(super) fn edit_dead(
        &mut self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        let selection = DeadSelection {
            ids: Some(vec![id]),
            ..DeadSelection::default()
        };
        let size = event.as_ref().map_or(0, |event| event.size_bytes() as u64);
        if self.bytes.saturating_add(size) > self.options.bytes_max {
            return Err(full());
        }
        let found = self.select(&selection).pop();
        let dead = found.and_then(|dead_key| self.dead.get_mut(&dead_key));
        let dead = dead.ok_or_else(|| JournalError::NotFound(format!("dead letter {id}")))?;
        dead.letter.edited = event;
        Ok(())
    }

    /// Stores the event that a dead letter was edited to, for its redrive alone: no rule sees it.
    fn store_edited(&mut self, tenant: Name, origin: Name, event: Arc<Event>) -> Sequence {
        self.last_sequence += 1;
        let (sequence, at) = (Sequence(self.last_sequence), self.now.time);
        self.bytes += event.size_bytes() as u64;
        let stored = StoredEvent {
            sequence,
            tenant,
            origin,
            at,
            kept_until: None,
            event,
        };
        self.events.insert(sequence, Retained { stored, pins: 1 });
        sequence
    }

    /// Makes a run of a dead letter; none where it cannot be run.
    fn redrive_one(
        &mut self,
        dead_key: super::state::DeadKey,
        to: Option<SubscriptionNumber>,
    ) -> Option<()> {
        let (Sequence(mut sequence), own, _) = dead_key;
        let dead = self.dead.get(&dead_key)?;
        let (tenant, is_edited) = (dead.letter.tenant.clone(), dead.letter.edited.is_some());
        // A reject belongs to no subscription, and has an event where somebody has made one of it.
        if self.subscribed(own).is_none() && !(is_edited && own.0 == 0 && to.is_some()) {
            return None;
        }
        let to = to.unwrap_or(own);
        if self.subscribed(to)?.identity.tenant != tenant {
            return None;
        }
        let dead = self.dead.remove(&dead_key)?;
        if let Some(edited) = dead.letter.edited {
            if own.0 != 0 {
                self.unpin(sequence);
            }
            sequence = self.store_edited(tenant, dead.letter.origin, edited).0;
        }
        if let Some(subscribed) = self.subscribed(own) {
            subscribed.counts.dead -= 1;
            subscribed.counts.redriven += 1;
        }
        self.subscribed(to)?.counts.created += 1;
        // Not one more than the letter's own: the event may have been sent on to this subscription
        // under that one.
        self.last_run += 1;
        let key = DeliveryKey {
            subscription: to,
            sequence,
            run: self.last_run,
        };
        let fresh = Delivery {
            replay: dead.replay,
            ..Delivery::fresh(dead.order_key, self.now.time.into())
        };
        self.insert(key, fresh, true);
        Some(())
    }
}
