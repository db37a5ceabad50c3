//! Replays, running and ended.

use rusqlite::Connection;

use crate::Replay;
use crate::disk::record::{Damage, decode_replay};
use crate::disk::schema;

/// The format from which on there are replays.
const FORMAT_WITH_REPLAYS: i32 = 4;

/// Every replay; of a damaged one the number.
pub(in crate::disk) fn replays(
    connection: &Connection,
) -> rusqlite::Result<Vec<(u64, Result<Replay, Damage>)>> {
    if schema::format(connection)? < FORMAT_WITH_REPLAYS {
        return Ok(Vec::new());
    }
    let mut select = connection.prepare_cached("SELECT id, value FROM replays ORDER BY id")?;
    let rows = select.query_map([], |row| {
        let number = row.get::<_, i64>(0)?.cast_unsigned();
        let value = row.get_ref(1)?.as_blob();
        let value = value.map_err(|_| Damage("it is no blob"));
        Ok((number, value.and_then(|value| decode_replay(number, value))))
    })?;
    rows.collect()
}
