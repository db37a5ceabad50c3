//! A queue being read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel, Connection, Consumer, Queue};
use pointsman_schemas::{Clock, Cursor, Name};
use smallvec::SmallVec;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Broken;
use super::mapping::Incoming;
use crate::{Acknowledgement, Arrival, Batch, Link, Message, Plain, Reject, Source, SourceError, Verdict};

/// How many messages a batch holds at most.
pub const BATCH_MESSAGES_MAX: usize = 1_000;

/// Past this no further message is put into a batch.
const BATCH_BYTES: usize = 8 << 20;

/// How long a message rests that could not be stored.
const FAILED_AGAIN: Duration = Duration::from_secs(1);

/// How long the client library may take to write an acknowledgement.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the server is asked how many messages wait.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// A message in our hands: the server keeps it until it is acknowledged.
struct Held {
    incoming: Incoming,
    tag: u64,
    acker: Acker,
}

/// A message that is to be tried again, by when and tag.
type Again = ((Instant, u64), Arc<Held>);

/// What makes events of messages.
pub(super) struct Reading {
    pub(super) name: Name,
    pub(super) mapped: bool,
    pub(super) clock: Arc<dyn Clock>,
    /// The fingerprint of its cursor, where the queue is a stream.
    pub(super) stream: Option<u64>,
    /// Differs from one connection to the next; with a tag it makes an id.
    pub(super) nonce: u128,
}

/// What a source holds of its connection.
pub(super) struct Consuming {
    reading: Reading,
    consumer: Consumer,
    lag: Lag,
    link: Link,
    /// What could not be stored comes back here; no more than `prefetch` messages are out.
    give_back: UnboundedSender<Again>,
    given_back: UnboundedReceiver<Again>,
    waiting: BTreeMap<(Instant, u64), Arc<Held>>,
    ended: Option<SourceError>,
    /// Both close with their last handle.
    _open: (Connection, Channel),
}

impl Consuming {
    pub(super) fn new(reading: Reading, open: (Connection, Channel), consumer: Consumer, lag: Lag, link: Link) -> Self {
        let (give_back, given_back) = unbounded_channel();
        let waiting = BTreeMap::new();
        Self { reading, consumer, lag, link, give_back, given_back, waiting, ended: None, _open: open }
    }

    /// The channel that the messages come by.
    #[cfg(test)]
    pub(super) fn channel(&self) -> &Channel {
        &self._open.1
    }

    /// Notes what the consumer gave: a message, or that there will be none any more.
    fn take(&mut self, item: Option<lapin::Result<Delivery>>, taken: &mut Vec<Arc<Held>>) {
        match item {
            Some(Ok(delivery)) => {
                let held = Held::from(delivery);
                // It would be read from wherever it is at each start, and what came meanwhile would be missing.
                if held.incoming.offset().is_some() && self.reading.stream.is_none() {
                    self.end("it is a stream; say where to begin, such as `offset: first`".to_owned());
                } else {
                    taken.push(Arc::new(held));
                }
            }
            Some(Err(error)) => self.end(Broken::of("the channel has gone", &error).message),
            None => self.end("RabbitMQ has ended it; has the queue been deleted?".to_owned()),
        }
    }

    fn end(&mut self, why: String) {
        let queue = self.consumer.queue();
        self.ended.get_or_insert_with(|| SourceError::Unavailable(format!("the queue {queue} is not read any more: {why}")));
    }

    /// Waits for the first messages of a batch; notes the end in `self`.
    async fn wait(&mut self) -> Vec<Arc<Held>> {
        let mut taken = Vec::new();
        while taken.is_empty() && self.ended.is_none() {
            let Self { consumer, lag, link, given_back, waiting, .. } = self;
            // Everything here is either taken whole into `self` or `taken`, or not taken: nothing is awaited once `taken` holds some.
            tokio::select! {
                biased;
                never = lag.measure(link) => match never {},
                Some((due, held)) = given_back.recv() => drop(waiting.insert(due, held)),
                () = first_due(waiting) => self.take_due(&mut taken),
                item = consumer.next() => self.take(item, &mut taken),
            }
        }
        taken
    }

    fn take_due(&mut self, taken: &mut Vec<Arc<Held>>) {
        let now = Instant::now();
        while taken.len() < BATCH_MESSAGES_MAX
            && let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let held = first.remove();
            // Where the channel has gone, the server hands it over by itself.
            if held.acker.usable() {
                taken.push(held);
            }
        }
    }

    fn message(&self, held: Arc<Held>) -> Message {
        let incoming = &held.incoming;
        let (mut arrivals, mut rejects) = (SmallVec::new(), Vec::new());
        match self.reading.arrival(&held) {
            Ok(arrival) => arrivals.push(arrival),
            Err(reason) => {
                let reason = format!("{reason} (exchange {:?}, routing key {:?})", incoming.exchange, incoming.routing_key);
                rejects.push(Reject { raw: incoming.body.clone(), reason });
            }
        }
        let give_back = self.give_back.clone();
        let acknowledgement = Acknowledgement::io(move |verdict| async move { held.settle(verdict, &give_back).await });
        Message { arrivals, rejects, acknowledgement }
    }
}

