//! A message as it came, and the event that is made of it.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use memchr::memmem;
use pointsman_schemas::{Clock, Event, EventBuilder, InvalidEvent, Name, Timestamp, json};
use serde_json::{Map, Value, json};

use super::Encoding;
use crate::alibaba::{from_xml, is_envelope};
use crate::mns::queue::Message;
use crate::structured::is_cloudevent;
use crate::{Arrival, Plain, body, leased};

/// The type of an event that is made of a plain message.
pub(super) const PLAIN_TYPE: &str = "com.pointsman.mns.message";

/// Makes events of messages.
#[derive(Clone, Debug)]
pub(in crate::mns) struct Decoder {
    /// The source's name.
    pub(in crate::mns) name: Name,
    /// The queue's name.
    pub(in crate::mns) queue: String,
    pub(in crate::mns) encoding: Encoding,
    /// Whether an `event:` mapping wants what is no CloudEvent.
    pub(in crate::mns) mapped: bool,
    pub(in crate::mns) clock: Arc<dyn Clock>,
}

/// A body without what a topic put around it.
struct Unwrapped {
    body: Bytes,
    envelope: Option<Value>,
}

impl leased::Decoder for Decoder {
    type Message = Message;

    fn queue(&self) -> &str {
        &self.queue
    }

    fn arrival(&self, message: &Message) -> Result<Arrival, String> {
        let unwrapped = self.unwrapped(&message.body);
        if is_cloudevent(&unwrapped.body) {
            let event = json::decode(&unwrapped.body).map_err(|invalid| invalid.to_string())?;
            return Ok(Arrival::Event(Arc::new(event)));
        }
        let sent = time(message.sent).unwrap_or_else(|| self.clock.now());
        let defaults = self
            .plain(message, &unwrapped, sent)
            .map_err(|invalid| invalid.to_string())?;
        let fields = || self.fields(message, &unwrapped, sent);
        Arrival::made(defaults, self.mapped.then(fields))
            .map_err(|invalid| format!("no event can be made of this: {invalid}"))
    }

    fn id(message: &Message) -> &str {
        &message.id
    }

    fn body(message: Message) -> Bytes {
        Bytes::from(message.body)
    }
}

impl Decoder {
    fn unwrapped(&self, text: &str) -> Unwrapped {
        let plain = self.decoded(text);
        // A topic's envelope is written as it is, or in base64 as any other body.
        let envelope = envelope(text.as_bytes()).or_else(|| envelope(&plain));
        let message = envelope.as_ref().and_then(|said| said["Message"].as_str());
        Unwrapped {
            body: message.map_or(plain, |message| self.decoded(message)),
            envelope,
        }
    }

    fn decoded(&self, text: &str) -> Bytes {
        let decoded = match self.encoding {
            Encoding::Base64 => BASE64_STANDARD.decode(text.trim()).ok(),
            Encoding::Text => None,
        };
        decoded.map_or_else(|| Bytes::copy_from_slice(text.as_bytes()), Bytes::from)
    }

    /// What a plain message becomes by default.
    fn plain(
        &self,
        message: &Message,
        unwrapped: &Unwrapped,
        sent: Timestamp,
    ) -> Result<EventBuilder, InvalidEvent> {
        let (data, media_type) = body::read(None, unwrapped.body.clone())?;
        let source = format!("/mns/{}", self.name);
        let event = Event::builder(&message.id, source, PLAIN_TYPE)
            .subject(&*self.queue)
            .time(sent.to_string())
            .data(data);
        Ok(match media_type {
            Some(media_type) => event.datacontenttype(media_type),
            None => event,
        })
    }

    /// What an `event:` mapping sees beside the body.
    fn fields(
        &self,
        message: &Message,
        unwrapped: &Unwrapped,
        sent: Timestamp,
    ) -> Map<String, Value> {
        let first = time(message.first_dequeued).map(|time| time.to_string());
        Plain::fields([
            // There are none, and every source's root has them.
            ("headers", json!({})),
            ("queue", self.queue.as_str().into()),
            ("dequeue_count", message.dequeue_count.into()),
            ("priority", message.priority.into()),
            ("sent", sent.to_string().into()),
            ("first_dequeued", first.into()),
            (
                "topic",
                unwrapped.envelope.as_ref().map_or(Value::Null, topic),
            ),
        ])
    }
}

/// What a topic says of a message.
fn topic(envelope: &Value) -> Value {
    json!({
        "name": envelope["TopicName"],
        "owner": envelope["TopicOwner"],
        "subscription": envelope["SubscriptionName"],
        "message_id": envelope["MessageId"],
        "tag": envelope["MessageTag"],
        "published": envelope["PublishTime"],
    })
}

/// What a topic has put around a message, if this is that.
fn envelope(body: &[u8]) -> Option<Value> {
    match body.trim_ascii_start().first()? {
        b'<' => from_xml(body),
        b'{' if memmem::find(body, b"\"SubscriptionName\"").is_some() => {
            serde_json::from_slice(body).ok().filter(is_envelope)
        }
        _ => None,
    }
}

/// A time in milliseconds since 1970.
fn time(milliseconds: Option<i64>) -> Option<Timestamp> {
    let milliseconds = milliseconds.filter(|time| *time >= 0)?;
    milliseconds.checked_mul(1_000).map(Timestamp)
}
