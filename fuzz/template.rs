//! No template makes its compiler panic, and what one makes can stand where it is to stand.
//!
//! The first line is the template, the rest an event or its data.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{check_places, event, parts};
use pointsman_rules::template::TEMPLATE_BYTES_MAX;
use pointsman_rules::{Document, JsonTemplate, TextTemplate};
use pointsman_schemas::{Data, Placement};

fuzz_target!(|input: &[u8]| {
    let Some((text, rest)) = parts(input) else {
        return;
    };
    let event = event(rest);
    let document = Document::event(&event);
    for placement in [
        Placement::Url,
        Placement::Header,
        Placement::Argument,
        Placement::Subject,
        Placement::Address,
    ] {
        let mut out = String::new();
        match TextTemplate::compile(text, placement) {
            Err(problem) => check_places(text, [&problem]),
            Ok(template) if template.render(&document, &mut out).is_ok() => {
                assert!(out.len() <= TEMPLATE_BYTES_MAX)
            }
            Ok(_) => {}
        }
    }
    let Ok(Ok(template)) = serde_json::from_str(text).map(|value| JsonTemplate::compile(&value))
    else {
        return;
    };
    let mut out = Vec::new();
    if template.render(&document, &mut out).is_ok() {
        let made = Data::json(Bytes::from(out)).map_err(|error| error.to_string());
        assert!(
            made.as_ref().is_err_and(|error| error.contains("levels")) || made.is_ok(),
            "{made:?}"
        );
    }
});
