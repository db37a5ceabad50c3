//! Sends messages: one with a call of its own, several with one call.

use pointsman_schemas::{Class, Outcome};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::aws::api::{Api, Entries, Failure, JsonVersion, Refusal, by_id};
use crate::aws::fifo::Sequenced;
use crate::aws::{Mode, Written};
use crate::net::answer::Deadlines;
use crate::parameter::check_texts;
use crate::{Attempt, Delivery};

/// What sends to one queue.
pub(super) struct Sender {
    pub(super) api: Api,
    pub(super) name: String,
    /// Looked up at the first attempt, unless the settings tell it.
    pub(super) url: OnceCell<String>,
    /// What is said where it fails.
    pub(super) what: String,
    pub(super) sequenced: Sequenced,
    pub(super) delay_seconds: Option<u64>,
    pub(super) mode: Mode,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

/// What became of the entries of a batch.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Told {
    successful: Vec<Taken>,
    failed: Vec<Untaken>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Taken {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Untaken {
    id: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    sender_fault: bool,
}

impl Sender {
    async fn act(
        &self,
        action: &str,
        body: &Value,
        deadlines: Deadlines,
    ) -> Result<Value, Box<Outcome>> {
        let action = format!("AmazonSQS.{action}");
        let told = self.api.act(&action, JsonVersion::V10, body, deadlines);
        told.await.map_err(|failure| failure.outcome(&self.what))
    }

    /// The queue's URL.
    async fn url(&self, deadlines: Deadlines) -> Result<&str, Box<Outcome>> {
        let asking = async || {
            let asked = json!({ "QueueName": self.name });
            let told = self.act("GetQueueUrl", &asked, deadlines).await?;
            match told.get("QueueUrl").and_then(Value::as_str) {
                Some(url) => Ok(url.to_owned()),
                None => Err(Failure::unreadable("it has no QueueUrl").outcome(&self.what)),
            }
        };
        self.url.get_or_try_init(asking).await.map(String::as_str)
    }

    fn message(&self, delivery: &Delivery, written: &Written) -> Result<Value, Outcome> {
        let (group, deduplication) = self.sequenced.of(delivery)?;
        let attributes = written.attributes.iter().map(|(name, value)| {
            let value = json!({ "DataType": "String", "StringValue": value });
            (name.clone(), value)
        });
        let mut message = json!({
            "MessageBody": written.body,
            "MessageAttributes": attributes.collect::<Map<_, _>>(),
        });
        let optional = [
            ("MessageGroupId", group.map(Value::from)),
            ("MessageDeduplicationId", deduplication.map(Value::from)),
            ("DelaySeconds", self.delay_seconds.map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                insert(&mut message, name, value);
            }
        }
        Ok(message)
    }
}

impl Entries for Sender {
    type Entry = Value;

    fn entry(&self, attempt: &Attempt, delivery: &Delivery) -> Result<(Value, usize), Outcome> {
        check_texts(delivery, self.texts)?;
        let written = Written::of(attempt, delivery, self.mode)
            .map_err(|why| Outcome::new(Class::Rejected, why))?;
        Ok((self.message(delivery, &written)?, written.size_bytes()))
    }

    async fn send(
        &self,
        entries: &[Value],
        deadlines: Deadlines,
    ) -> Result<Vec<Outcome>, Box<Outcome>> {
        let url = self.url(deadlines).await?;
        if let [alone] = entries {
            let mut message = alone.clone();
            insert(&mut message, "QueueUrl", url.into());
            self.act("SendMessage", &message, deadlines).await?;
            return Ok(vec![Outcome::delivered()]);
        }
        let numbered = entries.iter().enumerate().map(|(index, entry)| {
            let mut entry = entry.clone();
            insert(&mut entry, "Id", index.to_string().into());
            entry
        });
        let batch = json!({ "QueueUrl": url, "Entries": numbered.collect::<Vec<_>>() });
        let told = self.act("SendMessageBatch", &batch, deadlines).await?;
        let Told { successful, failed } = serde_json::from_value(told)
            .map_err(|error| Failure::unreadable(error).outcome(&self.what))?;
        let refused = failed.iter().map(|entry| {
            let message = entry.message.as_deref().unwrap_or_default();
            let refusal = Refusal::of_entry(&entry.code, message, entry.sender_fault);
            (entry.id.as_str(), refusal)
        });
        let taken = successful.iter().map(|entry| entry.id.as_str());
        Ok(by_id(entries.len(), taken, refused, &self.what))
    }
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}
