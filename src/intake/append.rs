//! Appends messages to the journal, and acknowledges them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pointsman_connectors::{Acknowledgement, Verdict};
use pointsman_journal::{Append, Appended, DeadReason, Entry, Journal, JournalError, NewDead};
use pointsman_schemas::{Cursor, Name, PositionChange, Reject, SubscriptionNumber, Timestamp};
use tokio_util::sync::CancellationToken;

use super::STORE_AGAIN;
use super::reader::ReadMessage;
use super::taken::{is_taken, tell_taken};
use crate::router::Router;
use crate::telemetry::metrics::SourceMetrics;
use crate::telemetry::tap::{Glimpse, PassedEvent};
use crate::telemetry::traces::Received;

/// How long a caller is asked to stay away while the store is full.
pub(super) const FULL_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Appends the messages of one source and acknowledges them.
pub(super) struct Appender {
    pub(super) tenant: Name,
    pub(super) origin: Name,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) metrics: SourceMetrics,
    /// The rules in force.
    pub(super) router: Arc<ArcSwap<Router>>,
    /// Another node may read the source now.
    pub(super) left: CancellationToken,
}

impl Appender {
    /// Stores a group in one append. Where that does not fit, each message is tried by itself, so
    /// that one whose subscription is full does not stand in the way of the others.
    pub(super) async fn group(self, mut group: Vec<ReadMessage>, cursor: Option<Cursor>) {
        // A source without acknowledgements, or with a cursor that is stored with its events, never
        // hands the same over again: it is held here until it is stored.
        let held = cursor.is_some()
            || group
                .iter()
                .any(|pending| matches!(pending.acknowledgement, Acknowledgement::None));
        if held {
            return self.hold(group, cursor).await;
        }
        match self.append(&mut group, None).await {
            Ok(appended) => self.tell_stored(group, &appended).await,
            // Nothing is stored: only one of them may be in the way of all.
            Err(error) if error.full_subscription().is_some() => {
                if group.len() > 1 {
                    for pending in group {
                        self.alone(pending).await;
                    }
                } else {
                    for pending in group {
                        self.refused(pending, error.clone()).await;
                    }
                }
            }
            Err(error) => {
                self.trace_refused(&mut group, &error);
                let verdict = verdict_of(&error);
                tell(group, &verdict).await;
            }
        }
    }

    async fn alone(&self, pending: ReadMessage) {
        let mut alone = [pending];
        let appended = self.append(&mut alone, None).await;
        let [pending] = alone;
        match appended {
            Ok(appended) => self.tell_stored(vec![pending], &appended).await,
            Err(error) => self.refused(pending, error).await,
        }
    }

    /// A message could not be stored. Its source keeps it and hands it over again. Where it is for
    /// a subscription whose backlog or quota is full, and its source would soon drop it, it is
    /// stored as a dead letter of that subscription.
    async fn refused(&self, pending: ReadMessage, mut error: JournalError) {
        let mut alone = [pending];
        let verdict = loop {
            let [pending] = &mut alone;
            let must_not_wait = pending
                .acknowledgement
                .deadline()
                .is_some_and(|by| by <= tokio::time::Instant::now());
            // The journal names one full subscription at a time. Each round dead-letters what goes
            // to that one, so there are no more rounds than subscriptions.
            let full = error.full_subscription().filter(|_| must_not_wait);
            if !full.is_some_and(|number| dead_letter(&mut pending.entries, number)) {
                self.trace_refused(&mut alone, &error);
                break verdict_of(&error);
            }
            match self.append(&mut alone, None).await {
                Ok(_) => break Verdict::Stored,
                Err(next) => error = next,
            }
        };
        let [pending] = alone;
        pending.acknowledgement.send(verdict).await;
    }

    /// Stores a group, however long that takes.
    async fn hold(&self, mut group: Vec<ReadMessage>, cursor: Option<Cursor>) {
        let mut pause = STORE_AGAIN.initial;
        let has_position =
            cursor.is_some() || group.iter().any(|pending| !pending.positions.is_empty());
        while let Err(error) = self.append(&mut group, cursor.clone()).await {
            // The bus stops: what has not been stored comes again from its source, or was never
            // acknowledged.
            if error == JournalError::Closed {
                return self.trace_refused(&mut group, &error);
            }
            tracing::warn!(
                source = %self.origin, %error,
                "holding what came in until it can be stored"
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The source goes on elsewhere, from what is stored; what is stored of it now would
                // set that back.
                () = self.left.cancelled(), if has_position => {
                    return self.trace_refused(&mut group, &error);
                }
            }
            pause = STORE_AGAIN.longer(pause);
        }
        tell(group, &Verdict::Stored).await;
    }

