//! Changes of rows as events.

use bytes::Bytes;
use jiff::Timestamp;
use pointsman_schemas::{Data, Event, Name, Reject};
use serde_json::json;

use super::json::{write_text, write_texts};
use crate::{Arrival, Plain};

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Inserted,
    Updated,
    Deleted,
    /// It was there when the snapshot was taken.
    Read,
    /// All rows of the table are gone.
    Truncated,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Inserted => "inserted",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Read => "read",
            Self::Truncated => "truncated",
        }
    }

    /// As Debezium has it.
    fn op(self) -> &'static str {
        match self {
            Self::Inserted => "c",
            Self::Updated => "u",
            Self::Deleted => "d",
            Self::Read => "r",
            Self::Truncated => "t",
        }
    }
}

/// Makes events.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    /// How types and sources of events name the system.
    pub(crate) system: &'static str,
    pub(crate) name: Name,
    /// Whether an `event:` mapping makes them of it.
    pub(crate) mapped: bool,
}

/// A change, written out.
pub(crate) struct Told<'t> {
    pub(crate) operation: Operation,
    /// Where the table is and how it is called, by the names of these.
    pub(crate) table: [(&'static str, &'t str); 2],
    /// What tells the row from others of its table.
    pub(crate) key: Option<String>,
    pub(crate) id: String,
    pub(crate) time: Option<Timestamp>,
    /// JSON.
    pub(crate) data: String,
}

/// What a change becomes, and about how many bytes of it.
pub(crate) struct Made {
    pub(crate) arrival: Result<Arrival, Reject>,
    pub(crate) bytes: usize,
}

impl Maker {
    /// Makes the event of a change.
    pub(crate) fn event(&self, mut told: Told<'_>) -> Made {
        let data = Bytes::from(std::mem::take(&mut told.data));
        let bytes = data.len();
        let arrival = self.arrival(told, data.clone());
        Made {
            // A document of JSON in it that is nested too deeply, for instance.
            arrival: arrival.map_err(|reason| Reject { raw: data, reason }),
            bytes,
        }
    }

    fn arrival(&self, told: Told<'_>, data: Bytes) -> Result<Arrival, String> {
        let [schema, table] = told.table;
        let full_name = format!("{}.{}", schema.1, table.1);
        let subject = match &told.key {
            Some(key) => format!("{full_name}/{key}"),
            None => full_name,
        };
        let operation = told.operation.name();
        let mut event = Event::builder(
            told.id,
            format!("/{}/{}", self.system, self.name),
            format!("com.pointsman.{}.row.{operation}", self.system),
        )
        .subject(&subject)
        .attribute("partitionkey", subject.as_str().into())
        .datacontenttype("application/json")
        .data(Data::json(data).map_err(|error| error.to_string())?);
        if let Some(time) = told.time {
            event = event.time(time.to_string());
        }
        let fields = self.mapped.then(|| {
            Plain::fields([
                ("headers", json!({})),
                ("operation", operation.into()),
                (schema.0, schema.1.into()),
                (table.0, table.1.into()),
                ("key", told.key.into()),
            ])
        });
        Arrival::made(event, fields).map_err(|error| error.to_string())
    }
}

/// Begins the data of an event: what happened, and where.
pub(crate) fn begin_data<'t>(
    operation: Operation,
    texts: impl IntoIterator<Item = (&'static str, &'t str)>,
) -> String {
    let mut out = String::from("{\"op\":");
    write_text(operation.op(), &mut out);
    for (name, value) in texts {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        write_text(value, &mut out);
    }
    out
}

/// Ends the data of an event: which columns are what they were, which is not told.
pub(crate) fn end_data(unchanged: &[&str], out: &mut String) {
    if !unchanged.is_empty() {
        out.push_str(",\"unchanged\":");
        write_texts(unchanged.iter().copied(), out);
    }
    out.push('}');
}

/// One value of a key. What separates keys is percent-encoded, and so is what no attribute of an
/// event may hold.
pub(crate) fn key_part(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '/' | ',' | '%' => percent(c, &mut out),
            c if !pointsman_schemas::event::is_string_char(c) => percent(c, &mut out),
            c => out.push(c),
        }
    }
    out
}

fn percent(c: char, out: &mut String) {
    let mut bytes = [0; 4];
    for byte in c.encode_utf8(&mut bytes).bytes() {
        out.push_str(percent_encoding::percent_encode_byte(byte));
    }
}
