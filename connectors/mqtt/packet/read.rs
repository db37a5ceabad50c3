//! Reads packets.

use bytes::{Buf, Bytes};

use super::property::USER;
use super::{Incoming, Malformed, Properties, Publish, Qos, Reason, Version};

const SHORT: Malformed = Malformed("a packet ends before its contents do");

/// The length of the first packet in some bytes, as its header says: of the header, and of what
/// follows it. None where more bytes are needed to tell.
///
/// # Errors
/// There is no such length.
pub(in crate::mqtt) fn frame_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((index + 2, length)));
        }
    }
    match bytes.len() {
        0..5 => Ok(None),
        _ => Err(Malformed("a length has more than four bytes")),
    }
}

/// The packet whose header begins with this byte. Of one that `is_cut` only the beginning is there.
///
/// # Errors
/// It breaks the protocol, or is none that a broker sends.
pub(in crate::mqtt) fn decode(
    version: Version,
    first: u8,
    mut body: Bytes,
    is_cut: bool,
) -> Result<Incoming, Malformed> {
    let kind = first >> 4;
    if kind == 3 {
        return publish(version, first, body, is_cut).map(Incoming::Publish);
    }
    if is_cut {
        return Err(Malformed("a packet that is no message is larger than any"));
    }
    let body = &mut body;
    match kind {
        2 => {
            let flags = byte(body)?;
            Ok(Incoming::Connected {
                session_present: flags & 1 == 1,
                code: byte(body)?,
                properties: properties(version, body)?,
            })
        }
        4 => Ok(Incoming::Acknowledged {
            id: short(body)?,
            reason: reason(version, body)?,
        }),
        6 => short(body).map(Incoming::Release),
        9 => {
            let id = short(body)?;
            properties(version, body)?;
            let codes = body.to_vec();
            Ok(Incoming::Subscribed { id, codes })
        }
        11 => Ok(Incoming::Unsubscribed),
        13 => Ok(Incoming::Pong),
        14 => reason(version, body).map(Incoming::Disconnect),
        _ => Err(Malformed("a packet came that no broker sends")),
    }
}

fn publish(
    version: Version,
    first: u8,
    mut body: Bytes,
    is_cut: bool,
) -> Result<Publish, Malformed> {
    let qos = Qos::of(first >> 1 & 0b11).ok_or(Malformed("there is no QoS 3"))?;
    let topic = text(&mut body)?;
    let id = match qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce | Qos::ExactlyOnce => short(&mut body)?,
    };
    if qos != Qos::AtMostOnce && id == 0 {
        return Err(Malformed("a message has the packet identifier 0"));
    }
    let (properties, unreadable) = match properties(version, &mut body) {
        Ok(properties) => (properties, None),
        Err(Malformed(why)) => (Properties::default(), Some(why)),
    };
    let unreadable = match is_cut {
        true => Some("it is larger than any message that is read"),
        false => unreadable,
    };
    Ok(Publish {
        qos,
        retain: first & 1 == 1,
        again: first & 0b1000 != 0,
        id,
        topic,
        properties,
        payload: body,
        unreadable,
    })
}

/// A reason code and what is said of it; both may be left out, which is success.
fn reason(version: Version, body: &mut Bytes) -> Result<Reason, Malformed> {
    if body.is_empty() || version == Version::V3 {
        let (code, said) = (0, None);
        return Ok(Reason { code, said });
    }
    let code = byte(body)?;
    let said = match body.is_empty() {
        true => None,
        false => properties(version, body)?.said(),
    };
    Ok(Reason { code, said })
}

/// The properties, of which 3.1.1 has none.
fn properties(version: Version, body: &mut Bytes) -> Result<Properties, Malformed> {
    let mut found = Properties::default();
    if version == Version::V3 {
        return Ok(found);
    }
    let length = usize::try_from(variable(body)?).map_err(|_| SHORT)?;
    let mut rest = take(body, length)?;
    while !rest.is_empty() {
        let identifier = byte(&mut rest)?;
        // MQTT 5, section 2.2.2.2.
        match identifier {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
                found.numbers.push((identifier, byte(&mut rest)?.into()));
            }
            0x13 | 0x21 | 0x22 | 0x23 => {
                found.numbers.push((identifier, short(&mut rest)?.into()));
            }
            0x02 | 0x11 | 0x18 | 0x27 => {
                let mut number = take(&mut rest, 4)?;
                found.numbers.push((identifier, number.get_u32()));
            }
            0x0b => found.numbers.push((identifier, variable(&mut rest)?)),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                found.texts.push((identifier, text(&mut rest)?));
            }
            USER => found.user.push((text(&mut rest)?, text(&mut rest)?)),
            _ => return Err(Malformed("there is no property of that identifier")),
        }
    }
    Ok(found)
}

fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes, Malformed> {
    match bytes.len() >= length {
        true => Ok(bytes.split_to(length)),
        false => Err(SHORT),
    }
}

fn byte(bytes: &mut Bytes) -> Result<u8, Malformed> {
    Ok(take(bytes, 1)?.get_u8())
}

fn short(bytes: &mut Bytes) -> Result<u16, Malformed> {
    Ok(take(bytes, 2)?.get_u16())
}

fn text(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = short(bytes)?;
    take(bytes, length.into())
}

fn variable(bytes: &mut Bytes) -> Result<u32, Malformed> {
    let mut number = 0;
    for index in 0..4 {
        let byte = byte(bytes)?;
        number |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed("a number has more than four bytes"))
}
