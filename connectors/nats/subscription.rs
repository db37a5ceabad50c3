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
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::auth::Renewal;
use super::connection::{News, Plan, RENEWED};
use super::message::Mapper;
use super::pull::BATCH_MESSAGES_MAX;
use crate::files::Files;
use crate::{Acknowledgement, Batch, Link, LogLimit, Message, Source, SourceError};

/// How long a server may take to refuse a subscription before it is taken to be in force.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// How long the client may take to hand on what it has heard.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// What the client tells of the connection, for as long as the source is there.
pub(super) struct Ear {
    source: Name,
    link: Link,
    /// The subject listened to, and whether the server forbids that.
    forbidden: watch::Sender<bool>,
    subject: String,
    /// Messages that were dropped here because they came faster than they could be stored; at least
    /// so many.
    lost: AtomicU64,
    lost_log: Mutex<LogLimit>,
}

impl Ear {
    pub(super) fn new(source: Name, link: Link, subject: String) -> Arc<Self> {
        let forbidden = watch::Sender::new(false);
        Arc::new(Self {
            source,
            link,
            forbidden,
            subject,
            lost: AtomicU64::new(0),
            lost_log: Mutex::default(),
        })
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
            News::Down(why) => self
                .link
                .down(format!("{why}; what is published meanwhile is not seen")),
            News::Complaint(complaint) if forbids(&complaint, &self.subject) => {
                self.forbidden.send_replace(true);
            }
            News::Complaint(complaint) => {
                tracing::warn!(source = %self.source, %complaint, "the NATS server complains")
            }
            News::Lost => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                if let Some(lost) = self.lost_log.lock().admit(1) {
                    tracing::warn!(
                        source = %self.source, lost,
                        "messages came faster than they could be stored and were dropped"
                    );
                }
            }
        }
    }

    /// Returns once the server has said that the subject may not be listened to.
    async fn forbidden(&self) -> String {
        // The sender lives in self: it cannot be gone.
        let _ = self
            .forbidden
            .subscribe()
            .wait_for(|forbidden| *forbidden)
            .await;
        format!(
            "the NATS server forbids subscribing to {}; allow it, or change auth",
            self.subject
        )
    }

    /// How many messages were dropped here, at least.
    #[cfg(test)]
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// True for what the server says of a subscription that it refuses or, once permissions have
/// changed, ends.
fn forbids(complaint: &str, subject: &str) -> bool {
    complaint
        .strip_prefix("Permissions Violation for Subscription to ")
        .is_some_and(|rest| rest.starts_with(&format!("{subject:?}")))
}

/// A subject's messages.
pub(super) struct Subscribed {
    /// Keeps the connection, and what hears of it.
    _client: Client,
    _renewal: Option<Renewal>,
    fixed_files: Files,
    ear: Arc<Ear>,
    subscriber: Subscriber,
    mapper: Mapper,
}

impl Subscribed {
    /// Subscribes to the subject that is listened for.
    pub(super) async fn begin(
        plan: &Plan,
        client: Client,
        ear: Arc<Ear>,
        mapper: Mapper,
        queue: Option<String>,
    ) -> Result<Self, String> {
        let subscriber = subscribe(&client, &ear, queue).await?;
        let (renewal, fixed_files) = (plan.renewal(&client), plan.fixed_files.clone());
        Ok(Self {
            _client: client,
            _renewal: renewal,
            fixed_files,
            ear,
            subscriber,
            mapper,
        })
    }
}

/// Subscribes, and returns once the server has taken or refused that.
pub(super) async fn subscribe(
    client: &Client,
    ear: &Ear,
    queue: Option<String>,
) -> Result<Subscriber, String> {
    let subscribed = match queue {
        Some(queue) => client.queue_subscribe(ear.subject.clone(), queue).await,
        None => client.subscribe(ear.subject.clone()).await,
    };
    let subscriber = subscribed.map_err(|error| format!("cannot subscribe: {error}"))?;
    // A subscription that it takes the server passes over in silence. What it answers to anything
    // else comes behind a refusal.
    let answered = timeout(
        REFUSED_WITHIN,
        client.request(client.new_inbox(), "".into()),
    );
    let passed = async {
        let _ = answered.await;
        // The client hands on a refusal by a task of its own. One that comes later still ends the
        // source.
        sleep(TOLD_WITHIN).await;
    };
    tokio::select! {
        forbidden = ear.forbidden() => Err(forbidden),
        () = passed => Ok(subscriber),
    }
}

#[async_trait]
impl Source for Subscribed {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let mut next = tokio::select! {
            // To be opened anew, until it is allowed.
            forbidden = self.ear.forbidden() => return Err(SourceError::Unavailable(forbidden)),
            () = self.fixed_files.changed() => return Err(SourceError::Unavailable(RENEWED.to_owned())),
            next = self.subscriber.next() => next,
        };
        let mut messages = Vec::new();
        while let Some(message) = next.take() {
            let (arrivals, rejects) = self.mapper.read(&message, None);
            messages.push(Message {
                arrivals,
                rejects,
                acknowledgement: Acknowledgement::None,
                positions: Vec::new(),
            });
            if messages.len() < BATCH_MESSAGES_MAX {
                next = self.subscriber.next().now_or_never().flatten();
            }
        }
        if messages.is_empty() {
            Err(SourceError::Unavailable(
                "the NATS client has closed".to_owned(),
            ))
        } else {
            Ok(Batch {
                messages,
                cursor: None,
            })
        }
    }
}
