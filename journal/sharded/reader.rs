//! What is to be seen in all shards.
//!
//! Shards that cannot be reached just now are left out of lists, and named
//! ([`Reader::incomplete`]).
//!
//! Lists that go by ids (events, deliveries, dead letters) are those of one shard behind the other,
//! since an id begins with its shard. Those that go by something else are merged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber};

use super::replay;
use crate::{
    Activity, BlockedPage, Counts, DeadLetter, DeadSelection, EndedPage, EndedSelection, EventPage,
    EventsFrom, HistoryPlace, JournalError, Lookup, Pending, Reader, RememberedKey, Replay,
    ReplayId, Shard, ShardNumber, StoredEvent, SubscriptionStatus, TaskLife, Totals,
};

/// The readers of all shards.
#[derive(Debug)]
pub(super) struct ShardedReader {
    /// By their numbers.
    readers: Vec<(ShardNumber, Arc<dyn Reader>)>,
    /// Those that could not be asked.
    missing: Mutex<BTreeSet<ShardNumber>>,
}

impl ShardedReader {
    pub(super) fn new<'s>(shards: impl Iterator<Item = &'s (ShardNumber, Arc<dyn Shard>)>) -> Self {
        Self {
            readers: shards
                .map(|(number, shard)| (*number, shard.reader()))
                .collect(),
            missing: Mutex::default(),
        }
    }

    /// What a shard has answered; nothing where it could not be asked, which is noted.
    fn heard<T>(
        &self,
        number: ShardNumber,
        answer: Result<T, JournalError>,
    ) -> Result<Option<T>, JournalError> {
        match answer {
            Err(JournalError::Away(_)) => {
                self.missing.lock().insert(number);
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }

    fn of(&self, sequence: Sequence) -> Option<&dyn Reader> {
        let number = ShardNumber::of(sequence);
        let found = self.readers.iter().find(|(own, _)| *own == number);
        found.map(|(_, reader)| &**reader)
    }

    /// The shards from the one of a sequence on, each with whether it is that one.
    fn from(
        &self,
        after: Option<Sequence>,
    ) -> impl Iterator<Item = (bool, ShardNumber, &dyn Reader)> {
        let from = after.map(ShardNumber::of);
        let rest = self
            .readers
            .iter()
            .filter(move |(own, _)| from.is_none_or(|from| *own >= from));
        rest.map(move |(own, reader)| (Some(*own) == from, *own, &**reader))
    }
}

#[async_trait]
impl Reader for ShardedReader {
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError> {
        let mut all: BTreeMap<SubscriptionNumber, SubscriptionStatus> = BTreeMap::new();
        for (number, reader) in &self.readers {
            let own = self.heard(*number, reader.subscriptions().await)?;
            for own in own.unwrap_or_default() {
                let Some(sum) = all.get_mut(&own.number) else {
                    all.insert(own.number, own);
                    continue;
                };
                sum.counts += &own.counts;
                sum.attached |= own.attached;
                if sum.activity == Activity::Active {
                    sum.activity = own.activity;
                }
                let oldest = sum.oldest_pending.into_iter().chain(own.oldest_pending);
                sum.oldest_pending = oldest.min();
            }
        }
        Ok(all.into_values().collect())
    }

    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        let mut letters = Vec::new();
        for (is_its, number, reader) in self.from(after.map(|id| id.sequence)) {
            let after = after.filter(|_| is_its);
            let left = limit - letters.len();
            if left == 0 {
                break;
            }
            let own = self.heard(number, reader.dead(selection, after, left).await)?;
            letters.extend(own.unwrap_or_default());
        }
        Ok(letters)
    }

    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        let mut pending = Vec::new();
        for (is_its, number, reader) in self.from(after) {
            let after = after.filter(|_| is_its);
            let left = limit - pending.len();
            if left == 0 {
                break;
            }
            let own = reader.pending(subscription, after, left).await;
            pending.extend(self.heard(number, own)?.unwrap_or_default());
        }
        Ok(pending)
    }

    async fn pending_of(
        &self,
        event: Sequence,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        match self.of(event) {
            Some(reader) => reader.pending_of(event, limit).await,
            None => Ok(Vec::new()),
        }
    }

    async fn blocked(
        &self,
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> Result<BlockedPage, JournalError> {
        let mut page = BlockedPage::default();
        for (number, reader) in &self.readers {
            let own = reader.blocked(subscription, after, limit).await;
            let own = self.heard(*number, own)?.unwrap_or_default();
            page.keys.extend(own.keys);
            page.looked_at += own.looked_at;
            page.next = sooner(page.next, own.next, |key| key.cast_signed());
        }
        let key = |key: Option<u64>| key.unwrap_or_default().cast_signed();
        page.keys
            .sort_by_key(|blocked| (key(blocked.head.order_key), blocked.head.id.sequence));
        // Behind the place to go on, shards that have come further tell of them again.
        if let Some(next) = page.next {
            page.keys
                .retain(|blocked| key(blocked.head.order_key) <= next.cast_signed());
        }
        // A key that lies in several shards is told of whole.
        if let Some(over) = page.keys.get(limit).map(|over| over.head.order_key) {
            let fits = page
                .keys
                .partition_point(|blocked| key(blocked.head.order_key) < key(over));
            let fits = if fits == 0 {
                page.keys
                    .partition_point(|blocked| key(blocked.head.order_key) <= key(over))
            } else {
                fits
            };
            page.keys.truncate(fits);
            page.next = page.keys.last().and_then(|last| last.head.order_key);
        }
        Ok(page)
    }

    async fn life(&self, id: DeliveryId) -> Result<Option<TaskLife>, JournalError> {
        match self.of(id.sequence) {
            Some(reader) => reader.life(id).await,
            None => Ok(None),
        }
    }

    async fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> Result<EndedPage, JournalError> {
        // So that the earlier place is the smaller one, whichever way it goes.
        let order = |place: HistoryPlace| {
            let place = (i128::from(place.row), i64::from(place.entry));
            if selection.latest_first {
                (-place.0, -place.1)
            } else {
                place
            }
        };
        let mut page = EndedPage::default();
        for (number, reader) in &self.readers {
            let own = reader.ended(selection, after, limit).await;
            let own = self.heard(*number, own)?.unwrap_or_default();
            page.entries.extend(own.entries);
            page.next = sooner(page.next, own.next, order);
        }
        page.entries.sort_by_key(|entry| order(entry.place));
        if let Some(next) = page.next {
            page.entries
                .retain(|entry| order(entry.place) <= order(next));
        }
        if page.entries.len() > limit {
            page.entries.truncate(limit);
            page.next = page.entries.last().map(|last| last.place);
        }
        Ok(page)
    }

    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError> {
        match self.of(sequence) {
            Some(reader) => reader.event(sequence).await,
            None => Ok(None),
        }
    }

    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError> {
        let mut last: Option<StoredEvent> = None;
        for (number, reader) in &self.readers {
            let own = self.heard(*number, reader.last_event().await)?.flatten();
            let at = last.as_ref().map(|last| last.at);
            last = own.filter(|own| Some(own.at) >= at).or(last);
        }
        Ok(last)
    }

    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError> {
        let after = match from {
            EventsFrom::After(after) | EventsFrom::AfterSince(after, _) => Some(after),
            EventsFrom::Time(_) => None,
        };
        let (mut page, mut bytes) = (EventPage::default(), 0_usize);
        for (is_its, number, reader) in self.from(after) {
            let from = match from {
                EventsFrom::After(_) if !is_its => EventsFrom::After(Sequence(0)),
                EventsFrom::AfterSince(_, time) if !is_its => EventsFrom::Time(time),
                from => from,
            };
            if page.next.is_some() {
                break;
            }
            let left = limit - page.events.len();
            // Whether there is more is asked for with one that is left out again.
            let own = reader
                .events(from, left.max(1), bytes_max.saturating_sub(bytes))
                .await;
            let own = self.heard(number, own)?.unwrap_or_default();
            let size = |stored: &StoredEvent| stored.event.size_bytes();
            let first = own.events.first().map_or(0, size);
            let is_over = left == 0 || bytes.saturating_add(first) > bytes_max;
            if is_over && !page.events.is_empty() && !own.events.is_empty() {
                page.next = page.events.last().map(|last| last.sequence);
                break;
            }
            bytes = own
                .events
                .iter()
                .map(size)
                .fold(bytes, usize::saturating_add);
            page.events.extend(own.events);
            page.damaged += own.damaged;
            page.next = own.next;
        }
        Ok(page)
    }

    async fn keys(&self, lookup: Lookup) -> Result<Vec<RememberedKey>, JournalError> {
        let mut keys = Vec::new();
        for (number, reader) in &self.readers {
            let own = self.heard(*number, reader.keys(lookup.clone()).await)?;
            let mut own = own.unwrap_or_default();
            // Stores that were imported know each key in every shard, so that it is known wherever
            // it comes again; the shard of its event tells of it.
            own.retain(|key| ShardNumber::of(key.sequence) == *number);
            keys.extend(own);
        }
        Ok(keys)
    }

    async fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        let mut all: BTreeMap<ReplayId, Vec<Replay>> = BTreeMap::new();
        for (number, reader) in &self.readers {
            let own = self.heard(*number, reader.replays().await)?;
            for replay in own.unwrap_or_default() {
                all.entry(replay.id).or_default().push(replay);
            }
        }
        let mut replays: Vec<_> = all.values().filter_map(replay::shown).collect();
        replays.sort_by_key(|replay| (replay.began, replay.id));
        Ok(replays)
    }

    async fn totals(&self) -> Result<Totals, JournalError> {
        let mut sum = Totals::default();
        for (number, reader) in &self.readers {
            let Some(own) = self.heard(*number, reader.totals().await)? else {
                continue;
            };
            let before_first = number.before_first().0;
            let given_out = Some(own.last_sequence).filter(|last| *last > before_first);
            sum = Totals {
                events: sum.events + own.events,
                dead: sum.dead + own.dead,
                rejects: sum.rejects + own.rejects,
                quarantined: sum.quarantined + own.quarantined,
                lost_commits: sum.lost_commits + own.lost_commits,
                bytes: sum.bytes + own.bytes,
                bytes_max: sum.bytes_max.saturating_add(own.bytes_max),
                keys: sum.keys + own.keys,
                last_sequence: sum.last_sequence.max(given_out.unwrap_or_default()),
                dropped: [sum.dropped, own.dropped].iter().sum::<Counts>(),
            };
        }
        Ok(sum)
    }

    fn incomplete(&self) -> Vec<ShardNumber> {
        self.missing.lock().iter().copied().collect()
    }
}

/// Which of two places comes first in an order; a shard that has come to its end has none.
fn sooner<P: Copy, K: Ord>(one: Option<P>, other: Option<P>, order: impl Fn(P) -> K) -> Option<P> {
    one.into_iter()
        .chain(other)
        .min_by_key(|place| order(*place))
}
