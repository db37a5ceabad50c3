//! How far a stream has been read, what its retention removed unread, and whether it is still the
//! same stream.
//!
//! AMQP 0.9.1 cannot ask a stream anything but for its messages. So the message that was stored
//! last is asked for once more: it is there, and the same, unless the stream's limits have removed
//! it or the stream is another one. Offsets that no message has need not be lost messages, since
//! the server uses some for itself: only what lies before the stream's first message is counted.

use std::ops::Range;
use std::time::Duration;

use lapin::Connection;
use lapin::options::BasicQosOptions;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use pointsman_schemas::Cursor;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use super::amqp10;
use super::mapping::Incoming;
use super::message::UnackedMessage;
use super::subscription::Subscription;

/// How soon a stream sends the message at which it was left, and its first one.
const LEFT_WITHIN: Duration = Duration::from_secs(5);

/// Ranges of offsets without messages that wait for an explanation; it takes one look to explain
/// them all.
const HOLES_MAX: usize = 64;

/// A position in a stream: a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamPosition {
    pub(super) offset: u64,
    /// Tells its body from others, where that stays the same over releases of the server.
    digest: Option<u64>,
}

impl StreamPosition {
    /// The position of a message; none where it comes from no stream.
    pub(super) fn of(incoming: &Incoming) -> Option<Self> {
        let offset = incoming.offset()?;
        // What another protocol has put around a body is the server's to change.
        let is_wrapped = incoming
            .properties
            .kind()
            .as_ref()
            .is_some_and(|kind| kind.as_str() == amqp10::TYPE);
        let digest = || {
            Sha256::digest(&incoming.body)
                .iter()
                .take(8)
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Some(Self {
            offset,
            digest: (!is_wrapped).then(digest),
        })
    }

    /// The cursor of a stream that was read up to this message.
    pub(super) fn cursor(self, fingerprint: u64) -> Cursor {
        let digest = self.digest.map(u64::to_be_bytes);
        let position = [
            &self.offset.to_be_bytes()[..],
            digest.as_ref().map_or(&[], |digest| digest),
        ]
        .concat();
        Cursor {
            fingerprint,
            position: position.into(),
        }
    }

    /// Where the stream was left by its cursor.
    ///
    /// # Errors
    /// The cursor is of another stream, or damaged.
    pub(super) fn read(cursor: &Cursor, fingerprint: u64) -> Result<Self, String> {
        if cursor.fingerprint != fingerprint {
            return Err(
                "what was read so far was another stream: name it as before, or give this source a \
                 new name"
                    .into(),
            );
        }
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes);
        let (offset, digest) = cursor.position.split_at(cursor.position.len().min(8));
        let digest = if digest.is_empty() {
            Ok(None)
        } else {
            number(digest).map(Some)
        };
        let position = number(offset).and_then(|offset| {
            Ok(Self {
                offset,
                digest: digest?,
            })
        });
        position.map_err(|_| {
            "the stored position in the stream is damaged; give this source a new name to begin \
             anew"
                .into()
        })
    }
}

/// What a message of a stream is to its reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MessageStatus {
    /// It has not been read before.
    New,
    /// It is stored already: it was asked for to see that it is there.
    Stored,
    /// It belongs to another stream; the reason to stop.
    OtherStream(String),
}

/// How far a stream has been read since it was opened.
pub(super) struct StreamProgress {
    queue: ShortString,
    /// Where it was left, until a message has come.
    left: Option<StreamPosition>,
    /// The last message that has come.
    last: Option<u64>,
    /// Offsets without messages.
    holes: Vec<Range<u64>>,
    /// How many of them the look under way will explain: it says nothing of what is removed after
    /// it.
    looked_at: usize,
    look_at: Instant,
}

/// What was found out by the stream's first message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GapReport {
    /// How many messages retention removed unread, and where.
    pub(super) skipped: Option<(u64, String)>,
    /// The stream is another one, as the reason to stop.
    pub(super) another: Option<String>,
}

impl StreamProgress {
    /// A stream that was left there, or that is read for the first time.
    pub(super) fn new(queue: ShortString, left: Option<StreamPosition>) -> Self {
        Self {
            queue,
            left,
            last: None,
            holes: Vec::new(),
            looked_at: 0,
            look_at: Instant::now() + LEFT_WITHIN,
        }
    }

