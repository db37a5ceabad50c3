//! What the bus asks of a source.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Problem, Text};
use postgres_protocol::escape::escape_literal;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::look::{Publication, Server, Slot, TableName, text};
use super::position::{Lsn, Place, Position, Streamed, meaning};
use super::refusal::Failure;
use super::snapshot::{Making, Snapshot};
use super::stream::{Beginning, Streaming};
use super::wire::{Address, Connection, SYSTEM};
use crate::cdc::change::Maker;
use crate::cdc::reader::{Batches, Reader, WhatIsThere, hand_on};
use crate::cdc::wire::ANSWER_WITHIN;
use crate::net::server::ServerSettings;
use crate::net::tls::TlsSettings;
use crate::{
    Guarantee, Link, OpenError, RunsOn, Source, SourceContext, SourceError, SourceSettings,
};

/// How long it is waited for whoever reads the slot to go, and how often that is looked at.
const FREE_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often it is asked how far behind we are.
const LAG_EVERY: Duration = Duration::from_secs(10);

/// How long a name is at most: PostgreSQL cuts off the rest.
const NAME_BYTES_MAX: usize = 63;

/// How long the name of a slot is: a temporary one beside it has `_snapshot` behind it.
const SLOT_BYTES_MAX: usize = NAME_BYTES_MAX - "_snapshot".len();

/// Reads what changes in tables of PostgreSQL, by logical replication.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresCdcSource {
    /// The database: `postgres://db.example.com/shop`, with `?sslmode=require` for TLS.
    #[schemars(extend("pattern" = "^postgres(ql)?://", "examples" = ["postgres://127.0.0.1/shop"]))]
    url: Text,
    /// The user, who has the right REPLICATION.
    username: Option<Text>,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// Certificates, for TLS.
    tls: Option<TlsSettings>,
    /// The tables: `schema.table`, or the name of one in the schema `public`.
    #[schemars(length(min = 1), inner(length(min = 1)), extend("examples" = [["public.orders"]]))]
    tables: Vec<String>,
    /// The replication slot, which is made where it is not there, and never dropped.
    #[schemars(regex(pattern = "^[a-z0-9_]{1,54}$"))]
    slot: String,
    /// The publication, which is made for the tables where it is not there; it is called as the slot
    /// is unless this is given.
    publication: Option<String>,
    /// Whether the rows that are there are read at the very first start.
    #[serde(default)]
    snapshot: WhatIsThere,
    /// Whether the slot that is made is one that standbys have, too, from PostgreSQL 17 on.
    #[serde(default)]
    failover: bool,
}

impl PostgresCdcSource {
    fn server(&self) -> ServerSettings<'_> {
        ServerSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    fn publication(&self) -> &str {
        self.publication.as_deref().unwrap_or(&self.slot)
    }

    fn tables(&self) -> Vec<TableName> {
        self.tables
            .iter()
            .map(|name| TableName::read(name))
            .collect()
    }

    fn check_tables(&self) -> Option<Problem> {
        let tables = self.tables();
        let is_named = |name: &String| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        let mut names = tables.iter().flat_map(|name| [&name.schema, &name.table]);
        let different: HashSet<_> = tables.iter().collect();
        let mistake = if tables.is_empty() || !names.all(is_named) {
            "name at least one table, as schema.table"
        } else if different.len() < tables.len() {
            "a table stands there twice"
        } else {
            return None;
        };
        Some(Problem::new(mistake).at("tables"))
    }

    /// Connects, and looks at what is there.
    async fn look(&self) -> Result<Looked, OpenError> {
        let problem = |failure: Failure| OpenError(failure.problem());
        let address = Address(SYSTEM.resolve(&self.server())?);
        let mut connection = address.connect().await.map_err(problem)?;
        let server = Server::look(&mut connection).await.map_err(problem)?;
        let tables = self.tables();
        let publication = Publication::look(&mut connection, self.publication(), &tables);
        let publication = publication.await.map_err(problem)?;
        let slot = Slot::look(&mut connection, &self.slot).await;
        Ok(Looked {
            slot: slot.map_err(problem)?,
            address,
            connection,
            server,
            publication,
        })
    }

    /// Waits a moment until nobody reads the slot: the server does not notice at once that whoever
    /// read it last, such as this source before a reload, is gone.
    async fn free(
        &self,
        connection: &mut Connection,
        mut slot: Option<Slot>,
    ) -> Result<Option<Slot>, OpenError> {
        let until = Instant::now() + FREE_WITHIN;
        while let Some(reader) = slot.as_ref().and_then(|slot| slot.reader.as_ref()) {
            if Instant::now() > until {
                let message = format!("the slot {} is in use by {reader}; it waits", self.slot);
                let help = "a slot has one reader: name another one for this source";
                return Err(OpenError(Problem::new(message).help(help).at("slot")));
            }
            sleep(LOOK_AGAIN).await;
            let looked = Slot::look(connection, &self.slot).await;
            slot = looked.map_err(|failure| OpenError(failure.problem()))?;
        }
        Ok(slot)
    }

