//! Tables, and rows of them as JSON.

use super::pgoutput::{Cell, Tuple};
use super::value::Type;
use crate::cdc::change::key_part;
use crate::cdc::json::write_text;

/// A table as its rows come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
}

/// A column of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: Type,
    /// Whether old rows have it, at least.
    pub(super) is_identity: bool,
    /// Whether rows are told apart by it: by the primary key, or by the replica identity.
    pub(super) is_key: bool,
}

/// Which columns of a row are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Those of the replica identity.
    Identity,
}

impl Relation {
    /// Says by which columns rows are told apart: those of the primary key, where old rows have them
    /// or are not told, or else those of the replica identity.
    pub(super) fn keyed_by(&mut self, primary_key: Option<&Vec<String>>) {
        let has_identity = self.columns.iter().any(|column| column.is_identity);
        let has = |name: &String| {
            let mut columns = self.columns.iter();
            columns.any(|column| column.name == *name && (column.is_identity || !has_identity))
        };
        let primary_key = primary_key.filter(|key| key.iter().all(has));
        // A table of which old rows are told whole has no key in that.
        let is_whole = self.columns.iter().all(|column| column.is_identity);
        for column in &mut self.columns {
            column.is_key = match primary_key {
                Some(key) => key.contains(&column.name),
                None => column.is_identity && !is_whole,
            };
        }
    }

    /// Writes a row as a JSON object, and returns the names of what is not known of it: long values
    /// that did not change. `old` is the row as it was, which may have these.
    pub(super) fn write(
        &self,
        row: &Tuple,
        old: Option<&Tuple>,
        which: Which,
        out: &mut String,
    ) -> Vec<&str> {
        let mut unknown = Vec::new();
        out.push('{');
        let mut is_first = true;
        for (index, (column, cell)) in self.columns.iter().zip(row).enumerate() {
            if which == Which::Identity && !column.is_identity {
                continue;
            }
            let before = match cell {
                Cell::Unchanged => old.and_then(|old| old.get(index)),
                _ => None,
            };
            let value = match before.unwrap_or(cell) {
                Cell::Unchanged => {
                    unknown.push(column.name.as_str());
                    continue;
                }
                Cell::Null => None,
                Cell::Text(value) => Some(value),
            };
            if !std::mem::take(&mut is_first) {
                out.push(',');
            }
            write_text(&column.name, out);
            out.push(':');
            match value {
                Some(value) => column.ty.write(value, out),
                None => out.push_str("null"),
            }
        }
        out.push('}');
        unknown
    }

    /// What tells a row from others: the values of its key, each percent-encoded where it could be
    /// taken for two. Nothing where the table has no key.
    pub(super) fn key(&self, row: &Tuple) -> Option<String> {
        let values: Vec<_> = self
            .columns
            .iter()
            .zip(row)
            .filter(|(column, _)| column.is_key)
            .map(|(_, cell)| match cell {
                Cell::Text(value) => key_part(&String::from_utf8_lossy(value)),
                Cell::Null | Cell::Unchanged => String::new(),
            })
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn relation(columns: &[(&str, &str, bool)]) -> Relation {
        let column = |(name, ty, is_identity): &(&str, &str, bool)| Column {
            name: (*name).to_owned(),
            ty: Type::of_name(ty),
            is_identity: *is_identity,
            is_key: false,
        };
        Relation {
            schema: "public".to_owned(),
            name: "orders".to_owned(),
            columns: columns.iter().map(column).collect(),
        }
    }

    fn text(value: &'static str) -> Cell {
        Cell::Text(Bytes::from_static(value.as_bytes()))
    }

    #[test]
    fn rows() {
        let orders = relation(&[("id", "int4", true), ("note", "text", false)]);
        let row = vec![text("1"), Cell::Unchanged];
        let mut out = String::new();
        assert_eq!(orders.write(&row, None, Which::All, &mut out), ["note"]);
        assert_eq!(out, r#"{"id":1}"#, "what is not known is not null");
        let mut out = String::new();
        let old = vec![text("1"), text("long")];
        let unknown = orders.write(&row, Some(&old), Which::All, &mut out);
        assert_eq!((unknown.len(), &*out), (0, r#"{"id":1,"note":"long"}"#));
        let mut out = String::new();
        orders.write(
            &vec![text("1"), Cell::Null],
            None,
            Which::Identity,
            &mut out,
        );
        assert_eq!(
            out, r#"{"id":1}"#,
            "what is not told of an old row is left out"
        );
    }

    #[test]
    fn keys() {
        let row = vec![text("a/b"), text("1,\n2"), text("x")];
        let columns = |identity: [bool; 3]| {
            let [a, b, c] = identity;
            relation(&[("a", "text", a), ("b", "text", b), ("c", "text", c)])
        };
        let primary = vec!["a".to_owned(), "b".to_owned()];
        for (identity, primary, expect) in [
            ([true, false, false], None, Some("a%2Fb")),
            ([true, true, true], Some(&primary), Some("a%2Fb,1%2C%0A2")),
            ([true, true, true], None, None),
            ([false, false, false], None, None),
        ] {
            let mut relation = columns(identity);
            relation.keyed_by(primary);
            assert_eq!(relation.key(&row).as_deref(), expect, "{identity:?}");
        }
        let gone = vec!["id".to_owned()];
        let mut renamed = columns([true, false, false]);
        renamed.keyed_by(Some(&gone));
        assert_eq!(renamed.key(&row).as_deref(), Some("a%2Fb"));
    }
}
