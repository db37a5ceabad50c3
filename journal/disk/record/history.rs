//! Rows of the history.
//!
//! ```text
//! one:   0, time, sequence's run, state, reason, next attempt, attempt in full
//! many:  1, time, state, what was called, code, then for each delivery:
//!        flags, sequence, run, attempt: number, began, waited, ran, and what differs from the others
//! ```
//!
//! Most deliveries succeed at once, many of a subscription in one transaction: those share a row,
//! in which one takes ten bytes or so. Times are written as their distance from that of the row,
//! and sequences as their distance from the one before. Whatever else happens has a row of its own.

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Class, Timestamp};

use super::dead::REASONS;
use super::outcome::CLASSES;
use super::{Damage, Decoder, Encoder, Table, at_index, decode_option, encode_option, index_of};
use crate::{AttemptEntry, AttemptMade, DeadReason, TaskState, WaitReason};

/// The index in these lists is what lies on disk: append only.
const STATES: [TaskState; 11] = [
    TaskState::Scheduled,
    TaskState::Pending,
    TaskState::Running,
    TaskState::Retrying,
    TaskState::Suspended,
    TaskState::Stopping,
    TaskState::Succeeded,
    TaskState::Failed,
    TaskState::Expired,
    TaskState::Stopped,
    TaskState::Purged,
];

const WAITS: [WaitReason; 4] = [
    WaitReason::Backoff,
    WaitReason::RetryAfter,
    WaitReason::Refused,
    WaitReason::Paused,
];

const ONE: u8 = 0;
const MANY: u8 = 1;

const HAS_RUN: u8 = 1;
const HAS_ATTEMPT: u8 = 2;
const IS_LATER_ATTEMPT: u8 = 4;
const HAS_CALLED: u8 = 8;
const HAS_CODE: u8 = 16;
const HAS_ANSWER: u8 = 32;

/// What a row reaches over at most, in sequences: whoever looks for one delivery looks no further.
pub(in crate::disk) const SPAN_MAX: u64 = 4_096;

/// Bytes of a row of many, about, at most: a damaged one loses no more than that.
const MANY_BYTES_MAX: usize = 8 * 1024;

/// What is told of one delivery, but for the journal's epochs.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::disk) struct Noted {
    pub(in crate::disk) sequence: u64,
    pub(in crate::disk) run: u64,
    pub(in crate::disk) state: TaskState,
    pub(in crate::disk) reason: Option<DeadReason>,
    pub(in crate::disk) next: Option<(Timestamp, WaitReason)>,
    pub(in crate::disk) attempt: Option<AttemptEntry>,
}

impl Noted {
    /// Something that happened to a delivery without an attempt.
    pub(in crate::disk) fn state(sequence: u64, run: u64, state: TaskState) -> Self {
        Self {
            sequence,
            run,
            state,
            reason: None,
            next: None,
            attempt: None,
        }
    }
}

/// A row as it is read.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::disk) struct HistoryRow {
    pub(in crate::disk) at: Timestamp,
    pub(in crate::disk) entries: Vec<Noted>,
}

/// The key of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct HistoryKey {
    pub(in crate::disk) number: u64,
    pub(in crate::disk) subscription: u32,
    pub(in crate::disk) first: u64,
    pub(in crate::disk) last: u64,
}

impl HistoryKey {
    fn check_key(self) -> [u64; 4] {
        [self.number, self.subscription.into(), self.first, self.last]
    }
}

