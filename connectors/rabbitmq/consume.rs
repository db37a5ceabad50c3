//! The source that consumes a queue.

use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions};
use lapin::{Connection, Consumer, Event};
use pointsman_schemas::Reject;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};

use super::connection::answer;
use super::error::BrokerError;
use super::lag::LagProbe;
use super::message::{Decoder, UnackedMessage};
use super::queue_info::{QueueInfo, consumer_timeout};
use super::retries::Retries;
use super::stream::{GapReport, MessageStatus, StreamPosition, StreamProgress, first_offset};
use super::subscription::{Subscription, look};
use crate::files::Files;
use crate::{Acknowledgement, Batch, Link, Message, Source, SourceError};

/// How many messages a batch holds at most.
pub const BATCH_MESSAGES_MAX: usize = 1_000;

/// Past this no further message is put into a batch.
const BATCH_BYTES: usize = 8 << 20;

/// Why a source ends whose settings would now be read otherwise.
const FILES_CHANGED: &str = "the files of its settings have changed; it is opened anew with them";

/// The result of starting or stopping to consume.
enum Switched {
    Started(Result<Consumer, BrokerError>),
    Stopped(Result<(), BrokerError>),
}

/// A source that consumes a queue.
pub(super) struct QueueSource {
    decoder: Decoder,
    subscription: Subscription,
    vhost: String,
    /// None while the source rests: then nothing is sent, and unacknowledged messages stay so.
    consumer: Option<Consumer>,
    /// True once the server has been asked to cancel the consumer: what is on its way still comes.
    is_cancelling: bool,
    switching: Option<BoxFuture<'static, Switched>>,
    events: BoxStream<'static, Event>,
    queue_info: Arc<QueueInfo>,
    progress: StreamProgress,
    /// The offset of a stream's first message is being looked for.
    looking: Option<BoxFuture<'static, Option<u64>>>,
    /// What the connection was made of.
    files: Files,
    lag: LagProbe,
    link: Link,
    /// Messages that could not be stored.
    retries: Retries,
    ended: Option<SourceError>,
    /// True where the server has ended the consumer without saying why.
    is_cancelled: bool,
    /// It closes with its last handle.
    connection: Arc<Connection>,
}

impl QueueSource {
    pub(super) fn new(
        decoder: Decoder,
        connection: Connection,
        (subscription, vhost): (Subscription, String),
        consumer: Consumer,
        queue_info: Arc<QueueInfo>,
        left: Option<StreamPosition>,
        (lag, link): (LagProbe, Link),
    ) -> Self {
        let events = connection.events_listener().boxed();
        let progress = StreamProgress::new(subscription.queue.clone(), left);
        Self {
            decoder,
            subscription,
            vhost,
            consumer: Some(consumer),
            is_cancelling: false,
            switching: None,
            events,
            queue_info,
            progress,
            looking: None,
            files: Files::of([]),
            lag,
            link,
            retries: Retries::new(),
            ended: None,
            is_cancelled: false,
            connection: Arc::new(connection),
        }
    }

    /// Ends once these files have changed, to be opened anew with them.
    pub(super) fn until_changed(self, files: Files) -> Self {
        Self { files, ..self }
    }

    /// The channel that the messages come by.
    #[cfg(test)]
    pub(super) fn channel(&self) -> &lapin::Channel {
        &self.subscription.channel
    }

    /// Takes what the consumer has yielded: a message, an error, or its end.
    fn take(
        &mut self,
        item: Option<lapin::Result<Delivery>>,
        taken: &mut Vec<Arc<UnackedMessage>>,
    ) {
        match item {
            Some(Ok(delivery)) => {
                let held = UnackedMessage::from(delivery);
                // It would be read from wherever it is at each start, and what came meanwhile would
                // be missing.
                if held.incoming.offset().is_some() && self.decoder.stream.is_none() {
                    self.end(
                        "it is a stream; say where to begin, such as `offset: first`".to_owned(),
                    );
                } else if !self.is_stored(&held) {
                    taken.push(Arc::new(held));
                }
            }
            Some(Err(error)) => self.channel_failed(&error),
            // This is what was asked for.
            None if self.is_cancelling => (self.consumer, self.is_cancelling) = (None, false),
            None => self.is_cancelled = true,
        }
    }

