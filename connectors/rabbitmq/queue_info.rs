//! What a source has found out about its queue and server, and keeps from one connection to the
//! next.

use std::time::Duration;

use lapin::{ErrorKind, types::ShortString};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::mapping::Incoming;
use super::queue::QueueFacts;

/// How long a pipe holds a message unless it is set: a third of the server's own
/// `consumer_timeout`, after which it closes the channel.
pub(super) const HOLD: Duration = Duration::from_secs(600);

/// What is known about a source's queue and server.
#[derive(Debug, Default)]
pub(super) struct QueueInfo(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    facts: Option<QueueFacts>,
    hold: Option<Duration>,
}

impl QueueInfo {
    /// The queue's facts, once they are known.
    pub(super) fn facts(&self) -> Option<QueueFacts> {
        self.0.lock().facts
    }

    /// Notes them.
    pub(super) fn learn(&self, facts: QueueFacts) {
        self.0.lock().facts = Some(facts);
    }

    /// Notes how long a message may be held as it is set.
    pub(super) fn hold(&self, set: Option<Duration>) {
        self.0.lock().hold.get_or_insert(set.unwrap_or(HOLD));
    }

    /// The server has taken messages back after this long. Returns how long one is held from now
    /// on.
    pub(super) fn shorten(&self, timeout: Duration) -> Duration {
        let hold = &mut self.0.lock().hold;
        let shorter = hold.unwrap_or(HOLD).min(timeout / 3);
        *hold.insert(shorter)
    }

    /// By when a message should be acknowledged. One that has come back as often as its queue bears
    /// must not wait for anything.
    pub(super) fn hold_until(&self, incoming: &Incoming, is_stream: bool) -> Option<Instant> {
        if is_stream {
            return None;
        }
        let inner = self.0.lock();
        let facts = inner.facts.unwrap_or_default();
        let borne = incoming.returns().unwrap_or_default() < facts.returns_borne();
        Some(
            Instant::now()
                + if borne {
                    inner.hold.unwrap_or(HOLD)
                } else {
                    Duration::ZERO
                },
        )
    }
}

/// The server's `consumer_timeout`, where an error says that a message was in hand for longer.
pub(super) fn consumer_timeout(error: &lapin::Error) -> Option<Duration> {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    timeout_in(error.get_message())
}

/// Reads `delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms. …`.
fn timeout_in(text: &ShortString) -> Option<Duration> {
    let (_, rest) = text
        .as_str()
        .split_once("timed out. Timeout value used: ")?;
    let (milliseconds, _) = rest.split_once(" ms")?;
    milliseconds.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_come_back_too_often_must_not_wait() {
        let message = |count: Option<i64>| {
            let mut headers = FieldTable::default();
            if let Some(count) = count {
                headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(count));
            }
            Incoming {
                properties: BasicProperties::default().with_headers(headers),
                ..Incoming::default()
            }
        };
        let queue_info = QueueInfo::default();
        queue_info.hold(Some(Duration::from_secs(60)));
        let wait = |queue_info: &QueueInfo, count| {
            queue_info.hold_until(&message(count), false).unwrap() - Instant::now()
        };
        let (patient, none) = (Duration::from_secs(60), Duration::ZERO);
        for (limit, expect) in [
            (None, [patient, patient, none]),
            (Some(20), [patient, patient, none]),
            (Some(3), [patient, none, none]),
            (Some(1), [none, none, none]),
        ] {
            queue_info.learn(QueueFacts {
                limit,
                ..QueueFacts::default()
            });
            assert_eq!(
                [None, Some(1), Some(2)].map(|count| wait(&queue_info, count)),
                expect,
                "{limit:?}"
            );
        }
        assert_eq!(queue_info.hold_until(&message(Some(9)), true), None);

        assert_eq!(
            queue_info.shorten(Duration::from_secs(30)),
            Duration::from_secs(10)
        );
        assert_eq!(
            queue_info.shorten(Duration::from_secs(3_600)),
            Duration::from_secs(10),
            "it never grows"
        );
    }

    #[test]
    fn the_servers_timeout_is_read_from_its_words() {
        let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout \
                    value used: 1000 ms. This timeout value can be configured";
        assert_eq!(timeout_in(&text.into()), Some(Duration::from_secs(1)));
        assert_eq!(
            timeout_in(&"PRECONDITION_FAILED - unknown delivery tag 99".into()),
            None
        );
    }
}
