//! Writing an export.

mod merged;
mod store;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use pointsman_schemas::{Clock, Name, Timestamp};
use rusqlite::Row;
use sha2::{Digest, Sha256};

use self::merged::blob;
use self::store::Store;
use super::PortableError;
use super::line::{
    Base64, Carried, CursorLine, End, FORMAT, Head, IdentityLine, KeyLine, Line, PendingLine,
    PositionLine, ReplayLine, SubscriptionLine,
};
use crate::disk::OpenError;
use crate::disk::record::{
    Damage, KeyRow, Seen, Subscribed, decode_cursor, decode_position, key_of,
};
use crate::disk::replication::Part;
use crate::disk::row::{PendingRow, read_row};
use crate::disk::schema::{self, Ledger};
use crate::sharded::TenantShards;
use crate::sharded::tenants::CLUSTER;
use crate::{Counts, Replay};

/// What an export has, and what a person has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Of how many shards it is.
    pub shards: u16,
    /// What it has.
    pub carried: Carried,
    /// What it has not, and what was found in the stores.
    pub notes: Vec<String>,
}

/// Writes everything that is in the stores of one journal: its own, or those of its shards in their
/// order. They are opened as a bus opens them, so that what of them is damaged is set aside.
///
/// # Errors
/// [`PortableError`]: a store is in use, is a copy of a cluster's, belongs to another journal than
/// the others, or cannot be read; or what is written cannot be.
pub fn export_stores(
    directories: &[PathBuf],
    clock: &dyn Clock,
    out: &mut dyn Write,
) -> Result<Exported, PortableError> {
    let count = directories.len();
    let shards = u16::try_from(count).map_err(|_| PortableError::Shards(count))?;
    for (directory, shard) in directories.iter().zip(0..) {
        is_one_of(directory, Part { shard, shards })?;
    }
    // All are locked before the first one is read.
    let stores = directories.iter().map(|path| Store::open(path, clock));
    let stores: Vec<Store> = stores.collect::<Result<_, _>>()?;
    let mut writer = Writer::new(out);
    let mut unread = Unread::default();
    let tenants = match stores.first() {
        Some(first) => first.tenants(&mut unread)?,
        None => TenantShards::default(),
    };
    writer.write(&Line::Head(Head {
        tenants,
        ..head(&stores, shards, clock.now())
    }))?;
    writer.subscriptions(&stores)?;
    writer.replays(&stores)?;
    for store in &stores {
        writer.positions(store, &mut unread)?;
    }
    for store in &stores {
        writer.pending(store, &mut unread)?;
    }
    merged::events(&stores, &mut unread, |line| writer.write(&line))?;
    for store in &stores {
        writer.keys(store, &mut unread)?;
    }
    merged::history(&stores, &mut unread, |line| writer.write(&line))?;
    Ok(Exported {
        shards,
        carried: writer.end()?,
        notes: notes(&stores, &unread)?,
    })
}

/// Refuses a store that belongs to others than it lies with.
fn is_one_of(directory: &Path, own: Part) -> Result<(), PortableError> {
    let path = directory.to_owned();
    if !schema::database(directory).exists() {
        return Err(OpenError::Missing(path).into());
    }
    match Part::of(directory) {
        None if own.shards == 1 => Ok(()),
        None => Err(PortableError::Stranger(path, own)),
        Some(part) if part == own => Ok(()),
        Some(part) => Err(OpenError::Part { path, part }.into()),
    }
}

fn head(stores: &[Store], shards: u16, at: Timestamp) -> Head {
    fn max<T: Ord + Default>(stores: &[Store], of: impl Fn(&Store) -> T) -> T {
        stores.iter().map(of).max().unwrap_or_default()
    }
    let ledger = |store: &Store| -> Ledger { store.committed.ledger };
    let sum = |of: fn(&Ledger) -> u64| stores.iter().map(|store| of(&ledger(store))).sum();
    let dropped: Vec<Counts> = stores.iter().map(|store| ledger(store).dropped).collect();
    Head {
        format: FORMAT,
        journal: stores.first().map_or(0, |store| store.id.0),
        shards,
        at,
        time: max(stores, |store| store.shown(ledger(store).time)),
        last_sequence: max(stores, |store| ledger(store).last_sequence),
        last_run: max(stores, |store| ledger(store).last_run),
        last_subscription: max(stores, |store| ledger(store).last_subscription),
        epochs: match stores {
            [only] => only.committed.epochs.eras(),
            _ => Vec::new(),
        },
        old_identities_until: max(stores, |store| {
            store.shown(ledger(store).old_identities_until)
        }),
        quarantined: sum(|ledger| ledger.quarantined),
        lost_commits: sum(|ledger| ledger.lost_commits),
        dropped: dropped.iter().sum(),
        tenants: TenantShards::default(),
    }
}

