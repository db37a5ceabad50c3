//! What a cluster keeps about the versions of its rules, and how that goes on: without I/O.

use pointsman_journal::sharded::TenantShards;
use pointsman_schemas::{Name, Timestamp};
use serde::{Deserialize, Serialize};

/// Of how many proposals that have ended it is kept how.
const ENDED_MAX: usize = 16;

/// A version, or one to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts proposals, from 1.
    pub number: u64,
    /// What was proposed.
    pub proposal: Proposal,
    /// Since when it is in force; none where it is not yet.
    pub since: Option<Timestamp>,
}

/// Rules that a node proposes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Drawn by the node; its files are kept under it.
    pub id: String,
    /// The hash of its files.
    pub hash: String,
    /// In how many rows they are.
    pub rows: u32,
    /// The node that proposes it.
    pub by: Name,
    /// When it did.
    pub at: Timestamp,
    /// Whether it is only for a cluster that has no version yet.
    pub is_first: bool,
    /// How many shards its tenants are to have.
    #[serde(default)]
    pub shards: TenantShards,
}

/// A node that cannot work with a proposed version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    /// The version.
    pub number: u64,
    /// Which node.
    pub node: Name,
    /// What is wrong there, each with its file and line.
    pub why: Vec<String>,
}

/// A proposal that came to its end without being in force by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub id: String,
    /// The number that it had as a version; none where it was given none.
    pub number: Option<u64>,
    /// How.
    pub how: End,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// A version says the same: it is in force, or goes on in its place.
    Is(u64),
    /// There was a version already, and it was only for a cluster without.
    Late,
    /// A later proposal took its place.
    Replaced(u64),
    /// A node cannot work with it.
    Refused(Objection),
}

/// What waits to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    pub proposals: Vec<Proposal>,
    pub objections: Vec<Objection>,
}

impl Inbox {
    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty() && self.objections.is_empty()
    }
}

/// What is kept. Whoever owns the first shard alone changes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Counts the changes.
    pub revision: u64,
    /// The last number that a version was given.
    pub last: u64,
    /// The version in force; none before the first.
    pub in_force: Option<Version>,
    /// The one before it.
    pub before: Option<Version>,
    /// The one that is to be in force once every living node could work with it.
    pub proposed: Option<Version>,
    /// How the last proposals ended that are none of these, the last one last.
    pub ended: Vec<Ended>,
    /// How many shards each tenant has, those included that are in no version any longer. It lies in
    /// a row of its own, for whoever reads the store.
    #[serde(skip)]
    pub shards: TenantShards,
}

impl Kept {
    /// Takes what waits, and puts the proposed version in force where every living node has
    /// prepared it: `prepared` is the last version that each of them has. Returns the proposals
    /// whose files nobody needs any longer, where anything changes.
    pub fn go_on(
        &mut self,
        inbox: &Inbox,
        prepared: &[u64],
        now: Timestamp,
    ) -> Option<Vec<Proposal>> {
        let mut dropped = Vec::new();
        for objection in &inbox.objections {
            if let Some(refused) = self.take_proposed(|one| one.number == objection.number) {
                let number = Some(refused.number);
                let end = End::Refused(objection.clone());
                dropped.push(self.end(refused.proposal, number, end));
            }
        }
        for proposal in &inbox.proposals {
            dropped.extend(self.take(proposal.clone(), now));
        }
        let is_prepared = |one: &Version| prepared.iter().all(|number| *number == one.number);
        let is_ripe = !prepared.is_empty() && self.proposed.as_ref().is_some_and(is_prepared);
        if is_ripe && let Some(version) = self.proposed.take() {
            dropped.extend(self.put_in_force(version, now));
        }
        if inbox.is_empty() && !is_ripe {
            return None;
        }
        self.revision += 1;
        Some(dropped)
    }

