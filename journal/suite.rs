//! The conformance suite: what every journal must do, whatever it is made of.
//!
//! An implementation gives an [`Implementation`] and calls [`conformance!`](crate::conformance) in
//! its tests. Time is paused in every one of them.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "these are tests, whose names say it"
)]

mod appending;
mod bounds;
mod clock;
mod dead;
mod ended;
mod history;
mod keys;
mod leasing;
mod ordering;
mod positions;
mod priorities;
mod replaying;
mod retaining;
mod subscribing;
mod watching;

pub use appending::*;
pub use bounds::*;
pub use clock::*;
pub use dead::*;
pub use ended::*;
pub use history::*;
pub use keys::*;
pub use leasing::*;
pub use ordering::*;
pub use positions::*;
pub use priorities::*;
pub use replaying::*;
pub use retaining::*;
pub use subscribing::*;
pub use watching::*;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_schemas::{Class, Clock, Data, Event, Name, Sequence, SubscriptionNumber, Timestamp};
use smallvec::SmallVec;

use crate::memory::RuntimeClock;
use crate::{
    Append, Appended, Counts, Ending, Entry, FollowUp, Grant, Journal, LastOutcome, LeaseOwner,
    LeaseToken, Leased, Leases, NewDelivery, Role, SettleAnswer, Settlement, Subscription,
    SubscriptionIdentity, SubscriptionStatus,
};

/// Makes journals of one kind, all of one store.
#[async_trait]
pub trait Implementation: Send + Sync {
    /// Opens the store; for a journal that persists, what an earlier one closed.
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal>;

    /// Whether what one journal closed is there in the next.
    fn persists(&self) -> bool;

    /// Whether a subscription that was dropped has its number again when it is wanted once more.
    fn keeps_numbers(&self) -> bool {
        false
    }

    /// Notes how the store lies there, as a process that ends now would leave it. What is returned
    /// puts that back, once the journal is closed.
    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send>;

    /// Lets the work that the journal opened last does by itself happen now.
    async fn upkeep(&self);
}

/// The bounds that the suite asks for.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub retention: Duration,
    pub bytes_max: u64,
}

/// Makes a test of every function of the suite, against one implementation.
#[macro_export]
macro_rules! conformance {
    // What holds also where a journal is made of shards, wherever in them things are.
    (over shards: $new:expr) => {
        $crate::conformance!(@ $new;
            appended_events_come_back_byte_for_byte
            an_append_is_all_or_nothing
            events_are_read_page_by_page
            duplicates_are_told_within_their_window_alone
            an_event_whose_key_is_known_is_not_stored
            deliveries_whose_key_is_known_are_left_out_and_no_others
            cursors_are_kept_with_what_they_cover
            rows_of_a_position_are_upserted_deleted_and_read_in_pages
            rows_of_a_position_change_with_their_append_or_not_at_all
            rows_of_a_position_are_of_one_tenant_and_source
            rows_of_a_position_count_against_the_bound
            concurrent_appends_are_all_stored_once
            what_was_handed_over_happens_though_nobody_waits
            nothing_happens_after_the_close
            due_deliveries_are_leased_in_order_and_once
            a_lease_is_bounded_in_bytes_and_tells_what_did_not_fit
            deliveries_go_together_as_a_grant_says
            how_many_go_together_is_kept_with_each
            a_lease_that_runs_out_settles_nothing
            a_release_leaves_no_trace
            a_retry_comes_back_when_it_is_due
            a_delayed_delivery_waits
            a_delivery_put_off_for_months_outlives_restarts
            what_is_urgent_goes_first_and_overtakes_no_more_than_ten_minutes
            a_priority_stays_with_its_delivery
            an_earlier_one_of_its_key_goes_first_after_a_redrive
            follow_ups_happen_with_their_settlement
            subscriptions_keep_their_numbers_and_deliveries
            many_subscriptions_come_and_go_at_once
            a_subscription_that_is_not_active_leases_nothing
            a_subscription_that_nobody_wants_goes_once_it_holds_nothing
            a_full_backlog_refuses_or_dead_letters
            a_full_quota_refuses_or_dead_letters
            a_quota_counts_exactly_whatever_happens
            retention_spares_what_is_needed
            an_event_is_kept_for_a_time_of_its_own
            what_was_referred_to_past_its_time_goes_with_the_last_reference
            what_was_to_go_early_goes_with_the_last_reference
            a_replay_finds_what_is_kept_longer
            near_its_size_a_journal_keeps_nothing_for_its_time
            dead_letters_are_listed_redriven_and_purged
            a_redrive_is_a_run_that_never_was
            what_is_in_flight_when_an_earlier_one_comes_and_goes_is_delivered_once
            rejects_are_dead_letters_of_their_source
            an_edited_dead_letter_is_redriven_as_it_was_edited
            an_edit_that_has_no_room_changes_nothing
            cancelling_ends_what_is_not_in_flight
            replay_makes_new_runs_of_what_is_retained
            the_mark_of_a_replay_stays_with_its_delivery
            a_replay_is_stopped_and_the_last_are_kept
            a_replay_waits_for_room_in_the_backlog
            a_replay_keeps_what_it_still_looks_at
            a_stop_of_a_start_passes_over_the_past_alone
            pages_of_what_has_ended_miss_nothing_while_more_ends
            the_history_is_kept_for_its_time_and_what_has_not_ended_longer
            dead_letters_are_redriven_some_at_a_time_and_elsewhere
        );
    };
    ($new:expr) => {
        $crate::conformance!(over shards: $new);
        // What looks at the order over all order keys, at sequences that have no gap, or at bounds
        // that are reached exactly; and at the clock, of which every shard has its own.
        $crate::conformance!(@ $new;
            a_clock_that_is_set_parks_nothing_and_ages_nothing
            who_watches_an_entry_is_told_what_was_made_of_it
            the_id_of_a_task_is_taken_once_for_each_who_gives_it
            what_is_not_stored_is_not_remembered_and_a_duplicate_needs_no_room
            past_their_part_of_the_store_keys_are_forgotten_the_soonest_first
            a_skipped_head_frees_what_waits_behind_it
            blocked_order_keys_are_told_with_what_waits_behind
            what_is_urgent_goes_first_however_much_waits
            order_keys_go_one_at_a_time
            a_large_backlog_is_leased_whole_and_in_order
            what_waits_is_cancelled_or_moved_whole
            a_full_journal_refuses_appends_and_still_settles
            what_ended_elsewhere_is_a_dead_letter_at_once
            a_subscription_that_begins_with_a_replay_misses_nothing
        );
        #[test]
        fn random_histories_agree_with_the_model() {
            $crate::suite::random_histories(|| Box::new($new));
        }
    };
    (@ $new:expr; $($name:ident)*) => {
        $(#[test]
        fn $name() {
            $crate::suite::paused(async { $crate::suite::$name(&$new).await });
        })*
    };
}
/// Runs a test in a runtime of its own whose time is paused.
pub fn paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

