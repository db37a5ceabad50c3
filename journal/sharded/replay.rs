//! Replays: one in every shard, all under one identity, shown as one.
//!
//! Whoever drives a replay goes from where it stands to its end, and there are as many ends as
//! shards. So it is shown where one shard's replay stands, the lowest that has not ended; and when
//! that has ended, where the next one's stands. A subscription's first replay goes through all
//! shards without an end until it hands over, which it does in all of them at once: what was
//! appended meanwhile is looked at shard by shard after that.
//!
//! A step with which the place moves to another shard answers that it has made nothing and that
//! there is no room: whoever drives it reads anew from [`Replay::after`] then.

use futures::future::join_all;
use pointsman_schemas::{DeliveryId, Epoch, Sequence, SubscriptionNumber};

use super::{Shards, found};
use crate::{
    AfterStep, JournalError, NewReplay, Redrive, Redriven, Replay, ReplayId, ReplayKind,
    ReplayState, ReplayStep, Replayed, Shard, ShardNumber,
};

impl Shards {
    pub(super) async fn begin_replay(&self, new: NewReplay) -> Result<Replay, JournalError> {
        let id = ReplayId::random();
        let mut own = Vec::with_capacity(self.len());
        for (number, shard) in self.0.iter() {
            own.push((shard, own_of(*number, &**shard, &new).await?));
        }
        // Those that have nothing of it by now have no part in it, unless nobody has.
        let has_events = |own: &NewReplay| own.kind == ReplayKind::Dead || own.until > own.after;
        if own.iter().any(|(_, own)| has_events(own)) {
            own.retain(|(_, own)| has_events(own));
        } else {
            own.truncate(1);
        }
        let mut begun = Vec::with_capacity(own.len());
        for (shard, own) in own {
            begun.push(shard.begin_replay_as(id, own).await);
            if let Some(Err(error)) = begun.last()
                && !matches!(error, JournalError::NotFound(_))
            {
                let message = "it could not begin in every shard";
                let end = self.each(|shard| shard.end_replay(id, ReplayState::Failed, message));
                drop(end.await);
                break;
            }
        }
        let missing = || JournalError::NotFound(format!("replay {id}"));
        shown(&found(begun)?).ok_or_else(missing)
    }

    /// What the shards know of a replay.
    async fn replays(&self, id: ReplayId) -> Result<Vec<Option<Replay>>, JournalError> {
        let all = join_all(
            self.iter()
                .map(|shard| async { shard.reader().replays().await }),
        )
        .await;
        let own = |all: Vec<Replay>| all.into_iter().find(|replay| replay.id == id);
        all.into_iter().map(|all| all.map(own)).collect()
    }

    pub(super) async fn step(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        let mut all = self.replays(step.id).await?;
        let missing = || JournalError::NotFound(format!("replay {}", step.id));
        let stood = shown(all.iter().flatten()).ok_or_else(missing)?;
        let nothing = |replay| Replayed {
            made: 0,
            room: 0,
            replay,
        };
        let is_everywhere = is_before_hand_over(&stood);
        // A step of where it does not stand any more is not taken.
        if !stood.is_running() || !(is_everywhere || place(&stood) == ShardNumber::of(step.after)) {
            return Ok(nothing(stood));
        }
        let (mut made, mut room, mut has_ended) = (0, u64::MAX, false);
        for ((number, shard), replay) in self.0.iter().zip(&mut all) {
            let Some(replay) = replay.as_mut().filter(|replay| replay.is_running()) else {
                continue;
            };
            let own = if is_everywhere || place(&stood) == *number {
                part(*number, &step)
            } else if has_ended && replay.after >= replay.until {
                // There is nothing to be looked at.
                part(
                    *number,
                    &ReplayStep {
                        after: replay.until,
                        seen: 0,
                        deliveries: Vec::new(),
                        ..step.clone()
                    },
                )
            } else {
                None
            };
            let Some(own) = own else { continue };
            let after = own.after;
            let done = shard.replay(own).await?;
            (made, room) = (made + done.made, room.min(done.room));
            *replay = done.replay;
            has_ended = !replay.is_running();
            // Where it had no room what is behind is for later.
            if !has_ended && replay.after < after {
                break;
            }
        }
        let stands = shown(all.iter().flatten()).ok_or_else(missing)?;
        let has_moved = stands.is_running() && place(&stands) != ShardNumber::of(step.after);
        Ok(if has_moved {
            nothing(stands)
        } else {
            Replayed {
                made,
                room,
                replay: stands,
            }
        })
    }

