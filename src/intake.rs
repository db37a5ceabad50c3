//! From a source to the journal: next → match → append → acknowledge.
//!
//! One intake serves one source. A message gets the verdict
//! [`Stored`](pointsman_connectors::Verdict::Stored) only once everything in it is durable; what no
//! source hands over again is held until it is. While an append waits for its sync the next batch
//! is taken, matched and handed to the journal, so that one sync serves many. Batches with a cursor
//! go one after the other: a stored cursor says that everything before it is stored too.

mod append;
mod reader;
mod taken;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use pointsman_connectors::{Batch, Source, SourceError};
use pointsman_journal::{DELIVERIES_PER_APPEND_MAX, Journal};
use pointsman_schemas::{Backoff, Cursor};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use self::append::Appender;
pub use self::reader::MessageReader;
pub(crate) use self::reader::ReadMessage;

/// Appends of one source that wait for their sync at the same time. Enough to keep the writer busy,
/// and a bound on what is taken in.
const APPENDS_WAITING_MAX: usize = 16;

/// How long a source that is stopped may take to end what it runs and to have the last of it
/// stored.
const FINISHED_WITHIN: Duration = Duration::from_secs(20);

/// How long a batch with a cursor may still take to be stored once its source is to stop.
const STORED_WITHIN: Duration = Duration::from_secs(2);

/// First and longest pause between two tries to store what nobody will hand over again.
pub(crate) const STORE_AGAIN: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// One source's way into the journal.
#[derive(Debug)]
pub struct Intake {
    reader: MessageReader,
    journal: Arc<dyn Journal>,
    left: CancellationToken,
}

impl Intake {
    /// An intake for what a reader reads.
    #[must_use]
    pub fn new(reader: MessageReader, journal: Arc<dyn Journal>) -> Self {
        Self {
            reader,
            journal,
            left: CancellationToken::new(),
        }
    }

    /// Once this is cancelled another node may read the source: how far it has been read here is
    /// stored no more, where it has not been.
    #[must_use]
    pub fn left_with(self, left: CancellationToken) -> Self {
        Self { left, ..self }
    }

    /// The journal that keeps the source's cursor.
    #[must_use]
    pub fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

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
            // In this order: a source that always has more must not keep the bus from stopping, nor
            // appends that have ended from making room.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                Some(()) = appends.next(), if !appends.is_empty() => {}
                batch = source.next(), if appends.len() < APPENDS_WAITING_MAX => match batch {
                    Ok(batch) if batch.cursor.is_some() => {
                        while appends.next().await.is_some() {}
                        if !self.store_before_next(batch, shutdown).await {
                            return Ok(());
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
            tracing::warn!(
                source = %self.reader.origin,
                "the last of what the source had could not be stored in time"
            );
        }
        ended
    }

    /// Stores a batch with a cursor before the source is asked for the next one. False where the
    /// source is to stop and the batch could not be stored in time: then its cursor is not stored
    /// either and the source hands it over again after the restart, so nothing that comes behind it
    /// may be stored with a later cursor.
    async fn store_before_next(&mut self, batch: Batch, shutdown: &CancellationToken) -> bool {
        for mut store in self.take_in(batch) {
            let is_stored = tokio::select! {
                () = &mut store => true,
                () = shutdown.cancelled() => {
                    tokio::time::timeout(STORED_WITHIN, store).await.is_ok()
                }
            };
            if !is_stored {
                return false;
            }
        }
        true
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
            let Some(read) = self.reader.read(message) else {
                continue;
            };
            let more: usize = read
                .entries
                .iter()
                .map(|entry| entry.deliveries.len())
                .sum();
            if deliveries + more > DELIVERIES_PER_APPEND_MAX && !group.is_empty() {
                appends.push(self.store(std::mem::take(&mut group), None));
                deliveries = 0;
            }
            deliveries += more;
            group.push(read);
        }
        if !group.is_empty() || batch.cursor.is_some() {
            appends.push(self.store(group, batch.cursor));
        }
        appends
    }

    fn store(&self, group: Vec<ReadMessage>, cursor: Option<Cursor>) -> BoxFuture<'static, ()> {
        let store = Appender {
            tenant: self.reader.tenant.clone(),
            origin: self.reader.origin.clone(),
            journal: Arc::clone(&self.journal),
            metrics: self.reader.metrics.clone(),
            router: Arc::clone(self.reader.router()),
            left: self.left.clone(),
        };
        // What the log says of a trace that is recorded names it.
        let trace = group.iter().find_map(ReadMessage::trace_id);
        let span = trace.map_or_else(
            Span::none,
            |trace| tracing::error_span!("intake", trace_id = %trace),
        );
        Box::pin(async move { store.group(group, cursor).await }.instrument(span))
    }
}
