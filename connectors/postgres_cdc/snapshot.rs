//! Rows that are there at the very first start.
//!
//! The slot from which changes are streamed may be older than the snapshot: it was made by somebody
//! else, or by us before a crash. So where it is there, a temporary one is made beside it, whose
//! snapshot has every transaction in it that was committed before a place in the log, and no other;
//! changes are streamed from that place on. Where it is not there, it is made that way itself.

use std::collections::VecDeque;
use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::change::{Change, Stamp};
use super::look::{Publication, Table, text};
use super::pgoutput::{Cell, Tuple};
use super::position::Lsn;
use super::refusal::Failure;
use super::relation::{Column, Relation};
use super::value::Type;
use super::wire::{Connection, Row};
use crate::cdc::change::{Made, Maker, Operation};
use crate::cdc::reader::BATCH_MESSAGES_MAX;
use crate::cdc::wire::ANSWER_WITHIN;

/// How long making a slot may take: the server waits for transactions that run.
const MADE_WITHIN: Duration = Duration::from_secs(3_600);

/// How long rows may take: somebody may have locked the table.
const ROWS_WITHIN: Duration = Duration::from_secs(300);

/// How many bytes of rows are asked for at once, about.
const ROWS_BYTES: usize = 4 << 20;

/// How many rows are asked for at first, when it is not known how long they are.
const ROWS_AT_FIRST: usize = 16;

/// How a slot is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making<'m> {
    pub(super) slot: &'m str,
    /// Whether standbys have it, too.
    pub(super) failover: bool,
}

impl Making<'_> {
    /// Makes the slot, and returns the place in the log that it begins at.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn make(self, connection: &mut Connection) -> Result<u64, Failure> {
        self.command(connection, false, false).await
    }

    async fn command(
        self,
        connection: &mut Connection,
        is_temporary: bool,
        uses_snapshot: bool,
    ) -> Result<u64, Failure> {
        let name = match is_temporary {
            true => escape_identifier(&format!("{}_snapshot", self.slot)),
            false => escape_identifier(self.slot),
        };
        // As every release knows them, and as those with failover slots do.
        let options = match (uses_snapshot, self.failover && !is_temporary) {
            (true, false) => "USE_SNAPSHOT",
            (false, false) => "NOEXPORT_SNAPSHOT",
            (true, true) => "(SNAPSHOT 'use', FAILOVER true)",
            (false, true) => "(SNAPSHOT 'nothing', FAILOVER true)",
        };
        let temporary = if is_temporary { "TEMPORARY " } else { "" };
        let sql = format!("CREATE_REPLICATION_SLOT {name} {temporary}LOGICAL pgoutput {options}");
        let rows = connection.query(&sql, MADE_WITHIN).await?;
        let place = rows.first().and_then(|row| text(row, 1));
        let place = place.and_then(|place| Lsn::read(&place));
        place
            .map(|Lsn(place)| place)
            .ok_or_else(|| Failure::broken("it does not say where the slot begins"))
    }
}

/// A snapshot that is read.
pub(super) struct Snapshot {
    connection: Connection,
    maker: Maker,
    database: String,
    publication: String,
    /// Those that are not read yet.
    tables: VecDeque<Table>,
    open: Option<OpenTable>,
    /// Transactions that were committed before this place are in it.
    pub(super) place: u64,
    /// When it began, in microseconds since 2000.
    time: i64,
}

