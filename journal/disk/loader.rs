//! The thread that reads for leases: rows behind the windows, and events that are not in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use pointsman_schemas::Timestamp;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::Shared;
use super::ballast::Share;
use super::queues::{Damaged, Found, Leasing, Need, ReadyKey};
use super::reader::{self, io};
use super::record::Damage;
use super::row::{PendingRow, read_row};
use super::schema::{self, Purpose};
use super::trouble::corrupt;
use crate::{JournalError, Leases};

/// How many bytes of events are read at once, about: small ones are read ahead of their leases, of
/// large ones no more than is asked for.
const LOAD_BYTES: usize = 256 * 1024;

/// A call of `lease` that memory alone could not serve.
pub(super) struct LeaseCall {
    pub(super) leasing: Leasing,
    pub(super) reply: oneshot::Sender<Result<Leases, JournalError>>,
}

/// Where the loader finds its work.
#[derive(Default)]
pub(super) struct LoaderHandle {
    state: Mutex<LoaderRequests>,
    changed: Condvar,
}

#[derive(Default)]
struct LoaderRequests {
    /// One per caller that waits.
    calls: VecDeque<LeaseCall>,
    is_awake: bool,
    is_closed: bool,
}

impl LoaderHandle {
    pub(super) fn wake(&self) {
        self.state.lock().is_awake = true;
        self.changed.notify_one();
    }

    pub(super) fn call(&self, call: LeaseCall) {
        let mut requests = self.state.lock();
        if !requests.is_closed {
            requests.calls.push_back(call);
            self.changed.notify_one();
        }
    }

    pub(super) fn close(&self) {
        let mut requests = self.state.lock();
        requests.is_closed = true;
        requests.calls.clear();
        self.changed.notify_one();
    }

    /// Waits for work; none once it is closed.
    fn take(&self) -> Option<Option<LeaseCall>> {
        let mut requests = self.state.lock();
        loop {
            if requests.is_closed {
                return None;
            }
            if let Some(call) = requests.calls.pop_front() {
                return Some(Some(call));
            }
            if std::mem::take(&mut requests.is_awake) {
                return Some(None);
            }
            self.changed.wait(&mut requests);
        }
    }
}

pub(super) struct Loader {
    pub(super) shared: Arc<Shared>,
    /// With the opening that it belongs to.
    pub(super) connection: Option<(u64, Connection)>,
}

impl Loader {
    pub(super) fn work(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(call) = shared.loader.take() {
            if let Some(LeaseCall { leasing, reply }) = call {
                let answer = self.lease(leasing).map_err(|error| {
                    let failed = io(&error);
                    shared.suspect(error);
                    failed
                });
                if let Err(Ok(unheard)) = reply.send(answer) {
                    // Nobody will settle these: they need not wait for their leases to run out.
                    shared.queues.lock().apply(
                        unheard
                            .leased
                            .iter()
                            .map(|leased| super::queues::Effect::Release(leased.token)),
                        leased_at(&shared),
                    );
                }
            }
            if let Err(error) = self.fill() {
                tracing::warn!(%error, "reading ahead");
                self.connection = None;
                shared.suspect(error);
            }
        }
    }

    fn connection(&mut self) -> rusqlite::Result<&Connection> {
        let epoch = self.shared.epoch();
        if self.connection.as_ref().is_none_or(|(of, _)| *of != epoch) {
            self.connection = Some((
                epoch,
                schema::connect(&self.shared.directory, Purpose::Load)?,
            ));
        }
        self.connection
            .as_ref()
            .map(|(_, connection)| connection)
            .ok_or(rusqlite::Error::InvalidQuery)
    }

    fn lease(&mut self, mut leasing: Leasing) -> rusqlite::Result<Leases> {
        let mut found = Found::default();
        loop {
            let need = leasing.run(&mut self.shared.queues.lock(), &found);
            let read = match need {
                Need::Nothing => break,
                Need::Rows(subscription) => self.load(subscription),
                Need::Events(sequences) => self.events(&sequences, &mut found),
            };
            if let Err(error) = read {
                // What was leased so far goes back, as it will not be told.
                let shared = &self.shared;
                let back = leasing
                    .leases
                    .leased
                    .iter()
                    .map(|leased| super::queues::Effect::Release(leased.token));
                shared.queues.lock().apply(back, leased_at(shared));
                self.connection = None;
                return Err(error);
            }
        }
        for damaged in std::mem::take(&mut leasing.damaged) {
            self.set_aside(damaged);
        }
        Ok(leasing.leases)
    }

