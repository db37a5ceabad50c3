//! A source that is connected.

use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Problem, Reject};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::client::{ANSWER_WITHIN, Connected, Plan, attach};
use super::frame::{Attached, Outgoing, Terminus};
use super::mapping::Decoder;
use super::received::{MESSAGE_BYTES_MAX, Received, too_large};
use super::session::{ReceiverLink, Session};
use super::source::GUARD;
use crate::files::Files;
use crate::in_hand::{InHand, Taken};
use crate::net::Names;
use crate::{Batch, Message, OpenError, Source, SourceContext, SourceError};

/// So many messages a batch holds at most.
pub(super) const BATCH_MESSAGES_MAX: usize = 512;

/// What a source is opened with.
pub(super) struct Opening {
    pub(super) plan: Plan,
    pub(super) files: Files,
    /// The link's name: the subscription's, where there is one.
    pub(super) link: String,
    pub(super) terminus: Terminus,
    pub(super) prefetch: usize,
}

impl Opening {
    /// Connects, and attaches a link without credit.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) async fn connect(&self) -> Result<(Connected, Attached), OpenError> {
        let mut connected = self.plan.connect(GUARD, Names::default()).await?;
        let bytes_max = u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX);
        let asked = Outgoing::receiver(&self.link, self.terminus.source(), bytes_max);
        let (host, address) = (&self.plan.server.host, &self.terminus.address);
        let what = format!("the AMQP broker at {host} does not let us read {address}");
        let attached = attach(&mut connected.wire, asked, &what).await?;
        if attached.is_settled {
            let message = format!(
                "the AMQP broker at {host} forgets the messages of {address} as it sends them"
            );
            let help = "have it wait until they are settled";
            return Err(OpenError(Problem::new(message).help(help).at("address")));
        }
        Ok((connected, attached))
    }

    /// Connects, and has messages come.
    ///
    /// # Errors
    /// As [`Opening::connect`].
    pub(super) async fn open(self, context: SourceContext) -> Result<Reader, OpenError> {
        let (connected, attached) = self.connect().await?;
        let in_hand = Arc::<InHand<Received>>::default();
        let stop = CancellationToken::new();
        let begun = connected.begun;
        let session = Session {
            wire: connected.wire,
            link: ReceiverLink::new(begun.next_outgoing_id, attached.delivery_count),
            in_hand: Arc::clone(&in_hand),
            messages_max: self.prefetch,
            pulse: connected.pulse,
            files: self.files,
            status: context.link,
            stop: stop.clone(),
        };
        Ok(Reader {
            in_hand,
            decoder: Decoder {
                name: context.name,
                address: self.terminus.address,
                mapped: context.mapped,
                clock: context.clock,
                nonce: rand::random(),
            },
            stop: Some(stop.drop_guard()),
            session: Some(AbortOnDropHandle::new(tokio::spawn(session.run()))),
        })
    }
}

/// Hands over what a session brings.
pub(super) struct Reader {
    in_hand: Arc<InHand<Received>>,
    decoder: Decoder,
    stop: Option<DropGuard>,
    session: Option<AbortOnDropHandle<()>>,
}

impl Reader {
    fn message(&self, taken: Taken<Received>) -> Message {
        let (number, received) = &taken;
        let made = match received.is_cut {
            true => Err(too_large()),
            false => self.decoder.arrival(&received.bytes, *number),
        };
        let made = made.map_err(|reason| Reject {
            raw: received.bytes.clone(),
            reason,
        });
        Message::of(made, self.in_hand.acknowledgement(taken))
    }

    /// What is in hand and has not been handed over.
    fn batch(&self) -> Option<Batch> {
        let taken = self.in_hand.take(BATCH_MESSAGES_MAX);
        let messages: Vec<_> = taken.into_iter().map(|taken| self.message(taken)).collect();
        (!messages.is_empty()).then_some(Batch {
            messages,
            cursor: None,
        })
    }
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            // Nothing is awaited once something is taken.
            if let Some(batch) = self.batch() {
                return Ok(batch);
            }
            if let Some(why) = self.in_hand.ended() {
                return Err(SourceError::Unavailable(why));
            }
            self.in_hand.arrived().await;
        }
    }

    async fn finish(&mut self) -> Option<Batch> {
        self.stop.take();
        if let Some(session) = self.session.take() {
            // It ends by itself; whoever shuts down does not wait for ever.
            let _ = timeout(ANSWER_WITHIN, session).await;
        }
        // Nobody would send again what was settled as it was sent.
        self.in_hand.end("the source has been stopped".to_owned());
        self.batch()
    }
}
