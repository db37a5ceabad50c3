//! A topic as it is read: by a consumer group, as a queue that hands messages out for a time.
//!
//! | a queue | of RocketMQ |
//! |---|---|
//! | receives | `ReceiveMessage`, which waits, at one broker after another |
//! | deletes | `AckMessage` |
//! | extends, gives back | `ChangeInvisibleDuration`, which gives another receipt handle |
//! | tells whether it answers | `QueryAssignment`, by which is known which brokers have the topic |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;

use super::client::{ANSWER_WITHIN, Client, Unanswered, endpoints};
use super::grpc::Answers;
use super::polls::{Poll, Polls};
use super::proto::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, FilterExpression, Message, MessageQueue,
    QueryAssignmentRequest, QueryAssignmentResponse, ReceiveMessageRequest, ReceiveMessageResponse,
    Received, Resource,
};
use super::refusal::{MESSAGE_NOT_FOUND, MULTIPLE_RESULTS, OK, Refusal};
use super::session::Session;
use crate::LogLimit;
use crate::leased::{self, Answer, Failure, Hidden};

/// How many messages one call brings: what proxies propose.
pub(super) const CALL_MESSAGES_MAX: usize = 32;

/// By how much longer than it waits for messages a call may take.
const ANSWERED_AFTER: Duration = Duration::from_secs(8);

/// Between the parts of a receipt: no message id has it.
const BETWEEN: char = '\n';

/// A topic that a group reads. Clones are the same.
#[derive(Clone)]
pub(super) struct Group(Arc<Reading>);

struct Reading {
    client: Client,
    topic: Resource,
    group: Resource,
    filter: FilterExpression,
    in_hand: Duration,
    polls: Arc<Polls>,
    last_log: Mutex<LogLimit>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.0.group.name).finish()
    }
}

/// What is read, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) topic: Resource,
    pub(super) group: Resource,
    pub(super) filter: FilterExpression,
}

impl Group {
    pub(super) fn new(client: Client, asked: Asked, in_hand: Duration) -> Self {
        let Asked {
            topic,
            group,
            filter,
        } = asked;
        Self(Arc::new(Reading {
            client,
            topic,
            group,
            filter,
            in_hand,
            polls: Arc::default(),
            last_log: Mutex::default(),
        }))
    }

    /// The group's name.
    pub(super) fn name(&self) -> &str {
        &self.0.group.name
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Asks which brokers have the topic.
    pub(super) async fn look(&self) -> Result<Vec<MessageQueue>, Unanswered> {
        let request = QueryAssignmentRequest {
            topic: Some(self.0.topic.clone()),
            group: Some(self.0.group.clone()),
            endpoints: Some(endpoints(&self.0.client.host)),
        };
        let client = &self.0.client;
        let asked = client.ask("QueryAssignment", &request, ANSWER_WITHIN);
        let answer: QueryAssignmentResponse = asked.await?;
        Refusal::check(answer.status.as_ref()).map_err(Unanswered::Refused)?;
        let assigned = answer.assignments.into_iter();
        let queues: Vec<_> = assigned
            .filter_map(|assigned| assigned.message_queue)
            .collect();
        self.0.polls.renew(queues.clone());
        Ok(queues)
    }

    async fn poll(&self) -> Answer<Poll> {
        if let Some(poll) = self.0.polls.begin() {
            return Ok(poll);
        }
        self.look().await.map_err(|error| error.to_string())?;
        let poll = self.0.polls.begin();
        poll.ok_or_else(|| "no broker has the topic".to_owned())
    }

    fn request(&self, poll: &Poll, wait: Duration) -> ReceiveMessageRequest {
        ReceiveMessageRequest {
            group: Some(self.0.group.clone()),
            message_queue: Some(poll.queue.clone()),
            filter_expression: Some(self.0.filter.clone()),
            batch_size: i32::try_from(CALL_MESSAGES_MAX).unwrap_or(1),
            invisible_duration: Some(self.0.in_hand.into()),
            auto_renew: false,
            long_polling_timeout: Some(wait.into()),
            attempt_id: Some(poll.attempt.clone()),
        }
    }

    /// Tells of messages that RocketMQ gives up next.
    fn tell_of_last(&self, messages: &[Message], session: &Session) {
        let attempts_max = session.told().attempts_max;
        let is_last = |message: &&Message| {
            let properties = message.system_properties.as_ref();
            let attempt = properties.and_then(|properties| properties.delivery_attempt);
            attempts_max > 1 && attempt.is_some_and(|attempt| attempt >= attempts_max)
        };
        let count = messages.iter().filter(is_last).count() as u64;
        if count == 0 {
            return;
        }
        if let Some(messages) = self.0.last_log.lock().admit(count) {
            let (topic, group) = (&self.0.topic.name, &self.0.group.name);
            tracing::warn!(
                topic,
                group,
                messages,
                "messages were handed out for the last time: RocketMQ moves to %DLQ%{group} what is \
                 not stored now"
            );
        }
    }

    async fn hide_one(
        &self,
        receipt: &str,
        hidden: Duration,
        suspend: Option<bool>,
    ) -> Result<String, (String, bool)> {
        let (message_id, receipt_handle) = parts(receipt);
        let request = ChangeInvisibleDurationRequest {
            group: Some(self.0.group.clone()),
            topic: Some(self.0.topic.clone()),
            receipt_handle: receipt_handle.to_owned(),
            invisible_duration: Some(hidden.into()),
            message_id: message_id.to_owned(),
            suspend,
        };
        let client = &self.0.client;
        let asked = client.ask("ChangeInvisibleDuration", &request, ANSWER_WITHIN);
        let answer: ChangeInvisibleDurationResponse =
            asked.await.map_err(|error| (error.to_string(), true))?;
        match Refusal::check(answer.status.as_ref()) {
            Ok(()) if answer.receipt_handle.is_empty() => Ok(receipt.to_owned()),
            Ok(()) => Ok(format!("{message_id}{BETWEEN}{}", answer.receipt_handle)),
            Err(refusal) => Err((refusal.to_string(), refusal.may_pass())),
        }
    }

    async fn hide_all(&self, messages: &[(&str, Duration)], suspend: Option<bool>) -> Hidden {
        // There is no call for several.
        let calls = messages
            .iter()
            .map(|(receipt, hidden)| self.hide_one(receipt, *hidden, suspend));
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
        told
    }
}

/// The message id and the receipt handle of a receipt.
fn parts(receipt: &str) -> (&str, &str) {
    receipt.split_once(BETWEEN).unwrap_or(("", receipt))
}

/// Reads what a call brings. What came before it broke off is handed out, and so is kept.
async fn collect(
    answers: &mut Answers<ReceiveMessageResponse>,
) -> Result<Vec<Message>, Unanswered> {
    let mut messages = Vec::new();
    loop {
        match answers.next().await {
            Ok(Some(answer)) => match answer.content {
                Some(Received::Message(message)) => messages.push(message),
                Some(Received::Status(status)) if status.code != OK => {
                    let refused = Refusal::check(Some(&status)).err();
                    match refused.filter(|refusal| refusal.code != MESSAGE_NOT_FOUND) {
                        Some(refusal) if messages.is_empty() => {
                            return Err(Unanswered::Refused(refusal));
                        }
                        _ => {}
                    }
                }
                Some(Received::Status(_) | Received::DeliveryTimestamp(_)) | None => {}
            },
            Ok(None) => return Ok(messages),
            Err(error) if messages.is_empty() => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "a call for messages has brought only some of them");
                return Ok(messages);
            }
        }
    }
}

