//! The writes into the journal that have to be durable before a message of a pipe is acknowledged.
//!
//! One call is under way at a time, and what comes meanwhile gathers for the next. What the journal
//! refuses stays queued and is tried again.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pointsman_schemas::{Cursor, Name, Reject, SubscriptionNumber};
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
    pub(super) bytes: usize,
    /// The subscription whose delivery this moves into the journal, as a dead letter or to wait
    /// there.
    pub(super) moves_delivery_of: Option<SubscriptionNumber>,
}

/// The result of a call.
#[derive(Debug, Default)]
pub(super) struct WriteResult {
    pub(super) done: Vec<PendingWrite>,
    again: Vec<PendingWrite>,
    cursor: Option<Cursor>,
    error: Option<JournalError>,
}

/// The call under way, if any, and the writes that wait for the next.
pub(super) struct WriteQueue {
    journal: Arc<dyn Journal>,
    tenant: Name,
    origin: Name,
    waiting: Vec<PendingWrite>,
    cursor: Option<Cursor>,
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
            cursor: None,
            call: None,
            pause: None,
            again_at: None,
        }
    }

    /// Queues writes; a newer cursor replaces an older one.
    pub(super) fn push(&mut self, writes: Vec<PendingWrite>, cursor: Option<Cursor>) {
        self.waiting.extend(writes);
        self.cursor = cursor.or(self.cursor.take());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.cursor.is_none() && self.call.is_none()
    }

    /// Returns and forgets the writes that are not under way.
    pub(super) fn clear(&mut self) -> Vec<PendingWrite> {
        std::mem::take(&mut self.waiting)
    }

    /// Waits until a call has been answered, for ever where there is nothing to store. Safe to
    /// cancel.
    pub(super) async fn next(&mut self) -> WriteResult {
        if self.call.is_none() {
            if self.waiting.is_empty() && self.cursor.is_none() {
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
            let (writes, cursor) = (std::mem::take(&mut self.waiting), self.cursor.take());
            self.call = Some(Box::pin(store(journal, tenant, origin, writes, cursor)));
        }
        let Some(call) = &mut self.call else {
            return pending().await;
        };
        let mut stored = call.await;
        self.call = None;
        self.waiting.append(&mut stored.again);
        self.cursor = self.cursor.take().or(stored.cursor.take());
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
    cursor: Option<Cursor>,
) -> WriteResult {
    let mut groups: HashMap<Name, Vec<PendingWrite>> = HashMap::new();
    for write in writes {
        groups.entry(write.origin.clone()).or_default().push(write);
    }
    let mut stored = WriteResult::default();
    if let Some(cursor) = cursor {
        let append = Append {
            tenant: tenant.clone(),
            origin,
            entries: Vec::new(),
            rejects: Vec::new(),
            cursor: Some(cursor.clone()),
            positions: Vec::new(),
        };
        if let Err(error) = journal.append(append).await {
            (stored.cursor, stored.error) = (Some(cursor), Some(error));
        }
    }
    for (origin, group) in groups {
        match append(&*journal, &tenant, &origin, &group).await {
            Ok(()) => stored.done.extend(group),
            // What one of them has no room for, others may.
            Err(JournalError::Full(_) | JournalError::Backlog(_)) if group.len() > 1 => {
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
    journal
        .append(Append {
            tenant: tenant.clone(),
            origin: origin.clone(),
            entries,
            rejects,
            cursor: None,
            positions: Vec::new(),
        })
        .await?;
    Ok(())
}
