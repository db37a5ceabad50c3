//! The outbox: which columns are which attributes, and the statements that are made of that once it
//! is known what the table has.

use indexmap::IndexMap;
use pointsman_schemas::{Problem, Segment};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row};

use super::statement::{is_table, quoted, table};

/// Attributes that the column of their name is, where the table has one.
const OWN_NAMES: [&str; 7] = [
    "type",
    "source",
    "subject",
    "time",
    "dataschema",
    "datacontenttype",
    "data",
];

/// The data's column where none is called `data`, as with Debezium.
const PAYLOAD: &str = "payload";

/// A table into which an application inserts a row for each event, in its own transaction.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Outbox {
    /// The table, behind its schema or without: `outbox`, `shop.outbox`.
    #[schemars(length(min = 1))]
    pub(super) table: String,
    /// The column that is the table's key, or has a unique index, and is never NULL; `id` unless it
    /// is given. It is the event's id, too, unless columns say otherwise.
    #[serde(default = "id")]
    #[schemars(length(min = 1))]
    pub(super) id: String,
    /// The column that says in which order rows are read; the key unless it is given.
    #[schemars(length(min = 1))]
    pub(super) order_by: Option<String>,
    /// Which column each attribute of the event, or its data, is taken from; the column of the same
    /// name, where there is one, unless it is given.
    #[serde(default)]
    pub(super) columns: IndexMap<String, String>,
    /// A column that says which rows have been stored, in place of deleting them: a boolean, which
    /// is set to true, or a time.
    #[schemars(length(min = 1))]
    pub(super) mark: Option<String>,
}

fn id() -> String {
    "id".to_owned()
}

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    /// A text that is JSON.
    Json,
    Bytes,
}

/// An attribute, and the column that it is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    attribute: String,
    form: Form,
}

/// What is asked of a table, in SQL, and how its rows are read.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Takes an array of the ids that are left out, and how many rows there may be.
    pub(super) read: String,
    /// Takes an array of ids.
    pub(super) settle: String,
    /// Counts what waits, up to a bound.
    pub(super) count: String,
    taken: Vec<Taken>,
}

/// A row as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) id: String,
    /// Attributes by their names; none is NULL.
    pub(super) attributes: Vec<(String, Option<String>)>,
    pub(super) data: Option<Vec<u8>>,
    /// Whether the data's column holds JSON and nothing else.
    pub(super) is_json: bool,
}

/// Past so many rows that wait they are not counted.
const COUNTED_MAX: u64 = 10_000;

/// A column of the table: its name and its type.
type Column = (String, String);

impl Outbox {
    /// Every mistake that can be found without asking the server.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !is_table(&self.table) {
            let problem = Problem::new("this is not the name of a table");
            let help = "write outbox, or shop.outbox behind the name of its schema";
            problems.push(problem.help(help).at("table"));
        }
        let named = [
            ("id", Some(&self.id)),
            ("order_by", self.order_by.as_ref()),
            ("mark", self.mark.as_ref()),
        ];
        let nameless = named
            .into_iter()
            .filter(|(_, name)| name.is_some_and(String::is_empty));
        problems.extend(nameless.map(|(at, _)| Problem::new("a column has a name").at(at)));
        for (attribute, column) in &self.columns {
            let is_attribute = !attribute.is_empty()
                && attribute != "specversion"
                && attribute
                    .chars()
                    .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit());
            let mistake = match () {
                () if !is_attribute => {
                    "no attribute of an event is called this: they have small letters and digits"
                }
                () if column.is_empty() => "a column has a name",
                () => continue,
            };
            let path = [Segment::from("columns"), attribute.as_str().into()];
            problems.push(crate::parameter::located(Problem::new(mistake), &path));
        }
        problems
    }

    /// What is asked of the table, which is looked at.
    ///
    /// # Errors
    /// What is missing, by its setting, or why the server does not say.
    pub(super) async fn plan(&self, client: &Client) -> Result<Plan, Misfit> {
        const COLUMNS: &str = "SELECT a.attname::text, t.typname::text FROM pg_attribute a \
                               JOIN pg_type t ON t.oid = a.atttypid \
                               WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";
        const KEY: &str = "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a \
                           ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
                           WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indimmediate \
                           AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attnotnull AND a.attname = $2)";
        let name = table(&self.table);
        let found = client.query(COLUMNS, &[&name]).await?;
        let found: Vec<Column> = found.iter().map(column).collect::<Result<_, Error>>()?;
        if found.is_empty() {
            let message = format!("there is no table {}, or it has no columns", self.table);
            let problem = Problem::new(message);
            let help = "make the table, or name it behind its schema: shop.outbox";
            return Err(Misfit::Problem(problem.help(help).at("table")));
        }
        let plan = self.written(&found).map_err(Misfit::Problem)?;
        let is_key = client.query_one(KEY, &[&name, &self.id]).await?;
        if !is_key.try_get::<_, bool>(0)? {
            let id = &self.id;
            let message = format!(
                "the column {id} is not the key of {}: it takes a primary key or a unique index \
                 of that column alone, and NOT NULL, or a row that was never read could be deleted",
                self.table
            );
            return Err(Misfit::Problem(Problem::new(message).at("id")));
        }
        Ok(plan)
    }

    fn written(&self, found: &[Column]) -> Result<Plan, Problem> {
        let of = |name: &str| {
            let mut found = found.iter();
            found
                .find(|(column, _)| column == name)
                .map(|(_, of)| &**of)
        };
        let needed = |name: &str, at: &'static str| {
            of(name).ok_or_else(|| {
                let message = format!("the table {} has no column {name}", self.table);
                Problem::new(message).at(at)
            })
        };
        needed(&self.id, "id")?;
        let order_by = self.order_by.as_ref().unwrap_or(&self.id);
        needed(order_by, "order_by")?;
        let mut columns = Vec::new();
        for (attribute, column) in &self.columns {
            let of = needed(column, "columns")?;
            columns.push((attribute.as_str(), column.as_str(), of));
        }
        for attribute in OWN_NAMES {
            let fallback = (attribute == "data").then_some(PAYLOAD);
            let column = [Some(attribute), fallback].into_iter().flatten();
            let column = column
                .filter_map(|column| Some((column, of(column)?)))
                .next();
            if let Some((column, of)) = column
                && !self.columns.contains_key(attribute)
            {
                columns.push((attribute, column, of));
            }
        }
        let (is_waiting, done) = match &self.mark {
            None => ("true".to_owned(), "DELETE FROM {}".to_owned()),
            Some(mark) => marked(mark, needed(mark, "mark")?)?,
        };
        Ok(self.statements(&columns, order_by, &is_waiting, &done))
    }

    fn statements(
        &self,
        columns: &[(&str, &str, &str)],
        order_by: &str,
        is_waiting: &str,
        done: &str,
    ) -> Plan {
        let (name, id) = (table(&self.table), quoted(&self.id));
        let (mut selected, mut taken) = (vec![format!("{id}::text")], Vec::new());
        for (attribute, column, of) in columns {
            let (form, expression) = read_as(&quoted(column), of, *attribute == "data");
            selected.push(expression);
            let attribute = (*attribute).to_owned();
            taken.push(Taken { attribute, form });
        }
        let selected = selected.join(", ");
        // The key settles the order of what is equal otherwise.
        // Without the table's name it would be that of what is selected: numbers as texts.
        let order = format!("o.{}, o.{id}", quoted(order_by));
        Plan {
            read: format!(
                "SELECT {selected} FROM {name} o WHERE {is_waiting} AND {id} <> ALL($1) \
                 ORDER BY {order} LIMIT $2"
            ),
            settle: format!("{} WHERE {id} = ANY($1)", done.replace("{}", &name)),
            count: format!(
                "SELECT count(*) FROM (SELECT FROM {name} WHERE {is_waiting} LIMIT {COUNTED_MAX}) s"
            ),
            taken,
        }
    }
}

