//! How far a consumer has come, and which messages its stream has removed before they were
//! delivered.

use async_nats::jetstream::consumer::{DeliverPolicy, Info};
use async_nats::jetstream::message::Info as Delivered;
use async_nats::jetstream::stream::{self, RetentionPolicy};
use bytes::Bytes;

use super::interior_gaps::InteriorGaps;
use crate::leb128;

/// How far a consumer has come. It is stored with the events: by it a consumer that was deleted is
/// created again at the right message, and what its stream has removed unread is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConsumerProgress {
    /// When its stream was created, in nanoseconds since 1970: a stream that was created at another
    /// time is another one.
    pub(super) stream_created: i64,
    /// Everything up to this message of the stream is acknowledged, and so stored.
    pub(super) acknowledged: u64,
    /// What was removed before this message has been reported.
    pub(super) reported: u64,
    /// How many deliveries the consumer had made by then.
    pub(super) deliveries: u64,
    /// How many messages waited when it was last looked at.
    pub(super) waiting: u64,
    /// Whether this process holds what was delivered and is not acknowledged: after a restart of
    /// the bus it does not.
    pub(super) holds_unacknowledged: bool,
    /// The gaps inside its stream.
    pub(super) interior_gaps: InteriorGaps,
}

/// Whether a consumer was found or created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerOrigin {
    /// It existed before.
    Found,
    /// It was just created, to begin with this message where that is configured by its number.
    Created(Option<u64>),
}

/// Messages that were removed before they were delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) messages: u64,
    /// Where they are missing, and why.
    pub(super) why: String,
}

impl ConsumerProgress {
    /// Encodes it as it is stored with the events; see [`ConsumerProgress::read`].
    pub(super) fn write(&self) -> Bytes {
        let mut position = Vec::with_capacity(32);
        leb128::write(&mut position, leb128::zigzag(self.stream_created));
        for number in [
            self.acknowledged,
            self.reported,
            self.deliveries,
            self.waiting,
        ]
        .into_iter()
        .chain(self.interior_gaps.begin())
        {
            leb128::write(&mut position, number);
        }
        position.into()
    }

    /// Decodes what was stored; none where that cannot be read, which costs no message: the
    /// consumer itself knows where it is.
    pub(super) fn read(mut position: &[u8]) -> Option<Self> {
        let mut next = || leb128::read(&mut position);
        let stream_created = leb128::unzigzag(next()?);
        let (acknowledged, reported, deliveries, waiting) = (next()?, next()?, next()?, next()?);
        // Positions that were stored before gaps inside the stream were counted end here.
        Some(Self {
            stream_created,
            acknowledged,
            reported,
            deliveries,
            waiting,
            holds_unacknowledged: false,
            interior_gaps: InteriorGaps::begun(next()),
        })
    }

    /// A message has been delivered here: what lies before it is not missing, but for what was
    /// removed from between it and the one before.
    pub(super) fn delivered(&mut self, message: &Delivered<'_>) {
        self.reported = self.reported.max(message.stream_sequence);
        self.deliveries = self.deliveries.max(message.consumer_sequence);
        self.waiting = message.pending;
        self.interior_gaps.delivered(message);
    }

    /// What was removed from the middle of the stream since this was last asked.
    pub(super) fn removed(&mut self, stream: &str) -> Option<Gap> {
        self.interior_gaps.removed(stream)
    }

    /// What was removed from a stream before the consumer came to it: its next message lies behind
    /// the last that it has delivered, or where it was to begin if it was just made.
    pub(super) fn gap(
        &mut self,
        info: &Info,
        stream: &stream::Info,
        consumer: ConsumerOrigin,
    ) -> Option<Gap> {
        (self.stream_created, self.waiting) = (created_at(stream), info.num_pending);
        let config = &info.config;
        let filtered = !config.filter_subject.is_empty() || !config.filter_subjects.is_empty();
        self.interior_gaps.looked_at(
            stream,
            !filtered && config.deliver_policy != DeliverPolicy::LastPerSubject,
        );
        // What other consumers have acknowledged goes too, and the last messages of all subjects
        // are in no order.
        let elsewhere = filtered && stream.config.retention != RetentionPolicy::Limits;
        let first = stream.state.first_sequence;
        let passed = match consumer {
            ConsumerOrigin::Created(Some(begins_at)) if self.holds_unacknowledged => {
                begins_at.saturating_sub(1).max(self.reported)
            }
            ConsumerOrigin::Created(Some(begins_at)) => begins_at.saturating_sub(1),
            // A purge moves the consumer behind what it removes, so that its position alone would
            // hide that. What it has passed without a delivery nobody has seen; of one with a
            // filter that may be what it is not to see.
            ConsumerOrigin::Found
                if !filtered && info.delivered.consumer_sequence >= self.deliveries =>
            {
                let unseen = info.delivered.consumer_sequence - self.deliveries;
                info.delivered
                    .stream_sequence
                    .min(self.reported.saturating_add(unseen))
                    .max(self.reported)
            }
            ConsumerOrigin::Found | ConsumerOrigin::Created(None) => {
                info.delivered.stream_sequence.max(self.reported)
            }
        };
        let lost_unacknowledged = if self.holds_unacknowledged {
            0
        } else {
            info.num_ack_pending as u64
        };
        (self.reported, self.deliveries, self.holds_unacknowledged) =
            (passed, info.delivered.consumer_sequence, true);
        let missing = first.saturating_sub(passed.saturating_add(1));
        if missing == 0 || elsewhere || config.deliver_policy == DeliverPolicy::LastPerSubject {
            return None;
        }
        self.reported = first - 1;
        self.interior_gaps.begins_behind(self.reported);
        let of = if filtered {
            " (of all its subjects)"
        } else {
            ""
        };
        let why = format!(
            "messages {} to {} were removed from the stream {}{of}",
            passed + 1,
            first - 1,
            info.stream_name
        );
        Some(Gap {
            messages: missing + lost_unacknowledged,
            why,
        })
    }

    /// The gap that arose if the stream is not the one that was read before.
    pub(super) fn recreated(&self, stream: &stream::Info) -> Option<Gap> {
        (self.stream_created != created_at(stream)).then(|| Gap {
            messages: self.waiting,
            why: format!(
                "the stream {} was deleted and made anew, with what had not been read of it",
                stream.config.name
            ),
        })
    }
}

/// When a stream was created, in nanoseconds since 1970.
pub(super) fn created_at(stream: &stream::Info) -> i64 {
    i64::try_from(stream.created.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

/// Up to which message of the stream everything is acknowledged, or was never to be seen: a
/// consumer that was just made tells the latter only as what it has delivered.
pub(super) fn acknowledged(info: &Info) -> u64 {
    let delivered = if info.num_ack_pending == 0 {
        info.delivered.stream_sequence
    } else {
        0
    };
    info.ack_floor.stream_sequence.max(delivered)
}
