//! Changes of rows as events.

use bytes::Bytes;
use pointsman_schemas::{Data, Event, Name, Reject};
use serde_json::json;

use super::pgoutput::Tuple;
use super::position::Lsn;
use super::relation::{Relation, Which};
use super::value::write_text;
use crate::{Arrival, Plain};

/// What the types of events begin with.
const TYPE_PREFIX: &str = "com.pointsman.postgres.row.";

/// Microseconds from 1970 to 2000, which PostgreSQL counts from.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A time as PostgreSQL counts it.
pub(super) fn postgres_micros(time: jiff::Timestamp) -> i64 {
    time.as_microsecond() - POSTGRES_EPOCH_MICROS
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
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

/// A change of a row.
pub(super) struct Change<'c> {
    pub(super) operation: Operation,
    pub(super) table: &'c Relation,
    pub(super) before: Option<(&'c Tuple, Which)>,
    pub(super) after: Option<&'c Tuple>,
}

/// When and where it happened.
pub(super) struct Stamp {
    pub(super) id: String,
    /// Where its transaction was committed, or what a snapshot goes up to.
    pub(super) lsn: Lsn,
    pub(super) transaction: Option<u32>,
    /// Microseconds since 2000-01-01 UTC.
    pub(super) time: i64,
}

/// Makes events.
#[derive(Clone, Debug)]
pub(super) struct Maker {
    pub(super) name: Name,
    pub(super) database: String,
    /// Whether an `event:` mapping makes them of it.
    pub(super) mapped: bool,
}

/// What a change becomes, and about how many bytes of it.
pub(super) struct Made {
    pub(super) arrival: Result<Arrival, Reject>,
    pub(super) bytes: usize,
}

impl Maker {
    /// Makes the event of a change.
    pub(super) fn event(&self, change: &Change<'_>, stamp: &Stamp) -> Made {
        let data = Bytes::from(self.data(change, stamp));
        let bytes = data.len();
        let arrival = self.arrival(change, stamp, data.clone());
        Made {
            // A document of JSON in it that is nested too deeply, for instance.
            arrival: arrival.map_err(|reason| Reject { raw: data, reason }),
            bytes,
        }
    }

    fn arrival(&self, change: &Change<'_>, stamp: &Stamp, data: Bytes) -> Result<Arrival, String> {
        let table = change.table.full_name();
        let row = change.after.or(change.before.map(|(row, _)| row));
        let key = row.and_then(|row| change.table.key(row));
        let subject = match &key {
            Some(key) => format!("{table}/{key}"),
            None => table.clone(),
        };
        let time =
            jiff::Timestamp::from_microsecond(stamp.time.saturating_add(POSTGRES_EPOCH_MICROS));
        let operation = change.operation.name();
        let mut event = Event::builder(
            &stamp.id,
            format!("/postgres/{}", self.name),
            format!("{TYPE_PREFIX}{operation}"),
        )
        .subject(&subject)
        .attribute("partitionkey", subject.as_str().into())
        .datacontenttype("application/json")
        .data(Data::json(data).map_err(|error| error.to_string())?);
        if let Ok(time) = time {
            event = event.time(time.to_string());
        }
        let fields = self.mapped.then(|| {
            Plain::fields([
                ("headers", json!({})),
                ("operation", operation.into()),
                ("schema", change.table.schema.as_str().into()),
                ("table", change.table.name.as_str().into()),
                ("key", key.into()),
            ])
        });
        Arrival::made(event, fields).map_err(|error| error.to_string())
    }

    fn data(&self, change: &Change<'_>, stamp: &Stamp) -> String {
        let mut out = String::from("{\"op\":");
        write_text(change.operation.op(), &mut out);
        for (name, value) in [
            ("database", &*self.database),
            ("schema", &*change.table.schema),
            ("table", &*change.table.name),
            ("lsn", &*stamp.lsn.to_string()),
        ] {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            write_text(value, &mut out);
        }
        if let Some(transaction) = stamp.transaction {
            out.push_str(&format!(",\"transaction\":{transaction}"));
        }
        out.push_str(",\"before\":");
        let full = match change.before {
            Some((row, which)) => {
                change.table.write(row, None, which, &mut out);
                (which == Which::All).then_some(row)
            }
            None => {
                out.push_str("null");
                None
            }
        };
        out.push_str(",\"after\":");
        let unknown = match change.after {
            Some(row) => change.table.write(row, full, Which::All, &mut out),
            None => {
                out.push_str("null");
                Vec::new()
            }
        };
        if !unknown.is_empty() {
            // Not null: they are what they were, which is not told.
            out.push_str(",\"unchanged\":[");
            for (index, name) in unknown.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(name, &mut out);
            }
            out.push(']');
        }
        out.push('}');
        out
    }
}
