//! The statement that inserts a row, and the values that are bound to it.

use std::error::Error;

use bytes::BytesMut;
use pointsman_schemas::template::NO_VALUE;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// A value in PostgreSQL's text format, which the server reads as the type of its column; none is
/// NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'t>(Option<&'t str>);

impl<'t> Value<'t> {
    /// The value of a text that was filled in.
    pub(super) fn filled(text: &'t str) -> Self {
        Self(Some(text).filter(|text| *text != NO_VALUE))
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(match self.0 {
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A name as SQL has it, whatever it holds.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name of a table, behind that of its schema or without.
pub(super) fn table(name: &str) -> String {
    let parts: Vec<_> = name.splitn(2, '.').map(quoted).collect();
    parts.join(".")
}

/// Whether a text is the name of a table.
pub(super) fn is_table(name: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && !name.contains('\0');
    name.splitn(2, '.').all(is_name)
}

/// An array of texts, as a constant of PostgreSQL has it.
pub(super) fn array(texts: &[String]) -> String {
    let quoted = |text: &String| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    };
    let texts: Vec<_> = texts.iter().map(quoted).collect();
    format!("{{{}}}", texts.join(","))
}

fn list(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

/// What is done where there is such a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Conflict<'s> {
    /// It is an error.
    Error,
    /// The row that is there stays, where these columns are equal, or any that must not be.
    Nothing(Vec<&'s str>),
    /// Its other columns are written over.
    Update(Vec<&'s str>),
}

/// The statement that inserts a row; `value` says what stands for the value of each column.
pub(super) fn insert(
    into: &str,
    columns: &[&str],
    conflict: &Conflict<'_>,
    value: impl Fn(usize) -> String,
) -> String {
    let values: Vec<_> = (1..=columns.len()).map(value).collect();
    let mut text = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        table(into),
        list(columns),
        values.join(", ")
    );
    match conflict {
        Conflict::Error => {}
        Conflict::Nothing(of) if of.is_empty() => text.push_str(" ON CONFLICT DO NOTHING"),
        Conflict::Nothing(of) => {
            text.push_str(&format!(" ON CONFLICT ({}) DO NOTHING", list(of)));
        }
        Conflict::Update(of) => {
            let set = columns.iter().filter(|column| !of.contains(column));
            let set: Vec<_> = set
                .map(|column| format!("{0} = excluded.{0}", quoted(column)))
                .collect();
            let (of, set) = (list(of), set.join(", "));
            text.push_str(&format!(" ON CONFLICT ({of}) DO UPDATE SET {set}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays() {
        let texts = ["a", "b\"\\", "null", ""].map(str::to_owned);
        assert_eq!(array(&texts), r#"{"a","b\"\\","null",""}"#);
        assert_eq!(array(&[]), "{}");
    }

    #[test]
    fn statements() {
        let statement =
            |into, conflict| insert(into, &["id", "a\"b"], &conflict, |n| format!("${n}"));
        for (into, conflict, expect) in [
            (
                "orders",
                Conflict::Error,
                r#"INSERT INTO "orders" ("id", "a""b") VALUES ($1, $2)"#,
            ),
            (
                "shop.Orders",
                Conflict::Nothing(Vec::new()),
                r#"INSERT INTO "shop"."Orders" ("id", "a""b") VALUES ($1, $2) ON CONFLICT DO NOTHING"#,
            ),
            (
                "o",
                Conflict::Nothing(vec!["id"]),
                r#"INSERT INTO "o" ("id", "a""b") VALUES ($1, $2) ON CONFLICT ("id") DO NOTHING"#,
            ),
            (
                "o",
                Conflict::Update(vec!["id"]),
                r#"INSERT INTO "o" ("id", "a""b") VALUES ($1, $2) ON CONFLICT ("id") DO UPDATE SET "a""b" = excluded."a""b""#,
            ),
        ] {
            assert_eq!(statement(into, conflict), expect);
        }
    }
}
