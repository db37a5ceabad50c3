//! Texts of settings and of the API are read without a panic, and written as they are read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_schemas::{DeliveryId, Interval, Name, Rate, Size, Text};

fuzz_target!(|text: &str| {
    if let Ok(interval) = text.parse::<Interval>() {
        assert_eq!(interval.to_string().parse(), Ok(interval));
    }
    if let Ok(id) = text.parse::<DeliveryId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.as_str(), text);
    }
    let _ = (
        text.parse::<Rate>(),
        text.parse::<Size>(),
        serde_json::from_str::<Text>(text),
    );
});
