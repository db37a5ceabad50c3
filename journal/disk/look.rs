//! Looking through a large store once it is open: what a small one is asked at its start, without
//! anybody waiting for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle};

use super::actual::Actual;
use super::check;
use super::committed::CommittedState;
use super::schema::{self, Purpose};
use super::tables;
use super::trouble;
use super::{Shared, reader};

/// Where a look through the store is ended from.
#[derive(Default)]
pub(super) struct LookHandle {
    handle: Mutex<Option<InterruptHandle>>,
    is_stopped: AtomicBool,
    /// Whether all of the store was looked at since it was opened.
    is_done: AtomicBool,
}

impl LookHandle {
    /// Ends a look under way, and lets none begin.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        if let Some(handle) = &*self.handle.lock() {
            handle.interrupt();
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::SeqCst)
    }

    pub(super) fn set_done(&self, is_done: bool) {
        self.is_done.store(is_done, Ordering::SeqCst);
    }
}

/// Looks at every page and row in one snapshot. What is wrong makes the writer open the store anew,
/// and mend it.
pub(super) fn work(shared: &Arc<Shared>) {
    match look(shared) {
        Ok(None) => {
            shared.look.set_done(true);
            tracing::info!("the whole store has been looked through, and is sound");
        }
        Ok(Some(wrong)) => shared.suspect(trouble::corrupt(wrong)),
        Err(error) if trouble::is_corrupt(&error) => shared.suspect(error),
        Err(_) if shared.look.is_stopped.load(Ordering::SeqCst) => {}
        Err(error) => {
            tracing::warn!(%error, "looking through the store; damage in it is found as it is used")
        }
    }
    *shared.look.handle.lock() = None;
}

fn look(shared: &Shared) -> rusqlite::Result<Option<String>> {
    let connection = schema::connect(&shared.directory, Purpose::Look)?;
    *shared.look.handle.lock() = Some(connection.get_interrupt_handle());
    if shared.look.is_stopped.load(Ordering::SeqCst) {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    // One snapshot, so that counters and rows belong together.
    let snapshot = connection.unchecked_transaction()?;
    if let Some(said) = check::look_at_pages(&snapshot)? {
        return Ok(Some(said.join("; ")));
    }
    if let Some((table, key, why)) = tables::find_damaged(&snapshot)?.into_iter().next() {
        return Ok(Some(format!("a record in {table} ({key}): {why}")));
    }
    let agrees = match committed(&snapshot)? {
        Some(committed) => Actual::count(&snapshot)?.agrees(&committed),
        None => false,
    };
    Ok((!agrees).then(|| "rows that were counted are not there".to_owned()))
}

fn committed(connection: &Connection) -> rusqlite::Result<Option<CommittedState>> {
    let Ok(ledger) = schema::read_ledger(connection)? else {
        return Ok(None);
    };
    let subscriptions = reader::subscriptions(connection)?;
    let sound = subscriptions
        .into_iter()
        .map(|(number, subscribed)| Some((number, subscribed.ok()?)))
        .collect::<Option<_>>();
    Ok(sound.map(|subscriptions| CommittedState {
        ledger,
        subscriptions,
        ..CommittedState::default()
    }))
}
