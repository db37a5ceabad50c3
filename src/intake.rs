//! From a source to the journal: next → match → append → acknowledge.
//!
//! One intake serves one source. A message is told [`Verdict::Stored`] only once everything in it
//! is durable; what a source without callers hands over is held until it is. While an append waits
//! for its sync the next batch is taken, matched and handed over, so that one sync serves many;
//! batches with a cursor go one after the other, because a later cursor vouches for the earlier
//! batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use pointsman_connectors::{
    Acknowledgement, Arrival, Batch, Message, Plain, Source, SourceError, Verdict,
};
use pointsman_schemas::{Cursor, Event, Name, Reject, SubscriptionNumber};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::SourceMetrics;
use pointsman_journal::{
    Append, Appended, DELIVERIES_PER_APPEND_MAX, DeadReason, Entry, Journal, JournalError, NewDead,
};

/// Appends of one source that wait for their sync at the same time. Enough to keep the writer busy,
/// and a bound on what is taken in.
const APPENDS_WAITING_MAX: usize = 16;

/// How long a source that is stopped may take to end what it runs and to have the last of it
/// stored.
const FINISHED_WITHIN: Duration = Duration::from_secs(20);

/// How long a batch with a cursor may still take to be stored once its source is to stop.
const STORED_WITHIN: Duration = Duration::from_secs(2);

/// How long a caller is asked to stay away while the store is full.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(5);

/// First and longest pause between two tries to store what nobody will hand over again.
pub(crate) const STORE_AGAIN: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(5));

/// Decides who waits for an event, by the rules in force.
pub trait Match: Send + Sync {
    /// The event with its deliveries.
    fn entry(&mut self, event: Arc<Event>) -> Entry;

    /// The subscription of the pipe that the source feeds at present, if it feeds one.
    fn pipe(&self) -> Option<SubscriptionNumber>;

    /// Makes an event of what is none, by the source's mapping.
    ///
    /// # Errors
    /// Why it cannot: one line for a person.
    fn map(&mut self, plain: Plain) -> Result<Event, String>;
}

/// One source's way into the journal.
#[derive(Debug)]
pub struct Intake<M> {
    /// Whose events these are.
    pub tenant: Name,
    /// The source's name.
    pub origin: Name,
    /// Where they go.
    pub journal: Arc<dyn Journal>,
    /// Who waits for them.
    pub matcher: M,
    /// Counts.
    pub metrics: SourceMetrics,
}

/// A message on its way to the journal, with what it made.
pub(crate) struct Pending {
    pub(crate) entries: Vec<Entry>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) acknowledgement: Acknowledgement,
}

