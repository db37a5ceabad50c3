//! Texts of settings, of the API and of trace headers are read without a panic, and written as they are read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_schemas::trace::{TraceParent, TraceState};
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
    if let Ok(parent) = text.parse::<TraceParent>() {
        assert_eq!(parent.to_string().parse(), Ok(parent));
    }
    if let Ok(state) = text.parse::<TraceState>() {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    let _ = (
        text.parse::<Rate>(),
        text.parse::<Size>(),
        serde_json::from_str::<Text>(text),
    );
});
