//! Reads from a consumer that is there: requests messages, hands them on, and looks at the consumer
//! beside, until something comes between.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::{self, Context, stream};
use async_nats::{Client, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, pending};
use pointsman_schemas::Cursor;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::consumer::{ConsumerError, ConsumerSpec};
use super::create::ack_wait;
use super::message::Mapper;
use super::outstanding::{Credit, Outstanding, REQUEST_MESSAGES};
use super::progress::{ConsumerOrigin, ConsumerProgress, acknowledged};
use super::pull::{BATCH_MESSAGES_MAX, StreamMonitor};
use super::requests::{Limits, RequestStatus, Requests};
use crate::Message;

/// How often the consumer is looked at: what waits in it, what is acknowledged, whether it is still
/// there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long what is on its way may take to come when nobody wants it any more.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(1);

pub(super) const CLOSED: &str = "the NATS client has broken off; it is opened anew";

const SILENT: &str = "the NATS server does not answer requests for messages; other clients may \
                      have as many open as max_waiting of the consumer allows";

/// Why the puller stopped waiting for messages.
pub(super) enum Interruption {
    /// Nobody takes them any more.
    Dropped,
    /// The consumer is gone.
    Gone,
    /// The connection was lost and is there again.
    Reconnected,
    /// The server does not take requests as the consumer was last seen, or is silent.
    Refused(String),
    /// The server would not go on.
    Stopped(String),
    /// It cannot go on before somebody has changed something.
    Misconfigured(String),
}

impl Interruption {
    /// True where somebody may just be deleting the consumer.
    pub(super) fn may_be_an_end(&self) -> bool {
        matches!(self, Self::Gone | Self::Refused(_))
    }
}

/// Reads from one consumer.
pub(super) struct ConsumerReader {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    /// The message that came last, as `async-nats` reads where it lies in its stream: with a
    /// context, which is not made anew for each.
    latest: jetstream::Message,
    pub(super) spec: ConsumerSpec,
    pub(super) known: ConsumerProgress,
    position: watch::Sender<Option<Cursor>>,
    pub(super) monitor: Arc<StreamMonitor>,
    pub(super) outstanding: Arc<Outstanding>,
    mapper: Mapper,
    pub(super) out: mpsc::Sender<Message>,
    /// True where the server would not take requests, until it is seen to take one.
    pub(super) refused: bool,
}

