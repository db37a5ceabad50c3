//! Asking for messages.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::held::{Bounds, Held};
use super::keeper::Keeper;
use super::queue::{Answer, Queue};
use super::settling::{Order, Settlement};
use super::watch::watch;
use crate::{Acknowledgement, Link, SourceError, Verdict};

/// By how much longer than it waits for messages a call may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// When what failed to be stored comes again.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// The shortest time after which a message comes again: queues count in seconds, and zero would
/// hand it out at once.
const LATER_PAUSE_MIN: Duration = Duration::from_secs(1);

/// By when a message should be acknowledged: SQS hands it to another 12 hours after it was taken,
/// however often it is extended, and others have no such bound.
const HELD_MAX: Duration = Duration::from_secs(11 * 60 * 60);

/// What came, not yet read.
#[derive(Debug)]
pub(crate) struct Received<M> {
    pub(crate) message: M,
    pub(crate) acknowledgement: Acknowledgement,
}

/// What a call for messages brought, and when it was made.
type Call<M> = BoxFuture<'static, (Instant, Answer<Vec<M>>)>;

/// A queue that is being read.
pub(crate) struct Reading<Q: Queue> {
    queue: Q,
    held: Arc<Held>,
    orders: UnboundedSender<Order>,
    bounds: Bounds,
    /// How long a call waits where nothing is there.
    wait: Duration,
    calls: FuturesUnordered<Call<Q::Message>>,
    calls_wanted: usize,
    /// When the last call was made that came back empty.
    emptied: Option<Instant>,
    /// A call has failed: it is told once what the others bring has been handed over.
    failed: Option<SourceError>,
    _watch: AbortOnDropHandle<()>,
}

impl<Q: Queue> Reading<Q> {
    /// Begins to read; a call waits so long where nothing is there.
    pub(crate) fn begin(queue: Q, wait: Duration, bounds: Bounds, link: Link) -> Self {
        let calls_wanted = queue.receives_min();
        let held = Arc::new(Held::default());
        let (orders, ordered) = unbounded_channel();
        let keeper = Keeper {
            queue: queue.clone(),
            held: Arc::clone(&held),
        };
        // Ends by itself, with the last message in hand.
        tokio::spawn(keeper.run(ordered));
        let watch = tokio::spawn(watch(queue.clone(), link));
        Self {
            queue,
            held,
            orders,
            bounds,
            wait,
            calls: FuturesUnordered::new(),
            calls_wanted,
            emptied: None,
            failed: None,
            _watch: AbortOnDropHandle::new(watch),
        }
    }

    fn call(&self) -> Call<Q::Message> {
        let asked = Instant::now();
        let (queue, wait) = (self.queue.clone(), self.wait);
        Box::pin(async move {
            let told = match timeout(wait + ANSWER_WITHIN, queue.receive(wait)).await {
                Ok(told) => told,
                Err(_elapsed) => Err("no answer in time".to_owned()),
            };
            (asked, told)
        })
    }

    /// What came: at least one message, and at most so many. Safe to cancel: calls under way go on at
    /// the next call of this.
    pub(crate) async fn next(
        &mut self,
        count: usize,
    ) -> Result<Vec<Received<Q::Message>>, SourceError> {
        loop {
            self.ask();
            if self.calls.is_empty() {
                match self.failed.take() {
                    Some(failed) => return Err(failed),
                    None => self.held.freed().await,
                }
                continue;
            }
            let Some(told) = self.calls.next().await else {
                continue;
            };
            let mut received = self.take(told);
            // What has come as well goes along.
            while received.len() + Q::CALL_MESSAGES_MAX <= count
                && let Some(Some(told)) = self.calls.next().now_or_never()
            {
                received.extend(self.take(told));
            }
            if !received.is_empty() {
                return Ok(received);
            }
        }
    }

    /// When the last call was made that came back empty.
    #[cfg_attr(
        not(feature = "object-storage"),
        expect(dead_code, reason = "only buckets are listed against it")
    )]
    pub(crate) fn emptied(&self) -> Option<Instant> {
        self.emptied
    }

    /// Makes the calls that there is use and room for.
    fn ask(&mut self) {
        while self.failed.is_none()
            && self.calls.len() < self.calls_wanted
            && self
                .held
                .has_room((self.calls.len() + 1) * Q::CALL_MESSAGES_MAX, self.bounds)
        {
            self.calls.push(self.call());
        }
    }

    fn take(
        &mut self,
        (asked, told): (Instant, Answer<Vec<Q::Message>>),
    ) -> Vec<Received<Q::Message>> {
        let messages = match told {
            Ok(messages) => messages,
            Err(error) => {
                self.failed = Some(SourceError::Unavailable(format!(
                    "cannot receive from the {} {}: {error}",
                    Q::KIND,
                    self.queue.name()
                )));
                return Vec::new();
            }
        };
        let least = self.queue.receives_min();
        // As long as they come back full there is more.
        self.calls_wanted = match messages.len() {
            0 => least,
            count if count >= Q::CALL_MESSAGES_MAX => {
                (self.calls_wanted + 1).clamp(least, Q::RECEIVES_MAX.max(least))
            }
            _ => self.calls_wanted.max(least),
        };
        if messages.is_empty() {
            self.emptied = Some(asked);
        }
        let received = messages.into_iter().filter_map(|message| {
            let receipt = Q::receipt(&message)?;
            let lease = self.held.take(receipt, Q::size(&message), &self.orders);
            let settle = move |verdict| lease.settle(settlement(&verdict));
            Some(Received {
                message,
                acknowledgement: Acknowledgement::io(settle).with_deadline(asked + HELD_MAX),
            })
        });
        received.collect()
    }
}

fn settlement(verdict: &Verdict) -> Settlement {
    match verdict {
        Verdict::Stored | Verdict::Rejected { .. } => Settlement::Delete,
        Verdict::Later(pause) => Settlement::Hide((*pause).max(LATER_PAUSE_MIN)),
        Verdict::Failed => Settlement::Hide(FAILED_PAUSE),
    }
}