#[async_trait]
impl leased::Queue for Group {
    type Message = Message;

    const CALL_MESSAGES_MAX: usize = CALL_MESSAGES_MAX;

    /// To hide messages each of these is one for each of them.
    const CALLS_MAX: usize = 8;

    const KIND: &'static str = "topic";

    fn name(&self) -> &str {
        &self.0.topic.name
    }

    fn in_hand(&self) -> Duration {
        self.0.in_hand
    }

    fn receives_min(&self) -> usize {
        self.0.polls.count().max(1)
    }

    fn receipt(message: &Message) -> Option<String> {
        let properties = message.system_properties.as_ref()?;
        let handle = properties.receipt_handle.as_deref();
        let handle = handle.filter(|handle| !handle.is_empty())?;
        Some(format!("{}{BETWEEN}{handle}", properties.message_id))
    }

    fn size(message: &Message) -> usize {
        let properties = message.user_properties.iter();
        let properties = properties.map(|(name, value)| name.len() + value.len());
        message.body.len() + properties.sum::<usize>()
    }

    async fn receive(&self, wait: Duration) -> Answer<Vec<Message>> {
        let mut poll = self.poll().await?;
        let request = self.request(&poll, wait);
        let client = &self.0.client;
        let asked = client.stream("ReceiveMessage", &request, wait + ANSWERED_AFTER);
        let (mut answers, session) = asked.await.map_err(|error| error.to_string())?;
        match collect(&mut answers).await {
            Ok(messages) => {
                poll.answered();
                self.tell_of_last(&messages, &session);
                Ok(messages)
            }
            Err(unanswered) => {
                client.told(&session, &unanswered).await;
                Err(unanswered.to_string())
            }
        }
    }

    async fn delete(&self, receipts: &[&str]) -> Answer<Vec<Failure>> {
        let entries = receipts.iter().map(|receipt| {
            let (message_id, receipt_handle) = parts(receipt);
            AckMessageEntry {
                message_id: message_id.to_owned(),
                receipt_handle: receipt_handle.to_owned(),
            }
        });
        let request = AckMessageRequest {
            group: Some(self.0.group.clone()),
            topic: Some(self.0.topic.clone()),
            entries: entries.collect(),
        };
        let asked = self.0.client.ask("AckMessage", &request, ANSWER_WITHIN);
        let answer: AckMessageResponse = asked.await.map_err(|error| error.to_string())?;
        if answer.entries.is_empty() {
            let told = Refusal::check(answer.status.as_ref());
            return match told {
                Err(refusal) if refusal.code != MULTIPLE_RESULTS => Err(refusal.words()),
                _ => Ok(Vec::new()),
            };
        }
        let failures = answer.entries.iter().filter_map(|entry| {
            let refusal = Refusal::check(entry.status.as_ref()).err()?;
            let is_it = |receipt: &&str| parts(receipt).1 == entry.receipt_handle;
            Some(Failure {
                index: receipts.iter().position(is_it)?,
                error: refusal.to_string(),
                may_pass: refusal.may_pass(),
            })
        });
        Ok(failures.collect())
    }

    async fn hide(&self, messages: &[(&str, Duration)]) -> Answer<Hidden> {
        // What the bus has no room for is no fault of the message.
        Ok(self.hide_all(messages, Some(true)).await)
    }

    async fn extend(&self, receipts: &[&str]) -> Answer<Hidden> {
        let in_hand = self.0.in_hand;
        let messages: Vec<_> = receipts.iter().map(|receipt| (*receipt, in_hand)).collect();
        Ok(self.hide_all(&messages, None).await)
    }

    async fn waiting(&self) -> Answer<Option<u64>> {
        // Proxies do not tell how many messages wait.
        let looked = self.look().await;
        looked.map(|_| None).map_err(|error| error.to_string())
    }
}
