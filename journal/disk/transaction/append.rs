//! Appending.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_schemas::{Name, PositionChange, Reject, Sequence, SubscriptionNumber, Timestamp};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params};

use super::keys::Known;
use super::{Cause, Failure, Transaction};
use crate::disk::queues::Effect;
use crate::disk::reader;
use crate::disk::record::{DeadRow, EventRow, Seen, encode_cursor, encode_position, key_of};
use crate::disk::row::RowKey;
use crate::key::{KEY_BYTES, hash};
use crate::{
    Append, Appended, Backlog, DeadReason, Entry, JournalError, MadeDelivery, NewDead, NumberMap,
    Terms, Watch,
};

/// What a row of each kind takes beside its payload, generously.
const ROW_BYTES: u64 = 64;

impl Transaction<'_> {
    pub(in crate::disk) fn append(&mut self, append: &Append) -> Result<Vec<Appended>, Failure> {
        let room = self.room.checked_sub(size_bytes(append)).ok_or_else(full)?;
        let identities = append
            .entries
            .iter()
            .map(|entry| identity(&append.tenant, &append.origin, entry))
            .collect::<Vec<_>>();
        let mut arriving: NumberMap<u32, u64> = NumberMap::default();
        let mut own = HashSet::new();
        for (entry, identity) in append.entries.iter().zip(&identities) {
            if let Some(identity) = identity
                && (!own.insert(*identity)
                    || self
                        .duplicate_of(*identity, &append.tenant, &append.origin, entry)?
                        .is_some())
            {
                continue;
            }
            let left_out = match self.known_by_key(entry)? {
                Known::Whole(_) => continue,
                Known::Deliveries(left_out, _) => left_out,
            };
            let deliveries = entry.deliveries.iter();
            for delivery in deliveries.filter(|one| !left_out.contains(&one.subscription)) {
                *arriving.entry(delivery.subscription.0).or_default() += 1;
            }
            if let Some(dead) = &entry.dead {
                arriving.entry(dead.subscription.0).or_default();
            }
        }
        for (&number, &count) in &arriving {
            let Some(subscribed) = self.subscription(number) else {
                // One that was there and has been dropped comes back.
                if (1..=self.changes.ledger.last_subscription).contains(&number) {
                    continue;
                }
                return Err(JournalError::NotFound(format!("subscription {number}")).into());
            };
            let waits = subscribed.waits();
            // One append alone is let into a queue that is empty in all shards: else it could never
            // be stored.
            let is_full = |backlog: Backlog| {
                count > 0 && !backlog.dead_when_full && waits > 0 && waits + count > backlog.max
            };
            // Its replay makes its deliveries, and waits where there is no room.
            if subscribed.is_catching_up() {
                continue;
            }
            if subscribed.backlog.is_some_and(is_full) {
                return Err(JournalError::Backlog(SubscriptionNumber(number)).into());
            }
        }
        let arriving = arriving.into_iter();
        self.committed.quotas.check(arriving, &self.arrived)?;
        self.room = room;
        let mut appended = Vec::with_capacity(append.entries.len());
        for (entry, identity) in append.entries.iter().zip(identities) {
            appended.push(self.store(&append.tenant, &append.origin, entry, identity)?);
        }
        for reject in &append.rejects {
            self.reject(&append.tenant, &append.origin, reject)?;
        }
        if let Some(cursor) = &append.cursor {
            let (tenant, source) = (append.tenant.as_str(), append.origin.as_str());
            self.touch_named("cursors", &[tenant, source]);
            let value = encode_cursor(key_of(&format!("{tenant}/{source}")), cursor);
            self.connection
                .prepare_cached("REPLACE INTO cursors VALUES (?1, ?2, ?3)")?
                .execute(params![tenant, source, value])?;
        }
        for change in &append.positions {
            self.change_position(&append.tenant, &append.origin, change)?;
        }
        Ok(appended)
    }

    /// Changes a row of a source's position, and counts it: a row that is lost is noticed.
    fn change_position(
        &mut self,
        tenant: &Name,
        source: &Name,
        change: &PositionChange,
    ) -> Result<(), Failure> {
        let (tenant, source, key) = (tenant.as_str(), source.as_str(), &*change.key);
        if let Some(touched) = &self.touched {
            let names = [tenant, source].map(|name| Value::from(name.to_owned()));
            let [tenant, source] = names;
            touched.note(
                "positions",
                &vec![tenant, source, Value::from(key.to_vec())],
            );
        }
        let Some(value) = &change.value else {
            let delete = "DELETE FROM positions WHERE tenant = ?1 AND source = ?2 AND key = ?3";
            let mut delete = self.connection.prepare_cached(delete)?;
            let deleted = delete.execute(params![tenant, source, key])? as u64;
            let positions = &mut self.changes.ledger.positions;
            *positions = positions.saturating_sub(deleted);
            return Ok(());
        };
        let value = encode_position(tenant, source, key, value);
        let row = params![tenant, source, key, value];
        let update =
            "UPDATE positions SET value = ?4 WHERE tenant = ?1 AND source = ?2 AND key = ?3";
        if self.connection.prepare_cached(update)?.execute(row)? == 0 {
            let insert = "INSERT INTO positions VALUES (?1, ?2, ?3, ?4)";
            self.connection.prepare_cached(insert)?.execute(row)?;
            self.changes.ledger.positions += 1;
        }
        Ok(())
    }

    /// The sequence of an earlier event with this identity, within the window that the entry asks
    /// for.
    fn duplicate_of(
        &self,
        identity: [u64; 2],
        tenant: &Name,
        origin: &Name,
        entry: &Entry,
    ) -> Result<Option<u64>, Failure> {
        let Some(window) = entry.deduplicate else {
            return Ok(None);
        };
        if let Some(sequence) = self.seen_as(identity, window)? {
            return Ok(Some(sequence));
        }
        if self.now >= self.changes.ledger.old_identities_until {
            return Ok(None);
        }
        let Some(sequence) = self.seen_as(
            hash(&[tenant.as_str(), entry.event.source(), entry.event.id()]),
            window,
        )?
        else {
            return Ok(None);
        };
        // The event still says which source it came in by. Where it is gone, a possible duplicate
        // is taken for one, as it would have been.
        let is_own = reader::event(self.connection, sequence)?
            .and_then(Result::ok)
            .is_none_or(|stored| stored.origin == *origin);
        Ok(is_own.then_some(sequence))
    }

    fn seen_as(&self, identity: [u64; 2], window: Duration) -> Result<Option<u64>, Failure> {
        let [high, low] = identity.map(u64::cast_signed);
        let mut select = self
            .connection
            .prepare_cached("SELECT value FROM identities WHERE high = ?1 AND low = ?2")?;
        let value: Option<Vec<u8>> = select.query_row([high, low], |row| row.get(0)).optional()?;
        // A damaged row is as good as none here: it is counted when the store is looked through.
        let seen = value.and_then(|value| Seen::decode(identity, &value).ok());
        Ok(seen
            .filter(|seen| self.now.since(seen.at) < window)
            .map(|seen| seen.sequence))
    }

    pub(super) fn store(
        &mut self,
        tenant: &Name,
        origin: &Name,
        entry: &Entry,
        identity: Option<[u64; 2]>,
    ) -> Result<Appended, Failure> {
        if let Some(identity) = identity
            && let Some(sequence) = self.duplicate_of(identity, tenant, origin, entry)?
        {
            return Ok(Appended::Duplicate(Sequence(sequence)));
        }
        let (left_out, known) = match self.known_by_key(entry)? {
            Known::Whole(known) => return Ok(known),
            Known::Deliveries(left_out, known) => (left_out, known),
        };
        self.changes.ledger.events += 1;
        let sequence = self.next_sequence();
        let retention = entry.terms.as_ref().and_then(|terms| terms.retention);
        let kept_until = retention.map(|own| self.now.plus(own.or(self.retention)));
        if let (Some(identity), Some(window)) = (identity, entry.deduplicate) {
            self.remember(identity, sequence, window)?;
        }
        let stored = EventRow {
            tenant: tenant.clone(),
            origin: origin.clone(),
            at: self.now,
            kept_until,
            event: Arc::clone(&entry.event),
        };
        let record = Bytes::from(stored.encode(sequence));
        self.insert_event(sequence, &record)?;
        if let Some(until) = kept_until {
            self.keep_until(sequence, until)?;
        }
        let mut made = Vec::new();
        for (index, delivery) in entry.deliveries.iter().enumerate() {
            if !entry
                .deliveries
                .iter()
                .take(index)
                .any(|earlier| earlier.subscription == delivery.subscription)
                && !left_out.contains(&delivery.subscription)
            {
                let delivered = self.deliver(sequence, 0, *delivery, origin, Cause::Match)?;
                made.extend(delivered.filter(|_| entry.terms.is_some()));
            }
        }
        if let Some(terms) = &entry.terms {
            self.keep_terms(terms, sequence, &made)?;
        }
        self.store_dead(sequence, tenant, origin, entry)?;
        if !entry.deliveries.is_empty() {
            // As it came, the event may hold on to a much larger buffer that it was read into.
            let stored = Arc::new(stored.moved_into(&record));
            self.changes.effects.push(Effect::Cache(sequence, stored));
        }
        let sequence = Sequence(sequence);
        Ok(if known.is_empty() {
            Appended::Stored(sequence)
        } else {
            Appended::Reduced(sequence, known)
        })
    }

    /// Remembers the keys of an entry that is stored, and has whoever watches it told.
    fn keep_terms(
        &mut self,
        terms: &Terms,
        sequence: u64,
        made: &[(RowKey, bool)],
    ) -> Result<(), Failure> {
        self.remember_keys(terms, sequence, made)?;
        if let Some(watch) = &terms.watch {
            self.tell_made(watch, sequence, made);
        }
        Ok(())
    }

    /// Has whoever watches an entry told what was made of it, once that is committed.
    fn tell_made(&mut self, watch: &Arc<dyn Watch>, sequence: u64, made: &[(RowKey, bool)]) {
        let epochs = &self.committed.epochs;
        let told = made.iter().filter_map(|&(key, is_dead)| {
            Some(MadeDelivery {
                id: epochs.id(key.subscription, key.sequence, key.run),
                subscription: self.subscription(key.subscription)?.identity.clone(),
                is_dead,
            })
        });
        let made = Effect::Made(Arc::clone(watch), sequence, told.collect());
        self.changes.effects.push(made);
    }

    /// Writes an event's row. Its statement is kept: finding it again would cost half as much as
    /// the row.
    pub(super) fn insert_event(&mut self, sequence: u64, record: &[u8]) -> Result<(), Failure> {
        self.touch("events", [sequence.cast_signed()]);
        let insert = match &mut self.insert_event {
            Some(insert) => insert,
            none => none.insert(
                self.connection
                    .prepare_cached("INSERT INTO events VALUES (?1, ?2)")?,
            ),
        };
        insert.execute(params![sequence.cast_signed(), record])?;
        Ok(())
    }

    /// Remembers what an event is known by, to tell its duplicates.
    fn remember(
        &mut self,
        identity: [u64; 2],
        sequence: u64,
        window: Duration,
    ) -> Result<(), Failure> {
        let seen = Seen {
            sequence,
            at: self.now,
            until: self.now.plus(window),
        };
        let [high, low] = identity.map(u64::cast_signed);
        self.touch("identities", [high, low]);
        let mut insert = self
            .connection
            .prepare_cached("REPLACE INTO identities VALUES (?1, ?2, ?3)")?;
        insert.execute(params![high, low, seen.encode(identity)])?;
        Ok(())
    }

    /// Stores what an entry is dead for from the beginning.
    fn store_dead(
        &mut self,
        sequence: u64,
        tenant: &Name,
        origin: &Name,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let is_new = |dead: &&NewDead| {
            entry
                .deliveries
                .iter()
                .all(|delivery| delivery.subscription != dead.subscription)
        };
        if let Some(NewDead {
            subscription,
            order_key,
            reason,
            attempts,
            last,
            edited,
        }) = entry.dead.as_ref().filter(is_new)
        {
            let subscription = self.resolve(subscription.0);
            self.count(subscription, |counts| counts.created += 1);
            let key = RowKey {
                subscription,
                sequence,
                run: 0,
            };
            let (tenant, origin, last) = (tenant.clone(), origin.clone(), last.clone());
            let (at, attempts, reject) = (self.now, *attempts, None);
            let edited = edited.as_ref().map(|event| {
                let edited = EventRow {
                    tenant: tenant.clone(),
                    origin: origin.clone(),
                    at,
                    kept_until: None,
                    event: Arc::clone(event),
                };
                edited.encode(sequence).into()
            });
            self.dead_letter(
                key,
                &DeadRow {
                    tenant,
                    origin,
                    reason: *reason,
                    at,
                    attempts,
                    order_key: *order_key,
                    last,
                    reject,
                    replay: None,
                    edited,
                },
            )?;
        }
        Ok(())
    }

    pub(super) fn reject(
        &mut self,
        tenant: &Name,
        origin: &Name,
        reject: &Reject,
    ) -> Result<(), Failure> {
        let key = RowKey {
            subscription: 0,
            sequence: self.next_sequence(),
            run: 0,
        };
        let (tenant, origin, at, reject) = (
            tenant.clone(),
            origin.clone(),
            self.now,
            Some(reject.clone()),
        );
        let reason = DeadReason::Unreadable;
        self.dead_letter(
            key,
            &DeadRow {
                tenant,
                origin,
                reason,
                at,
                attempts: 0,
                order_key: None,
                last: None,
                reject,
                replay: None,
                edited: None,
            },
        )
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }
}