    pub(super) async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        let from = redrive.after.map(|id| ShardNumber::of(id.sequence));
        let mut sum = Redriven {
            count: 0,
            next: None,
        };
        let (mut is_found, mut missing) = (false, None);
        for (number, shard) in self.0.iter() {
            if from.is_some_and(|from| *number < from) {
                continue;
            }
            let own = Redrive {
                after: redrive.after.filter(|_| from == Some(*number)),
                limit: redrive.limit - sum.count,
                ..redrive.clone()
            };
            match shard.redrive_some(&own).await {
                Ok(redriven) => {
                    is_found = true;
                    sum.count += redriven.count;
                    sum.next = redriven.next;
                }
                Err(error @ JournalError::NotFound(_)) => missing = Some(error),
                Err(error) => return Err(error),
            }
            if sum.next.is_some() {
                return Ok(sum);
            }
            let is_last = self.0.last().is_none_or(|(last, _)| last == number);
            if sum.count >= redrive.limit && !is_last {
                sum.next = Some(behind(*number));
                return Ok(sum);
            }
        }
        match missing {
            Some(error) if !is_found => Err(error),
            _ => Ok(sum),
        }
    }
}

/// What of a replay is a shard's: the events that it has by now.
async fn own_of(
    number: ShardNumber,
    shard: &dyn Shard,
    new: &NewReplay,
) -> Result<NewReplay, JournalError> {
    let mut own = new.clone();
    if new.kind != ReplayKind::Dead {
        own.after = new.after.clamp(number.before_first(), number.last());
        if new.until > number.last() {
            own.until = Sequence(shard.reader().totals().await?.last_sequence);
        }
        own.until = own.until.max(own.after);
    }
    Ok(own)
}

/// An id behind all of a shard, and before those of the next one.
fn behind(shard: ShardNumber) -> DeliveryId {
    DeliveryId {
        epoch: Epoch(0),
        sequence: shard.last(),
        subscription: SubscriptionNumber(u32::MAX),
        run: i64::MAX.cast_unsigned(),
    }
}

/// What of a step is a shard's: its deliveries, and how far it was looked at.
fn part(number: ShardNumber, step: &ReplayStep) -> Option<ReplayStep> {
    let own = step
        .deliveries
        .iter()
        .filter(|(one, _)| ShardNumber::of(*one) == number);
    let deliveries: Vec<_> = own.copied().collect();
    let is_reached = ShardNumber::of(step.after) == number;
    // Behind the last that it is given more may have come since.
    let last = deliveries.last().map(|(sequence, _)| *sequence);
    let after = if is_reached { Some(step.after) } else { last };
    if after.is_none() && step.then == AfterStep::More {
        return None;
    }
    Some(ReplayStep {
        id: step.id,
        deliveries,
        after: after.unwrap_or_else(|| number.before_first()),
        seen: if is_reached { step.seen } else { 0 },
        then: step.then,
    })
}

/// Whether a replay that a subscription begins with goes through all shards still.
fn is_before_hand_over(replay: &Replay) -> bool {
    replay.kind == ReplayKind::Start && !replay.hands_over
}

/// The shard in which a replay stands.
fn place(replay: &Replay) -> ShardNumber {
    ShardNumber::of(replay.after)
}

/// The replays of the shards under one identity, in the order of those, as one.
pub(crate) fn shown<'r>(all: impl IntoIterator<Item = &'r Replay>) -> Option<Replay> {
    let all: Vec<&Replay> = all.into_iter().collect();
    let running = all.iter().filter(|replay| replay.is_running());
    let before = running.clone().filter(|replay| is_before_hand_over(replay));
    let has_begun = |replay: &&&Replay| replay.after > replay.first || replay.seen > 0;
    // The last shard that it has come to; and once it has handed over the first that is not done.
    let current = before.clone().rfind(has_begun);
    let current = current.or(before.clone().next()).or(running.clone().next());
    let is_running = current.is_some();
    let current = *current.or(all.last())?;
    let ended = [
        ReplayState::Failed,
        ReplayState::Stopped,
        ReplayState::Finished,
    ];
    let mut ended = ended
        .into_iter()
        .filter(|state| all.iter().any(|one| one.state == *state));
    let mut messages = all.iter().map(|replay| &replay.message);
    Some(Replay {
        state: if is_running {
            ReplayState::Running
        } else {
            ended.next()?
        },
        message: messages
            .find(|one| !one.is_empty())
            .cloned()
            .unwrap_or_default(),
        began: all.iter().map(|replay| replay.began).min()?,
        ended: all
            .iter()
            .filter_map(|replay| replay.ended)
            .max()
            .filter(|_| !is_running),
        first: all.first()?.first,
        seen: all.iter().map(|replay| replay.seen).sum(),
        made: all.iter().map(|replay| replay.made).sum(),
        ..current.clone()
    })
}
