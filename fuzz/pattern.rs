//! No JSON makes the compiler of patterns panic, and what it takes can be held against anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_rules::{Document, Pattern, Scratch, explain};

fuzz_target!(|text: &[u8]| {
    let Ok(pattern) = serde_json::from_slice(text) else {
        return;
    };
    let _ = Pattern::compile(&pattern);
    if let (Ok(pattern), Ok(document)) = (
        Pattern::compile_for_any_json(&pattern),
        Document::json(text),
    ) {
        let matches = pattern.matches(&document, &mut Scratch::default());
        assert_eq!(explain(&pattern.into(), &document).matches, matches);
    }
});
