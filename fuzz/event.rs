//! The JSON format takes no text that serde_json refuses, and what it takes it can write and take
//! again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pointsman_schemas::{AttributeValue, Data, json};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

fuzz_target!(|text: &[u8]| {
    let (bytes, known) = (
        Bytes::copy_from_slice(text),
        serde_json::from_slice::<&RawValue>(text).is_ok(),
    );
    match Data::json(bytes.clone()) {
        Ok(data) => assert!(known && data.value().is_some()),
        Err(error) => assert!(!known || error.to_string().contains("levels"), "{error}"),
    }
    if let Ok(events) = json::decode_batch(&bytes, 8) {
        let mut again = Vec::new();
        json::encode_batch(&events, &mut again);
        assert_eq!(json::decode_batch(&again.into(), 8), Ok(events));
    }
    let Ok(event) = json::decode(&bytes) else {
        return;
    };
    assert!(known);
    let mut again = Vec::new();
    json::encode(&event, &mut again);
    assert_eq!(json::decode(&again.into()).as_ref(), Ok(&event));
    // What serde_json cannot hold, long numbers and halves of surrogates in the data, is no
    // mistake.
    let Ok(members) = serde_json::from_slice::<Map<String, Value>>(text) else {
        return;
    };
    for (name, value) in members
        .iter()
        .filter(|(name, value)| !name.starts_with("data_") && *name != "data" && !value.is_null())
    {
        match event.attribute(name) {
            Some(AttributeValue::String(found)) => assert_eq!(value, found),
            Some(AttributeValue::Integer(found)) => assert_eq!(value, found),
            Some(AttributeValue::Boolean(found)) => assert_eq!(value, found),
            None => panic!("{name} is lost"),
        }
    }
});
