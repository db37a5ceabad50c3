//! Reads a slot, and answers the server meanwhile, whether or not there is room for more.
//!
//! What comes is handed on in batches, each with the position behind it. Where there is no room
//! nothing more is read, and the server waits: a transaction of any size is never here whole. It
//! still hears from us, or it would take us for dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use postgres_protocol::escape::escape_identifier;
use tokio::time::{Instant, sleep_until};

use super::change::{Change, Stamp};
use super::pgoutput::{Described, Message, Old, Tuple};
use super::position::{Lsn, Place, Position, Streamed};
use super::progress::Progress;
use super::refusal::Failure;
use super::relation::{Column, Relation, Which};
use super::value::Type;
use super::wire::{Connection, Replicated, status};
use crate::SourceError;
use crate::cdc::change::{Made, Maker, Operation};
use crate::cdc::reader::{BATCH_BYTES, BATCH_MESSAGES_MAX, Batches, batch};

/// How often the server hears how far we are: well within what it waits for.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How long a server may be silent that is asked every few seconds. One that reads its log for a
/// long transaction may take some time.
const SILENT_WITHIN: Duration = Duration::from_secs(60);

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.to_string())
    }
}

/// What a stream begins with.
pub(super) struct Beginning {
    pub(super) connection: Connection,
    pub(super) slot: String,
    pub(super) publication: String,
    pub(super) maker: Maker,
    pub(super) database: String,
    /// The columns of primary keys, by the numbers of tables.
    pub(super) primary_keys: HashMap<u32, Vec<String>>,
    /// The position; what is before it was read already.
    pub(super) position: Position,
    pub(super) read: Streamed,
    /// What gives it its meaning.
    pub(super) meaning: u64,
    /// Up to where the server may forget its log.
    pub(super) confirmed: u64,
}

/// A slot that is read.
pub(super) struct Streaming {
    connection: Connection,
    tables: Tables,
    maker: Maker,
    database: String,
    progress: Arc<Progress>,
    batches: Batches,
    position: Position,
    meaning: u64,
    /// What was read before.
    known: Streamed,
    at: Streamed,
    transaction: Option<Transaction>,
    chunk: Vec<Made>,
    bytes: usize,
    /// Up to where something has come.
    received: u64,
    /// What the server was last told to be stored.
    told: u64,
    heard: Instant,
    status_due: Instant,
}

/// The transaction whose changes come.
#[derive(Clone, Copy)]
struct Transaction {
    commit: u64,
    time: i64,
    number: u32,
    /// How many of its changes have come.
    changes: u64,
}

/// The tables that the server has told of.
struct Tables {
    relations: HashMap<u32, Arc<Relation>>,
    /// Types that are not built in.
    types: HashMap<u32, Type>,
    primary_keys: HashMap<u32, Vec<String>>,
}

