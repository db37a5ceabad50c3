//! Reads the binary log, as a replica does.
//!
//! What comes is handed on in batches, each with the position behind it. Where there is no room
//! nothing more is read, and the server waits: a transaction of any size is never here whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;
use pointsman_schemas::Reject;
use tokio::time::{Instant, sleep_until};

use super::catalog::Catalog;
use super::change::{Change, Stamp};
use super::dump::Dump;
use super::event::{Begun, Event, Told, payload};
use super::gtid::Gtids;
use super::inflate::Events;
use super::look::Tables;
use super::position::{Logged, Part, Place, Position};
use super::refusal::Failure;
use super::rows::{Changed, Rows};
use super::statement::Statement;
use super::table::Table;
use super::table_map::TableMap;
use super::transaction::Transaction;
use super::wire::Connection;
use crate::cdc::change::{Made, Maker, Operation};
use crate::cdc::reader::{BATCH_BYTES, BATCH_MESSAGES_MAX, Batches, batch};
use crate::{Acknowledgement, LogLimit, SourceError};

/// How long a server may be silent. One that reads its log for a long transaction may take some
/// time.
const SILENT_WITHIN: Duration = Duration::from_secs(60);

/// How often the position is stored while only other tables change: the server's log must not run
/// away from it.
const POSITION_EVERY: Duration = Duration::from_secs(10);

/// How many tables are remembered: their numbers change whenever the server opens them anew.
const TABLES_KNOWN_MAX: usize = 1_000;

/// Where the log has been handed on up to.
pub(super) type Reached = Arc<Mutex<(String, u64)>>;

/// What a stream begins with.
pub(super) struct Beginning {
    pub(super) connection: Connection,
    pub(super) catalog: Catalog,
    pub(super) server_id: u32,
    pub(super) is_mariadb: bool,
    pub(super) tables: Tables,
    pub(super) maker: Maker,
    /// The position, which is in the log.
    pub(super) server: String,
    pub(super) read: Logged,
    pub(super) gtids: Option<Gtids>,
    pub(super) reached: Reached,
}

/// A log that is read.
pub(super) struct Streaming {
    connection: Connection,
    catalog: Catalog,
    tables: Tables,
    maker: Maker,
    batches: Batches,
    server: String,
    reached: Reached,
    /// What the log has told of tables, by their numbers.
    known: HashMap<u64, Known>,
    /// Whether events have checksums.
    has_checksums: bool,
    /// A transaction that comes compressed.
    compressed: Option<Events>,
    /// The file that is read, and the place in it.
    file: String,
    offset: u64,
    /// What is read whole.
    read: Logged,
    gtids: Option<Gtids>,
    transaction: Option<Transaction>,
    /// The one that was read in part before.
    part: Option<Part>,
    chunk: Vec<Made>,
    bytes: usize,
    /// Whether the position is another one than was handed on last, and when that was.
    has_moved: bool,
    handed_on: Instant,
    heard: Instant,
    warned: LogLimit,
}

/// A table that the log has told of.
struct Known {
    map: TableMap,
    /// Where it is one that is read.
    table: Option<Arc<Table>>,
}

