//! What has to be durable before a message of a pipe is acknowledged, on its way into the journal.
//!
//! One call is under way at a time, and what comes meanwhile gathers for the next. What the journal
//! refuses is kept and tried again.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pointsman_schemas::{Cursor, Name, Reject, SubscriptionNumber};
use tokio::time::Instant;

use crate::intake::STORE_AGAIN;
use pointsman_journal::{Append, Entry, Journal, JournalError};

/// Something to be stored: a part of its message until it is.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    /// Of which message.
    pub(super) message: u64,
    pub(super) origin: Name,
    pub(super) entries: Vec<Entry>,
    pub(super) rejects: Vec<Reject>,
    pub(super) bytes: usize,
    /// Whose dead letter is among the entries, or whose delivery that waits in the journal from
    /// then on.
    pub(super) buries: Option<SubscriptionNumber>,
}

/// What became of a call.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) done: Vec<Closing>,
    again: Vec<Closing>,
    cursor: Option<Cursor>,
    error: Option<JournalError>,
}

/// The call under way, if any, and what waits for the next.
pub(super) struct Closings {
    journal: Arc<dyn Journal>,
    tenant: Name,
    origin: Name,
    waiting: Vec<Closing>,
    cursor: Option<Cursor>,
    call: Option<BoxFuture<'static, Stored>>,
    pause: Option<Duration>,
    again_at: Option<Instant>,
}

impl Closings {
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

    /// Takes in what is to be stored; a newer cursor stands for an older one.
    pub(super) fn push(&mut self, closings: Vec<Closing>, cursor: Option<Cursor>) {
        self.waiting.extend(closings);
        self.cursor = cursor.or(self.cursor.take());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.cursor.is_none() && self.call.is_none()
    }

    /// Gives up what is not under way: its messages are handed over again.
    pub(super) fn clear(&mut self) -> Vec<Closing> {
        std::mem::take(&mut self.waiting)
    }

    /// Waits until a call has been answered, for ever where there is nothing to store. Safe to
    /// cancel.
    pub(super) async fn next(&mut self) -> Stored {
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
            let (closings, cursor) = (std::mem::take(&mut self.waiting), self.cursor.take());
            self.call = Some(Box::pin(store(journal, tenant, origin, closings, cursor)));
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
    closings: Vec<Closing>,
    cursor: Option<Cursor>,
) -> Stored {
    let mut groups: HashMap<Name, Vec<Closing>> = HashMap::new();
    for closing in closings {
        groups
            .entry(closing.origin.clone())
            .or_default()
            .push(closing);
    }
    let mut stored = Stored::default();
    if let Some(cursor) = cursor {
        let append = Append {
            tenant: tenant.clone(),
            origin,
            entries: Vec::new(),
            rejects: Vec::new(),
            cursor: Some(cursor.clone()),
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
                for closing in group {
                    match append(&*journal, &tenant, &origin, std::slice::from_ref(&closing)).await
                    {
                        Ok(()) => stored.done.push(closing),
                        Err(error) => {
                            stored.again.push(closing);
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
    closings: &[Closing],
) -> Result<(), JournalError> {
    let entries = closings
        .iter()
        .flat_map(|closing| &closing.entries)
        .cloned()
        .collect();
    let rejects = closings
        .iter()
        .flat_map(|closing| &closing.rejects)
        .cloned()
        .collect();
    journal
        .append(Append {
            tenant: tenant.clone(),
            origin: origin.clone(),
            entries,
            rejects,
            cursor: None,
        })
        .await?;
    Ok(())
}
