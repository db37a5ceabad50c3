//! A store that is made of an export.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;
use pointsman_schemas::{Cursor, JournalId, Reject, Timestamp};
use rusqlite::{Connection, params};

use super::super::PortableError;
use super::super::line::{
    CursorLine, DeadLine, IdentityLine, KeyLine, PendingLine, PositionLine, RejectLine,
};
use crate::disk::OpenError;
use crate::disk::actual::Actual;
use crate::disk::epochs::Epochs;
use crate::disk::open::prepare;
use crate::disk::record::{
    DeadRow, EventRow, KeyRow, Seen, Subscribed, encode_cursor, encode_kept, encode_position,
    encode_replay, key_of,
};
use crate::disk::replication::Part;
use crate::disk::row::{PendingRow, RowKey};
use crate::disk::schema::{self, Ledger, Purpose};
use crate::disk::store::{Lock, Mark, sync_directory};
use crate::shard::before_first;
use crate::sharded::TenantShards;
use crate::sharded::tenants::{CLUSTER, RULE_VERSIONS, TENANT_SHARDS};
use crate::{Due, Replay, ShardNumber};

/// What all stores that are filled at a time may cache together, and one at least.
const CACHES_KIB: usize = 64 * 1024;
const CACHE_KIB_MIN: usize = 512;

/// A store that is made of an export.
pub(super) struct NewStore {
    directory: PathBuf,
    /// Which shard it is to be; none of a store that stands alone.
    pub(super) shard: Option<ShardNumber>,
    connection: Connection,
    /// The number of its last row of the history.
    pub(super) last_history: u64,
    _lock: Lock,
}

impl NewStore {
    /// Makes an empty one, as one of so many.
    pub(super) fn create(
        directory: PathBuf,
        shard: Option<ShardNumber>,
        count: usize,
    ) -> Result<Self, PortableError> {
        let lock = prepare(&directory)?;
        let mut connection = schema::connect(&directory, Purpose::Write)?;
        schema::create(&mut connection, Timestamp(0))?;
        let cache_kib = (CACHES_KIB / count.max(1)).max(CACHE_KIB_MIN);
        // What is cut short is thrown away: nothing has to be durable before the end.
        connection.execute_batch(&format!(
            "PRAGMA synchronous = OFF; PRAGMA cache_size = -{cache_kib}; BEGIN"
        ))?;
        Ok(Self {
            directory,
            shard,
            connection,
            last_history: 0,
            _lock: lock,
        })
    }

    /// What stands before its first sequence.
    pub(super) fn before_first(&self) -> u64 {
        before_first(self.shard)
    }

    /// Ends a transaction and begins the next one, so that none grows without bounds.
    pub(super) fn commit(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("COMMIT")?;
        self.checkpoint()?;
        self.connection.execute_batch("BEGIN")
    }

