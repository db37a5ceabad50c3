//! Keys of entries: looked for, remembered, and forgotten.

use std::time::Duration;

use pointsman_schemas::{Sequence, SubscriptionNumber, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{Failure, Transaction};
use crate::disk::record::KeyRow;
use crate::disk::row::RowKey;
use crate::{Appended, Entry, Guards, Identity, KnownKeys, Terms};

/// Keys that are forgotten where one more does not fit: two, so that their number goes down where
/// the bound has been lowered.
const FORGOTTEN_AT_ONCE: u32 = 2;

/// What is known of an entry by its keys.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing of it is to be stored.
    Whole(Appended),
    /// It is to be stored without the deliveries to these, which such keys guard.
    Deliveries(Vec<SubscriptionNumber>, KnownKeys),
}

impl Transaction<'_> {
    /// Looks for the keys of an entry.
    pub(super) fn known_by_key(&self, entry: &Entry) -> Result<Known, Failure> {
        let (mut left_out, mut known) = (Vec::new(), KnownKeys::default());
        let keys = entry.terms.iter().flat_map(|terms| &terms.keys);
        for (place, key) in keys.enumerate() {
            let Some(sequence) = self.remembered(key.identity, key.window)? else {
                continue;
            };
            match &key.guards {
                Guards::Event => return Ok(Known::Whole(Appended::Duplicate(sequence))),
                Guards::Task => return Ok(Known::Whole(Appended::Taken(sequence))),
                Guards::Deliveries(subscriptions) => {
                    left_out.extend_from_slice(subscriptions);
                    known.insert(place);
                }
            }
        }
        Ok(Known::Deliveries(left_out, known))
    }

    fn remembered(
        &self,
        Identity(key): Identity,
        window: Duration,
    ) -> Result<Option<Sequence>, Failure> {
        let [high, low] = key.map(u64::cast_signed);
        let select = "SELECT until, value FROM keys WHERE high = ?1 AND low = ?2";
        let found: Option<(i64, Vec<u8>)> = self
            .connection
            .prepare_cached(select)?
            .query_row([high, low], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // A damaged row is as good as none here: it is counted when the store is looked through.
        let row =
            found.and_then(|(until, value)| KeyRow::decode(key, Timestamp(until), &value).ok());
        Ok(row
            .filter(|row| self.now.since(row.at) < window)
            .map(|row| Sequence(row.sequence)))
    }

    /// Remembers the keys of an entry that has been stored with deliveries to these subscriptions.
    /// A key that only left out deliveries is remembered from when they were made.
    pub(super) fn remember_keys(
        &mut self,
        terms: &Terms,
        sequence: u64,
        made: &[(RowKey, bool)],
    ) -> Result<(), Failure> {
        for key in &terms.keys {
            let subscriptions = match &key.guards {
                Guards::Event => Vec::new(),
                Guards::Task => made.iter().map(|(key, _)| key.subscription).collect(),
                Guards::Deliveries(_) => {
                    if self.remembered(key.identity, key.window)?.is_some() {
                        continue;
                    }
                    Vec::new()
                }
            };
            let row = KeyRow {
                sequence,
                at: self.now,
                subscriptions,
            };
            self.remember_key(key.identity, key.window, &row)?;
        }
        Ok(())
    }

    fn remember_key(
        &mut self,
        Identity(key): Identity,
        window: Duration,
        row: &KeyRow,
    ) -> Result<(), Failure> {
        let until = self.now.plus(window);
        let [high, low] = key.map(u64::cast_signed);
        self.touch("keys", [high, low]);
        let (columns, value) = (params![high, low], row.encode(key, until));
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM keys WHERE high = ?1 AND low = ?2")?;
        let replaced = delete.execute(columns)? as u64;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO keys VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![high, low, until.0, value])?;
        let keys = &mut self.changes.ledger.keys;
        *keys = keys.saturating_sub(replaced) + 1;
        if self.changes.ledger.keys > self.keys_max {
            self.forget_keys(Timestamp(i64::MAX), FORGOTTEN_AT_ONCE)?;
        }
        Ok(())
    }

    /// Forgets keys that are remembered until some time up to this one, the soonest first, at most
    /// so many. Tells how many.
    pub(in crate::disk) fn forget_keys(
        &mut self,
        until: Timestamp,
        count: u32,
    ) -> Result<u64, Failure> {
        let mut select = self.connection.prepare_cached(
            "SELECT high, low FROM keys INDEXED BY keys_by_end
             WHERE until <= ?1 ORDER BY until LIMIT ?2",
        )?;
        let found = select.query_map(params![until.0, count], |row| {
            Ok([row.get::<_, i64>(0)?, row.get(1)?])
        })?;
        let found: Vec<_> = found.collect::<rusqlite::Result<_>>()?;
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM keys WHERE high = ?1 AND low = ?2")?;
        let mut forgotten = 0;
        for key in found {
            self.touch("keys", key);
            forgotten += delete.execute(key)? as u64;
        }
        let keys = &mut self.changes.ledger.keys;
        *keys = keys.saturating_sub(forgotten);
        Ok(forgotten)
    }
}
