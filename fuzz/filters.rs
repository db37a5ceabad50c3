//! No `filters` make their compiler panic, what it takes has a verdict for every event, and `not`
//! turns that.
//!
//! The first line is the list of filters, the rest an event or its data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{event, parts};
use pointsman_rules::{Filters, RawFilter};

fuzz_target!(|input: &[u8]| {
    let Some((raw, rest)) = parts(input) else {
        return;
    };
    let Ok(raw) = serde_json::from_str::<Vec<RawFilter>>(raw) else {
        return;
    };
    let Ok(filters) = Filters::compile(&raw) else {
        return;
    };
    let (event, all) = (event(rest), RawFilter::All(raw));
    if let Ok(turned) = Filters::compile(&[RawFilter::Not(Box::new(all))]) {
        assert_eq!(turned.hold(&event), !filters.hold(&event));
    }
});
