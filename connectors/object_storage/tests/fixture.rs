//! A store with a bucket and a queue, and a source that is asked what it has told.

use super::*;

/// How long a call for messages takes that a source has left behind.
pub(super) const LEFT_BEHIND: Duration = Duration::from_millis(1_200);

pub(super) const QUEUE: &str = "uploads";

/// A store with a bucket and a queue.
pub(super) struct Fixture {
    pub(super) store: ObjectStore,
    pub(super) bucket: Bucket,
    pub(super) queues: aws_sdk_sqs::Client,
    pub(super) settings: Value,
    pub(super) written: usize,
}

impl Fixture {
    /// A bucket that is listed every second, with its settings changed so.
    pub(super) async fn listed(more: &Value) -> Self {
        Self::listed_at(ObjectStore::start().await, more).await
    }

    pub(super) async fn listed_at(store: ObjectStore, more: &Value) -> Self {
        let credentials = json!({ "access_key": "test", "secret_key": "test" });
        let mut settings = json!({ "endpoint": store.endpoint(), "bucket": "photos", "credentials": credentials, "reconcile": "1s" });
        settings
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let parsed: ObjectStorageSource = serde_json::from_value(settings.clone()).unwrap();
        let bucket = parsed.connection().open(3).await.unwrap();
        bucket
            .client
            .create_bucket()
            .bucket("photos")
            .send()
            .await
            .unwrap();
        let queues = bucket.queues(&store.queue_url(QUEUE)).unwrap();
        if store.has_queues() {
            queues
                .create_queue()
                .queue_name(QUEUE)
                .send()
                .await
                .unwrap();
        }
        Self {
            store,
            bucket,
            queues,
            settings,
            written: 0,
        }
    }

    /// One that tells of itself by the queue, too.
    pub(super) async fn notified(more: &Value) -> Self {
        let mut fixture = Self::listed(&json!({ "grace": "1s" })).await;
        let settings = fixture.settings.as_object_mut().unwrap();
        settings.insert(
            "notifications".into(),
            json!({ "sqs": fixture.store.queue_url(QUEUE) }),
        );
        settings.extend(more.as_object().unwrap().clone());
        fixture.notify(true).await;
        fixture
    }

    pub(super) async fn notify(&self, on: bool) {
        let events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"].map(Happens::from);
        let queue = QueueConfiguration::builder()
            .queue_arn(self.store.queue_arn(QUEUE))
            .set_events(Some(events.into()))
            .build()
            .unwrap();
        let all = NotificationConfiguration::builder()
            .set_queue_configurations(Some(if on { vec![queue] } else { Vec::new() }))
            .build();
        self.bucket
            .client
            .put_bucket_notification_configuration()
            .bucket("photos")
            .notification_configuration(all)
            .send()
            .await
            .unwrap();
    }

    pub(super) async fn put(&self, key: &str, content: &str) {
        let content = Bytes::copy_from_slice(content.as_bytes());
        self.bucket
            .client
            .put_object()
            .bucket("photos")
            .key(key)
            .body(content.into())
            .content_type("text/plain")
            .send()
            .await
            .unwrap();
    }

    pub(super) async fn delete(&self, key: &str) {
        self.bucket
            .client
            .delete_object()
            .bucket("photos")
            .key(key)
            .send()
            .await
            .unwrap();
    }

    pub(super) async fn send(&self, body: &str) {
        self.queues
            .send_message()
            .queue_url(self.store.queue_url(QUEUE))
            .message_body(body)
            .send()
            .await
            .unwrap();
    }

