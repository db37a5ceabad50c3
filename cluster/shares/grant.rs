//! Granting shares of the limits that have their homes in the shards that this node owns.

use pointsman_log::Shard;
use tokio::time::Instant;

use super::divide::coarse;
use super::ledger::{Ledger, Part};
use super::own::Granted;
use super::words::{Grant, Statement};
use super::{Shares, Stance, lease};

impl Shares {
    /// Begins the ledgers of shards that have come, and ends those of shards that have gone.
    pub(super) fn keep_ledgers(&mut self, number: u64, stance: &Stance, now: Instant) {
        let lapses = |began| now.saturating_duration_since(began) >= lease(self.takeover);
        if stance.acknowledged.is_none_or(lapses) {
            // Somebody else may be the grantor without this node having heard of it, and count what
            // it held as free.
            self.ledgers.clear();
        }
        for (shard, standing) in (0..).map(Shard).zip(&stance.standing) {
            let last = self.epochs.get(usize::from(shard.0));
            let is_followed = last.is_some_and(|last| *last > standing.epoch);
            if !standing.owns || is_followed {
                self.ledgers.remove(&shard);
                continue;
            }
            let ledger = self.ledgers.get(&shard);
            if ledger.is_none_or(|ledger| ledger.epoch != standing.epoch) {
                let begun = Ledger::new(standing.epoch, number, now);
                self.ledgers.insert(shard, begun);
            }
        }
    }

    /// Divides the limits that have their homes here, and takes this node's own part. Returns what
    /// others are granted, by their places among `heard`.
    pub(super) fn grant(
        &mut self,
        number: u64,
        stance: &Stance,
        heard: &[(u64, u64)],
        now: Instant,
    ) -> Vec<Grant> {
        let (even, beat) = (self.even(), self.takeover / 10);
        let hears_well = |since: Instant| now.saturating_duration_since(since) >= beat * 2;
        let hears_all = stance.live_since.is_some_and(hears_well);
        let mut grants = Vec::new();
        for limit in self.limits.values() {
            let Some(ledger) = self.ledgers.get_mut(&limit.home) else {
                continue;
            };
            if even.is_some_and(|even| limit.key >= even) {
                continue;
            }
            let own = self.own.get(&limit.key).copied().unwrap_or_default();
            let mut parts = vec![Part {
                process: self.me,
                acknowledged: number,
                held: own.held(now),
                wants: coarse(own.wants, limit.most),
                may_want: true,
            }];
            parts.extend(self.others.iter().map(|(process, other)| {
                let said = other.statements.get(&limit.key);
                Part {
                    process: *process,
                    acknowledged: other.heard.words.hears(self.me).map_or(0, |(_, last)| last),
                    held: said.map_or(0, Statement::held),
                    wants: said.map_or(0, Statement::wants),
                    may_want: other.heard.standing.iter().any(|standing| standing.owns),
                }
            }));
            let may_raise = hears_all && ledger.is_known(&parts, self.takeover, now);
            let granted = ledger.divide(limit, &parts, may_raise, number);
            let mut to = Vec::new();
            for (process, amount) in granted {
                if process == self.me {
                    let until = stance
                        .acknowledged
                        .map(|began| began + lease(self.takeover));
                    let own = self.own.entry(limit.key).or_default();
                    own.granted = until.map(|until| Granted { amount, until });
                } else if let Some(place) = heard.iter().position(|(other, _)| *other == process) {
                    to.push((place, amount));
                }
            }
            if !to.is_empty() {
                grants.push(Grant::new(limit.key, to));
            }
        }
        grants
    }
}
