//! What a queue is: its type, and how often it hands a message out before it drops it.
//!
//! AMQP 0.9.1 has no way to ask. A declaration that differs from the queue is refused (406) with
//! the argument that differs and the value it has, one at a time. So the queue is declared as what
//! it cannot be, and with each refusal the declaration comes closer to it, until it is the delivery
//! limit that differs. The declaration also carries an argument that only streams may have: of a
//! queue that is not there it makes nothing.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Connection, ErrorKind};

use super::declare::QueueType;
use super::greeting::Version;

/// How often a quorum queue hands a message out again before it drops it, where nobody has said so:
/// RabbitMQ 4.0 and later.
const DEFAULT_LIMIT: u64 = 20;

/// From which version on there is a default, and a negative limit means none. Before that a
/// negative one drops a message that comes back once.
pub(super) const DEFAULT_SINCE: Version = Version(4, 0);

/// How many of its arguments a queue may have that we are told of one by one.
const ARGUMENTS_MAX: usize = 16;

/// The argument that limits how often a message is handed out again.
pub(super) const DELIVERY_LIMIT: &str = "x-delivery-limit";

/// What is known of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueFacts {
    /// None where the server does not say.
    pub(super) kind: Option<QueueType>,
    /// How often it hands a message out again before it drops or dead-letters it. A policy may set
    /// a lower one, which is not to be seen.
    pub(super) limit: Option<u64>,
    /// Whether limits are the rule on its server, so that what a policy sets is likely to be one.
    pub(super) is_limited_by_default: bool,
}

impl QueueFacts {
    /// What follows for a quorum queue from its argument `x-delivery-limit`, and from none.
    pub(super) fn quorum(argument: Option<i64>, version: Option<Version>) -> Self {
        let is_new = version.is_some_and(|version| version >= DEFAULT_SINCE);
        let limit = match argument {
            Some(limit) => u64::try_from(limit).ok().or((!is_new).then_some(0)),
            None => is_new.then_some(DEFAULT_LIMIT),
        };
        Self {
            kind: Some(QueueType::Quorum),
            limit,
            is_limited_by_default: false,
        }
    }

    /// The same on a server of this version.
    pub(super) fn at(self, version: Option<Version>) -> Self {
        Self {
            is_limited_by_default: version >= Some(DEFAULT_SINCE),
            ..self
        }
    }

    /// The redeliveries after which a message goes into the journal first: half of the limit, and
    /// few, since a policy may limit as well. While it is being stored it may come back once more.
    /// So one at most where limits are the rule: then a policy's limit of 2 leaves room for that.
    pub(super) fn returns_borne(&self) -> u64 {
        let most = if self.is_limited_by_default { 1 } else { 2 };
        self.limit.map_or(most, |limit| (limit / 2).min(most))
    }

    /// What a person should know of it.
    pub(super) fn warning(&self) -> Option<String> {
        let limit = self.limit?;
        Some(format!(
            "it has a delivery limit of {limit}: RabbitMQ drops or dead-letters a message that has \
             come back more often than that, be it by restarts of its readers alone; set the \
             policy delivery-limit or the queue's argument x-delivery-limit to -1 on RabbitMQ 4, \
             or declare it without one before that"
        ))
    }
}

/// Asks for the facts of a queue that is there, and changes nothing. What the user may not ask for
/// stays unknown.
pub(super) async fn facts(
    connection: &Connection,
    queue: &ShortString,
    version: Option<Version>,
) -> QueueFacts {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    // Neither can be true: the limit is a number, and a quorum queue has no segments.
    arguments.insert(DELIVERY_LIMIT.into(), text("?"));
    arguments.insert(
        "x-stream-max-segment-size-bytes".into(),
        AMQPValue::LongLongInt(1),
    );
    for _ in 0..ARGUMENTS_MAX {
        let Ok(channel) = connection.create_channel().await else {
            return QueueFacts::default();
        };
        let declared = channel
            .queue_declare(
                queue.clone(),
                QueueDeclareOptions::durable(),
                arguments.clone(),
            )
            .await;
        let Err(error) = declared else {
            return QueueFacts::default();
        };
        let ErrorKind::ProtocolError(error) = error.kind() else {
            return QueueFacts::default();
        };
        let Some(difference) = Difference::read(error.get_message().as_str()) else {
            return QueueFacts::default();
        };
        if let Some(facts) = difference.tells(version) {
            return facts;
        }
        match difference {
            Difference {
                name,
                value: Some((kind, value)),
            } if !arguments.inner().contains_key(name) => {
                let (Ok(name), Some(value)) = (ShortString::try_new(name), argument(kind, value))
                else {
                    return QueueFacts::default();
                };
                arguments.insert(name, value);
            }
            _ => return QueueFacts::default(),
        }
    }
    QueueFacts::default()
}

/// An argument that differs from the queue's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference<'t> {
    pub(super) name: &'t str,
    /// The queue's own: type and value, as the server writes them; no type where both have a value.
    /// None where it has no such argument.
    pub(super) value: Option<(&'t str, &'t str)>,
}