#[async_trait]
impl Source for Consuming {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let mut taken = self.wait().await;
        // Without waiting, all that the client library has in hand.
        let mut bytes: usize = taken.iter().map(|held| held.incoming.body.len()).sum();
        while taken.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES && self.ended.is_none() {
            let before = taken.len();
            let Some(item) = self.consumer.next().now_or_never() else { break };
            self.take(item, &mut taken);
            bytes += taken.get(before).map_or(0, |held| held.incoming.body.len());
        }
        if let Some(ended) = self.ended.clone().filter(|_| taken.is_empty()) {
            return Err(ended);
        }
        let offset = taken.iter().filter_map(|held| held.incoming.offset()).max();
        let cursor = self.reading.stream.zip(offset).map(|(fingerprint, offset)| cursor(fingerprint, offset));
        Ok(Batch { messages: taken.into_iter().map(|held| self.message(held)).collect(), cursor })
    }
}

/// A source that must not be opened on its cursor.
pub(super) struct Mismatched(pub(super) String);

#[async_trait]
impl Source for Mismatched {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        Err(SourceError::CursorMismatch(self.0.clone()))
    }
}

fn cursor(fingerprint: u64, offset: u64) -> Cursor {
    Cursor { fingerprint, position: Bytes::copy_from_slice(&offset.to_be_bytes()) }
}

/// The offset of the last message that was stored.
pub(super) fn position(cursor: &Cursor, fingerprint: u64) -> Result<u64, String> {
    if cursor.fingerprint != fingerprint {
        return Err("what was read so far was another stream: name it as before, or give this source a new name".into());
    }
    let position = cursor.position.as_ref().try_into().map(u64::from_be_bytes);
    position.map_err(|_| "the stored position in the stream is damaged; give this source a new name to begin anew".into())
}

impl Reading {
    fn arrival(&self, held: &Held) -> Result<Arrival, String> {
        let incoming = &held.incoming;
        if let Some(event) = incoming.event() {
            return event.map(|event| Arrival::Event(Arc::new(event))).map_err(|error| error.to_string());
        }
        let id = || format!("{:032x}-{:x}", self.nonce, held.tag);
        let defaults = incoming.plain(&self.name, id, self.clock.now()).map_err(|error| error.to_string())?;
        if self.mapped {
            return Ok(Arrival::Plain(Box::new(Plain { root: incoming.root(), defaults })));
        }
        defaults.build().map(|event| Arrival::Event(Arc::new(event))).map_err(|error| format!("no event can be made of this: {error}"))
    }
}

impl From<Delivery> for Held {
    fn from(delivery: Delivery) -> Self {
        let Delivery { delivery_tag, exchange, routing_key, redelivered, properties, data, acker } = delivery;
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        Self { incoming: Incoming { body: data.into(), properties, exchange, routing_key, redelivered }, tag: delivery_tag, acker }
    }
}

impl Held {
    /// Tells the server, or keeps the message to try it again.
    ///
    /// An acknowledgement goes by the channel that brought the message and by no other: where that has gone, the message comes again.
    async fn settle(self: Arc<Self>, verdict: Verdict, give_back: &UnboundedSender<Again>) {
        let told = match verdict {
            Verdict::Stored => timeout(ACKNOWLEDGE_TIMEOUT, self.acker.ack(BasicAckOptions::default())).await,
            // Not again: the queue's own dead letter exchange may have it.
            Verdict::Rejected(_) => timeout(ACKNOWLEDGE_TIMEOUT, self.acker.nack(BasicNackOptions::default())).await,
            Verdict::Later(after) => return self.again(after, give_back),
            Verdict::Failed => return self.again(FAILED_AGAIN, give_back),
        };
        match told {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::debug!(tag = self.tag, "the channel has gone before the acknowledgement; the message comes again"),
            Ok(Err(error)) => tracing::debug!(tag = self.tag, %error, "cannot acknowledge; the message comes again"),
            Err(_) => tracing::debug!(tag = self.tag, "the acknowledgement is not written; the message may come again"),
        }
    }

    fn again(self: Arc<Self>, after: Duration, give_back: &UnboundedSender<Again>) {
        // Where the source has gone, its connection has, too, and the server hands the message over again.
        let _ = give_back.send(((Instant::now() + after, self.tag), self));
    }
}

async fn first_due(waiting: &BTreeMap<(Instant, u64), Arc<Held>>) {
    match waiting.first_key_value() {
        Some(((due, _), _)) => sleep_until(*due).await,
        None => pending().await,
    }
}

/// Asks now and then how many messages wait, on a channel of its own: a queue that is deleted closes it.
pub(super) struct Lag {
    /// None where the number would say nothing, or the channel has gone.
    channel: Option<Channel>,
    queue: ShortString,
    due: Instant,
    asking: Option<BoxFuture<'static, lapin::Result<Queue>>>,
}

impl Lag {
    pub(super) fn new(channel: Option<Channel>, queue: ShortString) -> Self {
        Self { channel, queue, due: Instant::now(), asking: None }
    }

    /// Never ends. What it has begun goes on at the next call.
    async fn measure(&mut self, link: &Link) -> Infallible {
        loop {
            let Some(channel) = &self.channel else { return pending().await };
            if self.asking.is_none() {
                sleep_until(self.due).await;
                let (channel, queue) = (channel.clone(), self.queue.clone());
                let ask =
                    async move { channel.queue_declare(queue, QueueDeclareOptions::default().passive(), FieldTable::default()).await };
                self.asking = Some(ask.boxed());
            }
            let Some(asking) = &mut self.asking else { continue };
            let answer = asking.await;
            self.asking = None;
            self.due = Instant::now() + LAG_EVERY;
            if answer.is_err() {
                self.channel = None;
            }
            link.lag(answer.ok().map(|queue| u64::from(queue.message_count())));
        }
    }
}
