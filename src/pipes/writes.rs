//! The writes into the journal that have to be durable before a message of a pipe is acknowledged.
//!
//! One call is under way at a time, and what comes meanwhile gathers for the next. What the journal
//! refuses stays queued and is tried again.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use pointsman_schemas::{Cursor, Name, PositionChange, Reject, SubscriptionNumber};
use tokio::time::Instant;

use crate::intake::STORE_AGAIN;
use pointsman_journal::{Append, Entry, Journal, JournalError};

/// A write: a part of its message until it is durable.
#[derive(Clone, Debug)]
pub(super) struct PendingWrite {
    /// The message that it belongs to.
    pub(super) message: u64,
    pub(super) origin: Name,
    pub(super) entries: Vec<Entry>,
    pub(super) rejects: Vec<Reject>,
    /// What changes in the source's position with the message.
    pub(super) positions: Vec<PositionChange>,
    pub(super) bytes: usize,
    /// The subscription whose delivery this moves into the journal, as a dead letter or to wait
    /// there.
    pub(super) moves_delivery_of: Option<SubscriptionNumber>,
}

impl PendingWrite {
    /// A write of a message with nothing in it yet.
    pub(super) fn of(message: u64, origin: Name) -> Self {
        Self {
            message,
            origin,
            entries: Vec::new(),
            rejects: Vec::new(),
            positions: Vec::new(),
            bytes: 0,
            moves_delivery_of: None,
        }
    }
}

/// How far a source has been read without a gap: what may be stored of its position.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) cursor: Option<Cursor>,
    /// Rows that have changed, by key: what they say now, or none where they are deleted.
    pub(super) positions: BTreeMap<Bytes, Option<Bytes>>,
}

impl Progress {
    fn is_empty(&self) -> bool {
        self.cursor.is_none() && self.positions.is_empty()
    }

    /// Adds what came later.
    pub(super) fn add(&mut self, later: Self) {
        self.cursor = later.cursor.or(self.cursor.take());
        self.positions.extend(later.positions);
    }
}

/// Rows of a position that are stored in one append at most.
const ROWS_PER_APPEND: usize = 1_000;

/// The result of a call.
#[derive(Debug, Default)]
pub(super) struct WriteResult {
    pub(super) done: Vec<PendingWrite>,
    again: Vec<PendingWrite>,
    /// What could not be stored of the source's position.
    progress: Progress,
    error: Option<JournalError>,
}

/// The call under way, if any, and the writes that wait for the next.
pub(super) struct WriteQueue {
    journal: Arc<dyn Journal>,
    tenant: Name,
    origin: Name,
    waiting: Vec<PendingWrite>,
    progress: Progress,
    call: Option<BoxFuture<'static, WriteResult>>,
    pause: Option<Duration>,
    again_at: Option<Instant>,
}

impl WriteQueue {
    pub(super) fn new(journal: Arc<dyn Journal>, tenant: Name, origin: Name) -> Self {
        Self {
            journal,
            tenant,
            origin,
            waiting: Vec::new(),
            progress: Progress::default(),
            call: None,
            pause: None,
            again_at: None,
        }
    }

    /// Queues writes, and what may be stored of the source's position.
    pub(super) fn push(&mut self, writes: Vec<PendingWrite>, progress: Progress) {
        self.waiting.extend(writes);
        self.progress.add(progress);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.progress.is_empty() && self.call.is_none()
    }

    /// Returns and forgets the writes that are not under way.
    pub(super) fn clear(&mut self) -> Vec<PendingWrite> {
        std::mem::take(&mut self.waiting)
    }

