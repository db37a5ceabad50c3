//! Reading how far sources have been read.

use pointsman_schemas::{Cursor, Name, PositionRow};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::reader::{DiskReader, io};
use super::record::{Damage, decode_cursor, decode_position, key_of};
use super::schema::limit;
use super::trouble::is_corrupt;
use crate::JournalError;

impl DiskReader {
    /// A source's cursor.
    pub(super) async fn cursor(
        &self,
        tenant: Name,
        source: Name,
    ) -> Result<Result<Option<Cursor>, Damage>, JournalError> {
        self.ask(move |connection| {
            let key = key_of(&format!("{tenant}/{source}"));
            let found = cursor(connection, &tenant, &source)
                .map(|value| value.map(|value| decode_cursor(key, &value)).transpose());
            found.or_else(damaged)
        })
        .await
    }

    /// A page of a source's rows, in the order of their keys.
    pub(super) async fn positions(
        &self,
        tenant: Name,
        source: Name,
        after: Option<Vec<u8>>,
        rows: usize,
    ) -> Result<Result<Vec<PositionRow>, Damage>, JournalError> {
        self.ask(move |connection| {
            positions(connection, &tenant, &source, after.as_deref(), rows).or_else(damaged)
        })
        .await
    }
}

/// Tells a page that makes no sense from a read that failed.
fn damaged<T>(error: rusqlite::Error) -> Result<Result<T, Damage>, JournalError> {
    if is_corrupt(&error) {
        Ok(Err(Damage("its page makes no sense")))
    } else {
        Err(io(&error))
    }
}

fn cursor(
    connection: &Connection,
    tenant: &Name,
    source: &Name,
) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT value FROM cursors WHERE tenant = ?1 AND source = ?2")?
        .query_row(params![tenant.as_str(), source.as_str()], |row| row.get(0))
        .optional()
}

fn positions(
    connection: &Connection,
    tenant: &Name,
    source: &Name,
    after: Option<&[u8]>,
    rows: usize,
) -> rusqlite::Result<Result<Vec<PositionRow>, Damage>> {
    // Two statements: behind an empty key there are others, and the empty one is none of them.
    let from = if after.is_some() {
        "key > ?3"
    } else {
        "?3 IS NULL"
    };
    let mut select = connection.prepare_cached(&format!(
        "SELECT key, value FROM positions WHERE tenant = ?1 AND source = ?2 AND {from}
         ORDER BY key LIMIT ?4"
    ))?;
    let (tenant, source) = (tenant.as_str(), source.as_str());
    let decode = |row: &Row<'_>| {
        let (ValueRef::Blob(key), ValueRef::Blob(value)) = (row.get_ref(0)?, row.get_ref(1)?)
        else {
            return Ok(Err(Damage("it is no blob")));
        };
        Ok(
            decode_position(tenant, source, key, value).map(|value| PositionRow {
                key: key.to_vec().into(),
                value,
            }),
        )
    };
    let found = select.query_map(params![tenant, source, after, limit(rows)], decode)?;
    found.collect()
}
