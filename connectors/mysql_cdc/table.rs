//! Tables, and rows of them as JSON: what the log says of a table, and what the catalog does.

use super::catalog::{CatalogColumn, Collations};
use super::charset::Charset;
use super::kind::Kind;
use super::rows::{Cell, Image};
use super::table_map::{TableMap, WireType};
use super::value::Value;
use crate::cdc::change::key_part;
use crate::cdc::json::write_text;

/// A table as its rows come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) database: String,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Why its columns are called by their places alone.
    pub(super) mistake: Option<String>,
}

/// A column of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Whether rows are told apart by it.
    pub(super) is_key: bool,
}

/// What is told of a column, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Nothing.
    Absent,
    Null,
    Value(Value),
}

impl Table {
    /// A table whose rows come in the log.
    pub(super) fn of_log(
        map: &TableMap,
        catalog: &[CatalogColumn],
        collations: &Collations,
    ) -> Self {
        let fits = |column: &CatalogColumn, ty: &WireType| column.codes.contains(&ty.code);
        let fit_in_order = map.columns.len() == catalog.len()
            && catalog
                .iter()
                .zip(&map.columns)
                .all(|(own, ty)| fits(own, ty));
        let are_named = map.names.len() == map.columns.len();
        let of_catalog = |index: usize, ty: &WireType| {
            let found = match map.names.get(index) {
                Some(name) => catalog.iter().find(|column| column.name == *name),
                None => catalog.get(index).filter(|_| fit_in_order),
            };
            found.filter(|column| fits(column, ty))
        };
        // Where some columns are of types that the log does not tell, what it tells of the others
        // cannot be put to them.
        let is_odd = catalog
            .iter()
            .any(|column| column.kind.is_of_catalog_alone());
        let columns = map.columns.iter().enumerate().map(|(index, ty)| {
            let known = of_catalog(index, ty);
            let name = match (map.names.get(index), known) {
                (Some(name), _) => name.clone(),
                (None, Some(column)) => column.name.clone(),
                (None, None) => format!("@{}", index + 1),
            };
            Column {
                name,
                kind: kind(map, index, *ty, known, collations, is_odd),
                is_key: match map.key.is_empty() {
                    true => known.is_some_and(|column| column.is_key),
                    false => map.key.contains(&index),
                },
            }
        });
        let mistake = (!are_named && !fit_in_order).then(|| mistake(map, catalog));
        Self {
            database: map.database.clone(),
            name: map.table.clone(),
            columns: columns.collect(),
            mistake,
        }
    }

    /// Reads a row of the log. What of it cannot be read is named, too.
    pub(super) fn read(&self, image: &Image, types: &[WireType]) -> (Vec<Field>, Option<String>) {
        let mut mistake = self.mistake.clone();
        let columns = self.columns.iter().zip(types).zip(image);
        let fields = columns.map(|((column, ty), cell)| match cell {
            Cell::Absent => Field::Absent,
            Cell::Null => Field::Null,
            Cell::Value(bytes) => Field::Value(match column.kind.of_log(*ty, bytes) {
                Ok(value) => value,
                Err(why) => {
                    let place = format!("{}.{}.{}", self.database, self.name, column.name);
                    mistake.get_or_insert_with(|| format!("cannot read {place}: {why}"));
                    Value::NoText(bytes.clone())
                }
            }),
        });
        (fields.collect(), mistake)
    }

    /// Writes a row as a JSON object, and returns the names of what is not told of it. `old` is the
    /// row as it was, which may have these.
    pub(super) fn write(
        &self,
        row: &[Field],
        old: Option<&[Field]>,
        out: &mut String,
    ) -> Vec<&str> {
        let mut unknown = Vec::new();
        out.push('{');
        let mut is_first = true;
        for (index, (column, field)) in self.columns.iter().zip(row).enumerate() {
            let before = match field {
                Field::Absent => old.and_then(|old| old.get(index)),
                _ => None,
            };
            let field = before.unwrap_or(field);
            if *field == Field::Absent {
                unknown.push(column.name.as_str());
                continue;
            }
            if !std::mem::take(&mut is_first) {
                out.push(',');
            }
            write_text(&column.name, out);
            out.push(':');
            match field {
                Field::Value(value) => value.write(out),
                Field::Null | Field::Absent => out.push_str("null"),
            }
        }
        out.push('}');
        unknown
    }

    /// What tells a row from others: the values of its key. Nothing where the table has no key.
    pub(super) fn key(&self, row: &[Field]) -> Option<String> {
        let values: Vec<_> = self
            .columns
            .iter()
            .zip(row)
            .filter(|(column, _)| column.is_key)
            .map(|(_, field)| match field {
                Field::Value(value) => key_part(&value.key()),
                Field::Null | Field::Absent => String::new(),
            })
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}

/// What becomes of a column's values. What the log says comes first: it says what the table was
/// like when the row was written.
fn kind(
    map: &TableMap,
    index: usize,
    ty: WireType,
    known: Option<&CatalogColumn>,
    collations: &Collations,
    is_odd: bool,
) -> Kind {
    let charset = map.collation(index).and_then(|id| collations.get(&id));
    let charset = charset.map(String::as_str);
    let labels = map.labels(index).map(|labels| {
        let text = |label: &bytes::Bytes| {
            let read = Charset::of_name(charset.unwrap_or("utf8mb4")).decode(label);
            read.unwrap_or_else(|| String::from_utf8_lossy(label).into_owned())
        };
        labels.iter().map(text).collect()
    });
    let says = |told: bool| told && !is_odd;
    let is_unsigned = map.is_unsigned(index);
    let is_told = match known.map(|column| &column.kind) {
        None => true,
        Some(Kind::Integer { .. }) => is_unsigned.is_some(),
        Some(Kind::Enum(_) | Kind::Set(_)) => labels.is_some(),
        Some(Kind::Text(_) | Kind::Bytes) => says(charset.is_some()),
        Some(_) => false,
    };
    match known {
        Some(column) if !is_told => column.kind.clone(),
        _ => Kind::of_log_alone(ty, is_unsigned, charset, labels),
    }
}

/// Why nobody knows what the columns are called.
fn mistake(map: &TableMap, catalog: &[CatalogColumn]) -> String {
    let name = format!("{}.{}", map.database, map.table);
    let why = match catalog.is_empty() {
        true => "the catalog does not know the table any more, or the user may not SELECT from it"
            .to_owned(),
        false => format!(
            "the log has {} columns of it, which are not the {} of the catalog: it was changed since",
            map.columns.len(),
            catalog.len()
        ),
    };
    format!(
        "cannot tell what the columns of {name} are called: {why}. With binlog_row_metadata = FULL \
         the log says it"
    )
}