/// What the export has not, and what was found in the stores.
fn notes(stores: &[Store], unread: &Unread) -> Result<Vec<String>, PortableError> {
    let mut notes: Vec<String> = Vec::new();
    let mut set_aside = 0;
    let mut has_versions = false;
    for store in stores {
        notes.extend(store.findings.iter().cloned());
        set_aside += store.set_aside()?;
        has_versions |= store.has_rule_versions()?;
    }
    if set_aside > 0 {
        notes.push(format!(
            "left out: {set_aside} damaged records that were set aside; they stay in the table \
             quarantine of the stores"
        ));
    }
    for (table, (count, damage)) in &unread.0 {
        notes.push(format!(
            "left out: {count} records in {table} that cannot be read ({damage})"
        ));
    }
    if has_versions {
        notes.push(
            "left out: the versions of the rules; the files of the first node become the first \
             version of another cluster"
                .to_owned(),
        );
    }
    Ok(notes)
}

/// What of the stores cannot be read: how many rows of which table, and why the last one of them.
#[derive(Debug, Default)]
struct Unread(BTreeMap<&'static str, (u64, Damage)>);

impl Unread {
    fn count(&mut self, table: &'static str, damage: Damage) {
        let (count, last) = self.0.entry(table).or_insert((0, damage.clone()));
        (*count, *last) = (*count + 1, damage);
    }
}

/// Writes lines and counts what they have.
struct Writer<'o> {
    out: &'o mut dyn Write,
    line: Vec<u8>,
    hasher: Sha256,
    carried: Carried,
}

impl<'o> Writer<'o> {
    fn new(out: &'o mut dyn Write) -> Self {
        Self {
            out,
            line: Vec::new(),
            hasher: Sha256::new(),
            carried: Carried::default(),
        }
    }

