//! How far retention has come.
//!
//! ```text
//! events by sequence   1 ........... again ........... reached ........... the last
//!                      looked at twice    looked at once      younger than the journal's retention
//! ```
//!
//! The walk goes forward only, over events as they grow older than the journal's retention, and
//! deletes those that nothing refers to and that are not in the table `kept`. What it leaves it
//! never comes back to. So an event that something refers to is looked at by its row in `kept`
//! once that has ended: a transaction that ends the last of what refers to an event up to
//! `reached` leaves a row that is due at once.
//!
//! The table also has the events that are kept for a time of their own, longer than the journal's
//! retention or shorter. One whose time is over while something refers to it has a row without a
//! time, [`HELD`](crate::disk::record::HELD), where the walk has not reached it yet.
//!
//! A second walk behind the first finds what has no row: once a replay has ended, what only that
//! had still to look at; after damage, whatever lost a row; and once a day anything else, which
//! would be a mistake of this software.

use pointsman_schemas::Timestamp;
use rusqlite::Connection;

use super::meta;
use crate::disk::record::{Damage, Decoder, Encoder, Table, decode_option, encode_option, key_of};

/// How far retention has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::disk) struct Walk {
    /// The last event that was looked at.
    pub(in crate::disk) reached: u64,
    /// The last that the second walk has looked at; none while there is none.
    pub(in crate::disk) again: Option<u64>,
    /// When a second walk last began from the first event.
    pub(in crate::disk) began: Timestamp,
    /// The highest sequence that a row without a time has had.
    pub(in crate::disk) held: u64,
}

impl Walk {
    /// The last event that has to be looked at once nothing refers to it any more.
    pub(in crate::disk) fn looked_at(&self) -> u64 {
        self.reached.max(self.held)
    }

    /// Has the second walk look at what comes behind an event.
    pub(in crate::disk) fn look_again(&mut self, behind: u64) {
        self.again = Some(self.again.map_or(behind, |again| again.min(behind)));
    }
}

pub(in crate::disk) fn write_walk(connection: &Connection, walk: &Walk) -> rusqlite::Result<()> {
    let Walk {
        reached,
        again,
        began,
        held,
    } = *walk;
    let mut out = Encoder::new(24);
    out.number(reached).time(began).number(held);
    encode_option(&mut out, again);
    let value = out.seal(Table::Meta, &[key_of("walk")]);
    connection
        .prepare_cached("REPLACE INTO meta VALUES ('walk', ?1)")?
        .execute([value])
        .map(drop)
}

/// How far retention has come; from the first event where it has come nowhere yet.
pub(in crate::disk) fn read_walk(
    connection: &Connection,
) -> rusqlite::Result<Result<Walk, Damage>> {
    let decode = |value: Vec<u8>| {
        let mut from = Decoder::open(Table::Meta, &[key_of("walk")], &value)?;
        Ok(Walk {
            reached: from.number()?,
            began: from.time()?,
            held: from.number()?,
            again: decode_option(&mut from)?,
        })
    };
    Ok(match meta(connection, "walk")? {
        Ok(value) => decode(value),
        Err(_) => Ok(Walk::default()),
    })
}
