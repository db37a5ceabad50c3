//! Reading from a stream through a durable pull consumer.
//!
//! One task pulls (see `puller`): it requests as many messages as there is credit for, hands them
//! on, and requests again (see `requests`). It hears from the server at least every few seconds
//! while it waits (idle heartbeats); where it does not, or where the connection was lost meanwhile,
//! it looks after the consumer and asks anew. The same task keeps unacknowledged messages from
//! being sent to somebody else (see `outstanding`).

use std::sync::{Arc, Weak};

use async_nats::Client;
use async_nats::jetstream::consumer::Info;
use async_trait::async_trait;
use pointsman_schemas::Cursor;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::connection::{ConnectionEvent, Plan};
use super::consumer::ConsumerSpec;
use super::message::Mapper;
use super::outstanding::MESSAGES_MAX;
use super::progress::{ConsumerProgress, Gap};
use super::puller::Puller;
use super::reader::ConsumerReader;
use crate::{Batch, Link, Message, Source, SourceError};

/// The most messages of a batch.
pub const BATCH_MESSAGES_MAX: usize = 512;

/// Receives what the client reports of the connection, for as long as the source is there:
/// acknowledgements may keep the client for longer.
pub(super) struct StreamMonitor {
    pub(super) link: Link,
    /// How often it was connected.
    pub(super) connects: watch::Sender<u64>,
}

impl StreamMonitor {
    pub(super) fn new(link: Link) -> Arc<Self> {
        Arc::new(Self {
            link,
            connects: watch::Sender::new(0),
        })
    }

    pub(super) fn listener(
        self: &Arc<Self>,
    ) -> impl Fn(ConnectionEvent) + Clone + Send + Sync + 'static {
        let monitor = Arc::downgrade(self);
        move |event| {
            if let Some(monitor) = Weak::upgrade(&monitor) {
                monitor.on_event(event);
            }
        }
    }

    /// Reports messages that were removed unread.
    pub(super) fn skipped(&self, gaps: impl IntoIterator<Item = Gap>) {
        for Gap { messages, why } in gaps {
            self.link.skipped(messages, why);
        }
    }

    fn on_event(&self, event: ConnectionEvent) {
        match event {
            // Whether the consumer is there is another question, which the puller asks.
            ConnectionEvent::Up => self.connects.send_modify(|connects| *connects += 1),
            ConnectionEvent::Down(why) => {
                self.link.lag(None);
                self.link.down(why);
            }
            ConnectionEvent::ServerError(complaint) => self
                .link
                .down(format!("the NATS server complains: {complaint}")),
            // A subscription here has room for more than is ever asked for; and what is dropped
            // comes again.
            ConnectionEvent::Dropped => {}
        }
    }
}

/// The source of a stream's messages.
pub(super) struct StreamSource {
    messages: mpsc::Receiver<Message>,
    /// The consumer's progress, as it is to be stored.
    position: watch::Receiver<Option<Cursor>>,
    task: JoinHandle<SourceError>,
    ended: Option<SourceError>,
}

impl StreamSource {
    /// Reads on from where the consumer was found. `stored` is what is stored of that.
    pub(super) fn begin(
        plan: &Plan,
        client: Client,
        spec: ConsumerSpec,
        found: (Info, ConsumerProgress, Vec<Gap>),
        stored: Option<Cursor>,
        monitor: Arc<StreamMonitor>,
        mapper: Mapper,
    ) -> Self {
        // As many as may be unacknowledged, so that handing on never waits.
        let (out, messages) = mpsc::channel(MESSAGES_MAX);
        let (info, progress, gaps) = found;
        monitor.skipped(gaps);
        let (position, known_position) = watch::channel(stored);
        let fixed_files = plan.fixed_files.clone();
        let reader = ConsumerReader::new(client, spec, progress, position, monitor, mapper, out);
        let puller = Puller::new(plan, reader);
        Self {
            messages,
            position: known_position,
            task: tokio::spawn(puller.run(info, fixed_files)),
            ended: None,
        }
    }
}

#[async_trait]
impl Source for StreamSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let mut messages = Vec::new();
        let received = tokio::select! {
            biased;
            // By itself: a batch with a cursor waits for those before it, and what cannot be stored
            // of one does not go back.
            Ok(()) = self.position.changed() => {
                return Ok(Batch { messages, cursor: self.position.borrow_and_update().clone() });
            }
            received = self.messages.recv_many(&mut messages, BATCH_MESSAGES_MAX) => received,
        };
        if received > 0 {
            return Ok(Batch {
                messages,
                cursor: None,
            });
        }
        if self.ended.is_none() {
            let ended = (&mut self.task).await;
            self.ended = Some(ended.unwrap_or_else(|error| {
                SourceError::Unavailable(format!("reading broke off: {error}"))
            }));
        }
        Err(self.ended.clone().unwrap_or(SourceError::Ended))
    }
}