    /// Follows the position in a stream. Returns true where the message is not to be handed over.
    fn is_stored(&mut self, held: &UnackedMessage) -> bool {
        match self.progress.observe(&held.incoming) {
            MessageStatus::New => return false,
            MessageStatus::Stored => {}
            MessageStatus::OtherStream(why) => self.ended = Some(SourceError::CursorMismatch(why)),
        }
        // The server has to hear that it was read, or it would count as unacknowledged for good.
        let acker = held.acker.clone();
        self.switching = Some(
            async move {
                Switched::Stopped(
                    answer("cannot acknowledge", acker.ack(BasicAckOptions::default()))
                        .await
                        .map(drop),
                )
            }
            .boxed(),
        );
        true
    }

    /// A stream's first message has been looked at.
    fn found_first(&mut self, first: Option<u64>) {
        self.looking = None;
        let GapReport { skipped, another } = self.progress.found_first(first);
        if let Some((messages, why)) = skipped {
            self.link.skipped(messages, why);
        }
        if let Some(why) = another {
            self.ended = Some(SourceError::CursorMismatch(why));
        }
    }

    fn channel_failed(&mut self, error: &lapin::Error) {
        self.end(match consumer_timeout(error) {
            None => BrokerError::of("the channel has gone", error).message,
            Some(timeout) => {
                let hold = self.queue_info.shorten(timeout);
                format!(
                    "a message was in hand for longer than the server's consumer_timeout of \
                     {timeout:?}, and what was in hand comes again; from now on a pipe holds a \
                     message for {hold:?} at most (set hold to a third of consumer_timeout, or \
                     raise that at the server)"
                )
            }
        });
    }

    fn end(&mut self, why: String) {
        let queue = &self.subscription.queue;
        self.ended.get_or_insert_with(|| {
            SourceError::Unavailable(format!("the queue {queue} is not read any more: {why}"))
        });
    }

    /// Starts or stops to consume, as is wanted. What is begun goes on at the next call.
    fn switch(&mut self, wants_more: bool) {
        if self.switching.is_some() || self.is_cancelling {
            return;
        }
        match &self.consumer {
            None if wants_more => {
                let (subscription, vhost) = (self.subscription.clone(), self.vhost.clone());
                self.switching = Some(
                    async move { Switched::Started(subscription.consume(&vhost).await) }.boxed(),
                );
            }
            // A stream does not count, and is read from where it was left.
            Some(consumer) if !wants_more && self.decoder.stream.is_none() => {
                let (channel, tag) = (self.subscription.channel.clone(), consumer.tag());
                self.is_cancelling = true;
                let cancelling = async move {
                    let cancelled = channel.basic_cancel(tag, BasicCancelOptions::default());
                    Switched::Stopped(answer("cannot cease to read", cancelled).await)
                };
                self.switching = Some(cancelling.boxed());
            }
            _ => {}
        }
    }

    fn switched(&mut self, switched: Switched) {
        self.switching = None;
        match switched {
            Switched::Started(Ok(consumer)) => self.consumer = Some(consumer),
            Switched::Stopped(Ok(())) => {}
            Switched::Started(Err(broken)) | Switched::Stopped(Err(broken)) => {
                self.end(broken.message)
            }
        }
    }

    fn look_for_first(&mut self) {
        let connection = Arc::clone(&self.connection);
        let queue = self.subscription.queue.clone();
        self.progress.begin_look();
        self.looking = Some(async move { first_offset(&connection, queue).await }.boxed());
    }

    /// Notices that the channel has gone while the source rests, when no consumer would.
    fn on_event(&mut self, event: &Event) {
        if let Event::Error(error) = event
            && self.consumer.is_none()
            && !self.subscription.channel.status().connected()
        {
            self.channel_failed(error);
        }
    }

    /// Why the server has ended the consumer, as far as it can be found out.
    async fn why_cancelled(&mut self) -> String {
        match look(&self.connection, &self.subscription.queue).await {
            Err(BrokerError {
                code: Some(404), ..
            }) => "the queue has been deleted".to_owned(),
            Ok(_) => {
                "RabbitMQ has ended the reader and still has the queue: a message was in hand for \
                 longer than the queue's consumer timeout, or the queue's leader has changed"
                    .to_owned()
            }
            Err(_) => "RabbitMQ has ended the reader".to_owned(),
        }
    }

