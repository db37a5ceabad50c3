//! Changes of rows as events.

use jiff::Timestamp;

use super::pgoutput::Tuple;
use super::position::Lsn;
use super::relation::{Relation, Which};
use crate::cdc::change::{Made, Maker, Operation, Told, begin_data, end_data};

/// Microseconds from 1970 to 2000, which PostgreSQL counts from.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A time as PostgreSQL counts it.
pub(super) fn postgres_micros(time: Timestamp) -> i64 {
    time.as_microsecond() - POSTGRES_EPOCH_MICROS
}

/// A change of a row.
pub(super) struct Change<'c> {
    pub(super) operation: Operation,
    pub(super) database: &'c str,
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

impl Change<'_> {
    /// Makes the event of it.
    pub(super) fn event(&self, maker: &Maker, stamp: Stamp) -> Made {
        let row = self.after.or(self.before.map(|(row, _)| row));
        let micros = stamp.time.saturating_add(POSTGRES_EPOCH_MICROS);
        maker.event(Told {
            operation: self.operation,
            table: [("schema", &self.table.schema), ("table", &self.table.name)],
            key: row.and_then(|row| self.table.key(row)),
            time: Timestamp::from_microsecond(micros).ok(),
            data: self.data(&stamp),
            id: stamp.id,
        })
    }

    fn data(&self, stamp: &Stamp) -> String {
        let lsn = stamp.lsn.to_string();
        let texts = [
            ("database", self.database),
            ("schema", &*self.table.schema),
            ("table", &*self.table.name),
            ("lsn", &*lsn),
        ];
        let mut out = begin_data(self.operation, texts);
        if let Some(transaction) = stamp.transaction {
            out.push_str(&format!(",\"transaction\":{transaction}"));
        }
        out.push_str(",\"before\":");
        let full = match self.before {
            Some((row, which)) => {
                self.table.write(row, None, which, &mut out);
                (which == Which::All).then_some(row)
            }
            None => {
                out.push_str("null");
                None
            }
        };
        out.push_str(",\"after\":");
        let unknown = match self.after {
            Some(row) => self.table.write(row, full, Which::All, &mut out),
            None => {
                out.push_str("null");
                Vec::new()
            }
        };
        // Not null: they are what they were, which is not told.
        end_data(&unknown, &mut out);
        out
    }
}
