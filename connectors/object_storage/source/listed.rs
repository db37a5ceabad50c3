//! What listings find, and batches of it and of notifications in turn.

use std::time::Duration;

use tokio::time::Instant;

use super::feed::Feed;
use super::{Followed, LISTINGS_APART};
use crate::object_storage::BATCH_MESSAGES_MAX;
use crate::object_storage::connection::Bucket;
use crate::object_storage::happening::{Found, Happening};
use crate::object_storage::reconciler::{AnotherBucket, Listing, Rows, Suspect};
use crate::{Batch, Message, SourceError};

/// How soon a listing that failed is tried again where notifications come in beside it.
const LIST_AGAIN: Duration = Duration::from_secs(60);

impl Followed {
    /// The next object that a listing is to tell of, where there is room for it.
    pub(super) fn suspect(&self, now: Instant) -> Option<Suspect> {
        let emptied = match &self.setup.feed {
            Feed::Sqs(queue) => queue.emptied(),
            Feed::Hook(_) | Feed::Nothing => Some(now),
        };
        let is_room = self.found.len() + self.work.len() < BATCH_MESSAGES_MAX;
        is_room
            .then(|| self.reconciler.as_ref()?.due(now, emptied))
            .flatten()
    }

    pub(super) fn found(&self, suspect: &Suspect) -> Result<Happening, String> {
        let Bucket { name, region, .. } = &self.setup.bucket;
        let now = self.setup.context.clock.now().to_string();
        let modified = suspect
            .listed
            .as_ref()
            .map(|listed| crate::object_storage::time(listed.modified))
            .unwrap_or_default();
        let found = match &suspect.listed {
            Some(listed) => Found::Object {
                etag: &listed.etag,
                size: listed.size,
                modified: &modified,
            },
            None => Found::Gone { now: &now },
        };
        Happening::listed(name, region, &suspect.key, suspect.generation, found)
    }

    /// Begins a listing where it is time for it.
    pub(super) fn list(&mut self) {
        let Some(reconciler) = self
            .reconciler
            .as_ref()
            .filter(|_| self.listing.is_none() && Instant::now() >= self.list_at)
        else {
            return;
        };
        reconciler.begin();
        let began = self.setup.context.clock.now().0 / 1_000;
        self.listing = Some(Box::pin(
            self.setup
                .bucket
                .clone()
                .list(self.setup.scope.clone(), began),
        ));
    }

    /// Takes in a listing that has ended.
    pub(super) fn listed(&mut self, listed: Result<Listing, String>) -> Result<(), SourceError> {
        self.listing = None;
        let now = Instant::now();
        let (Some(reconciler), Some(every)) = (&self.reconciler, self.setup.reconcile) else {
            return Ok(());
        };
        self.list_at = now + every;
        let compared = listed.and_then(|listing| {
            reconciler
                .compare(listing, self.setup.settle, now)
                .map_err(|AnotherBucket| self.disbelieve())
        });
        match (compared, &self.setup.feed) {
            (Ok(all_settled), _) => {
                if !all_settled {
                    self.list_at = now + every.min(self.setup.settle.max(LISTINGS_APART));
                }
                Ok(())
            }
            (Err(error), Feed::Nothing) => Err(SourceError::Unavailable(error)),
            // Notifications go on meanwhile.
            (Err(error), _) => {
                tracing::warn!(
                    source = %self.setup.context.name, error,
                    "the bucket cannot be listed; what no notification tells is not found"
                );
                self.list_at = now + every.max(LIST_AGAIN);
                Ok(())
            }
        }
    }

    fn disbelieve(&self) -> String {
        format!(
            "the bucket {} is another one than the one that was followed, and holds less than half of its objects; nothing that it lacks is told \
            until that one is back (to follow this one, and have the others told as removed, set replaced: tell)",
            self.setup.scope.bucket
        )
    }

    /// What is ready to be handed over: of notifications and of listings in turn.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        if (self.heard_last || self.heard.is_empty())
            && let Some(batch) = self.found_batch()
        {
            self.heard_last = false;
            return Some(batch);
        }
        if self.heard.is_empty() {
            return None;
        }
        self.heard_last = true;
        let count = self.heard.len().min(BATCH_MESSAGES_MAX);
        Some(Batch {
            messages: self.heard.drain(..count).collect(),
            cursor: None,
        })
    }

    /// What listings found, and rows that are owed.
    fn found_batch(&mut self) -> Option<Batch> {
        let reconciler = self.reconciler.as_ref()?;
        let mut messages = Vec::with_capacity(self.found.len());
        for (mut message, suspect) in self.found.drain(..) {
            // Its notification may have come while it was looked at.
            if reconciler.is_news(&suspect) {
                message.positions.push(reconciler.tell(&suspect));
                messages.push(message);
            }
        }
        let Rows { positions, cursor } = reconciler.rows(!messages.is_empty())?;
        match messages.first_mut() {
            Some(message) => message.positions.extend(positions),
            None => messages.push(Message::position(positions)),
        }
        Some(Batch { messages, cursor })
    }
}
