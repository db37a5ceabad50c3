//! What is there at a server: itself, its log, and the tables.

use std::collections::HashMap;

use glob::Pattern;
use pointsman_schemas::Problem;

use super::catalog::{identifier, text};
use super::gtid::Gtids;
use super::refusal::{Failure, Refusal};
use super::wire::Connection;
use crate::cdc::wire::ANSWER_WITHIN;

/// Schemas that are the server's own.
const OWN_SCHEMAS: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// What is looked at. Not all of them are there in every release.
const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', \
                         'binlog_row_image', 'binlog_row_metadata', 'binlog_row_value_options', \
                         'gtid_mode', 'server_uuid', 'server_id')";

/// Announces a replica.
const COM_REGISTER_SLAVE: u8 = 0x15;

/// What a server says to who lacks a right.
pub(super) const ACCESS_DENIED: u16 = 1227;

/// What a server says of a statement that it does not know.
const SYNTAX_ERROR: u16 = 1064;

/// A table by its database and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TableName {
    pub(super) database: String,
    pub(super) table: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

impl TableName {
    /// As SQL names it.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.database), identifier(&self.table))
    }
}

/// Which tables are read.
#[derive(Clone, Debug)]
pub(super) struct Tables(Vec<Pattern>);

impl Tables {
    /// Reads `database.table`, with `*`, `?` and `[…]` in it, or a table of `database`.
    ///
    /// # Errors
    /// What is wrong with one.
    pub(super) fn read(names: &[String], database: &str) -> Result<Self, String> {
        let one = |name: &String| {
            let full = match name.split_once('.') {
                Some((database, table)) if database.is_empty() || table.is_empty() => {
                    return Err("name tables as database.table".to_owned());
                }
                Some(_) => name.clone(),
                None if database.is_empty() || name.is_empty() => {
                    return Err(
                        "name tables as database.table, or a database in the URL".to_owned()
                    );
                }
                None => format!("{}.{name}", Pattern::escape(database)),
            };
            Pattern::new(&full).map_err(|error| format!("cannot read {name}: {error}"))
        };
        let patterns: Result<Vec<_>, _> = names.iter().map(one).collect();
        match patterns? {
            none if none.is_empty() => Err("name at least one table, as database.table".to_owned()),
            patterns => Ok(Self(patterns)),
        }
    }

    /// Whether it is read.
    pub(super) fn has(&self, database: &str, table: &str) -> bool {
        let name = format!("{database}.{table}");
        let is_own = OWN_SCHEMAS
            .iter()
            .any(|own| database.eq_ignore_ascii_case(own));
        !is_own && self.0.iter().any(|pattern| pattern.matches(&name))
    }

    /// Those that are there.
    ///
    /// # Errors
    /// One that is named is not, or the server does not answer.
    pub(super) async fn look(
        &self,
        connection: &mut Connection,
    ) -> Result<Vec<TableName>, Failure> {
        // MariaDB has kinds of its own beside BASE TABLE.
        let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
                   WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1, 2";
        let rows = connection.query(sql, ANSWER_WITHIN).await?;
        let name = |row| TableName {
            database: text(row, 0).unwrap_or_default(),
            table: text(row, 1).unwrap_or_default(),
        };
        let all = rows.iter().map(name);
        let found: Vec<_> = all
            .filter(|name| self.has(&name.database, &name.table))
            .collect();
        let is_there = |pattern: &&Pattern| {
            let mut found = found.iter();
            found.any(|name| pattern.matches(&name.to_string()))
        };
        match self.0.iter().find(|pattern| !is_there(pattern)) {
            None => Ok(found),
            Some(pattern) => {
                let problem = Problem::new(format!("there is no table {pattern}"));
                let help = "write database.table, as they are spelled in SHOW TABLES, and give the \
                            user the right to SELECT from them";
                Err(Failure::Broken(problem.help(help).at("tables")))
            }
        }
    }
}

/// A server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) version: String,
    pub(super) is_mariadb: bool,
    /// Its UUID, where it is one of MySQL.
    pub(super) uuid: String,
    pub(super) id: String,
    /// Whether every transaction has a GTID.
    pub(super) has_gtids: bool,
    /// How much of the columns its log tells.
    pub(super) row_metadata: String,
}

/// Where the log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) file: String,
    pub(super) offset: u64,
    /// The transactions in it, where MySQL tells them.
    gtids: Option<String>,
}

