//! Writes packets.

use bytes::{BufMut, BytesMut};

use super::property::USER;
use super::{
    Connect, Malformed, Outgoing, Properties, Publish, Qos, SUBSCRIBE_ID, Subscribe,
    UNSUBSCRIBE_ID, Version,
};

/// The longest packet behind its header.
const PACKET_BYTES_MAX: usize = 268_435_455;

/// Writes a packet behind what is in `out`. Where it cannot be written, nothing is.
///
/// # Errors
/// A text or the whole is longer than the protocol allows.
pub(in crate::mqtt) fn encode(
    version: Version,
    packet: Outgoing<'_>,
    out: &mut BytesMut,
) -> Result<(), Malformed> {
    let mut body = BytesMut::new();
    let mut payload = &[][..];
    let first = match packet {
        Outgoing::Connect(connect) => {
            put_connect(version, connect, &mut body)?;
            0x10
        }
        Outgoing::Publish(publish) => {
            payload = &publish.payload;
            put_publish(version, publish, &mut body)?
        }
        Outgoing::Acknowledge(id) => {
            body.put_u16(id);
            0x40
        }
        Outgoing::Received(id) => {
            body.put_u16(id);
            0x50
        }
        Outgoing::Complete(id) => {
            body.put_u16(id);
            0x70
        }
        Outgoing::Subscribe(subscribe) => {
            put_subscribe(version, subscribe, &mut body)?;
            0x82
        }
        Outgoing::Unsubscribe(filters) => {
            body.put_u16(UNSUBSCRIBE_ID);
            put_properties(version, &Properties::default(), &mut body)?;
            for filter in filters {
                put_text(filter.as_bytes(), &mut body)?;
            }
            0xa2
        }
        Outgoing::Ping => 0xc0,
        Outgoing::Disconnect => 0xe0,
    };
    let length = body.len() + payload.len();
    if length > PACKET_BYTES_MAX {
        return Err(Malformed("a message has at most 256 MiB"));
    }
    out.reserve(length + 5);
    out.put_u8(first);
    put_variable(length, out);
    out.put_slice(&body);
    out.put_slice(payload);
    Ok(())
}

fn put_connect(version: Version, connect: &Connect, body: &mut BytesMut) -> Result<(), Malformed> {
    put_text(b"MQTT", body)?;
    body.put_u8(match version {
        Version::V3 => 4,
        Version::V5 => 5,
    });
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    body.put_u8(
        flag(connect.user.is_some(), 0x80)
            | flag(connect.password.is_some(), 0x40)
            | flag(connect.is_clean, 0x02),
    );
    body.put_u16(connect.keep_alive);
    put_properties(version, &connect.properties, body)?;
    put_text(connect.client_id.as_bytes(), body)?;
    for text in connect.user.iter().chain(&connect.password) {
        put_text(text.as_bytes(), body)?;
    }
    Ok(())
}

/// Returns the first byte of the header.
fn put_publish(version: Version, publish: &Publish, body: &mut BytesMut) -> Result<u8, Malformed> {
    put_text(&publish.topic, body)?;
    if publish.qos != Qos::AtMostOnce {
        body.put_u16(publish.id);
    }
    put_properties(version, &publish.properties, body)?;
    let (again, retain) = (u8::from(publish.again), u8::from(publish.retain));
    Ok(0x30 | again << 3 | (publish.qos as u8) << 1 | retain)
}

fn put_subscribe(
    version: Version,
    subscribe: &Subscribe,
    body: &mut BytesMut,
) -> Result<(), Malformed> {
    body.put_u16(SUBSCRIBE_ID);
    put_properties(version, &Properties::default(), body)?;
    let options = match version {
        Version::V3 => subscribe.qos as u8,
        Version::V5 => subscribe.qos as u8 | (subscribe.retained as u8) << 4,
    };
    for filter in &subscribe.filters {
        put_text(filter.as_bytes(), body)?;
        // A shared subscription is sent nothing that is retained.
        body.put_u8(options);
    }
    Ok(())
}

fn put_properties(
    version: Version,
    properties: &Properties,
    body: &mut BytesMut,
) -> Result<(), Malformed> {
    if version == Version::V3 {
        return Ok(());
    }
    let mut all = BytesMut::new();
    for (identifier, number) in &properties.numbers {
        all.put_u8(*identifier);
        // Of those that a client writes.
        match *identifier {
            super::property::RECEIVE_MAXIMUM => {
                all.put_u16(u16::try_from(*number).unwrap_or(u16::MAX));
            }
            _ => all.put_u32(*number),
        }
    }
    for (identifier, text) in &properties.texts {
        all.put_u8(*identifier);
        put_text(text, &mut all)?;
    }
    for (name, value) in &properties.user {
        all.put_u8(USER);
        put_text(name, &mut all)?;
        put_text(value, &mut all)?;
    }
    if all.len() > PACKET_BYTES_MAX {
        return Err(Malformed("the properties have at most 256 MiB"));
    }
    put_variable(all.len(), body);
    body.put_slice(&all);
    Ok(())
}

fn put_text(text: &[u8], out: &mut BytesMut) -> Result<(), Malformed> {
    let length = u16::try_from(text.len());
    out.put_u16(length.map_err(|_| Malformed("a text of a message has at most 65535 bytes"))?);
    out.put_slice(text);
    Ok(())
}

fn put_variable(mut number: usize, out: &mut BytesMut) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        out.put_u8(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return;
        }
    }
}
