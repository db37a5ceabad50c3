//! What is there at a server: itself, the slot, the publication, and the tables.

use std::collections::HashMap;

use bytes::Bytes;
use pointsman_schemas::Problem;
use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::position::Lsn;
use super::refusal::Failure;
use super::wire::{Connection, Row};
use crate::cdc::wire::ANSWER_WITHIN;

/// The oldest release that is known to do.
const VERSION_MIN: u32 = 130_000;

/// A table by its schema and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) table: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl TableName {
    /// Reads `schema.table`, or a table of the schema `public`.
    pub(super) fn read(text: &str) -> Self {
        let (schema, table) = text.split_once('.').unwrap_or(("public", text));
        Self {
            schema: schema.to_owned(),
            table: table.to_owned(),
        }
    }

    /// As SQL names it.
    pub(super) fn quoted(&self) -> String {
        let (schema, table) = (&self.schema, &self.table);
        format!("{}.{}", escape_identifier(schema), escape_identifier(table))
    }
}

/// A server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) version: String,
    /// The identifier that it shares with its standbys.
    pub(super) system: String,
    pub(super) timeline: u32,
    /// Where its log ends.
    pub(super) end: u64,
    pub(super) wal_level: String,
    pub(super) slots: String,
}

/// A slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Up to where its log is done with.
    pub(super) confirmed: u64,
    /// Whoever reads it.
    pub(super) reader: Option<String>,
    /// Why it is of no use any more.
    pub(super) lost: Option<String>,
}

/// A table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) oid: String,
    pub(super) name: TableName,
    pub(super) is_partitioned: bool,
    /// Whether the publication has it, where there is one.
    is_published: bool,
    /// Whether updates and deletes are refused, or tell no old row.
    lacks_identity: bool,
}

/// The text of a column; nothing where it is null.
pub(super) fn text(row: &Row, column: usize) -> Option<String> {
    let value: &Bytes = row.get(column)?.as_ref()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn needed(row: Option<&Row>, column: usize) -> Result<String, Failure> {
    row.and_then(|row| text(row, column))
        .ok_or_else(|| Failure::broken("it answers something else than was asked for"))
}

fn place(text: &str) -> Result<u64, Failure> {
    Lsn::read(text)
        .map(|Lsn(place)| place)
        .ok_or_else(|| Failure::broken("it names a place in its log that cannot be read"))
}

impl Server {
    /// Looks at a server, and refuses one that does not do.
    ///
    /// # Errors
    /// It does not do, or does not answer.
    pub(super) async fn look(connection: &mut Connection) -> Result<Self, Failure> {
        let identified = connection.query("IDENTIFY_SYSTEM", ANSWER_WITHIN).await?;
        let identity = identified.first();
        let sql = "SELECT current_setting('server_version'), current_setting('server_version_num'), \
                   pg_is_in_recovery(), current_setting('wal_level'), \
                   (SELECT count(*) FROM pg_catalog.pg_replication_slots) || ' of ' || \
                   current_setting('max_replication_slots')";
        let answered = connection.query(sql, ANSWER_WITHIN).await?;
        let row = answered.first();
        let version: u32 = needed(row, 1)?.parse().unwrap_or_default();
        let server = Self {
            version: needed(row, 0)?,
            system: needed(identity, 0)?,
            timeline: needed(identity, 1)?.parse().unwrap_or_default(),
            end: place(&needed(identity, 2)?)?,
            wal_level: needed(row, 3)?,
            slots: needed(row, 4)?,
        };
        let refuse = |what: String, help: &str| {
            Err(Failure::Broken(Problem::new(what).help(help).at("url")))
        };
        if version < VERSION_MIN {
            let what = format!("PostgreSQL {} is too old", server.version);
            return refuse(what, "13 or later is needed");
        }
        if needed(row, 2)? == "t" {
            let what = "the server is a standby, which follows another".to_owned();
            return refuse(what, "name the primary, or a name that leads to it");
        }
        if server.wal_level != "logical" {
            let what = format!("the server's wal_level is {}", server.wal_level);
            let help = "set wal_level = logical in postgresql.conf, and start the server again";
            return refuse(what, help);
        }
        Ok(server)
    }
}

impl Slot {
    /// Looks at a slot; nothing where it is not there.
    ///
    /// # Errors
    /// It is one of something else, or the server does not answer.
    pub(super) async fn look(
        connection: &mut Connection,
        name: &str,
    ) -> Result<Option<Self>, Failure> {
        // Some columns are not there in every release.
        let sql = format!(
            "SELECT s.slot_type, s.plugin, s.database = current_database(), s.confirmed_flush_lsn, \
             s.active_pid, a.application_name, a.client_addr, to_jsonb(s)->>'wal_status', \
             coalesce(to_jsonb(s)->>'invalidation_reason', \
             'it held more of the log than max_slot_wal_keep_size allows') \
             FROM pg_catalog.pg_replication_slots s \
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid \
             WHERE s.slot_name = {}",
            escape_literal(name)
        );
        let answered = connection.query(&sql, ANSWER_WITHIN).await?;
        let Some(row) = answered.first() else {
            return Ok(None);
        };
        let of_another = |what: &str| {
            let message = format!("the slot {name} is {what}");
            let help = "name another slot, which is made";
            Err(Failure::Broken(Problem::new(message).help(help).at("slot")))
        };
        if text(row, 0).as_deref() != Some("logical") {
            return of_another("a physical one");
        }
        match text(row, 1).as_deref() {
            Some("pgoutput") => {}
            plugin => {
                return of_another(&format!("one of the plugin {}", plugin.unwrap_or_default()));
            }
        }
        if text(row, 2).as_deref() != Some("t") {
            return of_another("one of another database");
        }
        let reader = text(row, 4).map(|process| {
            let name = text(row, 5).unwrap_or_default();
            match text(row, 6) {
                Some(from) => format!("process {process} ({name} from {from})"),
                None => format!("process {process} ({name})"),
            }
        });
        let lost = text(row, 7).filter(|status| status == "lost");
        let confirmed = text(row, 3);
        Ok(Some(Self {
            confirmed: confirmed.as_deref().map_or(Ok(0), place)?,
            reader,
            lost: lost.and_then(|_| text(row, 8)),
        }))
    }
}

/// A publication, as a source uses it.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) name: String,
    pub(super) is_there: bool,
    pub(super) tables: Vec<Table>,
}