    fn write(&mut self, line: &Line) -> Result<(), PortableError> {
        self.carried.count(line);
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)
            .map_err(|error| PortableError::Write(error.to_string()))?;
        self.line.push(b'\n');
        self.hasher.update(&self.line);
        self.out
            .write_all(&self.line)
            .map_err(|error| PortableError::Write(error.to_string()))
    }

    fn end(mut self) -> Result<Carried, PortableError> {
        let sha256 = super::hex(&std::mem::take(&mut self.hasher).finalize());
        let carried = self.carried.clone();
        self.write(&Line::End(End { carried, sha256 }))?;
        let flushed = self.out.flush();
        flushed.map_err(|error| PortableError::Write(error.to_string()))?;
        Ok(self.carried)
    }

    fn subscriptions(&mut self, stores: &[Store]) -> Result<(), PortableError> {
        let mut all: BTreeMap<u32, Subscribed> = BTreeMap::new();
        for (number, own) in stores
            .iter()
            .flat_map(|store| &store.committed.subscriptions)
        {
            match all.get_mut(number) {
                None => drop(all.insert(*number, own.clone())),
                Some(subscribed) => {
                    subscribed.counts += &own.counts;
                    subscribed.attached |= own.attached;
                }
            }
        }
        for (number, subscribed) in all {
            self.write(&Line::Subscription(SubscriptionLine {
                number,
                identity: subscribed.identity,
                attached: subscribed.attached,
                activity: subscribed.activity,
                backlog: subscribed.backlog,
                counts: subscribed.counts,
            }))?;
        }
        Ok(())
    }

    fn replays(&mut self, stores: &[Store]) -> Result<(), PortableError> {
        for (store, shard) in stores.iter().zip(0..) {
            for replay in store.committed.replays.values() {
                let request = Base64(replay.request.clone());
                let replay = Replay {
                    request: bytes::Bytes::new(),
                    began: store.shown(replay.began),
                    ended: replay.ended.map(|ended| store.shown(ended)),
                    ..replay.clone()
                };
                self.write(&Line::Replay(ReplayLine {
                    shard,
                    request,
                    replay,
                }))?;
            }
        }
        Ok(())
    }

    /// Writes a line of every row that can be read.
    fn rows(
        &mut self,
        (store, unread): (&Store, &mut Unread),
        (table, sql): (&'static str, &str),
        line: impl Fn(&Row<'_>) -> rusqlite::Result<Result<Option<Line>, Damage>>,
    ) -> Result<(), PortableError> {
        let mut select = store.connection.prepare(sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            match line(row)? {
                Ok(Some(line)) => self.write(&line)?,
                Ok(None) => {}
                Err(damage) => unread.count(table, damage),
            }
        }
        Ok(())
    }

    fn positions(&mut self, store: &Store, unread: &mut Unread) -> Result<(), PortableError> {
        let name = |text: &str| Name::new(text).map_err(|_| Damage("a name in it is none"));
        let cursors = ("cursors", "SELECT tenant, source, value FROM cursors");
        self.rows((store, unread), cursors, |row| {
            let (tenant, source): (String, String) = (row.get(0)?, row.get(1)?);
            let line = || {
                let key = key_of(&format!("{tenant}/{source}"));
                let cursor = decode_cursor(key, blob(row, 2)?)?;
                Ok(Some(Line::Cursor(CursorLine {
                    tenant: name(&tenant)?,
                    source: name(&source)?,
                    fingerprint: cursor.fingerprint,
                    position: Base64(cursor.position),
                })))
            };
            Ok(line())
        })?;
        let positions = "SELECT tenant, source, key, value FROM positions";
        self.rows((store, unread), ("positions", positions), |row| {
            let (tenant, source): (String, String) = (row.get(0)?, row.get(1)?);
            let line = || {
                // Numbers of subscriptions are made anew where a cluster begins.
                if tenant == CLUSTER {
                    return Ok(None);
                }
                let key = blob(row, 2)?;
                let value = decode_position(&tenant, &source, key, blob(row, 3)?)?;
                Ok(Some(Line::Position(PositionLine {
                    tenant: name(&tenant)?,
                    source: name(&source)?,
                    key: Base64(key.to_vec().into()),
                    value: Base64(value),
                })))
            };
            Ok(line())
        })
    }

    fn pending(&mut self, store: &Store, unread: &mut Unread) -> Result<(), PortableError> {
        let mut select = store.connection.prepare(
            "SELECT subscription, sequence, run, due, order_key, value FROM pending
             ORDER BY subscription, sequence, run",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            match read_row(row)? {
                (_, Ok(row)) => {
                    for sequence in &row.sequences {
                        self.write(&Line::Pending(pending(store, &row, *sequence)))?;
                    }
                }
                (_, Err(damage)) => unread.count("pending", damage),
            }
        }
        Ok(())
    }

    fn keys(&mut self, store: &Store, unread: &mut Unread) -> Result<(), PortableError> {
        let key = |row: &Row<'_>| -> rusqlite::Result<[u64; 2]> {
            Ok([row.get::<_, i64>(0)?, row.get(1)?].map(i64::cast_unsigned))
        };
        let identities = ("identities", "SELECT high, low, value FROM identities");
        self.rows((store, unread), identities, |row| {
            let identity = key(row)?;
            let seen = blob(row, 2).and_then(|value| Seen::decode(identity, value));
            Ok(seen.map(|seen| {
                Some(Line::Identity(IdentityLine {
                    identity,
                    sequence: seen.sequence,
                    at: store.shown(seen.at),
                    until: store.shown(seen.until),
                }))
            }))
        })?;
        let keys = ("keys", "SELECT high, low, until, value FROM keys");
        self.rows((store, unread), keys, |row| {
            let (key, until) = (key(row)?, Timestamp(row.get(2)?));
            let known = blob(row, 3).and_then(|value| KeyRow::decode(key, until, value));
            Ok(known.map(|known| {
                Some(Line::Key(KeyLine {
                    key,
                    sequence: known.sequence,
                    at: store.shown(known.at),
                    until: store.shown(until),
                    subscriptions: known.subscriptions,
                }))
            }))
        })
    }
}

/// The line of one of the deliveries of a row.
fn pending(store: &Store, row: &PendingRow, sequence: u64) -> PendingLine {
    PendingLine {
        subscription: row.key.subscription,
        sequence,
        run: if row.is_block() { 0 } else { row.key.run },
        due: store.shown(row.due.time()),
        priority: row.due.priority(),
        since: store.shown(row.since),
        immediate: row.immediate,
        suspended: row.suspended,
        order_key: row.order_key,
        attempts: row.attempts,
        failures: row.failures,
        batch_max: row.batch_max,
        last: store.outcome(row.last.clone()),
        replay: row.replay,
    }
}
