//! Replays, which stand somewhere among the events of each shard.
//!
//! Of one shard they stand where they stood, in each of the new ones. Where shards come together
//! what each of them had looked at lies between what it had not: the replay then goes on with the
//! first event that it has not looked at, and comes to some again.

use std::collections::BTreeMap;

use pointsman_schemas::Sequence;

use super::super::PortableError;
use super::super::line::ReplayLine;
use super::places::Places;
use super::store::NewStore;
use crate::shard::within;
use crate::sharded::replay::shown;
use crate::{Replay, ReplayId, ReplayKind, ShardNumber};

/// All replays, with their parts in the shards that were exported.
#[derive(Default)]
pub(super) struct Replays {
    all: BTreeMap<ReplayId, Tracked>,
}

#[derive(Default)]
struct Tracked {
    /// By the shards that they were of.
    parts: BTreeMap<u16, Replay>,
    /// In each of the new shards.
    found: BTreeMap<usize, Found>,
}

/// What of a replay is in one of the new shards.
#[derive(Clone, Copy, Default)]
struct Found {
    /// The first and the last event that it has to look at.
    unseen: Option<(u64, u64)>,
    /// The last event whose deliveries it marks.
    marked: u64,
}

impl Replays {
    pub(super) fn add(&mut self, line: ReplayLine) {
        let replay = Replay {
            request: line.request.0,
            ..line.replay
        };
        let tracked = self.all.entry(replay.id).or_default();
        tracked.parts.insert(line.shard, replay);
    }

    /// Notes where an event of a shard has gone.
    pub(super) fn note(&mut self, old: u64, to: usize, sequence: u64) {
        for tracked in self.all.values_mut() {
            let Some(part) = tracked.parts.get(&ShardNumber::of(Sequence(old)).get()) else {
                continue;
            };
            let Some((after, until)) = part.pinned(false).filter(|_| part.is_running()) else {
                continue;
            };
            let found = tracked.found.entry(to).or_default();
            if (after.0 + 1..=until.0).contains(&old) {
                let first = found.unseen.map_or(sequence, |(first, _)| first);
                found.unseen = Some((first, sequence));
            }
            if old <= part.marked_until.0 {
                found.marked = sequence;
            }
        }
    }

    /// Whether the replay that a subscription began with is running.
    pub(super) fn is_catching_up(&self, subscription: u32) -> bool {
        self.all.values().any(|tracked| {
            tracked.parts.values().any(|part| {
                part.kind == ReplayKind::Start
                    && part.is_running()
                    && part
                        .subscription
                        .is_some_and(|number| number.0 == subscription)
            })
        })
    }

    /// Puts all of them into the new stores. Returns those that come to some events again.
    pub(super) fn store(
        &self,
        places: &Places,
        stores: &[NewStore],
    ) -> Result<Vec<ReplayId>, PortableError> {
        let mut again = Vec::new();
        for (id, tracked) in &self.all {
            let Some(whole) = shown(tracked.parts.values()) else {
                continue;
            };
            let begins_again =
                |part: &Replay| part.kind != ReplayKind::Dead && part.after > part.first;
            if whole.is_running() && !places.keeps() && tracked.parts.values().any(begins_again) {
                again.push(*id);
            }
            for (shard, store) in stores.iter().enumerate() {
                // What has ended is told of by one.
                if !whole.is_running() && shard > 0 {
                    break;
                }
                store.replay(&tracked.part(&whole, places, (shard, store)))?;
            }
        }
        Ok(again)
    }
}

impl Tracked {
    /// The part of a replay in one of the new shards. The first one has what was counted.
    fn part(&self, whole: &Replay, places: &Places, (shard, store): (usize, &NewStore)) -> Replay {
        let before = store.before_first();
        let kept = |Sequence(sequence)| match sequence {
            u64::MAX => Sequence(sequence),
            _ => Sequence(before | within(sequence)),
        };
        // Where there is nothing to look at it stands behind everything.
        let given = |unseen: Option<u64>| {
            Sequence(unseen.unwrap_or_else(|| places.sequence(shard, places.last())))
        };
        let found = self.found.get(&shard).copied().unwrap_or_default();
        let (first, after, until, marked_until) = if places.keeps() {
            let Replay {
                first,
                after,
                until,
                marked_until,
                ..
            } = *whole;
            (kept(first), kept(after), kept(until), kept(marked_until))
        } else {
            let after = given(found.unseen.map(|(first, _)| first - 1));
            let until = given(found.unseen.map(|(_, last)| last));
            let marked_until = match whole.kind {
                ReplayKind::Start => Sequence(found.marked.max(before)),
                _ => whole.marked_until,
            };
            (after, after, until, marked_until)
        };
        let (seen, made) = match shard {
            0 => (whole.seen, whole.made),
            _ => (0, 0),
        };
        Replay {
            first,
            after,
            until,
            marked_until,
            seen,
            made,
            ..whole.clone()
        }
    }
}
