//! Looking into a store: for the admin API of the process that runs the bus, and for the command
//! line beside it or after it.

mod blocked;
mod dead;
mod events;
mod history;
mod keys;
mod replays;
mod subscriptions;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::{DeliveryId, JournalId, Sequence, SubscriptionNumber, Timestamp};
use rusqlite::Connection;

use self::blocked::blocked;
use self::dead::dead_letters;
pub(super) use self::dead::{DeadKey, DeadPage, dead_page};
pub(super) use self::events::{event, first_since};
use self::events::{event_page, last_event};
use self::history::{ended, held};
use self::keys::keys;
pub(super) use self::replays::replays;
pub(super) use self::subscriptions::subscriptions;
use self::subscriptions::{pending, pending_of, statuses};
use super::OpenError;
use super::queues::{Moment, Queues};
use super::raw::DatabaseFile;
use super::schema::{self, Purpose};
use crate::steady::JournalClock;
use crate::{
    BlockedPage, DeadLetter, DeadSelection, EndedPage, EndedSelection, EventPage, EventsFrom,
    HistoryPlace, JournalError, Lookup, Pending, Reader, RememberedKey, Replay, StoredEvent,
    SubscriptionStatus, TaskLife, Totals,
};

/// Connections that are kept open for the next question.
const CONNECTIONS_KEPT: usize = 2;

/// A store, read only. It may be in use by another process.
pub struct DiskReader {
    directory: PathBuf,
    id: JournalId,
    bytes_max: u64,
    /// Connections with the opening that they belong to.
    idle: Arc<Mutex<Vec<(u64, Connection)>>>,
    /// Who knows what is in flight, inside the process that runs the bus.
    live: Option<Live>,
}

/// The memory of the journal that runs on the store.
pub(super) struct Live {
    pub(super) queues: Weak<Mutex<Queues>>,
    pub(super) clock: Arc<JournalClock>,
    pub(super) epoch: Arc<AtomicU64>,
    /// Must not be closed before the last connection.
    pub(super) _database: Arc<DatabaseFile>,
}

impl fmt::Debug for DiskReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskReader")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl DiskReader {
    /// Opens the store in a directory to look into it, whether a bus runs on it or not. Its
    /// `bytes_max` is not known and told as 0.
    ///
    /// # Errors
    /// [`OpenError`] where there is no store, where it is of a newer format, or where it cannot be
    /// read.
    pub fn open(directory: &Path) -> Result<Arc<Self>, OpenError> {
        if !schema::database(directory).exists() {
            return Err(OpenError::Missing(directory.to_owned()));
        }
        let connection = schema::connect(directory, Purpose::Look)
            .map_err(|error| OpenError::database(directory, &error))?;
        schema::check_format(&connection, directory)?;
        let id = schema::journal_id(&connection)
            .map_err(|error| OpenError::database(directory, &error))?;
        let id = id.map_err(|damage| OpenError::damaged(directory, &damage))?;
        Ok(Self::inside(directory, id, 0, None))
    }

    pub(super) fn inside(
        directory: &Path,
        id: JournalId,
        bytes_max: u64,
        live: Option<Live>,
    ) -> Arc<Self> {
        Arc::new(Self {
            directory: directory.to_owned(),
            id,
            bytes_max,
            live,
            idle: Arc::new(Mutex::new(Vec::new())),
        })
    }

    /// The identity of the journal.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// Reads pending deliveries, in the time of day and with what is known of them in memory.
    async fn waiting(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<Vec<Pending>> + Send + 'static,
    ) -> Result<Vec<Pending>, JournalError> {
        let offset = self.offset();
        let read = self.ask(move |connection| {
            let mut found = read(connection).map_err(|error| io(&error))?;
            for one in &mut found {
                (one.due, one.since) = (
                    offset.shown(connection, one.due),
                    offset.shown(connection, one.since),
                );
            }
            Ok(found)
        });
        let mut found = read.await?;
        if let Some(queues) = self.live.as_ref().and_then(|live| live.queues.upgrade()) {
            let queues = queues.lock();
            for own in found.chunk_by_mut(|one, next| one.id.subscription == next.id.subscription) {
                let leased = own.first().map(|one| queues.leased(one.id.subscription.0));
                for one in own {
                    let at = (one.id.sequence.0, one.id.run);
                    one.in_flight = leased.as_ref().is_some_and(|leased| leased.contains(&at));
                }
            }
        }
        Ok(found)
    }

    /// Asks the database on a thread that may wait for the disk.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (idle, directory) = (Arc::clone(&self.idle), self.directory.clone());
        let epoch = self
            .live
            .as_ref()
            .map_or(0, |live| live.epoch.load(Ordering::SeqCst));
        let asked = tokio::task::spawn_blocking(move || {
            let kept = idle.lock().pop();
            let connection = match kept {
                Some((of, connection)) if of == epoch => connection,
                _ => schema::connect(&directory, Purpose::Look).map_err(|error| io(&error))?,
            };
            let answer = question(&connection);
            let mut idle = idle.lock();
            if answer.is_ok() && idle.len() < CONNECTIONS_KEPT {
                idle.push((epoch, connection));
            }
            answer
        });
        asked
            .await
            .map_err(|error| JournalError::Io(error.to_string()))?
    }

    fn offset(&self) -> Offset {
        Offset {
            live: self.live.as_ref().map(|live| live.clock.offset()),
        }
    }

    /// Closes what is kept open.
    pub(super) fn close(&self) {
        self.idle.lock().clear();
    }
}

