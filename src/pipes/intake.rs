//! From a source to the queue of its pipe, and the acknowledgements back. It stands in for the
//! intake that leads to the journal.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use pointsman_connectors::{Batch, Guarantee, LogLimit, Source, SourceError};
use pointsman_schemas::{Event, SubscriptionNumber, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::queues::{Offered, SourceKey};
use super::writes::{WriteQueue, WriteResult};
use super::{IN_FLIGHT_MAX, Pipes};
use crate::intake::{MessageReader, ReadMessage};
use crate::telemetry::tap::{Glimpse, PassedEvent};
use crate::telemetry::traces::Received;
use pointsman_journal::Journal;

/// How long what has ended may still take to be stored and acknowledged, once the source ends.
const LAST_WITHIN: Duration = Duration::from_secs(5);

/// While ordered deliveries may wait in the journal, it is asked this often whether any still do.
const LOOK_FOR_EARLIER_EVERY: Duration = Duration::from_secs(5);

/// The intake of a pipe's source. Dropping it hands back whatever is not acknowledged.
pub struct PipeIntake {
    reader: MessageReader,
    pipes: Arc<Pipes>,
    guarantee: Guarantee,
    /// Ends the wait for attempts under way.
    abandon: CancellationToken,
    key: SourceKey,
    wake: Arc<Notify>,
    work: Work,
    /// When the journal is asked next whether ordered deliveries wait in it.
    look_for_earlier_at: Instant,
    /// Deliveries that were spilled into the journal.
    spill_log: LogLimit,
}

impl fmt::Debug for PipeIntake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeIntake")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

impl Drop for PipeIntake {
    fn drop(&mut self) {
        self.pipes.change(|queues| queues.leave(self.key));
    }
}

/// The acknowledgements and writes that an intake has under way.
struct Work {
    acknowledgements: FuturesUnordered<BoxFuture<'static, ()>>,
    writes: WriteQueue,
}

/// What an intake has waited for.
enum Step {
    /// There may be something to do.
    Woken,
    /// A message has been acknowledged.
    Acknowledged,
    Stored(WriteResult),
}

impl Work {
    fn is_empty(&self) -> bool {
        self.acknowledgements.is_empty() && self.writes.is_empty()
    }

    /// Waits for the next thing to happen. Safe to cancel.
    async fn step(&mut self, wake: &Notify) -> Step {
        tokio::select! {
            Some(()) = self.acknowledgements.next(), if !self.acknowledgements.is_empty() => Step::Acknowledged,
            stored = self.writes.next() => Step::Stored(stored),
            () = wake.notified() => Step::Woken,
        }
    }
}

impl PipeIntake {
    /// An intake for a source of this guarantee. `abandon` ends the wait for attempts under way
    /// when the source is stopped.
    pub fn new(
        pipes: Arc<Pipes>,
        reader: MessageReader,
        guarantee: Guarantee,
        abandon: CancellationToken,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let (tenant, origin) = (reader.tenant.clone(), reader.origin.clone());
        let key =
            pipes.change(|queues| queues.enter(tenant.clone(), origin.clone(), Arc::clone(&wake)));
        let journal = Arc::clone(&pipes.journal);
        let work = Work {
            acknowledgements: FuturesUnordered::new(),
            writes: WriteQueue::new(journal, tenant, origin),
        };
        let (look_for_earlier_at, spill_log) = (Instant::now(), LogLimit::default());
        Self {
            reader,
            pipes,
            guarantee,
            abandon,
            key,
            wake,
            work,
            look_for_earlier_at,
            spill_log,
        }
    }

    /// Where cursors and dead letters are kept.
    #[must_use]
    pub fn journal(&self) -> &dyn Journal {
        &*self.pipes.journal
    }

    /// Runs the source until it ends or `shutdown` is cancelled. Then nothing more is taken in and
    /// what has no attempt under way goes back to the source; what has one is waited for, until it
    /// is abandoned. The source stays open meanwhile, for its acknowledgements.
    ///
    /// # Errors
    /// What the source ended with. What it had handed over is left alone then: it hands that over
    /// again when it is opened anew, unless its guarantee is [`Guarantee::AtMostOnce`].
    pub async fn run(
        &mut self,
        source: &mut dyn Source,
        shutdown: &CancellationToken,
    ) -> Result<(), SourceError> {
        if let Some(source) = self.pipes.queues().source(self.key) {
            source.begin();
        }
        let wake = Arc::clone(&self.wake);
        self.look_for_earlier_at = Instant::now();
        let ended = loop {
            self.collect_work();
            let pipe = self.reader.pipe();
            let (may_pull, late) = {
                let queues = self.pipes.queues();
                (
                    self.work.acknowledgements.len() < IN_FLIGHT_MAX
                        && queues.may_pull(self.key, pipe),
                    queues.next_late(self.key),
                )
            };
            let pull = async {
                if may_pull {
                    source.next().await
                } else {
                    source.rest().await
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                step = self.work.step(&wake) => self.handle_step(step),
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => self.spill_overdue(),
                batch = pull => match batch {
                    Ok(batch) => {
                        self.look_for_earlier(pipe).await;
                        self.take_in(batch);
                    }
                    Err(error) => break Err(error),
                },
            }
        };
        match (&ended, self.guarantee) {
            (Ok(()), _) => self.drain().await,
            (Err(_), Guarantee::AtLeastOnce) => {
                self.pipes.change(|queues| queues.orphan(self.key));
                for write in self.work.writes.clear() {
                    self.pipes
                        .change(|queues| queues.write_ended(self.key, &write, true));
                }
            }
            (Err(_), Guarantee::AtMostOnce) => {}
        }
        self.finish().await;
        if ended.is_ok() {
            // What comes now finds its pipe closed: a source with a position hands it over again,
            // and the others promise nothing.
            while source.finish().await.is_some() {}
        }
        ended
    }

    fn take_in(&mut self, batch: Batch) {
        let Batch { messages, cursor } = batch;
        let mut offered = Vec::with_capacity(messages.len());
        for message in messages {
            if let Some(read) = self.reader.read(message) {
                offered.push(self.offered(read));
            }
        }
        let (time, now) = (Instant::now(), self.pipes.clock.now());
        self.pipes.change(|queues| {
            queues.offer(self.key, offered, cursor, now);
            // Before any of it is leased.
            queues.spill_overdue(self.key, time, now);
        });
    }

    /// Spills into the journal what may not wait in memory any longer.
    fn spill_overdue(&self) {
        let (time, now) = (Instant::now(), self.pipes.clock.now());
        self.pipes
            .change(|queues| queues.spill_overdue(self.key, time, now));
    }

    /// Finds out now and then whether ordered deliveries still wait in the journal: until then,
    /// later ones go through it too.
    async fn look_for_earlier(&mut self, pipe: Option<SubscriptionNumber>) {
        let Some(number) = pipe
            .filter(|_| Instant::now() >= self.look_for_earlier_at && self.work.writes.is_empty())
        else {
            return;
        };
        let Some(spilled) = self.pipes.queues().may_have_earlier(self.key, number) else {
            return;
        };
        self.look_for_earlier_at = Instant::now() + LOOK_FOR_EARLIER_EVERY;
        // What is only in memory has gone nowhere yet: the journal beneath is asked.
        if let Ok(pending) = self.pipes.journal.reader().pending(number, None, 1).await
            && pending.is_empty()
        {
            self.pipes
                .change(|queues| queues.has_no_earlier(number, spilled));
        }
    }

    fn offered(&self, read: ReadMessage) -> Offered {
        let ReadMessage {
            entries,
            rejects,
            acknowledgement,
            positions,
            asked: _,
            traced,
            arrived: _,
        } = read;
        let (events, unmatched) = (
            entries.len(),
            entries
                .iter()
                .filter(|entry| entry.deliveries.is_empty())
                .count(),
        );
        let deliveries = entries.into_iter().flat_map(|entry| {
            let event = entry.event;
            entry.deliveries.into_iter().map(move |delivery| {
                (
                    Arc::clone(&event),
                    delivery.subscription,
                    delivery.order_key,
                )
            })
        });
        let deliveries: Vec<_> = deliveries.collect();
        // Asked after the match: in the middle of a reload that takes the pipe away, an event that
        // nothing matched must not be acknowledged.
        let pipe = self.reader.pipe();
        if pipe.is_none()
            || deliveries
                .iter()
                .any(|(_, subscription, _)| Some(*subscription) != pipe)
        {
            return Offered {
                acknowledgement,
                deliveries: Vec::new(),
                rejects: Vec::new(),
                positions: Vec::new(),
                goes_back: true,
            };
        }
        self.reader.metrics.received.inc_by(events as u64);
        self.reader.metrics.unmatched.inc_by(unmatched as u64);
        self.tap(&deliveries);
        let received = Received::default();
        for (_, receiving) in traced {
            self.reader.metrics.traces.received(&receiving, received);
        }
        Offered {
            acknowledgement,
            deliveries,
            rejects,
            positions,
            goes_back: false,
        }
    }

    /// Tells whoever listens of what has been taken in.
    fn tap(&self, deliveries: &[(Arc<Event>, SubscriptionNumber, Option<u64>)]) {
        let MessageReader {
            tenant,
            origin,
            metrics,
            ..
        } = &self.reader;
        if !metrics.tap.is_open() {
            return;
        }
        for (event, ..) in deliveries {
            let of = Glimpse {
                tenant,
                origin,
                event,
            };
            metrics.tap.event(of, || PassedEvent {
                at: Timestamp::now(),
                tenant: tenant.clone(),
                origin: origin.clone(),
                sequence: None,
                event: Arc::clone(event),
                is_duplicate: false,
                deliveries: 1,
            });
        }
    }

    /// Starts the acknowledgements and queues the writes that have come up.
    fn collect_work(&mut self) {
        let mut queues = self.pipes.queues();
        let Some(source) = queues.source(self.key) else {
            return;
        };
        for (acknowledgement, verdict) in std::mem::take(&mut source.acknowledgements) {
            self.work
                .acknowledgements
                .push(Box::pin(acknowledgement.send(verdict)));
        }
        self.work.writes.push(
            std::mem::take(&mut source.writes),
            std::mem::take(&mut source.progress),
        );
    }

    fn handle_step(&mut self, step: Step) {
        let mut spilled = 0;
        if let Step::Stored(WriteResult { done, .. }) = step {
            for write in done {
                let is_pending = write.moves_delivery_of.is_some()
                    && write.entries.iter().all(|entry| entry.dead.is_none());
                spilled += u64::from(is_pending);
                // What a target answered is counted where that is read.
                if write.origin == self.reader.origin {
                    self.reader
                        .metrics
                        .rejects
                        .inc_by(write.rejects.len() as u64);
                }
                self.pipes
                    .change(|queues| queues.write_ended(self.key, &write, false));
            }
        }
        if let Some(messages) = self.spill_log.admit(spilled) {
            tracing::warn!(
                source = %self.reader.origin,
                messages,
                "the target of a pipe has not had these messages in time: they wait in the journal \
                 now, and are acknowledged to their source"
            );
        }
    }

    /// Waits for the attempts under way, as long as that makes sense.
    async fn drain(&mut self) {
        loop {
            let under_way = self.pipes.change(|queues| queues.drain(self.key));
            self.collect_work();
            if under_way == 0 {
                return;
            }
            tokio::select! {
                () = self.abandon.cancelled() => break,
                step = self.work.step(&self.wake) => self.handle_step(step),
            }
        }
        self.pipes.change(|queues| queues.forget(self.key));
    }

    /// Stores and acknowledges what has ended.
    async fn finish(&mut self) {
        let until = Instant::now() + LAST_WITHIN;
        loop {
            self.collect_work();
            if self.work.is_empty() {
                return;
            }
            match timeout_at(until, self.work.step(&self.wake)).await {
                Ok(step) => self.handle_step(step),
                Err(_elapsed) => {
                    tracing::warn!(
                        source = %self.reader.origin,
                        "messages of a pipe could not be acknowledged to their source in time; they \
                         come again"
                    );
                    return;
                }
            }
        }
    }
}