    /// Fills every queue that has run low.
    fn fill(&mut self) -> rusqlite::Result<()> {
        loop {
            let Some(subscription) = self.shared.queues.lock().take_low() else {
                return Ok(());
            };
            self.load(subscription)?;
            if self.shared.queues.lock().should_wake() {
                self.shared.wake.notify_one();
            }
        }
    }

    /// Reads the rows behind a queue's window.
    fn load(&mut self, subscription: u32) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        load(&shared, self.connection()?, subscription)
    }

    fn events(&mut self, sequences: &[u64], found: &mut Found) -> rusqlite::Result<()> {
        found.clear();
        let shared = Arc::clone(&self.shared);
        // In one transaction, since beginning and ending one costs as much as reading an event.
        let snapshot = self.connection()?.unchecked_transaction()?;
        let mut bytes = 0;
        for sequence in sequences {
            // What is not there yet is asked for again once it is its turn.
            if bytes >= LOAD_BYTES {
                break;
            }
            let stored = match reader::event(&snapshot, *sequence)? {
                Some(stored) => stored.map(Arc::new),
                // It may be there all the same, behind a page that leads elsewhere.
                None if !shared.look.is_done() => {
                    return Err(corrupt(format!("event {sequence} is missing")));
                }
                None => Err(Damage("it is missing")),
            };
            if let Ok(stored) = &stored {
                bytes += stored.event.size_bytes();
                shared
                    .queues
                    .lock()
                    .cache
                    .insert(*sequence, Arc::clone(stored));
            }
            found.insert(*sequence, stored);
        }
        Ok(())
    }

    /// Has the writer set a damaged one aside; where that fails with the store, it is found again
    /// in the next.
    fn set_aside(&self, damaged: Damaged) {
        tracing::error!(
            sequence = damaged.key.sequence,
            subscription = damaged.key.subscription,
            why = %damaged.why,
            "a delivery whose event cannot be read is set aside"
        );
        self.shared.ask_blocking(Share::Known, move |transaction| {
            transaction.quarantine_delivery(&damaged)
        });
    }
}

fn leased_at(shared: &Shared) -> Timestamp {
    shared.clock.now()
}

/// Reads the rows behind a queue's window into it.
pub(super) fn load(
    shared: &Shared,
    connection: &Connection,
    subscription: u32,
) -> rusqlite::Result<()> {
    loop {
        let gate = shared.gate.lock();
        let Some((from, count)) = shared.queues.lock().begin_load(subscription) else {
            return Ok(());
        };
        let snapshot = connection.unchecked_transaction()?;
        // The snapshot begins with the first read, which therefore happens before the next commit
        // may be applied.
        schema::read_ledger(&snapshot)?.ok();
        drop(gate);
        let Batch {
            rows,
            next,
            damaged,
        } = read(&snapshot, subscription, from, count)?;
        drop(snapshot);
        for (key, why) in damaged {
            shared.submit(Share::Known, move |transaction| {
                transaction.quarantine_row(key, &why)
            });
        }
        if shared.queues.lock().end_load(subscription, rows, next) {
            return Ok(());
        }
    }
}

struct Batch {
    rows: Vec<PendingRow>,
    next: Option<ReadyKey>,
    damaged: Vec<(super::row::RowKey, Damage)>,
}

fn read(
    connection: &Connection,
    subscription: u32,
    from: ReadyKey,
    count: usize,
) -> rusqlite::Result<Batch> {
    let mut select = connection.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending INDEXED BY by_due
         WHERE subscription = ?1 AND due IS NOT NULL AND (due, sequence, run) >= (?2, ?3, ?4)
         ORDER BY due, sequence, run",
    )?;
    let mut found = select.query(params![
        subscription,
        from.due.0,
        from.sequence.cast_signed(),
        from.run
    ])?;
    let (mut batch, mut deliveries) = (
        Batch {
            rows: Vec::new(),
            next: None,
            damaged: Vec::new(),
        },
        0,
    );
    while let Some(row) = found.next()? {
        let due = row.get_ref(3)?.as_i64().unwrap_or_default();
        let (key, decoded) = read_row(row)?;
        if deliveries >= count {
            batch.next = Some(ReadyKey {
                due: Timestamp(due),
                sequence: key.sequence,
                run: key.run_column(),
            });
            break;
        }
        match decoded {
            Ok(row) => {
                deliveries += row.sequences.len();
                batch.rows.push(row);
            }
            Err(damage) => batch.damaged.push((key, damage)),
        }
    }
    Ok(batch)
}