    /// Follows a message.
    pub(super) fn observe(&mut self, incoming: &Incoming) -> MessageStatus {
        let Some(offset) = incoming.offset() else {
            return MessageStatus::New;
        };
        let expected = match (self.left, self.last) {
            (Some(left), _) if offset < left.offset => return MessageStatus::Stored,
            (Some(left), _) if offset == left.offset => {
                (self.left, self.last) = (None, Some(offset));
                let digest = StreamPosition::of(incoming).and_then(|position| position.digest);
                return match left.digest.zip(digest) {
                    Some((before, now)) if before != now => MessageStatus::OtherStream(
                        self.made_anew(&format!("offset {offset} is another message now")),
                    ),
                    _ => MessageStatus::Stored,
                };
            }
            (Some(left), _) => left.offset.saturating_add(1),
            (None, Some(last)) => last.saturating_add(1),
            (None, None) => offset,
        };
        (self.left, self.last) = (None, Some(offset));
        if expected < offset && self.holes.len() < HOLES_MAX {
            self.holes.push(expected..offset);
            self.look_at = Instant::now();
        }
        MessageStatus::New
    }

    /// When the stream's first message is to be looked at, where that would say something.
    pub(super) fn look_at(&self) -> Option<Instant> {
        (self.left.is_some() || !self.holes.is_empty()).then_some(self.look_at)
    }

    /// The stream's first message is being looked at.
    pub(super) fn begin_look(&mut self) {
        self.looked_at = self.holes.len();
    }

    /// The stream's first message has this offset; none where none has come.
    pub(super) fn found_first(&mut self, first: Option<u64>) -> GapReport {
        self.look_at = Instant::now() + LEFT_WITHIN;
        let Some(first) = first else {
            return GapReport::default();
        };
        // Nothing comes although the stream has begun: the message at which it was left should be
        // there.
        let another = self.left.filter(|left| first <= left.offset).map(|left| {
            let at = left.offset;
            self.made_anew(&format!(
                "offset {at} was read last, and it begins at {first} and ends before that"
            ))
        });
        let removed: Vec<_> = self
            .holes
            .drain(..self.looked_at.min(self.holes.len()))
            .filter(|hole| hole.start < first)
            .collect();
        let messages = removed
            .iter()
            .map(|hole| hole.end.min(first) - hole.start)
            .sum();
        let why = removed.first().map(|hole| {
            let queue = &self.queue;
            format!(
                "retention removed them from the stream {queue}, from offset {} on; its first \
                 message is now {first}",
                hole.start
            )
        });
        GapReport {
            skipped: why.map(|why| (messages, why)),
            another,
        }
    }

    fn made_anew(&self, how: &str) -> String {
        let queue = &self.queue;
        format!(
            "the stream {queue} has been made anew: {how}; give this source a new name to read it \
             from its beginning"
        )
    }
}

