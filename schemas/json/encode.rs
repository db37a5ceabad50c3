//! Writing events as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::data::DataKind;
use crate::event::{AttributeValue, Event};
use crate::scan::stops::Stops;

/// Writes one event behind what is in `out`.
///
/// Text data without a `datacontenttype` is declared `text/plain`, because without one a string is
/// JSON: section 3.1.2.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    encode_with(event, &[], out);
}

/// Writes one event with these attributes in addition, or in the place of its own.
pub fn encode_with(event: &Event, added: &[(&str, AttributeValue<'_>)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (name, value) in event.attributes() {
        if added.iter().all(|(other, _)| *other != name) {
            write_attribute(name, value, out);
        }
    }
    for (name, value) in added {
        write_attribute(name, *value, out);
    }
    if let Some(data) = event.data() {
        if data.kind() == DataKind::Text && event.datacontenttype().is_none() {
            write_attribute("datacontenttype", AttributeValue::String("text/plain"), out);
        }
        match data.kind() {
            DataKind::Json => {
                out.extend_from_slice(b"\"data\":");
                out.extend_from_slice(data.bytes());
            }
            DataKind::Text => {
                out.extend_from_slice(b"\"data\":");
                write_string(&String::from_utf8_lossy(data.bytes()), out);
            }
            DataKind::Binary => {
                out.extend_from_slice(b"\"data_base64\":\"");
                out.extend_from_slice(STANDARD.encode(data.bytes()).as_bytes());
                out.push(b'"');
            }
        }
    } else {
        // The comma behind the last attribute; `specversion` is always there.
        out.pop();
    }
    out.push(b'}');
}

/// Writes an event's data as one JSON value: JSON as it stands, text as a string, bytes as a string
/// of base64; `null` where there is none.
pub fn encode_data(event: &Event, out: &mut Vec<u8>) {
    match event.data().map(|data| (data.kind(), data.bytes())) {
        Some((DataKind::Json, bytes)) => out.extend_from_slice(bytes),
        Some((DataKind::Text, bytes)) => write_string(&String::from_utf8_lossy(bytes), out),
        Some((DataKind::Binary, bytes)) => write_string(&STANDARD.encode(bytes), out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Writes a batch behind what is in `out`.
pub fn encode_batch<'e>(events: impl IntoIterator<Item = &'e Event>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, event) in events.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode(event, out);
    }
    out.push(b']');
}

fn write_attribute(name: &str, value: AttributeValue<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    match value {
        AttributeValue::String(text) => write_string(text, out),
        AttributeValue::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        AttributeValue::Boolean(value) => {
            out.extend_from_slice(if value { b"true" } else { b"false" })
        }
    }
    out.push(b',');
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let (text, mut stops, mut at) = (text.as_bytes(), Stops::new(), 0);
    loop {
        let stop = stops.next(text, at);
        out.extend_from_slice(text.get(at..stop).unwrap_or_default());
        let Some(&byte) = text.get(stop) else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    digit(byte >> 4),
                    digit(byte & 15),
                ]);
            }
        }
        at = stop + 1;
    }
    out.push(b'"');
}
