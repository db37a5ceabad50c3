//! A core subscription: what comes while somebody listens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::{Client, Subscriber};
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::FutureExt;
use parking_lot::Mutex;
use pointsman_schemas::Name;
use tokio::time::Instant;

use super::connection::News;
use super::message::Mapper;
use super::pull::BATCH_MESSAGES_MAX;
use crate::{Acknowledgement, Batch, Link, Message, Source, SourceError};

/// The log is told of lost messages at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What the client tells of the connection, for as long as the source is there.
pub(super) struct Ear {
    source: Name,
    link: Link,
    /// Messages that were dropped here because they came faster than they could be stored; at least so many.
    lost: AtomicU64,
    logged: Mutex<Option<Instant>>,
}

impl Ear {
    pub(super) fn new(source: Name, link: Link) -> Arc<Self> {
        Arc::new(Self { source, link, lost: AtomicU64::new(0), logged: Mutex::default() })
    }

    pub(super) fn listener(self: &Arc<Self>) -> impl Fn(News) + Clone + Send + Sync + 'static {
        let ear = Arc::downgrade(self);
        move |news| {
            if let Some(ear) = Weak::upgrade(&ear) {
                ear.hear(news);
            }
        }
    }

    fn hear(&self, news: News) {
        match news {
            News::Up => self.link.up(),
            News::Down(why) => self.link.down(format!("{why}; what is published meanwhile is not seen")),
            News::Complaint(complaint) => self.link.down(format!("the NATS server complains: {complaint}")),
            News::Lost => {
                let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
                let mut logged = self.logged.lock();
                if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                    *logged = Some(Instant::now());
                    tracing::warn!(source = %self.source, lost, "messages came faster than they could be stored and were dropped");
                }
            }
        }
    }

    /// How many messages were dropped here, at least.
    #[cfg(test)]
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A subject's messages.
pub(super) struct Subscribed {
    /// Keeps the connection, and what hears of it.
    _client: Client,
    _ear: Arc<Ear>,
    subscriber: Subscriber,
    mapper: Mapper,
}

impl Subscribed {
    /// Subscribes, and returns once the server has been told.
    pub(super) async fn begin(
        client: Client,
        ear: Arc<Ear>,
        mapper: Mapper,
        subject: String,
        queue: Option<String>,
    ) -> Result<Self, String> {
        let subscribed = match queue {
            Some(queue) => client.queue_subscribe(subject, queue).await,
            None => client.subscribe(subject).await,
        };
        let subscriber = subscribed.map_err(|error| format!("cannot subscribe: {error}"))?;
        client.flush().await.map_err(|error| format!("cannot subscribe: {error}"))?;
        Ok(Self { _client: client, _ear: ear, subscriber, mapper })
    }
}

#[async_trait]
impl Source for Subscribed {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let mut next = self.subscriber.next().await;
        let mut messages = Vec::new();
        while let Some(message) = next.take() {
            let (arrivals, rejects) = self.mapper.read(&message, None);
            messages.push(Message { arrivals, rejects, acknowledgement: Acknowledgement::None });
            if messages.len() < BATCH_MESSAGES_MAX {
                next = self.subscriber.next().now_or_never().flatten();
            }
        }
        if messages.is_empty() {
            Err(SourceError::Unavailable("the NATS client has closed".to_owned()))
        } else {
            Ok(Batch { messages, cursor: None })
        }
    }
}
