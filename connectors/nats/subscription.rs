//! A core subscription: what is published while somebody listens.

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
use super::connection::{ConnectionEvent, Plan, RENEWED};
use super::message::Mapper;
use super::pull::BATCH_MESSAGES_MAX;
use crate::files::Files;
use crate::{Acknowledgement, Batch, Link, LogLimit, Message, Source, SourceError};

/// How long a server may take to refuse a subscription before it is taken to be in force.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// How long the client may take to hand on what it has heard.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// Receives what the client reports of the connection, for as long as the source is there.
pub(super) struct SubjectMonitor {
    source: Name,
    link: Link,
    /// The subject listened to, and whether the server forbids that.
    forbidden: watch::Sender<bool>,
    subject: String,
    /// Messages that were dropped here because they came faster than they could be stored; at least
    /// so many.
    lost: AtomicU64,
    lost_log: Mutex<LogLimit>,
    complaint_log: Mutex<LogLimit>,
}

impl SubjectMonitor {
    pub(super) fn new(source: Name, link: Link, subject: String) -> Arc<Self> {
        let forbidden = watch::Sender::new(false);
        Arc::new(Self {
            source,
            link,
            forbidden,
            subject,
            lost: AtomicU64::new(0),
            lost_log: Mutex::default(),
            complaint_log: Mutex::default(),
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

    fn on_event(&self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Up => self.link.up(),
            ConnectionEvent::Down(why) => self
                .link
                .down(format!("{why}; what is published meanwhile is not seen")),
            ConnectionEvent::ServerError(complaint) if forbids(&complaint, &self.subject) => {
                self.forbidden.send_replace(true);
            }
            ConnectionEvent::ServerError(complaint) => {
                if let Some(complaints) = self.complaint_log.lock().admit(1) {
                    tracing::warn!(
                        source = %self.source, complaints, %complaint,
                        "the NATS server complains"
                    );
                }
            }
            ConnectionEvent::Dropped => {
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

/// The source of a subject's messages.
pub(super) struct SubjectSource {
    /// Keeps the connection open.
    _client: Client,
    _renewal: Option<Renewal>,
    fixed_files: Files,
    monitor: Arc<SubjectMonitor>,
    subscriber: Subscriber,
    mapper: Mapper,
}

impl SubjectSource {
    /// Subscribes to the subject that is listened for.
    pub(super) async fn begin(
        plan: &Plan,
        client: Client,
        monitor: Arc<SubjectMonitor>,
        mapper: Mapper,
        queue: Option<String>,
    ) -> Result<Self, String> {
        let subscriber = subscribe(&client, &monitor, queue).await?;
        let (renewal, fixed_files) = (plan.renewal(&client), plan.fixed_files.clone());
        Ok(Self {
            _client: client,
            _renewal: renewal,
            fixed_files,
            monitor,
            subscriber,
            mapper,
        })
    }
}

/// Subscribes, and returns once the server has taken or refused that.
pub(super) async fn subscribe(
    client: &Client,
    monitor: &SubjectMonitor,
    queue: Option<String>,
) -> Result<Subscriber, String> {
    let subscribed = match queue {
        Some(queue) => client.queue_subscribe(monitor.subject.clone(), queue).await,
        None => client.subscribe(monitor.subject.clone()).await,
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
        forbidden = monitor.forbidden() => Err(forbidden),
        () = passed => Ok(subscriber),
    }
}

#[async_trait]
impl Source for SubjectSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let mut next = tokio::select! {
            // To be opened anew, until it is allowed.
            forbidden = self.monitor.forbidden() => return Err(SourceError::Unavailable(forbidden)),
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

#[cfg(test)]
mod tests {
    use pointsman_schemas::SystemClock;
    use tokio::time::advance;

    use super::*;
    use crate::LOG_EVERY;
    use crate::suite::Log;

    #[tokio::test(start_paused = true)]
    async fn complaints_of_the_server_are_logged_once_in_ten_seconds_with_how_often() {
        let name = Name::new("orders").unwrap();
        let link = Link::new(name.clone(), Arc::new(SystemClock));
        let monitor = SubjectMonitor::new(name, link, "a.b".to_owned());
        let (log, _in_force) = Log::capture();
        let complaint = "Permissions Violation for Publish to \"a.c\"";
        for _ in 0..100 {
            monitor.on_event(ConnectionEvent::ServerError(complaint.to_owned()));
        }
        advance(LOG_EVERY).await;
        monitor.on_event(ConnectionEvent::ServerError("Unknown Protocol".to_owned()));
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains("complaints=1 ") && lines[0].contains(complaint),
            "{lines:?}"
        );
        assert!(
            lines[1].contains("complaints=100 ") && lines[1].contains("Unknown Protocol"),
            "{lines:?}"
        );
    }
}
