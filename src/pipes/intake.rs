//! From a source to the queue of its pipe, and the acknowledgements back: in the place of the
//! intake that leads to the journal.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use pointsman_connectors::{Batch, Guarantee, LogLimit, Source, SourceError};
use pointsman_schemas::SubscriptionNumber;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::closing::{Closings, Stored};
use super::queues::{HoldKey, Offered};
use super::{IN_FLIGHT_MAX, Pipes};
use crate::intake::{MessageReader, ReadMessage};
use pointsman_journal::Journal;

/// How long what has ended may still take to be stored and told, once the source ends.
const LAST_WITHIN: Duration = Duration::from_secs(5);

/// While ordered deliveries may wait in the journal, it is asked this often whether any still do.
const ASK_BEFORE_EVERY: Duration = Duration::from_secs(5);

/// One source's way into its pipe. Dropping it hands back whatever it has in hand.
pub struct PipeIntake {
    reader: MessageReader,
    pipes: Arc<Pipes>,
    guarantee: Guarantee,
    /// Ends the wait for attempts under way.
    abandon: CancellationToken,
    key: HoldKey,
    wake: Arc<Notify>,
    work: Work,
    /// When the journal is asked next whether ordered deliveries wait in it.
    ask_before_at: Instant,
    /// Deliveries that have gone into the journal.
    moved_log: LogLimit,
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

/// What an intake has under way.
struct Work {
    tells: FuturesUnordered<BoxFuture<'static, ()>>,
    closings: Closings,
}

/// What has happened.
enum Step {
    /// There may be something to do.
    Woken,
    /// A source has been told what became of a message.
    Acknowledged,
    Stored(Stored),
}

impl Work {
    fn is_empty(&self) -> bool {
        self.tells.is_empty() && self.closings.is_empty()
    }

    /// Waits for the next thing to happen. Safe to cancel.
    async fn step(&mut self, wake: &Notify) -> Step {
        tokio::select! {
            Some(()) = self.tells.next(), if !self.tells.is_empty() => Step::Acknowledged,
            stored = self.closings.next() => Step::Stored(stored),
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
            tells: FuturesUnordered::new(),
            closings: Closings::new(journal, tenant, origin),
        };
        let (ask_before_at, moved_log) = (Instant::now(), LogLimit::default());
        Self {
            reader,
            pipes,
            guarantee,
            abandon,
            key,
            wake,
            work,
            ask_before_at,
            moved_log,
        }
    }

    /// Where cursors and dead letters are kept.
    #[must_use]
    pub fn journal(&self) -> &dyn Journal {
        &*self.pipes.journal
    }