pub const MINUTE: Duration = Duration::from_secs(60);
pub const START: Timestamp = Timestamp(1_700_000_000_000_000);
const ROOMY: Bounds = Bounds {
    retention: Duration::from_secs(3600),
    bytes_max: 1 << 30,
};

/// A journal under test, with the words in which the tests speak of it.
struct Bench<'i> {
    implementation: &'i dyn Implementation,
    clock: Arc<RuntimeClock>,
    bounds: Bounds,
    journal: Arc<dyn Journal>,
}

impl<'i> Bench<'i> {
    async fn new(implementation: &'i dyn Implementation) -> Self {
        Self::bounded(implementation, ROOMY).await
    }

    async fn bounded(implementation: &'i dyn Implementation, bounds: Bounds) -> Self {
        let clock = Arc::new(RuntimeClock::new(START));
        let journal = implementation
            .open(Arc::clone(&clock) as Arc<dyn Clock>, bounds)
            .await;
        Self {
            implementation,
            clock,
            bounds,
            journal,
        }
    }

    /// Closes the store and opens it again; does nothing where nothing would be left.
    async fn reopen(&mut self) {
        if self.implementation.persists() {
            self.journal.close().await;
            self.journal = self
                .implementation
                .open(Arc::clone(&self.clock) as Arc<dyn Clock>, self.bounds)
                .await;
        }
    }