/// What an entry is known by, where it is to be told from its duplicates. The source that it came
/// in by is part of it, so that nobody can suppress the events of another source by sending their
/// identities first.
pub(super) fn identity(tenant: &Name, origin: &Name, entry: &Entry) -> Option<[u64; 2]> {
    entry.deduplicate?;
    Some(hash(&[
        tenant.as_str(),
        origin.as_str(),
        entry.event.source(),
        entry.event.id(),
    ]))
}

pub(super) fn full() -> JournalError {
    JournalError::Full("raise store.max_size, or let the targets catch up".to_owned())
}

/// Roughly what an append takes on disk.
pub(in crate::disk) fn size_bytes(append: &Append) -> u64 {
    let dead = |dead: &NewDead| {
        ROW_BYTES
            + dead
                .last
                .as_ref()
                .map_or(0, |last| (last.message.len() + last.response.len()) as u64)
            + dead
                .edited
                .as_ref()
                .map_or(0, |event| event.size_bytes() as u64)
    };
    let entry = |entry: &Entry| {
        entry.event.size_bytes() as u64
            + ROW_BYTES * (1 + entry.deliveries.len() as u64)
            + entry.terms.as_ref().map_or(0, |terms| {
                let kept = terms.retention.map_or(0, |_| ROW_BYTES);
                KEY_BYTES * terms.keys.len() as u64 + kept
            })
            + entry.dead.as_ref().map_or(0, dead)
    };
    let rejects = append
        .rejects
        .iter()
        .map(|reject| reject.raw.len() as u64 + ROW_BYTES);
    let source = append.tenant.as_str().len() + append.origin.as_str().len();
    // What is deleted takes nothing.
    let position = |change: &PositionChange| {
        let row = |value: &Bytes| (source + change.key.len() + value.len()) as u64 + ROW_BYTES;
        change.value.as_ref().map_or(0, row)
    };
    let positions = append.positions.iter().map(position);
    append
        .entries
        .iter()
        .map(entry)
        .chain(rejects)
        .chain(positions)
        .sum()
}
