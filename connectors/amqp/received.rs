//! A message that came over a link: put together of its transfers, and settled.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::fault::Fault;
use super::frame::{State, Transfer};
use super::value::Malformed;
use crate::Verdict;
use crate::in_hand::Unacknowledged;

/// The largest message that is taken. A broker is told of it; of a larger one only the beginning is
/// kept, for a dead letter, and the message itself is the broker's to keep or drop.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// So much is kept of a message that is too large.
const CUT_BYTES: usize = 128 << 10;

/// A message as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Received {
    delivery_id: u32,
    /// Whether the broker has forgotten it already.
    is_settled: bool,
    pub(super) bytes: Bytes,
    /// Why it cannot be read, where it is too large.
    pub(super) is_cut: bool,
}

impl Unacknowledged for Received {
    type Ack = (u32, State);

    /// A broker is told of each message by its number.
    const IN_ORDER: bool = false;

    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn comes_again(&self) -> bool {
        !self.is_settled
    }

    fn acknowledge(&self, verdict: &Verdict) -> Option<(u32, State)> {
        let state = match verdict {
            // Rejected it might come again at once, in another shape: what is rejected goes to the
            // broker's dead letters, which may be what is read here.
            _ if self.is_cut => State::Modified {
                failed: true,
                undeliverable_here: true,
            },
            Verdict::Rejected { reason, .. } => {
                let mut fault = Fault::new("amqp:invalid-field");
                fault.description = Some(reason.clone());
                State::Rejected(Some(fault))
            }
            _ => State::Accepted,
        };
        (!self.is_settled).then_some((self.delivery_id, state))
    }
}

impl Received {
    /// How it is given back, where it is not settled.
    pub(super) fn released(&self) -> Option<(u32, State)> {
        (!self.is_settled).then_some((self.delivery_id, State::Released))
    }
}

/// The parts of a message so far.
#[derive(Debug)]
struct Parts {
    delivery_id: u32,
    is_settled: bool,
    bytes: BytesMut,
    /// All of them, those included that are not kept.
    length: usize,
}

/// Puts messages together.
#[derive(Debug, Default)]
pub(super) struct Assembly(Option<Parts>);

/// What a transfer ends.
#[derive(Debug, PartialEq)]
pub(super) enum Whole {
    /// More of the message is to come.
    NotYet,
    /// A message.
    Message(Received),
    /// The sender has thought better of it.
    Aborted,
}

impl Assembly {
    /// Takes the next transfer of a link.
    ///
    /// # Errors
    /// It belongs to nothing.
    pub(super) fn take(&mut self, transfer: Transfer) -> Result<Whole, Malformed> {
        let parts = self.0.take();
        if transfer.aborted {
            return Ok(Whole::Aborted);
        }
        let mut parts = match parts {
            Some(parts) => parts,
            None => {
                let nameless = Malformed("a message of AMQP has no number");
                let delivery_id = transfer.delivery_id.ok_or(nameless)?;
                if !transfer.more && transfer.payload.len() <= MESSAGE_BYTES_MAX {
                    // Most come in one piece, which is not copied.
                    return Ok(Whole::Message(Received {
                        delivery_id,
                        is_settled: transfer.settled,
                        bytes: transfer.payload,
                        is_cut: false,
                    }));
                }
                Parts {
                    delivery_id,
                    is_settled: false,
                    bytes: BytesMut::new(),
                    length: 0,
                }
            }
        };
        let other = transfer
            .delivery_id
            .is_some_and(|id| id != parts.delivery_id);
        if other {
            return Err(Malformed("a message of AMQP begins within another"));
        }
        parts.is_settled |= transfer.settled;
        parts.length += transfer.payload.len();
        if parts.length > MESSAGE_BYTES_MAX {
            parts.bytes.truncate(CUT_BYTES);
            // What is cut away gives back its memory.
            parts.bytes = BytesMut::from(&parts.bytes[..]);
        } else {
            parts.bytes.extend_from_slice(&transfer.payload);
        }
        if transfer.more {
            self.0 = Some(parts);
            return Ok(Whole::NotYet);
        }
        Ok(Whole::Message(Received {
            delivery_id: parts.delivery_id,
            is_settled: parts.is_settled,
            is_cut: parts.length > MESSAGE_BYTES_MAX,
            bytes: parts.bytes.freeze(),
        }))
    }
}

