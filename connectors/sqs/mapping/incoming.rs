//! A message as it came, and the event that is made of it.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as System};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use pointsman_schemas::event::is_string;
use pointsman_schemas::{
    Clock, Event, EventBuilder, ExtensionValue, InvalidEvent, Name, Timestamp, json,
};
use serde_json::{Map, Value};

use super::sns::{Envelope, headers_of_message};
use super::{CONTENT_TYPE, PREFIX};
use crate::trace::adopt;
use crate::{Arrival, Plain, body, leased};

/// The type of an event that is made of a plain message.
pub(super) const PLAIN_TYPE: &str = "com.pointsman.sqs.message";

/// The attribute that is the message's group.
const PARTITION_KEY: &str = "partitionkey";

/// Makes events of messages.
#[derive(Clone, Debug)]
pub(in crate::sqs) struct Decoder {
    /// The source's name.
    pub(in crate::sqs) name: Name,
    /// The queue's name.
    pub(in crate::sqs) queue: String,
    /// Whether an `event:` mapping wants what is no CloudEvent.
    pub(in crate::sqs) mapped: bool,
    pub(in crate::sqs) clock: Arc<dyn Clock>,
}

/// A message attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Text(String),
    /// What is no UTF-8.
    Bytes(Vec<u8>),
}

impl Header {
    /// Bytes, which may be a text.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(_) => None,
        }
    }

    /// As JSON has it: a text, or base64.
    fn value(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
        }
    }
}

/// A message without what SNS put around it.
struct Unwrapped<'m> {
    message: &'m Message,
    body: Bytes,
    headers: BTreeMap<String, Header>,
    sns: Option<Envelope>,
}

impl leased::Decoder for Decoder {
    type Message = Message;

    fn queue(&self) -> &str {
        &self.queue
    }

    fn arrival(&self, message: &Message) -> Result<Arrival, String> {
        let unwrapped = Unwrapped::of(message);
        let mut arrival = self.decode(&unwrapped)?;
        let headers = unwrapped.headers.iter();
        let texts = headers.filter_map(|(name, value)| Some((&**name, value.text()?.as_bytes())));
        adopt(slice::from_mut(&mut arrival), texts);
        Ok(arrival)
    }

    fn id(message: &Message) -> &str {
        message.message_id().unwrap_or_default()
    }

    fn body(message: Message) -> Bytes {
        Bytes::from(message.body.unwrap_or_default())
    }
}

impl Decoder {
    fn decode(&self, unwrapped: &Unwrapped<'_>) -> Result<Arrival, String> {
        if let Some(event) = unwrapped.event() {
            let event = event.map_err(|invalid| invalid.to_string())?;
            return Ok(Arrival::Event(Arc::new(event)));
        }
        let sent = unwrapped.time(System::SentTimestamp);
        let sent = sent.unwrap_or_else(|| self.clock.now());
        let defaults = self
            .plain(unwrapped, sent)
            .map_err(|invalid| invalid.to_string())?;
        let fields = || self.fields(unwrapped, sent);
        Arrival::made(defaults, self.mapped.then(fields))
            .map_err(|invalid| format!("no event can be made of this: {invalid}"))
    }

    /// What a plain message becomes by default.
    fn plain(
        &self,
        unwrapped: &Unwrapped<'_>,
        sent: Timestamp,
    ) -> Result<EventBuilder, InvalidEvent> {
        let (data, media_type) = body::read(unwrapped.content_type(), unwrapped.body.clone())?;
        let id = unwrapped.message.message_id().unwrap_or_default();
        let mut event = Event::builder(id, format!("/sqs/{}", self.name), PLAIN_TYPE)
            .subject(&*self.queue)
            .time(sent.to_string())
            .data(data);
        if let Some(media_type) = media_type {
            event = event.datacontenttype(media_type);
        }
        let group = unwrapped.attribute(System::MessageGroupId);
        if let Some(group) = group.filter(|group| !group.is_empty() && is_string(group)) {
            event = event.attribute(PARTITION_KEY, group.into());
        }
        Ok(event)
    }

