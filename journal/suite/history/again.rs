//! What makes runs anew, some at a time: redrives, replays, and letters that are brought over. Each
//! journal has ids of its own for them, of which a play keeps both.

use pointsman_schemas::{DeliveryId, Epoch};

use super::Again;
use super::play::{Play, name_of};
use crate::suite::*;
use crate::{
    AfterStep, DeadReason, DeadSelection, EventsFrom, Guards, Identity, Journal, JournalError, Key,
    NewDead, NewReplay, Redrive, Redriven, Replay, ReplayId, ReplayKind, ReplayState, ReplayStep,
    Replayed, Terms,
};

/// Something of both journals, the model's second.
type Both<T> = (T, T);

/// A redrive at a rate that has begun.
pub(super) struct Redriving {
    ids: Both<ReplayId>,
    /// As far as it has come.
    after: Both<Option<DeliveryId>>,
    redrive: Redrive,
}

/// A replay that has begun: which events it takes, and as far as it looks.
pub(super) struct Replaying {
    ids: Both<ReplayId>,
    subscription: SubscriptionNumber,
    /// It takes events by the bit of their sequence in this.
    filter: u8,
    after: u64,
    until: u64,
}

impl Play<'_> {
    fn journals(&self) -> Both<Arc<dyn Journal>> {
        let (real, model) = (&self.bench.journal, &self.model);
        (Arc::clone(real), Arc::clone(model) as Arc<dyn Journal>)
    }

    pub(super) async fn again(&mut self, again: Again) {
        match again {
            Again::Edit(which, undo) => self.edit(which, undo).await,
            Again::Import(subscription, which) => self.import(subscription, which).await,
            Again::Redrive { of, to, earlier } => self.begin_redrive(of, to, earlier).await,
            Again::RedriveOn(which, limit) => self.redrive_on(which, limit).await,
            Again::Replay { of, to, filter } => self.begin_replay(of, to, filter).await,
            Again::ReplayOn(which, count) => self.replay_on(which, count).await,
            Again::Stop(which) => self.stop(which).await,
        }
    }

    /// Edits one of the dead letters, or takes that back.
    async fn edit(&self, which: u8, undo: bool) {
        let event = (!undo).then(|| event(&format!("edited-{which}")));
        self.both(async |journal: Arc<dyn Journal>| {
            let everyone = DeadSelection::default();
            let dead = journal
                .reader()
                .dead(&everyone, None, 10_000)
                .await
                .unwrap();
            let letter = dead.get(which as usize % dead.len().max(1))?;
            journal.edit_dead(letter.id, event.clone()).await.unwrap();
            Some((letter.id.sequence, letter.id.subscription, letter.id.run))
        })
        .await;
    }

    /// Brings a letter over; one that was brought over before is passed over.
    async fn import(&self, subscription: u8, which: u8) {
        let id = DeliveryId {
            epoch: Epoch(7),
            sequence: Sequence(u64::from(which)),
            subscription: SubscriptionNumber(1),
            run: 0,
        };
        let key = Key {
            identity: Identity::of_dead_letter(&name("default"), &id),
            window: MINUTE,
            guards: Guards::Event,
        };
        let dead = NewDead {
            subscription: self.pick(subscription),
            order_key: Some(u64::from(which % 3)).filter(|key| *key > 0),
            reason: DeadReason::Rejected,
            attempts: 3,
            last: Some(last(self.bench.now())),
            edited: which.is_multiple_of(2).then(|| event("edited")),
        };
        let terms = Terms {
            keys: vec![key],
            ..Terms::default()
        };
        let letter = Entry {
            dead: Some(dead),
            terms: Some(Box::new(terms)),
            ..entry(&format!("letter-{which}"), &[])
        };
        let _ = self
            .both(async |journal: Arc<dyn Journal>| {
                journal.append(append_of(vec![letter.clone()])).await
            })
            .await;
    }

    async fn begin(&self, new: NewReplay) -> Option<Both<ReplayId>> {
        let (real, model) = self.journals();
        let real = real.begin_replay(new.clone()).await.map(|replay| replay.id);
        let model = model.begin_replay(new).await.map(|replay| replay.id);
        assert_eq!(real.is_ok(), model.is_ok(), "{real:?}, {model:?}");
        Some((real.ok()?, model.ok()?))
    }

    async fn begin_redrive(&mut self, of: u8, to: Option<u8>, earlier: u8) {
        let to = to.map(|to| self.pick(to));
        let new = NewReplay {
            kind: ReplayKind::Dead,
            subscription: to,
            request: Bytes::new(),
            after: Sequence(0),
            until: Sequence(0),
        };
        let Some(ids) = self.begin(new).await else {
            return;
        };
        let selection = DeadSelection {
            rule: Some(name_of(of)),
            ..DeadSelection::default()
        };
        let before = Duration::from_secs(u64::from(earlier));
        let redrive = Redrive {
            selection,
            to,
            before: self.bench.now().minus(before),
            after: None,
            limit: 0,
            replay: None,
        };
        self.redriving.push(Redriving {
            ids,
            after: (None, None),
            redrive,
        });
    }

    /// Goes on with a redrive; one that has come to its end is ended.
    async fn redrive_on(&mut self, which: u8, limit: u8) {
        let (real, model) = self.journals();
        let at = which as usize % self.redriving.len().max(1);
        let Some(redriving) = self.redriving.get_mut(at) else {
            return;
        };
        let of = |after, replay| Redrive {
            after,
            limit: u64::from(limit),
            replay: Some(replay),
            ..redriving.redrive.clone()
        };
        let (ids, after) = (redriving.ids, redriving.after);
        let answers = (
            real.redrive_some(&of(after.0, ids.0)).await,
            model.redrive_some(&of(after.1, ids.1)).await,
        );
        let show = |answer: &Result<Redriven, JournalError>| {
            let next = |next: DeliveryId| (next.sequence, next.subscription, next.run);
            let answer = answer.as_ref().ok()?;
            Some((answer.count, answer.next.map(next)))
        };
        assert_eq!(show(&answers.0), show(&answers.1), "{answers:?}");
        let (Ok(real), Ok(model)) = answers else {
            return;
        };
        redriving.after = (real.next, model.next);
        if real.next.is_none() {
            let redriving = self.redriving.remove(at);
            self.end(redriving.ids, ReplayState::Finished).await;
        }
    }

    async fn begin_replay(&mut self, of: u8, to: u8, filter: u8) {
        let (subscription, until) = (self.pick(of), u64::from(to));
        let new = NewReplay {
            kind: ReplayKind::Events,
            subscription: Some(subscription),
            request: Bytes::new(),
            after: Sequence(0),
            until: Sequence(until),
        };
        if let Some(ids) = self.begin(new).await {
            self.replaying.push(Replaying {
                ids,
                subscription,
                filter,
                after: 0,
                until,
            });
        }
    }

    /// Looks at so many more events for a replay, as whoever drives it does.
    async fn replay_on(&mut self, which: u8, count: u8) {
        let (real, model) = self.journals();
        let at = which as usize % self.replaying.len().max(1);
        let Some(replaying) = self.replaying.get_mut(at) else {
            return;
        };
        let from = EventsFrom::After(Sequence(replaying.after));
        let page = real.reader().events(from, count.into(), usize::MAX).await;
        let events: Vec<Sequence> = page
            .unwrap()
            .events
            .iter()
            .map(|one| one.sequence)
            .collect();
        let looked_at = events.iter().filter(|one| one.0 <= replaying.until);
        let taken = looked_at
            .clone()
            .filter(|one| replaying.filter & (1 << (one.0 % 8)) != 0);
        let delivery = |one: &Sequence| NewDelivery {
            order_key: Some(one.0 % 4).filter(|key| *key > 0),
            ..NewDelivery::now(replaying.subscription)
        };
        let is_last =
            events.len() < count.into() || events.iter().any(|one| one.0 > replaying.until);
        let last = events.last().map_or(Sequence(0), |last| *last);
        let step = |id| ReplayStep {
            id,
            deliveries: taken.clone().map(|one| (*one, delivery(one))).collect(),
            after: if is_last {
                Sequence(replaying.until)
            } else {
                last
            },
            seen: looked_at.clone().count() as u64,
            then: if is_last {
                AfterStep::End
            } else {
                AfterStep::More
            },
        };
        let answers = (
            real.replay(step(replaying.ids.0)).await,
            model.replay(step(replaying.ids.1)).await,
        );
        let show = |answer: &Result<Replayed, JournalError>| {
            let answer = answer.as_ref().ok()?;
            Some((answer.made, answer.room, shown(&answer.replay)))
        };
        assert_eq!(show(&answers.0), show(&answers.1), "{answers:?}");
        let Ok(replayed) = answers.0 else { return };
        replaying.after = replayed.replay.after.0;
        if !replayed.replay.is_running() {
            self.replaying.remove(at);
        }
    }

    /// Stops one that somebody has begun.
    async fn stop(&mut self, which: u8) {
        let (replays, redrives) = (self.replaying.len(), self.redriving.len());
        let at = which as usize % (replays + redrives).max(1);
        let ids = if at < replays {
            self.replaying.remove(at).ids
        } else if at < replays + redrives {
            self.redriving.remove(at - replays).ids
        } else {
            return;
        };
        self.end(ids, ReplayState::Stopped).await;
    }

    async fn end(&self, ids: Both<ReplayId>, state: ReplayState) {
        let (real, model) = self.journals();
        let real = real.end_replay(ids.0, state, "").await.unwrap();
        let model = model.end_replay(ids.1, state, "").await.unwrap();
        assert_eq!(shown(&real), shown(&model));
    }

    /// The replays are the same in both, and stand alike.
    pub(super) async fn compare_replays(&self) {
        self.both(async |journal: Arc<dyn Journal>| {
            let all = journal.reader().replays().await.unwrap();
            let mut all: Vec<_> = all.iter().map(|one| format!("{:?}", shown(one))).collect();
            all.sort_unstable();
            all
        })
        .await;
    }
}

/// A replay without what differs from journal to journal.
fn shown(replay: &Replay) -> impl std::fmt::Debug + PartialEq + use<> {
    let of = (replay.kind, replay.subscription, replay.began);
    let stands = (replay.state, replay.ended, replay.message.clone());
    let numbers = (replay.after, replay.until, replay.seen, replay.made);
    (of, stands, numbers)
}