    /// Waits until nothing lies in the queue, in hand or not.
    pub(super) async fn drained(&self) {
        let until = Instant::now() + LONG;
        loop {
            let names = [
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ]
            .map(Into::into);
            let asked = self
                .queues
                .get_queue_attributes()
                .queue_url(self.store.queue_url(QUEUE))
                .set_attribute_names(Some(names.into()));
            let told = asked.send().await.unwrap().attributes.unwrap_or_default();
            if told.values().all(|count| count == "0") {
                return;
            }
            assert!(Instant::now() < until, "{told:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A source and what it has told so far.
pub(super) struct Told {
    pub(super) source: Box<dyn Source>,
    pub(super) stored: Stored,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) rejects: Vec<pointsman_schemas::Reject>,
}

impl Told {
    pub(super) async fn open(fixture: &impl SourceFixture, stored: impl Into<Stored>) -> Self {
        let stored = stored.into();
        Self {
            source: open(fixture, stored.clone(), false).await,
            stored,
            events: Vec::new(),
            rejects: Vec::new(),
        }
    }

    /// Takes what comes next in as the bus does; false where nothing came in time.
    pub(super) async fn take(&mut self, within: Duration, verdict: &Verdict) -> bool {
        let Some(batch) = next_within(&mut *self.source, within).await else {
            return false;
        };
        let batch = batch.unwrap();
        // A message that is refused is not stored, nor are its rows.
        if *verdict == Verdict::Stored {
            self.stored.store(&batch);
        }
        for message in batch.messages {
            for arrival in message.arrivals {
                let Arrival::Event(event) = arrival else {
                    panic!("nothing is mapped")
                };
                self.events.push(event);
            }
            self.rejects.extend(message.rejects);
            message.acknowledgement.send(verdict.clone()).await;
        }
        true
    }

    /// What is told next, in the order of keys, until so much has been.
    pub(super) async fn next(&mut self, count: usize) -> Vec<String> {
        let before = self.events.len();
        while self.events.len() < before + count {
            assert!(
                self.take(LONG, &Verdict::Stored).await,
                "only {:?}",
                &self.events[before..]
            );
        }
        let told = |event: &Arc<Event>| {
            format!(
                "{} {}",
                event.ty().trim_start_matches(EVENT_TYPE_PREFIX),
                event.subject().unwrap()
            )
        };
        let mut told: Vec<_> = self.events[before..].iter().map(told).collect();
        told.sort();
        told
    }

    /// Nothing is told for so long.
    pub(super) async fn quiet(&mut self, time: Duration) {
        let (until, before) = (Instant::now() + time, self.events.len());
        while self
            .take(
                until.saturating_duration_since(Instant::now()),
                &Verdict::Stored,
            )
            .await
        {}
        assert_eq!(self.events[before..], [], "nothing has happened");
    }
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "object-storage";

    fn settings(&self) -> Value {
        self.settings.clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        tokio::time::sleep(LEFT_BEHIND).await;
        let keys: Vec<_> = (self.written..self.written + count)
            .map(|n| format!("folder-{}/{n}", n % 3))
            .collect();
        for key in &keys {
            self.put(key, key).await;
        }
        self.written += count;
        keys
    }

    fn identity(&self, event: &Event) -> String {
        event.subject().unwrap().to_string()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    fn is_read_by_cursor(&self) -> bool {
        self.settings.get("notifications").is_none()
    }

    async fn unreadable(&mut self) -> Option<Bytes> {
        self.settings.get("notifications")?;
        self.send("no notification").await;
        Some(Bytes::from_static(b"no notification"))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "bucket": "" }), "bucket"),
            (json!({ "bucket": "s3://photos" }), "bucket"),
            (json!({ "bucket": "photos/2026" }), "bucket"),
            (json!({ "bucket": "My_Photos" }), "bucket"),
            (
                json!({ "bucket": "b", "endpoint": "127.0.0.1:9000" }),
                "endpoint",
            ),
            (json!({ "bucket": "b", "endpoint": "ftp://a" }), "endpoint"),
            (
                json!({ "bucket": "b", "endpoint": "http://me:secret@a" }),
                "endpoint",
            ),
            (json!({ "bucket": "b", "region": "" }), "region"),
            (
                json!({ "bucket": "b", "credentials": { "access_key": "", "secret_key": "x" } }),
                "credentials.access_key",
            ),
            (
                json!({ "bucket": "b", "credentials": { "access_key": "x", "secret_key": "" } }),
                "credentials.secret_key",
            ),
            (
                json!({ "bucket": "b", "notifications": { "sqs": "uploads" } }),
                "notifications.sqs",
            ),
            (
                json!({ "bucket": "b", "notifications": { "webhook": { "path": "hooks" } } }),
                "notifications.webhook.path",
            ),
            (
                json!({ "bucket": "b", "notifications": { "webhook": { "path": "/events" } } }),
                "notifications.webhook.path",
            ),
            (
                json!({ "bucket": "b", "notifications": { "webhook": { "path": "/a", "token": "" } } }),
                "notifications.webhook.token",
            ),
            (json!({ "bucket": "b", "reconcile": "0s" }), "reconcile"),
            (
                json!({ "bucket": "b", "reconcile": "0s", "notifications": "none" }),
                "reconcile",
            ),
            (json!({ "bucket": "b", "reconcile": "10ms" }), "reconcile"),
            (json!({ "bucket": "b", "inline": "2MiB" }), "inline"),
        ]
    }
}
