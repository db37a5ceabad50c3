//! When a node claims, and when it may act on a claim that holds.
//!
//! No two nodes act at once: whoever owned the log before a claim has said that he knows of a later
//! one, or did not live, in the sense of his own deadline, at a time after the claim came into the
//! log. That shows by nothing having been heard of him for long enough when the claimant last heard
//! itself, which must be after it has read its claim. And nobody acts on a claim who has not lived
//! without a break since he made it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_log::Shard;
use tokio::time::Instant;

use crate::Store;
use crate::follower::Following;
use crate::heart::{Heart, Role};
use crate::record::Owner;

/// What to do next.
pub(crate) enum Look {
    /// Nothing: somebody else owns the log, or may still act as if he did.
    Follow,
    /// Ask for the log.
    Claim(Owner),
    /// The log is this node's by a claim made then, and nobody else acts any more.
    Own(Owner, Instant),
}

/// Looks at who owns a shard's log.
pub(crate) struct Watch<'a> {
    heart: &'a Heart,
    shard: Shard,
    /// An owner that is known to be gone: a process of this node, which had the lock on the store
    /// that this process has.
    gone: Option<u64>,
    /// The last epoch in which this process has stopped to own the log.
    stopped: u64,
    /// When a claim was made last.
    claimed: Option<Instant>,
    /// The last claim of this node's that was found to hold: its epoch, and when it was.
    holds: Option<(u64, Instant)>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(heart: &'a Heart, shard: Shard) -> Self {
        Self {
            heart,
            shard,
            gone: None,
            stopped: heart.doing(shard).stopped.load(Ordering::Relaxed),
            claimed: None,
            holds: None,
        }
    }

    /// Decides what to do; `can_claim` where no claim is under way.
    pub(crate) fn look<S: Store>(&mut self, following: &Following<S>, can_claim: bool) -> Look {
        let (fold, me) = (&following.fold, &self.heart.me);
        if !self.heart.is_alive() {
            return Look::Follow;
        }
        let is_mine = |owner: &&Owner| owner.incarnation == me.incarnation;
        let doing = self.heart.doing(self.shard);
        let claimed = doing.claimed(fold.epoch());
        // Others may have taken it for gone meanwhile.
        let claimed = claimed.filter(|claimed| self.heart.lives_since(*claimed));
        let has_stopped = fold.epoch() <= self.stopped;
        if let Some(owner) = fold.owner().filter(is_mine).filter(|_| !has_stopped)
            && let Some(claimed) = claimed
        {
            let holds_since = self.holds_since(fold.epoch());
            // One that was cut off, or has rested, may read what has long been followed.
            let is_last = !self.heart.is_followed(self.shard, fold.epoch());
            let stopped = |before| self.has_stopped(before, fold.epoch(), holds_since);
            return match is_last && fold.before().iter().all(stopped) {
                true => Look::Own(owner.clone(), claimed),
                false => Look::Follow,
            };
        }
        let now = Instant::now();
        let again = self.claimed.map(|claimed| claimed + me.takeover / 2);
        if !can_claim || again.is_some_and(|again| again > now) || !self.may_claim(following) {
            return Look::Follow;
        }
        self.claimed = Some(now);
        doing.claim(fold.epoch() + 1);
        Look::Claim(Owner {
            node: me.node.clone(),
            incarnation: me.incarnation,
            takeover_ms: u64::try_from(me.takeover.as_millis()).unwrap_or(u64::MAX),
            imports: following.is_embedded,
        })
    }

    /// Since when this node knows that its claim of an epoch holds.
    fn holds_since(&mut self, epoch: u64) -> Instant {
        if let Some((_, since)) = self.holds.filter(|(last, _)| *last == epoch) {
            return since;
        }
        let now = Instant::now();
        self.holds = Some((epoch, now));
        // The sooner it hears itself.
        self.heart.beat_now();
        now
    }

    fn may_claim<S: Store>(&mut self, following: &Following<S>) -> bool {
        let (fold, me) = (&following.fold, &self.heart.me);
        let others_import = |owner: &Owner| owner.imports && owner.node != me.node;
        let has_everything =
            fold.is_complete() || fold.is_unborn() && !fold.owner().is_some_and(others_import);
        // Others that should have it come first.
        let wait = me.beat() * self.heart.rank(self.shard);
        // Whoever is still reading does not know yet who owns the log. Where nobody does nothing is
        // lost by a claim that comes too late.
        let read = following.read.elapsed();
        let least = match fold.owner() {
            Some(_) => me.beat() / 2,
            None => me.beat() / 20 + wait,
        };
        if !has_everything || read < least {
            return false;
        }
        #[cfg(test)]
        if self.heart.is_hasty.swap(false, Ordering::Relaxed) {
            return true;
        }
        match fold.owner() {
            None => self
                .heart
                .silence(me.incarnation)
                .is_some_and(|silence| silence >= wait),
            // Itself before it stopped, or a process that is gone.
            Some(owner) if owner.incarnation == me.incarnation => true,
            Some(owner)
                if fold.is_own()
                    && owner.node == me.node
                    && !(me.store_format > fold.format() && self.heart.may_yield()) =>
            {
                self.gone = Some(owner.incarnation);
                true
            }
            Some(owner) => self
                .heart
                .silence(owner.incarnation)
                .is_some_and(|silence| silence >= takeover(owner).max(me.takeover) + wait),
        }
    }

    /// Whether an owner before this one, whose claim is known to hold since then, acts no more: it
    /// has said so, or has been silent for too long.
    fn has_stopped(&self, before: &Owner, epoch: u64, holds_since: Instant) -> bool {
        let knows = |pulse: crate::Pulse| {
            let of = pulse.of(self.shard);
            of.role != Role::Owner && of.epoch >= epoch
        };
        self.gone == Some(before.incarnation)
            || before.incarnation == self.heart.me.incarnation
            || self.heart.pulse(before.incarnation).is_some_and(knows)
            || self
                .heart
                .silence_since(before.incarnation, holds_since)
                .is_some_and(|silence| silence >= takeover(before))
    }
}

fn takeover(owner: &Owner) -> Duration {
    Duration::from_millis(owner.takeover_ms)
}