/// How far the time of day is ahead of the journal's: what is kept by the journal's time is shown
/// by that.
#[derive(Clone, Copy, Debug)]
struct Offset {
    /// What the running journal knows; none where another process runs it, or nobody: then the last
    /// commit tells.
    live: Option<i64>,
}

impl Offset {
    fn of(self, connection: &Connection) -> i64 {
        let kept = || {
            schema::read_ledger(connection)
                .ok()
                .and_then(Result::ok)
                .map_or(0, |ledger| ledger.clock_offset)
        };
        self.live.unwrap_or_else(kept)
    }

    fn shown(self, connection: &Connection, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add(self.of(connection)))
    }
}

pub(super) fn io(error: &rusqlite::Error) -> JournalError {
    JournalError::Io(error.to_string())
}

#[async_trait]
impl Reader for DiskReader {
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError> {
        let offset = self.offset();
        let read = move |connection: &Connection| {
            let mut statuses = statuses(connection)?;
            for status in &mut statuses {
                status.oldest_pending = status
                    .oldest_pending
                    .map(|oldest| offset.shown(connection, oldest));
            }
            Ok(statuses)
        };
        let mut statuses = self
            .ask(move |connection| read(connection).map_err(|error| io(&error)))
            .await?;
        if let Some(live) = &self.live
            && let Some(queues) = live.queues.upgrade()
        {
            let mut queues = queues.lock();
            queues.advance(Moment::now(&*live.clock));
            for status in &mut statuses {
                // Read a moment later than the row: what was settled since is not pending in the
                // one and not in flight in the other.
                status.counts.in_flight =
                    queues.in_flight(status.number.0).min(status.counts.pending);
            }
        }
        Ok(statuses)
    }

    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        let (selection, offset) = (selection.clone(), self.offset());
        self.ask(move |connection| {
            let mut letters =
                dead_letters(connection, &selection, after, limit).map_err(|error| io(&error))?;
            letters
                .iter_mut()
                .for_each(|letter| letter.at = offset.shown(connection, letter.at));
            Ok(letters)
        })
        .await
    }

    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.waiting(move |connection| pending(connection, subscription.0, after, limit))
            .await
    }

    async fn pending_of(
        &self,
        event: Sequence,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.waiting(move |connection| pending_of(connection, event.0, limit))
            .await
    }

    async fn blocked(
        &self,
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> Result<BlockedPage, JournalError> {
        let offset = self.offset();
        let queues = self.live.as_ref().and_then(|live| live.queues.upgrade());
        let leased = queues.map(|queues| queues.lock().leased(subscription.0));
        let leased = leased.unwrap_or_default();
        self.ask(move |connection| {
            let mut page = blocked(connection, subscription.0, after, limit, &leased)
                .map_err(|error| io(&error))?;
            for head in page.keys.iter_mut().map(|key| &mut key.head) {
                (head.due, head.since) = (
                    offset.shown(connection, head.due),
                    offset.shown(connection, head.since),
                );
            }
            Ok(page)
        })
        .await
    }

    async fn life(&self, id: DeliveryId) -> Result<Option<TaskLife>, JournalError> {
        let offset = self.offset();
        let read = self.ask(move |connection| {
            let mut held = held(connection, id).map_err(|error| io(&error))?;
            let ahead = offset.of(connection);
            let show = |time: &mut Timestamp| *time = Timestamp(time.0.saturating_add(ahead));
            if let Some(pending) = &mut held.pending {
                show(&mut pending.due);
                show(&mut pending.since);
            }
            held.dead.iter_mut().for_each(|dead| show(&mut dead.at));
            held.history.iter_mut().for_each(|one| one.show_by(show));
            Ok((held, ahead))
        });
        let (mut held, ahead) = read.await?;
        let now = match &self.live {
            Some(live) => Timestamp(live.clock.now().0.saturating_add(ahead)),
            None => Timestamp::from(std::time::SystemTime::now()),
        };
        if let Some(queues) = self.live.as_ref().and_then(|live| live.queues.upgrade())
            && let Some(pending) = &mut held.pending
        {
            let leased = queues.lock().leased(id.subscription.0);
            pending.in_flight = leased.contains(&(id.sequence.0, id.run));
        }
        Ok(TaskLife::of(held.pending, held.dead, held.history, now))
    }

    async fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> Result<EndedPage, JournalError> {
        let (mut selection, offset) = (selection.clone(), self.offset());
        self.ask(move |connection| {
            let ahead = offset.of(connection);
            for time in [&mut selection.from, &mut selection.before] {
                *time = time.map(|time| Timestamp(time.0.saturating_sub(ahead)));
            }
            let mut page =
                ended(connection, &selection, after, limit).map_err(|error| io(&error))?;
            let show = |time: &mut Timestamp| *time = Timestamp(time.0.saturating_add(ahead));
            page.entries.iter_mut().for_each(|one| one.show_by(show));
            Ok(page)
        })
        .await
    }

    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            match event(connection, sequence.0).map_err(|error| io(&error))? {
                None => Ok(None),
                Some(Err(_)) => Err(JournalError::Damaged(format!("event {}", sequence.0))),
                Some(Ok(row)) => {
                    let mut stored = row.into_stored(sequence.0);
                    stored.show_by(|time| *time = offset.shown(connection, *time));
                    Ok(Some(stored))
                }
            }
        })
        .await
    }

    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            let mut stored = last_event(connection).map_err(|error| io(&error))?;
            if let Some(stored) = &mut stored {
                stored.show_by(|time| *time = offset.shown(connection, *time));
            }
            Ok(stored)
        })
        .await
    }

    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            let ahead = offset.of(connection);
            let from = match from {
                EventsFrom::Time(time) => EventsFrom::Time(Timestamp(time.0.saturating_sub(ahead))),
                after @ (EventsFrom::After(_) | EventsFrom::AfterSince(..)) => after,
            };
            let mut page =
                event_page(connection, from, limit, bytes_max).map_err(|error| io(&error))?;
            let show = |time: &mut Timestamp| *time = Timestamp(time.0.saturating_add(ahead));
            page.events.iter_mut().for_each(|one| one.show_by(show));
            Ok(page)
        })
        .await
    }

    async fn keys(&self, lookup: Lookup) -> Result<Vec<RememberedKey>, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            let mut found = keys(connection, &lookup).map_err(|error| io(&error))?;
            for one in &mut found {
                one.at = offset.shown(connection, one.at);
                one.until = offset.shown(connection, one.until);
            }
            Ok(found)
        })
        .await
    }

    async fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            let all = replays(connection).map_err(|error| io(&error))?;
            let mut all: Vec<_> = all.into_iter().filter_map(|(_, one)| one.ok()).collect();
            for replay in &mut all {
                replay.began = offset.shown(connection, replay.began);
                replay.ended = replay.ended.map(|ended| offset.shown(connection, ended));
            }
            all.sort_by_key(|replay| (replay.began, replay.id));
            Ok(all)
        })
        .await
    }

    async fn totals(&self) -> Result<Totals, JournalError> {
        let (directory, bytes_max) = (self.directory.clone(), self.bytes_max);
        self.ask(move |connection| {
            let ledger = schema::read_ledger(connection).map_err(|error| io(&error))?;
            let ledger =
                ledger.map_err(|damage| JournalError::Damaged(format!("the ledger ({damage})")))?;
            Ok(Totals {
                events: ledger.events,
                dead: ledger.dead,
                rejects: ledger.rejects,
                quarantined: ledger.quarantined,
                lost_commits: ledger.lost_commits,
                bytes: schema::size_bytes(&directory),
                bytes_max,
                keys: ledger.keys,
                last_sequence: ledger.last_sequence,
                dropped: ledger.dropped,
            })
        })
        .await
    }
}
