//! What the last commit left: the writer's own copy of the small tables.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use pointsman_schemas::{Epoch, Sequence, SubscriptionNumber, Timestamp};
use rusqlite::Connection;

use super::epochs::Epochs;
use super::reader;
use super::record::{CatchingUp, Subscribed};
use super::schema::{Ledger, Walk};
use crate::quota::Quotas;
use crate::shard::before_first;
use crate::{
    BacklogQuota, Bounded, NewReplay, NumberMap, Replay, ReplayId, ReplayKind, ShardNumber,
    SubscriptionIdentity,
};

/// Numbers that are left out where the last one given out is not known: more than any power cut can
/// hide.
pub(super) const SEQUENCES_SKIPPED: u64 = 1 << 32;

pub(super) const SUBSCRIPTIONS_SKIPPED: u32 = 1024;

/// Dropped subscriptions that are remembered: an append may still come for one, matched by the
/// rules of before.
const DROPPED_MAX: usize = 10_000;

/// What the last commit left: the writer's own copy of the small tables.
#[derive(Debug, Default)]
pub(super) struct CommittedState {
    pub(super) ledger: Ledger,
    /// How far retention has come.
    pub(super) walk: Walk,
    pub(super) subscriptions: BTreeMap<u32, Subscribed>,
    /// By the numbers of their ids.
    pub(super) replays: BTreeMap<u64, Replay>,
    pub(super) epochs: Arc<Epochs>,
    /// Subscriptions that were dropped since the store was opened, the latest of them.
    pub(super) dropped: BTreeMap<u32, SubscriptionIdentity>,
    /// What may wait for tenants and rules.
    pub(super) quotas: Quotas,
    /// Subscriptions of which something waits in other shards.
    pub(super) counted_elsewhere: Vec<u32>,
    /// The last epoch is written with the first commit in it, and the format with it: opening a
    /// store writes nothing.
    pub(super) is_epoch_new: bool,
}

impl CommittedState {
    /// Takes over what a transaction has committed.
    pub(super) fn apply(
        &mut self,
        ledger: Ledger,
        walk: Walk,
        subscriptions: NumberMap<u32, Subscribed>,
        replays: BTreeMap<u64, Option<Replay>>,
    ) {
        for (number, replay) in replays {
            match replay {
                Some(replay) => drop(self.replays.insert(number, replay)),
                None => drop(self.replays.remove(&number)),
            }
        }
        (self.ledger, self.walk, self.is_epoch_new) = (ledger, walk, false);
        for (number, subscribed) in subscriptions {
            self.count(number, &subscribed);
            if subscribed.is_nothing_left() {
                self.subscriptions.remove(&number);
                self.dropped.insert(number, subscribed.identity);
            } else {
                self.subscriptions.insert(number, subscribed);
            }
        }
        while self.dropped.len() > DROPPED_MAX {
            self.dropped.pop_first();
        }
    }

    /// Counts what of a subscription waits now against its quotas.
    fn count(&mut self, number: u32, subscribed: &Subscribed) {
        if self.quotas.is_empty() {
            return;
        }
        let before = self.subscriptions.get(&number);
        let before = before.map_or(0, |before| before.counts.pending);
        let now = subscribed.counts.pending;
        self.quotas
            .changed(number, &subscribed.identity, before, now);
    }

    /// Puts quotas in the place of those before.
    pub(super) fn set_quotas(&mut self, quotas: Vec<BacklogQuota>) {
        let subscriptions = self.subscriptions.iter();
        let counted = subscriptions
            .map(|(number, subscribed)| (*number, &subscribed.identity, subscribed.counts.pending));
        self.quotas = Quotas::new(quotas, &self.quotas, counted);
    }

    /// How much waits here of what has a bound.
    pub(super) fn waiting(&self, of: &Bounded) -> u64 {
        match of {
            Bounded::Subscription(number) => {
                let subscribed = self.subscriptions.get(&number.0);
                subscribed.map_or(0, |subscribed| subscribed.counts.pending)
            }
            Bounded::Quota(owner) => self.quotas.waiting(owner),
        }
    }