impl End {
    /// This place, of which no GTIDs are told.
    pub(super) fn at(file: String, offset: u64) -> Self {
        Self {
            file,
            offset,
            gtids: None,
        }
    }
}

/// A file of the log, and how long it is.
pub(super) type LogFile = (String, u64);

fn refuse<T>(what: String, help: &str) -> Result<T, Failure> {
    Err(Failure::Broken(Problem::new(what).help(help).at("url")))
}

impl Server {
    /// Looks at a server, and refuses one that does not do.
    ///
    /// # Errors
    /// It does not do, or does not answer.
    pub(super) async fn look(connection: &mut Connection) -> Result<Self, Failure> {
        let rows = connection.query(VARIABLES, ANSWER_WITHIN).await?;
        let pair = |row| Some((text(row, 0)?.to_ascii_lowercase(), text(row, 1)?));
        let variables: HashMap<_, _> = rows.iter().filter_map(pair).collect();
        let variable = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        let is = |name, value: &str| variable(name).eq_ignore_ascii_case(value);
        let version = connection.version.clone();
        let server = Self {
            is_mariadb: version.to_ascii_lowercase().contains("mariadb"),
            version,
            uuid: variable("server_uuid").to_owned(),
            id: variable("server_id").to_owned(),
            has_gtids: is("gtid_mode", "ON"),
            row_metadata: variable("binlog_row_metadata").to_owned(),
        };
        let server = Self {
            has_gtids: server.is_mariadb || server.has_gtids,
            ..server
        };
        if !is("log_bin", "ON") {
            let what = "the server writes no binary log (log_bin is OFF)".to_owned();
            let help = "write log_bin = binlog, server_id = 1 and binlog_format = ROW into its \
                        configuration, and start it again";
            return refuse(what, help);
        }
        if !is("binlog_format", "ROW") {
            let what = format!(
                "the server's binlog_format is {}",
                variable("binlog_format")
            );
            let help = "SET GLOBAL binlog_format = 'ROW', and write it into the server's \
                        configuration; sessions that are open keep what they have";
            return refuse(what, help);
        }
        if !is("binlog_row_image", "FULL") {
            let image = variable("binlog_row_image");
            let what = format!("the server's binlog_row_image is {image}");
            let help = "SET GLOBAL binlog_row_image = 'FULL', and write it into the server's \
                        configuration; sessions that are open keep what they have";
            return refuse(what, help);
        }
        let options = variable("binlog_row_value_options");
        if !options.is_empty() {
            let what = format!("the server's binlog_row_value_options are {options}");
            let help =
                "SET GLOBAL binlog_row_value_options = '': updates then tell whole documents";
            return refuse(what, help);
        }
        Ok(server)
    }

