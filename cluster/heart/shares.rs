//! What beats say of shares, and of what waits.

use std::time::Duration;

use parking_lot::MutexGuard;
use tokio::time::Instant;

use super::{Heart, Pulse, Role, ShardPulse};
use crate::backlogs::Backlogs;
use crate::shares::{Said, Shares, Stance, Standing};

impl Heart {
    /// A pulse with what is to be said of shares and of what waits, which is said in that one alone.
    pub(super) fn whole_pulse(&self, number: u64) -> Pulse {
        let mut pulse = self.own_pulse(number);
        let mut shares = self.shares.lock();
        let stance = Stance {
            standing: standing(&pulse.shards),
            live_since: self.live_since(),
            acknowledged: (*self.life.lock()).map(|life| life.beat),
        };
        let now = Instant::now();
        pulse.waits = self.backlogs().say(number, &stance.standing, now);
        pulse.shares = Some(shares.say(number, &stance, now));
        pulse
    }

    /// The limits that hold for all nodes together, and what this one may use of them.
    pub(crate) fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock()
    }

    /// Beats at once where somebody waits for what is to be said of shares.
    pub(crate) fn tell_shares(&self) {
        if self.shares.lock().has_news(Instant::now()) {
            self.news.notify_one();
        }
    }

    /// What waits in all shards.
    pub(crate) fn backlogs(&self) -> MutexGuard<'_, Backlogs> {
        self.backlogs.lock()
    }

    /// Hears what a beat says of what waits, and takes that out of it as well.
    pub(super) fn hear_backlogs(&self, pulse: &mut Pulse, now: Instant) {
        let waits = std::mem::take(&mut pulse.waits);
        if pulse.incarnation != self.me.incarnation {
            let standing = standing(&pulse.shards);
            self.backlogs().hear(pulse.number, &standing, waits, now);
        }
    }

    /// Hears what a beat says of shares, and takes that out of it: what is kept of a beat is copied
    /// whenever somebody looks at the members.
    pub(super) fn hear_shares(&self, pulse: &mut Pulse, now: Instant) {
        let Some(words) = pulse.shares.take() else {
            return;
        };
        if pulse.incarnation == self.me.incarnation {
            return;
        }
        let said = Said {
            number: pulse.number,
            takeover: Duration::from_millis(pulse.takeover_ms),
            standing: standing(&pulse.shards),
            words,
        };
        self.shares.lock().hear(pulse.incarnation, said, now);
        self.is_shared_anew.notify_one();
    }
}

fn standing(shards: &[ShardPulse]) -> Vec<Standing> {
    let standing = |shard: &ShardPulse| Standing {
        epoch: shard.epoch,
        owns: shard.role == Role::Owner,
    };
    shards.iter().map(standing).collect()
}