    /// Counts so much that waits in other shards, and nothing else.
    pub(super) fn set_elsewhere(&mut self, elsewhere: Vec<(Bounded, u64)>) {
        for number in std::mem::take(&mut self.counted_elsewhere) {
            if let Some(subscribed) = self.subscriptions.get_mut(&number) {
                subscribed.elsewhere = 0;
            }
        }
        self.quotas.forget_elsewhere();
        for (of, count) in elsewhere {
            match of {
                Bounded::Subscription(SubscriptionNumber(number)) => {
                    if let Some(subscribed) = self.subscriptions.get_mut(&number) {
                        subscribed.elsewhere = count;
                        self.counted_elsewhere.push(number);
                    }
                }
                Bounded::Quota(owner) => self.quotas.set_elsewhere(&owner, count),
            }
        }
    }

    /// Reads the replays. A subscription and the replay that it began with know of each other, so
    /// that neither is lost with the other's row. Returns the replays that only their subscriptions
    /// know of.
    pub(super) fn read_replays(
        &mut self,
        connection: &Connection,
    ) -> rusqlite::Result<Vec<ReplayId>> {
        for (number, replay) in reader::replays(connection)? {
            // A damaged one is set aside when the store is looked through.
            if let Ok(replay) = replay {
                self.replays.insert(number, replay);
            }
        }
        for replay in self.replays.values() {
            if let Some(number) = replay.subscription
                && replay.kind == ReplayKind::Start
                && replay.is_running()
                && let Some(subscribed) = self.subscriptions.get_mut(&number.0)
            {
                subscribed.catching_up = Some(CatchingUp {
                    replay: replay.id,
                    after: replay.after.0,
                    hands_over: replay.hands_over,
                });
            }
        }
        let mut missing = Vec::new();
        for (number, subscribed) in &self.subscriptions {
            let Some(lost) = subscribed.catching_up else {
                continue;
            };
            let Entry::Vacant(place) = self.replays.entry(lost.replay.number()) else {
                continue;
            };
            missing.push(lost.replay);
            place.insert(Replay {
                hands_over: lost.hands_over,
                marked_until: Sequence(lost.after),
                ..Replay::begin(
                    lost.replay,
                    NewReplay {
                        kind: ReplayKind::Start,
                        subscription: Some(SubscriptionNumber(*number)),
                        request: bytes::Bytes::new(),
                        after: Sequence(lost.after),
                        until: Sequence(self.ledger.last_sequence),
                    },
                    self.ledger.time,
                )
            });
        }
        Ok(missing)
    }

    /// Has sequences begin where those of a shard do.
    pub(super) fn number(&mut self, shard: Option<ShardNumber>) {
        self.ledger.last_sequence = self.ledger.last_sequence.max(before_first(shard));
    }

    /// Begins an epoch: the store has just been opened. Where `skip` is set, what was given out
    /// last is not sure, and numbers go on far behind it.
    pub(super) fn begin_epoch(&mut self, now: Timestamp, skip: bool, file: u64) {
        let ledger = &mut self.ledger;
        let (last_sequence, last_run) = self.epochs.given_out();
        ledger.last_run = ledger.last_run.max(last_run);
        let mut last_sequence = ledger.last_sequence.max(last_sequence);
        if skip {
            last_sequence += SEQUENCES_SKIPPED + u64::from(rand::random::<u32>());
            ledger.last_subscription += SUBSCRIPTIONS_SKIPPED;
        }
        // Two clones of one machine may draw the same number, but not at the same time.
        let epoch = Epoch(rand::random::<u64>() ^ now.0.cast_unsigned());
        Arc::make_mut(&mut self.epochs).begin(epoch, last_sequence, ledger.last_run, file);
        self.is_epoch_new = true;
    }
}