    /// How people call it.
    pub(super) fn product(&self) -> &'static str {
        match self.is_mariadb {
            true => "MariaDB",
            false => "MySQL",
        }
    }

    /// Where the log ends.
    ///
    /// # Errors
    /// The user may not know, or the server does not answer.
    pub(super) async fn end(&self, connection: &mut Connection) -> Result<End, Failure> {
        // MySQL has called it something else since 8.4, and MariaDB has not.
        let old = connection.query("SHOW MASTER STATUS", ANSWER_WITHIN).await;
        let rows = match old {
            Err(Failure::Refused(Refusal { code, .. })) if code == SYNTAX_ERROR => {
                let new = connection.query("SHOW BINARY LOG STATUS", ANSWER_WITHIN);
                new.await?
            }
            rows => rows?,
        };
        let row = rows.first();
        let at = |column| row.and_then(|row| text(row, column));
        let place = at(0).zip(at(1).and_then(|offset| offset.parse().ok()));
        let (file, offset) = place
            .ok_or_else(|| Failure::broken("the server does not say where its binary log ends"))?;
        Ok(End {
            file,
            offset,
            gtids: at(4),
        })
    }

    /// The transactions up to a place in the log, where they have GTIDs.
    ///
    /// # Errors
    /// The server does not answer, or tells what cannot be read.
    pub(super) async fn gtids(
        &self,
        connection: &mut Connection,
        end: &End,
    ) -> Result<Option<Gtids>, Failure> {
        if !self.has_gtids {
            return Ok(None);
        }
        let told = match self.is_mariadb {
            true => {
                let place = format!("'{}', {}", end.file, end.offset);
                let sql = format!("SELECT BINLOG_GTID_POS({place})");
                let rows = connection.query(&sql, ANSWER_WITHIN).await?;
                // Nothing for a place that is none, which must not be taken for the beginning.
                let told = rows.first().and_then(|row| text(row, 0));
                told.ok_or_else(|| {
                    Failure::broken("the server does not say which GTIDs its binary log has")
                })?
            }
            false => end.gtids.clone().unwrap_or_default(),
        };
        self.read_gtids(&told).map(Some)
    }

    /// All transactions that the server has.
    ///
    /// # Errors
    /// The server does not answer, or tells what cannot be read.
    pub(super) async fn all_gtids(&self, connection: &mut Connection) -> Result<Gtids, Failure> {
        let variable = match self.is_mariadb {
            true => "gtid_binlog_pos",
            false => "gtid_executed",
        };
        let told = ask(connection, &format!("SELECT @@GLOBAL.{variable}")).await?;
        self.read_gtids(&told)
    }

    fn read_gtids(&self, told: &str) -> Result<Gtids, Failure> {
        Gtids::read(told, self.is_mariadb).ok_or_else(|| {
            let problem = Problem::new(format!("the server's GTIDs cannot be read: {told}"));
            let help = "GTIDs with tags are not known here";
            Failure::Broken(problem.help(help).at("url"))
        })
    }

    /// The files of the log, the oldest first.
    ///
    /// # Errors
    /// The user may not know, or the server does not answer.
    pub(super) async fn files(connection: &mut Connection) -> Result<Vec<LogFile>, Failure> {
        let rows = connection.query("SHOW BINARY LOGS", ANSWER_WITHIN).await?;
        let file = |row| Some((text(row, 0)?, text(row, 1)?.parse().ok()?));
        Ok(rows.iter().filter_map(file).collect())
    }

    /// Announces a replica of this id, which takes the right to be one.
    ///
    /// # Errors
    /// The user may not be one, or the server does not answer.
    pub(super) async fn register(connection: &mut Connection, id: u32) -> Result<(), Failure> {
        const NAME: &[u8] = b"pointsman";
        let mut content = id.to_le_bytes().to_vec();
        content.push(NAME.len() as u8);
        content.extend_from_slice(NAME);
        // Neither user nor password nor port, and no rank; nor who its own replicas are.
        content.extend_from_slice(&[0; 12]);
        let told = connection.tell(COM_REGISTER_SLAVE, &content).await;
        told.map_err(|failure| match failure {
            // In other words: somebody who is let in may not be one.
            Failure::Refused(Refusal { message, .. }) => Failure::Refused(Refusal {
                code: ACCESS_DENIED,
                message: format!("the user may not be a replica: {message}"),
            }),
            broken => broken,
        })
    }
}

/// Asks for one text; an empty one where it is null.
///
/// # Errors
/// The server refuses, or does not answer.
pub(super) async fn ask(connection: &mut Connection, sql: &str) -> Result<String, Failure> {
    let rows = connection.query(sql, ANSWER_WITHIN).await?;
    Ok(rows
        .first()
        .and_then(|row| text(row, 0))
        .unwrap_or_default())
}

/// How many bytes of the log lie behind a place in it; nothing where that file is not there.
pub(super) fn bytes_behind(files: &[LogFile], file: &str, offset: u64) -> Option<u64> {
    let index = files.iter().position(|(name, _)| name == file)?;
    let bytes: u64 = files.get(index..)?.iter().map(|(_, bytes)| bytes).sum();
    Some(bytes.saturating_sub(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_by_their_names() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let tables =
            Tables::read(&names(&["orders", "crm.customer_*", "*.audit"]), "shop").unwrap();
        for (database, table, expect) in [
            ("shop", "orders", true),
            ("shop", "orders_old", false),
            ("crm", "customer_1", true),
            ("crm", "orders", false),
            ("other", "audit", true),
            ("mysql", "audit", false),
        ] {
            assert_eq!(tables.has(database, table), expect, "{database}.{table}");
        }
        for (wrong, database) in [
            (&["orders"][..], ""),
            (&["shop."], ""),
            (&["[a.b"], ""),
            (&[], "shop"),
        ] {
            assert!(Tables::read(&names(wrong), database).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_lies_behind_a_place() {
        let files = [("b.1", 100), ("b.2", 50), ("b.3", 7)];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
        for (file, offset, expect) in [
            ("b.1", 30, Some(127)),
            ("b.3", 7, Some(0)),
            ("b.3", 9, Some(0)),
            ("b.0", 4, None),
        ] {
            assert_eq!(
                bytes_behind(&files, file, offset),
                expect,
                "{file}:{offset}"
            );
        }
    }
}
