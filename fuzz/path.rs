//! No JSONPath query makes its compiler panic, and what is read from the raw text is what the
//! library finds in the tree.
//!
//! The first line is the query, the rest an event or its data.

#![no_main]

use jsonpath_rust::JsonPath;
use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{check_places, event, parts};
use pointsman_rules::{Document, Found, Path};
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Some((text, rest)) = parts(input) else {
        return;
    };
    let path = match Path::parse(text) {
        Ok(path) => path,
        Err(problem) => return check_places(text, [&problem]),
    };
    let event = event(rest);
    let document = Document::event(&event);
    let _ = path.find_text(&document);
    let expected = || document.tree().query(text).expect("it parsed before");
    match path.find(&document) {
        // It may have been too much to look for.
        Found::Nothing if !path.is_singular() => {}
        Found::Nothing => assert!(expected().is_empty()),
        Found::Many(values) => assert_eq!(values, expected()),
        Found::One(node) => {
            let mut raw = Vec::new();
            node.write_json(&mut raw);
            // The tree holds what serde_json refuses in another form.
            if let Ok(value) = serde_json::from_slice::<Value>(&raw) {
                assert_eq!([&value][..], expected());
            }
        }
    }
});
