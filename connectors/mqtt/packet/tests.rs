use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn publish(id: u16) -> Publish {
    Publish {
        qos: Qos::AtLeastOnce,
        retain: true,
        again: false,
        id,
        topic: Bytes::from_static(b"a/b"),
        properties: Properties {
            numbers: Vec::new(),
            texts: vec![(property::CONTENT_TYPE, Bytes::from_static(b"t"))],
            user: vec![(Bytes::from_static(b"k"), Bytes::from_static(b"v"))],
        },
        payload: Bytes::from_static(b"hello"),
        unreadable: None,
    }
}

fn read(version: Version, bytes: &[u8]) -> Result<Incoming, Malformed> {
    let (header, length) = frame_length(bytes)?.expect("a whole packet");
    assert_eq!(bytes.len(), header + length);
    decode(
        version,
        bytes[0],
        Bytes::copy_from_slice(&bytes[header..]),
        false,
    )
}

#[test]
fn what_is_written_is_what_the_standard_has() {
    let connect = Connect {
        client_id: "c".to_owned(),
        is_clean: false,
        keep_alive: 30,
        user: Some("u".to_owned()),
        password: Some("p".to_owned()),
        properties: Properties {
            numbers: vec![
                (property::SESSION_EXPIRY, 60),
                (property::RECEIVE_MAXIMUM, 10),
            ],
            ..Properties::default()
        },
    };
    let subscribe = Subscribe {
        filters: vec!["a/#".to_owned()],
        qos: Qos::ExactlyOnce,
        retained: Retained::WhereNew,
    };
    let gone = ["a".to_owned()];
    let (publish, packets) = (publish(7), [Version::V3, Version::V5]);
    let table: [(Outgoing<'_>, [&[u8]; 2]); 8] = [
        (
            Outgoing::Connect(&connect),
            [
                b"\x10\x13\0\x04MQTT\x04\xc0\0\x1e\0\x01c\0\x01u\0\x01p",
                b"\x10\x1c\0\x04MQTT\x05\xc0\0\x1e\x08\x11\0\0\0\x3c\x21\0\x0a\0\x01c\0\x01u\0\x01p",
            ],
        ),
        (
            Outgoing::Publish(&publish),
            [
                b"\x33\x0c\0\x03a/b\0\x07hello",
                b"\x33\x18\0\x03a/b\0\x07\x0b\x03\0\x01t\x26\0\x01k\0\x01vhello",
            ],
        ),
        (Outgoing::Acknowledge(258), [b"\x40\x02\x01\x02"; 2]),
        (Outgoing::Received(1), [b"\x50\x02\0\x01"; 2]),
        (Outgoing::Complete(1), [b"\x70\x02\0\x01"; 2]),
        (
            Outgoing::Subscribe(&subscribe),
            [
                b"\x82\x08\0\x01\0\x03a/#\x02",
                b"\x82\x09\0\x01\0\0\x03a/#\x12",
            ],
        ),
        (
            Outgoing::Unsubscribe(&gone),
            [b"\xa2\x05\0\x02\0\x01a", b"\xa2\x06\0\x02\0\0\x01a"],
        ),
        (Outgoing::Ping, [b"\xc0\0"; 2]),
    ];
    for (packet, expect) in table {
        for (version, expect) in packets.into_iter().zip(expect) {
            let mut out = BytesMut::from(&b"before"[..]);
            encode(version, packet, &mut out).unwrap();
            assert_eq!(
                out[6..].escape_ascii().to_string(),
                expect.escape_ascii().to_string()
            );
        }
    }
    let mut long = publish.clone();
    long.topic = vec![b'a'; 65_536].into();
    let mut out = BytesMut::new();
    assert!(encode(Version::V3, Outgoing::Publish(&long), &mut out).is_err());
    assert!(out.is_empty(), "nothing is written of it");
}

#[test]
fn what_a_broker_sends_is_read() {
    let reason = |code, said: Option<&str>| Reason {
        code,
        said: said.map(str::to_owned),
    };
    let connected = |session_present, code, numbers| Incoming::Connected {
        session_present,
        code,
        properties: Properties {
            numbers,
            ..Properties::default()
        },
    };
    let (v3, v5) = (Version::V3, Version::V5);
    for (version, bytes, expect) in [
        (v3, &b"\x20\x02\x01\x00"[..], connected(true, 0, Vec::new())),
        (v3, b"\x20\x02\x00\x05", connected(false, 5, Vec::new())),
        (
            v5,
            b"\x20\x0b\x00\x00\x08\x21\0\x14\x27\0\0\x01\0",
            connected(false, 0, vec![(0x21, 20), (0x27, 256)]),
        ),
        (
            v5,
            b"\x33\x18\0\x03a/b\0\x07\x0b\x03\0\x01t\x26\0\x01k\0\x01vhello",
            Incoming::Publish(publish(7)),
        ),
        (
            v5,
            b"\x40\x02\0\x07",
            Incoming::Acknowledged {
                id: 7,
                reason: reason(0, None),
            },
        ),
        (
            v5,
            b"\x40\x09\0\x07\x87\x05\x1f\0\x02no",
            Incoming::Acknowledged {
                id: 7,
                reason: reason(0x87, Some("no")),
            },
        ),
        (v3, b"\x62\x02\0\x07", Incoming::Release(7)),
        (
            v3,
            b"\x90\x04\0\x01\x01\x80",
            Incoming::Subscribed {
                id: 1,
                codes: vec![1, 0x80],
            },
        ),
        (
            v5,
            b"\x90\x05\0\x01\0\x01\x87",
            Incoming::Subscribed {
                id: 1,
                codes: vec![1, 0x87],
            },
        ),
        (v3, b"\xd0\0", Incoming::Pong),
        (v5, b"\xe0\0", Incoming::Disconnect(reason(0, None))),
        (
            v5,
            b"\xe0\x01\x8e",
            Incoming::Disconnect(reason(0x8e, None)),
        ),
    ] {
        assert_eq!(read(version, bytes), Ok(expect), "{}", bytes.escape_ascii());
    }
    for (version, bytes) in [
        (v3, &b"\x20\x01\x01"[..]),
        (v5, b"\x20\x03\0\0\x05"),
        (v3, b"\x36\x05\0\x01a\0\x07"),
        (v3, b"\x32\x05\0\x01a\0\0"),
        (v3, b"\x32\x04\0\x01a\0"),
        (v3, b"\x10\0"),
    ] {
        assert!(read(version, bytes).is_err(), "{}", bytes.escape_ascii());
    }
    assert!(frame_length(b"\x30\xff\xff\xff\xff").is_err());
    assert_eq!(frame_length(b"\x30\xff\xff"), Ok(None));
    assert_eq!(frame_length(b"\x30\x80\x01"), Ok(Some((3, 128))));
}

#[test]
fn a_message_with_broken_contents_keeps_its_identifier() {
    let read = |bytes| match read(Version::V5, bytes) {
        Ok(Incoming::Publish(publish)) => publish,
        other => panic!("{other:?}"),
    };
    // A property that there is none of, and one that is longer than all of them.
    for bytes in [
        &b"\x32\x08\0\x01a\0\x07\x02\x77\x01"[..],
        b"\x32\x07\0\x01a\0\x07\x05\x03",
    ] {
        let publish = read(bytes);
        assert!(
            publish.unreadable.is_some() && publish.id == 7,
            "{publish:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(first: u8, body: Vec<u8>, is_five: bool, is_cut: bool) {
        let version = if is_five { Version::V5 } else { Version::V3 };
        let _ = frame_length(&body);
        let _ = decode(version, first, body.into(), is_cut);
    }
}
