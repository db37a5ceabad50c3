//! A stand-in for Alibaba Cloud's MNS, which nobody else has written: queues and topics in memory,
//! by the documented rules.
//!
//! Requests must be signed. A message that is handed out has a receipt that is good until it is
//! visible again, or until another one is given for it: then the old one is refused.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::stand_in::{Asked, StandIn, Told};

/// The keys of the one account.
pub const MNS_KEYS: (&str, &str) = ("test-id", "test-secret");

const NAMESPACE: &str = "xmlns=\"http://mns.aliyuncs.com/doc/v1/\"";

/// How many messages a call takes or brings.
const CALL_MESSAGES_MAX: usize = 16;

/// A server, until it is dropped.
#[derive(Debug)]
pub struct MnsServer {
    state: Arc<State>,
    server: StandIn,
}

#[derive(Debug, Default)]
struct State {
    inner: Mutex<Inner>,
    /// Something may have become visible.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    queues: HashMap<String, Queue>,
    topics: HashMap<String, Vec<MnsMessage>>,
    /// Answers that stand ready, by what is asked for.
    ready: HashMap<String, VecDeque<Told>>,
    asked: BTreeMap<String, usize>,
    numbers: u64,
}

#[derive(Debug, Default)]
struct Queue {
    visibility: Duration,
    messages: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    id: String,
    sent: MnsMessage,
    /// When it may be handed out.
    visible: Instant,
    receipt: Option<String>,
    dequeues: u64,
}

/// A message as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MnsMessage {
    /// The body, as it stood in the request.
    pub body: String,
    /// `DelaySeconds`.
    pub delay: Option<u64>,
    /// `Priority`.
    pub priority: Option<u64>,
    /// `MessageTag`.
    pub tag: Option<String>,
}

impl MnsServer {
    /// Starts a server.
    pub async fn start() -> Self {
        let state = Arc::new(State::default());
        let of_server = Arc::clone(&state);
        let server = StandIn::start(move |asked| {
            let state = Arc::clone(&of_server);
            async move { state.answer(&asked).await }
        })
        .await;
        Self { state, server }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// Makes a queue that hides what it hands out for so long.
    pub fn make_queue(&self, name: &str, visibility: Duration) {
        let queue = Queue {
            visibility,
            ..Queue::default()
        };
        self.state.inner().queues.insert(name.to_owned(), queue);
    }

    /// Makes a topic.
    pub fn make_topic(&self, name: &str) {
        let topics = &mut self.state.inner().topics;
        topics.insert(name.to_owned(), Vec::new());
    }

    /// Puts a message into a queue, its body as it would stand in a request, and returns its id.
    ///
    /// # Panics
    /// Where there is no such queue.
    pub fn send(&self, queue: &str, body: &str) -> String {
        let message = MnsMessage {
            body: body.to_owned(),
            ..MnsMessage::default()
        };
        let id = self.state.inner().send(queue, message);
        self.state.changed.notify_waiters();
        id.expect("there is such a queue")
    }

    /// The messages that are in a queue, in hand or not.
    #[must_use]
    pub fn messages(&self, queue: &str) -> Vec<MnsMessage> {
        let inner = self.state.inner();
        let messages = inner.queues.get(queue).map(|queue| &queue.messages);
        let messages = messages.into_iter().flatten();
        messages.map(|held| held.sent.clone()).collect()
    }

    /// What was published to a topic.
    #[must_use]
    pub fn published(&self, topic: &str) -> Vec<MnsMessage> {
        let inner = self.state.inner();
        inner.topics.get(topic).cloned().unwrap_or_default()
    }

    /// Has the next request of a kind, such as `BatchDeleteMessage`, answered so, and not looked at.
    pub fn answer(&self, action: &str, told: Told) {
        let mut inner = self.state.inner();
        let ready = inner.ready.entry(action.to_owned()).or_default();
        ready.push_back(told);
    }

    /// How often something was asked for.
    #[must_use]
    pub fn asked(&self, action: &str) -> usize {
        let inner = self.state.inner();
        inner.asked.get(action).copied().unwrap_or_default()
    }
}

/// An error as MNS tells it.
fn error(status: u16, code: &str) -> Told {
    Told::new(
        status,
        format!(
            "<?xml version=\"1.0\"?><Error {NAMESPACE}><Code>{code}</Code><Message>said by the \
             stand-in</Message><RequestId>1</RequestId><HostId>h</HostId></Error>"
        ),
    )
}

/// The texts of the elements of a name; nothing is unescaped.
fn texts<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = text.split(&*open).skip(1);
    parts
        .filter_map(|part| Some(part.split_once(&*close)?.0))
        .collect()
}