    fn checkpoint(&self) -> rusqlite::Result<()> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection.query_row(checkpoint, [], |_| Ok(()))
    }

    pub(super) fn execute(&self, sql: &str, row: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(row).map(drop)
    }

    pub(super) fn event(&self, sequence: u64, row: &EventRow) -> rusqlite::Result<()> {
        let number = sequence.cast_signed();
        let insert = "INSERT INTO events VALUES (?1, ?2)";
        self.execute(insert, params![number, row.encode(sequence)])?;
        let Some(until) = row.kept_until else {
            return Ok(());
        };
        let value = encode_kept(sequence, until);
        let insert = "INSERT INTO kept VALUES (?1, ?2, ?3)";
        self.execute(insert, params![number, until.0, value])
    }

    /// Puts a delivery in, behind all of its order key that there are.
    pub(super) fn pending(&self, sequence: u64, line: PendingLine) -> rusqlite::Result<()> {
        let key = RowKey {
            subscription: line.subscription,
            sequence,
            run: line.run,
        };
        let mut row = PendingRow {
            due: Due::new(line.priority, line.due),
            immediate: line.immediate,
            suspended: line.suspended,
            order_key: line.order_key,
            attempts: line.attempts,
            failures: line.failures,
            batch_max: line.batch_max,
            last: line.last,
            replay: line.replay,
            ..PendingRow::immediate(key, line.since)
        };
        if let Some(order_key) = row.order_column() {
            let earlier = "SELECT 1 FROM pending INDEXED BY by_key
                 WHERE subscription = ?1 AND order_key = ?2 LIMIT 1";
            let mut earlier = self.connection.prepare_cached(earlier)?;
            row.parked = earlier.exists(params![key.subscription, order_key])?;
        }
        self.execute(
            "INSERT INTO pending VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                key.subscription,
                sequence.cast_signed(),
                key.run_column(),
                row.due_column(),
                row.order_column(),
                row.encode()
            ],
        )
    }

    pub(super) fn dead(&self, sequence: u64, line: DeadLine) -> Result<(), PortableError> {
        self.letter(sequence, line, None)
    }

    pub(super) fn reject(&self, sequence: u64, line: RejectLine) -> Result<(), PortableError> {
        let reject = Reject {
            reason: line.why,
            raw: line.raw.0,
        };
        self.letter(sequence, line.letter, Some(reject))
    }

    fn letter(
        &self,
        sequence: u64,
        line: DeadLine,
        reject: Option<Reject>,
    ) -> Result<(), PortableError> {
        let (subscription, run) = (line.subscription, line.run);
        let edited = line.edited.map(|event| event.into_event()).transpose();
        let edited = edited.map_err(PortableError::Line)?;
        let edited = edited.map(|event| {
            let row = EventRow {
                tenant: line.tenant.clone(),
                origin: line.origin.clone(),
                at: line.at,
                kept_until: None,
                event: event.into(),
            };
            Bytes::from(row.encode(sequence))
        });
        let row = DeadRow {
            tenant: line.tenant,
            origin: line.origin,
            reason: line.reason,
            at: line.at,
            attempts: line.attempts,
            order_key: line.order_key,
            last: line.last,
            reject,
            replay: line.replay,
            edited,
        };
        let value = row.encode(&[sequence, subscription.into(), run]);
        let (sequence, run) = (sequence.cast_signed(), run.cast_signed());
        let insert = "INSERT INTO dead VALUES (?1, ?2, ?3, ?4)";
        self.execute(insert, params![sequence, subscription, run, value])?;
        Ok(())
    }

    pub(super) fn cursor(&self, line: &CursorLine) -> rusqlite::Result<()> {
        let (tenant, source) = (line.tenant.as_str(), line.source.as_str());
        let cursor = Cursor {
            fingerprint: line.fingerprint,
            position: line.position.0.clone(),
        };
        let value = encode_cursor(key_of(&format!("{tenant}/{source}")), &cursor);
        let replace = "REPLACE INTO cursors VALUES (?1, ?2, ?3)";
        self.execute(replace, params![tenant, source, value])
    }

    pub(super) fn position(&self, line: &PositionLine) -> rusqlite::Result<()> {
        let source = (line.tenant.as_str(), line.source.as_str());
        self.row(source, &line.key.0, &line.value.0)
    }

    /// Says how many shards tenants have, as a cluster does in its first one.
    pub(super) fn tenants(&self, shards: &TenantShards) -> rusqlite::Result<()> {
        if shards.is_empty() {
            return Ok(());
        }
        self.row((CLUSTER, RULE_VERSIONS), TENANT_SHARDS, &shards.encode())
    }

    fn row(
        &self,
        (tenant, source): (&str, &str),
        key: &[u8],
        value: &[u8],
    ) -> rusqlite::Result<()> {
        let value = encode_position(tenant, source, key, value);
        let replace = "REPLACE INTO positions VALUES (?1, ?2, ?3, ?4)";
        self.execute(replace, params![tenant, source, key, value])
    }

    /// Remembers an identity. Several shards may have known it: the last time counts.
    pub(super) fn identity(&self, sequence: u64, line: &IdentityLine) -> rusqlite::Result<()> {
        let [high, low] = line.identity.map(u64::cast_signed);
        let select = "SELECT value FROM identities WHERE high = ?1 AND low = ?2";
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query([high, low])?;
        if let Some(row) = rows.next()? {
            let value: Vec<u8> = row.get(0)?;
            let known = Seen::decode(line.identity, &value);
            if known.is_ok_and(|known| known.at >= line.at) {
                return Ok(());
            }
        }
        let seen = Seen {
            sequence,
            at: line.at,
            until: line.until,
        };
        let replace = "REPLACE INTO identities VALUES (?1, ?2, ?3)";
        self.execute(replace, params![high, low, seen.encode(line.identity)])
    }

    /// Remembers a key, likewise.
    pub(super) fn key(&self, sequence: u64, line: &KeyLine) -> rusqlite::Result<()> {
        let row = KeyRow {
            sequence,
            at: line.at,
            subscriptions: line.subscriptions.clone(),
        };
        let value = row.encode(line.key, line.until);
        let [high, low] = line.key.map(u64::cast_signed);
        self.execute(
            "INSERT INTO keys VALUES (?1, ?2, ?3, ?4) ON CONFLICT (high, low)
             DO UPDATE SET until = excluded.until, value = excluded.value
             WHERE excluded.until > until",
            params![high, low, line.until.0, value],
        )
    }

    pub(super) fn replay(&self, replay: &Replay) -> rusqlite::Result<()> {
        let number = replay.id.number().cast_signed();
        let insert = "INSERT INTO replays VALUES (?1, ?2)";
        self.execute(insert, params![number, encode_replay(replay)])
    }

    /// What its rows add up to.
    pub(super) fn count(&self) -> rusqlite::Result<Actual> {
        Actual::count(&self.connection)
    }

    /// Writes what holds for all of it, and makes everything durable.
    pub(super) fn finish(
        self,
        subscriptions: &BTreeMap<u32, Subscribed>,
        actual: &Actual,
        of_all: OfAll,
    ) -> Result<(), PortableError> {
        let subscribed = "INSERT INTO subscriptions VALUES (?1, ?2)";
        for (number, subscription) in subscriptions {
            self.execute(subscribed, params![number, subscription.encode(*number)])?;
        }
        let OfAll {
            ledger,
            id,
            epochs,
            part,
        } = of_all;
        let ledger = Ledger {
            commit: 1,
            events: actual.events,
            dead: actual.dead,
            rejects: actual.rejects,
            positions: actual.positions,
            last_history: self.last_history,
            history: actual.history.0,
            history_bytes: actual.history.1,
            keys: actual.keys,
            replays: actual.replays,
            kept: actual.kept,
            ..ledger
        };
        schema::write_ledger(&self.connection, &ledger)?;
        schema::write_epochs(&self.connection, &epochs)?;
        schema::write_identity(&self.connection, id, ledger.time)?;
        self.connection
            .execute_batch("COMMIT; PRAGMA synchronous = FULL")?;
        self.checkpoint()?;
        let directory = self.directory.clone();
        drop(self);
        let durable = || {
            File::open(schema::database(&directory))?.sync_all()?;
            part.note(&directory)?;
            Mark::open(&directory)?.write(ledger.commit)?;
            sync_directory(&directory)
        };
        durable().map_err(|error| OpenError::files("writing", &directory, &error).into())
    }
}

/// What a store has from all of the export.
pub(super) struct OfAll {
    /// As far as it is not counted.
    pub(super) ledger: Ledger,
    pub(super) id: JournalId,
    pub(super) epochs: Epochs,
    pub(super) part: Part,
}
