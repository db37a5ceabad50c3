//! A queue as it is read.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use super::client::{Answered, ELEMENTS_MAX, NAMESPACE, seconds};
use super::place::Found;
use super::refusal::Refusal;
use crate::leased::{self, Answer, Failure, Hidden};
use crate::xml::{self, Element};

/// MNS's own bound on the messages of one call.
pub(super) const CALL_MESSAGES_MAX: usize = 16;

/// For how long a message can be hidden: MNS counts in seconds, and takes no zero.
pub(super) const HIDDEN: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(12 * 60 * 60));

/// How long one call to hide a message may take. What others have been told then is still known.
const HIDE_WITHIN: Duration = Duration::from_secs(4);

/// What MNS says where nothing is there, and of a message that is not in hand any more.
const NO_MESSAGE: &str = "MessageNotExist";

/// Codes of a message that is not in hand any more.
const GONE: [&str; 2] = [NO_MESSAGE, "ReceiptHandleError"];

/// One queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) found: Found,
    /// For how long a message is hidden each time that this is extended.
    pub(super) in_hand: Duration,
    /// For how long MNS hides it when it hands it out, which is the queue's own setting.
    pub(super) at_first: Duration,
}

/// A message as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) receipt: Option<String>,
    pub(super) body: String,
    /// Milliseconds since 1970, as all times.
    pub(super) sent: Option<i64>,
    pub(super) first_dequeued: Option<i64>,
    pub(super) dequeue_count: Option<u64>,
    pub(super) priority: Option<u64>,
}

impl Message {
    fn read(element: &Element) -> Self {
        let text = |name| element.text_of(name);
        let time = |name| text(name)?.trim().parse::<i64>().ok();
        let number = |name| text(name)?.trim().parse::<u64>().ok();
        Self {
            id: text("MessageId").unwrap_or_default().to_owned(),
            receipt: text("ReceiptHandle").map(str::to_owned),
            body: text("MessageBody").unwrap_or_default().to_owned(),
            sent: time("EnqueueTime"),
            first_dequeued: time("FirstDequeueTime"),
            dequeue_count: number("DequeueCount"),
            priority: number("Priority"),
        }
    }
}

/// The root of an answer, which has to be of this name.
fn root(answered: &Answered, name: &str) -> Option<Element> {
    let text = String::from_utf8_lossy(&answered.body);
    xml::read(&text, ELEMENTS_MAX).filter(|root| root.name == name)
}

impl Queue {
    fn messages(&self, query: &str) -> String {
        format!("{}/messages{query}", self.found.resource())
    }

    /// Hides one message, and returns its new receipt.
    async fn hide_one(&self, receipt: &str, hidden: Duration) -> Result<String, (String, bool)> {
        let query = format!(
            "?ReceiptHandle={}&VisibilityTimeout={}",
            utf8_percent_encode(receipt, NON_ALPHANUMERIC),
            seconds(hidden.clamp(HIDDEN.0, HIDDEN.1)),
        );
        let resource = self.messages(&query);
        let (method, nothing) = (Method::PUT, Bytes::new());
        // Not made again by itself: where it was done, the receipt is another one.
        let call = self.found.client.call(&method, &resource, &nothing, None);
        let within = HIDE_WITHIN.min(leased::Queue::beat(self) * 3 / 4);
        let answered = match timeout(within, call).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(unanswered)) => return Err((unanswered.words(), true)),
            Err(_elapsed) => return Err(("no answer in time".to_owned(), true)),
        };
        if !answered.status.is_success() {
            let refusal = Refusal::read(&answered);
            let may_pass = !GONE.contains(&refusal.code.as_str());
            return Err((refusal.to_string(), may_pass));
        }
        let told = root(&answered, "ChangeVisibility");
        let receipt = told.as_ref().and_then(|told| told.text_of("ReceiptHandle"));
        receipt
            .map(str::to_owned)
            .ok_or_else(|| ("there is no receipt in the answer".to_owned(), false))
    }
}

#[async_trait]
impl leased::Queue for Queue {
    type Message = Message;

