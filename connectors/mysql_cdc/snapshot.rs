//! Rows that are there at the very first start.
//!
//! They are read in one transaction, of which the place in the log has to be known that it has
//! everything before and nothing behind.
//!
//! - **MariaDB** tells it (`binlog_snapshot_file`, `binlog_snapshot_position`).
//! - **MySQL with GTIDs** tells which transactions are committed. They are asked for before the
//!   snapshot is taken and after it, again and again until none has come between. On a server that
//!   is never still those that came between are told again, as changes behind the rows.
//! - **MySQL without** has to keep still for a moment (`FLUSH TABLES WITH READ LOCK`).

use std::collections::VecDeque;
use std::time::Duration;

use pointsman_schemas::Problem;
use tokio::time::timeout;

use super::catalog::{columns, identifier, text};
use super::change::{Change, Stamp};
use super::gtid::Gtids;
use super::kind::Kind;
use super::look::{ACCESS_DENIED, End, Server, TableName, ask};
use super::refusal::{Failure, Refusal};
use super::table::{Column, Field, Table};
use super::wire::{Connection, Row};
use crate::cdc::change::{Made, Maker, Operation};
use crate::cdc::reader::{BATCH_BYTES, BATCH_MESSAGES_MAX};
use crate::cdc::wire::ANSWER_WITHIN;

/// How long rows may take: somebody may have locked the table.
const ROWS_WITHIN: Duration = Duration::from_secs(300);

/// How often it is tried to take a snapshot in a moment when nothing is committed.
const TRIES: usize = 20;

const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";

/// A snapshot that is read.
pub(super) struct Snapshot {
    connection: Connection,
    is_mariadb: bool,
    maker: Maker,
    /// Those that are not read yet.
    tables: VecDeque<TableName>,
    open: Option<OpenTable>,
    /// The transactions that it has in it, where they have GTIDs, and the place behind them.
    pub(super) gtids: Option<Gtids>,
    pub(super) end: End,
    /// When it began.
    time: jiff::Timestamp,
}

impl Snapshot {
    /// Begins one.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn begin(
        mut connection: Connection,
        server: &Server,
        tables: Vec<TableName>,
        maker: Maker,
    ) -> Result<Self, Failure> {
        let limit = match server.is_mariadb {
            true => "SET SESSION max_statement_time = 0",
            false => "SET SESSION max_execution_time = 0",
        };
        let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
        for sql in [limit, isolation] {
            connection.query(sql, ANSWER_WITHIN).await?;
        }
        let (end, gtids) = match (server.is_mariadb, server.has_gtids) {
            (true, _) => told_place(&mut connection, server).await?,
            (false, true) => quiet_place(&mut connection, server).await?,
            (false, false) => (locked_place(&mut connection, server).await?, None),
        };
        let micros = ask(
            &mut connection,
            "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)",
        );
        let micros = micros.await?.parse().unwrap_or_default();
        Ok(Self {
            connection,
            is_mariadb: server.is_mariadb,
            maker,
            tables: tables.into(),
            open: None,
            gtids,
            end,
            time: jiff::Timestamp::from_microsecond(micros).unwrap_or_default(),
        })
    }

    /// The next rows, never none of them; nothing once all are read.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Made>>, Failure> {
        loop {
            let Some(mut open) = self.open.take() else {
                let Some(name) = self.tables.pop_front() else {
                    return Ok(None);
                };
                self.open = self.open_table(&name).await?;
                continue;
            };
            let (mut made, mut bytes) = (Vec::new(), 0);
            let mut is_over = false;
            while made.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES {
                let row = self.connection.row(open.table.columns.len());
                let row = timeout(ROWS_WITHIN, row).await.map_err(|_elapsed| late())?;
                let Some(row) = row? else {
                    is_over = true;
                    break;
                };
                open.read += 1;
                let one = self.event(&open, &row);
                bytes += one.bytes;
                made.push(one);
            }
            self.open = (!is_over).then_some(open);
            if !made.is_empty() {
                return Ok(Some(made));
            }
        }
    }

    /// Begins to read a table; nothing where somebody has dropped it meanwhile.
    async fn open_table(&mut self, name: &TableName) -> Result<Option<OpenTable>, Failure> {
        let catalog = columns(
            &mut self.connection,
            self.is_mariadb,
            &name.database,
            &name.table,
        );
        let catalog = catalog.await?;
        if catalog.is_empty() {
            return Ok(None);
        }
        let select = catalog.iter().map(|column| match column.kind {
            // As a text it has fewer digits than the number.
            Kind::Float | Kind::Double => format!("{} + 0e0", identifier(&column.name)),
            _ => identifier(&column.name),
        });
        let select: Vec<_> = select.collect();
        let sql = format!("SELECT {} FROM {}", select.join(", "), name.quoted());
        let columns = catalog.into_iter().map(|column| Column {
            name: column.name,
            kind: column.kind,
            is_key: column.is_key,
        });
        let table = Table {
            database: name.database.clone(),
            name: name.table.clone(),
            columns: columns.collect(),
            mistake: None,
        };
        let asked = timeout(ROWS_WITHIN, self.connection.ask(&sql)).await;
        asked.map_err(|_elapsed| late())??;
        Ok(Some(OpenTable { table, read: 0 }))
    }

    fn event(&self, open: &OpenTable, row: &Row) -> Made {
        let columns = open.table.columns.iter().zip(row);
        let fields = columns.map(|(column, value)| match value {
            None => Field::Null,
            Some(value) => Field::Value(column.kind.of_statement(value)),
        });
        let fields: Vec<_> = fields.collect();
        let change = Change {
            operation: Operation::Read,
            table: &open.table,
            before: None,
            after: Some(&fields),
        };
        let log = format!("{}:{}", self.end.file, self.end.offset);
        let (database, table) = (&open.table.database, &open.table.name);
        let micros = self.time.as_microsecond();
        let stamp = Stamp {
            id: format!("{log}-{micros}-{database}.{table}-{}", open.read),
            log,
            gtid: None,
            transaction: None,
            time: Some(self.time),
        };
        change.event(&self.maker, stamp, None)
    }
}

