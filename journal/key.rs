//! Keys by which events are told from their duplicates.

use std::time::Duration;

use pointsman_schemas::{DeliveryId, Name, Sequence, SubscriptionNumber, Timestamp};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

/// What something is remembered by: 128 bits of a hash over whom it concerns and a key. The same in
/// every version, since it is kept on disk.
///
/// Whoever sends is part of it: by sending a key first nobody can suppress what another sends.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Identity(pub [u64; 2]);

impl Identity {
    /// Of a key that a source declares for its events. `sender` tells callers apart that come in by
    /// one source; it is empty where there is one.
    #[must_use]
    pub fn of_source(tenant: &Name, origin: &Name, sender: &str, key: &str) -> Self {
        let (tenant, origin) = (tenant.as_str(), origin.as_str());
        Self(hash(&["key:source", tenant, origin, sender, key]))
    }

    /// Of a dead letter that is brought over from another store, by the id that it has there.
    #[must_use]
    pub fn of_dead_letter(tenant: &Name, id: &DeliveryId) -> Self {
        Self(hash(&["key:dead", tenant.as_str(), &id.to_string()]))
    }

    /// Of a key that a rule declares for its deliveries.
    #[must_use]
    pub fn of_rule(tenant: &Name, rule: &Name, key: &str) -> Self {
        Self(hash(&["key:rule", tenant.as_str(), rule.as_str(), key]))
    }

    /// Of a task's id. Those of one id lie beside each other, whoever gave it: see
    /// [`Lookup::TaskId`].
    #[must_use]
    pub fn of_task(tenant: &Name, origin: &Name, sender: &str, id: &str) -> Self {
        let [own, _] = hash(&["key:task", tenant.as_str(), origin.as_str(), sender, id]);
        Self([task_id(tenant, id), own])
    }
}

/// The half of a task's identity that does not know who gave it.
pub(crate) fn task_id(tenant: &Name, id: &str) -> u64 {
    let [shared, _] = hash(&["key:tasks", tenant.as_str(), id]);
    shared
}

/// 128 bits of a SHA-256 over texts, each with its length before it.
pub(crate) fn hash(texts: &[&str]) -> [u64; 2] {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let hash = hasher.finalize();
    let (halves, _) = hash.as_chunks::<8>();
    let half = |at: usize| halves.get(at).map_or(0, |half| u64::from_le_bytes(*half));
    [half(0), half(1)]
}

/// A key of an entry: where it was stored less than the window ago, something of the entry is not.
/// It is remembered with what is stored, for as long as its window.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Key {
    /// What it is remembered by.
    pub identity: Identity,
    /// For how long it is remembered, and how far back it is looked for.
    pub window: Duration,
    /// What is left out where it is known.
    pub guards: Guards,
}

/// What of an entry is left out where its key is known already.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Guards {
    /// All of it: it is a duplicate.
    Event,
    /// All of it: the id of its tasks is taken.
    Task,
    /// Its deliveries to these alone.
    Deliveries(#[serde(with = "crate::encoding::few")] SmallVec<[SubscriptionNumber; 2]>),
}

/// Which keys of an entry are known, by their places among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KnownKeys(u64);

impl KnownKeys {
    /// The last place that is told from those behind it.
    const PLACE_MAX: usize = 63;

    pub(crate) fn insert(&mut self, place: usize) {
        self.0 |= 1 << place.min(Self::PLACE_MAX);
    }

    /// Those that are known here or there.
    pub(crate) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the key at this place is known. Behind the 64th that is said of all alike, where it
    /// holds for one.
    #[must_use]
    pub fn contains(self, place: usize) -> bool {
        self.0 & (1 << place.min(Self::PLACE_MAX)) != 0
    }
}

/// What is looked for among the keys that are remembered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Lookup {
    /// This one.
    Key(Identity),
    /// Those of a task's id, whoever gave it.
    TaskId {
        /// Whose.
        tenant: Name,
        /// The id.
        id: String,
    },
}

/// A key that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RememberedKey {
    /// What it is remembered by.
    pub identity: Identity,
    /// The event that was stored with it, which may be gone by now.
    pub sequence: Sequence,
    /// When that was.
    pub at: Timestamp,
    /// Until when it is remembered.
    pub until: Timestamp,
    /// The deliveries that were made of the event, where the key is the id of tasks.
    pub deliveries: Vec<DeliveryId>,
}

/// What a remembered key takes on disk, with its place in two indexes, generously.
pub(crate) const KEY_BYTES: u64 = 192;

/// Of the room that a store may take, keys take this part at most: past it those are forgotten that
/// would be soonest.
pub(crate) const KEYS_PART: u64 = 4;

/// How many keys a store of this size remembers at most.
pub(crate) fn keys_max(bytes_max: u64) -> u64 {
    (bytes_max / KEYS_PART / KEY_BYTES).max(1)
}