fn parameter<'q>(query: &'q str, name: &str) -> &'q str {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name);
    found.next().map_or("", |(_, value)| value)
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = (*first == b'%')
            .then(|| after.split_at_checked(2))
            .flatten();
        let byte =
            coded.and_then(|(hex, _)| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, coded) {
            (Some(byte), Some((_, after))) => {
                bytes.push(byte);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is wrong with the signature of a request.
fn unsigned(asked: &Asked) -> Option<Told> {
    if asked.header("x-mns-version") != "2015-06-06" {
        return Some(error(400, "MissingVersionHeader"));
    }
    if asked.header("date").is_empty() {
        return Some(error(400, "MissingDateHeader"));
    }
    let shown = asked.header("authorization").strip_prefix("MNS ");
    let Some((id, signature)) = shown.and_then(|shown| shown.split_once(':')) else {
        return Some(error(400, "InvalidAuthorizationHeader"));
    };
    if id != MNS_KEYS.0 {
        return Some(error(403, "InvalidAccessKeyId"));
    }
    let mut signed = format!(
        "{}\n{}\n{}\n{}\n",
        asked.method,
        asked.header("content-md5"),
        asked.header("content-type"),
        asked.header("date")
    );
    for (name, value) in &asked.headers {
        if name.starts_with("x-mns-") {
            let _infallible = writeln!(signed, "{name}:{value}");
        }
    }
    signed.push_str(&asked.target);
    let mut mac = Hmac::<Sha1>::new_from_slice(MNS_KEYS.1.as_bytes()).expect("any key will do");
    mac.update(signed.as_bytes());
    let expected = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    (expected != signature).then(|| error(403, "SignatureDoesNotMatch"))
}

/// What a request asks for.
fn action(asked: &Asked) -> &'static str {
    let is_topic = asked.path().starts_with("/topics/");
    let is_of_messages = asked.path().ends_with("/messages");
    match (asked.method.as_str(), is_topic, is_of_messages) {
        ("GET", false, false) => "GetQueueAttributes",
        ("GET", true, false) => "GetTopicAttributes",
        ("GET", false, true) => "BatchReceiveMessage",
        ("DELETE", false, true) => "BatchDeleteMessage",
        ("PUT", false, true) => "ChangeMessageVisibility",
        ("POST", true, true) => "PublishMessage",
        ("POST", false, true) => "SendMessage",
        _ => "",
    }
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody has panicked")
    }

    async fn answer(&self, asked: &Asked) -> Told {
        if let Some(unsigned) = unsigned(asked) {
            return unsigned;
        }
        let action = action(asked);
        let name = asked.path().split('/').nth(2).unwrap_or_default();
        {
            let mut inner = self.inner();
            *inner.asked.entry(action.to_owned()).or_default() += 1;
            let ready = inner.ready.get_mut(action);
            if let Some(told) = ready.and_then(VecDeque::pop_front) {
                return told;
            }
            let is_topic = asked.path().starts_with("/topics/");
            if is_topic && !inner.topics.contains_key(name) {
                return error(404, "TopicNotExist");
            }
            if !is_topic && !inner.queues.contains_key(name) {
                return error(404, "QueueNotExist");
            }
        }
        let told = match action {
            "BatchReceiveMessage" => self.receive(name, asked.query()).await,
            _ => self.inner().act(action, name, asked),
        };
        self.changed.notify_waiters();
        told
    }

    /// Waits where nothing is visible.
    async fn receive(&self, name: &str, query: &str) -> Told {
        let count = parameter(query, "numOfMessages").parse().unwrap_or(0);
        let wait = parameter(query, "waitseconds").parse().unwrap_or(0);
        if !(1..=CALL_MESSAGES_MAX).contains(&count) || wait > 30 {
            return error(400, "InvalidArgument");
        }
        let until = Instant::now() + Duration::from_secs(wait);
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut inner = self.inner();
                if let Some(told) = inner.receive(name, count) {
                    return told;
                }
                inner.next_visible(name)
            };
            if Instant::now() >= until {
                return error(404, "MessageNotExist");
            }
            let wake = next.map_or(until, |next| next.min(until));
            tokio::select! {
                () = changed => {}
                () = sleep_until(wake) => {}
            }
        }
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn send(&mut self, queue: &str, sent: MnsMessage) -> Option<String> {
        let id = format!("M{}", self.number());
        let delay = Duration::from_secs(sent.delay.unwrap_or_default());
        self.queues.get_mut(queue)?.messages.push(Held {
            id: id.clone(),
            sent,
            visible: Instant::now() + delay,
            receipt: None,
            dequeues: 0,
        });
        Some(id)
    }

    fn next_visible(&self, queue: &str) -> Option<Instant> {
        let messages = &self.queues.get(queue)?.messages;
        messages.iter().map(|held| held.visible).min()
    }

    fn receive(&mut self, name: &str, count: usize) -> Option<Told> {
        let now = Instant::now();
        let mut number = self.numbers;
        let queue = self.queues.get_mut(name)?;
        let hidden = now + queue.visibility;
        let mut list = String::new();
        let visible = queue.messages.iter_mut().filter(|held| held.visible <= now);
        for held in visible.take(count) {
            number += 1;
            // As hard to quote as those of MNS.
            let receipt = format!("1-{number}+/==");
            held.dequeues += 1;
            held.visible = hidden;
            let _infallible = write!(
                list,
                "<Message><MessageId>{}</MessageId><ReceiptHandle>{receipt}</ReceiptHandle>\
                 <MessageBodyMD5>0</MessageBodyMD5><MessageBody>{}</MessageBody>\
                 <EnqueueTime>1700000000123</EnqueueTime>\
                 <NextVisibleTime>1700000030123</NextVisibleTime>\
                 <FirstDequeueTime>1700000001123</FirstDequeueTime>\
                 <DequeueCount>{}</DequeueCount><Priority>{}</Priority></Message>",
                held.id,
                held.sent.body,
                held.dequeues,
                held.sent.priority.unwrap_or(8),
            );
            held.receipt = Some(receipt);
        }
        self.numbers = number;
        let list = format!("<?xml version=\"1.0\"?><Messages {NAMESPACE}>{list}</Messages>");
        list.contains("<Message>").then(|| Told::new(200, list))
    }

    /// The place of a message that is in hand by a receipt.
    fn in_hand(&self, queue: &str, receipt: &str) -> Option<usize> {
        let now = Instant::now();
        let messages = &self.queues.get(queue)?.messages;
        messages
            .iter()
            .position(|held| held.receipt.as_deref() == Some(receipt) && held.visible > now)
    }

    fn act(&mut self, action: &str, name: &str, asked: &Asked) -> Told {
        match action {
            "GetQueueAttributes" => self.attributes(name),
            "GetTopicAttributes" => Told::new(
                200,
                format!("<Topic {NAMESPACE}><TopicName>{name}</TopicName></Topic>"),
            ),
            "BatchDeleteMessage" => self.delete(name, &asked.text()),
            "ChangeMessageVisibility" => self.hide(name, asked.query()),
            "SendMessage" => self.send_all(name, &asked.text()),
            "PublishMessage" => self.publish(name, &asked.text()),
            _ => error(400, "InvalidRequestURL"),
        }
    }

    fn attributes(&self, name: &str) -> Told {
        let (mut active, mut hidden, now) = (0, 0, Instant::now());
        let queue = self.queues.get(name);
        for held in queue.into_iter().flat_map(|queue| &queue.messages) {
            match held.visible <= now {
                true => active += 1,
                false => hidden += 1,
            }
        }
        let visibility = queue.map_or(0, |queue| queue.visibility.as_secs());
        Told::new(
            200,
            format!(
                "<Queue {NAMESPACE}><QueueName>{name}</QueueName>\
                 <VisibilityTimeout>{visibility}</VisibilityTimeout>\
                 <ActiveMessages>{active}</ActiveMessages>\
                 <InactiveMessages>{hidden}</InactiveMessages></Queue>"
            ),
        )
    }

    fn delete(&mut self, name: &str, text: &str) -> Told {
        let handles = texts(text, "ReceiptHandle");
        if handles.len() > CALL_MESSAGES_MAX || !text.contains(NAMESPACE) {
            return error(400, "InvalidArgument");
        }
        let mut errors = String::new();
        for handle in handles {
            let found = self.in_hand(name, handle);
            match (found, self.queues.get_mut(name)) {
                (Some(index), Some(queue)) => drop(queue.messages.remove(index)),
                _ => {
                    let _infallible = write!(
                        errors,
                        "<Error><ErrorCode>MessageNotExist</ErrorCode>\
                         <ErrorMessage>Message not exist.</ErrorMessage>\
                         <ReceiptHandle>{handle}</ReceiptHandle></Error>"
                    );
                }
            }
        }
        match errors.is_empty() {
            true => Told::new(204, ""),
            false => Told::new(404, format!("<Errors {NAMESPACE}>{errors}</Errors>")),
        }
    }

    fn hide(&mut self, name: &str, query: &str) -> Told {
        let seconds = parameter(query, "VisibilityTimeout").parse().unwrap_or(0);
        if !(1..=43_200).contains(&seconds) {
            return error(400, "InvalidArgument");
        }
        let receipt = decoded(parameter(query, "ReceiptHandle"));
        let number = self.number();
        let Some(index) = self.in_hand(name, &receipt) else {
            return error(404, "MessageNotExist");
        };
        let queue = self.queues.get_mut(name);
        let Some(held) = queue.and_then(|queue| queue.messages.get_mut(index)) else {
            return error(404, "MessageNotExist");
        };
        let receipt = format!("2-{number}+/==");
        held.visible = Instant::now() + Duration::from_secs(seconds);
        held.receipt = Some(receipt.clone());
        Told::new(
            200,
            format!(
                "<ChangeVisibility {NAMESPACE}><ReceiptHandle>{receipt}</ReceiptHandle>\
                 <NextVisibleTime>1700000030123</NextVisibleTime></ChangeVisibility>"
            ),
        )
    }

    fn send_all(&mut self, name: &str, text: &str) -> Told {
        if !text.contains(NAMESPACE) {
            return error(400, "MalformedXML");
        }
        let is_batch = text.starts_with("<Messages");
        let messages: Vec<_> = text.split("<MessageBody>").skip(1).map(message).collect();
        let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        if messages.len() > CALL_MESSAGES_MAX || bytes > 64 << 10 {
            return error(400, "InvalidArgument");
        }
        let mut list = String::new();
        for message in messages {
            let id = self.send(name, message).unwrap_or_default();
            let _infallible = write!(
                list,
                "<MessageId>{id}</MessageId><MessageBodyMD5>0</MessageBodyMD5>"
            );
            if is_batch {
                list.push_str("</Message><Message>");
            }
        }
        let list = list.trim_end_matches("</Message><Message>");
        Told::new(
            201,
            match is_batch {
                true => format!("<Messages {NAMESPACE}><Message>{list}</Message></Messages>"),
                false => format!("<Message {NAMESPACE}>{list}</Message>"),
            },
        )
    }

    fn publish(&mut self, name: &str, text: &str) -> Told {
        if !text.contains(NAMESPACE) {
            return error(400, "MalformedXML");
        }
        let id = self.number();
        let bodies = text.split("<MessageBody>").skip(1).map(message);
        self.topics
            .entry(name.to_owned())
            .or_default()
            .extend(bodies);
        Told::new(
            201,
            format!("<Message {NAMESPACE}><MessageId>T{id}</MessageId></Message>"),
        )
    }
}

/// A message, of what follows `<MessageBody>`.
fn message(rest: &str) -> MnsMessage {
    let (body, after) = rest.split_once("</MessageBody>").unwrap_or((rest, ""));
    let after = after.split("</Message>").next().unwrap_or_default();
    let text = |name| texts(after, name).first().map(|text| (*text).to_owned());
    let number = |name| text(name).and_then(|text| text.parse().ok());
    MnsMessage {
        body: body.to_owned(),
        delay: number("DelaySeconds"),
        priority: number("Priority"),
        tag: text("MessageTag"),
    }
}
