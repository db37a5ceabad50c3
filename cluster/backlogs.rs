//! What waits in the shards of all nodes, against bounds that hold for all of them together.
//!
//! Each node says in its beats what waits in the shards that it owns, and counts what others have
//! said with its own. Nobody asks anybody: a bound is exceeded by what comes in until a beat is
//! heard.
//!
//! # Invariants
//!
//! 1. Of a shard the last thing counts that its last owner has said. A node that takes it over says
//!    nothing of it before it has counted: until then that of the owner before counts.
//! 2. A shard of which nothing has been said for [`FORGOTTEN_AFTER`] takeover times does not count:
//!    it has no owner, or one of a version that says nothing, and keeps nobody out for ever.
//! 3. What no node says is not more than a [`LEAST`]th of a bound in all shards together.
//!
//! Pure: the time is given, and beats come and go elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_log::Shard;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::shares::Standing;

/// Of how many bounds a beat says what waits: those that are fullest in any of the node's shards.
/// Of others nothing is said, and they hold on each node by itself; beats must stay small.
const SAID_MAX: usize = 512;

/// What is less than this part of a bound, divided by the shards, is not said: most of what is
/// bounded is nearly empty.
const LEAST: u64 = 100;

/// For how many takeover times what was said of a shard counts where nothing more is.
const FORGOTTEN_AFTER: u32 = 3;

/// What waits in a shard of something that is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which bound: the same on all nodes.
    pub key: u64,
    /// How much waits.
    pub count: u64,
    /// How much may, in all shards together.
    pub most: u64,
}

/// What waits in a shard, by the keys of bounds, as a beat says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits(u16, Vec<(u64, u64)>);

/// What was said of a shard last.
#[derive(Clone, Debug)]
struct Said {
    epoch: u64,
    /// The beat of the owner in that epoch.
    number: u64,
    at: Instant,
    counts: Vec<(u64, u64)>,
}

/// What waits in all shards, as far as a node knows.
#[derive(Debug)]
pub(crate) struct Backlogs {
    shards: u64,
    takeover: Duration,
    /// What this node has counted in its shards, as far as it is worth saying.
    own: Vec<Waits>,
    said: BTreeMap<u16, Said>,
}

impl Backlogs {
    /// Of so many shards, of which nothing is known.
    pub(crate) fn new(shards: u16, takeover: Duration) -> Self {
        Self {
            shards: shards.into(),
            takeover,
            own: Vec::new(),
            said: BTreeMap::new(),
        }
    }

    /// This node has counted what waits in the shards that it owns.
    pub(crate) fn count(&mut self, shards: Vec<(Shard, Vec<Waiting>)>) {
        let fullness =
            |one: &Waiting| u128::from(one.count) * (1 << 32) / u128::from(one.most.max(1));
        let least = (1 << 32) / u128::from(LEAST * self.shards.max(1));
        let mut fullest: BTreeMap<u64, u128> = BTreeMap::new();
        for one in shards.iter().flat_map(|(_, waiting)| waiting) {
            let full = fullness(one);
            if one.count > 0 && full >= least {
                let fullest = fullest.entry(one.key).or_default();
                *fullest = full.max(*fullest);
            }
        }
        if fullest.len() > SAID_MAX {
            let mut order: Vec<(u128, u64)> =
                fullest.iter().map(|(key, full)| (*full, *key)).collect();
            order.sort_unstable_by(|one, other| other.cmp(one));
            for (_, key) in order.split_off(SAID_MAX) {
                fullest.remove(&key);
            }
        }
        let is_said = |one: &&Waiting| {
            one.count > 0 && fullness(one) >= least && fullest.contains_key(&one.key)
        };
        let own = shards.into_iter().map(|(shard, waiting)| {
            let said = waiting.iter().filter(is_said);
            Waits(shard.0, said.map(|one| (one.key, one.count)).collect())
        });
        self.own = own.collect();
    }

