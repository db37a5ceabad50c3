//! A client of a server that speaks SQS and takes any signature, apart from the connector that the
//! tests are about.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::Caller;

/// How long an answer may take; without one the message is sent again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// A queue. Clones share connections.
#[derive(Clone, Debug)]
pub struct Queue {
    address: String,
    name: String,
    caller: Caller,
}

impl Queue {
    /// Makes a queue at a port of this machine.
    ///
    /// # Panics
    /// Where the server refuses.
    pub async fn make(port: u16, name: &str) -> Self {
        let queue = Self {
            address: format!("http://127.0.0.1:{port}"),
            name: name.to_owned(),
            caller: Caller::new(),
        };
        let made = queue
            .call("CreateQueue", &json!({ "QueueName": name }))
            .await;
        made.expect("a queue can be made");
        queue
    }

    /// Its URL, at the account that moto has.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/123456789012/{}", self.address, self.name)
    }

    /// Sends an event in binary mode, and tells whether the server has it.
    pub async fn publish(self, id: String) -> bool {
        let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
        let attributes = json!({
            "content-type": text("application/json"),
            "ce-specversion": text("1.0"),
            "ce-id": text(&id),
            "ce-source": text("/test"),
            "ce-type": text("order.paid"),
        });
        self.send(crate::storm::DATA, attributes).await
    }

    /// Sends anything, and tells whether the server has it.
    pub async fn send(&self, body: &str, attributes: Value) -> bool {
        let message = json!({
            "QueueUrl": self.url(),
            "MessageBody": body,
            "MessageAttributes": attributes,
        });
        let sent = timeout(ANSWERED_WITHIN, self.call("SendMessage", &message)).await;
        sent.is_ok_and(|sent| sent.is_some())
    }

    /// How many messages are in it, in hand or not.
    ///
    /// # Panics
    /// Where the server does not say.
    pub async fn left(&self) -> u64 {
        let names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
        ];
        let asked = json!({ "QueueUrl": self.url(), "AttributeNames": names });
        let told = self.call("GetQueueAttributes", &asked).await;
        let told = told.expect("the queue is there");
        let count = |name| -> u64 {
            let text = told.pointer(&format!("/Attributes/{name}"));
            let text = text.and_then(Value::as_str).expect("it is told");
            text.parse().expect("it is a number")
        };
        names.into_iter().map(count).sum()
    }

    async fn call(&self, action: &str, body: &Value) -> Option<Value> {
        let scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, \
                     SignedHeaders=host, Signature=any";
        let target = format!("AmazonSQS.{action}");
        let headers = [
            ("authorization", scope),
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", &*target),
        ];
        let url = format!("{}/", self.address);
        let (status, _, answer) = self
            .caller
            .call(Method::POST, &url, &headers, body.to_string())
            .await
            .ok()?;
        if !(200..300).contains(&status) {
            return None;
        }
        Some(serde_json::from_slice(&answer).unwrap_or_default())
    }
}