fn late() -> Failure {
    Failure::broken("rows do not come in time: somebody may have locked the table")
}

/// A table whose rows are being read.
struct OpenTable {
    table: Table,
    /// How many have come.
    read: u64,
}

/// Takes a snapshot, of which MariaDB tells the place.
async fn told_place(
    connection: &mut Connection,
    server: &Server,
) -> Result<(End, Option<Gtids>), Failure> {
    connection.query(BEGIN, ANSWER_WITHIN).await?;
    let sql = "SHOW STATUS LIKE 'binlog_snapshot_%'";
    let rows = connection.query(sql, ANSWER_WITHIN).await?;
    let value = |name: &str| {
        let mut rows = rows.iter();
        let row = rows.find(|row| text(row, 0).is_some_and(|own| own.eq_ignore_ascii_case(name)));
        row.and_then(|row| text(row, 1)).unwrap_or_default()
    };
    let end = End::at(
        value("binlog_snapshot_file"),
        value("binlog_snapshot_position")
            .parse()
            .unwrap_or_default(),
    );
    let gtids = server.gtids(connection, &end).await?;
    Ok((end, gtids))
}

/// Takes a snapshot in a moment when MySQL commits nothing.
async fn quiet_place(
    connection: &mut Connection,
    server: &Server,
) -> Result<(End, Option<Gtids>), Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let end = server.end(connection).await?;
        // It has those of which the tables know already, and no others.
        let before = server.all_gtids(connection).await?;
        connection.query(BEGIN, ANSWER_WITHIN).await?;
        if tries == TRIES || server.all_gtids(connection).await? == before {
            return Ok((end, Some(before)));
        }
        connection.query("ROLLBACK", ANSWER_WITHIN).await?;
    }
}

/// Takes a snapshot while nobody may write.
async fn locked_place(connection: &mut Connection, server: &Server) -> Result<End, Failure> {
    let wait = "SET SESSION lock_wait_timeout = 10";
    connection.query(wait, ANSWER_WITHIN).await?;
    let locked = connection.query("FLUSH TABLES WITH READ LOCK", ANSWER_WITHIN);
    match locked.await {
        Err(Failure::Refused(Refusal { code, message })) if code == ACCESS_DENIED => {
            let problem = Problem::new(format!(
                "the snapshot of a server without GTIDs has to lock its tables for a moment, which \
                 the user may not: {message}"
            ));
            let help = "set gtid_mode = ON, or GRANT RELOAD ON *.* TO …, or write snapshot: never";
            return Err(Failure::Broken(problem.help(help).at("snapshot")));
        }
        locked => locked?,
    };
    connection.query(BEGIN, ANSWER_WITHIN).await?;
    let end = server.end(connection).await?;
    connection.query("UNLOCK TABLES", ANSWER_WITHIN).await?;
    Ok(end)
}
