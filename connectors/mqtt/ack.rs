//! How a message is acknowledged.

use super::packet::{Outgoing, Publish, Qos};
use crate::Verdict;
use crate::in_hand::Unacknowledged;

/// What finishes with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    AtLeastOnce(u16),
    ExactlyOnce(u16),
}

impl Ack {
    pub(super) fn packet(self) -> Outgoing<'static> {
        match self {
            Self::AtLeastOnce(id) => Outgoing::Acknowledge(id),
            Self::ExactlyOnce(id) => Outgoing::Received(id),
        }
    }
}

impl Unacknowledged for Publish {
    type Ack = Ack;

    /// Section 4.6 of both versions.
    const IN_ORDER: bool = true;

    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }

    fn comes_again(&self) -> bool {
        self.qos != Qos::AtMostOnce
    }

    /// There is no way to refuse a message, and nobody but us would keep it: MQTT has no dead
    /// letters.
    fn acknowledge(&self, _: &Verdict) -> Option<Ack> {
        match self.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(Ack::AtLeastOnce(self.id)),
            Qos::ExactlyOnce => Some(Ack::ExactlyOnce(self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mqtt::packet::Properties;

    #[test]
    fn each_quality_of_service_has_its_own_acknowledgement() {
        for (qos, expect) in [
            (Qos::AtMostOnce, None),
            (Qos::AtLeastOnce, Some(Ack::AtLeastOnce(9))),
            (Qos::ExactlyOnce, Some(Ack::ExactlyOnce(9))),
        ] {
            let publish = Publish {
                qos,
                retain: false,
                again: false,
                id: 9,
                topic: Bytes::from_static(b"t"),
                properties: Properties::default(),
                payload: Bytes::new(),
                unreadable: None,
            };
            assert_eq!(publish.acknowledge(&Verdict::Stored), expect);
            assert_eq!(publish.comes_again(), expect.is_some());
        }
    }
}
