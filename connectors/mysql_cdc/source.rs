//! What the bus asks of a source.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::sleep;

use super::catalog::{Catalog, collations};
use super::gtid::Gtids;
use super::look::{Server, TableName, Tables, bytes_behind};
use super::position::{Logged, Place, Position};
use super::refusal::Failure;
use super::snapshot::Snapshot;
use super::stream::{Beginning, Reached, Streaming};
use super::wire::{Address, Connection, SYSTEM};
use crate::cdc::change::Maker;
use crate::cdc::reader::{Batches, Reader, WhatIsThere, hand_on};
use crate::net::server::ServerSettings;
use crate::net::tls::TlsSettings;
use crate::{
    Guarantee, Link, OpenError, RunsOn, Source, SourceContext, SourceError, SourceSettings,
};

/// How often it is asked how far behind we are.
const LAG_EVERY: Duration = Duration::from_secs(10);

/// How soon that is asked again where it is not known yet.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Ids that are taken where none is given begin here: people give small ones.
const OWN_IDS_FROM: u32 = 1 << 31;

/// Reads what changes in tables of MySQL and MariaDB, from the binary log.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MysqlCdcSource {
    /// The server: `mysql://db.example.com/shop`, with `?ssl-mode=required` for TLS.
    #[schemars(extend("pattern" = "^(mysql|mariadb)://", "examples" = ["mysql://127.0.0.1/shop"]))]
    url: Text,
    /// The user, who has the rights REPLICATION SLAVE and REPLICATION CLIENT.
    username: Option<Text>,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// Certificates, for TLS.
    tls: Option<TlsSettings>,
    /// The tables: `database.table`, or the name of one in the URL's database. `*`, `?` and `[…]`
    /// stand for others.
    #[schemars(length(min = 1), inner(length(min = 1)), extend("examples" = [["shop.orders", "shop.customer_*"]]))]
    tables: Vec<String>,
    /// What the source calls itself among the server's replicas, each of which has its own; another
    /// one each time unless this is given.
    #[schemars(range(min = 1))]
    server_id: Option<u32>,
    /// Whether the rows that are there are read at the very first start.
    #[serde(default)]
    snapshot: WhatIsThere,
}

impl MysqlCdcSource {
    fn server(&self) -> ServerSettings<'_> {
        ServerSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    /// The tables, where the URL names this database.
    fn tables(&self, database: &str) -> Result<Tables, Problem> {
        let tables = Tables::read(&self.tables, database);
        tables.map_err(|mistake| Problem::new(mistake).at("tables"))
    }

    /// Connects, and looks at what is there.
    async fn look(&self) -> Result<Looked, OpenError> {
        let problem = |failure: Failure| OpenError(failure.problem());
        let address = Address(SYSTEM.resolve(&self.server())?);
        let tables = self.tables(&address.0.database).map_err(OpenError)?;
        let mut connection = address.connect().await.map_err(problem)?;
        let looked = Server::look(&mut connection).await.map_err(problem)?;
        let own_id = || OWN_IDS_FROM | rand::random::<u32>();
        let server_id = self.server_id.unwrap_or_else(own_id);
        if looked.id == server_id.to_string() {
            let message = format!("{server_id} is the server's own server_id");
            return Err(OpenError(
                Problem::new(message)
                    .help("give the source another one, which no replica has")
                    .at("server_id"),
            ));
        }
        let registered = Server::register(&mut connection, server_id).await;
        registered.map_err(problem)?;
        Ok(Looked {
            address,
            connection,
            server: looked,
            tables,
            server_id,
        })
    }
}

/// What was found.
struct Looked {
    address: Address,
    connection: Connection,
    server: Server,
    tables: Tables,
    server_id: u32,
}

