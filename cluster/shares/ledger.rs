//! What a grantor has granted, and what each node may hold at most.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Limit;
use super::divide::{divide, hand_out};

/// A process that may have a part in a limit, as it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) process: u64,
    /// The last beat of the grantor that it had heard when it said this.
    pub(super) acknowledged: u64,
    pub(super) held: u64,
    pub(super) wants: u64,
    /// Whether it owns shards, whose deliveries may need some of it at any moment.
    pub(super) may_want: bool,
}

/// Of the limits that have their homes in one shard, for as long as this node owns it.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) epoch: u64,
    /// The first beat that says that this node owns the shard, and when it began.
    first: u64,
    since: Instant,
    /// By limit and process.
    entries: BTreeMap<u64, BTreeMap<u64, Entry>>,
}

/// What one process has of a limit.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    granted: u64,
    /// The beat in which that was said first.
    said_in: u64,
    /// The most that it may hold.
    bound: u64,
}

impl Ledger {
    pub(super) fn new(epoch: u64, first: u64, since: Instant) -> Self {
        Self {
            epoch,
            first,
            since,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.entries.retain(|key, _| keep(*key));
    }

    /// Whether it is known what all processes hold: each has heard of this ownership, or what was
    /// granted in earlier ones has lapsed.
    pub(super) fn is_known(&self, parts: &[Part], takeover: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= takeover
            || parts.iter().all(|part| part.acknowledged >= self.first)
    }

    /// Divides a limit among these processes, in the beat of this number. Those that are not among
    /// them have fallen silent, and hold nothing any more. Where nothing may be raised, each keeps
    /// what it holds at most.
    ///
    /// Returns what the processes are granted that have, or may have, anything, and have heard of
    /// this ownership.
    pub(super) fn divide(
        &mut self,
        limit: &Limit,
        parts: &[Part],
        may_raise: bool,
        number: u64,
    ) -> Vec<(u64, u64)> {
        let before = self.entries.remove(&limit.key).unwrap_or_default();
        let entries: Vec<Entry> = parts
            .iter()
            .map(|part| before.get(&part.process).copied().unwrap_or_default())
            .zip(parts)
            .map(|(entry, part)| entry.after(part, self.first))
            .collect();
        let wants: Vec<u64> = parts.iter().map(|part| part.wants).collect();
        let may_want: Vec<bool> = parts.iter().map(|part| part.may_want).collect();
        let ideal = divide(limit.most, &wants, &may_want);
        let bounds = entries.iter().map(|entry| entry.bound);
        let free = limit.most.saturating_sub(bounds.clone().sum());
        let lack = |(ideal, bound): (&u64, u64)| ideal.saturating_sub(bound);
        let lacks: Vec<u64> = ideal.iter().zip(bounds).map(lack).collect();
        let free = if may_raise { free } else { 0 };
        let mut granted = Vec::new();
        let mut after = BTreeMap::new();
        for (((part, mut entry), ideal), more) in
            (parts.iter().zip(entries).zip(ideal)).zip(hand_out(free, &lacks))
        {
            let has_heard = may_raise || part.acknowledged >= self.first;
            if has_heard {
                entry.grant(ideal.min(entry.bound + more), number);
            }
            if entry.bound > 0 {
                after.insert(part.process, entry);
                if has_heard {
                    granted.push((part.process, entry.granted));
                }
            }
        }
        if !after.is_empty() {
            self.entries.insert(limit.key, after);
        }
        granted
    }
}

impl Entry {
    /// What is known once a process has said this.
    fn after(self, part: &Part, first: u64) -> Self {
        // Until it has heard the last grant it may obey any before that.
        let known = match part.acknowledged >= self.said_in.max(first) {
            true => self.granted,
            false => self.bound,
        };
        Self {
            bound: part.held.max(known),
            ..self
        }
    }

    fn grant(&mut self, amount: u64, number: u64) {
        if self.granted != amount {
            (self.granted, self.said_in) = (amount, number);
        }
        self.bound = self.bound.max(amount);
    }
}