impl<'t> Difference<'t> {
    /// What a queue is of which this is told; none where it tells another argument.
    fn tells(&self, version: Option<Version>) -> Option<QueueFacts> {
        let of_kind = |kind| QueueFacts {
            kind,
            ..QueueFacts::default()
        };
        Some(match (self.name, self.value) {
            // Only classic queues are not durable, or go with their connection or last reader.
            ("durable" | "auto_delete" | "exclusive", _) => of_kind(Some(QueueType::Classic)),
            ("x-queue-type", None | Some((_, "classic"))) => of_kind(Some(QueueType::Classic)),
            ("x-queue-type", Some((_, "stream"))) => of_kind(Some(QueueType::Stream)),
            ("x-queue-type", Some(_)) => QueueFacts::default(),
            (DELIVERY_LIMIT, None) => QueueFacts::quorum(None, version),
            (DELIVERY_LIMIT, Some((_, value))) => value.parse().map_or_else(
                |_| QueueFacts::default(),
                |limit| QueueFacts::quorum(Some(limit), version),
            ),
            _ => return None,
        })
    }

    /// Reads `inequivalent arg 'NAME' for queue 'Q' in vhost 'V': received … but current is the
    /// value 'VALUE' of type 'TYPE'`, of which the server cuts off what has no place in 255 bytes.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (name, rest) = rest.split_once('\'')?;
        let (_, current) = rest.rsplit_once(" but current is ")?;
        // Of what is no argument it says only `true` or `false`.
        if !name.starts_with("x-") {
            return Some(Self { name, value: None });
        }
        if current == "none" {
            return Some(Self { name, value: None });
        }
        let current = current.strip_suffix('\'')?;
        let (value, kind) = match current.strip_prefix("the value '") {
            Some(typed) => typed.rsplit_once("' of type '")?,
            None => (current.strip_prefix('\'')?, ""),
        };
        Some(Self {
            name,
            value: Some((kind, value)),
        })
    }
}

fn argument(kind: &str, value: &str) -> Option<AMQPValue> {
    match kind {
        "longstr" => Some(AMQPValue::LongString(LongString::from(value))),
        "bool" => value.parse().ok().map(AMQPValue::Boolean),
        "float" | "double" => value.parse().ok().map(AMQPValue::Double),
        _ => value.parse().ok().map(AMQPValue::LongLongInt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_read_from_the_servers_words() {
        let words = |rest: &str| format!("PRECONDITION_FAILED - inequivalent arg {rest}");
        for (rest, expect) in [
            (
                "'x-delivery-limit' for queue 'q' in vhost '/': received the value '?' of type \
                 'longstr' but current is the value '3' of type 'signedint'",
                Some(("x-delivery-limit", Some(("signedint", "3")))),
            ),
            (
                "'x-delivery-limit' for queue 'a but current is b' in vhost '/': received the \
                 value '?' of type 'longstr' but current is none",
                Some(("x-delivery-limit", None)),
            ),
            (
                "'x-dead-letter-exchange' for queue 'q' in vhost '/': received none but current is \
                 the value 'it's' of type 'longstr'",
                Some(("x-dead-letter-exchange", Some(("longstr", "it's")))),
            ),
            (
                "'x-delivery-limit' for queue 'q' in vhost '/': received '?' but current is '3'",
                Some(("x-delivery-limit", Some(("", "3")))),
            ),
            (
                "'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is \
                 'stream'",
                Some(("x-queue-type", Some(("", "stream")))),
            ),
            (
                "'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
                Some(("durable", None)),
            ),
            (
                "'x-delivery-limit' for queue 'q' in vhost '/': received the value",
                None,
            ),
            (
                "'x-delivery-limit' for queue 'q' in vhost '/': received none but current is the \
                 value '3' of ty",
                None,
            ),
        ] {
            let text = words(rest);
            let read = Difference::read(&text).map(|read| (read.name, read.value));
            assert_eq!(read, expect, "{rest}");
        }
        assert_eq!(
            Difference::read("NOT_FOUND - no queue 'q' in vhost '/'"),
            None
        );
    }

    #[test]
    fn what_limits_a_quorum_queue() {
        let (old, new) = (Some(Version(3, 13)), Some(Version(4, 0)));
        for (argument, version, limit, borne) in [
            (None, old, None, 2),
            (None, None, None, 2),
            (None, new, Some(20), 1),
            (Some(20), old, Some(20), 2),
            (Some(3), old, Some(3), 1),
            (Some(3), new, Some(3), 1),
            (Some(1), new, Some(1), 0),
            (Some(-1), new, None, 1),
            // There a message that comes back once is gone.
            (Some(-1), old, Some(0), 0),
        ] {
            let facts = QueueFacts::quorum(argument, version).at(version);
            assert_eq!(
                (facts.limit, facts.returns_borne()),
                (limit, borne),
                "{argument:?} {version:?}"
            );
            assert_eq!(facts.warning().is_some(), limit.is_some());
        }
    }
}