    /// Opens the store as the process would leave it that ended now.
    async fn crash(&mut self) {
        let put_back = self.implementation.as_it_lies();
        self.journal.close().await;
        put_back();
        self.journal = self
            .implementation
            .open(Arc::clone(&self.clock) as Arc<dyn Clock>, self.bounds)
            .await;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes exactly these rules (each with one target) the wanted ones.
    async fn subscribe(&self, rules: &[&str]) -> Vec<SubscriptionNumber> {
        self.journal
            .subscribe(rules.iter().map(|rule| wanted(rule)).collect())
            .await
            .unwrap()
    }

    async fn append(&self, entries: Vec<Entry>) -> Vec<Appended> {
        self.journal.append(append_of(entries)).await.unwrap()
    }

    /// Appends one event for each of these, due now and unordered.
    async fn event_for(&self, id: &str, subscriptions: &[SubscriptionNumber]) -> Sequence {
        let appended = self.append(vec![entry(id, subscriptions)]).await;
        stored(appended[0])
    }

    async fn lease(&self, subscription: SubscriptionNumber, count: usize) -> Vec<Leased> {
        lease(&*self.journal, subscription, count).await
    }

    async fn lease_one(&self, subscription: SubscriptionNumber) -> Leased {
        let mut leased = self.lease(subscription, 1).await;
        assert_eq!(leased.len(), 1, "one is due for {subscription:?}");
        leased.remove(0)
    }

    async fn settle(&self, token: LeaseToken, ending: Ending) -> bool {
        self.settle_with(token, ending, Vec::new()).await
    }

    async fn settle_with(
        &self,
        token: LeaseToken,
        ending: Ending,
        follow_ups: Vec<FollowUp>,
    ) -> bool {
        let told = self
            .journal
            .settle(vec![Settlement {
                follow_ups,
                ..Settlement::new(token, ending)
            }])
            .await
            .unwrap();
        assert_eq!(told.len(), 1);
        told[0] == SettleAnswer::Settled
    }

    async fn status(&self, subscription: SubscriptionNumber) -> SubscriptionStatus {
        self.find(subscription).await.unwrap()
    }

    async fn find(&self, subscription: SubscriptionNumber) -> Option<SubscriptionStatus> {
        let statuses = self.journal.reader().subscriptions().await.unwrap();
        for status in &statuses {
            let c = status.counts;
            assert_eq!(
                c.created,
                c.delivered
                    + c.dead
                    + c.redriven
                    + c.purged
                    + c.cancelled
                    + c.quarantined
                    + c.pending,
                "{status:?}"
            );
            assert!(
                c.in_flight <= c.pending && c.retrying <= c.pending,
                "{status:?}"
            );
        }
        statuses
            .into_iter()
            .find(|status| status.number == subscription)
    }

    async fn counts(&self, subscription: SubscriptionNumber) -> Counts {
        self.status(subscription).await.counts
    }

    /// Takes what `due` has to tell by now, without waiting.
    async fn told_due(&self) -> Vec<SubscriptionNumber> {
        let mut all = Vec::new();
        while let Ok(some) = tokio::time::timeout(Duration::ZERO, self.journal.due()).await {
            all.extend(some);
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Leases so many deliveries of a subscription, for a minute.
pub async fn lease(
    journal: &dyn Journal,
    subscription: SubscriptionNumber,
    count: usize,
) -> Vec<Leased> {
    let grant = Grant {
        subscription,
        count,
        lease: MINUTE,
        bytes_max: usize::MAX,
        batching: None,
    };
    let leases = journal.lease(&[grant], usize::MAX).await;
    leases.unwrap().leased
}

/// Notes the files of the stores in these folders as they lie there; what is returned puts them back.
#[cfg(test)]
pub(crate) fn files_as_they_lie(
    folders: impl IntoIterator<Item = std::path::PathBuf>,
) -> Box<dyn FnOnce() + Send> {
    let paths = folders.into_iter().flat_map(|folder| {
        let files = ["journal.db", "journal.db-wal", "mark"];
        files.map(|name| folder.join(name))
    });
    let files: Vec<_> = paths
        .map(|path| (std::fs::read(&path).ok(), path))
        .collect();
    Box::new(move || {
        for (content, path) in files {
            match content {
                // Into the same file: a copy of a store begins another epoch.
                Some(content) => std::fs::write(path, content).unwrap(),
                None => drop(std::fs::remove_file(path)),
            }
        }
    })
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn wanted(rule: &str) -> Subscription {
    let identity = SubscriptionIdentity {
        tenant: name("default"),
        rule: name(rule),
        role: Role::To,
        target: name("target"),
    };
    Subscription {
        identity,
        renamed_from: None,
        backlog: None,
        start: None,
    }
}

pub fn event(id: &str) -> Arc<Event> {
    sized_event(id, 10)
}

pub fn sized_event(id: &str, bytes: usize) -> Arc<Event> {
    let data = Data::binary(Bytes::from(
        id.bytes().cycle().take(bytes).collect::<Vec<u8>>(),
    ));
    Arc::new(
        Event::builder(id, "/suite", "test")
            .data(data)
            .build()
            .unwrap(),
    )
}

pub fn entry(id: &str, subscriptions: &[SubscriptionNumber]) -> Entry {
    let deliveries: SmallVec<[NewDelivery; 2]> = subscriptions
        .iter()
        .map(|number| NewDelivery::now(*number))
        .collect();
    Entry {
        event: event(id),
        deliveries,
        deduplicate: None,
        dead: None,
        terms: None,
    }
}

pub fn keyed(id: &str, subscription: SubscriptionNumber, key: u64) -> Entry {
    let delivery = NewDelivery {
        order_key: Some(key),
        ..NewDelivery::now(subscription)
    };
    Entry {
        event: event(id),
        deliveries: SmallVec::from_slice(&[delivery]),
        deduplicate: None,
        dead: None,
        terms: None,
    }
}

pub fn append_of(entries: Vec<Entry>) -> Append {
    Append {
        tenant: name("default"),
        origin: name("suite"),
        entries,
        rejects: Vec::new(),
        cursor: None,
        positions: Vec::new(),
    }
}

pub fn stored(appended: Appended) -> Sequence {
    match appended {
        Appended::Stored(sequence) => sequence,
        other => panic!("{other:?}"),
    }
}

pub fn last(at: Timestamp) -> LastOutcome {
    LastOutcome {
        at,
        class: Class::Failed,
        code: Some(500),
        message: "it broke".to_owned(),
        response: "<html>".to_owned(),
    }
}

fn retry(at: Timestamp) -> Ending {
    Ending::Retry {
        at,
        failure: true,
        batch_max: None,
        last: last(at),
    }
}

fn ids(leased: &[Leased]) -> Vec<&str> {
    leased.iter().map(|leased| leased.event.id()).collect()
}
