//! No HTTP message makes the decoder panic, and what it takes survives being sent on in every mode.
//!
//! Lines of headers up to an empty one, and the body below.

#![no_main]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use pointsman_schemas::http::{Mode, decode, encode_batch, encode_binary, encode_structured};

const EVENTS_MAX: usize = 8;

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.windows(2).position(|two| two == b"\n\n") else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in input[..end].split(|byte| *byte == b'\n') {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(line.len());
        let (name, value) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(line.get(colon + 1..).unwrap_or_default().trim_ascii()),
        );
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let Ok(decoded) = decode(
        &headers,
        Bytes::copy_from_slice(&input[end + 2..]),
        EVENTS_MAX,
    ) else {
        return;
    };
    assert!(decoded.events.len() <= EVENTS_MAX);
    for event in &decoded.events {
        let (headers, body) = encode_structured(event);
        assert_eq!(
            decode(&headers, body, 1)
                .expect("it was written here")
                .events,
            [event.clone()]
        );
        let sent = encode_binary(event);
        let mut again = decode(&sent.0, sent.1.clone(), 1)
            .expect("it was written here")
            .events;
        let again = again.pop().expect("binary mode holds one");
        assert_eq!(encode_binary(&again), sent);
        assert!(
            decoded.mode != Mode::Binary || again == *event,
            "{again:?}\n{event:?}"
        );
    }
    let (headers, body) = encode_batch(&decoded.events);
    assert_eq!(
        decode(&headers, body, EVENTS_MAX)
            .expect("it was written here")
            .events,
        decoded.events
    );
});