#[async_trait]
impl SourceSettings for MysqlCdcSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = SYSTEM.check(&self.server());
        // Of a URL that is not written out it is not known whether it names a database.
        let url = self.url.literal().map(|url| SYSTEM.parse(url));
        let database = match &url {
            Some(Ok((parts, _))) => parts.path.as_str(),
            Some(Err(_)) | None => "database",
        };
        problems.extend(self.tables(database).err());
        if self.server_id == Some(0) {
            let mistake = "a replica's server_id is at least 1";
            problems.push(Problem::new(mistake).at("server_id"));
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
        let problem = |failure: Failure| OpenError(failure.problem());
        let Looked {
            address,
            mut connection,
            server,
            tables,
            ..
        } = self.look().await?;
        let found = tables.look(&mut connection).await.map_err(problem)?;
        let files = Server::files(&mut connection).await.map_err(problem)?;
        let end = server.end(&mut connection).await.map_err(problem)?;
        let gtids = server.gtids(&mut connection, &end).await.map_err(problem)?;
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        let mut told = format!(
            "{} {} at {}, binlog_format ROW, {} may replicate; the binary log has {} files with \
             {bytes} bytes and ends at {}:{}",
            server.product(),
            server.version,
            address.0.host,
            address.0.user,
            files.len(),
            end.file,
            end.offset,
        );
        match gtids {
            Some(gtids) => told.push_str(&format!(", GTIDs {gtids}")),
            None => told.push_str(
                "; without GTIDs (gtid_mode) the position is one in a file of this server, and ends \
                 with it",
            ),
        }
        told.push_str(&format!("; {} tables are read", found.len()));
        if !server.row_metadata.eq_ignore_ascii_case("FULL") {
            told.push_str(
                "; what columns are called is taken from the catalog, and rows from before a table \
                 was changed may not fit it: SET GLOBAL binlog_row_metadata = 'FULL'",
            );
        }
        Ok(told)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let looked = self.look().await?;
        let address = Arc::new(looked.address);
        let reached = Reached::default();
        let run = Run {
            snapshot: self.snapshot,
            maker: Maker {
                system: "mysql",
                name: context.name,
                mapped: context.mapped,
            },
            address: Arc::clone(&address),
            server: looked.server,
            tables: looked.tables,
            server_id: looked.server_id,
            reached: Arc::clone(&reached),
        };
        let (connection, stored) = (looked.connection, context.cursor);
        let read = |batches| async move {
            let stored = stored.map(|cursor| Position::read(&cursor));
            match stored.transpose() {
                Ok(stored) => run.begin(connection, stored, &batches).await,
                Err(error) => error,
            }
        };
        Ok(Reader::begin(
            read,
            tell_lag(address, reached, context.link),
        ))
    }
}

/// What reads.
struct Run {
    snapshot: WhatIsThere,
    address: Arc<Address>,
    server: Server,
    tables: Tables,
    server_id: u32,
    maker: Maker,
    reached: Reached,
}

impl Run {
    /// Begins where it is stored that the source stands, and reads until that is over.
    async fn begin(
        self,
        connection: Connection,
        stored: Option<Position>,
        batches: &Batches,
    ) -> SourceError {
        match self.run(connection, stored, batches).await {
            Ok(streaming) => streaming.run().await,
            Err(error) => error,
        }
    }

    async fn run(
        self,
        mut connection: Connection,
        stored: Option<Position>,
        batches: &Batches,
    ) -> Result<Streaming, SourceError> {
        let stored = match stored {
            Some(Position {
                server,
                place: Place::Log(read),
            }) => Some(self.stored(&mut connection, &server, read).await?),
            _ => None,
        };
        let read = match stored {
            Some(read) => read,
            None => {
                let begun = self.begin_anew(connection, batches).await?;
                // What took the snapshot has its own settings.
                connection = self.address.connect().await?;
                Server::register(&mut connection, self.server_id).await?;
                begun
            }
        };
        *self.reached.lock() = (read.file.clone(), read.offset);
        let collations = collations(&mut connection).await?;
        let gtids = read.gtids.as_deref();
        let gtids = gtids.map(|gtids| self.gtids(gtids)).transpose()?;
        let is_mariadb = self.server.is_mariadb;
        let beginning = Beginning {
            connection,
            catalog: Catalog::new(self.address, is_mariadb, collations),
            server_id: self.server_id,
            is_mariadb,
            tables: self.tables,
            maker: self.maker,
            server: self.server.uuid,
            gtids,
            read,
            reached: self.reached,
        };
        Ok(Streaming::begin(beginning, batches.clone()).await?)
    }