    fn take(&mut self, proposal: Proposal, now: Timestamp) -> Vec<Proposal> {
        let says_the_same = |one: &&Version| one.proposal.hash == proposal.hash;
        let mut dropped = Vec::new();
        if let Some(in_force) = &self.in_force {
            let number = in_force.number;
            if proposal.is_first {
                return vec![self.end(proposal, None, End::Late)];
            }
            // Where tenants have kept other shards than it says, it may be in force anew.
            let has_its_shards = self
                .shards
                .changed_by(&proposal.shards, usize::MAX)
                .is_empty();
            if has_its_shards && says_the_same(&in_force) {
                // Whoever goes back to it takes back what was proposed meanwhile.
                let taken_back = self.take_proposed(|_| true);
                dropped.extend(taken_back.map(|one| self.replaced(one, number)));
                dropped.push(self.end(proposal, None, End::Is(number)));
                return dropped;
            }
        }
        if let Some(same) = self.proposed.as_ref().filter(says_the_same) {
            let number = same.number;
            return vec![self.end(proposal, None, End::Is(number))];
        }
        self.last += 1;
        let version = Version {
            number: self.last,
            proposal,
            since: None,
        };
        if self.in_force.is_none() {
            // No node works yet: each that starts looks whether it can work with this one.
            return self.put_in_force(version, now);
        }
        let replaced = self.proposed.replace(version);
        dropped.extend(replaced.map(|one| self.replaced(one, self.last)));
        dropped
    }

    fn take_proposed(&mut self, is_meant: impl FnOnce(&Version) -> bool) -> Option<Version> {
        self.proposed.take_if(|one| is_meant(one))
    }

    fn put_in_force(&mut self, version: Version, now: Timestamp) -> Vec<Proposal> {
        let is_first = self.in_force.is_none();
        for (tenant, wanted) in &version.proposal.shards.0 {
            let known = self.shards.0.entry(tenant.clone());
            let known = known.or_insert(*wanted);
            // What waits in imported stores waits where it should by what these say.
            if !is_first {
                *known = *wanted;
            }
        }
        let since = Some(now);
        let before = self.in_force.replace(Version { since, ..version });
        let forgotten = std::mem::replace(&mut self.before, before);
        forgotten.map(|one| one.proposal).into_iter().collect()
    }

    fn replaced(&mut self, version: Version, by: u64) -> Proposal {
        self.end(version.proposal, Some(version.number), End::Replaced(by))
    }

    fn end(&mut self, proposal: Proposal, number: Option<u64>, how: End) -> Proposal {
        self.ended.push(Ended {
            id: proposal.id.clone(),
            number,
            how,
        });
        let surplus = self.ended.len().saturating_sub(ENDED_MAX);
        self.ended.drain(..surplus);
        proposal
    }

    /// The version in force; 0 before the first.
    pub fn number(&self) -> u64 {
        self.in_force.as_ref().map_or(0, |one| one.number)
    }

    /// Why the last one that was proposed since is not in force, where a node refuses it.
    pub fn refused(&self) -> Option<&Objection> {
        self.ended.iter().rev().find_map(|ended| match &ended.how {
            End::Refused(objection) if objection.number > self.number() => Some(objection),
            _ => None,
        })
    }

    /// How a proposal stands; none where nothing is known of it, any longer or yet.
    pub fn fate(&self, id: &str) -> Option<Fate<'_>> {
        let versions = [&self.in_force, &self.before, &self.proposed];
        let mut versions = versions.into_iter().flatten();
        if let Some(version) = versions.find(|one| one.proposal.id == id) {
            return Some(self.fate_of(version.number));
        }
        let ended = self.ended.iter().find(|one| one.id == id)?;
        Some(match &ended.how {
            // It shares the fate of the version that says the same.
            End::Is(number) => self.fate_of(*number),
            End::Late => Fate::Replaced(self.number()),
            End::Replaced(number) => Fate::Replaced(*number),
            End::Refused(objection) => Fate::Refused(objection),
        })
    }

    /// How a version stands that was given this number.
    fn fate_of(&self, number: u64) -> Fate<'_> {
        if self
            .proposed
            .as_ref()
            .is_some_and(|one| one.number == number)
        {
            return Fate::Proposed(number);
        }
        let ended = self.ended.iter().find(|one| one.number == Some(number));
        match ended.map(|one| &one.how) {
            Some(End::Refused(objection)) => Fate::Refused(objection),
            Some(End::Replaced(by)) => Fate::Replaced(*by),
            _ => Fate::InForce(number),
        }
    }
}

