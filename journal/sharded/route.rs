//! Which shard an append goes to, and how it is divided: see the rules in the parent's doc.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use pointsman_schemas::{Event, Name};
use smallvec::SmallVec;

use super::Sharded;
use super::placement::Placement;
use super::tenants::Places;
use crate::key::hash;
use crate::{Append, Appended, Entry, Guards, Identity, JournalError, NewDelivery};

/// Entries that go to one shard before it is the next one's turn.
pub const TURN_ENTRIES: usize = 256;

/// The place of a source's home, to be taken modulo the number of shards.
pub(crate) fn home(tenant: &Name, source: &Name) -> usize {
    place(hash(&["shard:at-home", tenant.as_str(), source.as_str()]))
}

/// The place of an order key's deliveries, to be taken modulo the number of its tenant's shards.
pub(crate) fn of_key(tenant: &Name, order_key: u64) -> usize {
    place(hash(&[
        "shard:key",
        tenant.as_str(),
        &order_key.to_string(),
    ]))
}

/// The place of an event that is known by its identity, likewise.
pub(crate) fn of_event(tenant: &Name, origin: &Name, event: &Event) -> usize {
    place(hash(&[
        "shard:event",
        tenant.as_str(),
        origin.as_str(),
        event.source(),
        event.id(),
    ]))
}

fn place([hash, _]: [u64; 2]) -> usize {
    // Of a hash any bits will do.
    (hash & u64::from(u32::MAX)) as usize
}

/// The parts of one append, by shard, and where the answers for its entries are among theirs.
struct Division {
    parts: BTreeMap<usize, Append>,
    /// For each entry where its answers are: the shard, and the place in that one's part.
    answers: Vec<SmallVec<[(usize, usize); 1]>>,
}

impl Sharded {
    /// Notes that a source keeps a cursor or a position.
    pub(super) fn is_at_home(&self, tenant: &Name, source: &Name) {
        let source = (tenant.clone(), source.clone());
        if !self.at_home.read().contains(&source) {
            self.at_home.write().insert(source);
        }
    }

    pub(super) async fn append_divided(
        &self,
        append: Append,
    ) -> Result<Vec<Appended>, JournalError> {
        let keeps_position = append.cursor.is_some() || !append.positions.is_empty();
        if keeps_position {
            self.is_at_home(&append.tenant, &append.origin);
        }
        let source = (append.tenant.clone(), append.origin.clone());
        // What has no entries has nothing to be divided.
        let is_at_home =
            keeps_position || append.entries.is_empty() || self.at_home.read().contains(&source);
        // Held until it has ended. The source of a position may be elsewhere after a wait.
        let placement = self.placements.of(&append, keeps_position).await?;
        if is_at_home || self.shards.len() == 1 {
            return self.home(&source.0, &source.1).append(append).await;
        }
        let Division { parts, answers } = self.divide(append, &placement);
        let append = async |(place, part)| Ok((place, self.at(place).append(part).await?));
        let done = join_all(parts.into_iter().map(append)).await;
        let done: BTreeMap<usize, Vec<Appended>> = done.into_iter().collect::<Result<_, _>>()?;
        let answer = |(place, index): &(usize, usize)| done.get(place)?.get(*index).copied();
        let answers = answers.iter().map(|entry| entry.iter().filter_map(answer));
        Ok(answers
            .filter_map(|each| each.reduce(Appended::with_copy))
            .collect())
    }

    fn divide(&self, append: Append, placement: &Placement) -> Division {
        let (tenant, origin) = (append.tenant, append.origin);
        let places = placement.places(&tenant);
        let empty = || Append {
            tenant: tenant.clone(),
            origin: origin.clone(),
            entries: Vec::new(),
            rejects: Vec::new(),
            cursor: None,
            positions: Vec::new(),
        };
        let (mut parts, mut answers) = (BTreeMap::new(), Vec::with_capacity(append.entries.len()));
        for entry in append.entries {
            let mut own = SmallVec::new();
            for (place, piece) in self.pieces((&tenant, &origin), places, entry) {
                let part: &mut Append = parts.entry(place).or_insert_with(empty);
                own.push((place, part.entries.len()));
                part.entries.push(piece);
            }
            answers.push(own);
        }
        if !append.rejects.is_empty() {
            let place = home(&tenant, &origin) % self.shards.len();
            parts.entry(place).or_insert_with(empty).rejects = append.rejects;
        }
        Division { parts, answers }
    }

    /// The place of the shard among these whose turn it is.
    fn next_in_turn(&self, places: &Places) -> usize {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) / TURN_ENTRIES;
        let shards = (0..places.len()).map(|index| places.at(index));
        let is_here = |place: &usize| self.at(*place).is_here();
        let here: SmallVec<[usize; 16]> = shards.filter(is_here).collect();
        let any = || places.at(turn);
        here.get(turn % here.len().max(1))
            .copied()
            .unwrap_or_else(any)
    }

    /// The copies of an entry, each with the deliveries that are decided about in its shard; nearly
    /// always one.
    fn pieces(
        &self,
        (tenant, origin): (&Name, &Name),
        places: &Places,
        entry: Entry,
    ) -> Vec<(usize, Entry)> {
        let of_key = |key: u64| of_key(tenant, key);
        let anchor = |one: &NewDelivery| {
            let guard = || guarding(&entry, one).map(|identity| place(identity.0));
            let place = one.order_key.map(of_key).or_else(guard)?;
            Some(places.at(place))
        };
        let anchors: SmallVec<[Option<usize>; 2]> = entry.deliveries.iter().map(anchor).collect();
        let mut anchored: SmallVec<[usize; 2]> = anchors.iter().flatten().copied().collect();
        let first = anchored.first().copied();
        anchored.sort_unstable();
        anchored.dedup();
        let Some(first) = first else {
            let dead = entry.dead.as_ref().and_then(|dead| dead.order_key);
            let place = dead
                .map(of_key)
                .or_else(|| deduplicated(tenant, origin, &entry));
            let place = place.map_or_else(|| self.next_in_turn(places), |place| places.at(place));
            return vec![(place, entry)];
        };
        if anchored.len() == 1 {
            return vec![(first, entry)];
        }
        let piece = |place| {
            let deliveries = entry.deliveries.iter().zip(&anchors);
            let own = deliveries.filter(|(_, anchor)| anchor.unwrap_or(first) == place);
            let piece = Entry {
                deliveries: own.map(|(one, _)| *one).collect(),
                dead: entry.dead.clone().filter(|_| place == first),
                ..entry.clone()
            };
            (place, piece)
        };
        anchored.iter().map(|place| piece(*place)).collect()
    }
}

/// The key of a rule that guards a delivery.
fn guarding<'e>(entry: &'e Entry, delivery: &NewDelivery) -> Option<&'e Identity> {
    let keys = entry.terms.iter().flat_map(|terms| &terms.keys);
    let mut guarding = keys.filter(|key| match &key.guards {
        Guards::Deliveries(guarded) => guarded.contains(&delivery.subscription),
        Guards::Event | Guards::Task => false,
    });
    guarding.next().map(|key| &key.identity)
}

/// Where an entry is known by what deduplicates all of it.
fn deduplicated(tenant: &Name, origin: &Name, entry: &Entry) -> Option<usize> {
    let mut keys = entry.terms.iter().flat_map(|terms| &terms.keys);
    let key = keys.find(|key| !matches!(key.guards, Guards::Deliveries(_)));
    if let Some(key) = key {
        return Some(place(key.identity.0));
    }
    entry.deduplicate?;
    Some(of_event(tenant, origin, &entry.event))
}