impl Streaming {
    /// Has the server stream.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub(super) async fn begin(beginning: Beginning, batches: Batches) -> Result<Self, Failure> {
        let Beginning {
            mut connection,
            slot,
            publication,
            maker,
            database,
            primary_keys,
            position,
            read,
            meaning,
            confirmed,
        } = beginning;
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names '{}')",
            escape_identifier(&slot),
            Lsn(confirmed),
            // A name has no apostrophe in it.
            escape_identifier(&publication),
        );
        connection.start(&command).await?;
        let now = Instant::now();
        Ok(Self {
            connection,
            tables: Tables {
                relations: HashMap::new(),
                types: HashMap::new(),
                primary_keys,
            },
            maker,
            database,
            progress: Arc::new(Progress::new(confirmed)),
            batches,
            position,
            meaning,
            known: read,
            at: read,
            transaction: None,
            chunk: Vec::new(),
            bytes: 0,
            received: confirmed,
            told: confirmed,
            heard: now,
            status_due: now,
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
        while let Some(copied) = self.connection.copied()? {
            match Replicated::read(copied)? {
                Replicated::Data(data) => {
                    let message = Message::read(data).map_err(Failure::broken)?;
                    self.take(message)?;
                }
                Replicated::Alive {
                    up_to,
                    wants_answer,
                } => {
                    self.received = self.received.max(up_to);
                    // Inside of a transaction this says nothing of its rest.
                    if self.transaction.is_none() && self.chunk.is_empty() {
                        self.progress.nothing_up_to(up_to);
                    }
                    if wants_answer {
                        self.tell().await?;
                    }
                }
            }
            if self.chunk.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES {
                self.hand_on().await?;
            }
        }
        if !self.chunk.is_empty() {
            // What is there already goes with it.
            return match self.connection.fill().now_or_never() {
                Some(filled) => self.filled(filled),
                None => self.hand_on().await,
            };
        }
        tokio::select! {
            filled = self.connection.fill() => self.filled(filled)?,
            () = sleep_until(self.status_due) => {
                if self.heard.elapsed() > SILENT_WITHIN {
                    return Err(Failure::broken("the server is silent").into());
                }
                self.tell().await?;
            }
            () = self.progress.changed() => self.confirm().await?,
        }
        Ok(())
    }

    fn filled(&mut self, filled: Result<(), Failure>) -> Result<(), SourceError> {
        self.heard = Instant::now();
        Ok(filled?)
    }

    /// Hands on what has come, once there is room for it.
    async fn hand_on(&mut self) -> Result<(), SourceError> {
        let permit = loop {
            tokio::select! {
                permit = self.batches.reserve() => break permit.map_err(|_| SourceError::Ended)?,
                () = sleep_until(self.status_due) => {}
                () = self.progress.changed() => {}
            }
            if self.progress.is_lost() {
                return Err(not_stored());
            }
            let told = status(self.received, self.progress.confirmed(), now_micros());
            self.connection.copy(&told).await?;
            self.status_due = Instant::now() + STATUS_EVERY;
        };
        // What was waited for is not silence of the server.
        self.heard = Instant::now();
        self.at = match self.transaction {
            Some(open) => Streamed {
                commit: open.commit,
                changes: open.changes,
                ..self.at
            },
            None => self.at,
        };
        self.position.place = Place::Stream(self.at);
        let arrivals: Vec<_> = self.chunk.drain(..).map(|made| made.arrival).collect();
        self.bytes = 0;
        let number = self.progress.push(arrivals.len(), self.at.complete);
        let cursor = self.position.cursor(self.meaning);
        let acknowledgement = || self.progress.acknowledgement(number);
        permit.send(Ok(batch(arrivals, cursor, acknowledgement)));
        Ok(())
    }

    /// Tells the server what is stored, where that is more than it knows.
    async fn confirm(&mut self) -> Result<(), SourceError> {
        if self.progress.is_lost() {
            return Err(not_stored());
        }
        match self.progress.confirmed() > self.told {
            true => self.tell().await,
            false => Ok(()),
        }
    }

    async fn tell(&mut self) -> Result<(), SourceError> {
        self.told = self.progress.confirmed();
        let received = self.received.max(self.told);
        let told = status(received, self.told, now_micros());
        self.connection.copy(&told).await?;
        self.status_due = Instant::now() + STATUS_EVERY;
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<(), SourceError> {
        match message {
            Message::Begin {
                commit,
                time,
                transaction,
            } => {
                self.transaction = Some(Transaction {
                    commit,
                    time,
                    number: transaction,
                    changes: 0,
                });
            }
            Message::Commit { end } => {
                self.transaction = None;
                self.received = self.received.max(end);
                self.at = Streamed {
                    complete: self.at.complete.max(end),
                    ..Streamed::default()
                };
                if self.chunk.is_empty() {
                    self.progress.nothing_up_to(end);
                }
            }
            Message::Relation(described) => self.tables.describe(described),
            Message::Type { oid, name } => {
                self.tables.types.insert(oid, Type::of_name(&name));
            }
            Message::Insert { table, new } => {
                self.change(Operation::Inserted, table, None, Some(&new))?;
            }
            Message::Update { table, old, new } => {
                self.change(Operation::Updated, table, old.as_ref(), Some(&new))?;
            }
            Message::Delete { table, old } => {
                self.change(Operation::Deleted, table, Some(&old), None)?;
            }
            Message::Truncate { tables } => {
                for table in tables {
                    self.change(Operation::Truncated, table, None, None)?;
                }
            }
            Message::Other => {}
        }
        Ok(())
    }

    fn change(
        &mut self,
        operation: Operation,
        table: u32,
        old: Option<&Old>,
        new: Option<&Tuple>,
    ) -> Result<(), SourceError> {
        let unknown = || Failure::broken("a change came whose table or transaction did not");
        let transaction = self.transaction.as_mut().ok_or_else(unknown)?;
        transaction.changes += 1;
        let transaction = *transaction;
        if self.known.has(transaction.commit, transaction.changes) {
            return Ok(());
        }
        let relation = self.tables.relations.get(&table).ok_or_else(unknown)?;
        let change = Change {
            operation,
            database: &self.database,
            table: relation,
            before: old.map(|old| match old {
                Old::Key(row) => (row, Which::Identity),
                Old::Full(row) => (row, Which::All),
            }),
            after: new,
        };
        let lsn = Lsn(transaction.commit);
        let stamp = Stamp {
            // The time keeps apart what a server that lost some of its log writes in its place.
            id: format!("{lsn}-{}-{}", transaction.time, transaction.changes),
            lsn,
            transaction: Some(transaction.number),
            time: transaction.time,
        };
        let made = change.event(&self.maker, stamp);
        self.bytes += made.bytes;
        self.chunk.push(made);
        Ok(())
    }
}

impl Tables {
    fn describe(&mut self, described: Described) {
        let columns = described.columns.into_iter().map(|column| Column {
            ty: match self.types.get(&column.type_oid) {
                Some(ty) => *ty,
                None => Type::of_oid(column.type_oid),
            },
            name: column.name,
            is_identity: column.is_identity,
            is_key: false,
        });
        let mut relation = Relation {
            schema: described.schema,
            name: described.name,
            columns: columns.collect(),
        };
        relation.keyed_by(self.primary_keys.get(&described.oid));
        self.relations.insert(described.oid, Arc::new(relation));
    }
}

fn not_stored() -> SourceError {
    SourceError::Unavailable(
        "a change could not be stored; it is read again from what is".to_owned(),
    )
}

/// The time as the protocol has it, which the server only shows.
fn now_micros() -> i64 {
    super::change::postgres_micros(Timestamp::now())
}