    /// What is said of a slot that the server has given up.
    fn lost(&self, slot: &Slot) -> Option<String> {
        let why = slot.lost.as_ref()?;
        let (name, from) = (&self.slot, Lsn(slot.confirmed));
        Some(format!(
            "the slot {name} is lost ({why}): the changes since {from} that were not read are gone. \
             Drop it (SELECT pg_drop_replication_slot('{name}')), and give the source another name, \
             with which it begins with a snapshot"
        ))
    }
}

/// What was found.
struct Looked {
    address: Address,
    connection: Connection,
    server: Server,
    publication: Publication,
    slot: Option<Slot>,
}

#[async_trait]
impl SourceSettings for PostgresCdcSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = SYSTEM.check(&self.server());
        problems.extend(self.check_tables());
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !(1..=SLOT_BYTES_MAX).contains(&self.slot.len()) || !self.slot.chars().all(is_plain) {
            let mistake = "a slot is called by 1 to 54 small letters, digits and underscores";
            problems.push(Problem::new(mistake).at("slot"));
        }
        let name = self.publication();
        let is_odd = name.contains(['\'', '"', '\\']) || name.chars().any(char::is_control);
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || is_odd {
            let mistake = "a publication is called by 1 to 63 letters, without quotes";
            problems.push(Problem::new(mistake).at("publication"));
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::One
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let Looked {
            address,
            server,
            publication,
            slot,
            ..
        } = self.look().await?;
        if let Some(sql) = publication.missing() {
            let problem =
                Problem::new(format!("the publication {} lacks tables", publication.name));
            let help = format!("have somebody run {sql}");
            return Err(OpenError(problem.help(help).at("publication")));
        }
        let slot = match &slot {
            None => format!("the slot {} is new; {} are in use", self.slot, server.slots),
            Some(slot) => match (self.lost(slot), &slot.reader) {
                (Some(lost), _) => return Err(OpenError(Problem::new(lost).at("slot"))),
                (None, Some(reader)) => format!("the slot {} is read by {reader}", self.slot),
                (None, None) => {
                    let bytes = server.end.saturating_sub(slot.confirmed);
                    format!("{bytes} bytes of the log wait for the slot {}", self.slot)
                }
            },
        };
        let mut told = format!(
            "PostgreSQL {} at {}, wal_level {}, {} may replicate; {slot}; the publication {} {}",
            server.version,
            address.0.host,
            server.wal_level,
            address.0.user,
            publication.name,
            match publication.is_there {
                true => "has the tables",
                false => "is made",
            }
        );
        let without = publication.without_identity();
        if !without.is_empty() {
            told.push_str(&format!(
                "; without a primary key or a replica identity PostgreSQL refuses updates and \
                 deletes in {}: ALTER TABLE … REPLICA IDENTITY FULL",
                without.join(", ")
            ));
        }
        Ok(told)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let Looked {
            address,
            mut connection,
            server,
            publication,
            slot,
        } = self.look().await?;
        let problem = |failure: Failure| OpenError(failure.problem());
        let slot = self.free(&mut connection, slot).await?;
        publication.make(&mut connection).await.map_err(problem)?;
        let run = Run {
            settings: self.clone(),
            maker: Maker {
                system: "postgres",
                name: context.name,
                mapped: context.mapped,
            },
            meaning: meaning(&address.0.database, &self.slot),
            address: Arc::new(address),
            server,
            publication,
        };
        let telling = tell_lag(Arc::clone(&run.address), self.slot.clone(), context.link);
        let stored = context.cursor;
        let read = |batches| async move {
            let stored = stored.map(|cursor| Position::read(&cursor, run.meaning));
            match stored.transpose() {
                Ok(stored) => run.begin(connection, slot, stored, &batches).await,
                Err(error) => error,
            }
        };
        Ok(Reader::begin(read, telling))
    }
}

/// What reads.
struct Run {
    settings: PostgresCdcSource,
    address: Arc<Address>,
    server: Server,
    publication: Publication,
    maker: Maker,
    meaning: u64,
}

impl Run {
    /// Begins where it is stored that the source stands, and reads until that is over.
    async fn begin(
        self,
        connection: Connection,
        slot: Option<Slot>,
        stored: Option<Position>,
        batches: &Batches,
    ) -> SourceError {
        match self.run(connection, slot, stored, batches).await {
            Ok(streaming) => streaming.run().await,
            Err(error) => error,
        }
    }

