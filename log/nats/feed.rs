//! Messages of a stream in their order, over one consumer after the other.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use bytes::Bytes;
use futures::StreamExt;
use pointsman_schemas::{Backoff, backoff::spread};
use tokio::time::{sleep, timeout};

/// How many messages are asked for at once: of the largest, 16 MiB.
const MESSAGES: usize = 16;

/// How often a server says that it is there while nothing comes, and how long one request holds.
const HEARTBEAT: Duration = Duration::from_secs(1);
const EXPIRES: Duration = Duration::from_secs(30);

/// How long nothing may come until it is looked whether something should have.
const IDLE: Duration = Duration::from_secs(3);

/// How long a server keeps a consumer that nobody asks.
const ABANDONED: Duration = Duration::from_secs(60);

/// How long it may take to make one.
const MADE_WITHIN: Duration = Duration::from_secs(5);

/// First and longest pause between two tries to make one.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

pub(super) struct Feed {
    context: Context,
    stream: String,
    /// The last message that was read.
    after: u64,
    messages: Option<pull::Stream>,
    failures: u32,
}

pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) subject: String,
    pub(super) body: Bytes,
}

impl Feed {
    pub(super) fn new(context: Context, stream: String, after: u64) -> Self {
        Self {
            context,
            stream,
            after,
            messages: None,
            failures: 0,
        }
    }

    /// Goes on behind this message.
    pub(super) fn read(&mut self, sequence: u64) {
        self.after = sequence;
    }

    /// Has the next message come by a new consumer, from where it was read up to.
    pub(super) fn begin_anew(&mut self) {
        self.messages = None;
    }

    /// Waits for a message behind the last one that was read; nothing after a while without any.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            let messages = match &mut self.messages {
                Some(messages) => messages,
                None => match self.make().await {
                    Some(messages) => self.messages.insert(messages),
                    None => {
                        let pause = spread(AGAIN.after(self.failures), rand::random());
                        self.failures = self.failures.saturating_add(1);
                        sleep(pause).await;
                        continue;
                    }
                },
            };
            match timeout(IDLE, messages.next()).await {
                Ok(Some(Ok(message))) => {
                    self.failures = 0;
                    let sequence = message.info().map(|info| info.stream_sequence);
                    let subject = message.subject.to_string();
                    let body = message.message.payload;
                    match sequence {
                        Ok(sequence) if sequence > self.after => {
                            return Some(Message {
                                sequence,
                                subject,
                                body,
                            });
                        }
                        // An earlier one comes again.
                        _ => {}
                    }
                }
                Ok(Some(Err(_)) | None) => {
                    self.messages = None;
                    sleep(spread(AGAIN.after(self.failures), rand::random())).await;
                    self.failures = self.failures.saturating_add(1);
                }
                Err(_) => return None,
            }
        }
    }

    async fn make(&self) -> Option<pull::Stream> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.after + 1,
            },
            ack_policy: AckPolicy::None,
            inactive_threshold: ABANDONED,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let make = async {
            let stream = self.context.get_stream_no_info(&self.stream).await.ok()?;
            let consumer = stream.create_consumer(config).await.ok()?;
            let messages = consumer
                .stream()
                .max_messages_per_batch(MESSAGES)
                .heartbeat(HEARTBEAT)
                .expires(EXPIRES)
                .messages();
            messages.await.ok()
        };
        timeout(MADE_WITHIN, make).await.ok()?
    }
}