    /// What an `event:` mapping sees beside the body.
    fn fields(&self, unwrapped: &Unwrapped<'_>, sent: Timestamp) -> Map<String, Value> {
        let headers: Map<_, _> = unwrapped
            .headers
            .iter()
            .map(|(name, header)| (name.clone(), header.value()))
            .collect();
        let text = |name| Value::from(unwrapped.attribute(name));
        let count = unwrapped.attribute(System::ApproximateReceiveCount);
        let count = count.and_then(|count| count.parse::<u64>().ok());
        Plain::fields([
            ("headers", headers.into()),
            ("queue", self.queue.as_str().into()),
            ("group", text(System::MessageGroupId)),
            ("deduplication_id", text(System::MessageDeduplicationId)),
            ("sequence", text(System::SequenceNumber)),
            ("receive_count", count.into()),
            ("sent", sent.to_string().into()),
            ("sender", text(System::SenderId)),
            (
                "sns",
                unwrapped.sns.as_ref().map_or(Value::Null, Envelope::fields),
            ),
        ])
    }
}

impl<'m> Unwrapped<'m> {
    fn of(message: &'m Message) -> Self {
        let text = message.body().unwrap_or_default();
        let attributes = message.message_attributes.iter().flatten();
        let mut headers = headers_of_message(attributes);
        let sns = Envelope::around(text);
        if let Some(sns) = &sns {
            headers.extend(sns.headers());
        }
        let body = sns.as_ref().map_or(text, |sns| &sns.message);
        Self {
            message,
            body: Bytes::copy_from_slice(body.as_bytes()),
            headers,
            sns,
        }
    }

    /// What SQS itself says of the message.
    fn attribute(&self, name: System) -> Option<&'m str> {
        let attributes = self.message.attributes.as_ref()?;
        attributes.get(&name).map(String::as_str)
    }

    /// A time that SQS says, in milliseconds.
    fn time(&self, name: System) -> Option<Timestamp> {
        let milliseconds: i64 = self.attribute(name)?.parse().ok()?;
        let milliseconds = Some(milliseconds).filter(|time| *time >= 0)?;
        milliseconds.checked_mul(1_000).map(Timestamp)
    }

    fn content_type(&self) -> Option<&str> {
        let is_it = |name: &str| {
            name.eq_ignore_ascii_case(CONTENT_TYPE) || name.eq_ignore_ascii_case("contenttype")
        };
        let (_, header) = self.headers.iter().find(|(name, _)| is_it(name))?;
        let text = header.text()?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// The CloudEvent that a message is, right or wrong; none where it is a plain one.
    fn event(&self) -> Option<Result<Event, InvalidEvent>> {
        const STRUCTURED: &str = "application/cloudevents";
        const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
        let declared = self.content_type().unwrap_or_default();
        let essence = declared.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(json::MEDIA_TYPE) {
            return Some(json::decode(&self.body));
        }
        if declared
            .get(..STRUCTURED.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
        {
            let mistake = format!(
                "the content type {essence} is no format of CloudEvents that is understood; send \
                 {}",
                json::MEDIA_TYPE
            );
            return Some(Err(InvalidEvent::Malformed(mistake)));
        }
        self.attributes()
            .any(|(name, _)| REQUIRED.contains(&name))
            .then(|| self.binary())
    }

    /// The attributes of an event in binary mode.
    fn attributes(&self) -> impl Iterator<Item = (&str, &Header)> {
        self.headers
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)))
    }

    fn binary(&self) -> Result<Event, InvalidEvent> {
        let (mut event, mut attribute_type) = (EventBuilder::default(), None);
        let mut has_version = false;
        for (name, value) in self.attributes() {
            let Some(text) = value.text() else {
                return Err(InvalidEvent::Value {
                    name: name.to_owned(),
                    value: value.value().to_string(),
                    expected: "UTF-8",
                });
            };
            has_version |= name == "specversion";
            if name == "datacontenttype" {
                attribute_type = Some(text);
            }
            event = event.attribute(name, ExtensionValue::from(text));
        }
        if !has_version {
            return Err(InvalidEvent::Missing("specversion"));
        }
        let declared = self.content_type();
        if let Some(declared) = declared {
            event = event.datacontenttype(declared);
        }
        let (data, _) = body::read(declared.or(attribute_type), self.body.clone())?;
        event.data(data).build()
    }
}