impl Snapshot {
    /// Begins one; makes the slot with it where that is not there.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn begin(
        mut connection: Connection,
        making: Making<'_>,
        slot_is_there: bool,
        publication: Publication,
        (maker, database): (Maker, String),
    ) -> Result<Self, Failure> {
        let begin = "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ";
        connection.query(begin, ANSWER_WITHIN).await?;
        let place = making.command(&mut connection, slot_is_there, true).await?;
        let sql = "SELECT (extract(epoch FROM now() - timestamptz '2000-01-01 00:00:00+00') \
                   * 1000000)::bigint";
        let rows = connection.query(sql, ANSWER_WITHIN).await?;
        let time = rows.first().and_then(|row| text(row, 0));
        Ok(Self {
            connection,
            maker,
            database,
            publication: publication.name,
            tables: publication.tables.into(),
            open: None,
            place,
            time: time.and_then(|time| time.parse().ok()).unwrap_or_default(),
        })
    }

    /// The next rows, never none of them; nothing once all are read.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Made>>, Failure> {
        loop {
            let Some(mut open) = self.open.take() else {
                let Some(table) = self.tables.pop_front() else {
                    return Ok(None);
                };
                self.open = Some(self.open_table(table).await?);
                continue;
            };
            let sql = format!("FETCH {} FROM pointsman_rows", open.count);
            let rows = self.connection.query(&sql, ROWS_WITHIN).await?;
            if rows.is_empty() {
                let close = "CLOSE pointsman_rows";
                self.connection.query(close, ANSWER_WITHIN).await?;
                continue;
            }
            let mut made = Vec::with_capacity(rows.len());
            for row in rows {
                open.read += 1;
                made.push(self.event(&open, row));
            }
            let bytes: usize = made.iter().map(|made| made.bytes).sum();
            let fitting = ROWS_BYTES.saturating_mul(made.len()) / bytes.max(1);
            open.count = fitting.clamp(1, BATCH_MESSAGES_MAX);
            self.open = Some(open);
            return Ok(Some(made));
        }
    }

    async fn open_table(&mut self, table: Table) -> Result<OpenTable, Failure> {
        let selection = Selection::look(&mut self.connection, &self.publication, &table).await?;
        let sql = format!(
            "DECLARE pointsman_rows NO SCROLL CURSOR FOR {}",
            selection.sql
        );
        self.connection.query(&sql, ROWS_WITHIN).await?;
        Ok(OpenTable {
            relation: selection.relation,
            oid: table.oid,
            count: ROWS_AT_FIRST,
            read: 0,
        })
    }

    fn event(&self, open: &OpenTable, row: Row) -> Made {
        let cell = |value: Option<_>| value.map_or(Cell::Null, Cell::Text);
        let row: Tuple = row.into_iter().map(cell).collect();
        let change = Change {
            operation: Operation::Read,
            database: &self.database,
            table: &open.relation,
            before: None,
            after: Some(&row),
        };
        let lsn = Lsn(self.place);
        let stamp = Stamp {
            id: format!("{lsn}-{}-{}-{}", self.time, open.oid, open.read),
            lsn,
            transaction: None,
            time: self.time,
        };
        change.event(&self.maker, stamp)
    }
}

/// A table whose rows are being read.
struct OpenTable {
    relation: Relation,
    oid: String,
    /// How many rows are asked for.
    count: usize,
    /// How many have come.
    read: u64,
}

/// What is read of a table: what the publication has of it.
struct Selection {
    relation: Relation,
    sql: String,
}

impl Selection {
    async fn look(
        connection: &mut Connection,
        publication: &str,
        table: &Table,
    ) -> Result<Self, Failure> {
        // Columns and rows may be left out by the publication, from PostgreSQL 15 on.
        let sql = format!(
            "SELECT a.attname, CASE WHEN t.typtype = 'd' THEN b.typname ELSE t.typname END, \
             a.attnum = ANY (k.indkey), c.relreplident = 'f' OR (c.relreplident <> 'n' AND \
             a.attnum = ANY (r.indkey)), to_jsonb(p)->>'rowfilter' \
             FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype \
             LEFT JOIN pg_catalog.pg_index k ON k.indrelid = c.oid AND k.indisprimary \
             LEFT JOIN pg_catalog.pg_index r ON r.indrelid = c.oid AND CASE c.relreplident \
             WHEN 'd' THEN r.indisprimary ELSE r.indisreplident END \
             LEFT JOIN pg_catalog.pg_publication_tables p ON p.pubname = {} \
             AND p.schemaname = n.nspname AND p.tablename = c.relname \
             WHERE c.oid = {} AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
             AND coalesce(to_jsonb(p)->'attnames' ? a.attname::text, true) ORDER BY a.attnum",
            escape_literal(publication),
            table.oid,
        );
        let rows = connection.query(&sql, ANSWER_WITHIN).await?;
        let is = |row: &Row, column| text(row, column).as_deref() == Some("t");
        let name = |row: &Row| text(row, 0).unwrap_or_default();
        let column = |row: &Row| Column {
            name: name(row),
            ty: Type::of_name(&text(row, 1).unwrap_or_default()),
            is_identity: is(row, 3),
            is_key: false,
        };
        let mut relation = Relation {
            schema: table.name.schema.clone(),
            name: table.name.table.clone(),
            columns: rows.iter().map(column).collect(),
        };
        let key: Vec<_> = rows.iter().filter(|row| is(row, 2)).map(name).collect();
        relation.keyed_by(Some(key).filter(|key| !key.is_empty()).as_ref());
        let names: Vec<_> = rows
            .iter()
            .map(|row| escape_identifier(&name(row)))
            .collect();
        // A table that others inherit from is published without them; a partitioned one has nothing
        // but its partitions.
        let only = if table.is_partitioned { "" } else { "ONLY " };
        let from = table.name.quoted();
        let filter = rows.first().and_then(|row| text(row, 4));
        let filter = filter.map_or(String::new(), |filter| format!(" WHERE {filter}"));
        Ok(Self {
            relation,
            sql: format!("SELECT {} FROM {only}{from}{filter}", names.join(", ")),
        })
    }
}
