//! A replay as it is stored.

use bytes::Bytes;
use pointsman_schemas::{Sequence, SubscriptionNumber};

use super::{Damage, Decoder, Encoder, Table, at_index, index_of};
use crate::{Replay, ReplayId, ReplayKind, ReplayState};

/// The index in these lists is what lies on disk: append only.
const KINDS: [ReplayKind; 3] = [ReplayKind::Events, ReplayKind::Start, ReplayKind::Dead];

const STATES: [ReplayState; 4] = [
    ReplayState::Running,
    ReplayState::Finished,
    ReplayState::Stopped,
    ReplayState::Failed,
];

pub(in crate::disk) fn encode_replay(replay: &Replay) -> Vec<u8> {
    let Replay {
        id,
        kind,
        subscription,
        request,
        state,
        message,
        began,
        ended,
        first,
        after,
        until,
        marked_until,
        hands_over,
        seen,
        made,
    } = replay;
    let mut out = Encoder::new(96 + request.len());
    out.byte(index_of(&KINDS, kind))
        .number(subscription.map_or(0, |number| number.0).into())
        .bytes(request)
        .byte(index_of(&STATES, state))
        .bytes(message.as_bytes())
        .time(*began)
        .byte(u8::from(ended.is_some()));
    if let Some(ended) = ended {
        out.time(*ended);
    }
    for Sequence(sequence) in [first, after, until, marked_until] {
        out.number(*sequence);
    }
    out.byte(u8::from(*hands_over)).number(*seen).number(*made);
    out.seal(Table::Replay, &[id.number()])
}

pub(in crate::disk) fn decode_replay(number: u64, value: &[u8]) -> Result<Replay, Damage> {
    let mut from = Decoder::open(Table::Replay, &[number], value)?;
    let id = ReplayId::of(number).ok_or(Damage("its key is no number"))?;
    let kind = at_index(&KINDS, from.byte()?)?;
    let subscription = SubscriptionNumber(from.narrow()?);
    let request = Bytes::copy_from_slice(from.bytes()?);
    let (state, message) = (at_index(&STATES, from.byte()?)?, from.text()?.to_owned());
    let began = from.time()?;
    let ended = if from.byte()? == 0 {
        None
    } else {
        Some(from.time()?)
    };
    let mut sequence = || from.number().map(Sequence);
    let (first, after, until, marked_until) = (sequence()?, sequence()?, sequence()?, sequence()?);
    Ok(Replay {
        id,
        kind,
        subscription: (subscription.0 != 0).then_some(subscription),
        request,
        state,
        message,
        began,
        ended,
        first,
        after,
        until,
        marked_until,
        hands_over: from.byte()? != 0,
        seen: from.number()?,
        made: from.number()?,
    })
}
