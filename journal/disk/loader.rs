//! The thread that reads for leases: rows behind the windows, and events that are not in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use pointsman_schemas::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::Shared;
use super::ballast::Share;
use super::queues::{Damaged, Found, Lane, Leasing, Load, Loaded, Need, ReadyKey};
use super::reader::{self, io};
use super::record::Damage;
use super::row::{RowKey, read_row};
use super::schema::{self, Purpose};
use super::trouble::corrupt;
use crate::{Due, JournalError, Leases, Priority};

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
                Need::Rows(lane) => self.load(lane),
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
            let Some(lane) = self.shared.queues.lock().take_low() else {
                return Ok(());
            };
            self.load(lane)?;
            if self.shared.queues.lock().should_wake() {
                self.shared.wake.notify_one();
            }
        }
    }

    /// Reads the rows behind a lane's window.
    fn load(&mut self, lane: Lane) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        load(&shared, self.connection()?, lane)
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

/// Reads the rows behind a lane's window into it.
pub(super) fn load(shared: &Shared, connection: &Connection, lane: Lane) -> rusqlite::Result<()> {
    loop {
        let gate = shared.gate.lock();
        let Some(load) = shared.queues.lock().begin_load(lane) else {
            return Ok(());
        };
        let snapshot = connection.unchecked_transaction()?;
        // The snapshot begins with the first read, which therefore happens before the next commit
        // may be applied.
        schema::read_ledger(&snapshot)?.ok();
        drop(gate);
        let (mut loaded, damaged) = read(&snapshot, lane, load)?;
        if load.explores {
            loaded.priorities = Some(priorities(&snapshot, lane.subscription)?);
        }
        drop(snapshot);
        for (key, why) in damaged {
            shared.submit(Share::Known, move |transaction| {
                transaction.quarantine_row(key, &why)
            });
        }
        if shared.queues.lock().end_load(lane, loaded) {
            return Ok(());
        }
    }
}

/// The least and the greatest that the column `due` may be in a lane. The outermost lanes have what
/// lies past all of them: a row that a flipped bit has taken there is found with them.
fn columns(priority: Priority) -> (i64, i64) {
    let first = match priority {
        Priority::HIGHEST => i64::MIN,
        _ => Due::first(priority).column(),
    };
    let last = match priority {
        Priority::USUAL => i64::MAX,
        _ => Due::last(priority).column(),
    };
    (first, last)
}

/// The priorities of a subscription's rows.
fn priorities(connection: &Connection, subscription: u32) -> rusqlite::Result<Vec<Priority>> {
    let mut first_from = connection.prepare_cached(
        "SELECT due FROM pending INDEXED BY by_due
         WHERE subscription = ?1 AND due IS NOT NULL AND due >= ?2 ORDER BY due LIMIT 1",
    )?;
    let mut from_column = |from: i64| {
        let column = first_from.query_row(params![subscription, from], |row| row.get::<_, i64>(0));
        column.optional()
    };
    let mut found = Vec::new();
    let mut next = from_column(i64::MIN)?;
    // They lie in the index the most urgent first.
    while let Some(column) = next {
        let is_of = |priority: &Priority| column <= columns(*priority).1;
        let priority = Priority::all().filter(is_of).max().unwrap_or_default();
        found.push(priority);
        next = columns(priority)
            .1
            .checked_add(1)
            .map_or(Ok(None), &mut from_column)?;
    }
    Ok(found)
}

/// Reads the rows of a lane, and those that are damaged.
fn read(
    connection: &Connection,
    lane: Lane,
    load: Load,
) -> rusqlite::Result<(Loaded, Vec<(RowKey, Damage)>)> {
    let mut select = connection.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending INDEXED BY by_due
         WHERE subscription = ?1 AND due IS NOT NULL AND (due, sequence, run) >= (?2, ?3, ?4)
         AND due <= ?5 ORDER BY due, sequence, run",
    )?;
    let ReadyKey { due, sequence, run } = load.from;
    let (first, until) = columns(lane.priority);
    let from = if load.from == ReadyKey::first(lane.priority) {
        first
    } else {
        due.column()
    };
    let sequence = sequence.cast_signed();
    let mut found = select.query(params![lane.subscription, from, sequence, run, until])?;
    let (mut loaded, mut damaged, mut deliveries) = (Loaded::default(), Vec::new(), 0);
    while let Some(row) = found.next()? {
        let (key, decoded) = read_row(row)?;
        let row = match decoded {
            Ok(row) => row,
            Err(damage) => {
                damaged.push((key, damage));
                continue;
            }
        };
        if deliveries >= load.count {
            loaded.next = Some(row.ready_key());
            break;
        }
        deliveries += row.sequences.len();
        loaded.rows.push(row);
    }
    Ok((loaded, damaged))
}