    /// Waits for the first messages of a batch; notes the end in `self`.
    async fn wait(&mut self, wants_more: bool) -> Vec<Arc<UnackedMessage>> {
        let mut taken = Vec::new();
        while taken.is_empty() && self.ended.is_none() && !self.is_cancelled {
            self.switch(wants_more);
            let look_at = self.progress.look_at().filter(|_| self.looking.is_none());
            let Self {
                consumer,
                lag,
                link,
                retries,
                switching,
                looking,
                events,
                files,
                ..
            } = self;
            // Everything here is either taken whole into `self` or `taken`, or not taken: nothing
            // is awaited once `taken` holds some.
            tokio::select! {
                biased;
                () = lag.measure(link) => self.is_cancelled = true,
                () = retries.due() => self.retries.take_due(&mut taken, BATCH_MESSAGES_MAX),
                switched = under_way(switching) => self.switched(switched),
                first = under_way(looking) => self.found_first(first),
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => self.look_for_first(),
                () = files.changed() => self.end(FILES_CHANGED.to_owned()),
                Some(event) = events.next() => self.on_event(&event),
                item = next_of(consumer) => self.take(item, &mut taken),
            }
        }
        taken
    }

    /// The next batch; without `wants_more` only of messages that are here already.
    async fn batch(&mut self, wants_more: bool) -> Result<Batch, SourceError> {
        let mut taken = self.wait(wants_more).await;
        // Without waiting, all that the client library has received.
        let mut bytes: usize = taken.iter().map(|held| held.incoming.body.len()).sum();
        while taken.len() < BATCH_MESSAGES_MAX
            && bytes < BATCH_BYTES
            && self.ended.is_none()
            && !self.is_cancelled
        {
            let before = taken.len();
            let Some(item) = next_of(&mut self.consumer).now_or_never() else {
                break;
            };
            self.take(item, &mut taken);
            bytes += taken.get(before).map_or(0, |held| held.incoming.body.len());
        }
        if self.is_cancelled && self.ended.is_none() && taken.is_empty() {
            let why = self.why_cancelled().await;
            self.end(why);
        }
        if let Some(ended) = self.ended.clone().filter(|_| taken.is_empty()) {
            return Err(ended);
        }
        // They come in the stream's order, but for those that could not be stored before.
        let cursor = self.decoder.stream.and_then(|fingerprint| {
            let last = taken.iter().max_by_key(|held| held.incoming.offset())?;
            StreamPosition::of(&last.incoming).map(|position| position.cursor(fingerprint))
        });
        Ok(Batch {
            messages: taken.into_iter().map(|held| self.message(held)).collect(),
            cursor,
        })
    }

    fn message(&self, held: Arc<UnackedMessage>) -> Message {
        let incoming = &held.incoming;
        let (mut arrivals, mut rejects) = (SmallVec::new(), Vec::new());
        match self.decoder.arrival(&held) {
            Ok(arrival) => arrivals.push(arrival),
            Err(reason) => {
                let reason = format!(
                    "{reason} (exchange {:?}, routing key {:?})",
                    incoming.exchange, incoming.routing_key
                );
                rejects.push(Reject {
                    raw: incoming.body.clone(),
                    reason,
                });
            }
        }
        let give_back = self.retries.sender();
        let hold_until = self
            .queue_info
            .hold_until(incoming, self.decoder.stream.is_some());
        let acknowledgement =
            Acknowledgement::io(
                move |verdict| async move { held.settle(verdict, &give_back).await },
            );
        let acknowledgement = hold_until
            .into_iter()
            .fold(acknowledgement, Acknowledgement::with_deadline);
        Message {
            arrivals,
            rejects,
            acknowledgement,
            positions: Vec::new(),
        }
    }
}

#[async_trait]
impl Source for QueueSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        self.batch(true).await
    }

    /// Cancels the consumer for now and keeps the channel: unacknowledged messages are not
    /// returned, which would count as a delivery of each.
    async fn rest(&mut self) -> Result<Batch, SourceError> {
        self.batch(false).await
    }
}

async fn next_of(consumer: &mut Option<Consumer>) -> Option<lapin::Result<Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => pending().await,
    }
}

async fn under_way<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => pending().await,
    }
}

/// A source whose cursor is of another configuration: it ends at once.
pub(super) struct MismatchedSource(pub(super) String);

#[async_trait]
impl Source for MismatchedSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        Err(SourceError::CursorMismatch(self.0.clone()))
    }
}