    /// Waits until a call has been answered, for ever where there is nothing to store. Safe to
    /// cancel.
    pub(super) async fn next(&mut self) -> WriteResult {
        if self.call.is_none() {
            if self.waiting.is_empty() && self.progress.is_empty() {
                return pending().await;
            }
            if let Some(at) = self.again_at {
                tokio::time::sleep_until(at).await;
                self.again_at = None;
            }
            let (journal, tenant, origin) = (
                Arc::clone(&self.journal),
                self.tenant.clone(),
                self.origin.clone(),
            );
            let (writes, progress) = (
                std::mem::take(&mut self.waiting),
                std::mem::take(&mut self.progress),
            );
            self.call = Some(Box::pin(store(journal, tenant, origin, writes, progress)));
        }
        let Some(call) = &mut self.call else {
            return pending().await;
        };
        let mut stored = call.await;
        self.call = None;
        self.waiting.append(&mut stored.again);
        let later = std::mem::replace(&mut self.progress, std::mem::take(&mut stored.progress));
        self.progress.add(later);
        match &stored.error {
            None => self.pause = None,
            Some(error) => {
                let pause = STORE_AGAIN.next(self.pause);
                (self.pause, self.again_at) = (Some(pause), Some(Instant::now() + pause));
                let waiting = self.waiting.len();
                tracing::warn!(
                    source = %self.origin, %error, waiting, again_in = ?pause,
                    "cannot store what a pipe has to keep; holding its messages"
                );
            }
        }
        stored
    }
}

async fn store(
    journal: Arc<dyn Journal>,
    tenant: Name,
    origin: Name,
    writes: Vec<PendingWrite>,
    progress: Progress,
) -> WriteResult {
    let mut groups: HashMap<Name, Vec<PendingWrite>> = HashMap::new();
    for write in writes {
        groups.entry(write.origin.clone()).or_default().push(write);
    }
    let mut stored = WriteResult::default();
    if !progress.is_empty()
        && let Err(error) = store_progress(&*journal, &tenant, &origin, &progress).await
    {
        // Stored twice it says the same.
        (stored.progress, stored.error) = (progress, Some(error));
    }
    for (origin, group) in groups {
        match append(&*journal, &tenant, &origin, &group).await {
            Ok(()) => stored.done.extend(group),
            // What one of them has no room for, others may.
            Err(JournalError::Full(_) | JournalError::Backlog(_) | JournalError::Quota(..))
                if group.len() > 1 =>
            {
                for write in group {
                    match append(&*journal, &tenant, &origin, std::slice::from_ref(&write)).await {
                        Ok(()) => stored.done.push(write),
                        Err(error) => {
                            stored.again.push(write);
                            stored.error = Some(error);
                        }
                    }
                }
            }
            Err(error) => {
                stored.again.extend(group);
                stored.error = Some(error);
            }
        }
    }
    stored
}

/// Stores how far a source has been read: the rows, and with the last of them the cursor.
async fn store_progress(
    journal: &dyn Journal,
    tenant: &Name,
    origin: &Name,
    progress: &Progress,
) -> Result<(), JournalError> {
    let change = |(key, value): (&Bytes, &Option<Bytes>)| PositionChange {
        key: key.clone(),
        value: value.clone(),
    };
    let mut rows = progress.positions.iter().map(change);
    loop {
        let positions: Vec<_> = rows.by_ref().take(ROWS_PER_APPEND).collect();
        let is_last = rows.len() == 0;
        journal
            .append(Append {
                tenant: tenant.clone(),
                origin: origin.clone(),
                entries: Vec::new(),
                rejects: Vec::new(),
                cursor: progress.cursor.clone().filter(|_| is_last),
                positions,
            })
            .await?;
        if is_last {
            return Ok(());
        }
    }
}

async fn append(
    journal: &dyn Journal,
    tenant: &Name,
    origin: &Name,
    writes: &[PendingWrite],
) -> Result<(), JournalError> {
    let entries = writes
        .iter()
        .flat_map(|write| &write.entries)
        .cloned()
        .collect();
    let rejects = writes
        .iter()
        .flat_map(|write| &write.rejects)
        .cloned()
        .collect();
    let positions = writes
        .iter()
        .flat_map(|write| &write.positions)
        .cloned()
        .collect();
    journal
        .append(Append {
            tenant: tenant.clone(),
            origin: origin.clone(),
            entries,
            rejects,
            cursor: None,
            positions,
        })
        .await?;
    Ok(())
}
