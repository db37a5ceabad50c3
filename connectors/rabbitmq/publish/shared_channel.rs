//! A channel that many attempts share, with as many confirmations outstanding as there are
//! attempts.
//!
//! RabbitMQ confirms what comes by one channel in batches, and a channel is a process of its own
//! there: a message costs far less than on a channel that waits for it alone.
//!
//! The client library hands a returned message over with the confirmation that it completes next,
//! whichever message that is of. The server returns a message before it confirms it. So where all
//! confirmations have been looked at that were complete when a message's own was, its return is
//! among them, or there is none. All are awaited by one task, which also keeps the tags in the
//! order of the frames.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::channel::oneshot;
use futures::future::{BoxFuture, Either, FutureExt, poll_fn, select};
use futures::stream::{FuturesUnordered, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use pointsman_schemas::{DeliveryId, Outcome};
use tokio::sync::mpsc;

use super::{NOT_TAKEN, Publication, confirmed, task, unroutable};
use crate::rabbitmq::error::BrokerError;

/// Publications that are taken over at once.
const TAKEN_AT_ONCE: usize = 64;

/// What became of a publication.
pub(super) enum Published {
    Settled(Outcome),
    /// The channel has gone, with all that was on its way there.
    ChannelGone(BrokerError),
}

/// A handle to the channel. With the last of them the channel ends, once it has settled what it
/// has.
pub(super) struct SharedChannel {
    // Holds no more than there are attempts: each waits for its answer.
    publications: mpsc::UnboundedSender<Ordered>,
}

/// A publication and who waits for it. Whoever drops the receiver waits no more.
struct Ordered {
    publication: Publication,
    answer: oneshot::Sender<Published>,
}

impl SharedChannel {
    /// Shares a channel on which confirmations are on.
    pub(super) fn share(channel: Channel, options: BasicPublishOptions) -> Self {
        let (publications, ordered) = mpsc::unbounded_channel();
        let mut publishing = Publishing {
            channel: Arc::new(channel),
            options,
            ordered,
            taken: Vec::new(),
            in_flight: FuturesUnordered::new(),
            returned: Vec::new(),
            gives_way: false,
            yielded: Arc::default(),
        };
        // It ends with the handles, and with the channel.
        tokio::spawn(async move { poll_fn(|context| publishing.poll(context)).await });
        Self { publications }
    }

    /// Publishes; the answer is cancelled where the channel has gone before it was taken over.
    pub(super) fn publish(&self, publication: Publication) -> oneshot::Receiver<Published> {
        let (answer, published) = oneshot::channel();
        // Where the channel has gone the sender is dropped here.
        let _ = self.publications.send(Ordered {
            publication,
            answer,
        });
        published
    }

    /// False once the channel has gone.
    pub(super) fn is_open(&self) -> bool {
        !self.publications.is_closed()
    }
}

/// A message that was handed to the client library, or taken by the server.
struct Sent {
    id: DeliveryId,
    attempt: u32,
    routing_key: ShortString,
    answer: oneshot::Sender<Published>,
}

impl Sent {
    fn is(&self, message: &BasicReturnMessage) -> bool {
        message.delivery.routing_key == self.routing_key
            && task(message).is_some_and(|(task, attempt)| {
                attempt == self.attempt && task == self.id.to_string()
            })
    }
}

/// A message that is confirmed or lost. None where nobody waits for it any more.
type Completed = Option<(Sent, lapin::Result<Confirmation>)>;

/// Notes that the future that is polled wants to be polled again.
#[derive(Default)]
struct Yielded(AtomicBool);

impl Wake for Yielded {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

struct Publishing {
    channel: Arc<Channel>,
    options: BasicPublishOptions,
    ordered: mpsc::UnboundedReceiver<Ordered>,
    taken: Vec<Ordered>,
    in_flight: FuturesUnordered<BoxFuture<'static, Completed>>,
    /// Messages that came back and are not confirmed yet.
    returned: Vec<BasicReturnMessage>,
    /// True until it is polled again, where it has left publications for that.
    gives_way: bool,
    yielded: Arc<Yielded>,
}

impl Publishing {
    /// Ready once the channel has gone, or nobody publishes any more, and all is settled.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Attempts begin in bursts, and the first of them has this woken before the others have had
        // their turn. So they go first, and all of the burst is written at once.
        self.gives_way = !self.ordered.is_empty() && !self.gives_way;
        if self.gives_way {
            context.waker().wake_by_ref();
        }
        while !self.gives_way
            && let Poll::Ready(1..) =
                self.ordered
                    .poll_recv_many(context, &mut self.taken, TAKEN_AT_ONCE)
        {
            for ordered in self.taken.drain(..) {
                let publishing = publish(Arc::clone(&self.channel), self.options, ordered);
                self.in_flight.push(publishing.boxed());
            }
        }
        let mut next = None;
        loop {
            let complete = self.complete(next);
            self.settle(complete);
            match self.in_flight.poll_next_unpin(context) {
                Poll::Ready(Some(completed)) => next = Some(completed),
                // Seen now, since the channel may have gone just before.
                Poll::Ready(None) if self.ordered.is_closed() && self.ordered.is_empty() => {
                    return Poll::Ready(());
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes every message that is complete, without exception.
    fn complete(&mut self, first: Option<Completed>) -> Vec<(Sent, lapin::Result<Confirmation>)> {
        let mut complete: Vec<_> = first.flatten().into_iter().collect();
        let waker = Waker::from(Arc::clone(&self.yielded));
        let mut context = Context::from_waker(&waker);
        loop {
            self.yielded.0.store(false, Ordering::Release);
            match self.in_flight.poll_next_unpin(&mut context) {
                Poll::Ready(Some(completed)) => complete.extend(completed),
                Poll::Ready(None) => return complete,
                // It gives way now and then although more of its futures are awake, and then wakes
                // whoever polls it.
                Poll::Pending if self.yielded.0.load(Ordering::Acquire) => {}
                Poll::Pending => return complete,
            }
        }
    }

    fn settle(&mut self, complete: Vec<(Sent, lapin::Result<Confirmation>)>) {
        let mut settled = Vec::with_capacity(complete.len());
        for (sent, confirmation) in complete {
            let outcome = confirmation.map(|confirmation| {
                let (outcome, returned) = confirmed(confirmation);
                self.returned.extend(returned);
                outcome
            });
            settled.push((sent, outcome));
        }
        for (sent, outcome) in settled {
            let published = match outcome {
                Ok(outcome) => Published::Settled(match self.came_back(&sent) {
                    Some(message) => unroutable(&message),
                    None => outcome,
                }),
                Err(error) => {
                    // Nothing more goes by this channel.
                    self.ordered.close();
                    Published::ChannelGone(BrokerError::of(NOT_TAKEN, &error))
                }
            };
            // Who waits no more has given the attempt up.
            let _ = sent.answer.send(published);
        }
        if self.in_flight.is_empty() {
            self.returned.clear();
        }
    }

    fn came_back(&mut self, sent: &Sent) -> Option<BasicReturnMessage> {
        let index = self.returned.iter().position(|message| sent.is(message))?;
        Some(self.returned.swap_remove(index))
    }
}

/// Publishes a message, and waits for its confirmation as long as somebody waits for that.
async fn publish(
    channel: Arc<Channel>,
    options: BasicPublishOptions,
    Ordered {
        publication,
        mut answer,
    }: Ordered,
) -> Completed {
    let Publication {
        id,
        attempt,
        exchange,
        routing_key,
        body,
        properties,
    } = publication;
    let key = routing_key.clone();
    let confirming = pin!(async {
        channel
            .basic_publish(exchange, key, options, &body, properties)
            .await?
            .await
    });
    let confirmation = match select(confirming, answer.cancellation()).await {
        Either::Left((confirmation, _)) => confirmation,
        Either::Right(_) => return None,
    };
    let sent = Sent {
        id,
        attempt,
        routing_key,
        answer,
    };
    Some((sent, confirmation))
}
