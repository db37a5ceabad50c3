//! What the server's catalog says of tables.

use std::collections::HashMap;
use std::sync::Arc;

use super::kind::Kind;
use super::refusal::Failure;
use super::wire::{Address, Connection, Row};
use crate::cdc::wire::ANSWER_WITHIN;

/// A column, as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatalogColumn {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// How its values may come in the log.
    pub(super) codes: &'static [u8],
    /// Whether rows are told apart by it.
    pub(super) is_key: bool,
}

/// The text of a column; nothing where it is null.
pub(super) fn text(row: &Row, column: usize) -> Option<String> {
    let value = row.get(column)?.as_ref()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A text as SQL has it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as SQL has it.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The columns of a table, in their order; none where there is no such table, or the user may not
/// know of it.
///
/// # Errors
/// The server does not answer.
pub(super) async fn columns(
    connection: &mut Connection,
    is_mariadb: bool,
    database: &str,
    table: &str,
) -> Result<Vec<CatalogColumn>, Failure> {
    let (of_database, of_table) = (literal(database), literal(table));
    let checked = match is_mariadb {
        true => {
            let sql = format!(
                "SELECT TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
                 WHERE CONSTRAINT_SCHEMA = {of_database} AND TABLE_NAME = {of_table}"
            );
            connection.query(&sql, ANSWER_WITHIN).await?
        }
        false => Vec::new(),
    };
    let is_json = |column: &str| {
        let clause = format!("json_valid({})", identifier(column));
        checked
            .iter()
            .any(|row| text(row, 1).as_ref() == Some(&clause))
    };
    // Its names may not care for small and capital letters where those of tables do.
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, \
         COLUMN_KEY FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {of_database} \
         AND TABLE_NAME = {of_table} ORDER BY ORDINAL_POSITION"
    );
    let rows = connection.query(&sql, ANSWER_WITHIN).await?;
    let is_own = |row: &&Row| {
        text(row, 0).as_deref() == Some(database) && text(row, 1).as_deref() == Some(table)
    };
    let column = |row: &Row| {
        let name = text(row, 2).unwrap_or_default();
        let (data_type, column_type) = (text(row, 3), text(row, 4));
        let (kind, codes) = Kind::of_catalog(
            &data_type.unwrap_or_default(),
            &column_type.unwrap_or_default(),
            text(row, 5).as_deref(),
            is_json(&name),
        );
        CatalogColumn {
            kind,
            codes,
            is_key: text(row, 6).as_deref() == Some("PRI"),
            name,
        }
    };
    Ok(rows.iter().filter(is_own).map(column).collect())
}

/// The names of character sets, by the numbers of collations.
pub(super) type Collations = HashMap<u64, String>;

/// Asks for all collations.
///
/// # Errors
/// The server does not answer.
pub(super) async fn collations(connection: &mut Connection) -> Result<Collations, Failure> {
    let sql = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS \
               WHERE ID IS NOT NULL AND CHARACTER_SET_NAME IS NOT NULL";
    let mut rows = connection.query(sql, ANSWER_WITHIN).await?;
    // Those that several character sets of MariaDB share have their numbers elsewhere.
    let more = "SELECT ID, CHARACTER_SET_NAME FROM \
                information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID IS NOT NULL";
    match connection.query(more, ANSWER_WITHIN).await {
        Ok(more) => rows.extend(more),
        // Others have no such column.
        Err(Failure::Refused(_)) => {}
        Err(broken) => return Err(broken),
    }
    let one = |row: &Row| Some((text(row, 0)?.parse().ok()?, text(row, 1)?));
    Ok(rows.iter().filter_map(one).collect())
}

/// Asks the catalog over a connection of its own, and remembers what it says until a statement has
/// changed a table.
pub(super) struct Catalog {
    address: Arc<Address>,
    is_mariadb: bool,
    connection: Option<Connection>,
    known: HashMap<(String, String), Arc<Vec<CatalogColumn>>>,
    pub(super) collations: Collations,
}

impl Catalog {
    pub(super) fn new(address: Arc<Address>, is_mariadb: bool, collations: Collations) -> Self {
        Self {
            address,
            is_mariadb,
            connection: None,
            known: HashMap::new(),
            collations,
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// The columns of a table; none where there is no such table.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn columns(
        &mut self,
        database: &str,
        table: &str,
    ) -> Result<Arc<Vec<CatalogColumn>>, Failure> {
        let name = (database.to_owned(), table.to_owned());
        if let Some(known) = self.known.get(&name) {
            return Ok(Arc::clone(known));
        }
        // The server closes a connection that is not used for long, and tells only who asks.
        let (mut connection, was_open) = match self.connection.take() {
            Some(connection) => (connection, true),
            None => (self.address.connect().await?, false),
        };
        let mut asked = columns(&mut connection, self.is_mariadb, database, table).await;
        if was_open && matches!(asked, Err(Failure::Broken(_))) {
            connection = self.address.connect().await?;
            asked = columns(&mut connection, self.is_mariadb, database, table).await;
        }
        let columns = Arc::new(asked?);
        self.connection = Some(connection);
        self.known.insert(name, Arc::clone(&columns));
        Ok(columns)
    }
}