    /// Runs the source until it ends or `shutdown` is cancelled. Then nothing more is taken in and
    /// what has no attempt under way goes back to the source; what has one is waited for, until it
    /// is abandoned. The source stays open meanwhile, to be told.
    ///
    /// # Errors
    /// What the source ended with. What it had handed over is left alone then: it hands that over
    /// again when it is opened anew, unless its guarantee is [`Guarantee::AtMostOnce`].
    pub async fn run(
        &mut self,
        source: &mut dyn Source,
        shutdown: &CancellationToken,
    ) -> Result<(), SourceError> {
        if let Some(hold) = self.pipes.queues().hold(self.key) {
            hold.begin();
        }
        let wake = Arc::clone(&self.wake);
        self.ask_before_at = Instant::now();
        let ended = loop {
            self.take_up();
            let pipe = self.reader.pipe();
            let (may_pull, late) = {
                let queues = self.pipes.queues();
                (
                    self.work.tells.len() < IN_FLIGHT_MAX && queues.may_pull(self.key, pipe),
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
                step = self.work.step(&wake) => self.stepped(step),
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => self.keep(),
                batch = pull => match batch {
                    Ok(batch) => {
                        self.ask_before(pipe).await;
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
                for closing in self.work.closings.clear() {
                    self.pipes
                        .change(|queues| queues.closed(self.key, &closing, true));
                }
            }
            (Err(_), Guarantee::AtMostOnce) => {}
        }
        self.finish().await;
        if ended.is_ok() {
            // What comes now finds its pipe closed: it is handed over again by who keeps a
            // position, and the others promise nothing.
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
            queues.keep(self.key, time, now);
        });
    }

    /// Sends into the journal what may not wait in memory any longer.
    fn keep(&self) {
        let (time, now) = (Instant::now(), self.pipes.clock.now());
        self.pipes.change(|queues| queues.keep(self.key, time, now));
    }

    /// Finds out now and then whether ordered deliveries still wait in the journal: until then,
    /// later ones go through it too.
    async fn ask_before(&mut self, pipe: Option<SubscriptionNumber>) {
        let Some(number) =
            pipe.filter(|_| Instant::now() >= self.ask_before_at && self.work.closings.is_empty())
        else {
            return;
        };
        let Some(kept) = self.pipes.queues().may_have_before(self.key, number) else {
            return;
        };
        self.ask_before_at = Instant::now() + ASK_BEFORE_EVERY;
        // What is only in memory has gone nowhere yet: the journal beneath is asked.
        if let Ok(pending) = self.pipes.journal.reader().pending(number, None, 1).await
            && pending.is_empty()
        {
            self.pipes
                .change(|queues| queues.has_nothing_before(number, kept));
        }
    }

    fn offered(&self, read: ReadMessage) -> Offered {
        let ReadMessage {
            entries,
            rejects,
            acknowledgement,
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
                goes_back: true,
            };
        }
        self.reader.metrics.received.inc_by(events as u64);
        self.reader.metrics.unmatched.inc_by(unmatched as u64);
        Offered {
            acknowledgement,
            deliveries,
            rejects,
            goes_back: false,
        }
    }

    /// Takes up what has to be told and stored by now.
    fn take_up(&mut self) {
        let mut queues = self.pipes.queues();
        let Some(hold) = queues.hold(self.key) else {
            return;
        };
        for (acknowledgement, verdict) in std::mem::take(&mut hold.tells) {
            self.work
                .tells
                .push(Box::pin(acknowledgement.tell(verdict)));
        }
        self.work
            .closings
            .push(std::mem::take(&mut hold.closings), hold.cursor.take());
    }

    fn stepped(&mut self, step: Step) {
        let mut moved = 0;
        if let Step::Stored(Stored { done, .. }) = step {
            for closing in done {
                let is_pending = closing.buries.is_some()
                    && closing.entries.iter().all(|entry| entry.dead.is_none());
                moved += u64::from(is_pending);
                // What a target answered is counted where that is read.
                if closing.origin == self.reader.origin {
                    self.reader
                        .metrics
                        .rejects
                        .inc_by(closing.rejects.len() as u64);
                }
                self.pipes
                    .change(|queues| queues.closed(self.key, &closing, false));
            }
        }
        if let Some(messages) = self.moved_log.admit(moved) {
            tracing::warn!(
                source = %self.reader.origin,
                messages,
                "the target of a pipe has not had these messages in time: they wait in the journal \
                 now, and their source has been told"
            );
        }
    }

    /// Waits for the attempts under way, as long as that makes sense.
    async fn drain(&mut self) {
        loop {
            let under_way = self.pipes.change(|queues| queues.drain(self.key));
            self.take_up();
            if under_way == 0 {
                return;
            }
            tokio::select! {
                () = self.abandon.cancelled() => break,
                step = self.work.step(&self.wake) => self.stepped(step),
            }
        }
        self.pipes.change(|queues| queues.forget(self.key));
    }

    /// Stores and tells what has ended.
    async fn finish(&mut self) {
        let until = Instant::now() + LAST_WITHIN;
        loop {
            self.take_up();
            if self.work.is_empty() {
                return;
            }
            match timeout_at(until, self.work.step(&self.wake)).await {
                Ok(step) => self.stepped(step),
                Err(_elapsed) => {
                    tracing::warn!(
                        source = %self.reader.origin,
                        "what a pipe has done could not be told to its source in time; it comes \
                         again"
                    );
                    return;
                }
            }
        }
    }
}
