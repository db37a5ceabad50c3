//! Against moto, one for all tests with a queue for each, and a server of canned answers where moto
//! cannot fail as SQS does.

mod broken;
mod hand;
mod outage;
mod source;
mod target;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeName as System, QueueAttributeName as Attribute,
};
use pointsman_schemas::SystemClock;
use pointsman_test_brokers::ObjectStore;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::suite::moto::moto as server;
use crate::suite::{Canned, begin, bodies, next_within, parse_source, settle, take, with};
use crate::{Arrival, Link, OpenError, Source, SourceSettings, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// A queue of its own, looked at from outside.
struct Queue {
    endpoint: String,
    name: String,
    url: String,
    client: aws_sdk_sqs::Client,
}

impl Queue {
    /// Makes a queue with a name that no other has.
    async fn new() -> Self {
        Self::of(server().await, "").await
    }

    async fn fifo() -> Self {
        Self::of(server().await, ".fifo").await
    }

    async fn of(server: &ObjectStore, suffix: &str) -> Self {
        let credentials = aws_credential_types::Credentials::new("k", "s", None, None, "test");
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version_latest()
            .region(aws_config::Region::new("us-east-1"))
            .endpoint_url(server.endpoint())
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let name = format!("queue-{:x}{suffix}", rand::random::<u64>());
        let queue = Self {
            endpoint: server.endpoint(),
            url: server.queue_url(&name),
            name,
            client: aws_sdk_sqs::Client::from_conf(config),
        };
        queue.make().await;
        queue
    }

    async fn make(&self) {
        let mut make = self.client.create_queue().queue_name(&self.name);
        if self.name.ends_with(".fifo") {
            make = make
                .attributes(Attribute::FifoQueue, "true")
                .attributes(Attribute::ContentBasedDeduplication, "true");
        }
        make.send().await.unwrap();
    }

    /// Settings of a source that reads it.
    fn settings(&self, more: Value) -> Value {
        let settings = json!({
            "queue": self.name,
            "endpoint": self.endpoint,
            "credentials": { "access_key": "k", "secret_key": "s" },
        });
        with(settings, more)
    }

    async fn send(&self, body: &str, attributes: &[(&str, &str)]) {
        self.send_in(None, body, attributes).await;
    }

    async fn send_in(&self, group: Option<&str>, body: &str, attributes: &[(&str, &str)]) {
        let mut send = self.client.send_message().queue_url(&self.url);
        for (name, value) in attributes {
            let value = MessageAttributeValue::builder().string_value(*value);
            let value = value.data_type("String").build().unwrap();
            send = send.message_attributes(*name, value);
        }
        send.message_body(body)
            .set_message_group_id(group.map(str::to_owned))
            .send()
            .await
            .unwrap();
    }

    /// How many messages are in it, in hand or not.
    async fn left(&self) -> usize {
        let names = [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesNotVisible,
        ];
        let asked = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .set_attribute_names(Some(names.into()));
        let told = asked.send().await.unwrap().attributes.unwrap_or_default();
        told.values()
            .map(|count| count.parse::<usize>().unwrap())
            .sum()
    }

    async fn drained(&self) {
        let until = Instant::now() + LONG;
        while self.left().await > 0 {
            assert!(Instant::now() < until, "{} are left", self.left().await);
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    parse_source("sqs", settings).unwrap()
}

async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    begin(source(settings)).await
}
