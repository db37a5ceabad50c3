//! How the last attempt ended, in the rows of deliveries and of dead letters.

use pointsman_schemas::Class;

use super::{Damage, Decoder, Encoder};
use crate::LastOutcome;

/// The index in this list is what lies on disk: append only.
pub(super) const CLASSES: [Class; 7] = [
    Class::Delivered,
    Class::Throttled,
    Class::Unavailable,
    Class::Failed,
    Class::Refused,
    Class::Gone,
    Class::Rejected,
];

pub(in crate::disk) fn encode_last(out: &mut Encoder, last: Option<&LastOutcome>) {
    let Some(last) = last else {
        out.byte(0);
        return;
    };
    let class = CLASSES
        .iter()
        .position(|class| *class == last.class)
        .unwrap_or_default();
    out.byte(1)
        .time(last.at)
        .byte(u8::try_from(class).unwrap_or_default());
    match last.code {
        None => out.byte(0),
        Some(code) => out.byte(1).number(u64::from(code.cast_unsigned())),
    };
    out.bytes(last.message.as_bytes())
        .bytes(last.response.as_bytes());
}

pub(in crate::disk) fn decode_last(from: &mut Decoder<'_>) -> Result<Option<LastOutcome>, Damage> {
    if from.byte()? == 0 {
        return Ok(None);
    }
    let (at, class) = (from.time()?, from.byte()?);
    let class = *CLASSES
        .get(usize::from(class))
        .ok_or(Damage("its class is not known"))?;
    let code = if from.byte()? == 0 {
        None
    } else {
        Some(from.narrow::<u32>()?.cast_signed())
    };
    Ok(Some(LastOutcome {
        at,
        class,
        code,
        message: from.text()?.to_owned(),
        response: from.text()?.to_owned(),
    }))
}