impl Publication {
    /// Looks at a publication and at the tables that it is to have.
    ///
    /// # Errors
    /// A table is not there, or the server does not answer.
    pub(super) async fn look(
        connection: &mut Connection,
        name: &str,
        tables: &[TableName],
    ) -> Result<Self, Failure> {
        let literal = escape_literal(name);
        let sql = format!("SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = {literal}");
        let is_there = !connection.query(&sql, ANSWER_WITHIN).await?.is_empty();
        let mut found = Vec::new();
        for table in tables {
            found.push(Table::look(connection, &literal, table).await?);
        }
        Ok(Self {
            name: name.to_owned(),
            is_there,
            tables: found,
        })
    }

    /// Makes it where it is not there.
    ///
    /// # Errors
    /// It lacks a table, or the server refuses; with what to do.
    pub(super) async fn make(&self, connection: &mut Connection) -> Result<(), Failure> {
        let refuse = |what: String, sql: &str| {
            let problem = Problem::new(what).help(format!("have somebody run {sql}"));
            Err(Failure::Broken(problem.at("publication")))
        };
        if self.is_there {
            return match self.missing() {
                Some(sql) => refuse(format!("the publication {} lacks tables", self.name), &sql),
                None => Ok(()),
            };
        }
        let sql = format!(
            "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
            escape_identifier(&self.name),
            quoted(&self.tables)
        );
        match connection.query(&sql, ANSWER_WITHIN).await {
            // Somebody else has made it meanwhile.
            Err(Failure::Refused(refusal)) if refusal.code == "42710" => Ok(()),
            Err(Failure::Refused(refusal)) => {
                let what = format!("the publication {} cannot be made: {refusal}", self.name);
                refuse(what, &sql)
            }
            Err(broken) => Err(broken),
            Ok(_) => Ok(()),
        }
    }

    /// What adds the tables that it lacks.
    pub(super) fn missing(&self) -> Option<String> {
        let missing = self.tables.iter().filter(|table| !table.is_published);
        let missing: Vec<_> = missing.cloned().collect();
        (self.is_there && !missing.is_empty()).then(|| {
            let name = escape_identifier(&self.name);
            format!("ALTER PUBLICATION {name} ADD TABLE {}", quoted(&missing))
        })
    }

    /// What is to be known of tables whose updates and deletes tell little.
    pub(super) fn without_identity(&self) -> Vec<String> {
        let tables = self.tables.iter().filter(|table| table.lacks_identity);
        tables.map(|table| table.name.to_string()).collect()
    }

    /// The columns of the primary keys of all its tables, by the numbers of these.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn primary_keys(
        &self,
        connection: &mut Connection,
    ) -> Result<HashMap<u32, Vec<String>>, Failure> {
        let sql = format!(
            "SELECT c.oid, a.attname FROM pg_catalog.pg_publication_tables p \
             JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname \
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
             JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) \
             WHERE p.pubname = {} ORDER BY c.oid, a.attnum",
            escape_literal(&self.name)
        );
        let mut keys = HashMap::<_, Vec<_>>::new();
        for row in connection.query(&sql, ANSWER_WITHIN).await? {
            let oid = text(&row, 0).and_then(|oid| oid.parse::<u32>().ok());
            if let (Some(oid), Some(column)) = (oid, text(&row, 1)) {
                keys.entry(oid).or_default().push(column);
            }
        }
        Ok(keys)
    }
}

fn quoted(tables: &[Table]) -> String {
    let names: Vec<_> = tables.iter().map(|table| table.name.quoted()).collect();
    names.join(", ")
}

impl Table {
    async fn look(
        connection: &mut Connection,
        publication: &str,
        name: &TableName,
    ) -> Result<Self, Failure> {
        let (schema, table) = (escape_literal(&name.schema), escape_literal(&name.table));
        let sql = format!(
            "SELECT c.oid, c.relkind, \
             EXISTS (SELECT FROM pg_catalog.pg_publication_tables p \
             JOIN pg_catalog.pg_namespace pn ON pn.nspname = p.schemaname \
             JOIN pg_catalog.pg_class pc ON pc.relnamespace = pn.oid AND pc.relname = p.tablename \
             WHERE p.pubname = {publication} AND (pc.oid = c.oid OR (c.relkind = 'p' AND \
             pc.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid))))), \
             c.relreplident = 'n' OR (c.relreplident = 'd' AND NOT EXISTS (SELECT FROM \
             pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {schema} AND c.relname = {table} AND c.relkind IN ('r', 'p')"
        );
        let answered = connection.query(&sql, ANSWER_WITHIN).await?;
        let Some(row) = answered.first() else {
            let problem = Problem::new(format!("there is no table {name}"));
            let help = "write schema.table, as it is spelled in the database's catalog";
            return Err(Failure::Broken(problem.help(help).at("tables")));
        };
        let is = |column| text(row, column).as_deref() == Some("t");
        Ok(Self {
            oid: needed(Some(row), 0)?,
            name: name.clone(),
            is_partitioned: text(row, 1).as_deref() == Some("p"),
            is_published: is(2),
            lacks_identity: is(3),
        })
    }
}