/// How a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<'k> {
    /// Not every living node has prepared it yet.
    Proposed(u64),
    /// It is, or was, in force under this number.
    InForce(u64),
    /// This version took its place.
    Replaced(u64),
    /// A node cannot work with it.
    Refused(&'k Objection),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(id: &str, hash: &str) -> Proposal {
        Proposal {
            id: id.to_owned(),
            hash: hash.to_owned(),
            rows: 1,
            by: Name::new("a").unwrap(),
            at: Timestamp(1),
            is_first: false,
            shards: TenantShards::default(),
        }
    }

    fn objection(number: u64) -> Objection {
        Objection {
            number,
            node: Name::new("b").unwrap(),
            why: vec!["rules.yaml:3:1: no".to_owned()],
        }
    }

    /// What is kept of a cluster, which every step goes on with as the next owner reads it.
    struct Cluster(Kept);

    impl Cluster {
        /// One whose first version says this.
        fn of(hash: &str) -> Self {
            let mut cluster = Self(Kept::default());
            assert_eq!(
                cluster.propose(&format!("of-{hash}"), hash, &[]),
                [] as [String; 0]
            );
            assert_eq!(cluster.0.number(), 1);
            cluster
        }

        fn step(&mut self, inbox: Inbox, prepared: &[u64]) -> Option<Vec<String>> {
            let before = self.0.clone();
            let dropped = self.0.go_on(&inbox, prepared, Timestamp(2));
            let has_changed = dropped.is_some();
            assert_eq!(self.0 != before, has_changed, "what changes is counted");
            assert_eq!(self.0.revision, before.revision + u64::from(has_changed));
            let bytes = serde_json::to_vec(&self.0).unwrap();
            let shards = TenantShards::decode(&self.0.shards.encode()).unwrap();
            self.0 = Kept {
                shards,
                ..serde_json::from_slice(&bytes).unwrap()
            };
            dropped.map(|dropped| dropped.into_iter().map(|one| one.id).collect())
        }

        fn propose(&mut self, id: &str, hash: &str, prepared: &[u64]) -> Vec<String> {
            let inbox = Inbox {
                proposals: vec![proposal(id, hash)],
                objections: Vec::new(),
            };
            self.step(inbox, prepared).unwrap()
        }

        fn object(&mut self, number: u64) -> Vec<String> {
            let inbox = Inbox {
                proposals: Vec::new(),
                objections: vec![objection(number)],
            };
            self.step(inbox, &[1, 1]).unwrap()
        }

        fn hear(&mut self, prepared: &[u64]) -> Option<Vec<String>> {
            self.step(Inbox::default(), prepared)
        }
    }

    #[test]
    fn it_is_in_force_once_every_living_node_has_prepared_it_and_not_before() {
        let mut cluster = Cluster::of("x");
        cluster.propose("p", "y", &[1, 1, 1]);
        assert_eq!(cluster.0.fate("p"), Some(Fate::Proposed(2)));
        for prepared in [&[][..], &[0, 2, 2], &[2, 2, 0], &[2, 1, 2], &[2, 3]] {
            assert_eq!(cluster.hear(prepared), None);
            assert_eq!(cluster.0.number(), 1);
        }
        // The third one has died.
        assert_eq!(cluster.hear(&[2, 2]), Some(Vec::new()));
        assert_eq!(cluster.0.number(), 2);
        assert_eq!(cluster.0.fate("p"), Some(Fate::InForce(2)));
        assert_eq!(cluster.hear(&[2, 2]), None, "that is all");

        // The one before it is kept, and the one before that is not.
        cluster.propose("q", "z", &[]);
        assert_eq!(cluster.hear(&[3, 3]), Some(vec!["of-x".to_owned()]));
        assert_eq!(cluster.0.before.as_ref().unwrap().number, 2);
    }

    #[test]
    fn one_node_that_refuses_ends_it_whoever_has_prepared_it() {
        let mut cluster = Cluster::of("x");
        cluster.propose("p", "y", &[1, 1]);
        assert_eq!(cluster.object(2), ["p"]);
        assert_eq!(cluster.0.fate("p"), Some(Fate::Refused(&objection(2))));
        assert_eq!(cluster.hear(&[2, 2]), None);
        assert_eq!(cluster.0.number(), 1);
        // Its number is never given again, and what is said of it later changes nothing.
        cluster.propose("q", "y", &[1, 1]);
        assert_eq!(cluster.0.fate("q"), Some(Fate::Proposed(3)));
        assert!(cluster.object(2).is_empty());
        assert_eq!(cluster.hear(&[2, 2]), None);
        assert!(cluster.hear(&[3, 3]).is_some());
        assert_eq!(cluster.0.number(), 3);
    }

    #[test]
    fn a_refusal_that_comes_with_the_last_one_that_has_prepared_it_counts() {
        let mut cluster = Cluster::of("x");
        cluster.propose("p", "y", &[]);
        let inbox = Inbox {
            proposals: Vec::new(),
            objections: vec![objection(2)],
        };
        cluster.step(inbox, &[2, 2]);
        assert_eq!(cluster.0.number(), 1);
    }

    #[test]
    fn the_later_proposal_takes_the_place_of_the_earlier_one() {
        let mut cluster = Cluster::of("x");
        cluster.propose("p", "y", &[]);
        assert_eq!(cluster.propose("q", "z", &[2, 2]), ["p"]);
        assert_eq!(cluster.0.fate("p"), Some(Fate::Replaced(3)));
        assert_eq!(cluster.hear(&[2, 2]), None);
        // The same once more, from another node whose files say that too.
        assert_eq!(cluster.propose("r", "z", &[]), ["r"]);
        assert_eq!(cluster.0.fate("r"), Some(Fate::Proposed(3)));
        cluster.object(3);
        assert_eq!(cluster.0.fate("r"), Some(Fate::Refused(&objection(3))));
        // Back to what is in force takes back what is not.
        cluster.propose("s", "y", &[]);
        assert_eq!(cluster.propose("t", "x", &[]), ["s", "t"]);
        assert_eq!(cluster.0.fate("s"), Some(Fate::Replaced(1)));
        assert_eq!(cluster.0.fate("t"), Some(Fate::InForce(1)));
        assert_eq!(cluster.hear(&[4, 4]), None);
    }

    #[test]
    fn the_first_version_needs_nobody_and_the_files_of_later_nodes_change_nothing() {
        let mut cluster = Cluster(Kept::default());
        let first = |id: &str, hash| Proposal {
            is_first: true,
            ..proposal(id, hash)
        };
        let inbox = Inbox {
            proposals: vec![first("p", "x"), first("q", "y")],
            objections: Vec::new(),
        };
        assert_eq!(cluster.step(inbox, &[0, 0, 0]), Some(vec!["q".to_owned()]));
        assert_eq!(cluster.0.fate("p"), Some(Fate::InForce(1)));
        assert_eq!(cluster.0.fate("q"), Some(Fate::Replaced(1)));
        assert_eq!(cluster.0.fate("r"), None);
    }

    fn shards(count: u16) -> TenantShards {
        let tenant = Name::new("acme").unwrap();
        TenantShards([(tenant, std::num::NonZeroU16::new(count))].into())
    }

    fn with_shards(id: &str, hash: &str, count: u16) -> Inbox {
        let proposal = Proposal {
            shards: shards(count),
            ..proposal(id, hash)
        };
        Inbox {
            proposals: vec![proposal],
            objections: Vec::new(),
        }
    }

    #[test]
    fn tenants_have_the_shards_of_the_version_in_force_and_those_that_are_gone_keep_theirs() {
        let mut cluster = Cluster(Kept::default());
        cluster.step(with_shards("p", "x", 1), &[]);
        assert_eq!(cluster.0.shards, shards(1));
        cluster.step(with_shards("q", "y", 2), &[1]);
        assert_eq!(cluster.0.shards, shards(1), "it is not in force yet");
        cluster.hear(&[2]);
        assert_eq!(cluster.0.shards, shards(2));
        cluster.propose("r", "z", &[2]);
        cluster.hear(&[3]);
        assert_eq!((cluster.0.number(), &cluster.0.shards), (3, &shards(2)));
    }

    #[test]
    fn what_stores_say_of_tenants_holds_until_a_later_version_says_otherwise() {
        // Stores that were imported.
        let mut cluster = Cluster(Kept {
            shards: shards(3),
            ..Kept::default()
        });
        cluster.step(with_shards("p", "x", 1), &[]);
        assert_eq!((cluster.0.number(), &cluster.0.shards), (1, &shards(3)));
        // The same once more is another version, since it would change something.
        cluster.step(with_shards("q", "x", 1), &[1]);
        assert_eq!(cluster.0.fate("q"), Some(Fate::Proposed(2)));
        cluster.hear(&[2]);
        assert_eq!((cluster.0.number(), &cluster.0.shards), (2, &shards(1)));
        cluster.step(with_shards("r", "x", 1), &[2]);
        assert_eq!(cluster.0.fate("r"), Some(Fate::InForce(2)));
    }

    #[test]
    fn of_very_many_that_ended_the_last_are_known() {
        let mut cluster = Cluster::of("x");
        for number in 0..ENDED_MAX + 3 {
            cluster.propose(&format!("p{number}"), "x", &[]);
        }
        assert_eq!(cluster.0.ended.len(), ENDED_MAX);
        assert_eq!(cluster.0.fate("p0"), None);
        assert_eq!(cluster.0.fate("p3"), Some(Fate::InForce(1)));
    }
}