/// A distance of two numbers, as a time is written.
fn distance(to: u64, from: u64) -> Timestamp {
    Timestamp(to.wrapping_sub(from).cast_signed())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A row of many, while it grows.
#[derive(Debug)]
pub(in crate::disk) struct ManyNotes {
    out: Encoder,
    at: Timestamp,
    first: u64,
    last: u64,
    previous: u64,
    called: Option<Arc<str>>,
    code: Option<i32>,
}

impl ManyNotes {
    /// A row that begins with this delivery.
    pub(in crate::disk) fn new(
        at: Timestamp,
        state: TaskState,
        sequence: u64,
        attempt: Option<&AttemptMade>,
    ) -> Self {
        let mut out = Encoder::new(96);
        out.byte(MANY).time(at).byte(index_of(&STATES, &state));
        let called = attempt.and_then(|made| made.called.clone());
        let code = attempt.and_then(|made| made.code);
        out.bytes(called.as_deref().unwrap_or_default().as_bytes());
        encode_option(&mut out, code.map(|code| u64::from(code.cast_unsigned())));
        Self {
            out,
            at,
            first: sequence,
            last: sequence,
            previous: sequence,
            called,
            code,
        }
    }

    /// Whether another delivery finds room in it.
    pub(in crate::disk) fn has_room_for(&self, sequence: u64) -> bool {
        let span = self.last.max(sequence) - self.first.min(sequence);
        span < SPAN_MAX && self.out.len() < MANY_BYTES_MAX
    }

    /// Adds a delivery: its attempt with when that was due and its number, where one was made.
    pub(in crate::disk) fn add(
        &mut self,
        sequence: u64,
        run: u64,
        attempt: Option<(&AttemptMade, Timestamp, u32)>,
    ) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut flags = flag(run > 0, HAS_RUN);
        if let Some((made, _, number)) = attempt {
            let is_called = match (&made.called, &self.called) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
                (one, other) => one == other,
            };
            flags |= HAS_ATTEMPT
                | flag(number != 1, IS_LATER_ATTEMPT)
                | flag(!is_called, HAS_CALLED)
                | flag(made.code != self.code, HAS_CODE)
                | flag(!made.answer.is_empty(), HAS_ANSWER);
        }
        let out = &mut self.out;
        out.byte(flags).time(distance(sequence, self.previous));
        if run > 0 {
            out.number(run);
        }
        if let Some((made, due, number)) = attempt {
            if number != 1 {
                out.number(number.into());
            }
            out.time(Timestamp(self.at.0.wrapping_sub(made.began.0)))
                .number(micros(made.began.since(due)))
                .number(micros(made.ran));
            if flags & HAS_CALLED != 0 {
                out.bytes(made.called.as_deref().unwrap_or_default().as_bytes());
            }
            if flags & HAS_CODE != 0 {
                encode_option(out, made.code.map(|code| u64::from(code.cast_unsigned())));
            }
            if flags & HAS_ANSWER != 0 {
                out.bytes(made.answer.as_bytes());
            }
        }
        self.previous = sequence;
        (self.first, self.last) = (self.first.min(sequence), self.last.max(sequence));
    }

    /// The row, under its number.
    pub(in crate::disk) fn seal(self, number: u64, subscription: u32) -> (HistoryKey, Vec<u8>) {
        let key = HistoryKey {
            number,
            subscription,
            first: self.first,
            last: self.last,
        };
        (key, self.out.seal(Table::History, &key.check_key()))
    }
}

/// A row of one entry.
pub(in crate::disk) fn encode_one(key: HistoryKey, at: Timestamp, noted: &Noted) -> Vec<u8> {
    let mut out = Encoder::new(96);
    out.byte(ONE)
        .time(at)
        .number(noted.run)
        .byte(index_of(&STATES, &noted.state));
    let reason = noted
        .reason
        .map(|reason| index_of(&REASONS, &reason).into());
    encode_option(&mut out, reason);
    match noted.next {
        None => out.byte(0),
        Some((next, wait)) => out.byte(1).time(next).byte(index_of(&WAITS, &wait)),
    };
    match &noted.attempt {
        None => out.byte(0),
        Some(attempt) => {
            out.byte(1)
                .number(attempt.number.into())
                .time(attempt.began)
                .number(micros(attempt.waited))
                .number(micros(attempt.ran))
                .bytes(attempt.called.as_deref().unwrap_or_default().as_bytes())
                .byte(index_of(&CLASSES, &attempt.class));
            let code = attempt.code.map(|code| u64::from(code.cast_unsigned()));
            encode_option(&mut out, code);
            out.bytes(attempt.message.as_bytes())
                .bytes(attempt.answer.as_bytes())
        }
    };
    out.seal(Table::History, &key.check_key())
}

impl HistoryRow {
    pub(in crate::disk) fn decode(key: HistoryKey, value: &[u8]) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::History, &key.check_key(), value)?;
        let (kind, at) = (from.byte()?, from.time()?);
        let entries = match kind {
            ONE => vec![decode_one(&mut from, key)?],
            MANY => decode_many(&mut from, key, at)?,
            _ => return Err(Damage("its kind is not known")),
        };
        if from.is_empty() {
            Ok(Self { at, entries })
        } else {
            Err(Damage("it goes on after its end"))
        }
    }
}

fn called(from: &mut Decoder<'_>) -> Result<Option<Arc<str>>, Damage> {
    let text = from.text()?;
    Ok((!text.is_empty()).then(|| text.into()))
}

fn code(from: &mut Decoder<'_>) -> Result<Option<i32>, Damage> {
    let code = decode_option(from)?.map(u32::try_from).transpose();
    code.map(|code| code.map(u32::cast_signed))
        .map_err(|_| Damage("a number in it is too large"))
}

fn decode_one(from: &mut Decoder<'_>, key: HistoryKey) -> Result<Noted, Damage> {
    let (run, state) = (from.number()?, at_index(&STATES, from.byte()?)?);
    let reason = match decode_option(from)? {
        None => None,
        Some(reason) => Some(at_index(&REASONS, u8::try_from(reason).unwrap_or(u8::MAX))?),
    };
    let next = match from.byte()? {
        0 => None,
        _ => Some((from.time()?, at_index(&WAITS, from.byte()?)?)),
    };
    let attempt = match from.byte()? {
        0 => None,
        _ => Some(AttemptEntry {
            number: from.narrow()?,
            began: from.time()?,
            waited: Duration::from_micros(from.number()?),
            ran: Duration::from_micros(from.number()?),
            called: called(from)?,
            class: at_index(&CLASSES, from.byte()?)?,
            code: code(from)?,
            message: from.text()?.to_owned(),
            answer: from.text()?.to_owned(),
        }),
    };
    Ok(Noted {
        sequence: key.first,
        run,
        state,
        reason,
        next,
        attempt,
    })
}