impl<M: Match> Intake<M> {
    /// Runs the source until it ends or `shutdown` is cancelled, then waits for what has been
    /// handed to the journal.
    ///
    /// # Errors
    /// What the source ended with.
    pub async fn run(
        &mut self,
        source: &mut dyn Source,
        shutdown: &CancellationToken,
    ) -> Result<(), SourceError> {
        let mut appends: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        let ended = loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                Some(()) = appends.next(), if !appends.is_empty() => {}
                batch = source.next(), if appends.len() < APPENDS_WAITING_MAX => match batch {
                    Ok(batch) if batch.cursor.is_some() => {
                        while appends.next().await.is_some() {}
                        for mut store in self.take_in(batch) {
                            let is_stored = tokio::select! {
                                () = &mut store => true,
                                () = shutdown.cancelled() => tokio::time::timeout(STORED_WITHIN, store).await.is_ok(),
                            };
                            // Not stored means that the cursor is not either: the source hands it
                            // over again after the restart. Nothing that comes behind it may be
                            // stored with a later one.
                            if !is_stored {
                                return Ok(());
                            }
                        }
                    }
                    Ok(batch) => appends.extend(self.take_in(batch)),
                    Err(error) => break Err(error),
                },
            }
        };
        while appends.next().await.is_some() {}
        if ended.is_ok()
            && tokio::time::timeout(FINISHED_WITHIN, self.finish(source))
                .await
                .is_err()
        {
            tracing::warn!(source = %self.origin, "the last of what the source had could not be stored in time");
        }
        ended
    }

    /// Takes in what a source that has been stopped still has.
    async fn finish(&mut self, source: &mut dyn Source) {
        while let Some(batch) = source.finish().await {
            for store in self.take_in(batch) {
                store.await;
            }
        }
    }

    /// Matches a batch and hands it to the journal in as few appends as its bounds allow, the
    /// cursor with the last.
    fn take_in(&mut self, batch: Batch) -> Vec<BoxFuture<'static, ()>> {
        let mut appends = Vec::with_capacity(1);
        let mut group = Vec::with_capacity(batch.messages.len());
        let mut deliveries = 0;
        for message in batch.messages {
            let Some(pending) = read(&mut self.matcher, &self.metrics, message) else {
                continue;
            };
            let more: usize = pending
                .entries
                .iter()
                .map(|entry| entry.deliveries.len())
                .sum();
            if deliveries + more > DELIVERIES_PER_APPEND_MAX && !group.is_empty() {
                appends.push(self.store(std::mem::take(&mut group), None));
                deliveries = 0;
            }
            deliveries += more;
            group.push(pending);
        }
        if !group.is_empty() || batch.cursor.is_some() {
            appends.push(self.store(group, batch.cursor));
        }
        appends
    }

    fn store(&self, group: Vec<Pending>, cursor: Option<Cursor>) -> BoxFuture<'static, ()> {
        let store = Store {
            tenant: self.tenant.clone(),
            origin: self.origin.clone(),
            journal: Arc::clone(&self.journal),
            metrics: self.metrics.clone(),
        };
        Box::pin(async move { store.group(group, cursor).await })
    }
}

/// Makes entries of a message; none where it was refused to the caller's face.
pub(crate) fn read(
    matcher: &mut impl Match,
    metrics: &SourceMetrics,
    message: Message,
) -> Option<Pending> {
    let Message {
        arrivals,
        mut rejects,
        acknowledgement,
    } = message;
    let mut entries = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        let event = match arrival {
            Arrival::Event(event) => event,
            Arrival::Plain(plain) => {
                let raw = plain.root.clone();
                match matcher.map(*plain) {
                    Ok(event) => Arc::new(event),
                    Err(reason) => {
                        if let Acknowledgement::Caller(caller, _held) = acknowledgement {
                            metrics.rejects.inc();
                            drop(caller.send(Verdict::Rejected(reason)));
                            return None;
                        }
                        rejects.push(Reject { raw, reason });
                        continue;
                    }
                }
            }
        };
        entries.push(matcher.entry(event));
    }
    Some(Pending {
        entries,
        rejects,
        acknowledgement,
    })
}

/// Stores messages and tells them what became of them.
struct Store {
    tenant: Name,
    origin: Name,
    journal: Arc<dyn Journal>,
    metrics: SourceMetrics,
}

impl Store {
    /// Stores a group in one append. Where that does not fit, each message is tried by itself, so
    /// that one whose subscription is full does not stand in the way of the others.
    async fn group(self, mut group: Vec<Pending>, cursor: Option<Cursor>) {
        // Nobody hands over again what has no caller and no broker behind it: it is held here until
        // it is stored.
        let held = cursor.is_some()
            || group
                .iter()
                .any(|pending| matches!(pending.acknowledgement, Acknowledgement::None));
        if held {
            return self.hold(group, cursor).await;
        }
        match self.append(&mut group, None).await {
            Ok(()) => tell(group, &Verdict::Stored).await,
            Err(JournalError::Backlog(_)) if group.len() > 1 => {
                for pending in group {
                    self.alone(pending).await;
                }
            }
            Err(JournalError::Backlog(number)) => {
                for pending in group {
                    self.refused(pending, number).await;
                }
            }
            Err(error) => {
                let verdict = verdict_of(&error);
                tell(group, &verdict).await;
            }
        }
    }