impl Streaming {
    /// Asks for the log.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn begin(beginning: Beginning, batches: Batches) -> Result<Self, Failure> {
        let Beginning {
            mut connection,
            catalog,
            server_id,
            is_mariadb,
            tables,
            maker,
            server,
            read,
            gtids,
            reached,
        } = beginning;
        let dump = Dump {
            server_id,
            is_mariadb,
            read: &read,
            gtids: gtids.as_ref(),
        };
        dump.ask(&mut connection).await?;
        let now = Instant::now();
        Ok(Self {
            connection,
            catalog,
            tables,
            maker,
            batches,
            server,
            reached,
            known: HashMap::new(),
            // Of what comes first it is looked at; the description of the format says it of the
            // rest.
            has_checksums: true,
            compressed: None,
            file: read.file.clone(),
            offset: read.offset,
            part: read.part.clone(),
            read,
            gtids,
            transaction: None,
            chunk: Vec::new(),
            bytes: 0,
            has_moved: false,
            handed_on: now,
            heard: now,
            warned: LogLimit::default(),
        })
    }

    /// Reads until that is over.
    pub(super) async fn run(mut self) -> SourceError {
        loop {
            if let Err(error) = self.turn().await {
                return error;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), SourceError> {
        while let Some(event) = self.event()? {
            self.take(event).await?;
        }
        if !self.chunk.is_empty() {
            // What is there already goes with it.
            return match self.connection.fill().now_or_never() {
                Some(filled) => self.filled(filled),
                None => self.hand_on().await,
            };
        }
        let is_due = self.has_moved && self.transaction.is_none();
        let position_due = self.handed_on + POSITION_EVERY;
        tokio::select! {
            filled = self.connection.fill() => self.filled(filled),
            () = sleep_until(position_due), if is_due => self.hand_on().await,
            () = sleep_until(self.heard + SILENT_WITHIN) => {
                Err(Failure::broken("the server is silent").into())
            }
        }
    }

    fn filled(&mut self, filled: Result<(), Failure>) -> Result<(), SourceError> {
        self.heard = Instant::now();
        Ok(filled?)
    }

    /// The next event, where it is there already.
    fn event(&mut self) -> Result<Option<Event>, Failure> {
        if let Some(events) = &mut self.compressed {
            match events.next()? {
                Some(raw) => return Ok(Some(Event::read(raw, false)?)),
                None => self.compressed = None,
            }
        }
        let raw = match self.connection.event() {
            Err(Failure::Refused(refusal)) => return Err(refusal.of_log(&self.read.shown())),
            raw => raw?,
        };
        let Some(raw) = raw else { return Ok(None) };
        let event = Event::read(raw, self.has_checksums)?;
        // What the server makes up stands nowhere.
        if event.end > 0 {
            self.offset = u64::from(event.end);
        }
        Ok(Some(event))
    }

    async fn take(&mut self, event: Event) -> Result<(), SourceError> {
        match event.told().map_err(Failure::from)? {
            Told::Format { has_checksums } => {
                self.has_checksums = has_checksums;
                self.known.clear();
            }
            // A server that begins in the middle of a file says so of all of it.
            Told::Rotate { file, .. } if file == self.file => {}
            Told::Rotate { file, offset } => {
                (self.file, self.offset) = (file, offset);
                if self.transaction.is_none() {
                    self.stand_here();
                }
            }
            Told::Alive { file } if self.transaction.is_none() && event.end > 0 => {
                self.file = file;
                self.stand_here();
            }
            Told::Begin(begun) => self.begin_transaction(begun, &event),
            Told::Query {
                database,
                statement,
            } => self.statement(&database, &statement, &event).await?,
            Told::Commit => self.end_transaction(),
            Told::Table(map) => self.learn(map).await?,
            Told::Rows(rows) => self.rows(rows, &event).await?,
            Told::Compressed(body) => {
                let events = payload(&body);
                let events = events.and_then(|(bytes, is_packed)| Events::new(bytes, is_packed));
                self.compressed = Some(events.map_err(Failure::from)?);
            }
            Told::Unreadable(reason) => self.unreadable(reason, event.body.clone(), &event).await?,
            Told::Alive { .. } | Told::Other => {}
        }
        Ok(())
    }

    fn begin_transaction(&mut self, begun: Begun, event: &Event) {
        let offset = self.offset;
        let own = Transaction::new(begun, event, &self.file, offset, &mut self.part);
        self.transaction = Some(own);
    }

    /// Begins a transaction without a GTID where none was told of.
    fn ensure_transaction(&mut self, event: &Event) {
        if self.transaction.is_none() {
            let begun = Begun {
                gtid: None,
                is_open: false,
                micros: None,
            };
            self.begin_transaction(begun, event);
        }
    }

    fn end_transaction(&mut self) {
        if let Some(gtid) = self.transaction.take().and_then(|own| own.gtid)
            && let Some(gtids) = &mut self.gtids
        {
            gtids.add(gtid);
        }
        self.stand_here();
    }

    /// Everything up to here is read.
    fn stand_here(&mut self) {
        self.has_moved |= self.read.file != self.file || self.read.offset != self.offset;
        self.read.file.clone_from(&self.file);
        self.read.offset = self.offset;
        if self.chunk.is_empty() {
            *self.reached.lock() = (self.file.clone(), self.offset);
        }
    }

    async fn statement(
        &mut self,
        database: &str,
        text: &str,
        event: &Event,
    ) -> Result<(), SourceError> {
        let statement = Statement::read(text);
        if !matches!(statement, Statement::End | Statement::Within) {
            self.ensure_transaction(event);
        }
        match statement {
            Statement::Begin => {
                if let Some(own) = &mut self.transaction {
                    own.is_open = true;
                }
            }
            Statement::End => self.end_transaction(),
            Statement::Within => {}
            statement => {
                // Whatever it is, tables may look otherwise from here on.
                self.catalog.forget();
                self.known.clear();
                let is_alone = self.transaction.as_ref().is_some_and(|own| !own.is_open);
                match statement {
                    Statement::Truncate(named, table) => {
                        let database = named.unwrap_or_else(|| database.to_owned());
                        self.truncated(database, table).await?;
                    }
                    Statement::Rows => self.not_by_rows(database),
                    _ => {}
                }
                if is_alone {
                    self.end_transaction();
                }
            }
        }
        Ok(())
    }

    /// A session that asks for it has its statements logged, and not what they do.
    fn not_by_rows(&mut self, database: &str) {
        if self.warned.admit(1).is_some() {
            tracing::warn!(
                source = %self.maker.name, database,
                "a session writes statements into the binary log and not rows (binlog_format); what \
                 they change is not told"
            );
        }
    }

    /// Learns what a table looks like.
    async fn learn(&mut self, map: TableMap) -> Result<(), SourceError> {
        if self
            .known
            .get(&map.id)
            .is_some_and(|known| known.map == map)
        {
            return Ok(());
        }
        let table = match self.tables.has(&map.database, &map.table) {
            false => None,
            true => {
                let catalog = self.catalog.columns(&map.database, &map.table).await?;
                let table = Table::of_log(&map, &catalog, &self.catalog.collations);
                Some(Arc::new(table))
            }
        };
        if self.known.len() >= TABLES_KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(map.id, Known { map, table });
        Ok(())
    }

    async fn rows(&mut self, mut rows: Rows, event: &Event) -> Result<(), SourceError> {
        let Some(Known { map, table }) = self.known.remove(&rows.table) else {
            // What ends a statement may have no rows, nor a table.
            return Ok(());
        };
        self.ensure_transaction(event);
        loop {
            match rows.next(&map.columns) {
                Ok(None) => break,
                Ok(Some(changed)) => {
                    if let (Some(stamp), Some(table)) = (self.count(), &table) {
                        let made = self.made(rows.operation, table, &map, &changed, stamp);
                        self.push(made).await?;
                    }
                }
                Err(why) => {
                    let table = table
                        .is_some()
                        .then(|| format!("{}.{}", map.database, map.table));
                    if let (Some(_), Some(name)) = (self.count(), table) {
                        let reason = format!("cannot read rows of {name}: {why}");
                        self.push(rejected(reason, event.body.clone())).await?;
                    }
                    break;
                }
            }
        }
        self.known.insert(rows.table, Known { map, table });
        Ok(())
    }

    /// Counts a change of the transaction, and returns what tells it from others; nothing where it
    /// was read before.
    fn count(&mut self) -> Option<Stamp> {
        self.transaction.as_mut()?.count()
    }

    fn made(
        &self,
        operation: Operation,
        table: &Table,
        map: &TableMap,
        changed: &Changed,
        stamp: Stamp,
    ) -> Made {
        let read = |image: &Option<_>| image.as_ref().map(|image| table.read(image, &map.columns));
        let (before, after) = (read(&changed.before), read(&changed.after));
        let mistake = [&before, &after].into_iter().flatten();
        let mistake = mistake.filter_map(|(_, mistake)| mistake.clone()).next();
        let change = Change {
            operation,
            table,
            before: before.as_ref().map(|(row, _)| row.as_slice()),
            after: after.as_ref().map(|(row, _)| row.as_slice()),
        };
        change.event(&self.maker, stamp, mistake)
    }

    async fn truncated(&mut self, database: String, name: String) -> Result<(), SourceError> {
        let is_read = self.tables.has(&database, &name);
        let Some(stamp) = self.count().filter(|_| is_read) else {
            return Ok(());
        };
        let table = Table {
            database,
            name,
            columns: Vec::new(),
            mistake: None,
        };
        let change = Change {
            operation: Operation::Truncated,
            table: &table,
            before: None,
            after: None,
        };
        let made = change.event(&self.maker, stamp, None);
        self.push(made).await
    }

    /// Something came that nobody can read: it is a dead letter of the source, and what follows
    /// comes all the same.
    async fn unreadable(
        &mut self,
        reason: String,
        raw: Bytes,
        event: &Event,
    ) -> Result<(), SourceError> {
        self.ensure_transaction(event);
        match self.count() {
            Some(_) => self.push(rejected(reason, raw)).await,
            None => Ok(()),
        }
    }

    async fn push(&mut self, made: Made) -> Result<(), SourceError> {
        self.bytes += made.bytes;
        self.chunk.push(made);
        match self.chunk.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES {
            true => self.hand_on().await,
            false => Ok(()),
        }
    }

    /// Hands on what has come, once there is room for it.
    async fn hand_on(&mut self) -> Result<(), SourceError> {
        let permit = self.batches.reserve().await;
        let permit = permit.map_err(|_| SourceError::Ended)?;
        self.read.gtids = self.gtids.as_ref().map(ToString::to_string);
        let open = self.transaction.as_ref();
        self.read.part = open.filter(|own| own.changes > 0).map(|own| Part {
            transaction: own.name.clone(),
            changes: own.changes.max(own.read),
        });
        let position = Position {
            server: self.server.clone(),
            place: Place::Log(self.read.clone()),
        };
        let arrivals: Vec<_> = self.chunk.drain(..).map(|made| made.arrival).collect();
        self.bytes = 0;
        permit.send(Ok(batch(arrivals, position.cursor(), || {
            Acknowledgement::None
        })));
        *self.reached.lock() = (self.file.clone(), self.offset);
        self.has_moved = false;
        // What was waited for is not silence of the server.
        self.handed_on = Instant::now();
        self.heard = self.handed_on;
        Ok(())
    }
}

fn rejected(reason: String, raw: Bytes) -> Made {
    Made {
        bytes: raw.len(),
        arrival: Err(Reject { raw, reason }),
    }
}
