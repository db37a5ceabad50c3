//! The packets of MQTT 3.1.1 and 5, as far as a client has to do with them. One set of types stands
//! for both versions: what 3.1.1 lacks is empty.
//!
//! A message whose contents break the protocol is still read as far as its packet identifier: it
//! has to be acknowledged, or the broker would send it again for ever.

mod read;
#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;

pub(super) use read::{decode, frame_length};
pub(super) use write::encode;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    #[default]
    V5,
}

/// The quality of service, as the protocol counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::enum_variant_names, reason = "the standard's own names")]
pub(super) enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

impl Qos {
    /// The quality of service of a number.
    pub(super) fn of(number: u8) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce]
            .into_iter()
            .find(|qos| *qos as u8 == number)
    }
}

/// A message, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Whether it may have been sent before.
    pub(super) again: bool,
    /// The packet identifier; 0 where there is none.
    pub(super) id: u16,
    /// UTF-8, where its sender keeps to the protocol.
    pub(super) topic: Bytes,
    pub(super) properties: Properties,
    pub(super) payload: Bytes,
    /// Why it cannot be read, where it cannot.
    pub(super) unreadable: Option<&'static str>,
}

/// The properties of a packet (MQTT 5, section 2.2.2), by their identifiers; which one belongs in
/// which packet is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) numbers: Vec<(u8, u32)>,
    pub(super) texts: Vec<(u8, Bytes)>,
    pub(super) user: Vec<(Bytes, Bytes)>,
}

/// Identifiers of properties.
pub(super) mod property {
    pub(in crate::mqtt) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::mqtt) const SESSION_EXPIRY: u8 = 0x11;
    pub(in crate::mqtt) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in crate::mqtt) const REASON: u8 = 0x1f;
    pub(in crate::mqtt) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in crate::mqtt) const MAXIMUM_QOS: u8 = 0x24;
    pub(in crate::mqtt) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(super) const USER: u8 = 0x26;
    pub(in crate::mqtt) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
}

impl Properties {
    /// The number of this identifier.
    pub(super) fn number(&self, identifier: u8) -> Option<u32> {
        let mut numbers = self.numbers.iter();
        let found = numbers.find(|(found, _)| *found == identifier);
        found.map(|(_, number)| *number)
    }

    /// The text of this identifier.
    pub(super) fn text(&self, identifier: u8) -> Option<&Bytes> {
        let mut texts = self.texts.iter();
        let found = texts.find(|(found, _)| *found == identifier);
        found.map(|(_, text)| text)
    }

    /// What the broker says beside a reason code.
    pub(super) fn said(&self) -> Option<String> {
        let text = self.text(property::REASON)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// A packet of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Connected {
        session_present: bool,
        code: u8,
        properties: Properties,
    },
    Publish(Publish),
    /// What became of a message.
    Acknowledged {
        id: u16,
        reason: Reason,
    },
    /// A message of QoS 2 is finished with.
    Release(u16),
    /// What became of each topic filter.
    Subscribed {
        id: u16,
        codes: Vec<u8>,
    },
    Unsubscribed,
    Pong,
    Disconnect(Reason),
}

/// A reason code of MQTT 5, and what the broker says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) code: u8,
    pub(super) said: Option<String>,
}

/// A packet for the broker.
#[derive(Clone, Copy)]
pub(super) enum Outgoing<'p> {
    Connect(&'p Connect),
    Publish(&'p Publish),
    /// QoS 1 is finished with.
    Acknowledge(u16),
    /// QoS 2 has been received.
    Received(u16),
    /// QoS 2 is finished with.
    Complete(u16),
    Subscribe(&'p Subscribe),
    Unsubscribe(&'p [String]),
    Ping,
    Disconnect,
}

/// Who connects.
#[derive(Clone, Default)]
pub(super) struct Connect {
    pub(super) client_id: String,
    /// Whether the session of before is dropped.
    pub(super) is_clean: bool,
    /// Seconds of silence after which the broker ends the connection.
    pub(super) keep_alive: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) properties: Properties,
}

/// What is subscribed to.
#[derive(Clone, Debug)]
pub(super) struct Subscribe {
    pub(super) filters: Vec<String>,
    pub(super) qos: Qos,
    /// When retained messages are sent (MQTT 5, section 3.8.3.1); 3.1.1 always sends them.
    pub(super) retained: Retained,
}

/// When the broker sends the retained messages of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retained {
    /// Where the session has not had the subscription before.
    WhereNew = 1,
    Never = 2,
}

/// The packet identifiers of the requests that a connection makes once, as it begins.
const SUBSCRIBE_ID: u16 = 1;
const UNSUBSCRIBE_ID: u16 = 2;

/// What breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);