    /// What this node says in its beat of this number, standing to the shards as it does then.
    pub(crate) fn say(&mut self, number: u64, standing: &[Standing], now: Instant) -> Vec<Waits> {
        let said = self.own.clone();
        self.hear(number, standing, said.clone(), now);
        said
    }

    /// A beat says what waits, of a node that stands to the shards like this.
    pub(crate) fn hear(
        &mut self,
        number: u64,
        standing: &[Standing],
        waits: Vec<Waits>,
        now: Instant,
    ) {
        for Waits(shard, counts) in waits {
            let Some(Standing { epoch, owns: true }) = standing.get(usize::from(shard)).copied()
            else {
                continue;
            };
            // A beat that came late says nothing of now.
            let last = self.said.get(&shard).map(|said| (said.epoch, said.number));
            if last.is_none_or(|last| last < (epoch, number)) {
                let at = now;
                let said = Said {
                    epoch,
                    number,
                    at,
                    counts,
                };
                self.said.insert(shard, said);
            }
        }
    }

    /// What waits in the shards that this node has not counted, by the keys of bounds.
    pub(crate) fn elsewhere(&self, now: Instant) -> BTreeMap<u64, u64> {
        let mut all = BTreeMap::new();
        let is_counted = |shard: u16| self.own.iter().any(|Waits(own, _)| *own == shard);
        for (shard, said) in &self.said {
            let is_over = now.saturating_duration_since(said.at) >= self.takeover * FORGOTTEN_AFTER;
            if !is_over && !is_counted(*shard) {
                for (key, count) in &said.counts {
                    *all.entry(*key).or_default() += count;
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEOVER: Duration = Duration::from_secs(10);

    fn owns(shards: u16, owned: &[(u16, u64)]) -> Vec<Standing> {
        let standing = |shard| {
            let own = owned.iter().find(|(own, _)| *own == shard);
            own.map_or_else(Standing::default, |(_, epoch)| Standing {
                epoch: *epoch,
                owns: true,
            })
        };
        (0..shards).map(standing).collect()
    }

    fn waiting(key: u64, count: u64) -> Waiting {
        let most = 1_000;
        Waiting { key, count, most }
    }

    fn node(shards: u16, counts: Vec<(u16, Vec<Waiting>)>) -> Backlogs {
        let mut backlogs = Backlogs::new(shards, TAKEOVER);
        let counts = counts.into_iter();
        backlogs.count(
            counts
                .map(|(shard, counts)| (Shard(shard), counts))
                .collect(),
        );
        backlogs
    }

    fn elsewhere(backlogs: &Backlogs, now: Instant) -> Vec<(u64, u64)> {
        backlogs.elsewhere(now).into_iter().collect()
    }

    #[test]
    fn each_counts_what_the_others_have_said_of_their_shards() {
        let now = Instant::now();
        let mut one = node(3, vec![(0, vec![waiting(7, 400)])]);
        let mut other = node(
            3,
            vec![
                (1, vec![waiting(7, 300), waiting(8, 90)]),
                (2, vec![waiting(8, 60)]),
            ],
        );
        let says = other.say(1, &owns(3, &[(1, 4), (2, 4)]), now);
        one.hear(1, &owns(3, &[(1, 4), (2, 4)]), says, now);
        let says = one.say(1, &owns(3, &[(0, 9)]), now);
        other.hear(1, &owns(3, &[(0, 9)]), says, now);
        assert_eq!(elsewhere(&one, now), [(7, 300), (8, 150)]);
        assert_eq!(elsewhere(&other, now), [(7, 400)]);
        // What is empty is said, so that it counts no more; a beat that came late is not.
        one.hear(
            3,
            &owns(3, &[(1, 4), (2, 4)]),
            vec![Waits(1, vec![]), Waits(2, vec![(8, 50)])],
            now,
        );
        one.hear(
            2,
            &owns(3, &[(1, 4), (2, 4)]),
            vec![Waits(1, vec![(7, 9)])],
            now,
        );
        assert_eq!(elsewhere(&one, now), [(8, 50)]);
        // Nor is what a node says of a shard that it does not own.
        one.hear(4, &owns(3, &[(1, 4)]), vec![Waits(2, vec![(8, 5)])], now);
        assert_eq!(elsewhere(&one, now), [(8, 50)]);
    }

    #[test]
    fn what_a_node_has_said_counts_until_its_shards_have_others_or_it_is_forgotten() {
        let now = Instant::now();
        let mut one = node(3, vec![(0, vec![])]);
        let waits = |shard, count| Waits(shard, vec![(7, count)]);
        one.hear(
            1,
            &owns(3, &[(1, 4), (2, 4)]),
            vec![waits(1, 300), waits(2, 200)],
            now,
        );
        // Another one has taken a shard over, and not counted yet.
        one.hear(50, &owns(3, &[(1, 5)]), vec![], now);
        assert_eq!(elsewhere(&one, now), [(7, 500)]);
        one.hear(51, &owns(3, &[(1, 5)]), vec![waits(1, 290)], now);
        one.hear(2, &owns(3, &[(1, 4)]), vec![waits(1, 300)], now);
        assert_eq!(elsewhere(&one, now), [(7, 490)]);
        // This one has taken over the other, and does not count it twice.
        one.count(vec![(Shard(0), vec![]), (Shard(2), vec![waiting(7, 180)])]);
        assert_eq!(elsewhere(&one, now), [(7, 290)]);
        one.say(9, &owns(3, &[(0, 1), (2, 5)]), now);
        // It loses it again: what it counted last holds until somebody else has.
        one.count(vec![(Shard(0), vec![])]);
        assert_eq!(elsewhere(&one, now), [(7, 470)]);
        let later = now + TAKEOVER * FORGOTTEN_AFTER;
        one.hear(90, &owns(3, &[(1, 5)]), vec![waits(1, 30)], later);
        assert_eq!(elsewhere(&one, later), [(7, 30)]);
    }

    #[test]
    fn beats_say_it_in_few_words_and_may_say_nothing_of_it() {
        let waits = vec![Waits(3, vec![(7, 40)]), Waits(4, vec![])];
        let written = serde_json::to_string(&waits).unwrap();
        assert_eq!(written, "[[3,[[7,40]]],[4,[]]]");
        let read: Vec<Waits> = serde_json::from_str(&written).unwrap();
        assert_eq!(read, waits);
        let older = r#"{"incarnation":1,"number":2,"takeover_ms":10000,"address":"a:1",
            "version":"0.1.0","shards":[]}"#;
        let older: crate::Pulse = serde_json::from_str(older).unwrap();
        assert_eq!(older.waits, []);
        let written = serde_json::to_string(&older).unwrap();
        assert!(!written.contains("waits"), "{written}");
    }

    #[test]
    fn little_is_not_said_and_of_many_only_the_fullest() {
        let now = Instant::now();
        let said = |mut node: Backlogs| {
            let says = node.say(1, &owns(2, &[(0, 1), (1, 1)]), now);
            says.into_iter()
                .map(|Waits(_, counts)| counts)
                .collect::<Vec<_>>()
        };
        // A two-hundredth of the bound.
        let counts = vec![waiting(1, 4), waiting(2, 5), waiting(3, 0)];
        assert_eq!(
            said(node(2, vec![(0, counts), (1, vec![])])),
            [vec![(2, 5)], vec![]]
        );
        let of_one = Waiting {
            key: 1,
            count: 1,
            most: 1,
        };
        assert_eq!(said(node(2, vec![(1, vec![of_one])])), [[(1, 1)]]);
        let many = SAID_MAX as u64 + 8;
        let counts = (0..many).map(|key| waiting(key, 10 + key)).collect();
        // One is full in the other shard.
        let full = vec![waiting(0, 1_000), waiting(1, 7)];
        let said = said(node(2, vec![(0, counts), (1, full)]));
        let keys: Vec<u64> = said[0].iter().map(|(key, _)| *key).collect();
        let fullest: Vec<u64> = (0..1).chain(9..many).collect();
        assert_eq!((keys, &said[1]), (fullest, &vec![(0, 1_000)]));
    }
}