    fn gtids(&self, text: &str) -> Result<Gtids, SourceError> {
        Gtids::read(text, self.server.is_mariadb).ok_or_else(|| self.other_server(text))
    }

    fn other_server(&self, read: &str) -> SourceError {
        SourceError::CursorMismatch(format!(
            "this is another server than the one that was read up to {read}: it does not have what \
             follows. Name the one that does, or give the source another name, with which it begins \
             with a snapshot"
        ))
    }

    /// How far the log was read, as that is stored, where this server can go on with it.
    async fn stored(
        &self,
        connection: &mut Connection,
        server: &str,
        read: Logged,
    ) -> Result<Logged, SourceError> {
        let is_same = server == self.server.uuid;
        let Some(stored) = &read.gtids else {
            return match is_same && !self.server.is_mariadb {
                true => Ok(read),
                false => Err(self.other_server(&read.shown())),
            };
        };
        let gtids = self.gtids(stored)?;
        if !self.server.has_gtids {
            // Somebody has turned them off.
            return match is_same {
                true => Ok(Logged {
                    gtids: None,
                    ..read
                }),
                false => Err(self.other_server(&read.shown())),
            };
        }
        let all = self.server.all_gtids(connection).await?;
        match gtids.is_akin(&all) {
            true => Ok(read),
            false => Err(self.other_server(&read.shown())),
        }
    }

    /// Reads the snapshot where one is wanted, and returns where the changes begin.
    async fn begin_anew(
        &self,
        mut connection: Connection,
        batches: &Batches,
    ) -> Result<Logged, SourceError> {
        let tables = self.tables.look(&mut connection).await?;
        let (end, gtids) = match self.snapshot {
            WhatIsThere::Never => {
                let end = self.server.end(&mut connection).await?;
                let gtids = self.server.gtids(&mut connection, &end).await?;
                (end, gtids)
            }
            WhatIsThere::Initial => self.take_snapshot(connection, tables, batches).await?,
        };
        let read = Logged {
            gtids: gtids.map(|gtids| gtids.to_string()),
            file: end.file,
            offset: end.offset,
            part: None,
        };
        let cursor = self.position(Place::Log(read.clone())).cursor();
        hand_on(batches, Vec::new(), cursor).await?;
        Ok(read)
    }

    async fn take_snapshot(
        &self,
        connection: Connection,
        tables: Vec<TableName>,
        batches: &Batches,
    ) -> Result<(super::look::End, Option<Gtids>), SourceError> {
        let maker = self.maker.clone();
        let mut snapshot = Snapshot::begin(connection, &self.server, tables, maker).await?;
        let cursor = self.position(Place::Snapshot).cursor();
        while let Some(made) = snapshot.next().await? {
            let arrivals = made.into_iter().map(|made| made.arrival).collect();
            hand_on(batches, arrivals, cursor.clone()).await?;
        }
        Ok((snapshot.end, snapshot.gtids))
    }

    fn position(&self, place: Place) -> Position {
        Position {
            server: self.server.uuid.clone(),
            place,
        }
    }
}

/// Tells how many bytes of the log wait for us, again and again. Where that is not known, nobody is
/// told: what breaks is told by whatever reads.
async fn tell_lag(address: Arc<Address>, reached: Reached, link: Link) {
    let mut connected = None;
    loop {
        let connection = match connected.take() {
            Some(connection) => Ok(connection),
            None => address.connect().await,
        };
        if let Ok(mut connection) = connection
            && let Ok(files) = Server::files(&mut connection).await
        {
            let (file, offset) = reached.lock().clone();
            let behind = bytes_behind(&files, &file, offset);
            link.lag(behind);
            connected = Some(connection);
            if behind.is_none() {
                // It has not begun yet.
                sleep(LOOK_AGAIN).await;
                continue;
            }
        }
        sleep(LAG_EVERY).await;
    }
}