    const CALL_MESSAGES_MAX: usize = CALL_MESSAGES_MAX;

    /// To hide messages each of these is one for each of them.
    const CALLS_MAX: usize = 4;

    fn name(&self) -> &str {
        &self.found.name
    }

    fn in_hand(&self) -> Duration {
        self.in_hand
    }

    fn beat(&self) -> Duration {
        self.in_hand.min(self.at_first) / 3
    }

    fn receipt(message: &Message) -> Option<String> {
        message.receipt.clone()
    }

    fn size(message: &Message) -> usize {
        message.body.len()
    }

    async fn receive(&self, wait: Duration) -> Answer<Vec<Message>> {
        let query = format!(
            "?numOfMessages={CALL_MESSAGES_MAX}&waitseconds={}",
            seconds(wait)
        );
        let resource = self.messages(&query);
        match self.found.client.get(&resource).await {
            Ok(Ok(answered)) => {
                let list = root(&answered, "Messages").ok_or("the answer is not MNS's")?;
                let messages = list.children.iter().filter(|child| child.name == "Message");
                Ok(messages.map(Message::read).collect())
            }
            Ok(Err(refusal)) if refusal.code == NO_MESSAGE => Ok(Vec::new()),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(unanswered) => Err(unanswered.words()),
        }
    }

    async fn delete(&self, receipts: &[&str]) -> Answer<Vec<Failure>> {
        let handles = receipts.iter().map(|receipt| {
            let handle = xml::escaped(receipt).unwrap_or_default();
            format!("<ReceiptHandle>{handle}</ReceiptHandle>")
        });
        let body = format!(
            "<ReceiptHandles xmlns=\"{NAMESPACE}\">{}</ReceiptHandles>",
            handles.collect::<String>()
        );
        let client = &self.found.client;
        let (method, resource, body) = (Method::DELETE, self.messages(""), Bytes::from(body));
        // A second one finds nothing left of what the first has deleted, and says so.
        let answered = client.call(&method, &resource, &body, None).await;
        let answered = answered.map_err(|unanswered| unanswered.words())?;
        if answered.status.is_success() {
            return Ok(Vec::new());
        }
        let Some(errors) = root(&answered, "Errors") else {
            return Err(Refusal::read(&answered).to_string());
        };
        let failures = errors.children.iter().filter_map(|error| {
            let handle = error.text_of("ReceiptHandle")?;
            let code = error.text_of("ErrorCode").unwrap_or_default();
            Some(Failure {
                index: receipts.iter().position(|receipt| *receipt == handle)?,
                error: format!(
                    "{code}: {}",
                    error.text_of("ErrorMessage").unwrap_or_default()
                ),
                may_pass: !GONE.contains(&code),
            })
        });
        Ok(failures.collect())
    }

    async fn hide(&self, messages: &[(&str, Duration)]) -> Answer<Hidden> {
        // MNS has no call for several.
        let calls = messages
            .iter()
            .map(|(receipt, hidden)| self.hide_one(receipt, *hidden));
        let mut told = Hidden::default();
        for (index, answer) in join_all(calls).await.into_iter().enumerate() {
            match answer {
                Ok(receipt) => told.receipts.push((index, receipt)),
                Err((error, may_pass)) => told.failed.push(Failure {
                    index,
                    error,
                    may_pass,
                }),
            }
        }
        Ok(told)
    }

    async fn waiting(&self) -> Answer<Option<u64>> {
        match self.found.client.get(&self.found.resource()).await {
            Ok(Ok(answered)) => Ok(root(&answered, "Queue").as_ref().and_then(waiting_in)),
            // It answers, and does not say.
            Ok(Err(refusal)) if refusal.status != StatusCode::SERVICE_UNAVAILABLE => Ok(None),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(unanswered) => Err(unanswered.words()),
        }
    }
}

/// How many messages wait, as a queue's attributes say it.
pub(super) fn waiting_in(attributes: &Element) -> Option<u64> {
    attributes.text_of("ActiveMessages")?.trim().parse().ok()
}