    async fn alone(&self, pending: Pending) {
        let mut alone = [pending];
        let appended = self.append(&mut alone, None).await;
        let [pending] = alone;
        match appended {
            Err(JournalError::Backlog(number)) => self.refused(pending, number).await,
            appended => {
                pending
                    .acknowledgement
                    .tell(appended.map_or_else(|error| verdict_of(&error), |()| Verdict::Stored))
                    .await
            }
        }
    }

    /// A subscription has no room for a message. What its source would soon drop is a dead letter
    /// of that subscription instead.
    async fn refused(&self, pending: Pending, mut number: SubscriptionNumber) {
        let mut alone = [pending];
        let verdict = loop {
            let [pending] = &mut alone;
            let must_not_wait = pending
                .acknowledgement
                .told_by()
                .is_some_and(|by| by <= tokio::time::Instant::now());
            if !must_not_wait || !bury(&mut pending.entries, number) {
                break verdict_of(&JournalError::Backlog(number));
            }
            match self.append(&mut alone, None).await {
                Ok(()) => break Verdict::Stored,
                Err(JournalError::Backlog(next)) => number = next,
                Err(error) => break verdict_of(&error),
            }
        };
        let [pending] = alone;
        pending.acknowledgement.tell(verdict).await;
    }

    /// Stores a group, however long that takes.
    async fn hold(&self, mut group: Vec<Pending>, cursor: Option<Cursor>) {
        let mut pause = STORE_AGAIN.0;
        while let Err(error) = self.append(&mut group, cursor.clone()).await {
            if error == JournalError::Closed {
                return;
            }
            tracing::warn!(source = %self.origin, %error, "holding what came in until it can be stored");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(STORE_AGAIN.1);
        }
        tell(group, &Verdict::Stored).await;
    }

    async fn append(
        &self,
        group: &mut [Pending],
        cursor: Option<Cursor>,
    ) -> Result<(), JournalError> {
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
        if entries.is_empty() && rejects.is_empty() && cursor.is_none() {
            return Ok(());
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
        };
        let begin = Instant::now();
        let appended = self.journal.append(append).await?;
        let duplicates = appended
            .iter()
            .filter(|one| matches!(one, Appended::Duplicate(_)))
            .count() as u64;
        self.metrics.appended(begin.elapsed());
        self.metrics
            .received
            .inc_by(appended.len() as u64 - duplicates);
        self.metrics.duplicates.inc_by(duplicates);
        self.metrics.unmatched.inc_by(unmatched);
        self.metrics.rejects.inc_by(rejected);
        Ok(())
    }
}

/// Makes dead letters of the deliveries for a subscription that has no room for them. Tells whether
/// there were any.
fn bury(entries: &mut Vec<Entry>, number: SubscriptionNumber) -> bool {
    let mut further = Vec::new();
    let mut found = false;
    for entry in entries.iter_mut() {
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
        };
        found = true;
        // An entry has room for one; deduplication would take the further ones for the first.
        if entry.dead.is_none() {
            entry.dead = Some(dead);
        } else {
            further.push(Entry {
                event: Arc::clone(&entry.event),
                deliveries: Default::default(),
                deduplicate: None,
                dead: Some(dead),
            });
        }
    }
    entries.append(&mut further);
    found
}

async fn tell(group: Vec<Pending>, verdict: &Verdict) {
    let mut under_way = Vec::new();
    for pending in group {
        let is_io = matches!(pending.acknowledgement, Acknowledgement::Io(..));
        let told = pending.acknowledgement.tell(verdict.clone());
        // Callers, most of whom are many, are told without waiting for anything.
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
        JournalError::Full(_) | JournalError::Backlog(_) => Verdict::Later(FULL_RETRY_AFTER),
        _ => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests;
