//! A queue being read.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel, Connection, Consumer, Event, Queue};
use pointsman_schemas::{Clock, Name, Reject};
use smallvec::SmallVec;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Broken, answer};
use super::known::{Known, consumer_timeout};
use super::mapping::Incoming;
use super::stream::{Mark, Seen, Shown, Track, first_offset};
use crate::files::Files;
use crate::{Acknowledgement, Arrival, Batch, Link, Message, Plain, Source, SourceError, Verdict};

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
pub(super) struct Held {
    pub(super) incoming: Incoming,
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

/// A queue on a channel, and how it is read.
#[derive(Clone)]
pub(super) struct Subscription {
    pub(super) channel: Channel,
    pub(super) queue: ShortString,
    pub(super) arguments: FieldTable,
}

impl Subscription {
    /// Has the queue's messages sent by this channel.
    pub(super) async fn consume(self, vhost: &str) -> Result<Consumer, Broken> {
        let doing = format!("cannot read the queue {} in the vhost {vhost}", self.queue);
        let consumer = self.channel.basic_consume(
            self.queue,
            "".into(),
            BasicConsumeOptions::default(),
            self.arguments,
        );
        answer(&doing, consumer).await
    }
}

/// What came of beginning to read, or of ceasing to.
enum Turned {
    Reads(Result<Consumer, Broken>),
    Rests(Result<(), Broken>),
}

/// What a source holds of its connection.
pub(super) struct Consuming {
    reading: Reading,
    subscription: Subscription,
    vhost: String,
    /// None while the source rests: then nothing is sent, and what is in hand stays so.
    consumer: Option<Consumer>,
    /// True once the server has been asked to send no more: what is on its way still comes.
    ceases: bool,
    turning: Option<BoxFuture<'static, Turned>>,
    events: BoxStream<'static, Event>,
    known: Arc<Known>,
    track: Track,
    /// The offset of a stream's first message is being looked for.
    looking: Option<BoxFuture<'static, Option<u64>>>,
    /// What the connection was made of.
    files: Files,
    lag: Lag,
    link: Link,
    /// What could not be stored comes back here; no more than `prefetch` messages are out.
    give_back: UnboundedSender<Again>,
    given_back: UnboundedReceiver<Again>,
    waiting: BTreeMap<(Instant, u64), Arc<Held>>,
    ended: Option<SourceError>,
    /// True where the server has ended the consumer without saying why.
    is_cancelled: bool,
    /// It closes with its last handle.
    connection: Arc<Connection>,
}

impl Consuming {
    pub(super) fn new(
        reading: Reading,
        connection: Connection,
        (subscription, vhost): (Subscription, String),
        consumer: Consumer,
        known: Arc<Known>,
        left: Option<Mark>,
        (lag, link): (Lag, Link),
    ) -> Self {
        let (give_back, given_back) = unbounded_channel();
        let events = connection.events_listener().boxed();
        let track = Track::new(subscription.queue.clone(), left);
        Self {
            reading,
            subscription,
            vhost,
            consumer: Some(consumer),
            ceases: false,
            turning: None,
            events,
            known,
            track,
            looking: None,
            files: Files::of([]),
            lag,
            link,
            give_back,
            given_back,
            waiting: BTreeMap::new(),
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
    pub(super) fn channel(&self) -> &Channel {
        &self.subscription.channel
    }

    /// Notes what the consumer gave: a message, or that there will be none any more.
    fn take(&mut self, item: Option<lapin::Result<Delivery>>, taken: &mut Vec<Arc<Held>>) {
        match item {
            Some(Ok(delivery)) => {
                let held = Held::from(delivery);
                // It would be read from wherever it is at each start, and what came meanwhile would
                // be missing.
                if held.incoming.offset().is_some() && self.reading.stream.is_none() {
                    self.end(
                        "it is a stream; say where to begin, such as `offset: first`".to_owned(),
                    );
                } else if !self.is_stored(&held) {
                    taken.push(Arc::new(held));
                }
            }
            Some(Err(error)) => self.broken(&error),
            // This is what was asked for.
            None if self.ceases => (self.consumer, self.ceases) = (None, false),
            None => self.is_cancelled = true,
        }
    }

    /// Sees to the place of a message in its stream: true where it is not to be handed over.
    fn is_stored(&mut self, held: &Held) -> bool {
        match self.track.see(&held.incoming) {
            Seen::News => return false,
            Seen::Stored => {}
            Seen::Another(why) => self.ended = Some(SourceError::CursorMismatch(why)),
        }
        // It has to hear that it was read, or it would count as in hand for good.
        let acker = held.acker.clone();
        self.turning = Some(
            async move {
                Turned::Rests(
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
        let Shown { skipped, another } = self.track.found_first(first);
        if let Some((messages, why)) = skipped {
            self.link.skipped(messages, why);
        }
        if let Some(why) = another {
            self.ended = Some(SourceError::CursorMismatch(why));
        }
    }

    fn broken(&mut self, error: &lapin::Error) {
        self.end(match consumer_timeout(error) {
            None => Broken::of("the channel has gone", error).message,
            Some(timeout) => {
                let hold = self.known.shorten(timeout);
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

    /// Begins to read, or ceases to, as is wanted. What is begun goes on at the next call.
    fn turn(&mut self, wants_more: bool) {
        if self.turning.is_some() || self.ceases {
            return;
        }
        match &self.consumer {
            None if wants_more => {
                let (subscription, vhost) = (self.subscription.clone(), self.vhost.clone());
                self.turning =
                    Some(async move { Turned::Reads(subscription.consume(&vhost).await) }.boxed());
            }
            // A stream does not count, and is read from where it was left.
            Some(consumer) if !wants_more && self.reading.stream.is_none() => {
                let (channel, tag) = (self.subscription.channel.clone(), consumer.tag());
                self.ceases = true;
                let ceasing = async move {
                    let cancelled = channel.basic_cancel(tag, BasicCancelOptions::default());
                    Turned::Rests(answer("cannot cease to read", cancelled).await)
                };
                self.turning = Some(ceasing.boxed());
            }
            _ => {}
        }
    }

    fn turned(&mut self, turned: Turned) {
        self.turning = None;
        match turned {
            Turned::Reads(Ok(consumer)) => self.consumer = Some(consumer),
            Turned::Rests(Ok(())) => {}
            Turned::Reads(Err(broken)) | Turned::Rests(Err(broken)) => self.end(broken.message),
        }
    }

    fn look_for_first(&mut self) {
        let connection = Arc::clone(&self.connection);
        let queue = self.subscription.queue.clone();
        self.track.looks();
        self.looking = Some(async move { first_offset(&connection, queue).await }.boxed());
    }

    /// While the source rests, nobody else hears that its channel has gone.
    fn heard(&mut self, event: &Event) {
        if let Event::Error(error) = event
            && self.consumer.is_none()
            && !self.subscription.channel.status().connected()
        {
            self.broken(error);
        }
    }

    /// Why the server has ended the consumer, as far as it can be found out.
    async fn why_cancelled(&mut self) -> String {
        let queue = self.subscription.queue.clone();
        let looking = async {
            let channel = answer("", self.connection.create_channel()).await?;
            answer(
                "",
                channel.queue_declare(
                    queue,
                    QueueDeclareOptions::default().passive(),
                    FieldTable::default(),
                ),
            )
            .await
        };
        match looking.await {
            Err(Broken {
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
    async fn wait(&mut self, wants_more: bool) -> Vec<Arc<Held>> {
        let mut taken = Vec::new();
        while taken.is_empty() && self.ended.is_none() && !self.is_cancelled {
            self.turn(wants_more);
            let look_at = self.track.look_at().filter(|_| self.looking.is_none());
            let Self {
                consumer,
                lag,
                link,
                given_back,
                waiting,
                turning,
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
                Some((due, held)) = given_back.recv() => drop(waiting.insert(due, held)),
                () = first_due(waiting) => self.take_due(&mut taken),
                turned = under_way(turning) => self.turned(turned),
                first = under_way(looking) => self.found_first(first),
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => self.look_for_first(),
                () = files.changed() => self.end("the files of its settings have changed; it is \
                                                  opened anew with them".to_owned()),
                Some(event) = events.next() => self.heard(&event),
                item = next_of(consumer) => self.take(item, &mut taken),
            }
        }
        taken
    }

    /// The next batch, and whether more than what is in hand is wanted.
    async fn batch(&mut self, wants_more: bool) -> Result<Batch, SourceError> {
        let mut taken = self.wait(wants_more).await;
        // Without waiting, all that the client library has in hand.
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
        let cursor = self.reading.stream.and_then(|fingerprint| {
            let last = taken.iter().max_by_key(|held| held.incoming.offset())?;
            Mark::of(&last.incoming).map(|mark| mark.cursor(fingerprint))
        });
        Ok(Batch {
            messages: taken.into_iter().map(|held| self.message(held)).collect(),
            cursor,
        })
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
        let give_back = self.give_back.clone();
        let told_by = self.known.told_by(incoming, self.reading.stream.is_some());
        let acknowledgement =
            Acknowledgement::io(
                move |verdict| async move { held.settle(verdict, &give_back).await },
            );
        let acknowledgement = told_by
            .into_iter()
            .fold(acknowledgement, Acknowledgement::by);
        Message {
            arrivals,
            rejects,
            acknowledgement,
            positions: Vec::new(),
        }
    }
}

#[async_trait]
impl Source for Consuming {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        self.batch(true).await
    }

    /// Has the server send nothing more for now, and keeps the channel: what is in hand is not
    /// given back, which would count against it.
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

/// A source that must not be opened on its cursor.
pub(super) struct Mismatched(pub(super) String);

#[async_trait]
impl Source for Mismatched {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        Err(SourceError::CursorMismatch(self.0.clone()))
    }
}

impl Reading {
    fn arrival(&self, held: &Held) -> Result<Arrival, String> {
        let incoming = &held.incoming;
        if let Some(why) = &incoming.unreadable {
            return Err(why.clone());
        }
        if let Some(event) = incoming.event() {
            return event
                .map(|event| Arrival::Event(Arc::new(event)))
                .map_err(|error| error.to_string());
        }
        let id = || format!("{:032x}-{:x}", self.nonce, held.tag);
        let defaults = incoming
            .plain(&self.name, id, self.clock.now())
            .map_err(|error| error.to_string())?;
        if self.mapped {
            return Ok(Arrival::Plain(Box::new(Plain {
                fields: incoming.fields(),
                defaults,
            })));
        }
        defaults
            .build()
            .map(|event| Arrival::Event(Arc::new(event)))
            .map_err(|error| format!("no event can be made of this: {error}"))
    }
}

impl From<Delivery> for Held {
    fn from(delivery: Delivery) -> Self {
        let Delivery {
            delivery_tag,
            exchange,
            routing_key,
            redelivered,
            properties,
            data,
            acker,
        } = delivery;
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        let incoming = Incoming {
            body: data.into(),
            properties,
            exchange,
            routing_key,
            redelivered,
            unreadable: None,
        };
        Self {
            incoming: incoming.unwrapped(),
            tag: delivery_tag,
            acker,
        }
    }
}

impl Held {
    /// Tells the server, or keeps the message to try it again.
    ///
    /// An acknowledgement goes by the channel that brought the message and by no other: where that
    /// has gone, the message comes again.
    async fn settle(self: Arc<Self>, verdict: Verdict, give_back: &UnboundedSender<Again>) {
        let told = match verdict {
            Verdict::Stored => {
                timeout(
                    ACKNOWLEDGE_TIMEOUT,
                    self.acker.ack(BasicAckOptions::default()),
                )
                .await
            }
            // Not again: the queue's own dead letter exchange may have it.
            Verdict::Rejected(_) => {
                timeout(
                    ACKNOWLEDGE_TIMEOUT,
                    self.acker.nack(BasicNackOptions::default()),
                )
                .await
            }
            Verdict::Later(after) => return self.again(after, give_back),
            Verdict::Failed => return self.again(FAILED_AGAIN, give_back),
        };
        match told {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::debug!(
                tag = self.tag,
                "the channel has gone before the acknowledgement; the message comes again"
            ),
            Ok(Err(error)) => {
                tracing::debug!(
                    tag = self.tag, %error,
                    "cannot acknowledge; the message comes again"
                )
            }
            Err(_) => tracing::debug!(
                tag = self.tag,
                "the acknowledgement is not written; the message may come again"
            ),
        }
    }

    fn again(self: Arc<Self>, after: Duration, give_back: &UnboundedSender<Again>) {
        // Where the source has gone, its connection has, too, and the server hands the message over
        // again.
        let _ = give_back.send(((Instant::now() + after, self.tag), self));
    }
}

async fn first_due(waiting: &BTreeMap<(Instant, u64), Arc<Held>>) {
    match waiting.first_key_value() {
        Some(((due, _), _)) => sleep_until(*due).await,
        None => pending().await,
    }
}

/// Asks now and then how many messages wait, on a channel of its own: a queue that is deleted
/// closes it.
pub(super) struct Lag {
    /// None where the number would say nothing, or the channel has gone.
    channel: Option<Channel>,
    queue: ShortString,
    due: Instant,
    asking: Option<BoxFuture<'static, lapin::Result<Queue>>>,
}

impl Lag {
    pub(super) fn new(channel: Option<Channel>, queue: ShortString) -> Self {
        Self {
            channel,
            queue,
            due: Instant::now(),
            asking: None,
        }
    }

    /// Ends where the queue is gone, which the server may have failed to say. What it has begun
    /// goes on at the next call.
    async fn measure(&mut self, link: &Link) {
        loop {
            let Some(channel) = &self.channel else {
                return pending().await;
            };
            if self.asking.is_none() {
                sleep_until(self.due).await;
                let (channel, queue) = (channel.clone(), self.queue.clone());
                let ask = async move {
                    channel
                        .queue_declare(
                            queue,
                            QueueDeclareOptions::default().passive(),
                            FieldTable::default(),
                        )
                        .await
                };
                self.asking = Some(ask.boxed());
            }
            let Some(asking) = &mut self.asking else {
                continue;
            };
            let answer = asking.await;
            self.asking = None;
            self.due = Instant::now() + LAG_EVERY;
            if answer.is_err() {
                self.channel = None;
            }
            let is_gone = matches!(&answer, Err(error) if Broken::of("", error).code == Some(404));
            link.lag(answer.ok().map(|queue| u64::from(queue.message_count())));
            if is_gone {
                return;
            }
        }
    }
}