/// The offset of the first message that there is; none where none comes.
pub(super) async fn first_offset(connection: &Connection, queue: ShortString) -> Option<u64> {
    let channel = connection.create_channel().await.ok()?;
    channel
        .basic_qos(1, BasicQosOptions::default())
        .await
        .ok()?;
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-stream-offset".into(),
        AMQPValue::LongString(LongString::from("first")),
    );
    let mut consumer = Subscription {
        channel,
        queue,
        arguments,
    }
    .consume("")
    .await
    .ok()?;
    let delivery = timeout(LEFT_WITHIN, futures::StreamExt::next(&mut consumer))
        .await
        .ok()??
        .ok()?;
    UnackedMessage::from(delivery).incoming.offset()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::BasicProperties;

    use super::*;

    fn message(offset: i64, body: &'static str) -> Incoming {
        let mut headers = FieldTable::default();
        headers.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset));
        Incoming {
            body: Bytes::from_static(body.as_bytes()),
            properties: BasicProperties::default().with_headers(headers),
            exchange: String::new(),
            routing_key: String::new(),
            redelivered: false,
            unreadable: None,
        }
    }

    fn progress(left: Option<StreamPosition>) -> StreamProgress {
        StreamProgress::new("s".into(), left)
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let position = StreamPosition::of(&message(7, "seven")).unwrap();
        let cursor = position.cursor(3);
        assert_eq!(StreamPosition::read(&cursor, 3), Ok(position));
        assert!(
            StreamPosition::read(&cursor, 4)
                .unwrap_err()
                .contains("another stream")
        );
        let of = |bytes: &'static [u8]| {
            StreamPosition::read(
                &Cursor {
                    fingerprint: 3,
                    position: Bytes::from_static(bytes),
                },
                3,
            )
        };
        assert_eq!(
            of(b"\0\0\0\0\0\0\0\x07"),
            Ok(StreamPosition {
                offset: 7,
                digest: None
            }),
            "as it was written before"
        );
        for damaged in [&b""[..], b"\0\0\0", b"\0\0\0\0\0\0\0\x07\0"] {
            assert!(of(damaged).unwrap_err().contains("damaged"), "{damaged:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_lies_before_the_first_message_was_removed() {
        let mut progress = progress(None);
        assert_eq!(
            (progress.observe(&message(10, "")), progress.look_at()),
            (MessageStatus::New, None),
            "it may begin anywhere"
        );
        assert_eq!(
            (progress.observe(&message(11, "")), progress.look_at()),
            (MessageStatus::New, None)
        );
        // The server has used 12 and 13 for itself.
        assert_eq!(
            (progress.observe(&message(14, "")), progress.look_at()),
            (MessageStatus::New, Some(Instant::now()))
        );
        progress.begin_look();
        assert_eq!(
            (progress.found_first(Some(5)), progress.look_at()),
            (GapReport::default(), None)
        );

        progress.observe(&message(20, ""));
        progress.observe(&message(30, ""));
        assert_eq!(progress.found_first(None), GapReport::default());
        assert_eq!(
            progress.look_at(),
            Some(Instant::now() + LEFT_WITHIN),
            "it is looked at again"
        );
        // The next holes are looked at at once.
        progress.observe(&message(40, ""));
        assert_eq!(progress.look_at(), Some(Instant::now()));
        progress.begin_look();
        progress.observe(&message(50, ""));
        let GapReport { skipped, another } = progress.found_first(Some(35));
        let (messages, why) = skipped.unwrap();
        assert_eq!((messages, another), (5 + 9 + 4, None));
        assert_eq!(
            progress.look_at(),
            Some(Instant::now() + LEFT_WITHIN),
            "the last hole is for the next look"
        );
        assert!(
            why.contains("from the stream s, from offset 15 on")
                && why.contains("first message is now 35"),
            "{why}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn where_it_was_left_it_goes_on() {
        let left = StreamPosition::of(&message(7, "seven"));
        let mut same = progress(left);
        assert_eq!(
            [
                same.observe(&message(6, "")),
                same.observe(&message(7, "seven")),
                same.observe(&message(8, ""))
            ],
            [
                MessageStatus::Stored,
                MessageStatus::Stored,
                MessageStatus::New
            ]
        );
        assert_eq!(same.look_at(), None);

        let MessageStatus::OtherStream(why) = progress(left).observe(&message(7, "eight")) else {
            panic!("it is another stream")
        };
        assert!(
            why.contains("the stream s has been made anew: offset 7 is another message now"),
            "{why}"
        );
        assert_eq!(
            progress(left.map(|left| StreamPosition {
                digest: None,
                ..left
            }))
            .observe(&message(7, "eight")),
            MessageStatus::Stored
        );

        let mut gone = progress(left);
        assert_eq!(gone.observe(&message(12, "")), MessageStatus::New);
        gone.begin_look();
        assert_eq!(gone.found_first(Some(12)).skipped.unwrap().0, 4);

        // Nothing comes.
        let mut silent = progress(left);
        assert_eq!(silent.look_at(), Some(Instant::now() + LEFT_WITHIN));
        assert_eq!(silent.found_first(None), GapReport::default());
        assert_eq!(silent.found_first(Some(8)), GapReport::default());
        let why = silent.found_first(Some(2)).another.unwrap();
        assert!(
            why.contains("offset 7 was read last, and it begins at 2 and ends before that"),
            "{why}"
        );
    }
}
