//! A store that is exported.

use std::path::Path;

use pointsman_schemas::{Clock, JournalId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::PortableError;
use super::super::event::PortableEvent;
use super::super::line::DeadLine;
use super::Unread;
use crate::LastOutcome;
use crate::disk::committed::CommittedState;
use crate::disk::open::{hold_against_mark, prepare};
use crate::disk::raw::DatabaseFile;
use crate::disk::record::{Damage, DeadRow, EventRow, decode_position};
use crate::disk::replication::{is_copy, read_log_mark};
use crate::disk::store::{Lock, Mark};
use crate::disk::{OpenError, check, schema};
use crate::sharded::TenantShards;
use crate::sharded::tenants::{CLUSTER, RULE_VERSIONS, TENANT_SHARDS};

/// A store that is exported: nobody else has it meanwhile.
pub(super) struct Store {
    pub(super) connection: Connection,
    pub(super) committed: CommittedState,
    pub(super) id: JournalId,
    /// What was found as it was opened.
    pub(super) findings: Vec<String>,
    _lock: Lock,
}

impl Store {
    /// Opens a store as a bus does that begins on it.
    pub(super) fn open(directory: &Path, clock: &dyn Clock) -> Result<Self, PortableError> {
        let lock = prepare(directory)?;
        let in_cluster = || OpenError::InCluster(directory.to_owned());
        if is_copy(directory) {
            return Err(in_cluster().into());
        }
        let database = DatabaseFile::default();
        let checked = check::open(directory, &database, clock, check::Occasion::Start)?;
        let (connection, mut committed) = (checked.connection, checked.committed);
        if read_log_mark(&connection)?.is_some() {
            return Err(in_cluster().into());
        }
        let mut mark = Mark::open(directory)
            .map_err(|error| OpenError::files("opening", &directory.join("mark"), &error))?;
        let mut findings = checked.findings;
        findings.extend(hold_against_mark(&mut mark, &mut committed));
        let id = schema::journal_id(&connection)?;
        let id = id.map_err(|damage| OpenError::damaged(directory, &damage))?;
        Ok(Self {
            connection,
            committed,
            id,
            findings,
            _lock: lock,
        })
    }

    /// A time of the store's own as the time of day.
    pub(super) fn shown(&self, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add(self.committed.ledger.clock_offset))
    }

    pub(super) fn outcome(&self, last: Option<LastOutcome>) -> Option<LastOutcome> {
        last.map(|last| LastOutcome {
            at: self.shown(last.at),
            ..last
        })
    }

    /// The line of a dead letter, from its row under a key.
    pub(super) fn dead(
        &self,
        [sequence, subscription, run]: [u64; 3],
        row: &DeadRow,
    ) -> Result<DeadLine, Damage> {
        let edited = row.edited.as_ref();
        let edited = edited.map(|record| EventRow::decode(sequence, record));
        Ok(DeadLine {
            subscription: u32::try_from(subscription)
                .map_err(|_| Damage("its key is too large"))?,
            run,
            tenant: row.tenant.clone(),
            origin: row.origin.clone(),
            reason: row.reason,
            at: self.shown(row.at),
            attempts: row.attempts,
            order_key: row.order_key,
            last: self.outcome(row.last.clone()),
            replay: row.replay,
            edited: edited.transpose()?.map(|row| PortableEvent::of(&row.event)),
        })
    }

    /// How many damaged rows were set aside in it: they are read by nobody, and not carried.
    pub(super) fn set_aside(&self) -> rusqlite::Result<u64> {
        let count = "SELECT count(*) FROM quarantine";
        let count: i64 = self.connection.query_row(count, [], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// Whether it has versions of a cluster's rules.
    pub(super) fn has_rule_versions(&self) -> rusqlite::Result<bool> {
        let select =
            "SELECT 1 FROM positions WHERE tenant = ?1 AND source = ?2 AND key <> ?3 LIMIT 1";
        let of = params![CLUSTER, RULE_VERSIONS, TENANT_SHARDS];
        self.connection.prepare(select)?.exists(of)
    }

    /// How many shards tenants have, as it says.
    pub(super) fn tenants(&self, unread: &mut Unread) -> rusqlite::Result<TenantShards> {
        let select = "SELECT value FROM positions WHERE tenant = ?1 AND source = ?2 AND key = ?3";
        let of = params![CLUSTER, RULE_VERSIONS, TENANT_SHARDS];
        let value = self.connection.query_row(select, of, |row| row.get(0));
        let Some(value): Option<Vec<u8>> = value.optional()? else {
            return Ok(TenantShards::default());
        };
        let value = decode_position(CLUSTER, RULE_VERSIONS, TENANT_SHARDS, &value);
        let wrong = |_| Damage("it says of no tenant how many shards that has");
        let tenants = value.and_then(|value| TenantShards::decode(&value).map_err(wrong));
        Ok(tenants.unwrap_or_else(|damage| {
            unread.count("positions", damage);
            TenantShards::default()
        }))
    }
}