/// Which rows have not been marked, and how they are.
fn marked(mark: &str, of: &str) -> Result<(String, String), Problem> {
    let mark = quoted(mark);
    let (is_waiting, value) = match of {
        "bool" => ("IS NOT TRUE", "true"),
        "timestamptz" | "timestamp" | "date" => ("IS NULL", "now()"),
        _ => {
            let message = format!("the column {mark} is of the type {of}");
            let help = "name one that is a boolean or a time";
            return Err(Problem::new(message).help(help).at("mark"));
        }
    };
    Ok((
        format!("{mark} {is_waiting}"),
        format!("UPDATE {{}} SET {mark} = {value}"),
    ))
}

/// How a column of a type is read, and the expression for that.
fn read_as(column: &str, of: &str, is_data: bool) -> (Form, String) {
    const RFC_3339: &str = "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'";
    match of {
        "bytea" if is_data => (Form::Bytes, column.to_owned()),
        "json" | "jsonb" => (Form::Json, format!("{column}::text")),
        "timestamptz" => {
            let utc = format!("to_char({column} AT TIME ZONE 'UTC', {RFC_3339})");
            (Form::Text, utc)
        }
        // One without a zone is taken to be in UTC.
        "timestamp" => (Form::Text, format!("to_char({column}, {RFC_3339})")),
        _ => (Form::Text, format!("{column}::text")),
    }
}

fn column(row: &Row) -> Result<Column, Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

impl Plan {
    /// Reads a row of what [`Plan::read`] brings.
    pub(super) fn row(&self, row: &Row) -> Result<Read, Error> {
        let mut read = Read {
            id: row.try_get(0)?,
            attributes: Vec::with_capacity(self.taken.len()),
            data: None,
            is_json: false,
        };
        for (index, Taken { attribute, form }) in (1..).zip(&self.taken) {
            if *form == Form::Bytes {
                read.data = row.try_get(index)?;
                continue;
            }
            let value: Option<String> = row.try_get(index)?;
            if attribute == "data" {
                read.data = value.map(String::into_bytes);
                read.is_json = *form == Form::Json;
            } else {
                read.attributes.push((attribute.clone(), value));
            }
        }
        Ok(read)
    }
}

/// Why a table cannot be read.
#[derive(Debug)]
pub(super) enum Misfit {
    Problem(Problem),
    Error(Error),
}

impl From<Error> for Misfit {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What is wrong where the server does not take a statement, by its setting.
pub(super) fn untaken(error: &Error, words: String) -> Problem {
    let problem = Problem::new(words);
    match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => problem
            .help("GRANT SELECT, DELETE ON the table to the user; with mark SELECT, UPDATE")
            .at("table")
            .at("outbox"),
        _ => problem.at("table").at("outbox"),
    }
}
