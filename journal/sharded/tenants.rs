//! In how many shards the events of each tenant lie, and in which.
//!
//! Those are the shards that rank highest by a hash of the tenant and the shard: they stay where
//! the tenant is given more, and tenants that have few lie evenly over all.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use bytes::Bytes;
use pointsman_schemas::Name;
use serde::{Deserialize, Serialize};

use crate::key::hash;

/// The tenant under which a cluster keeps what is its own.
pub const CLUSTER: &str = "pointsman-cluster";

/// The source under which the first shard keeps the versions of a cluster's rules, and beside them
/// how many shards each tenant has.
pub const RULE_VERSIONS: &str = "rule-versions";

/// The key of the latter.
pub const TENANT_SHARDS: &[u8] = b"b";

/// A number of shards that somebody wants; none for all that there are.
pub type WantedShards = Option<NonZeroU16>;

/// How many shards each tenant has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantShards(pub BTreeMap<Name, WantedShards>);

impl TenantShards {
    /// What tenants have of which nobody says it: `default` all, every other one a single shard.
    #[must_use]
    pub fn usual_of<'n>(tenants: impl IntoIterator<Item = &'n Name>) -> Self {
        let default = Name::default_tenant();
        let usual = |tenant: &Name| (*tenant != default).then_some(NonZeroU16::MIN);
        let tenants = tenants.into_iter();
        Self(
            tenants
                .map(|tenant| (tenant.clone(), usual(tenant)))
                .collect(),
        )
    }

    /// Whether nothing is said of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of so many shards a tenant has; all where it is not known here.
    #[must_use]
    pub fn count(&self, tenant: &Name, of: usize) -> usize {
        let wanted = self.0.get(tenant).copied().flatten();
        wanted.map_or(of, |wanted| of.min(wanted.get().into()))
    }

    /// The tenants that would have another number of so many shards by `wanted`, which says nothing
    /// about others.
    #[must_use]
    pub fn changed_by(&self, wanted: &Self, of: usize) -> Vec<Name> {
        let tenants = wanted.0.keys();
        let changed = tenants.filter(|tenant| self.count(tenant, of) != wanted.count(tenant, of));
        changed.cloned().collect()
    }

    /// Returns the tenants that have not all of so many shards, with the numbers of those that they
    /// have.
    #[must_use]
    pub fn few(&self, of: usize) -> Vec<(Name, Vec<u16>)> {
        let few = |tenant: &Name| {
            let Places::Few(places) = self.places(tenant, of) else {
                return None;
            };
            let numbers = places.iter().filter_map(|place| u16::try_from(*place).ok());
            let mut numbers: Vec<u16> = numbers.collect();
            numbers.sort_unstable();
            Some((tenant.clone(), numbers))
        };
        self.0.keys().filter_map(few).collect()
    }

    /// Where the shards of a tenant are among so many.
    pub(crate) fn places(&self, tenant: &Name, of: usize) -> Places {
        let count = self.count(tenant, of);
        if count == of {
            return Places::All(of);
        }
        let mut ranked: Vec<_> = (0..of).map(|place| (rank(tenant, place), place)).collect();
        ranked.sort_unstable_by(|one, other| other.cmp(one));
        let best = ranked.into_iter().take(count);
        Places::Few(best.map(|(_, place)| place).collect())
    }

    /// As it is kept.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // A map of names and numbers can always be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// What is kept.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(kept: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(kept).map_err(|error| error.to_string())
    }
}

fn rank(tenant: &Name, place: usize) -> u64 {
    let [rank, _] = hash(&["shard:tenant", tenant.as_str(), &place.to_string()]);
    rank
}

/// The places of a tenant's shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Places {
    /// All of so many.
    All(usize),
    /// These.
    Few(Box<[usize]>),
}

impl Places {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Few(places) => places.len(),
        }
    }

    /// The one that a hash or a turn falls on.
    pub(crate) fn at(&self, number: usize) -> usize {
        let index = number % self.len().max(1);
        match self {
            Self::All(_) => index,
            Self::Few(places) => places.get(index).copied().unwrap_or_default(),
        }
    }

    pub(crate) fn contains(&self, place: usize) -> bool {
        match self {
            Self::All(count) => place < *count,
            Self::Few(places) => places.contains(&place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn with(name: &str, count: u16) -> TenantShards {
        TenantShards([(tenant(name), NonZeroU16::new(count))].into())
    }

    fn places(name: &str, count: u16, of: usize) -> Vec<usize> {
        match with(name, count).places(&tenant(name), of) {
            Places::All(of) => (0..of).collect(),
            Places::Few(places) => places.to_vec(),
        }
    }

    #[test]
    fn the_shards_of_a_tenant_are_the_same_in_every_version() {
        assert_eq!(places("acme", 3, 16), [11, 9, 5]);
        assert_eq!(places("other", 3, 16), [2, 0, 10]);
    }

    #[test]
    fn a_tenant_that_is_given_more_keeps_those_it_had() {
        for name in ["acme", "other", "third"] {
            let mut before = Vec::new();
            for count in 1..16 {
                let now = places(name, count, 16);
                assert_eq!((now.len(), now.starts_with(&before)), (count.into(), true));
                before = now;
            }
        }
    }

    #[test]
    fn more_than_there_are_means_all_and_so_does_a_tenant_that_is_not_known() {
        for count in [4, 5, u16::MAX] {
            assert_eq!(
                with("acme", count).places(&tenant("acme"), 4),
                Places::All(4)
            );
        }
        let none = TenantShards::default();
        assert_eq!(none.places(&tenant("acme"), 4), Places::All(4));
        assert_eq!(none.changed_by(&with("acme", 5), 4), []);
        assert_eq!(none.changed_by(&with("acme", 3), 4), [tenant("acme")]);
        assert_eq!(with("acme", 3).changed_by(&none, 4), [], "it says nothing");
        assert_eq!(with("acme", 3).changed_by(&with("acme", 3), 1), []);
    }

    #[test]
    fn those_are_listed_that_have_not_all() {
        let mut shards = with("acme", 3);
        shards.0.insert(Name::default_tenant(), None);
        assert_eq!(shards.few(16), [(tenant("acme"), vec![5, 9, 11])]);
        assert_eq!(shards.few(3), []);
    }

    #[test]
    fn tenants_with_one_shard_lie_evenly_over_all() {
        let mut counts = [0; 4];
        for number in 0..400 {
            counts[places(&format!("tenant-{number}"), 1, 4)[0]] += 1;
        }
        assert!(
            counts.iter().all(|count| (70..130).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn what_is_kept_says_the_same_again() {
        let mut shards = with("acme", 2);
        shards.0.insert(Name::default_tenant(), None);
        let kept = shards.encode();
        assert_eq!(&*kept, br#"{"acme":2,"default":null}"#);
        assert_eq!(TenantShards::decode(&kept), Ok(shards));
        assert!(TenantShards::decode(b"{\"acme\":0}").is_err());
    }
}