    async fn run(
        self,
        connection: Connection,
        slot: Option<Slot>,
        stored: Option<Position>,
        batches: &Batches,
    ) -> Result<Streaming, SourceError> {
        if let Some(lost) = slot.as_ref().and_then(|slot| self.settings.lost(slot)) {
            return Err(SourceError::CursorMismatch(lost));
        }
        let streamed = self.stored(stored.as_ref(), slot.as_ref())?;
        let confirmed = slot.as_ref().map_or(0, |slot| slot.confirmed);
        let (mut connection, read) = match streamed {
            Some(read) => (connection, read),
            None => {
                let begun = self.begin_anew(connection, slot, batches).await?;
                // Of the connection that took the snapshot, the temporary slot ends with it.
                (self.address.connect().await?, begun)
            }
        };
        let primary_keys = self.publication.primary_keys(&mut connection).await?;
        let position = self.position(Place::Stream(read));
        let beginning = Beginning {
            connection,
            slot: self.settings.slot.clone(),
            publication: self.publication.name.clone(),
            maker: self.maker,
            database: self.address.0.database.clone(),
            primary_keys,
            position,
            read,
            meaning: self.meaning,
            confirmed: confirmed.max(read.complete),
        };
        Ok(Streaming::begin(beginning, batches.clone()).await?)
    }

    /// How far the stream was read, as that is stored; nothing where the source begins anew.
    fn stored(
        &self,
        stored: Option<&Position>,
        slot: Option<&Slot>,
    ) -> Result<Option<Streamed>, SourceError> {
        let Some(stored) = stored else {
            return Ok(None);
        };
        let name = &self.settings.slot;
        if stored.system != self.server.system {
            return Err(SourceError::CursorMismatch(format!(
                "this is another server than the one that was read, whose slot {name} this one cannot \
                 have; give the source another name, with which it begins anew"
            )));
        }
        let Place::Stream(read) = stored.place else {
            return Ok(None);
        };
        if slot.is_none() {
            return Err(SourceError::CursorMismatch(format!(
                "the slot {name} is gone: changes since {} are lost. Give the source another name, \
                 with which it makes the slot and begins with a snapshot",
                Lsn(read.complete)
            )));
        }
        if stored.timeline == self.server.timeline && self.server.end >= read.complete {
            return Ok(Some(read));
        }
        // A standby has taken over, or a backup was restored, which may lack what was read: other
        // changes can stand in its place. What is sent again has the id that it had.
        tracing::warn!(
            source = %self.maker.name, slot = name,
            "the server's log is another one than was read; it is read from where the slot stands"
        );
        Ok(Some(Streamed::default()))
    }

    /// Makes the slot where it is not there, and reads the snapshot where one is wanted.
    async fn begin_anew(
        &self,
        mut connection: Connection,
        slot: Option<Slot>,
        batches: &Batches,
    ) -> Result<Streamed, SourceError> {
        let making = Making {
            slot: &self.settings.slot,
            failover: self.settings.failover,
        };
        let complete = match (self.settings.snapshot, &slot) {
            (WhatIsThere::Initial, _) => {
                let publication = self.publication.clone();
                let maker = (self.maker.clone(), self.address.0.database.clone());
                let is_there = slot.is_some();
                let begun = Snapshot::begin(connection, making, is_there, publication, maker);
                let mut snapshot = begun.await?;
                let cursor = self.position(Place::Snapshot).cursor(self.meaning);
                while let Some(made) = snapshot.next().await? {
                    let arrivals = made.into_iter().map(|made| made.arrival).collect();
                    hand_on(batches, arrivals, cursor.clone()).await?;
                }
                snapshot.place
            }
            (WhatIsThere::Never, Some(slot)) => slot.confirmed,
            (WhatIsThere::Never, None) => making.make(&mut connection).await?,
        };
        let read = Streamed {
            complete,
            ..Streamed::default()
        };
        let cursor = self.position(Place::Stream(read)).cursor(self.meaning);
        hand_on(batches, Vec::new(), cursor).await?;
        Ok(read)
    }

    fn position(&self, place: Place) -> Position {
        Position {
            system: self.server.system.clone(),
            timeline: self.server.timeline,
            place,
        }
    }
}

/// Tells how many bytes of the log wait for a slot, again and again. Where that is not known, nobody
/// is told: what breaks is told by whatever reads.
async fn tell_lag(address: Arc<Address>, slot: String, link: Link) {
    let sql = format!(
        "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn) \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
        escape_literal(&slot)
    );
    let mut connected = None;
    loop {
        let connection = match connected.take() {
            Some(connection) => Ok(connection),
            None => address.connect_plainly().await,
        };
        if let Ok(mut connection) = connection
            && let Ok(rows) = connection.query(&sql, ANSWER_WITHIN).await
        {
            let bytes = rows.first().and_then(|row| text(row, 0));
            let bytes = bytes.and_then(|bytes| bytes.parse::<i64>().ok());
            link.lag(bytes.map(|bytes| u64::try_from(bytes).unwrap_or_default()));
            connected = Some(connection);
        }
        sleep(LAG_EVERY).await;
    }
}
