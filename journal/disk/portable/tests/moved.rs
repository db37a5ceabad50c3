//! Journals that are moved whenever they are opened again: into a new store, or into another number
//! of shards.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::Clock;
use tempfile::TempDir;

use super::super::{Imported, export_stores, import_stores};
use crate::disk::{DiskJournal, DiskOptions};
use crate::sharded::Sharded;
use crate::suite::{self, Bounds, Implementation};
use crate::{Journal, Shard, ShardNumber};

/// The folders of the stores of so many shards in a folder.
pub(super) fn folders(path: &Path, shards: u16) -> Vec<PathBuf> {
    let others = (1..shards).map(|shard| path.join(format!("shard-{shard}")));
    std::iter::once(path.to_owned()).chain(others).collect()
}

/// Exports the stores in a folder and imports them into another one.
pub(super) fn move_stores(
    (from, shards): (&Path, u16),
    (to, wanted): (&Path, u16),
    clock: &dyn Clock,
) -> Imported {
    let mut lines = Vec::new();
    let exported = export_stores(&folders(from, shards), clock, &mut lines).unwrap();
    assert_eq!(exported.notes, &[] as &[String]);
    let imported = import_stores(&mut &*lines, to, wanted).unwrap();
    assert_eq!(imported.carried, exported.carried);
    imported
}

/// Opens the stores in a folder as shards of one journal. A store that says of which it is a part
/// is opened by a cluster alone, so it is told to forget that.
pub(super) fn open_shards(
    path: &Path,
    shards: u16,
    options: DiskOptions,
    clock: &Arc<dyn Clock>,
) -> (Arc<Sharded>, Vec<Arc<DiskJournal>>) {
    let open = |(directory, shard): (PathBuf, u16)| {
        let _ = std::fs::remove_file(directory.join("part"));
        let number = ShardNumber::new(shard).unwrap();
        let opened = DiskJournal::open_shard(&directory, options, Arc::clone(clock), number);
        let journal = opened.unwrap();
        assert_eq!(journal.warnings(), &[] as &[String]);
        journal
    };
    let opened: Vec<_> = folders(path, shards)
        .into_iter()
        .zip(0..)
        .map(open)
        .collect();
    let shards = opened.iter().map(|one| Arc::clone(one) as Arc<dyn Shard>);
    (Sharded::new(shards.collect()).unwrap(), opened)
}

/// Says again of what the stores in a folder are parts.
pub(super) fn note_parts(path: &Path, shards: u16) {
    for (directory, shard) in folders(path, shards).iter().zip(0..) {
        crate::disk::Part { shard, shards }.note(directory).unwrap();
    }
}

/// A journal that is moved at each opening into as many shards as is its turn.
struct Moved {
    turns: &'static [u16],
    /// None where it is not one of shards.
    is_sharded: bool,
    directory: TempDir,
    openings: Mutex<usize>,
    last: Mutex<Vec<Weak<DiskJournal>>>,
}

impl Moved {
    fn alone() -> Self {
        Self {
            is_sharded: false,
            ..Self::into_shards(&[1])
        }
    }

    fn into_shards(turns: &'static [u16]) -> Self {
        Self {
            turns,
            is_sharded: true,
            directory: TempDir::new().unwrap(),
            openings: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// The folder of an opening, and how many shards are in it.
    fn at(&self, opening: usize) -> (PathBuf, u16) {
        let shards = self.turns[opening % self.turns.len()];
        (self.directory.path().join(opening.to_string()), shards)
    }
}

#[async_trait]
impl Implementation for Moved {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        let opening = *self.openings.lock();
        *self.openings.lock() += 1;
        let (path, shards) = self.at(opening);
        if let Some(before) = opening.checked_sub(1) {
            let (before, count) = self.at(before);
            note_parts(&before, count);
            move_stores((&before, count), (&path, shards), &*clock);
            std::fs::remove_dir_all(&before).unwrap();
        }
        let options = DiskOptions {
            retention: bounds.retention,
            max_size_bytes: bounds.bytes_max,
            ..DiskOptions::default()
        };
        if self.is_sharded {
            let (journal, opened) = open_shards(&path, shards, options, &clock);
            *self.last.lock() = opened.iter().map(Arc::downgrade).collect();
            journal
        } else {
            let journal = DiskJournal::open(&path, options, clock).unwrap();
            assert_eq!(journal.warnings(), &[] as &[String]);
            *self.last.lock() = vec![Arc::downgrade(&journal)];
            journal
        }
    }

    fn keeps_numbers(&self) -> bool {
        self.is_sharded
    }

    fn persists(&self) -> bool {
        true
    }

    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
        let (path, shards) = self.at(*self.openings.lock() - 1);
        suite::files_as_they_lie(folders(&path, shards))
    }

    async fn upkeep(&self) {
        let last: Vec<_> = self.last.lock().iter().filter_map(Weak::upgrade).collect();
        for journal in last {
            journal.upkeep().await;
        }
    }
}

mod into_a_new_store {
    use super::*;

    #[test]
    fn random_histories_agree_with_the_model() {
        crate::suite::random_histories(|| Box::new(Moved::alone()));
    }

    // Not what looks at the time of the journal's own clock, which is another one, or at the moment
    // at which retention looks at an event again.
    crate::conformance!(@ Moved::alone();
        appended_events_come_back_byte_for_byte
        duplicates_are_told_within_their_window_alone
        cursors_are_kept_with_what_they_cover
        rows_of_a_position_are_upserted_deleted_and_read_in_pages
        a_lease_that_runs_out_settles_nothing
        how_many_go_together_is_kept_with_each
        a_priority_stays_with_its_delivery
        a_large_backlog_is_leased_whole_and_in_order
        blocked_order_keys_are_told_with_what_waits_behind
        the_id_of_a_task_is_taken_once_for_each_who_gives_it
        subscriptions_keep_their_numbers_and_deliveries
        an_event_is_kept_for_a_time_of_its_own
        what_was_referred_to_past_its_time_goes_with_the_last_reference
        retention_spares_what_is_needed
        an_edited_dead_letter_is_redriven_as_it_was_edited
        a_subscription_that_begins_with_a_replay_misses_nothing
        a_stop_of_a_start_passes_over_the_past_alone
        the_mark_of_a_replay_stays_with_its_delivery
        the_history_is_kept_for_its_time_and_what_has_not_ended_longer
    );
}

mod into_more_shards_and_fewer {
    use super::*;

    // What looks neither at sequences nor at an order over all shards.
    crate::conformance!(@ Moved::into_shards(&[1, 4, 2, 5]);
        a_delivery_put_off_for_months_outlives_restarts
        a_quota_counts_exactly_whatever_happens
        a_replay_is_stopped_and_the_last_are_kept
        a_subscription_that_is_not_active_leases_nothing
        an_earlier_one_of_its_key_goes_first_after_a_redrive
        an_event_whose_key_is_known_is_not_stored
        cancelling_ends_what_is_not_in_flight
        cursors_are_kept_with_what_they_cover
        follow_ups_happen_with_their_settlement
        rejects_are_dead_letters_of_their_source
        rows_of_a_position_are_upserted_deleted_and_read_in_pages
        subscriptions_keep_their_numbers_and_deliveries
        the_mark_of_a_replay_stays_with_its_delivery
    );
}
