//! Messages that are removed from inside a stream before they are delivered: by a limit per
//! subject, by a message's own time to live, by a rollup, by hand.
//!
//! A consumer without a filter delivers every message of its stream, and numbers its deliveries. So
//! where one delivery follows another and some numbers of the stream lie between their messages,
//! those were removed. Of a consumer with a filter they may be messages that it is not to see, and
//! where a delivery is missing, somebody else has had it or it comes again: then nothing is
//! reported.
//! What the stream had when it was looked at for the first time may have had its gaps by then, so
//! only what was published later counts.

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::message::Info as Delivered;
use async_nats::jetstream::stream;

use super::progress::Gap;

/// Finds the gaps inside a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InteriorGaps {
    /// The last message that the stream had when it was looked at for the first time.
    begin: Option<u64>,
    /// True where every message of the stream is delivered.
    is_whole: bool,
    /// What is missing up to this message is reported by the stream's first sequence.
    reported: u64,
    /// The last delivery, and the highest message that was delivered by then; none where a delivery
    /// was missing since.
    last: Option<(u64, u64)>,
    removed: Option<Removed>,
}

/// Messages that were removed, from the first to the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Removed {
    messages: u64,
    first: u64,
    last: u64,
}

impl InteriorGaps {
    /// Continues from a stored position.
    pub(super) fn begun(begin: Option<u64>) -> Self {
        Self {
            begin,
            ..Self::default()
        }
    }

    /// What is to be stored with the position.
    pub(super) fn begin(&self) -> Option<u64> {
        self.begin
    }

    /// The stream has been looked at.
    pub(super) fn looked_at(&mut self, stream: &stream::Info, is_whole: bool) {
        self.begin.get_or_insert(stream.state.last_sequence);
        self.is_whole = is_whole;
    }

    /// What is missing up to this message has been reported.
    pub(super) fn begins_behind(&mut self, sequence: u64) {
        self.reported = self.reported.max(sequence);
    }

    /// What is delivered next follows what the consumer says that it has delivered.
    pub(super) fn resume(&mut self, info: &Info) {
        self.last = Some((
            info.delivered.consumer_sequence,
            info.delivered.stream_sequence,
        ));
    }

    /// A message has been delivered.
    pub(super) fn delivered(&mut self, message: &Delivered<'_>) {
        let (delivery, sequence) = (message.consumer_sequence, message.stream_sequence);
        let is_first = message.delivered == 1;
        let highest = self
            .last
            .filter(|(last, _)| last + 1 == delivery)
            .map(|(_, highest)| highest);
        if let (true, Some(highest), Some(begin)) = (is_first && self.is_whole, highest, self.begin)
        {
            self.remove(highest.max(begin).max(self.reported) + 1, sequence);
        }
        self.last = match highest {
            Some(highest) => Some((delivery, highest.max(sequence))),
            // One that comes again says nothing of where the consumer is.
            None => is_first.then_some((delivery, sequence)),
        };
    }

    /// What lies from one message to before another is gone.
    fn remove(&mut self, from: u64, before: u64) {
        let messages = before.saturating_sub(from);
        if messages > 0 {
            let removed = self.removed.get_or_insert(Removed {
                messages: 0,
                first: from,
                last: from,
            });
            removed.messages += messages;
            removed.last = before - 1;
        }
    }

    /// What was removed since this was last asked.
    pub(super) fn removed(&mut self, stream: &str) -> Option<Gap> {
        let Removed {
            messages,
            first,
            last,
        } = self.removed.take()?;
        let why = if messages == last - first + 1 {
            format!(
                "messages {first} to {last} were removed from the middle of the stream {stream}"
            )
        } else {
            format!(
                "{messages} of the messages {first} to {last} were removed from the middle of the \
                 stream {stream}"
            )
        };
        Some(Gap { messages, why })
    }
}

#[cfg(test)]
mod tests {
    use async_nats::datetime::parse_rfc3339;

    use super::*;

    fn delivered(delivery: u64, sequence: u64, delivered: i64) -> Delivered<'static> {
        Delivered {
            domain: None,
            acc_hash: None,
            stream: "S",
            consumer: "c",
            stream_sequence: sequence,
            consumer_sequence: delivery,
            delivered,
            pending: 0,
            published: parse_rfc3339("2026-01-31T09:30:00Z").unwrap(),
            token: None,
        }
    }

    /// The gap that is reported after deliveries, each given by its number, its message's and how
    /// often that was delivered.
    fn reported(
        interior_gaps: InteriorGaps,
        deliveries: &[(u64, u64, i64)],
    ) -> Option<(u64, String)> {
        let mut interior_gaps = interior_gaps;
        for (delivery, sequence, times) in deliveries {
            interior_gaps.delivered(&delivered(*delivery, *sequence, *times));
        }
        interior_gaps
            .removed("S")
            .map(|gap| (gap.messages, gap.why))
    }

    #[test]
    fn only_what_is_known_to_be_removed_is_counted() {
        let interior_gaps = InteriorGaps {
            begin: Some(10),
            is_whole: true,
            reported: 0,
            last: Some((5, 8)),
            removed: None,
        };
        for (deliveries, expect) in [
            (&[(6, 9, 1), (7, 10, 1), (8, 11, 1)][..], None),
            // They may have been missing before anybody looked.
            (&[(6, 11, 1)][..], None),
            (&[(6, 14, 1)][..], Some((3, "messages 11 to 13 were"))),
            (
                &[(6, 13, 1), (7, 14, 1), (8, 16, 1)][..],
                Some((3, "3 of the messages 11 to 15 were")),
            ),
            // One that comes again in between changes nothing.
            (
                &[(6, 12, 1), (7, 3, 2), (8, 14, 1)][..],
                Some((2, "2 of the messages 11 to 13 were")),
            ),
            // Somebody else has had 7, which was 15, or it is lost on its way and comes again.
            (&[(6, 11, 1), (8, 16, 1)][..], None),
            (&[(6, 11, 1), (8, 9, 2), (9, 17, 1), (10, 18, 1)][..], None),
            (
                &[(6, 11, 1), (8, 16, 1), (9, 18, 1)][..],
                Some((1, "messages 17 to 17 were")),
            ),
        ] {
            let reported = reported(interior_gaps, deliveries);
            assert_eq!(
                reported.as_ref().map(|(messages, _)| *messages),
                expect.map(|(messages, _)| messages),
                "{deliveries:?}"
            );
            assert!(
                expect.is_none_or(
                    |(_, why)| reported.is_some_and(|(_, reported)| reported.starts_with(why))
                ),
                "{deliveries:?}"
            );
        }
        let skips = &[(6, 20, 1)][..];
        assert_eq!(
            reported(
                InteriorGaps {
                    is_whole: false,
                    ..interior_gaps
                },
                skips
            ),
            None,
            "it has a filter"
        );
        assert_eq!(
            reported(
                InteriorGaps {
                    reported: 15,
                    ..interior_gaps
                },
                skips
            )
            .unwrap()
            .0,
            4,
            "16 to 19"
        );
        assert_eq!(
            reported(
                InteriorGaps {
                    begin: None,
                    ..interior_gaps
                },
                skips
            ),
            None
        );
    }
}