    async fn append(
        &self,
        group: &mut [ReadMessage],
        cursor: Option<Cursor>,
    ) -> Result<Vec<Appended>, JournalError> {
        let entries: Vec<Entry> = group
            .iter()
            .flat_map(|pending| &pending.entries)
            .cloned()
            .collect();
        let rejects: Vec<Reject> = group
            .iter()
            .flat_map(|pending| &pending.rejects)
            .cloned()
            .collect();
        let positions: Vec<PositionChange> = group
            .iter()
            .flat_map(|pending| &pending.positions)
            .cloned()
            .collect();
        if entries.is_empty() && rejects.is_empty() && positions.is_empty() && cursor.is_none() {
            return Ok(Vec::new());
        }
        let unmatched = entries
            .iter()
            .filter(|entry| entry.deliveries.is_empty())
            .count() as u64;
        let rejected = rejects.len() as u64;
        let append = Append {
            tenant: self.tenant.clone(),
            origin: self.origin.clone(),
            entries,
            rejects,
            cursor,
            positions,
        };
        let (begin, began) = (Instant::now(), Timestamp::now());
        let appended = self.journal.append(append).await?;
        let duplicates = appended
            .iter()
            .filter(|one| matches!(one, Appended::Duplicate(_) | Appended::Taken(_)))
            .count() as u64;
        self.count_left_out(group, &appended);
        self.measure(group, begin);
        self.metrics
            .received
            .inc_by(appended.len() as u64 - duplicates);
        self.metrics.duplicates.inc_by(duplicates);
        self.metrics.unmatched.inc_by(unmatched);
        self.metrics.rejects.inc_by(rejected);
        if self.metrics.tap.is_open() {
            self.tap(group, &appended);
        }
        if group.iter().any(|pending| !pending.traced.is_empty()) {
            self.trace(group, &appended, (began, Timestamp::now()));
        }
        Ok(appended)
    }

    /// Measures an append that began at this time and has just ended.
    fn measure(&self, group: &[ReadMessage], began: Instant) {
        let now = Instant::now();
        let trace = group.iter().find_map(ReadMessage::trace_id);
        self.metrics.appended(now - began, trace);
        for pending in group {
            let took = now - pending.arrived;
            self.metrics.ingested(took, pending.trace_id());
        }
    }

    /// Records what has been stored.
    fn trace(
        &self,
        group: &mut [ReadMessage],
        appended: &[Appended],
        times: (Timestamp, Timestamp),
    ) {
        let mut rest = appended;
        for pending in group {
            let own = rest.get(..pending.entries.len()).unwrap_or(rest);
            rest = rest.get(own.len()..).unwrap_or_default();
            for (place, receiving) in pending.traced.drain(..) {
                let known =
                    |one: &Appended| matches!(one, Appended::Duplicate(_) | Appended::Taken(_));
                let received = Received {
                    appended: Some(times),
                    is_duplicate: own.get(place).is_some_and(known),
                    refused: None,
                };
                self.metrics.traces.received(&receiving, received);
            }
        }
    }

    /// Records what could not be stored and is given back.
    fn trace_refused(&self, group: &mut [ReadMessage], error: &JournalError) {
        if group.iter().all(|pending| pending.traced.is_empty()) {
            return;
        }
        let (why, now) = (error.to_string(), Timestamp::now());
        for (_, receiving) in group.iter_mut().flat_map(|one| one.traced.drain(..)) {
            let received = Received {
                appended: Some((receiving.matched_at(), now)),
                is_duplicate: false,
                refused: Some(&why),
            };
            self.metrics.traces.received(&receiving, received);
        }
    }

    /// Tells whoever listens of what has been stored.
    fn tap(&self, group: &[ReadMessage], appended: &[Appended]) {
        let entries = group.iter().flat_map(|pending| &pending.entries);
        for (entry, appended) in entries.zip(appended) {
            let (sequence, is_duplicate) = match appended {
                Appended::Stored(sequence) | Appended::Reduced(sequence, _) => (sequence, false),
                Appended::Taken(sequence) | Appended::Duplicate(sequence) => (sequence, true),
            };
            let of = Glimpse {
                tenant: &self.tenant,
                origin: &self.origin,
                event: &entry.event,
            };
            self.metrics.tap.event(of, || PassedEvent {
                at: Timestamp::now(),
                tenant: self.tenant.clone(),
                origin: self.origin.clone(),
                sequence: Some(*sequence),
                event: Arc::clone(&entry.event),
                is_duplicate,
                deliveries: entry.deliveries.len(),
            });
        }
    }
}

