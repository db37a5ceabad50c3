//! Making room.

use std::collections::HashSet;

use super::{Failure, Transaction};

impl Transaction<'_> {
    /// Deletes events that nothing referred to when the caller looked; `spare` has what got a
    /// reference since. Tells how many.
    pub(in crate::disk) fn forget_events(
        &mut self,
        sequences: &[u64],
        spare: &HashSet<u64>,
    ) -> Result<u64, Failure> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM events WHERE sequence = ?1")?;
        let mut count = 0;
        for sequence in sequences
            .iter()
            .filter(|sequence| !spare.contains(sequence) && !self.pinned.contains(sequence))
        {
            count += delete.execute([sequence.cast_signed()])? as u64;
        }
        self.changes.ledger.events = self.changes.ledger.events.saturating_sub(count);
        Ok(count)
    }

    /// Deletes what deduplication remembers under these keys.
    pub(in crate::disk) fn forget_identities(&mut self, keys: &[[u64; 2]]) -> Result<(), Failure> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM identities WHERE high = ?1 AND low = ?2")?;
        for [high, low] in keys {
            delete.execute([high.cast_signed(), low.cast_signed()])?;
        }
        Ok(())
    }

    /// Gives free pages back to the file system, at most so many.
    pub(in crate::disk) fn vacuum(&mut self, pages: u32) -> Result<(), Failure> {
        let mut vacuum = self
            .connection
            .prepare_cached(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }
}