/// What is told of messages, those side by side of which the same is told as one: the first and the
/// last of their numbers.
pub(super) fn ranges(mut told: Vec<(u32, State)>) -> Vec<(u32, u32, State)> {
    told.sort_by_key(|(id, _)| *id);
    let mut ranges: Vec<(u32, u32, State)> = Vec::new();
    for (id, state) in told {
        match ranges.last_mut() {
            Some((_, last, same)) if last.wrapping_add(1) == id && *same == state => *last = id,
            _ => ranges.push((id, id, state)),
        }
    }
    ranges
}

/// Why a message cannot be read that is too large.
pub(super) fn too_large() -> String {
    let most = ByteString::from(format!("{} MiB", MESSAGE_BYTES_MAX >> 20));
    format!("the message has more than {most}; what stands here is its beginning")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(delivery_id: Option<u32>, more: bool, payload: &'static [u8]) -> Transfer {
        Transfer {
            delivery_id,
            more,
            payload: Bytes::from_static(payload),
            ..Transfer::default()
        }
    }

    fn message(whole: Whole) -> Received {
        match whole {
            Whole::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_are_put_together() {
        let mut assembly = Assembly::default();
        let mut take = |transfer| assembly.take(transfer);
        let whole = message(take(part(Some(7), false, b"ab")).unwrap());
        assert_eq!((whole.delivery_id, &whole.bytes[..]), (7, &b"ab"[..]));

        assert_eq!(take(part(Some(8), true, b"a")), Ok(Whole::NotYet));
        assert_eq!(take(part(Some(8), true, b"b")), Ok(Whole::NotYet));
        let whole = message(take(part(None, false, b"c")).unwrap());
        assert_eq!((whole.delivery_id, &whole.bytes[..]), (8, &b"abc"[..]));
        let accepted = whole.acknowledge(&Verdict::Stored);
        assert_eq!(accepted, Some((8, State::Accepted)));

        assert_eq!(take(part(Some(9), true, b"a")), Ok(Whole::NotYet));
        let mut aborted = part(None, false, b"");
        aborted.aborted = true;
        assert_eq!(take(aborted), Ok(Whole::Aborted));
        assert!(take(part(None, false, b"")).is_err());
        assert_eq!(take(part(Some(10), true, b"a")), Ok(Whole::NotYet));
        assert!(take(part(Some(11), false, b"a")).is_err());

        // What is settled as it is sent waits for nothing.
        let mut settled = part(Some(12), false, b"a");
        settled.settled = true;
        let whole = message(take(settled).unwrap());
        assert!(!whole.comes_again());
        assert_eq!(whole.acknowledge(&Verdict::Stored), None);
        assert_eq!(whole.released(), None);
    }

    #[test]
    fn of_a_message_that_is_too_large_the_beginning_is_kept() {
        let mut assembly = Assembly::default();
        let mib = Bytes::from(vec![7; 1 << 20]);
        let transfer = |more| Transfer {
            delivery_id: Some(1),
            more,
            payload: mib.clone(),
            ..Transfer::default()
        };
        for _ in 0..MESSAGE_BYTES_MAX >> 20 {
            assert_eq!(assembly.take(transfer(true)), Ok(Whole::NotYet));
        }
        assert_eq!(assembly.take(transfer(true)), Ok(Whole::NotYet));
        let cut = message(assembly.take(transfer(false)).unwrap());
        assert_eq!((cut.is_cut, cut.bytes.len()), (true, CUT_BYTES));
        let told = cut.acknowledge(&Verdict::Stored);
        let given_back = State::Modified {
            failed: true,
            undeliverable_here: true,
        };
        assert_eq!(told, Some((1, given_back)));
        for _ in 1..MESSAGE_BYTES_MAX >> 20 {
            assert_eq!(assembly.take(transfer(true)), Ok(Whole::NotYet));
        }
        let whole = message(assembly.take(transfer(false)).unwrap());
        assert_eq!(
            (whole.is_cut, whole.bytes.len()),
            (false, MESSAGE_BYTES_MAX)
        );
    }

    #[test]
    fn what_stands_side_by_side_is_told_at_once() {
        let (accepted, released) = (State::Accepted, State::Released);
        let told = [
            (3, &accepted),
            (1, &accepted),
            (2, &accepted),
            (4, &released),
            (6, &released),
        ];
        let told = told.map(|(id, state)| (id, state.clone()));
        assert_eq!(
            ranges(told.into()),
            [(1, 3, accepted), (4, 4, released.clone()), (6, 6, released)]
        );
        assert_eq!(ranges(Vec::new()), []);
    }
}