impl Appender {
    /// Tells each message that it is stored, and those that asked what was made of them.
    async fn tell_stored(&self, group: Vec<ReadMessage>, appended: &[Appended]) {
        if group.iter().all(|pending| pending.asked.is_none()) {
            return tell(group, &Verdict::Stored).await;
        }
        let (mut others, mut taken) = (Vec::with_capacity(group.len()), Vec::new());
        let mut rest = appended;
        for pending in group {
            let own = rest.get(..pending.entries.len()).unwrap_or(rest);
            rest = rest.get(own.len()..).unwrap_or_default();
            match (pending.acknowledgement, pending.asked) {
                (Acknowledgement::Inquiry(inquiry), Some(asked)) if is_taken(own) => {
                    taken.push((inquiry, asked.told(own), pending.entries));
                }
                // A caller who has gone away does not hear it.
                (Acknowledgement::Inquiry(inquiry), Some(asked)) => {
                    drop(inquiry.caller.send(Ok(asked.told(own))));
                }
                (acknowledgement, asked) => others.push(ReadMessage {
                    acknowledgement,
                    asked,
                    ..pending
                }),
            }
        }
        tell(others, &Verdict::Stored).await;
        let (reader, router) = (self.journal.reader(), self.router.load_full());
        for (inquiry, mut made, entries) in taken {
            let told = tell_taken(&mut made, &entries, &self.tenant, &router, &*reader).await;
            if let Err(error) = told {
                tracing::warn!(%error, "cannot look for the tasks of an id that is taken");
            }
            drop(inquiry.caller.send(Ok(made)));
        }
    }

    /// Counts the deliveries that were left out because their key was known.
    fn count_left_out(&self, group: &[ReadMessage], appended: &[Appended]) {
        let entries = group.iter().flat_map(|pending| &pending.entries);
        for (entry, appended) in entries.zip(appended) {
            let Appended::Reduced(_, known) = appended else {
                continue;
            };
            let keys = entry.terms.iter().flat_map(|terms| &terms.keys);
            for (_, key) in keys.enumerate().filter(|(place, _)| known.contains(*place)) {
                self.metrics.left_out.inc();
                self.router
                    .load()
                    .count_duplicate(&self.tenant, &key.guards);
            }
        }
    }
}

/// Makes dead letters of the deliveries for a subscription whose backlog is full. Returns whether
/// there were any.
fn dead_letter(entries: &mut Vec<Entry>, number: SubscriptionNumber) -> bool {
    let mut further = Vec::new();
    let mut found = false;
    for entry in entries.iter_mut() {
        // One dead letter stands for all of an event's deliveries to the subscription.
        let Some(index) = entry
            .deliveries
            .iter()
            .position(|delivery| delivery.subscription == number)
        else {
            continue;
        };
        let order_key = entry.deliveries.remove(index).order_key;
        entry
            .deliveries
            .retain(|delivery| delivery.subscription != number);
        let dead = NewDead {
            subscription: number,
            order_key,
            reason: DeadReason::Backlog,
            attempts: 0,
            last: None,
            edited: None,
        };
        found = true;
        // An entry carries one dead letter. The further ones get entries of their own, which are
        // not deduplicated: they are the same event as the first.
        if entry.dead.is_none() {
            entry.dead = Some(dead);
        } else {
            further.push(Entry {
                event: Arc::clone(&entry.event),
                deliveries: Default::default(),
                deduplicate: None,
                dead: Some(dead),
                terms: None,
            });
        }
    }
    entries.append(&mut further);
    found
}

async fn tell(group: Vec<ReadMessage>, verdict: &Verdict) {
    let mut under_way = Vec::new();
    for pending in group {
        let is_io = matches!(pending.acknowledgement, Acknowledgement::Io(..));
        let told = pending.acknowledgement.send(verdict.clone());
        // A caller's verdict is a channel and takes no time; those that take IO run side by side,
        // so that one slow connection does not hold up the others.
        if is_io {
            under_way.push(told)
        } else {
            told.await
        }
    }
    futures::future::join_all(under_way).await;
}

fn verdict_of(error: &JournalError) -> Verdict {
    match error {
        JournalError::Full(_) | JournalError::Backlog(_) | JournalError::Quota(..) => {
            Verdict::Later(FULL_RETRY_AFTER)
        }
        _ => Verdict::Failed,
    }
}