impl ConsumerReader {
    pub(super) fn new(
        client: Client,
        spec: ConsumerSpec,
        known: ConsumerProgress,
        position: watch::Sender<Option<Cursor>>,
        monitor: Arc<StreamMonitor>,
        mapper: Mapper,
        out: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            jetstream: spec.context(&client),
            latest: jetstream::Message {
                message: nothing(),
                context: spec.context(&client),
            },
            outstanding: Outstanding::new(mapper.name().clone(), client.clone()),
            refused: false,
            client,
            spec,
            known,
            position,
            monitor,
            mapper,
            out,
        }
    }

    /// Asks for messages and hands them on.
    pub(super) async fn read(&mut self, info: &Info) -> Interruption {
        let mut requests = Requests::new(self.client.new_inbox(), Limits::of(&info.config));
        let mut subscriber = match self.client.subscribe(requests.subscription()).await {
            Ok(subscriber) => subscriber,
            Err(error) => return Interruption::Stopped(format!("cannot subscribe: {error}")),
        };
        // A connection that is lost from here on forgets the requests. The first connection is
        // reported late, and is no new one.
        let mut connects = self.monitor.connects.subscribe();
        let connects_before = (*connects.borrow()).max(1);
        let mut looking = self.look();
        loop {
            let barred_until = match self.ask(&mut requests).await {
                Ok(barred_until) => barred_until,
                Err(problem) => return Interruption::Stopped(problem),
            };
            tokio::select! {
                message = subscriber.next() => match message {
                    Some(message) => {
                        if let Err(interruption) = self.received(message, &mut subscriber, &mut requests) {
                            self.drain(&mut subscriber);
                            return interruption;
                        }
                    }
                    None => return Interruption::Misconfigured(CLOSED.to_owned()),
                },
                () = self.outstanding.changed() => {}
                () = until(barred_until) => {}
                () = until(requests.silent_at()) => return Interruption::Refused(SILENT.to_owned()),
                () = passed(&mut connects, connects_before) => {
                    self.drain(&mut subscriber);
                    return Interruption::Reconnected;
                }
                looked = &mut looking => {
                    match looked {
                        Ok(Some((info, stream))) => {
                            let gaps = self.known.gap(&info, &stream, ConsumerOrigin::Found).into_iter().chain(self.known.removed(&info.stream_name));
                            let gaps: Vec<_> = gaps.collect();
                            // Reported once the position that counts it is there to be stored.
                            self.looked_at(&info);
                            self.monitor.skipped(gaps);
                        }
                        // Somebody has deleted it, and perhaps made it again.
                        Ok(None) => return Interruption::Gone,
                        Err(ConsumerError::Misconfigured(problem)) => return Interruption::Misconfigured(problem),
                        // The heartbeats tell whether anything is wrong.
                        Err(ConsumerError::Unavailable(_)) => {}
                    }
                    looking = self.look();
                }
                () = self.out.closed() => {
                    self.give_back(subscriber).await;
                    return Interruption::Dropped;
                }
            }
        }
    }

    /// Takes note of the consumer's state.
    pub(super) fn looked_at(&mut self, info: &Info) {
        self.outstanding.set_ack_wait(ack_wait(info));
        self.known.acknowledged = self.known.acknowledged.max(acknowledged(info));
        self.monitor.link.lag(Some(info.num_pending));
        let cursor = Some(Cursor {
            fingerprint: self.spec.fingerprint(),
            position: self.known.write(),
        });
        self.position.send_if_modified(|stored| {
            let changed = *stored != cursor;
            *stored = cursor;
            changed
        });
    }

    /// Looks at the consumer in a while.
    fn look(&self) -> BoxFuture<'static, Result<Option<(Info, stream::Info)>, ConsumerError>> {
        let (spec, jetstream) = (self.spec.clone(), self.jetstream.clone());
        async move {
            sleep(LOOK_EVERY).await;
            spec.look(&jetstream).await
        }
        .boxed()
    }

    /// Requests as much as there is credit for. Returns when to ask again, where that is known.
    async fn ask(&self, requests: &mut Requests) -> Result<Option<Instant>, String> {
        requests.expire();
        if let Some(until) = requests
            .not_before()
            .filter(|until| Instant::now() < *until)
        {
            return Ok(Some(until));
        }
        while requests.may_ask() {
            let bytes = match self.outstanding.credit(requests.to_come()) {
                Credit::Available { bytes } => bytes,
                Credit::NotBefore(until) => return Ok(Some(until)),
                Credit::Exhausted => return Ok(None),
            };
            let (request, reply) =
                requests.open(REQUEST_MESSAGES, self.outstanding.largest(), bytes);
            let payload = serde_json::to_vec(&request)
                .map_err(|error| format!("cannot ask for messages: {error}"))?;
            let asked = self
                .client
                .publish_with_reply(self.spec.next_subject(), reply, payload.into())
                .await;
            asked.map_err(|error| format!("cannot ask for messages: {error}"))?;
        }
        Ok(None)
    }

    /// Hands on a message, or reads what the server says about a request.
    fn received(
        &mut self,
        message: async_nats::Message,
        from: &mut Subscriber,
        requests: &mut Requests,
    ) -> Result<(), Interruption> {
        let mut next = Some(message);
        // What has come with it is taken along, without all that has to be looked after between two
        // waits.
        for _ in 0..BATCH_MESSAGES_MAX {
            let Some(message) = next.take() else { break };
            if is_stored(&message) {
                requests.arrived(message.length);
                self.accepted();
                self.hand_on(message);
            } else {
                match requests.on_status(&message) {
                    RequestStatus::InspectConsumer(problem) => {
                        return Err(Interruption::Refused(problem));
                    }
                    RequestStatus::Completed => {}
                    RequestStatus::Alive => self.accepted(),
                }
            }
            next = from.next().now_or_never().flatten();
        }
        Ok(())
    }

    /// The server takes requests after all.
    fn accepted(&mut self) {
        if std::mem::take(&mut self.refused) {
            self.monitor.link.up();
        }
    }

    fn hand_on(&mut self, message: async_nats::Message) {
        self.latest.message = message;
        let message = &self.latest;
        // Only what has no such subject at all fails here, and then nobody could acknowledge it.
        let (Ok(info), Some(reply)) = (message.info(), message.reply.clone()) else {
            return;
        };
        self.known.delivered(&info);
        let acknowledgement = self.outstanding.take(reply, message.length, info.delivered);
        let (arrivals, rejects) = self.mapper.read(&message.message, Some(&info));
        // Full or closed: it is dropped without a verdict, and so given back.
        let _ = self.out.try_send(Message {
            arrivals,
            rejects,
            acknowledgement,
            positions: Vec::new(),
        });
    }

    /// Hands on what has come already, before the subscription is given up.
    fn drain(&mut self, subscriber: &mut Subscriber) {
        while let Some(Some(message)) = subscriber.next().now_or_never() {
            self.hand_on_any(message);
        }
    }

    /// Ends the subscription and gives back what is still on its way, which would else come again
    /// only after the server's patience.
    async fn give_back(&mut self, mut subscriber: Subscriber) {
        if subscriber.drain().await.is_ok() {
            let rest = async {
                while let Some(message) = subscriber.next().await {
                    self.hand_on_any(message);
                }
            };
            // What has not come by then comes again by itself.
            let _ = timeout(GIVE_BACK_WITHIN, rest).await;
        }
    }

    /// Hands a message on, and leaves what the server has to say.
    fn hand_on_any(&mut self, message: async_nats::Message) {
        if is_stored(&message) {
            self.hand_on(message);
        }
    }
}

/// No message.
fn nothing() -> async_nats::Message {
    let (subject, payload) = (Subject::from_static(""), Bytes::new());
    async_nats::Message {
        subject,
        reply: None,
        payload,
        headers: None,
        status: None,
        description: None,
        length: 0,
    }
}

/// True for a message of the stream. A publisher may have given it a status of its own: only what
/// can be acknowledged is one.
fn is_stored(message: &async_nats::Message) -> bool {
    message
        .reply
        .as_ref()
        .is_some_and(|reply| reply.starts_with("$JS.ACK."))
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

/// Returns once the count is above that.
async fn passed(counted: &mut watch::Receiver<u64>, count: u64) {
    // Where nobody counts any more nothing will come of waiting.
    if counted.wait_for(|counted| *counted > count).await.is_err() {
        pending().await
    }
}