fn decode_many(
    from: &mut Decoder<'_>,
    key: HistoryKey,
    at: Timestamp,
) -> Result<Vec<Noted>, Damage> {
    let state = at_index(&STATES, from.byte()?)?;
    let (all_called, all_code) = (called(from)?, code(from)?);
    // The first of them is written as its distance from itself: it is found out with the others.
    let (mut entries, mut offset) = (Vec::new(), 0_i64);
    let mut lowest = 0;
    while !from.is_empty() {
        let flags = from.byte()?;
        offset = offset.wrapping_add(from.time()?.0);
        lowest = lowest.min(offset);
        let run = if flags & HAS_RUN == 0 {
            0
        } else {
            from.number()?
        };
        let attempt = if flags & HAS_ATTEMPT == 0 {
            None
        } else {
            Some(AttemptEntry {
                number: if flags & IS_LATER_ATTEMPT == 0 {
                    1
                } else {
                    from.narrow()?
                },
                began: Timestamp(at.0.wrapping_sub(from.time()?.0)),
                waited: Duration::from_micros(from.number()?),
                ran: Duration::from_micros(from.number()?),
                called: if flags & HAS_CALLED == 0 {
                    all_called.clone()
                } else {
                    called(from)?
                },
                class: Class::Delivered,
                code: if flags & HAS_CODE == 0 {
                    all_code
                } else {
                    code(from)?
                },
                message: String::new(),
                answer: if flags & HAS_ANSWER == 0 {
                    String::new()
                } else {
                    from.text()?.to_owned()
                },
            })
        };
        entries.push(Noted {
            attempt,
            ..Noted::state(offset.cast_unsigned(), run, state)
        });
    }
    // The lowest of them is the row's first.
    for entry in &mut entries {
        let sequence = entry.sequence.cast_signed().wrapping_sub(lowest);
        entry.sequence = key.first.wrapping_add(sequence.cast_unsigned());
        if entry.sequence > key.last {
            return Err(Damage("it does not fit its key"));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(began: i64, called: &str, code: Option<i32>, answer: &str) -> AttemptMade {
        AttemptMade {
            began: Timestamp(began),
            ran: Duration::from_micros(70),
            called: (!called.is_empty()).then(|| called.into()),
            class: Class::Delivered,
            code,
            message: String::new(),
            answer: answer.to_owned(),
            wait: None,
        }
    }

    #[test]
    fn rows_of_many_say_what_was_noted() {
        let at = Timestamp(1_000_000);
        let notes = [
            (50, 0, Some((made(999_000, "POST x", Some(200), ""), 1))),
            (40, 7, Some((made(999_100, "POST y", None, "yes"), 3))),
            (41, 0, None),
            (
                4_000,
                0,
                Some((made(1_000_500, "POST x", Some(204), ""), 1)),
            ),
        ];
        let mut many = ManyNotes::new(
            at,
            TaskState::Succeeded,
            50,
            notes[0].2.as_ref().map(|(made, _)| made),
        );
        for (sequence, run, attempt) in &notes {
            let attempt = attempt
                .as_ref()
                .map(|(made, number)| (made, Timestamp(made.began.0 - 30), *number));
            many.add(*sequence, *run, attempt);
        }
        assert!(many.has_room_for(4_135) && !many.has_room_for(4_136) && many.has_room_for(1_000));
        let (key, value) = many.seal(9, 3);
        assert_eq!((key.first, key.last), (40, 4_000));
        let row = HistoryRow::decode(key, &value).unwrap();
        let expect = notes.map(|(sequence, run, attempt)| Noted {
            attempt: attempt.map(|(made, number)| {
                AttemptEntry::of(made.clone(), Timestamp(made.began.0 - 30), number, None)
            }),
            ..Noted::state(sequence, run, TaskState::Succeeded)
        });
        assert_eq!(
            row,
            HistoryRow {
                at,
                entries: expect.into()
            }
        );
        for other in [
            HistoryKey { number: 8, ..key },
            HistoryKey { last: 4_001, ..key },
        ] {
            assert!(HistoryRow::decode(other, &value).is_err());
        }
    }

    #[test]
    fn a_row_of_one_says_what_was_noted() {
        let key = HistoryKey {
            number: 4,
            subscription: 2,
            first: 77,
            last: 77,
        };
        let noted = Noted {
            reason: Some(DeadReason::Exhausted),
            next: Some((Timestamp(-5), WaitReason::RetryAfter)),
            attempt: Some(AttemptEntry {
                number: 4,
                began: Timestamp(12),
                waited: Duration::from_secs(9),
                ran: Duration::from_micros(1),
                called: None,
                class: Class::Throttled,
                code: Some(-1),
                message: "429".to_owned(),
                answer: "later".to_owned(),
            }),
            ..Noted::state(77, 3, TaskState::Failed)
        };
        let value = encode_one(key, Timestamp(8), &noted);
        assert_eq!(
            HistoryRow::decode(key, &value),
            Ok(HistoryRow {
                at: Timestamp(8),
                entries: vec![noted]
            })
        );
    }
}
