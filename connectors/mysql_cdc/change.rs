//! Changes of rows as events.

use jiff::Timestamp;
use pointsman_schemas::Reject;

use super::table::{Field, Table};
use crate::cdc::change::{Made, Maker, Operation, Told, begin_data, end_data};

/// A change of a row.
pub(super) struct Change<'c> {
    pub(super) operation: Operation,
    pub(super) table: &'c Table,
    pub(super) before: Option<&'c [Field]>,
    pub(super) after: Option<&'c [Field]>,
}

/// When and where it happened.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) id: String,
    /// The file and the place in it where the transaction begins, or what a snapshot goes up to.
    pub(super) log: String,
    pub(super) gtid: Option<String>,
    /// What those of a transaction share.
    pub(super) transaction: Option<String>,
    pub(super) time: Option<Timestamp>,
}

impl Change<'_> {
    /// Makes the event of it, or what is left of it where `mistake` says why it is none.
    pub(super) fn event(&self, maker: &Maker, stamp: Stamp, mistake: Option<String>) -> Made {
        let data = self.data(&stamp);
        if let Some(reason) = mistake {
            return Made {
                bytes: data.len(),
                arrival: Err(Reject {
                    raw: data.into(),
                    reason,
                }),
            };
        }
        let row = self.after.or(self.before);
        maker.event(Told {
            operation: self.operation,
            table: [
                ("database", &self.table.database),
                ("table", &self.table.name),
            ],
            key: row.and_then(|row| self.table.key(row)),
            id: stamp.id,
            time: stamp.time,
            data,
        })
    }

    fn data(&self, stamp: &Stamp) -> String {
        let always = [
            ("database", self.table.database.as_str()),
            ("table", &self.table.name),
            ("log", &stamp.log),
        ];
        let gtid = stamp.gtid.as_deref().map(|gtid| ("gtid", gtid));
        let transaction = stamp.transaction.as_deref();
        let transaction = transaction.map(|transaction| ("transaction", transaction));
        let texts = always.into_iter().chain(gtid).chain(transaction);
        let mut out = begin_data(self.operation, texts);
        out.push_str(",\"before\":");
        match self.before {
            // What is not told of an old row is left out.
            Some(row) => drop(self.table.write(row, None, &mut out)),
            None => out.push_str("null"),
        }
        out.push_str(",\"after\":");
        let unknown = match self.after {
            Some(row) => self.table.write(row, self.before, &mut out),
            None => {
                out.push_str("null");
                Vec::new()
            }
        };
        end_data(&unknown, &mut out);
        out
    }
}
