//! Bodies of messages that were sent by AMQP 1.0 and are read by 0.9.1: OASIS AMQP 1.0, part 3,
//! section 3.2.
//!
//! RabbitMQ turns a single data section into a plain body. Anything else it leaves encoded and
//! marks by the property `type`. Of what it leaves, texts and bytes can be read; the others are
//! said for what they are.

use bytes::{Buf, Bytes};

/// The property `type` of a message whose body is left encoded.
pub(super) const TYPE: &str = "amqp-1.0";

/// The body within the encoded sections; the bytes themselves where they are none.
///
/// # Errors
/// What the body is, where no bytes can be made of it.
pub(super) fn body(encoded: &Bytes) -> Result<Bytes, String> {
    let mut rest = encoded.clone();
    let mut parts: Vec<Bytes> = Vec::new();
    while let Some(code) = section(&mut rest) {
        match code {
            // Data, of which there may be several, and a value.
            0x75 | 0x77 => parts.push(value(&mut rest)?),
            0x76 => {
                return Err(
                    "its body is a sequence of AMQP 1.0, which no event can be made of; send text \
                     or bytes"
                        .to_owned(),
                );
            }
            // The footer.
            _ => break,
        }
    }
    match parts.len() {
        0 => Ok(encoded.clone()),
        1 => Ok(parts.swap_remove(0)),
        _ => Ok(parts.concat().into()),
    }
}

/// The code of the section that begins here: a described type whose descriptor is a small or a full
/// `ulong`.
fn section(rest: &mut Bytes) -> Option<u64> {
    let code = match **rest {
        [0x00, 0x53, code, ..] => {
            rest.advance(3);
            u64::from(code)
        }
        [0x00, 0x80, ..] if rest.len() >= 10 => {
            rest.advance(2);
            rest.get_u64()
        }
        _ => return None,
    };
    Some(code)
}

/// A text, bytes or nothing, section 1.6.
fn value(rest: &mut Bytes) -> Result<Bytes, String> {
    let short = || "its body is a value of AMQP 1.0 that breaks off".to_owned();
    let constructor = rest.try_get_u8().map_err(|_| short())?;
    let length = match constructor {
        0x40 => 0,
        0xa0 | 0xa1 => rest.try_get_u8().map_err(|_| short())?.into(),
        0xb0 | 0xb1 => rest.try_get_u32().map_err(|_| short())?,
        other => {
            let what = match other {
                0x45 | 0xc0 | 0xd0 => "list",
                0xc1 | 0xd1 => "map",
                0xe0 | 0xf0 => "array",
                0x41 | 0x42 | 0x56 => "boolean",
                0x83 => "timestamp",
                0x98 => "UUID",
                0xa3 | 0xb3 => "symbol",
                _ => "number",
            };
            return Err(format!(
                "its body is a value of AMQP 1.0, a {what}, which no event can be made of; send \
                 text or bytes"
            ));
        }
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > rest.len() {
        Err(short())
    } else {
        Ok(rest.split_to(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_body_is() {
        let of = |bytes: &[u8]| body(&Bytes::copy_from_slice(bytes)).map(|body| body.to_vec());
        for (encoded, expect) in [
            (&b"\x00\x53\x77\xa1\x03abc"[..], &b"abc"[..]),
            (b"\x00\x53\x77\xb1\x00\x00\x00\x03abc", b"abc"),
            (b"\x00\x80\0\0\0\0\0\0\0\x77\xa0\x02\xff\x00", b"\xff\x00"),
            (
                b"\x00\x53\x75\xa0\x02ab\x00\x53\x75\xa0\x01c\x00\x53\x78\xc1\x01\x00",
                b"abc",
            ),
            (b"\x00\x53\x77\x40", b""),
            (b"{}", b"{}"),
            (b"", b""),
        ] {
            assert_eq!(of(encoded), Ok(expect.to_vec()), "{encoded:?}");
        }
        for (encoded, words) in [
            (
                &b"\x00\x53\x77\xc1\x03\x02\xa1\x00"[..],
                "a value of AMQP 1.0, a map",
            ),
            (b"\x00\x53\x77\x54\x07", "a number"),
            (b"\x00\x53\x76\x45", "a sequence of AMQP 1.0"),
            (b"\x00\x53\x77\xb1\xff\xff\xff\xff", "breaks off"),
            (b"\x00\x53\x77", "breaks off"),
        ] {
            assert!(of(encoded).unwrap_err().contains(words), "{encoded:?}");
        }
    }
}
