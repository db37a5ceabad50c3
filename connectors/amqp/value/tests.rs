use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<Value, Malformed> {
    Reader::new(Bytes::copy_from_slice(bytes)).value()
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<u8>().prop_map(Value::Ubyte),
        any::<u16>().prop_map(Value::Ushort),
        any::<u32>().prop_map(Value::Uint),
        any::<u64>().prop_map(Value::Ulong),
        any::<i64>().prop_map(Value::Int),
        (-1e9..1e9).prop_map(Value::Float),
        any::<u32>().prop_map(Value::Char),
        any::<i64>().prop_map(Value::Timestamp),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        any::<[u8; 8]>().prop_map(|bytes| Value::Decimal(Bytes::copy_from_slice(&bytes))),
        proptest::collection::vec(any::<u8>(), 0..300)
            .prop_map(|bytes| Value::Binary(bytes.into())),
        any::<String>().prop_map(|text| Value::String(text.into())),
        any::<String>().prop_map(|text| Value::Symbol(text.into())),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..6).prop_map(Value::List),
            proptest::collection::vec(pair.clone(), 0..6).prop_map(Value::Map),
            pair.prop_map(|pair| Value::Described(Box::new(pair))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_the_same(value in values()) {
        let mut out = BytesMut::new();
        write(&value, &mut out);
        let mut reader = Reader::new(out.clone().freeze());
        prop_assert_eq!(reader.value(), Ok(value));
        prop_assert!(reader.is_empty());
        for length in 0..out.len() {
            prop_assert!(read(&out[..length]).is_err(), "it breaks off at {}", length);
        }
    }

    #[test]
    fn no_bytes_are_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader::new(bytes.into());
        while !reader.is_empty() && reader.value().is_ok() {}
    }
}

#[test]
fn other_ways_to_write_a_value_are_read() {
    let symbols = |texts: &[&'static str]| {
        Value::List(texts.iter().map(|text| Value::symbol(text)).collect())
    };
    for (bytes, expect) in [
        (&b"\x56\x01"[..], Value::Boolean(true)),
        (b"\x43", Value::Uint(0)),
        (b"\x44", Value::Ulong(0)),
        (b"\x51\xff", Value::Int(-1)),
        (b"\x54\x80", Value::Int(-128)),
        (b"\x60\x01\x00", Value::Ushort(256)),
        (b"\x61\xff\xff", Value::Int(-1)),
        (b"\x72\x3f\x80\0\0", Value::Float(1.0)),
        (b"\xa1\x01\xff", Value::Binary(Bytes::from_static(b"\xff"))),
        (
            b"\xc0\x03\x02\x40\x41",
            Value::List(vec![Value::Null, Value::Boolean(true)]),
        ),
        (
            b"\xc1\x05\x02\xa1\x01a\x41",
            Value::Map(vec![(Value::string("a"), Value::Boolean(true))]),
        ),
        (b"\xe0\x07\x02\xa3\x02ab\x01c", symbols(&["ab", "c"])),
        (b"\xe0\x01\x00", Value::List(Vec::new())),
        (
            b"\xe0\x07\x02\x00\x53\x07\x52\x01\x02",
            Value::List(vec![
                Value::described(7, Value::Uint(1)),
                Value::described(7, Value::Uint(2)),
            ]),
        ),
    ] {
        assert_eq!(read(bytes), Ok(expect), "{bytes:?}");
    }
}

#[test]
fn an_array_is_read_as_a_list() {
    let mut out = BytesMut::new();
    write(&Value::Symbols(vec!["a".into(), "bc".into()]), &mut out);
    let expect = vec![Value::symbol("a"), Value::symbol("bc")];
    assert_eq!(read(&out), Ok(Value::List(expect)));
}

#[test]
fn what_asks_for_much_memory_is_refused() {
    let deep = [&[0xc0, 0xff, 0x01][..]; 40].concat();
    // A list of so many nothings, and an array of values that take no bytes at all.
    for (bytes, expect) in [
        (&b"\xd0\0\0\0\x04\xff\xff\xff\xff"[..], MANY),
        (b"\xf0\0\0\0\x05\x7f\xff\xff\xff\x40", MANY),
        (b"\xb0\xff\xff\xff\xff", SHORT),
        (&deep, SHORT),
        (&[0; 100], DEEP),
        (b"\x3f", UNKNOWN),
        (b"\xff\0", UNKNOWN),
    ] {
        assert_eq!(read(bytes), Err(expect), "{bytes:?}");
    }
}
